import { expect, it } from 'vitest';
import { daysOf } from './retention.ts';

it('retention is a whole number of days, or nothing is sent', () => {
  expect(['30', ' 7 ', '3650', '0', '3651', '1.5', '-3', '', 'ten', '1e3'].map(daysOf)).toEqual([30, 7, 3650, null, null, null, null, null, null, null]);
});
