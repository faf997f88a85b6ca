import { expect, it } from 'vitest';
import { killTone } from './outcome.ts';

it('a kill counts as done only where the hub says so', () => {
  const words = ['killed', 'unreachable', 'unknown', 'survived', 'refused', 'failed', 'something new'];
  expect(words.map(killTone)).toEqual(['good', 'warn', 'warn', 'bad', 'bad', 'bad', 'bad']);
});
