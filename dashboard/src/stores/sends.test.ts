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
