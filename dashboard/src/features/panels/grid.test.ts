import { expect, it } from 'vitest';
import { gridColumns } from './grid.ts';

it('the grid has as many columns as there is room and use for', () => {
  const at = (width: number): number[] => [1, 2, 3, 4, 6, 9, 20].map((count) => gridColumns(count, width, 0));
  expect(at(984)).toEqual([1, 2, 2, 2, 2, 2, 2]);
  expect(at(1624)).toEqual([1, 2, 3, 2, 3, 3, 3]);
  expect(at(3400)).toEqual([1, 2, 3, 2, 3, 3, 5]);
  expect(gridColumns(1, 300, 0)).toBe(1);
  expect(gridColumns(0, 1624, 0)).toBe(1);
  expect(gridColumns(9, 300, 4)).toBe(4);
});
