// What each session is doing now, in one line, and what of it nobody here has seen.
//
// Laws:
// 1. Lines change at most once in `CALM_MS`, however much is said: a roster is read, not watched.
// 2. Both maps are bounded; the session that was silent longest is forgotten first.

import { SvelteMap } from 'svelte/reactivity';
import type { Message, Session } from '../api/types.ts';

const CALM_MS = 700;
const SESSIONS_MAX = 2_000;
const LINE_MAX = 120;
const KEPT_MAX = 400;
const KEY = 'mosaic.seen';

export interface Activity {
  /** The last tool or line; null while nothing was said since the page was opened. */
  line: string | null;
  seq: number;
}

/** The last thing worth a line in a message: its tool and target, or its last line of text. */
export function activityLine(message: Pick<Message, 'kind' | 'content' | 'metadata'>): string | null {
  const lines = message.content.split('\n').map((line) => line.trim()).filter((line) => line !== '');
  const line = (message.kind === 'toolCall' ? lines[0] : lines.at(-1)) ?? '';
  const tool = message.metadata['tool'];
  const said = message.kind === 'toolCall' && typeof tool === 'string' ? `${tool} · ${line}` : line;
  return said === '' ? null : said.slice(0, LINE_MAX);
}

/** True where `activityLine` finds something. */
function isSaying(message: Message): boolean {
  return /\S/.test(message.content) || (message.kind === 'toolCall' && typeof message.metadata['tool'] === 'string');
}

export class Activities {
  readonly #shown = new SvelteMap<string, Activity>();
  readonly #seen = new SvelteMap<string, number>();
  /** The newest message with something to tell of each session, and the newest `seq`. */
  readonly #pending = new Map<string, { said: Message | null; seq: number }>();
  #timer: ReturnType<typeof setTimeout> | null = null;

  #isFirstVisit = true;

  constructor() {
    try {
      const kept: unknown = JSON.parse(localStorage.getItem(KEY) ?? '[]');
      if (!Array.isArray(kept) || kept.length === 0) return;
      this.#isFirstVisit = false;
      for (const entry of kept) {
        if (Array.isArray(entry) && typeof entry[0] === 'string' && typeof entry[1] === 'number') this.#seen.set(entry[0], entry[1]);
      }
    } catch {
      // Kept by nobody we know: as if nothing was.
    }
  }

  /** What was there before somebody's first visit is not news. */
  begin(sessions: readonly Pick<Session, 'sessionId' | 'lastSeq'>[]): void {
    if (!this.#isFirstVisit) return;
    this.#isFirstVisit = false;
    for (const { sessionId, lastSeq } of sessions) this.see(sessionId, lastSeq);
  }

  onMessage(message: Message): void {
    const before = this.#pending.get(message.sessionId) ?? this.#shown.get(message.sessionId);
    if (before !== undefined && before.seq >= message.seq) return;
    // Its line is made when it is shown: thousands may come before that.
    const said = isSaying(message) ? message : (this.#pending.get(message.sessionId)?.said ?? null);
    this.#pending.set(message.sessionId, { said, seq: message.seq });
    this.#timer ??= setTimeout(() => this.flush(), CALM_MS);
  }

  flush(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    for (const [id, { said, seq }] of this.#pending) {
      const line = (said === null ? null : activityLine(said)) ?? this.#shown.get(id)?.line ?? null;
      this.#shown.delete(id);
      this.#shown.set(id, { line, seq });
    }
    this.#pending.clear();
    trim(this.#shown, SESSIONS_MAX);
  }

  line(id: string): string | null {
    return this.#shown.get(id)?.line ?? null;
  }

  /** True where something was said since somebody here last looked. A session never looked at counts from its first. */
  isUnread(id: string, lastSeq: number): boolean {
    return Math.max(lastSeq, this.#shown.get(id)?.seq ?? 0) > (this.#seen.get(id) ?? 0);
  }

  /** Somebody looks at the session: all it has said is read. */
  see(id: string, lastSeq: number): void {
    const seq = Math.max(lastSeq, this.#shown.get(id)?.seq ?? 0, this.#pending.get(id)?.seq ?? 0);
    if ((this.#seen.get(id) ?? -1) >= seq) return;
    this.#seen.set(id, seq);
    trim(this.#seen, SESSIONS_MAX);
  }

  /** Called when the page goes away. */
  keep(): void {
    localStorage.setItem(KEY, JSON.stringify([...this.#seen].slice(-KEPT_MAX)));
  }
}

function trim<V>(map: Map<string, V>, max: number): void {
  for (const id of map.keys()) {
    if (map.size <= max) return;
    map.delete(id);
  }
}
