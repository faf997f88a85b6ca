import { describe, expect, it } from 'vitest';
import type { Message } from '../api/types.ts';
import { MessageWindow } from './message-window.ts';

const message = (seq: number, content = 'x'): Message => ({
  messageId: `m${seq}`, sessionId: 'S', seq, role: 'agent', content, timestamp: '', kind: 'text', metadata: {},
});
const range = (from: number, to: number): Message[] =>
  Array.from({ length: to - from + 1 }, (_, i) => message(from + i));
const seqs = (window: MessageWindow): number[] => window.items.map((m) => m.seq);

describe('message window', () => {
  it('holds each message once and in order, in whatever order and however often they come', () => {
    let state = 7;
    const random = (n: number): number => (state = (state * 1103515245 + 12345) % 2147483648) % n;
    for (let round = 0; round < 50; round += 1) {
      const window = new MessageWindow();
      const sent = [...range(1, 40), ...range(1, 40)];
      while (sent.length > 0) {
        const [next] = sent.splice(random(sent.length), 1);
        if (next !== undefined) window.push(next);
      }
      expect(seqs(window)).toEqual(range(1, 40).map((m) => m.seq));
      expect(window.holes()).toEqual([]);
    }
  });

  it('joins a page of history and live messages, whichever is first', () => {
    const window = new MessageWindow();
    window.push(message(101));
    window.push(message(102));
    window.merge(range(51, 101));
    expect(window.holes()).toEqual([]);
    expect([window.first, window.last, window.isAttached]).toEqual([51, 102, true]);
  });

  it('knows what is missing until it comes or is known to be gone', () => {
    const window = new MessageWindow();
    window.merge(range(1, 5));
    window.push(message(9));
    expect(window.holes()).toEqual([{ from: 6, to: 8 }]);
    window.merge([message(6)]);
    expect(window.holes()).toEqual([{ from: 7, to: 8 }]);
    window.markGone(7, 8, 'retention');
    expect(window.holes()).toEqual([]);
    expect(window.goneReason(7, 8)).toBe('retention');
    window.push(message(12));
    expect(window.holes()).toEqual([{ from: 10, to: 11 }]);
  });

  it('stays within its bounds while it follows, and says that there is more', () => {
    const window = new MessageWindow(100, 1000);
    window.hasOlder = false;
    for (const m of range(1, 5000)) {
      window.push(m);
      window.trim(true);
    }
    expect(seqs(window)).toHaveLength(100);
    expect([window.last, window.hasOlder, window.isAttached]).toEqual([5000, true, true]);
    window.push(message(5001, 'y'.repeat(950)));
    window.trim(true);
    expect(window.items.length).toBeLessThanOrEqual(51);
  });

  it('lets go of the newest while somebody reads further up, and finds back', () => {
    const window = new MessageWindow(100, 100_000);
    for (const m of range(1, 100)) window.push(m);
    for (const m of range(101, 500)) {
      window.push(m);
      window.trim(false);
    }
    expect([window.first, window.isAttached, window.tail]).toEqual([1, false, 500]);
    expect(window.items.length).toBeLessThanOrEqual(200);
    expect(window.push(message(501))).toBe(false);
    expect(window.holes()).toEqual([]);
    window.merge(range(window.last + 1, 501));
    expect([window.last, window.isAttached]).toEqual([501, true]);
  });

  it('keeps the last message however long it is', () => {
    const window = new MessageWindow(100, 10);
    window.push(message(1, 'z'.repeat(50)));
    window.trim(true);
    expect(seqs(window)).toEqual([1]);
  });
});
