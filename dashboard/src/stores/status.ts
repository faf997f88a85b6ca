// What a status is, for everybody who shows one. The words and marks are here once; colours are in `app.css`.

import type { Session, Status } from '../api/types.ts';

export type StatusKey = 'spawning' | 'running' | 'waiting' | 'paused' | 'completed' | 'failed' | 'killed' | 'other';

const KEYS: readonly string[] = ['spawning', 'running', 'waiting', 'paused', 'completed', 'failed', 'killed'];

/** In the order in which a summary names them. */
export const LIVE_STATUSES: readonly StatusKey[] = ['running', 'waiting', 'spawning', 'paused'];

export function statusKey(status: Status): StatusKey {
  return KEYS.includes(status) ? (status as StatusKey) : 'other';
}

/** True for the three that never change again. */
export function isEnded(status: Status): boolean {
  return status === 'completed' || status === 'failed' || status === 'killed';
}

export function sessionTitle(session: Session): string {
  const title = session.title ?? session.profile ?? session.agentType;
  return title !== undefined && title !== '' ? title : `session ${session.sessionId.slice(-6)}`;
}

/** The work item of a session in one short label. */
export function taskLabel(session: Session): string | null {
  if (session.taskId !== undefined) {
    return session.taskSource === 'internal' ? session.taskId : `${session.taskId} · ${session.taskSource}`;
  }
  return session.missionId ?? null;
}

/** What somebody who looks over the fleet wants to know of a session first. */
export type Group = 'needsYou' | 'working' | 'idle' | 'away' | 'done';
export const GROUPS: readonly Group[] = ['needsYou', 'working', 'idle', 'away', 'done'];
export const GROUP_WORDS: Record<Group, string> = { needsYou: 'Needs you', working: 'Working', idle: 'Idle', away: 'Host away', done: 'Done' };

export function groupOf(session: Session): Group {
  if (isEnded(session.status)) return 'done';
  if (session.attention !== undefined) return 'needsYou';
  // What it was doing when its host was last heard of is not what it does now.
  if (session.stale === true) return 'away';
  if (session.status === 'spawning') return 'working';
  return session.status === 'running' && session.turn !== 'idle' ? 'working' : 'idle';
}

const SOURCES: Record<string, string> = {
  operator: 'by an operator, confirmed by the node',
  runtime: 'told by the runtime itself',
  terminal: "told by the agent's terminal sequences",
  screen: 'guessed from the screen',
  process: 'only known from its process',
};

export function sourceText(source: string): string {
  return SOURCES[source] ?? source;
}
