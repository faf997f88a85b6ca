// Who waits for an answer, over the whole fleet; and who has answered, where it was not this page.
//
// Laws:
// 1. Oldest first, and what is answered keeps its place until the inbox is closed: nothing moves under a finger.
// 2. A notification is for the edge: a request is told once, and those that were open when the page came are not.

import type { Message, Session } from '../api/types.ts';

const SETTLED_MAX = 50;
const KNOWN_MAX = 2_000;

export interface Settled {
  key: string;
  sessionId: string;
  text: string;
  since: string;
  /** Who answered, and what; null where it went away without an answer. */
  by: { id: string; name: string; said: string } | null;
}

/** One request for attention: it is another one when it asks something else. */
export function attentionKey(session: Session): string | null {
  const { attention } = session;
  if (attention === undefined) return null;
  return `${session.sessionId} ${attention.request?.requestId ?? `${attention.kind} ${attention.since}`}`;
}

export function oldestFirst(sessions: readonly Session[]): Session[] {
  const since = (session: Session): string => session.attention?.since ?? '';
  return [...sessions].sort((a, b) => since(a).localeCompare(since(b)) || a.sessionId.localeCompare(b.sessionId));
}

/** Who answered which request, where a message tells of an answer. */
export function answerIn(message: Message): { requestId: string; by: NonNullable<Settled['by']> } | null {
  const { answers, operator } = message.metadata;
  if (typeof answers !== 'string' || operator === null || typeof operator !== 'object' || Array.isArray(operator)) return null;
  const id = operator['id'];
  const name = operator['name'];
  if (typeof name !== 'string') return null;
  const said = message.content.replace(/^.* answered: /, '');
  return { requestId: answers, by: { id: typeof id === 'string' ? id : '', name, said } };
}

export class Inbox {
  /** Requests that were open and are not any more. */
  settled = $state.raw<readonly Settled[]>([]);
  readonly #open = new Map<string, Session>();
  readonly #told = new Set<string>();
  #answers: { requestId: string; by: NonNullable<Settled['by']> }[] = [];
  #isPrimed = false;

  onMessage(message: Message): void {
    const answer = answerIn(message);
    if (answer === null) return;
    this.#answers = [...this.#answers, answer].slice(-SETTLED_MAX);
    this.settled = this.settled.map((each) => (each.key.endsWith(` ${answer.requestId}`) ? { ...each, by: answer.by } : each));
  }

  /** Takes those who need somebody now. Returns the ones that did not before: the edge. */
  update(needing: readonly Session[], isKnown: boolean): Session[] {
    const now = new Map<string, Session>();
    for (const session of needing) {
      const key = attentionKey(session);
      if (key !== null) now.set(key, session);
    }
    const gone: Settled[] = [];
    for (const [key, session] of this.#open) {
      if (now.has(key)) continue;
      const by = this.#answers.find((answer) => key.endsWith(` ${answer.requestId}`))?.by ?? null;
      gone.push({ key, sessionId: session.sessionId, text: session.attention?.text ?? '', since: session.attention?.since ?? '', by });
    }
    if (gone.length > 0) this.settled = [...this.settled.filter((each) => !now.has(each.key)), ...gone].slice(-SETTLED_MAX);
    this.#open.clear();
    for (const [key, session] of now) this.#open.set(key, session);
    const fresh = [...now].filter(([key]) => !this.#told.has(key)).map(([, session]) => session);
    for (const key of now.keys()) this.#told.add(key);
    for (const key of this.#told) {
      if (this.#told.size <= KNOWN_MAX) break;
      if (!now.has(key)) this.#told.delete(key);
    }
    if (!isKnown) return [];
    if (this.#isPrimed) return fresh;
    this.#isPrimed = true;
    return [];
  }

  /** The inbox is closed: what is settled has been seen. */
  clearSettled(): void {
    if (this.settled.length > 0) this.settled = [];
  }
}
