// Operator messages on their way from the box to the agent, and drafts that are not sent yet.
//
// Laws:
// 1. A message that was typed is never lost: it is a draft, on its way, in the conversation, or kept as failed.
// 2. Trying again uses the same idempotency key: the agent gets it once, whatever the network did.

import type { HubClient } from '../api/client.ts';
import { ApiError, errorText, type ErrorText } from '../api/errors.ts';
import type { InjectMode } from '../api/types.ts';

export type SendState =
  | { state: 'sending' }
  | { state: 'accepted'; messageId: string }
  | { state: 'failed'; error: ErrorText; retryAt: number | null };

export interface Send {
  key: string;
  content: string;
  mode: InjectMode | null;
  pauseFirst: boolean;
  /** The message that did not get there, in whose place this one is sent. */
  retryOf: string | null;
  progress: SendState;
}

const DRAFTS_KEY = 'mosaic.drafts';
/** Drafts are kept in the tab's own storage, which has a few megabytes in all. */
const DRAFTS_MAX = 50;
const DRAFT_CHARS_MAX = 32_000;
/** Accepted ones leave when their message is in the conversation; a bound for conversations nobody shows. */
const ACCEPTED_MAX = 20;
/** Operator messages that arrived lately: one may come by the stream before the hub's answer to its sending. */
const ARRIVED_MAX = 100;

export class Sends {
  #bySession = $state.raw<ReadonlyMap<string, readonly Send[]>>(new Map());
  readonly #client: HubClient;
  readonly #drafts: Map<string, string>;
  #arrived: string[] = [];
  #settled = $state.raw<ReadonlyMap<string, 'sentAgain' | 'discarded'>>(new Map());

  constructor(client: HubClient) {
    this.#client = client;
    this.#drafts = readDrafts();
  }

  of(sessionId: string): readonly Send[] {
    return this.#bySession.get(sessionId) ?? [];
  }

  draft(sessionId: string): string {
    return this.#drafts.get(sessionId) ?? '';
  }

  setDraft(sessionId: string, text: string): void {
    this.#drafts.delete(sessionId);
    if (text !== '') this.#drafts.set(sessionId, text.slice(0, DRAFT_CHARS_MAX));
    const oldest = this.#drafts.keys().next();
    if (this.#drafts.size > DRAFTS_MAX && oldest.done !== true) this.#drafts.delete(oldest.value);
    try {
      sessionStorage.setItem(DRAFTS_KEY, JSON.stringify([...this.#drafts]));
    } catch {
      // Full or forbidden: the draft is still in memory.
    }
  }

  /** Forgets what one person typed before the next one signs in. */
  clear(): void {
    this.#drafts.clear();
    this.#bySession = new Map();
    sessionStorage.removeItem(DRAFTS_KEY);
  }

  send(sessionId: string, content: string, mode: InjectMode | null, pauseFirst: boolean): Promise<void> {
    const send: Send = { key: newKey(), content, mode, pauseFirst, retryOf: null, progress: { state: 'sending' } };
    this.#set(sessionId, [...this.of(sessionId), send]);
    return this.#try(sessionId, send);
  }

  /** Sends a message that did not get there once more, as a new one that names it; the same one once, however often it is asked for. */
  sendAgain(sessionId: string, messageId: string, content: string): Promise<void> {
    this.#settle(messageId, 'sentAgain');
    const key = `retry of ${messageId}`;
    if (this.of(sessionId).some((send) => send.key === key)) return Promise.resolve();
    const send: Send = { key, content, mode: null, pauseFirst: false, retryOf: messageId, progress: { state: 'sending' } };
    this.#set(sessionId, [...this.of(sessionId), send]);
    return this.#try(sessionId, send);
  }

  /** Gives a message up that did not get there; the hub writes down who did so. */
  async giveUp(sessionId: string, messageId: string): Promise<void> {
    await this.#client.discardMessage(sessionId, messageId);
    this.#settle(messageId, 'discarded');
  }

  /** What was decided here on a message that did not get there. */
  settled(messageId: string): 'sentAgain' | 'discarded' | null {
    return this.#settled.get(messageId) ?? null;
  }

  #settle(messageId: string, how: 'sentAgain' | 'discarded'): void {
    this.#settled = new Map([...this.#settled, [messageId, how] as const].slice(-ARRIVED_MAX));
  }

  retry(sessionId: string, key: string): Promise<void> {
    const send = this.of(sessionId).find((s) => s.key === key);
    if (send === undefined || send.progress.state !== 'failed') return Promise.resolve();
    this.#progress(sessionId, key, { state: 'sending' });
    return this.#try(sessionId, send);
  }

  discard(sessionId: string, key: string): void {
    const send = this.of(sessionId).find((s) => s.key === key);
    if (send?.progress.state === 'failed' && send.retryOf !== null) {
      // It was not sent again after all: it is offered once more.
      this.#settled = new Map([...this.#settled].filter(([messageId]) => messageId !== send.retryOf));
    }
    this.#set(sessionId, this.of(sessionId).filter((send) => send.key !== key));
  }

  /** An operator message stands in the conversation now. */
  onMessage(sessionId: string, messageId: string): void {
    this.#arrived = [...this.#arrived, messageId].slice(-ARRIVED_MAX);
    const sends = this.#bySession.get(sessionId);
    if (sends === undefined) return;
    const rest = sends.filter((s) => s.progress.state !== 'accepted' || s.progress.messageId !== messageId);
    if (rest.length !== sends.length) this.#set(sessionId, rest);
  }

  async #try(sessionId: string, send: Send): Promise<void> {
    try {
      const reply = await this.#client.inject(sessionId, {
        content: send.content,
        ...(send.mode === null ? {} : { mode: send.mode }),
        ...(send.pauseFirst ? { pauseFirst: true } : {}),
        idempotencyKey: send.key,
        ...(send.retryOf === null ? {} : { retryOf: send.retryOf }),
      });
      // What waits for a second person stands there as a request, with its words, until they have decided.
      if (reply.approval !== undefined || this.#arrived.includes(reply.messageId)) this.discard(sessionId, send.key);
      else this.#progress(sessionId, send.key, { state: 'accepted', messageId: reply.messageId });
    } catch (error) {
      const wait = error instanceof ApiError && error.failure.kind === 'refused' ? error.failure.retryAfterMs : null;
      const retryAt = wait === null ? null : Date.now() + wait;
      this.#progress(sessionId, send.key, { state: 'failed', error: errorText(error), retryAt });
    }
  }

  #progress(sessionId: string, key: string, progress: SendState): void {
    const sends = this.of(sessionId).map((send) => (send.key === key ? { ...send, progress } : send));
    const accepted = sends.filter((send) => send.progress.state === 'accepted');
    const surplus = new Set(accepted.slice(0, Math.max(0, accepted.length - ACCEPTED_MAX)));
    this.#set(sessionId, sends.filter((send) => !surplus.has(send)));
  }

  #set(sessionId: string, sends: readonly Send[]): void {
    const next = new Map(this.#bySession);
    if (sends.length === 0) next.delete(sessionId);
    else next.set(sessionId, sends);
    this.#bySession = next;
  }
}

function readDrafts(): Map<string, string> {
  try {
    const kept: unknown = JSON.parse(sessionStorage.getItem(DRAFTS_KEY) ?? '[]');
    if (!Array.isArray(kept)) return new Map();
    const isDraft = (entry: unknown): entry is [string, string] =>
      Array.isArray(entry) && typeof entry[0] === 'string' && typeof entry[1] === 'string';
    return new Map(kept.filter(isDraft).slice(0, DRAFTS_MAX));
  } catch {
    return new Map();
  }
}

/** `crypto.randomUUID` exists only on secure origins; a hub may be reached by plain HTTP in a closed network. */
export function newKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
