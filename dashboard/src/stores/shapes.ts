// How large panels are, in cells of the grid, and which are pinned. Part of the layout, so that it follows the user. Pure.
//
// Law: whatever was kept, here or in a browser of an earlier version, yields usable shapes.

import type { Json } from '../api/types.ts';

export interface Shape {
  columns: number;
  rows: number;
  /** Stands before the others and is not closed by accident. */
  isPinned: boolean;
}

/** The shape of one session's panel. */
export interface ShapeOf extends Shape {
  id: string;
}

export const SHAPE_MAX = { columns: 4, rows: 3 } as const;
const USUAL: Shape = { columns: 1, rows: 1, isPinned: false };
/** Where browsers of an earlier version kept them. */
const BROWSER_KEY = 'mosaic.shapes';
/** Of as many sessions as ever had a shape; the oldest are forgotten. */
const KEPT_MAX = 200;

const between = (value: unknown, max: number): number =>
  typeof value === 'number' && Number.isFinite(value) ? Math.max(1, Math.min(max, Math.round(value))) : 1;

function fit(id: string, shape: Partial<Record<keyof Shape, unknown>>): ShapeOf {
  const { columns, rows, isPinned } = shape;
  return { id, columns: between(columns, SHAPE_MAX.columns), rows: between(rows, SHAPE_MAX.rows), isPinned: isPinned === true };
}

export function shapeOf(shapes: readonly ShapeOf[], id: string): Shape {
  return shapes.find((shape) => shape.id === id) ?? USUAL;
}

/** With part of a shape changed; the newest stands last. */
export function withShape(shapes: readonly ShapeOf[], id: string, part: Partial<Shape>): ShapeOf[] {
  const next = fit(id, { ...shapeOf(shapes, id), ...part });
  return [...shapes.filter((shape) => shape.id !== id), next].slice(-KEPT_MAX);
}

/** Pinned ones first, else in their order. */
export function inOrder<T extends { id: string }>(panels: readonly T[], shapes: readonly ShapeOf[]): T[] {
  const pinned = new Set(shapes.filter((shape) => shape.isPinned).map((shape) => shape.id));
  return [...panels.filter(({ id }) => pinned.has(id)), ...panels.filter(({ id }) => !pinned.has(id))];
}

/** Reads what the server kept. */
export function parseShapes(json: Json | undefined): ShapeOf[] {
  const found = new Map<string, ShapeOf>();
  for (const entry of Array.isArray(json) ? json : []) {
    if (entry === null || typeof entry !== 'object' || Array.isArray(entry)) continue;
    const id = entry['id'];
    if (typeof id === 'string' && id !== '') found.set(id, fit(id, entry));
  }
  return [...found.values()].slice(-KEPT_MAX);
}

type BrowserStorage = Pick<Storage, 'getItem' | 'removeItem'>;

/** What this browser kept, before the server did. */
export function shapesOfBrowser(storage: BrowserStorage | null): ShapeOf[] {
  try {
    const kept = JSON.parse(storage?.getItem(BROWSER_KEY) ?? '[]') as Json;
    if (!Array.isArray(kept)) return [];
    return parseShapes(kept.map((entry) => (Array.isArray(entry) && entry[1] !== null && typeof entry[1] === 'object' && !Array.isArray(entry[1]) ? { ...entry[1], id: entry[0] ?? null } : null)));
  } catch {
    return [];
  }
}

/** The server has them now. */
export function forgetShapesOfBrowser(storage: BrowserStorage | null): void {
  try {
    storage?.removeItem(BROWSER_KEY);
  } catch {
    // Forbidden: they are read again the next time, and change nothing.
  }
}
