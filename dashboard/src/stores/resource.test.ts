import { describe, expect, it } from 'vitest';
import { ApiError, refusal } from '../api/errors.ts';
import { Resource } from './resource.svelte.ts';

describe('something of the hub', () => {
  it('is not offered where the hub has no such route, whoever answers 404', async () => {
    const ours = refusal(404, '{"error":{"code":"unknownRoute","message":"no such route","requestId":"r"}}', new Headers());
    for (const error of [ours, refusal(404, '', new Headers()), refusal(405, '', new Headers())]) {
      const resource = new Resource(() => Promise.reject(error));
      await resource.load();
      expect(resource.all).toEqual({ state: 'notOffered' });
    }
  });

  it('stays shown when asking again fails, and is asked again when it never came', async () => {
    const answers: (number | Error)[] = [new ApiError({ kind: 'timeout', message: 'late' }), 7, new Error('no')];
    const resource = new Resource(() => {
      const answer = answers.shift();
      return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
    });
    await resource.load();
    expect(resource.all).toMatchObject({ state: 'failed', error: { message: 'late' } });
    await resource.load();
    await resource.load();
    expect(resource.all).toEqual({ state: 'ready', value: 7 });
  });
});
