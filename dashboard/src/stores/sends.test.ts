import { beforeEach, describe, expect, it, vi } from 'vitest';
import { HubClient } from '../api/client.ts';
import { Sends } from './sends.svelte.ts';

/** The tab's storage, which tests outside a browser do not have. */
class Memory {
  readonly #items = new Map<string, string>();
  getItem = (key: string): string | null => this.#items.get(key) ?? null;
  setItem = (key: string, value: string): void => void this.#items.set(key, value);
  removeItem = (key: string): void => void this.#items.delete(key);
}

describe('sends', () => {
  beforeEach(() => vi.stubGlobal('sessionStorage', new Memory()));

  const hub = (answers: (() => Response | Promise<Response>)[]) => {
    const keys: string[] = [];
    const client = new HubClient({
      fetch: (_path, init) => {
        keys.push((JSON.parse(String(init?.body)) as { idempotencyKey: string }).idempotencyKey);
        const answer = answers.shift();
        return answer === undefined ? Promise.reject(new TypeError('away')) : Promise.resolve(answer());
      },
    });
    return { client, keys };
  };
  const accepted = (): Response => new Response('{"messageId":"M1","delivery":"accepted"}', { status: 202 });
  const refused = (): Response =>
    new Response('{"error":{"code":"nodeAway","message":"node n is away","requestId":"r1"}}', { status: 503 });

  it('keep a failed message with its reason, and try again under the same key', async () => {
    const { client, keys } = hub([refused, accepted]);
    const sends = new Sends(client);
    await sends.send('S', 'hello', null, false);
    expect(sends.of('S')).toMatchObject([
      { content: 'hello', progress: { state: 'failed', error: { message: 'node n is away', requestId: 'r1' } } },
    ]);
    await sends.retry('S', keys[0] ?? '');
    expect(sends.of('S')).toMatchObject([{ progress: { state: 'accepted', messageId: 'M1' } }]);
    expect(keys[1]).toBe(keys[0]);
    sends.onMessage('S', 'M1');
    expect(sends.of('S')).toEqual([]);
  });

  it('send what did not get there again once, as a message that names it, and give it up only with the hub', async () => {
    const asked: { path: string; body: unknown }[] = [];
    const answers = [refused, accepted, (): Response => new Response(null, { status: 204 })];
    const client = new HubClient({
      fetch: (path, init) => {
        asked.push({ path: String(path), body: typeof init?.body === 'string' ? JSON.parse(init.body) : null });
        const answer = answers.shift();
        return answer === undefined ? Promise.reject(new TypeError('away')) : Promise.resolve(answer());
      },
    });
    const sends = new Sends(client);
    await Promise.all([sends.sendAgain('S', 'old', 'hello'), sends.sendAgain('S', 'old', 'hello')]);
    expect(asked).toMatchObject([{ body: { content: 'hello', retryOf: 'old', idempotencyKey: 'retry of old' } }]);
    expect(sends.settled('old')).toBe('sentAgain');
    sends.discard('S', 'retry of old');
    expect(sends.settled('old')).toBe(null);
    await sends.sendAgain('S', 'old', 'hello');
    expect(sends.of('S')).toMatchObject([{ progress: { state: 'accepted' } }]);
    await sends.giveUp('S', 'late');
    expect(asked.at(-1)?.path).toBe('/api/mission-control/sessions/S/messages/late/discard');
    expect(sends.settled('late')).toBe('discarded');
    await expect(sends.giveUp('S', 'third')).rejects.toThrow();
    expect(sends.settled('third')).toBe(null);
  });

  it('are gone once the message is there, whichever comes first', async () => {
    let sends: Sends | null = null;
    const { client } = hub([
      () => {
        // The stream is faster than the answer.
        sends?.onMessage('S', 'M1');
        return accepted();
      },
    ]);
    sends = new Sends(client);
    await sends.send('S', 'hello', null, false);
    expect(sends.of('S')).toEqual([]);
  });

  it('keep drafts in the tab, within bounds, and forget them at sign-out', () => {
    const { client } = hub([]);
    const sends = new Sends(client);
    for (let i = 0; i < 60; i += 1) sends.setDraft(`S${i}`, `draft ${i}`);
    const again = new Sends(client);
    expect([again.draft('S59'), again.draft('S0')]).toEqual(['draft 59', '']);
    again.clear();
    expect(new Sends(client).draft('S59')).toBe('');
  });
});
