// Every session and node of the workspace, as the hub tells them.
//
// Laws:
// 1. Of two snapshots of one session the one with the larger `rev` is the newer; the stream's word stands above a
//    fetched one of the same age, since only the hub sets `stale`.
// 2. Each session is a cell of its own: a change redraws what shows that session. `structure` changes only when
//    lists and trees would come out differently.
// 3. Ended sessions are kept while the page is open, up to a bound.

import { SvelteMap } from 'svelte/reactivity';
import type { NodeInfo, Session } from '../api/types.ts';
import { perFrame } from './frame.ts';
import { isEnded, statusKey, type StatusKey } from './status.ts';

const ENDED_MAX = 300;
/** A lone change shows with the next frame; a busy fleet is told so often. */
const REDRAW_PAUSE_MS = 200;

/** One session, for whoever shows it. */
export class SessionCell {
  session = $state.raw() as Session;

  constructor(session: Session) {
    this.session = session;
  }
}

export class Fleet {
  /** Grows when a list of sessions would come out differently. */
  structure = $state(0);
  /** False until the first snapshot is complete. */
  isKnown = $state(false);
  readonly nodes = new SvelteMap<string, NodeInfo>();
  readonly #cells = new Map<string, SessionCell>();
  readonly #pending = new Map<string, Session>();
  #seenSinceFresh: Set<string> | null = null;
  readonly #onEnded: (session: Session) => void;
  readonly #changed = perFrame(() => this.flush(), REDRAW_PAUSE_MS);

  constructor(onEnded: (session: Session) => void = () => undefined) {
    this.#onEnded = onEnded;
  }

  /** The cell of a session; reading it follows its coming and going. */
  cell(sessionId: string): SessionCell | null {
    void this.structure;
    return this.#cells.get(sessionId) ?? null;
  }

  get(sessionId: string): Session | null {
    return this.cell(sessionId)?.session ?? null;
  }

  /** All cells. The sessions inside are current at the last structural change. */
  all(): SessionCell[] {
    void this.structure;
    return [...this.#cells.values()];
  }

  /** Sessions by what is known of them now. */
  readonly counts: Record<StatusKey, number> = $derived.by(() => {
    const counts = { spawning: 0, running: 0, waiting: 0, paused: 0, completed: 0, failed: 0, killed: 0, other: 0 };
    for (const { session } of this.all()) if (session.stale !== true || isEnded(session.status)) counts[statusKey(session.status)] += 1;
    return counts;
  });

  readonly active: Session[] = $derived.by(() =>
    this.all().map((cell) => cell.session).filter((session) => !isEnded(session.status)),
  );

  /** Sessions of nodes that are away: their status is what it was then. */
  readonly away: number = $derived.by(() => this.active.filter((session) => session.stale === true).length);

  readonly needing: Session[] = $derived.by(() => this.active.filter((session) => session.attention !== undefined));

  /** Takes a snapshot from the stream. */
  onSession(session: Session): void {
    this.#seenSinceFresh?.add(session.sessionId);
    const known = this.#pending.get(session.sessionId) ?? this.#cells.get(session.sessionId)?.session;
    if (known !== undefined && known.rev > session.rev) return;
    this.#pending.set(session.sessionId, session);
    this.#changed();
  }

  /** Takes snapshots that were fetched. */
  learn(sessions: readonly Session[]): void {
    for (const session of sessions) {
      const known = this.#pending.get(session.sessionId) ?? this.#cells.get(session.sessionId)?.session;
      if (known !== undefined && known.rev >= session.rev) continue;
      this.#pending.set(session.sessionId, session);
    }
    this.flush();
  }

  onRemoved(sessionId: string): void {
    this.#pending.delete(sessionId);
    if (this.#cells.delete(sessionId)) this.structure += 1;
  }

  onNode(node: NodeInfo): void {
    this.nodes.set(node.node, node);
  }

  /** A node that was revoked is not shown any more, unless it speaks again. */
  forgetNode(node: string): void {
    this.nodes.delete(node);
  }

  learnNodes(nodes: readonly NodeInfo[]): void {
    for (const node of nodes) this.nodes.set(node.node, node);
  }

  /** A stream without a past begins: see `onReady`. */
  onFresh(): void {
    this.#seenSinceFresh = new Set();
  }

  /** The snapshot is complete. Returns the active sessions that were not in it: they ended while nobody looked. */
  onReady(): string[] {
    this.flush();
    this.isKnown = true;
    const seen = this.#seenSinceFresh;
    this.#seenSinceFresh = null;
    if (seen === null) return [];
    return this.active.map((session) => session.sessionId).filter((id) => !seen.has(id));
  }

  /** Applies what has come since the last frame. */
  flush(): void {
    if (this.#pending.size === 0) return;
    let isStructural = false;
    for (const [id, session] of this.#pending) {
      const cell = this.#cells.get(id);
      if (cell === undefined) {
        this.#cells.set(id, new SessionCell(session));
        isStructural = true;
        if (isEnded(session.status)) this.#onEnded(session);
        continue;
      }
      const before = cell.session;
      cell.session = session;
      if (shape(before) !== shape(session)) isStructural = true;
      if (isEnded(session.status) && !isEnded(before.status)) this.#onEnded(session);
    }
    this.#pending.clear();
    if (isStructural) {
      this.#forgetOldest();
      this.structure += 1;
    }
  }

  #forgetOldest(): void {
    const ended = [...this.#cells.values()].map((cell) => cell.session).filter((session) => isEnded(session.status));
    if (ended.length <= ENDED_MAX) return;
    ended.sort((a, b) => (a.completedAt ?? a.statusSince).localeCompare(b.completedAt ?? b.statusSince));
    for (const session of ended.slice(0, ended.length - ENDED_MAX)) this.#cells.delete(session.sessionId);
  }
}

/** Everything of a session that decides where, and whether, it stands in a list. */
function shape(session: Session): string {
  return [
    session.parentSessionId,
    session.node,
    session.provider,
    session.status,
    session.title,
    session.taskId,
    session.missionId,
    session.agentType,
    session.profile,
    session.attention?.kind,
    session.attention?.since,
    session.attention?.request?.requestId,
    session.turn,
    session.stale,
  ].join('\u0000');
}
