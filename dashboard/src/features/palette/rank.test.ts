import { expect, it } from 'vitest';
import { rank } from './rank.ts';

const items = ['Audit log', 'Settings: API tokens', 'Release notes', 'New session', 'Reindex corpus'].map((title) => ({ title, words: title === 'Reindex corpus' ? 'docker borealis' : '' }));
const titles = (typed: string, max = 9): string[] => rank(items, typed, max).map((item) => item.title);

it('typed letters find the closest first: beginnings, words, parts, other words, spread letters', () => {
  expect(titles('re')).toEqual(['Release notes', 'Reindex corpus']);
  expect(titles('log')).toEqual(['Audit log']);
  expect(titles('borealis')).toEqual(['Reindex corpus']);
  expect(titles('nws')).toEqual(['New session']);
  expect(titles('tokens settings')).toEqual(['Settings: API tokens']);
  expect(titles('zzz')).toEqual([]);
  expect(titles('', 2)).toEqual(['Audit log', 'Settings: API tokens']);
});
