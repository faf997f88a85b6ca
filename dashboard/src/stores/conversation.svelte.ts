// The messages of one session as a panel shows them: live, paged in both directions, complete.
//
// Laws:
// 1. Live first, history second: messages that arrive while a page is on its way are kept and merged by `seq`.
// 2. A hole is asked for until it is filled, a few times with growing waits (the store may lag behind the stream);
//    then it is shown as a gap.
// 3. What changes between two frames costs one redraw: readers depend on `version` alone. What nobody sees costs none.

import type { HubClient } from '../api/client.ts';
import { errorText, type ErrorText } from '../api/errors.ts';
import type { Delta, Gap, Message, Receipt } from '../api/types.ts';
import { isNewer } from './delivery.ts';
import { turns } from './frame.ts';
import { MessageWindow, type Hole } from './message-window.ts';

const PAGE_MESSAGES = 100;
/** A longer hole is not filled: what is before it is dropped and can be paged back to. */
const HOLE_MESSAGES_MAX = 500;
const HOLE_WAITS_MS = [0, 400, 1_000, 2_500, 5_000];
/** Messages being written at once; an agent has one, a busy one a few. */
const DELTAS_MAX = 8;
const RECEIPTS_MAX = 200;
/** Ids of complete messages, to know a delta that comes too late. */
const RECENT_IDS_MAX = 64;

export type Loading = { state: 'idle' } | { state: 'loading' } | { state: 'failed'; error: ErrorText };

/** A message, or one still being written. */
export type Entry = { type: 'message'; message: Message } | { type: 'delta'; delta: Delta };

export class Conversation {
  readonly sessionId: string;
  /** Grows with every redraw that is due. */
  version = $state(0);
  latest = $state.raw<Loading>({ state: 'loading' });
  older = $state.raw<Loading>({ state: 'idle' });
  newer = $state.raw<Loading>({ state: 'idle' });
  /** Ids of messages that were unfolded; here, because rows that scroll away forget. */
  readonly unfolded = new Set<string>();

  readonly #client: HubClient;
  readonly #window = new MessageWindow();
  readonly #deltas = new Map<string, Delta>();
  readonly #receipts = new Map<string, Receipt>();
  #recentIds: string[] = [];
  #entries: Entry[] = [];
  /** How many of `#entries` are messages; the others are deltas. */
  #messageCount = 0;
  #isFollowing = true;
  /** Grows with every page that takes the place of what is held: one that was asked for earlier comes too late. */
  #places = 0;
  #isFilling = false;
  readonly #abort = new AbortController();
  #isSeen = true;
  readonly #turn = turns.join(() => this.#flush());

  constructor(client: HubClient, sessionId: string) {
    this.#client = client;
    this.sessionId = sessionId;
    void this.loadLatest();
  }

  /** What to show, oldest first. */
  get entries(): readonly Entry[] {
    void this.version;
    return this.#entries;
  }

  get hasOlder(): boolean {
    void this.version;
    return this.#window.hasOlder;
  }

  /** False while newer messages exist that are not held. */
  get isAttached(): boolean {
    void this.version;
    return this.#window.isAttached;
  }

  /** Highest `seq` heard of. */
  get tail(): number {
    void this.version;
    return this.#window.tail;
  }

  receipt(messageId: string): Receipt | null {
    void this.version;
    return this.#receipts.get(messageId) ?? null;
  }

  /** Why the messages between two neighbours are missing; null while they may still come. */
  goneReason(from: number, to: number): string | null {
    return this.#window.goneReason(from, to);
  }

  has(messageId: string): boolean {
    void this.version;
    return this.#window.items.some((m) => m.messageId === messageId);
  }

  /** True while the end of the conversation is in view: then the oldest part is let go, else the newest. */
  set isFollowing(value: boolean) {
    this.#isFollowing = value;
  }

  /** True while it is on the screen. */
  set isSeen(value: boolean) {
    this.#isSeen = value;
    if (value) this.#turn.request();
  }

  onMessage(message: Message): void {
    this.#deltas.delete(message.messageId);
    this.#recentIds.push(message.messageId);
    if (this.#recentIds.length > RECENT_IDS_MAX * 2) this.#recentIds = this.#recentIds.slice(-RECENT_IDS_MAX);
    this.#window.push(message);
    this.#window.trim(this.#isFollowing);
    this.#changed();
  }

  onDelta(delta: Delta): void {
    if (this.#recentIds.includes(delta.messageId)) return;
    this.#deltas.set(delta.messageId, delta);
    if (this.#deltas.size > DELTAS_MAX) {
      const oldest = this.#deltas.keys().next();
      if (oldest.done !== true) this.#deltas.delete(oldest.value);
    }
    this.#changed();
  }

  onReceipt(receipt: Receipt): void {
    const known = this.#receipts.get(receipt.messageId);
    if (known !== undefined && !isNewer(receipt.state, known.state)) return;
    this.#receipts.set(receipt.messageId, receipt);
    if (this.#receipts.size > RECEIPTS_MAX) {
      const oldest = this.#receipts.keys().next();
      if (oldest.done !== true) this.#receipts.delete(oldest.value);
    }
    this.#changed();
  }

  onGap(gap: Gap): void {
    if (gap.fromSeq !== undefined && gap.toSeq !== undefined) {
      this.#window.markGone(gap.fromSeq, gap.toSeq, gap.reason);
      this.#changed();
    } else {
      void this.#catchUp();
    }
  }

  /** Nothing more will be written: an unfinished message will not be finished. */
  onEnded(): void {
    if (this.#deltas.size === 0) return;
    this.#deltas.clear();
    this.#changed();
  }

  /** Loads the newest page; what is held and does not touch it is let go. */
  async loadLatest(): Promise<void> {
    this.latest = { state: 'loading' };
    const mine = (this.#places += 1);
    try {
      const page = await this.#fetch({ limit: PAGE_MESSAGES });
      if (mine !== this.#places) return;
      if (!this.#window.isAttached) this.#window.clear();
      this.#window.merge(page.messages);
      const first = page.messages[0]?.seq ?? 0;
      // Held from before, and too far away to be joined.
      if (first > 0 && this.#window.first < first && this.#window.holes().some((h) => h.to === first - 1)) {
        this.#window.dropBefore(first);
      }
      if (this.#window.first === first || first === 0) this.#window.hasOlder = page.hasMore;
      this.latest = { state: 'idle' };
    } catch (error) {
      if (this.#abort.signal.aborted || mine !== this.#places) return;
      this.latest = { state: 'failed', error: errorText(error) };
    }
    this.#changed();
  }

  /** Loads what stands around a message, unless it is held. What is held then is let go. False if it is not kept. */
  async loadAround(seq: number): Promise<boolean> {
    const isHeld = (): boolean => this.#window.items.some((message) => message.seq === seq);
    if (isHeld()) return true;
    this.latest = { state: 'loading' };
    const mine = (this.#places += 1);
    try {
      const page = await this.#fetch({ limit: PAGE_MESSAGES, after: Math.max(0, seq - PAGE_MESSAGES / 2 - 1) });
      if (mine !== this.#places) return isHeld();
      // Nothing is there, or not any more: the end is better than an empty panel.
      if (page.messages.length === 0) {
        await this.loadLatest();
        return false;
      }
      this.#window.place(page.messages, page.hasMore);
      this.latest = { state: 'idle' };
    } catch (error) {
      if (this.#abort.signal.aborted || mine !== this.#places) return false;
      this.latest = { state: 'failed', error: errorText(error) };
    }
    this.#changed();
    return isHeld();
  }

  async loadOlder(): Promise<void> {
    if (this.older.state === 'loading' || !this.#window.hasOlder || this.#window.items.length === 0) return;
    this.older = { state: 'loading' };
    try {
      const page = await this.#fetch({ limit: PAGE_MESSAGES, before: this.#window.first });
      this.#window.merge(page.messages);
      this.#window.hasOlder = page.hasMore && page.messages.length > 0;
      this.#window.trim(this.#isFollowing);
      this.older = { state: 'idle' };
    } catch (error) {
      if (this.#abort.signal.aborted) return;
      this.older = { state: 'failed', error: errorText(error) };
    }
    this.#changed();
  }

  /** Goes on towards the end from a window that was detached from it. */
  async loadNewer(): Promise<void> {
    if (this.newer.state === 'loading' || this.#window.isAttached) return;
    this.newer = { state: 'loading' };
    try {
      const page = await this.#fetch({ limit: PAGE_MESSAGES, after: this.#window.last });
      this.#window.merge(page.messages);
      this.#window.trim(true);
      this.newer = { state: 'idle' };
    } catch (error) {
      if (this.#abort.signal.aborted) return;
      this.newer = { state: 'failed', error: errorText(error) };
    }
    this.#changed();
  }

  /** Draws what has changed at once: for whoever waits for it. */
  drawNow(): void {
    this.#flush();
  }

  dispose(): void {
    this.#turn.leave();
    this.#abort.abort();
  }

  /** Part of the stream was lost without saying which: asks for what came after the newest message held. */
  async #catchUp(): Promise<void> {
    if (!this.#window.isAttached || this.#window.last === 0) return this.loadLatest();
    try {
      const page = await this.#fetch({ limit: HOLE_MESSAGES_MAX, after: this.#window.last });
      if (page.hasMore) return await this.loadLatest();
      this.#window.merge(page.messages);
      this.#changed();
    } catch {
      // The next message shows the hole, and that is asked for again.
    }
  }

  #changed(): void {
    if (this.#isSeen) this.#turn.request();
  }

  #flush(): void {
    const entries = sameWhereSame(this.#entries, this.#messageCount, this.#window.items);
    this.#messageCount = entries.length;
    if (this.#window.isAttached) {
      for (const delta of this.#deltas.values()) entries.push({ type: 'delta', delta });
    }
    this.#entries = entries;
    this.version += 1;
    if (!this.#isFilling && this.latest.state === 'idle' && this.#window.holes().length > 0) void this.#fill();
  }

  async #fill(): Promise<void> {
    this.#isFilling = true;
    try {
      for (const wait of HOLE_WAITS_MS) {
        if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
        for (const hole of this.#window.holes()) await this.#fillOne(hole);
        if (this.#abort.signal.aborted || this.#window.holes().length === 0) return;
      }
      for (const hole of this.#window.holes()) {
        this.#window.markGone(hole.from, hole.to, 'the server does not have them');
      }
    } finally {
      this.#isFilling = false;
      this.#changed();
    }
  }

  async #fillOne(hole: Hole): Promise<void> {
    const size = hole.to - hole.from + 1;
    if (size > HOLE_MESSAGES_MAX && this.#isFollowing) {
      this.#window.dropBefore(hole.to + 1);
      return;
    }
    try {
      const limit = Math.min(size, HOLE_MESSAGES_MAX);
      const page = await this.#fetch({ limit, after: hole.from - 1 });
      this.#window.merge(page.messages.filter((m) => m.seq <= hole.to));
      this.#changed();
    } catch {
      // Asked again after the next wait.
    }
  }

  #fetch(query: { limit: number; before?: number; after?: number }): Promise<{ messages: Message[]; hasMore: boolean }> {
    return this.#client.messages(this.sessionId, query, this.#abort.signal);
  }
}

/** Entries for messages; the same entry for the same message: what did not change is not drawn again. */
function sameWhereSame(before: readonly Entry[], count: number, messages: readonly Message[]): Entry[] {
  let at = 0;
  return messages.map((message) => {
    let known = before[at];
    while (at < count && known?.type === 'message' && known.message.seq < message.seq) known = before[(at += 1)];
    return at < count && known?.type === 'message' && known.message === message ? known : { type: 'message', message };
  });
}
