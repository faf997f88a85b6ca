import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ApiError } from '../api/errors.ts';
import type { KillReceipt } from '../api/types.ts';
import { KillAlls } from './kill-alls.svelte.ts';

const LEASE_MS = 900_000;
const BEGIN = Date.parse('2026-01-01T00:00:00Z');

/** A hub that knows receipts, and can be away. */
class FakeHub {
  receipts: KillReceipt[] = [];
  isAway = false;
  answers: ((error: Error | null) => void)[] = [];
  asked = 0;

  make(receiptId: string, outcome: string, by = 'me'): KillReceipt {
    const receipt = {
      receiptId,
      at: new Date(BEGIN).toISOString(),
      by: { id: by, name: by },
      scope: 'all',
      leaseUntil: new Date(BEGIN + LEASE_MS).toISOString(),
      state: outcome === 'pending' ? 'pending' : 'complete',
      results: [{ sessionId: 'S', node: 'n', outcome }],
    };
    this.receipts = [receipt, ...this.receipts.filter((each) => each.receiptId !== receiptId)];
    return receipt;
  }

  killAll = (): Promise<KillReceipt> =>
    new Promise((resolve, reject) => this.answers.push((error) => (error === null ? resolve(this.receipts[0] as KillReceipt) : reject(error))));
  killReceipts = (): Promise<KillReceipt[]> => (this.isAway ? Promise.reject(away) : Promise.resolve(this.receipts));
  killReceipt = (id: string): Promise<KillReceipt> => {
    this.asked += 1;
    const found = this.receipts.find((each) => each.receiptId === id);
    if (this.isAway) return Promise.reject(away);
    return found === undefined ? Promise.reject(missing) : Promise.resolve(found);
  };
}

const away = new ApiError({ kind: 'unreachable', message: 'the server cannot be reached' });
const missing = new ApiError({ kind: 'refused', status: 404, code: 'notFound', message: 'there is no such receipt at hand', requestId: 'r', retryAfterMs: null });

function kept(): Storage {
  const items = new Map<string, string>();
  return { getItem: (key) => items.get(key) ?? null, setItem: (key, value) => void items.set(key, value), removeItem: (key) => void items.delete(key), clear: () => items.clear(), key: () => null, length: 0 };
}

describe('kill-alls', () => {
  let hub: FakeHub;
  const pass = (ms: number): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);
  const page = (storage: Storage = kept()): KillAlls => new KillAlls(hub, () => 'me', storage);

  const begin = (killAlls: KillAlls): Promise<void> => (killAlls.begin(), killAlls.load());

  beforeEach(() => {
    vi.useFakeTimers({ now: BEGIN });
    hub = new FakeHub();
  });
  afterEach(() => vi.useRealTimers());

  it('are followed while something is pending, and left alone once they are complete', async () => {
    hub.make('R1', 'pending');
    const killAlls = page();
    await begin(killAlls);
    expect(killAlls.pending.map((each) => each.receiptId)).toEqual(['R1']);
    hub.make('R1', 'killed');
    await pass(2_500);
    expect([killAlls.pending, killAlls.of('R1')]).toEqual([[], expect.objectContaining({ state: 'known', receipt: hub.receipts[0], error: null })]);
    const asked = hub.asked;
    await pass(60_000);
    expect(hub.asked).toBe(asked);
  });

  it('say since when there is nothing newer, and go on when the hub is back', async () => {
    hub.make('R1', 'pending');
    const killAlls = page();
    await begin(killAlls);
    hub.isAway = true;
    await pass(10_000);
    expect(killAlls.of('R1')).toMatchObject({ state: 'known', asOf: BEGIN, error: { message: 'the server cannot be reached' }, receipt: { state: 'pending' } });
    hub.isAway = false;
    hub.make('R1', 'expired');
    await pass(2_500);
    expect(killAlls.of('R1')).toMatchObject({ error: null, receipt: { state: 'complete', results: [{ outcome: 'expired' }] } });
  });

  it('that a hub has no more are not asked for after their lease', async () => {
    hub.make('R1', 'pending');
    const killAlls = page();
    await begin(killAlls);
    hub.receipts = [];
    await pass(LEASE_MS);
    const asked = hub.asked;
    // Until then it may come back: a hub that begins anew takes a while.
    expect(asked).toBeGreaterThan(100);
    await pass(120_000);
    expect(hub.asked - asked).toBeLessThan(40);
    expect(killAlls.of('R1')).toMatchObject({ state: 'known', receipt: { state: 'pending' }, error: { code: 'notFound' } });
  });

  it('whose answer came show their receipt, and one that was refused was not done', async () => {
    const killAlls = page();
    await begin(killAlls);
    const first = killAlls.ask(null, []);
    expect(killAlls.asking).toMatchObject({ state: 'working' });
    await killAlls.ask(null, []);
    expect(hub.answers).toHaveLength(1);
    hub.make('R1', 'killed');
    hub.answers[0]?.(null);
    await first;
    expect(killAlls.asking).toEqual({ state: 'answered', receiptId: 'R1' });
    killAlls.seen();
    const second = killAlls.ask('pty', []);
    hub.answers[1]?.(missing);
    await second;
    expect(killAlls.asking).toMatchObject({ state: 'failed', error: { message: 'there is no such receipt at hand' } });
  });

  it('whose answer was lost with the page are found again among the receipts: their own, and no other', async () => {
    const storage = kept();
    hub.make('R1', 'killed');
    const before = page(storage);
    await begin(before);
    void before.ask(null, []);
    const after = page(storage);
    await begin(after);
    expect(after.asking).toEqual({ state: 'lost', since: BEGIN });
    hub.make('R2', 'killed', 'somebody else');
    await pass(4_000);
    expect(after.asking).toMatchObject({ state: 'lost' });
    hub.make('R3', 'pending');
    await pass(2_500);
    expect(after.asking).toEqual({ state: 'answered', receiptId: 'R3' });
    const again = page(storage);
    await begin(again);
    expect(again.asking).toEqual({ state: 'none' });
  });

  it('that are never found say where it stands written', async () => {
    const killAlls = page();
    await begin(killAlls);
    const asked = killAlls.ask(null, []);
    hub.answers[0]?.(away);
    await asked;
    expect(killAlls.asking).toEqual({ state: 'lost', since: BEGIN });
    await pass(160_000);
    expect(killAlls.asking).toMatchObject({ state: 'failed', error: { message: expect.stringContaining('audit log') } });
  });

  it('of others are learnt of when sessions are killed', async () => {
    const killAlls = page();
    await begin(killAlls);
    hub.make('R1', 'pending', 'somebody else');
    killAlls.onKilled();
    killAlls.onKilled();
    await pass(3_500);
    expect(killAlls.pending.map((each) => each.receiptId)).toEqual(['R1']);
  });

  it('of others are learnt of also when they end nobody yet', async () => {
    const killAlls = page();
    await begin(killAlls);
    hub.make('R1', 'pending', 'somebody else');
    await pass(35_000);
    expect(killAlls.pending.map((each) => each.receiptId)).toEqual(['R1']);
  });
});
