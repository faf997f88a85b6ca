import { describe, expect, it } from 'vitest';
import { inOrder, parseShapes, shapeOf, shapesOfBrowser, withShape } from './shapes.ts';

describe('shapes of panels', () => {
  it('stay within the grid, and the oldest are forgotten', () => {
    let shapes = withShape([], 'a', { columns: 2, rows: 9 });
    shapes = withShape(shapes, 'a', { isPinned: true });
    shapes = withShape(shapes, 'b', { columns: -3 });
    expect(shapeOf(shapes, 'a')).toEqual({ id: 'a', columns: 2, rows: 3, isPinned: true });
    expect(shapeOf(shapes, 'b').columns).toBe(1);
    expect(parseShapes(JSON.parse(JSON.stringify(shapes)))).toEqual(shapes);
    for (let i = 0; i < 300; i += 1) shapes = withShape(shapes, `s${i}`, { rows: 2 });
    expect([shapes.length, shapeOf(shapes, 'a').rows, shapeOf(shapes, 's299').rows]).toEqual([200, 1, 2]);
  });

  it('put what is pinned first', () => {
    const shapes = withShape([], 'b', { isPinned: true });
    expect(inOrder([{ id: 'a' }, { id: 'b' }, { id: 'c' }], shapes).map((each) => each.id)).toEqual(['b', 'a', 'c']);
  });

  it('are usable whatever was kept, by the server or by a browser', () => {
    for (const odd of [undefined, null, 'x', {}, [[1, 2]], [{ id: 7 }], [{ id: '' }], [null]]) expect(parseShapes(odd)).toEqual([]);
    expect(parseShapes([{ id: 'a', columns: 'x', rows: 1e9, isPinned: 'yes' }])).toEqual([{ id: 'a', columns: 1, rows: 3, isPinned: false }]);
    const browser = (kept: string | null) => shapesOfBrowser({ getItem: () => kept, removeItem: () => undefined });
    for (const kept of [null, '', 'x', '{}', '[[1,2]]', '[["a",null]]', '[null]', '[[null,{}]]']) expect(browser(kept)).toEqual([]);
    expect(browser('[["a",{"columns":2,"rows":1,"isPinned":true}]]')).toEqual([{ id: 'a', columns: 2, rows: 1, isPinned: true }]);
  });
});
