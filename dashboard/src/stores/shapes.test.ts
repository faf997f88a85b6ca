import { describe, expect, it } from 'vitest';
import { Shapes } from './shapes.ts';

function storage(kept: string | null = null): { getItem: () => string | null; setItem: (key: string, value: string) => void; kept: () => string | null } {
  let text = kept;
  return { getItem: () => text, setItem: (_key, value) => (text = value), kept: () => text };
}

describe('shapes of panels', () => {
  it('are kept, and stay within the grid', () => {
    const place = storage();
    const shapes = new Shapes(place);
    shapes.set('a', { columns: 2, rows: 9 });
    shapes.set('a', { isPinned: true });
    shapes.set('b', { columns: -3 });
    expect(new Shapes(storage(place.kept())).of('a')).toEqual({ columns: 2, rows: 3, isPinned: true });
    expect(shapes.of('b').columns).toBe(1);
  });

  it('put what is pinned first', () => {
    const shapes = new Shapes(storage());
    shapes.set('b', { isPinned: true });
    expect(shapes.order([{ id: 'a' }, { id: 'b' }, { id: 'c' }]).map((each) => each.id)).toEqual(['b', 'a', 'c']);
  });

  it('are usable whatever was kept', () => {
    for (const kept of ['', 'x', '{}', '[[1,2]]', '[["a",null]]', '[["a",{"columns":"x","rows":1e9}]]']) {
      expect(new Shapes(storage(kept)).of('a').columns).toBe(1);
    }
  });
});
