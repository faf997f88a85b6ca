import { describe, expect, it } from 'vitest';
import { ApiError } from '../api/errors.ts';
import type { ActReply, AnswerRequest } from '../api/types.ts';
import { Answers } from './answers.svelte.ts';
import { makeSession } from './testing.ts';

describe('answers', () => {
  it('are sent once, and what comes back is learnt', async () => {
    const sent: AnswerRequest[] = [];
    const learnt: string[] = [];
    let finish: (reply: ActReply) => void = () => undefined;
    const client = {
      answer: (_id: string, body: AnswerRequest) => {
        sent.push(body);
        return new Promise<ActReply>((resolve) => (finish = resolve));
      },
    };
    const answers = new Answers(client, (session) => learnt.push(session.status));
    const first = answers.send('S', { requestId: 'm1', optionId: 'yes' });
    expect(answers.of('m1')).toEqual({ state: 'sending', optionId: 'yes' });
    await answers.send('S', { requestId: 'm1', optionId: 'no' });
    finish({ session: makeSession('S', { status: 'running' }) });
    await first;
    expect(sent).toEqual([{ requestId: 'm1', optionId: 'yes' }]);
    expect([learnt, answers.of('m1')]).toEqual([['running'], { state: 'open' }]);
  });

  it('that fail say why, and can be given again', async () => {
    let isAway = true;
    const refused = new ApiError({ kind: 'refused', status: 409, code: 'wrongState', message: 'answered already', requestId: 'r', retryAfterMs: null });
    const client = { answer: () => (isAway ? Promise.reject(refused) : Promise.resolve({ session: makeSession('S') })) };
    const answers = new Answers(client, () => undefined);
    await answers.send('S', { requestId: 'm1', text: 'x' });
    expect(answers.of('m1')).toMatchObject({ state: 'failed', error: { message: 'answered already', code: 'wrongState' } });
    expect(answers.of('m2')).toEqual({ state: 'open' });
    isAway = false;
    await answers.send('S', { requestId: 'm1', text: 'x' });
    expect(answers.of('m1')).toEqual({ state: 'open' });
  });
});
