// A stretch of a conversation, as it is held in memory. Pure: fetches nothing, draws nothing.
//
// Laws:
// 1. Messages stand in ascending order of `seq`, each at most once, however often and in whatever order they come.
// 2. While it is attached the window reaches to the newest message; detached it only counts what is newer.
// 3. It never holds more than its bounds after a trim; what is dropped can be fetched again.
// 4. A hole between two messages is either being asked for or known to be gone. It is never closed silently.

import type { Message } from '../api/types.ts';

/** Some screens full; what is further up is fetched when somebody scrolls there. */
export const WINDOW_MESSAGES_MAX = 600;
/** Characters of content, of which one message may have 256 Ki: some ten megabytes in a panel at worst. */
export const WINDOW_CHARS_MAX = 3_000_000;
/** While somebody reads further up, the newest part may grow to this many times the bounds before it is let go. */
const READING_SLACK = 2;

export interface Hole {
  from: number;
  to: number;
}

export class MessageWindow {
  items: Message[] = [];
  hasOlder = true;
  isAttached = true;
  /** Highest `seq` heard of. */
  tail = 0;
  #chars = 0;
  #gone: (Hole & { reason: string })[] = [];
  #mayHaveHoles = false;
  readonly #messagesMax: number;
  readonly #charsMax: number;

  constructor(messagesMax = WINDOW_MESSAGES_MAX, charsMax = WINDOW_CHARS_MAX) {
    this.#messagesMax = messagesMax;
    this.#charsMax = charsMax;
  }

  get first(): number {
    return this.items[0]?.seq ?? 0;
  }

  get last(): number {
    return this.items.at(-1)?.seq ?? 0;
  }

  /** Takes one live message. False if it is known, or lies beyond a detached window. */
  push(message: Message): boolean {
    this.tail = Math.max(this.tail, message.seq);
    if (!this.isAttached && message.seq > this.last + 1) return false;
    return this.#insert(message);
  }

  /** Takes a fetched page. Returns how many of it were new. */
  merge(messages: readonly Message[]): number {
    let added = 0;
    for (const message of messages) {
      this.tail = Math.max(this.tail, message.seq);
      if (this.#insert(message)) added += 1;
    }
    if (this.last >= this.tail) this.isAttached = true;
    return added;
  }

  /** Holds this page and nothing else: a place in the middle, from which one goes on in both directions. */
  place(messages: readonly Message[], hasNewer: boolean): void {
    const { tail } = this;
    this.clear();
    for (const message of messages) this.#insert(message);
    this.tail = Math.max(tail, this.last + (hasNewer ? 1 : 0));
    this.isAttached = this.last >= this.tail;
    this.hasOlder = this.first > 1;
  }

  #insert(message: Message): boolean {
    const last = this.last;
    if (message.seq > last) {
      if (last > 0 && message.seq !== last + 1) this.#mayHaveHoles = true;
      this.items.push(message);
    } else {
      const at = lowerBound(this.items, message.seq);
      if (this.items[at]?.seq === message.seq) return false;
      this.items.splice(at, 0, message);
      this.#mayHaveHoles = true;
    }
    this.#chars += message.content.length;
    if (message.seq === 1) this.hasOlder = false;
    return true;
  }

  /** What is missing between the messages held, except what is known to be gone. */
  holes(): Hole[] {
    if (!this.#mayHaveHoles) return [];
    const holes: Hole[] = [];
    for (let i = 1; i < this.items.length; i += 1) {
      const from = (this.items[i - 1]?.seq ?? 0) + 1;
      const to = (this.items[i]?.seq ?? 0) - 1;
      if (from <= to && this.goneReason(from, to) === null) holes.push({ from, to });
    }
    if (holes.length === 0) this.#mayHaveHoles = false;
    return holes;
  }

  /** Records that nobody has these any more. */
  markGone(from: number, to: number, reason: string): void {
    this.#gone = this.#gone.filter((g) => g.to >= this.first);
    if (this.goneReason(from, to) === null) this.#gone.push({ from, to, reason });
    this.#mayHaveHoles = true;
  }

  /** Why all of `from..=to` is gone, or null if some of it may still come. */
  goneReason(from: number, to: number): string | null {
    return this.#gone.find((g) => g.from <= from && g.to >= to)?.reason ?? null;
  }

  /** Keeps the bounds. While the newest messages are followed the oldest go, else the newest, and later. */
  trim(isFollowing: boolean): void {
    if (isFollowing) {
      if (!this.#isOver(1)) return;
      let count = 0;
      while (count < this.items.length - 1 && this.#isOver(1, count)) {
        this.#chars -= this.items[count]?.content.length ?? 0;
        count += 1;
      }
      this.items.splice(0, count);
      this.hasOlder = true;
    } else if (this.#isOver(READING_SLACK)) {
      while (this.items.length > 1 && this.#isOver(1)) {
        this.#chars -= this.items.pop()?.content.length ?? 0;
      }
      this.isAttached = false;
    }
  }

  /** Drops everything before the last hole: for a stretch too long to be fetched in full. */
  dropBefore(seq: number): void {
    const at = lowerBound(this.items, seq);
    for (const message of this.items.splice(0, at)) this.#chars -= message.content.length;
    this.hasOlder = true;
  }

  clear(): void {
    this.items = [];
    this.#chars = 0;
    this.#gone = [];
    this.#mayHaveHoles = false;
    this.hasOlder = true;
    this.isAttached = true;
  }

  #isOver(times: number, dropped = 0): boolean {
    return this.items.length - dropped > this.#messagesMax * times || this.#chars > this.#charsMax * times;
  }
}

function lowerBound(items: readonly Message[], seq: number): number {
  let low = 0;
  let high = items.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((items[middle]?.seq ?? 0) < seq) low = middle + 1;
    else high = middle;
  }
  return low;
}
