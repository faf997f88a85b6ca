import { expect, it } from 'vitest';
import { killTone } from './outcome.ts';

it('a kill counts as done only where the hub says so', () => {
  expect(['killed', 'done', 'accepted', 'refused', 'failed', 'something new'].map(killTone)).toEqual([
    'good', 'good', 'neutral', 'bad', 'bad', 'bad',
  ]);
});
