import { describe, expect, it, vi } from 'vitest';
import { HubClient } from '../api/client.ts';
import type { Json } from '../api/types.ts';
import { EMPTY_LAYOUT, LayoutStore, parseLayout, PANELS_MAX, ROSTER_WIDTH } from './layout.svelte.ts';

describe('a kept layout', () => {
  it('is read back as it was written', () => {
    const layout = {
      panels: [{ id: 'A', view: 'terminal' }], shapes: [{ id: 'A', columns: 2, rows: 1, isPinned: true }], columns: 3, folded: ['n'], isRosterOpen: false,
      rosterSide: 'right', rosterWidth: 400, grouping: 'status',
    };
    expect(parseLayout({ v: 1, ...layout })).toEqual(layout);
  });

  it('yields something usable whatever it holds', () => {
    expect(parseLayout(null)).toBeNull();
    expect(parseLayout('x')).toBeNull();
    expect(parseLayout([1])).toBeNull();
    const odd: Json = { panels: [{ id: 'A' }, { id: 'A' }, { id: 7 }, null, 'x', { id: '' }], columns: 99, folded: [1, 'f'], rosterSide: 'top', rosterWidth: 9e9, grouping: 7 };
    expect(parseLayout(odd)).toEqual({
      ...EMPTY_LAYOUT, panels: [{ id: 'A', view: 'conversation' }], folded: ['f'], rosterWidth: ROSTER_WIDTH.max,
    });
    const many = { panels: Array.from({ length: 500 }, (_, i) => ({ id: `s${i}` })) };
    expect(parseLayout(many)?.panels).toHaveLength(PANELS_MAX);
  });
});

describe('the layout', () => {
  const server = (first: Json) => {
    const state = { layout: first, rev: 3, conflicts: 0, puts: 0 };
    const fetcher: typeof fetch = (_path, init) => {
      if (init?.method === 'PUT') {
        state.puts += 1;
        const body = JSON.parse(String(init.body)) as { layout: Json; rev: number };
        if (body.rev !== state.rev) {
          state.conflicts += 1;
          return Promise.resolve(new Response('{"error":{"code":"conflict","message":"newer","requestId":"r"}}', { status: 409 }));
        }
        state.layout = body.layout;
        state.rev += 1;
      }
      return Promise.resolve(new Response(JSON.stringify({ layout: state.layout, rev: state.rev })));
    };
    return { state, client: new HubClient({ fetch: fetcher }) };
  };

  it('is saved once for many changes, and again over a newer one', async () => {
    vi.useFakeTimers();
    const { state, client } = server(null);
    const errors: unknown[] = [];
    const store = new LayoutStore(client, (error) => errors.push(error));
    await store.load();
    expect(store.isFirstVisit).toBe(true);
    for (const id of ['A', 'B', 'C']) store.open(id, 'conversation');
    store.move('C', 0);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(state.puts).toBe(1);
    expect(parseLayout(state.layout)?.panels.map((p) => p.id)).toEqual(['C', 'A', 'B']);
    state.rev = 40;
    store.close('A');
    await vi.advanceTimersByTimeAsync(1_000);
    expect([state.conflicts, state.rev, errors]).toEqual([0, 41, []]);
    expect(parseLayout(state.layout)?.panels.map((p) => p.id)).toEqual(['C', 'B']);
    vi.useRealTimers();
  });

  it('is one in two browsers: of each part what was done last, and each learns of the other', async () => {
    vi.useFakeTimers();
    const { state, client } = server({ v: 1, panels: [{ id: 'A' }, { id: 'B' }] });
    const errors: unknown[] = [];
    const [one, two] = [new LayoutStore(client, (e) => errors.push(e)), new LayoutStore(client, (e) => errors.push(e))];
    await one.load();
    await two.load();
    one.setShape('A', { columns: 2, isPinned: true });
    await vi.advanceTimersByTimeAsync(1_000);
    // The second does not know of it, and changes something else, and another shape.
    two.close('B');
    two.setShape('C', { rows: 3 });
    await vi.advanceTimersByTimeAsync(1_000);
    await one.refresh();
    for (const { layout } of [one, two, { layout: parseLayout(state.layout) }]) {
      expect(layout?.panels.map((p) => p.id)).toEqual(['A']);
      expect(layout?.shapes).toEqual([{ id: 'A', columns: 2, rows: 1, isPinned: true }, { id: 'C', columns: 1, rows: 3, isPinned: false }]);
    }
    // What is not saved yet is not lost to what comes.
    two.setShape('A', { rows: 2 });
    one.setColumns(3);
    await vi.advanceTimersByTimeAsync(1_000);
    await two.refresh();
    expect([two.layout.columns, two.layout.shapes.find((s) => s.id === 'A')?.rows, state.conflicts, errors]).toEqual([3, 2, 0, []]);
    vi.useRealTimers();
  });

  it('takes over what the browser kept for itself, once, where the server knows nothing of it', async () => {
    vi.useFakeTimers();
    const { state, client } = server({ v: 1, panels: [{ id: 'A' }], shapes: [{ id: 'A', columns: 3, rows: 1, isPinned: false }] });
    let kept: string | null = '[["A",{"columns":2,"rows":2,"isPinned":true}],["B",{"columns":1,"rows":2,"isPinned":true}]]';
    const storage = { getItem: () => kept, removeItem: () => (kept = null) };
    const store = new LayoutStore(client, () => undefined, storage);
    await store.load();
    expect(kept).not.toBeNull();
    await vi.advanceTimersByTimeAsync(1_000);
    expect(kept).toBeNull();
    expect(parseLayout(state.layout)?.shapes).toEqual([{ id: 'A', columns: 3, rows: 1, isPinned: false }, { id: 'B', columns: 1, rows: 2, isPinned: true }]);
    await new LayoutStore(client, () => undefined, storage).load();
    await vi.advanceTimersByTimeAsync(1_000);
    expect(state.puts).toBe(1);
    vi.useRealTimers();
  });

  it('has a bound', async () => {
    const { client } = server(null);
    const store = new LayoutStore(client, () => undefined);
    await store.load();
    for (let i = 0; i < PANELS_MAX; i += 1) expect(store.open(`s${i}`, 'terminal')).toBe(true);
    expect(store.open('one more', 'terminal')).toBe(false);
    expect(store.open('s0', 'terminal')).toBe(true);
  });
});
