// The arithmetic of a list that draws only what is in view. Pure.

/** Where each row begins, and at the end where the last one ends. */
export function offsetsOf(count: number, heightOf: (index: number) => number): Float64Array {
  const offsets = new Float64Array(count + 1);
  let sum = 0;
  for (let i = 0; i < count; i += 1) {
    offsets[i] = sum;
    sum += heightOf(i);
  }
  offsets[count] = sum;
  return offsets;
}

export interface Range {
  from: number;
  /** One past the last. */
  to: number;
}

/** Rows that touch the view, and `overscan` pixels around it. */
export function visible(offsets: Float64Array, top: number, height: number, overscan: number): Range {
  const count = offsets.length - 1;
  if (count <= 0) return { from: 0, to: 0 };
  const from = rowAt(offsets, top - overscan);
  const to = Math.min(count, rowAt(offsets, top + height + overscan) + 1);
  return { from, to };
}

/** The row at a distance from the top; the first or last one outside. */
export function rowAt(offsets: Float64Array, y: number): number {
  const count = offsets.length - 1;
  let low = 0;
  let high = Math.max(0, count - 1);
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((offsets[middle] ?? 0) <= y) low = middle;
    else high = middle - 1;
  }
  return low;
}
