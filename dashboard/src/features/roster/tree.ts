// The roster as rows: hosts, their sessions, and whatever those have started. Pure.
//
// Laws:
// 1. Every session stands in the roster exactly once: below its parent where that is known, wherever it runs; else
//    below its node. A circle of parents is cut, not followed.
// 2. Order is by start, so that rows do not move while one reads.
// 3. A filter keeps what matches and the way to it, unfolded.

import type { NodeInfo, Session } from '../../api/types.ts';
import { isEnded, sessionTitle } from '../../stores/status.ts';

export type RosterRow =
  | { kind: 'node'; key: string; node: string; info: NodeInfo | null; count: number; isFolded: boolean; depth: 1 }
  | { kind: 'session'; key: string; id: string; depth: number; childCount: number; isFolded: boolean; parentKey: string };

export interface RosterWish {
  sessions: readonly Session[];
  nodes: readonly NodeInfo[];
  folded: ReadonlySet<string>;
  filter: string;
  onlyNeeding: boolean;
  showEnded: boolean;
}

export const nodeKey = (node: string): string => `node:${node}`;

export function rosterRows(wish: RosterWish): RosterRow[] {
  const byId = new Map(wish.sessions.map((session) => [session.sessionId, session]));
  const children = new Map<string, Session[]>();
  const roots = new Map<string, Session[]>();
  for (const session of wish.sessions) {
    const parent = parentOf(session, byId);
    if (parent === null) push(roots, session.node, session);
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
  const walk = (session: Session, depth: number, parentKey: string): void => {
    if (isShown.get(session.sessionId) !== true) return;
    const below = (children.get(session.sessionId) ?? []).filter((child) => isShown.get(child.sessionId) === true);
    const isFolded = !isFiltering && below.length > 0 && wish.folded.has(session.sessionId);
    const key = session.sessionId;
    rows.push({ kind: 'session', key, id: key, depth, childCount: below.length, isFolded, parentKey });
    if (isFolded) return;
    for (const child of below.sort(byStart)) walk(child, depth + 1, key);
  };
  const infos = new Map(wish.nodes.map((node) => [node.node, node]));
  for (const node of [...new Set([...infos.keys(), ...roots.keys()])].sort()) {
    const list = (roots.get(node) ?? []).filter((session) => isShown.get(session.sessionId) === true);
    if (isFiltering && list.length === 0) continue;
    const key = nodeKey(node);
    const isFolded = !isFiltering && wish.folded.has(key);
    rows.push({ kind: 'node', key, node, info: infos.get(node) ?? null, count: list.length, isFolded, depth: 1 });
    if (isFolded) continue;
    for (const session of list.sort(byStart)) walk(session, 2, key);
  }
  return rows;
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
