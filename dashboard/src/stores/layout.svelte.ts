// Which panels are open, and how: the server keeps it, so that it follows the user.
//
// Laws:
// 1. Whatever the server has kept, from whichever version of the page, yields a usable layout.
// 2. Two browsers of one user: of each part of the layout, what was done last stands; the other learns of it when
//    somebody looks at it, or some seconds later.

import type { HubClient } from '../api/client.ts';
import { ApiError } from '../api/errors.ts';
import type { Json } from '../api/types.ts';
import { forgetShapesOfBrowser, parseShapes, shapesOfBrowser, withShape, type Shape, type ShapeOf } from './shapes.ts';

export type PanelView = 'conversation' | 'terminal';

export type RosterSide = 'left' | 'right';
/** What the roster is grouped by. */
export type Grouping = 'host' | 'status' | 'provider' | 'mission';
export const GROUPINGS: readonly Grouping[] = ['host', 'status', 'provider', 'mission'];

export interface PanelSpec {
  id: string;
  view: PanelView;
}

export interface Layout {
  panels: PanelSpec[];
  /** Sizes and pins, also of panels that are closed now. */
  shapes: ShapeOf[];
  /** Columns of the grid; 0 fits as many as there is room for. */
  columns: number;
  /** Ids of roster branches that are folded. */
  folded: string[];
  isRosterOpen: boolean;
  rosterSide: RosterSide;
  /** In CSS pixels. */
  rosterWidth: number;
  grouping: Grouping;
}

/** As many terminals as the hub streams over one connection; more panels than this are no overview either. */
export const PANELS_MAX = 32;
export const COLUMNS_MAX = 6;
export const ROSTER_WIDTH = { min: 220, usual: 304, max: 640 } as const;
const FOLDED_MAX = 500;
const SAVE_AFTER_MS = 600;
const VERSION = 1;

export const EMPTY_LAYOUT: Layout = {
  panels: [],
  shapes: [],
  columns: 0,
  folded: [],
  isRosterOpen: true,
  rosterSide: 'left',
  rosterWidth: ROSTER_WIDTH.usual,
  grouping: 'host',
};

export function fitRosterWidth(width: number): number {
  return Number.isFinite(width) ? Math.round(Math.max(ROSTER_WIDTH.min, Math.min(ROSTER_WIDTH.max, width))) : ROSTER_WIDTH.usual;
}

/** Reads what the server kept. Null if it kept nothing that can be used. */
export function parseLayout(json: Json): Layout | null {
  if (json === null || typeof json !== 'object' || Array.isArray(json)) return null;
  const panels: PanelSpec[] = [];
  for (const entry of Array.isArray(json['panels']) ? json['panels'] : []) {
    if (entry === null || typeof entry !== 'object' || Array.isArray(entry)) continue;
    const id = entry['id'];
    if (typeof id !== 'string' || id === '' || panels.some((p) => p.id === id)) continue;
    panels.push({ id, view: entry['view'] === 'terminal' ? 'terminal' : 'conversation' });
  }
  const columns = json['columns'];
  const folded = Array.isArray(json['folded']) ? json['folded'] : [];
  return {
    panels: panels.slice(0, PANELS_MAX),
    shapes: parseShapes(json['shapes']),
    columns: typeof columns === 'number' && Number.isInteger(columns) && columns >= 0 && columns <= COLUMNS_MAX ? columns : 0,
    folded: folded.filter((id): id is string => typeof id === 'string').slice(0, FOLDED_MAX),
    isRosterOpen: json['isRosterOpen'] !== false,
    rosterSide: json['rosterSide'] === 'right' ? 'right' : 'left',
    rosterWidth: typeof json['rosterWidth'] === 'number' ? fitRosterWidth(json['rosterWidth']) : ROSTER_WIDTH.usual,
    grouping: GROUPINGS.find((each) => each === json['grouping']) ?? 'host',
  };
}

export class LayoutStore {
  layout = $state.raw<Layout>(EMPTY_LAYOUT);
  /** True once the server was asked. */
  isLoaded = $state(false);
  /** True where this user has never had a layout. */
  isFirstVisit = $state(false);
  readonly #client: HubClient;
  readonly #onError: (error: unknown) => void;
  readonly #storage: Pick<Storage, 'getItem' | 'removeItem'> | null;
  #rev = 0;
  #timer: ReturnType<typeof setTimeout> | null = null;
  #isSaving = false;
  /** What was changed here and is not saved yet. */
  #changed = new Set<keyof Layout>();
  /** Whose shapes were. */
  #reshaped = new Set<string>();

  constructor(client: HubClient, onError: (error: unknown) => void, storage: Pick<Storage, 'getItem' | 'removeItem'> | null = null) {
    this.#client = client;
    this.#onError = onError;
    this.#storage = storage;
  }

  async load(): Promise<void> {
    try {
      const reply = await this.#client.layout();
      this.#rev = reply.rev;
      const kept = parseLayout(reply.layout);
      this.isFirstVisit = kept === null;
      this.layout = kept ?? EMPTY_LAYOUT;
      this.isLoaded = true;
      this.#takeOver();
    } catch (error) {
      this.#onError(error);
    }
    this.isLoaded = true;
  }

  /** Takes what another window of this user has saved. What was changed here and is not saved yet stands. */
  async refresh(): Promise<void> {
    if (!this.isLoaded || this.#isSaving) return;
    try {
      const reply = await this.#client.layout();
      if (!this.#isSaving) this.#merge(reply.layout, reply.rev);
    } catch {
      // Asked again soon; whoever changes something is told.
    }
  }

  /** Gives the server the shapes that this browser kept for itself in an earlier version. */
  #takeOver(): void {
    const known = new Set(this.layout.shapes.map((shape) => shape.id));
    const own = shapesOfBrowser(this.#storage).filter((shape) => !known.has(shape.id));
    for (const { id, ...shape } of own) this.setShape(id, shape);
    if (own.length === 0) forgetShapesOfBrowser(this.#storage);
  }

  /** Theirs, with what was changed here over it. */
  #merge(json: Json, rev: number): void {
    if (rev === this.#rev) return;
    this.#rev = rev;
    const theirs = parseLayout(json) ?? EMPTY_LAYOUT;
    const mine = Object.fromEntries([...this.#changed].filter((part) => part !== 'shapes').map((part) => [part, this.layout[part]])) as Partial<Layout>;
    const reshaped = this.layout.shapes.filter((shape) => this.#reshaped.has(shape.id));
    this.layout = { ...theirs, ...mine, shapes: reshaped.reduce((shapes, shape) => withShape(shapes, shape.id, shape), theirs.shapes) };
  }

  isOpen(id: string): boolean {
    return this.layout.panels.some((panel) => panel.id === id);
  }

  /** Opens a panel at the end. False if there is no room for another. */
  open(id: string, view: PanelView): boolean {
    if (this.isOpen(id)) return true;
    if (this.layout.panels.length >= PANELS_MAX) return false;
    this.#change({ panels: [...this.layout.panels, { id, view }] });
    return true;
  }

  close(id: string): void {
    this.#change({ panels: this.layout.panels.filter((panel) => panel.id !== id) });
  }

  closeAll(ids: ReadonlySet<string>): void {
    this.#change({ panels: this.layout.panels.filter((panel) => !ids.has(panel.id)) });
  }

  setView(id: string, view: PanelView): void {
    this.#change({ panels: this.layout.panels.map((panel) => (panel.id === id ? { ...panel, view } : panel)) });
  }

  /** Puts a panel where another one is; the others move up. */
  move(id: string, to: number): void {
    const panel = this.layout.panels.find((p) => p.id === id);
    if (panel === undefined) return;
    const panels = this.layout.panels.filter((p) => p.id !== id);
    panels.splice(Math.max(0, Math.min(to, panels.length)), 0, panel);
    if (panels.every((p, i) => p.id === this.layout.panels[i]?.id)) return;
    this.#change({ panels });
  }

  setColumns(columns: number): void {
    this.#change({ columns });
  }

  setRosterOpen(isRosterOpen: boolean): void {
    this.#change({ isRosterOpen });
  }

  setRosterSide(rosterSide: RosterSide): void {
    this.#change({ rosterSide });
  }

  setRosterWidth(width: number): void {
    this.#change({ rosterWidth: fitRosterWidth(width) });
  }

  setGrouping(grouping: Grouping): void {
    this.#change({ grouping });
  }

  setFolded(id: string, isFolded: boolean): void {
    const others = this.layout.folded.filter((f) => f !== id);
    this.#change({ folded: isFolded ? [...others, id].slice(-FOLDED_MAX) : others });
  }

  setShape(id: string, part: Partial<Shape>): void {
    this.#reshaped.add(id);
    this.#change({ shapes: withShape(this.layout.shapes, id, part) });
  }

  /** Saves what is not saved yet; called when the page goes away. */
  saveNow(): void {
    if (this.#timer !== null) void this.#save(true);
  }

  #change(part: Partial<Layout>): void {
    this.layout = { ...this.layout, ...part };
    if (!this.isLoaded) return;
    for (const name of Object.keys(part)) this.#changed.add(name as keyof Layout);
    this.#later();
  }

  #later(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#save(false), SAVE_AFTER_MS);
  }

  async #save(keepalive: boolean): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    // What was changed meanwhile is saved behind it.
    if (this.#isSaving && !keepalive) return this.#later();
    this.#isSaving = true;
    const [changed, reshaped] = [this.#changed, this.#reshaped];
    try {
      // There is no time for asking where the page goes away.
      if (!keepalive) {
        const { layout, rev } = await this.#client.layout();
        this.#merge(layout, rev);
      }
      [this.#changed, this.#reshaped] = [new Set(), new Set()];
      await this.#put(keepalive);
      forgetShapesOfBrowser(this.#storage);
    } catch (error) {
      // It is saved with the next change.
      this.#changed = new Set([...changed, ...this.#changed]);
      this.#reshaped = new Set([...reshaped, ...this.#reshaped]);
      this.#onError(error);
    } finally {
      this.#isSaving = false;
    }
  }

  async #put(keepalive: boolean): Promise<void> {
    const { panels, shapes, ...rest } = this.layout;
    const json: Json = { v: VERSION, panels: panels.map(({ id, view }) => ({ id, view })), shapes: shapes.map((shape) => ({ ...shape })), ...rest };
    try {
      this.#rev = (await this.#client.saveLayout(json, this.#rev, keepalive)).rev;
    } catch (error) {
      if (!(error instanceof ApiError) || error.failure.kind !== 'refused' || error.failure.status !== 409) throw error;
      // Saved from another window in between. What this person did last, here, stands.
      this.#rev = (await this.#client.layout()).rev;
      this.#rev = (await this.#client.saveLayout(json, this.#rev, keepalive)).rev;
    }
  }
}
