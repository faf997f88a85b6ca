// The one live connection to the hub: everything that changes arrives here, and only here.
//
//   connecting ──► live ◄──► stale ──► ended
//        └───────────────────▲           ▲
//                            └── 401 ────┘
//
// Laws:
// 1. One connection at a time. Another set of terminals is another connection that resumes where the last stopped.
// 2. The cursor moves only past an event that was handled, so a resumed stream loses nothing. What comes twice is
//    cut: terminal bytes here by offset, messages by whoever keeps them, by (session, seq).
// 3. A connection that stays silent for longer than the server's own heartbeat is dead.
// 4. Waiting grows with every failure, with jitter, up to a cap. There is no end to trying, short of 401.

import type { TerminalWish } from '../routes.ts';
import { ApiError, errorText } from './errors.ts';
import { SseParser, type SseEvent } from './sse.ts';
import type { StreamEvent, TerminalChunk } from './types.ts';

export type Connection =
  | { state: 'connecting' }
  | { state: 'live' }
  | { state: 'stale'; since: number; retryAt: number; reason: string }
  | { state: 'ended'; reason: 'signedOut' | 'closed' };

/** The hub sends a comment every 15 s; three of them missing is a dead connection. */
const SILENCE_MAX_MS = 45_000;
const BACKOFF_MIN_MS = 500;
const BACKOFF_MAX_MS = 15_000;
/** Terminals are opened and closed in bursts (a layout being restored): one reconnect for all. */
const REGROUP_MS = 60;
/** After so long without a pause the page gets a turn to draw. */
const TURN_MAX_MS = 10;

/** A piece of terminal output that fits exactly behind what was handed out before. */
export interface TerminalPiece {
  data: Uint8Array;
  /** Clear the terminal first. */
  reset: boolean;
  cols: number | null;
  rows: number | null;
}

export interface StreamHandlers {
  onEvent(event: StreamEvent): void;
  onConnection(connection: Connection): void;
  /** A stream without a past begins: whatever is not told before its `ready` is no longer there. */
  onFresh(): void;
}

export interface StreamOptions extends StreamHandlers {
  open(path: string, signal: AbortSignal): Promise<Response>;
  path(query: { cursor: string | null; terminals: readonly TerminalWish[] }): string;
  now?: () => number;
  random?: () => number;
}

interface Watch {
  /** Next byte wanted; null asks for a snapshot. */
  next: number | null;
  onPiece(piece: TerminalPiece): void;
}

export class HubStream {
  readonly #options: StreamOptions;
  readonly #now: () => number;
  readonly #random: () => number;
  readonly #terminals = new Map<string, Watch>();
  #cursor: string | null = null;
  #failures = 0;
  #connection: Connection = { state: 'connecting' };
  #current: AbortController | null = null;
  #timer: ReturnType<typeof setTimeout> | null = null;
  #running = false;

  constructor(options: StreamOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => Date.now());
    this.#random = options.random ?? (() => Math.random());
  }

  get connection(): Connection {
    return this.#connection;
  }

  start(): void {
    if (this.#running) return;
    this.#running = true;
    this.#tell({ state: 'connecting' });
    this.#connectIn(0);
  }

  stop(): void {
    this.#end('closed');
  }

  /** Tries at once instead of waiting: the network is back, or somebody asked. */
  hurry(): void {
    if (this.#running && this.#connection.state === 'stale' && this.#current === null) this.#connectIn(0);
  }

  /** Watches the terminal of a session until the returned function is called. One watcher per session. */
  watchTerminal(id: string, onPiece: (piece: TerminalPiece) => void): () => void {
    const watch: Watch = { next: null, onPiece };
    this.#terminals.set(id, watch);
    this.#regroup();
    return () => {
      // Not worth a reconnect: the next one leaves it out, and until then its bytes are dropped.
      if (this.#terminals.get(id) === watch) this.#terminals.delete(id);
    };
  }

  /** Asks for the screen of a terminal anew, because what was kept of it no longer fits. */
  refreshTerminal(id: string): void {
    const watch = this.#terminals.get(id);
    if (watch === undefined) return;
    watch.next = null;
    this.#regroup();
  }

  #regroup(): void {
    if (!this.#running || this.#connection.state === 'stale') return;
    this.#connectIn(REGROUP_MS);
  }

  #connectIn(delayMs: number): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#timer = null;
      void this.#connect();
    }, delayMs);
  }

  async #connect(): Promise<void> {
    this.#current?.abort();
    const controller = new AbortController();
    this.#current = controller;
    const isCurrent = (): boolean => this.#current === controller;
    try {
      await this.#read(controller, isCurrent);
      throw new Error('the connection was closed');
    } catch (error) {
      if (!isCurrent()) return;
      this.#current = null;
      controller.abort();
      this.#failed(error);
    }
  }

  async #read(controller: AbortController, isCurrent: () => boolean): Promise<void> {
    let watchdog = this.#watch(controller);
    try {
      const terminals = [...this.#terminals].map(([id, watch]) => ({ id, offset: watch.next }));
      const isFresh = this.#cursor === null;
      const path = this.#options.path({ cursor: this.#cursor, terminals });
      const response = await this.#options.open(path, controller.signal);
      if (!isCurrent() || response.body === null) return;
      if (isFresh) this.#options.onFresh();
      this.#tell({ state: 'live' });

      const parser = new SseParser();
      const decoder = new TextDecoder();
      const reader = response.body.getReader();
      let turnStart = performance.now();
      for (;;) {
        const { done, value } = await reader.read();
        if (done || !isCurrent()) return;
        clearTimeout(watchdog);
        watchdog = this.#watch(controller);
        parser.push(decoder.decode(value, { stream: true }), (event) => {
          if (isCurrent()) this.#handle(event);
        });
        if (performance.now() - turnStart > TURN_MAX_MS) {
          await yieldTurn();
          turnStart = performance.now();
        }
      }
    } finally {
      clearTimeout(watchdog);
    }
  }

  #watch(controller: AbortController): ReturnType<typeof setTimeout> {
    return setTimeout(() => controller.abort(new Error('the server fell silent')), SILENCE_MAX_MS);
  }

  #handle(raw: SseEvent): void {
    this.#failures = 0;
    let event: StreamEvent;
    try {
      // The name decides the shape, by contract; a name we do not know is nobody's and falls through below.
      event = { type: raw.name, data: JSON.parse(raw.data) } as StreamEvent;
    } catch {
      // One unreadable event must not stop the stream: reading it again would not make it better.
      if (raw.id !== null) this.#cursor = raw.id;
      return;
    }
    if (event.type === 'terminal') this.#handleTerminal(event.data);
    else this.#options.onEvent(event);
    if (raw.id !== null) this.#cursor = raw.id;
    if (event.type === 'ready') this.#cursor = event.data.cursor;
  }

  #handleTerminal(chunk: TerminalChunk): void {
    const watch = this.#terminals.get(chunk.sessionId);
    if (watch === undefined) return;
    const cut = cutTerminal(watch.next, chunk);
    if (cut === null) return;
    watch.next = cut.next;
    watch.onPiece(cut.piece);
  }

  #failed(error: unknown): void {
    if (error instanceof ApiError && error.isSignedOut) {
      this.#end('signedOut');
      return;
    }
    if (this.#cursor !== null && error instanceof ApiError && isBadCursor(error)) this.#cursor = null;
    const now = this.#now();
    const delay = backoffMs(this.#failures, this.#random());
    this.#failures += 1;
    const since = this.#connection.state === 'stale' ? this.#connection.since : now;
    this.#tell({ state: 'stale', since, retryAt: now + delay, reason: errorText(error).message });
    this.#connectIn(delay);
  }

  #end(reason: 'signedOut' | 'closed'): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#running = false;
    const current = this.#current;
    this.#current = null;
    current?.abort();
    this.#cursor = null;
    this.#tell({ state: 'ended', reason });
  }

  #tell(connection: Connection): void {
    this.#connection = connection;
    this.#options.onConnection(connection);
  }
}

/** Half fixed, half chance: a fleet of pages does not come back in one wave. */
export function backoffMs(failures: number, random: number): number {
  const full = Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** Math.min(failures, 10));
  return full / 2 + (full / 2) * random;
}

/** The hub does not understand the cursor (another hub, another age): begin anew rather than ask for ever. */
function isBadCursor(error: ApiError): boolean {
  return error.failure.kind === 'refused' && [400, 404, 410, 422].includes(error.failure.status);
}

/** Cuts from `chunk` what was handed out before. Null if nothing is left. */
export function cutTerminal(
  next: number | null,
  chunk: TerminalChunk,
): { piece: TerminalPiece; next: number } | null {
  const data = fromBase64(chunk.data);
  const size = { cols: chunk.size?.cols ?? null, rows: chunk.size?.rows ?? null };
  if (chunk.snapshot === true) return { piece: { data, reset: true, ...size }, next: chunk.offset };
  const end = chunk.offset + data.length;
  if (next === null || chunk.offset >= next) {
    return { piece: { data, reset: false, ...size }, next: end };
  }
  if (end <= next) return null;
  return { piece: { data: data.subarray(next - chunk.offset), reset: false, ...size }, next: end };
}

export function fromBase64(text: string): Uint8Array {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i += 1) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

export function toBase64(bytes: Uint8Array): string {
  let binary = '';
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary);
}

/** Lets the page draw and react. Timers would do, but a hidden page gets only one a second. */
function yieldTurn(): Promise<void> {
  return new Promise((resolve) => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => {
      channel.port1.close();
      resolve();
    };
    channel.port2.postMessage(null);
  });
}
