import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { api } from '../routes.ts';
import { ApiError } from './errors.ts';
import { SseParser, type SseEvent } from './sse.ts';
import { backoffMs, cutTerminal, HubStream, toBase64, type Connection, type TerminalPiece } from './stream.ts';
import type { StreamEvent, TerminalChunk } from './types.ts';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (data: Uint8Array): string => new TextDecoder().decode(data);
const chunk = (offset: number, data: string, more: Partial<TerminalChunk> = {}): TerminalChunk => ({
  sessionId: 'S1',
  offset,
  data: toBase64(bytes(data)),
  timestamp: '2026-01-01T00:00:00Z',
  ...more,
});

describe('sse parser', () => {
  const parse = (...pieces: string[]): SseEvent[] => {
    const events: SseEvent[] = [];
    const parser = new SseParser();
    for (const piece of pieces) parser.push(piece, (event) => events.push(event));
    return events;
  };

  it('reads names, ids, several lines of data, comments and both line ends', () => {
    expect(parse(': hello\n\nevent: message\r\nid: 7\r\ndata: a\r\ndata:b\r\n\r\ndata: {}\n\n')).toEqual([
      { name: 'message', id: '7', data: 'a\nb' },
      { name: 'message', id: null, data: '{}' },
    ]);
  });

  it('gives the same events however the text is cut', () => {
    const whole = 'event: session\nid: 1\ndata: {"a":1}\n\n: ping\n\nevent: ready\ndata: {}\n\n';
    for (let cut = 0; cut <= whole.length; cut += 1) {
      expect(parse(whole.slice(0, cut), whole.slice(cut))).toEqual(parse(whole));
    }
  });

  it('drops an event that never ended', () => {
    expect(parse('event: message\ndata: half')).toEqual([]);
  });
});

describe('terminal bytes', () => {
  it('are cut by offset, whatever is repeated or overlaps', () => {
    const source = 'abcdefghij';
    let next: number | null = null;
    let seen = '';
    for (const [from, to] of [[0, 4], [0, 4], [2, 6], [6, 7], [3, 5], [5, 10]] as const) {
      const cut = cutTerminal(next, chunk(from, source.slice(from, to)));
      if (cut === null) continue;
      seen += text(cut.piece.data);
      next = cut.next;
    }
    expect(seen).toBe(source);
  });

  it('start anew with a snapshot, which says where to go on', () => {
    const cut = cutTerminal(3, chunk(5000, 'screen', { snapshot: true, size: { cols: 80, rows: 24 } }));
    expect(cut).toMatchObject({ next: 5000, piece: { reset: true, cols: 80, rows: 24 } });
  });
});

describe('backoff', () => {
  it('grows to its cap and never reaches zero', () => {
    expect(backoffMs(0, 0)).toBe(250);
    expect(backoffMs(0, 1)).toBe(500);
    expect(backoffMs(50, 1)).toBe(15_000);
    expect(backoffMs(50, 0)).toBe(7_500);
  });
});

/** A hub whose connections the test holds in its hand. */
class FakeHub {
  readonly paths: string[] = [];
  readonly #bodies: ReadableStreamDefaultController<Uint8Array>[] = [];
  refuse: ApiError | null = null;
  open = (path: string, signal: AbortSignal): Promise<Response> => {
    this.paths.push(path);
    if (this.refuse !== null) return Promise.reject(this.refuse);
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        this.#bodies.push(controller);
        signal.addEventListener('abort', () => {
          try {
            controller.error(signal.reason);
          } catch {
            // Closed before.
          }
        });
      },
    });
    return Promise.resolve(new Response(body));
  };
  send(event: StreamEvent, id?: string): void {
    const head = id === undefined ? '' : `id: ${id}\n`;
    this.#bodies.at(-1)?.enqueue(bytes(`${head}event: ${event.type}\ndata: ${JSON.stringify(event.data)}\n\n`));
  }
  cut(): void {
    this.#bodies.at(-1)?.close();
  }
}

const removed = (sessionId: string): StreamEvent => ({ type: 'removed', data: { sessionId } });

describe('the stream', () => {
  let hub: FakeHub;
  let stream: HubStream;
  let events: StreamEvent[];
  let states: Connection[];
  let fresh: number;

  beforeEach(() => {
    vi.useFakeTimers();
    hub = new FakeHub();
    events = [];
    states = [];
    fresh = 0;
    stream = new HubStream({
      open: hub.open,
      path: api.stream,
      random: () => 0,
      onEvent: (event) => events.push(event),
      onConnection: (connection) => states.push(connection),
      onFresh: () => (fresh += 1),
    });
  });
  afterEach(() => {
    stream.stop();
    vi.useRealTimers();
  });
  const settle = (ms = 0): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);

  it('resumes behind the last event it handled', async () => {
    stream.start();
    await settle();
    hub.send({ type: 'ready', data: { cursor: 'c0' } });
    hub.send(removed('A'), 'c1');
    await settle();
    expect(states.at(-1)).toEqual({ state: 'live' });
    hub.cut();
    await settle();
    expect(states.at(-1)).toMatchObject({ state: 'stale', reason: 'the connection was closed' });
    await settle(500);
    expect(hub.paths).toEqual([
      '/api/mission-control/stream?sessions=*&nodes=1',
      '/api/mission-control/stream?sessions=*&nodes=1&cursor=c1',
    ]);
    expect(fresh).toBe(1);
    hub.send(removed('B'), 'c2');
    await settle();
    expect(events.filter((e) => e.type === 'removed').map((e) => e.data.sessionId)).toEqual(['A', 'B']);
  });

  it('handles nothing of a connection it has left', async () => {
    stream.start();
    await settle();
    hub.send({ type: 'ready', data: { cursor: 'c0' } });
    hub.send(removed('A'), 'c1');
    await settle();
    stream.watchTerminal('S1', () => undefined);
    await settle(100);
    expect(hub.paths.at(-1)).toBe('/api/mission-control/stream?sessions=*&nodes=1&terminals=S1&cursor=c1');
    expect(states.filter((s) => s.state === 'stale')).toEqual([]);
  });

  it('asks for each terminal from its next byte, and loses and doubles none', async () => {
    let seen = '';
    stream.start();
    stream.watchTerminal('S1', (piece: TerminalPiece) => (seen += text(piece.data)));
    await settle(100);
    expect(hub.paths.at(-1)).toContain('terminals=S1');
    hub.send({ type: 'terminal', data: chunk(0, 'hello ') }, 'c1');
    await settle();
    stream.watchTerminal('S2', () => undefined);
    await settle(100);
    expect(hub.paths.at(-1)).toContain('terminals=S1:6,S2');
    hub.send({ type: 'terminal', data: chunk(3, 'lo world') }, 'c2');
    await settle();
    expect(seen).toBe('hello world');
  });

  it('makes one connection of many wishes', async () => {
    stream.start();
    await settle();
    for (let i = 0; i < 20; i += 1) stream.watchTerminal(`S${i}`, () => undefined);
    await settle(200);
    expect(hub.paths).toHaveLength(2);
  });

  it('waits longer after each failure, and stops at 401', async () => {
    hub.refuse = new ApiError({ kind: 'unreachable', message: 'away' });
    stream.start();
    await settle();
    expect(hub.paths).toHaveLength(1);
    await settle(250);
    expect(hub.paths).toHaveLength(2);
    await settle(250);
    expect(hub.paths).toHaveLength(2);
    await settle(250);
    expect(hub.paths).toHaveLength(3);
    hub.refuse = new ApiError({
      kind: 'refused', status: 401, code: 'unauthorized', message: 'sign in', requestId: null, retryAfterMs: null,
    });
    await settle(10_000);
    expect(states.at(-1)).toEqual({ state: 'ended', reason: 'signedOut' });
    const asked = hub.paths.length;
    await settle(60_000);
    expect(hub.paths).toHaveLength(asked);
  });

  it('takes a silent connection for dead', async () => {
    stream.start();
    await settle();
    expect(states.at(-1)).toEqual({ state: 'live' });
    await settle(46_000);
    expect(hub.paths.length).toBeGreaterThan(1);
    expect(states.some((s) => s.state === 'stale' && s.reason === 'the server fell silent')).toBe(true);
  });

  it('begins anew where the hub does not understand its cursor', async () => {
    stream.start();
    await settle();
    hub.send(removed('A'), 'old');
    await settle();
    hub.refuse = new ApiError({
      kind: 'refused', status: 400, code: 'badCursor', message: 'no', requestId: null, retryAfterMs: null,
    });
    hub.cut();
    await settle(300);
    hub.refuse = null;
    await settle(2_000);
    expect(hub.paths.at(-1)).not.toContain('cursor');
    expect(fresh).toBe(2);
  });

  it('goes on behind an event it cannot read', async () => {
    stream.start();
    await settle();
    hub.send({ type: 'removed', data: undefined } as unknown as StreamEvent, 'c1');
    hub.send(removed('B'), 'c2');
    await settle();
    expect(events).toEqual([removed('B')]);
  });
});
