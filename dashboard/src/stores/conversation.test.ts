import { describe, expect, it, vi } from 'vitest';
import { HubClient } from '../api/client.ts';
import type { Message } from '../api/types.ts';
import { Conversation } from './conversation.svelte.ts';
import { deliveryText } from './delivery.ts';
import { makeMessage } from './testing.ts';

/** A store that has the messages `1..=has` of one session. */
function store(has: number) {
  const state = { has, asked: [] as string[] };
  const fetcher: typeof fetch = (path) => {
    const url = new URL(String(path), 'http://hub');
    state.asked.push(url.search);
    const limit = Number(url.searchParams.get('limit'));
    const before = Number(url.searchParams.get('before') ?? state.has + 1);
    const after = url.searchParams.get('after');
    const from = after === null ? Math.max(1, before - limit) : Number(after) + 1;
    const to = Math.min(state.has, after === null ? before - 1 : Number(after) + limit);
    const messages: Message[] = [];
    for (let seq = from; seq <= to; seq += 1) messages.push(makeMessage('S', seq));
    const hasMore = after === null ? from > 1 : to < state.has;
    return Promise.resolve(new Response(JSON.stringify({ messages, hasMore })));
  };
  return { state, client: new HubClient({ fetch: fetcher }) };
}

const seqs = (c: Conversation): number[] => c.entries.flatMap((e) => (e.type === 'message' ? [e.message.seq] : []));
const isWhole = (list: number[]): boolean => list.every((seq, i) => i === 0 || seq === (list[i - 1] ?? 0) + 1);

describe('a conversation', () => {
  it('joins history and stream without a hole, also where the store lags behind the stream', async () => {
    const { state, client } = store(250);
    const conversation = new Conversation(client, 'S');
    conversation.onMessage(makeMessage('S', 255));
    conversation.onMessage(makeMessage('S', 256));
    setTimeout(() => (state.has = 256), 300);
    await vi.waitFor(() => expect(seqs(conversation).at(0)).toBe(151), { timeout: 5_000 });
    await vi.waitFor(() => expect(isWhole(seqs(conversation))).toBe(true), { timeout: 8_000 });
    expect(seqs(conversation).at(-1)).toBe(256);
    conversation.dispose();
  });

  it('goes to a message in the middle, whatever page is on its way, and on from there in both directions', async () => {
    const { state, client } = store(1_000);
    const conversation = new Conversation(client, 'S');
    // The newest page was asked for, and comes too late.
    expect(await conversation.loadAround(400)).toBe(true);
    conversation.isFollowing = false;
    await vi.waitFor(() => expect(seqs(conversation)).toContain(400));
    expect([seqs(conversation)[0], isWhole(seqs(conversation)), conversation.isAttached, conversation.hasOlder]).toEqual([350, true, false, true]);
    const asked = state.asked.length;
    expect(await conversation.loadAround(420)).toBe(true);
    expect(state.asked).toHaveLength(asked);
    conversation.onMessage(makeMessage('S', 1_001));
    await conversation.loadOlder();
    await conversation.loadNewer();
    await vi.waitFor(() => expect(seqs(conversation)).toContain(549));
    expect([seqs(conversation)[0], isWhole(seqs(conversation))]).toEqual([250, true]);
    // What is not there is said, and the end shown.
    expect(await conversation.loadAround(5_000)).toBe(false);
    await vi.waitFor(() => expect(seqs(conversation).at(-1)).toBe(1_000));
    conversation.dispose();
  });

  it('pages back to the first message', async () => {
    const { client } = store(230);
    const conversation = new Conversation(client, 'S');
    await vi.waitFor(() => expect(conversation.latest.state).toBe('idle'));
    conversation.isFollowing = false;
    while (conversation.hasOlder) await conversation.loadOlder();
    await vi.waitFor(() => expect(seqs(conversation)).toHaveLength(230));
    expect([seqs(conversation)[0], isWhole(seqs(conversation))]).toEqual([1, true]);
    conversation.dispose();
  });

  it('shows partial text until the message with its id replaces it, also when the delta comes late', async () => {
    const { client } = store(1);
    const conversation = new Conversation(client, 'S');
    await vi.waitFor(() => expect(seqs(conversation)).toEqual([1]));
    const delta = { messageId: 'S-2', sessionId: 'S', role: 'agent', content: 'mess', timestamp: '', kind: 'text' };
    conversation.onDelta(delta);
    await vi.waitFor(() => expect(conversation.entries.at(-1)).toEqual({ type: 'delta', delta }));
    conversation.onMessage(makeMessage('S', 2));
    conversation.onDelta(delta);
    await vi.waitFor(() => expect(conversation.entries.map((e) => e.type)).toEqual(['message', 'message']));
    conversation.dispose();
  });

  it('keeps a gap that retention has made as a gap, without asking for it', async () => {
    const { state, client } = store(10);
    const conversation = new Conversation(client, 'S');
    await vi.waitFor(() => expect(seqs(conversation)).toHaveLength(10));
    const asked = state.asked.length;
    conversation.onGap({ sessionId: 'S', fromSeq: 11, toSeq: 20, reason: 'retention' });
    conversation.onMessage(makeMessage('S', 21));
    await vi.waitFor(() => expect(seqs(conversation).at(-1)).toBe(21));
    expect(conversation.goneReason(11, 20)).toBe('retention');
    expect(state.asked).toHaveLength(asked);
    conversation.dispose();
  });

  it('never takes a delivery back', async () => {
    const { client } = store(0);
    const conversation = new Conversation(client, 'S');
    const receipt = { sessionId: 'S', messageId: 'm', modeAsked: 'steer', timestamp: '' };
    conversation.onReceipt({ ...receipt, state: 'unknown' });
    expect(deliveryText({ delivery: 'delivered' }, conversation.receipt('m'))?.state).toBe('unknown');
    conversation.onReceipt({ ...receipt, state: 'written' });
    conversation.onReceipt({ ...receipt, state: 'delivered' });
    expect(conversation.receipt('m')?.state).toBe('written');
    expect(deliveryText({ delivery: 'accepted' }, conversation.receipt('m'))?.state).toBe('written');
    expect(deliveryText({ delivery: { state: 'taken' } }, conversation.receipt('m'))?.state).toBe('taken');
    expect(deliveryText({}, null)).toBeNull();
    conversation.dispose();
  });
});
