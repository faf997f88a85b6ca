import { expect, it } from 'vitest';
import { killTone, tally, worstFirst } from './outcome.ts';

const results = ['killed', 'pending', 'survived', 'awaitsApproval', 'ended', 'unknown', 'expired'].map((outcome, i) => ({ sessionId: `S${i}`, node: 'n', outcome }));

it('a kill counts as done only where the hub says so', () => {
  const words = ['killed', 'ended', 'pending', 'unknown', 'expired', 'survived', 'refused', 'failed', 'something new', 'awaitsApproval'];
  expect(words.map(killTone)).toEqual(['good', 'good', 'warn', 'warn', 'bad', 'bad', 'bad', 'bad', 'bad', 'warn']);
});

it('every session is counted once', () => {
  const { all, ...parts } = tally(results);
  expect(parts).toEqual({ ended: 2, pending: 1, unknown: 1, asked: 1, alive: 2 });
  expect(Object.values(parts).reduce((a, b) => a + b)).toBe(all);
});

it('what lives on comes first, then what is open', () => {
  expect(worstFirst(results).map(({ outcome }) => outcome)).toEqual(['survived', 'expired', 'pending', 'awaitsApproval', 'unknown', 'killed', 'ended']);
});
