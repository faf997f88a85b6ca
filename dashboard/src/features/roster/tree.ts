// The roster as rows: hosts or other groups, their sessions, and whatever those have started. Pure.
//
// Laws:
// 1. Every session stands in the roster exactly once: below its parent where that is known, wherever it runs; else
//    below its group. A circle of parents is cut, not followed. By status and by provider a child stands in a group
//    of its own kind, hence not below its parent.
// 2. Order is by start, so that rows do not move while one reads.
// 3. A filter keeps what matches and the way to it, unfolded.

import type { NodeInfo, Session } from '../../api/types.ts';
import type { Grouping } from '../../stores/layout.svelte.ts';
import { groupOf, GROUP_WORDS, GROUPS, isEnded, sessionTitle, type Group } from '../../stores/status.ts';

interface Placed {
  /** Among its siblings, from 1, for screen readers: most rows are not in the document. */
  position: number;
  siblings: number;
}

export type RosterRow = Placed & RosterItem;

type RosterItem =
  | { kind: 'group'; key: string; label: string; group: Group | null; count: number; isFolded: boolean; depth: 1 }
  | { kind: 'node'; key: string; node: string; info: NodeInfo | null; count: number; isFolded: boolean; depth: 1 }
  | { kind: 'session'; key: string; id: string; depth: number; childCount: number; isFolded: boolean; parentKey: string };

export interface RosterWish {
  sessions: readonly Session[];
  nodes: readonly NodeInfo[];
  folded: ReadonlySet<string>;
  filter: string;
  onlyNeeding: boolean;
  showEnded: boolean;
  by: Grouping;
}

export const nodeKey = (node: string): string => `node:${node}`;

export function rosterRows(wish: RosterWish): RosterRow[] {
  const byId = new Map(wish.sessions.map((session) => [session.sessionId, session]));
  const isFlat = wish.by === 'status' || wish.by === 'provider';
  const children = new Map<string, Session[]>();
  const roots = new Map<string, Session[]>();
  for (const session of wish.sessions) {
    const parent = isFlat ? null : parentOf(session, byId);
    if (parent === null) push(roots, placeOf(session, wish.by), session);
    else push(children, parent, session);
  }

  const words = wish.filter.toLowerCase().split(/\s+/).filter((word) => word !== '');
  const isFiltering = words.length > 0 || wish.onlyNeeding;
  const isShown = new Map<string, boolean>();
  const decide = (session: Session): boolean => {
    const below = (children.get(session.sessionId) ?? []).map(decide).some(Boolean);
    const own =
      (wish.showEnded || !isEnded(session.status)) &&
      (!wish.onlyNeeding || session.attention !== undefined) &&
      matches(session, words);
    isShown.set(session.sessionId, own || below);
    return own || below;
  };
  for (const list of roots.values()) list.forEach(decide);

  const rows: RosterRow[] = [];
  const walkAll = (list: Session[], depth: number, parentKey: string): void => {
    list.sort(byStart).forEach((session, i) => walk(session, depth, parentKey, { position: i + 1, siblings: list.length }));
  };
  const walk = (session: Session, depth: number, parentKey: string, placed: Placed): void => {
    if (isShown.get(session.sessionId) !== true) return;
    const below = (children.get(session.sessionId) ?? []).filter((child) => isShown.get(child.sessionId) === true);
    const isFolded = !isFiltering && below.length > 0 && wish.folded.has(session.sessionId);
    const key = session.sessionId;
    rows.push({ kind: 'session', key, id: key, depth, childCount: below.length, isFolded, parentKey, ...placed });
    if (isFolded) return;
    walkAll(below, depth + 1, key);
  };
  const infos = new Map(wish.nodes.map((node) => [node.node, node]));
  const isByHost = wish.by === 'host';
  const tops = topsOf(wish.by, [...roots.keys()], [...infos.keys()])
    .map((top) => ({ top, list: (roots.get(top) ?? []).filter((session) => isShown.get(session.sessionId) === true) }))
    // A host is there also where nothing runs; a group without anybody is not.
    .filter(({ list }) => list.length > 0 || (isByHost && !isFiltering));
  tops.forEach(({ top, list }, i) => {
    const key = isByHost ? nodeKey(top) : `${wish.by}:${top}`;
    const isFolded = !isFiltering && wish.folded.has(key);
    const rest = { key, count: list.length, isFolded, depth: 1, position: i + 1, siblings: tops.length } as const;
    const group = GROUPS.find((each) => wish.by === 'status' && each === top) ?? null;
    if (isByHost) rows.push({ kind: 'node', node: top, info: infos.get(top) ?? null, ...rest });
    else rows.push({ kind: 'group', label: group === null ? labelOf(top, wish.by) : GROUP_WORDS[group], group, ...rest });
    if (!isFolded) walkAll(list, 2, key);
  });
  return rows;
}

function placeOf(session: Session, by: Grouping): string {
  switch (by) {
    case 'host':
      return session.node;
    case 'status':
      return groupOf(session);
    case 'provider':
      return session.provider;
    case 'mission':
      return session.missionId ?? '';
  }
}

/** The groups in their order: by urgency, else by name, with those of no mission last. */
function topsOf(by: Grouping, used: string[], nodes: string[]): string[] {
  if (by === 'status') return GROUPS.filter((group) => used.includes(group));
  const all = [...new Set(by === 'host' ? [...nodes, ...used] : used)];
  return all.sort((a, b) => (a === '' ? 1 : b === '' ? -1 : a.localeCompare(b)));
}

function labelOf(top: string, by: Grouping): string {
  return top === '' ? 'No mission' : by === 'mission' ? `Mission ${top}` : top;
}

/** The parent under which a session stands; null at the top, where it is unknown, or where it would be a circle. */
function parentOf(session: Session, byId: ReadonlyMap<string, Session>): string | null {
  const parent = session.parentSessionId;
  if (parent === undefined || !byId.has(parent)) return null;
  const seen = new Set([session.sessionId]);
  for (let at: string | undefined = parent; at !== undefined; at = byId.get(at)?.parentSessionId) {
    // Every session of the circle comes to stand at the top.
    if (at === session.sessionId) return null;
    if (seen.has(at)) break;
    seen.add(at);
  }
  return parent;
}

function matches(session: Session, words: readonly string[]): boolean {
  if (words.length === 0) return true;
  const text = [
    sessionTitle(session),
    session.provider,
    session.agentType,
    session.node,
    session.status,
    session.taskId,
    session.missionId,
    session.profile,
    session.sessionId,
  ]
    .join(' ')
    .toLowerCase();
  return words.every((word) => text.includes(word));
}

function byStart(a: Session, b: Session): number {
  return a.spawnedAt.localeCompare(b.spawnedAt) || a.sessionId.localeCompare(b.sessionId);
}

function push<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [value]);
  else list.push(value);
}
