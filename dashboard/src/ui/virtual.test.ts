import { describe, expect, it } from 'vitest';
import { offsetsOf, rowAt, visible } from './virtual.ts';

describe('virtual list', () => {
  const heights = Array.from({ length: 500 }, (_, i) => 10 + ((i * 37) % 90));
  const offsets = offsetsOf(heights.length, (i) => heights[i] ?? 0);

  it('draws every row that touches the view, and few more, wherever it stands', () => {
    const total = offsets[500] ?? 0;
    for (let top = -50; top < total + 50; top += 13) {
      const { from, to } = visible(offsets, top, 300, 0);
      for (let i = 0; i < 500; i += 1) {
        const touches = (offsets[i + 1] ?? 0) > top && (offsets[i] ?? 0) < top + 300;
        if (touches) expect(i >= from && i < to, `row ${i} at ${top}`).toBe(true);
      }
      expect(to - from).toBeLessThanOrEqual(300 / 10 + 2);
    }
  });

  it('finds the row at a distance', () => {
    expect([rowAt(offsets, -5), rowAt(offsets, 0), rowAt(offsets, 10), rowAt(offsets, 1e9)]).toEqual([0, 0, 1, 499]);
  });

  it('has nothing to draw of nothing', () => {
    expect(visible(offsetsOf(0, () => 1), 0, 100, 50)).toEqual({ from: 0, to: 0 });
  });
});
