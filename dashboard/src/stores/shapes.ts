// How large a panel is, in cells of the grid, and whether it is pinned. Kept in this browser, by session.
//
// Law: whatever was kept yields a usable shape.

export interface Shape {
  columns: number;
  rows: number;
  /** Stands before the others and is not closed by accident. */
  isPinned: boolean;
}

export const SHAPE_MAX = { columns: 4, rows: 3 } as const;
const USUAL: Shape = { columns: 1, rows: 1, isPinned: false };
const KEY = 'mosaic.shapes';
/** Of as many sessions as ever had a shape; the oldest are forgotten. */
const KEPT_MAX = 200;

const between = (value: unknown, max: number): number =>
  typeof value === 'number' && Number.isFinite(value) ? Math.max(1, Math.min(max, Math.round(value))) : 1;

export class Shapes {
  readonly #byId: Map<string, Shape>;
  readonly #storage: Pick<Storage, 'getItem' | 'setItem'> | null;

  constructor(storage: Pick<Storage, 'getItem' | 'setItem'> | null) {
    this.#storage = storage;
    this.#byId = new Map(parse(storage?.getItem(KEY) ?? null));
  }

  of(id: string): Shape {
    return this.#byId.get(id) ?? USUAL;
  }

  set(id: string, part: Partial<Shape>): void {
    const next = { ...this.of(id), ...part };
    const shape = { ...next, columns: between(next.columns, SHAPE_MAX.columns), rows: between(next.rows, SHAPE_MAX.rows) };
    this.#byId.delete(id);
    this.#byId.set(id, shape);
    const oldest = this.#byId.keys().next();
    if (this.#byId.size > KEPT_MAX && oldest.done !== true) this.#byId.delete(oldest.value);
    try {
      this.#storage?.setItem(KEY, JSON.stringify([...this.#byId]));
    } catch {
      // Full or forbidden: it holds until the page is left.
    }
  }

  /** Pinned ones first, else in their order. */
  order<T extends { id: string }>(panels: readonly T[]): T[] {
    return [...panels.filter((each) => this.of(each.id).isPinned), ...panels.filter((each) => !this.of(each.id).isPinned)];
  }
}

function parse(text: string | null): [string, Shape][] {
  try {
    const kept: unknown = JSON.parse(text ?? '[]');
    if (!Array.isArray(kept)) return [];
    return kept.flatMap((entry: unknown): [string, Shape][] => {
      if (!Array.isArray(entry)) return [];
      const [id, shape] = entry as [unknown, unknown];
      if (typeof id !== 'string' || shape === null || typeof shape !== 'object') return [];
      const { columns, rows, isPinned } = shape as Partial<Record<keyof Shape, unknown>>;
      return [[id, { columns: between(columns, SHAPE_MAX.columns), rows: between(rows, SHAPE_MAX.rows), isPinned: isPinned === true }]];
    });
  } catch {
    return [];
  }
}
