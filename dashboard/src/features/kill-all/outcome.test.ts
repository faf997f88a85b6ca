import { expect, it } from 'vitest';
import { killTone } from './outcome.ts';

it('a kill counts as done only where the hub says so', () => {
  const words = ['killed', 'ended', 'pending', 'unknown', 'expired', 'survived', 'refused', 'failed', 'something new', 'awaitsApproval'];
  expect(words.map(killTone)).toEqual(['good', 'good', 'warn', 'warn', 'bad', 'bad', 'bad', 'bad', 'bad', 'warn']);
});
