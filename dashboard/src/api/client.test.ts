import { describe, expect, it } from 'vitest';
import { HubClient } from './client.ts';
import { ApiError, errorText } from './errors.ts';

const answering = (status: number, body: string, headers: Record<string, string> = {}) => {
  const calls: { path: string; init: RequestInit | undefined }[] = [];
  let signedOut = 0;
  const client = new HubClient({
    fetch: (path, init) => {
      calls.push({ path: String(path), init });
      return Promise.resolve(new Response(status === 204 ? null : body, { status, headers }));
    },
    onSignedOut: () => (signedOut += 1),
  });
  return { client, calls, signedOut: () => signedOut };
};

async function failure(promise: Promise<unknown>): Promise<ApiError> {
  const error: unknown = await promise.then(() => null, (e: unknown) => e);
  if (!(error instanceof ApiError)) throw new Error(`expected an ApiError, got ${String(error)}`);
  return error;
}

describe('the client', () => {
  it("keeps the hub's message, code, request id and waiting time", async () => {
    const body = '{"error":{"code":"rateLimited","message":"at most 10 a minute","requestId":"r-7"}}';
    const error = await failure(answering(429, body, { 'Retry-After': '12' }).client.inject('S', { content: 'x', idempotencyKey: 'k' }));
    expect(error.failure).toMatchObject({ kind: 'refused', status: 429, retryAfterMs: 12_000 });
    expect(errorText(error)).toEqual({ message: 'at most 10 a minute', code: 'rateLimited', requestId: 'r-7' });
  });

  it('tells an answer that is not the hub’s from one that is', async () => {
    expect((await failure(answering(502, '<html>bad gateway').client.nodes())).failure).toMatchObject({ kind: 'nonsense', status: 502 });
    expect((await failure(answering(200, 'oops').client.nodes())).failure.kind).toBe('nonsense');
    const away = new HubClient({ fetch: () => Promise.reject(new TypeError('network')) });
    expect((await failure(away.nodes())).failure.kind).toBe('unreachable');
    expect((await failure(away.openStream('/x', new AbortController().signal))).failure.kind).toBe('unreachable');
  });

  it('gives notice of 401, except where the password was wrong', async () => {
    const body = '{"error":{"code":"unauthorized","message":"sign in","requestId":"r"}}';
    const expired = answering(401, body);
    await failure(expired.client.nodes());
    await failure(expired.client.openStream('/x', new AbortController().signal));
    expect(expired.signedOut()).toBe(2);
    const wrong = answering(401, body);
    await failure(wrong.client.signIn('a', 'b'));
    expect(wrong.signedOut()).toBe(0);
  });

  it('sends bodies as JSON, the phrase of a kill-all, and the chosen workspace', async () => {
    const { client, calls } = answering(200, '{"results":[]}');
    client.workspace = 'lab';
    await client.killAll('pty');
    expect(calls[0]?.path).toBe('/api/mission-control/kill-all');
    expect(calls[0]?.init).toMatchObject({
      method: 'POST',
      body: '{"confirm":"KILL ALL","provider":"pty"}',
      headers: { 'Content-Type': 'application/json', 'X-Workspace': 'lab' },
    });
  });
});
