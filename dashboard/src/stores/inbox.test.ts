import { describe, expect, it } from 'vitest';
import type { Session } from '../api/types.ts';
import { Inbox, oldestFirst } from './inbox.svelte.ts';
import { makeMessage, makeSession } from './testing.ts';

const asking = (id: string, requestId: string, since = '2026-01-01T00:00:00Z'): Session =>
  makeSession(id, { attention: { kind: 'permission', text: `may ${id}?`, since, request: { requestId, options: [] } } });

describe('the inbox', () => {
  it('has the one that waits longest first', () => {
    const list = oldestFirst([asking('a', 'r1', '2026-01-02T00:00:00Z'), asking('b', 'r2')]);
    expect(list.map((each) => each.sessionId)).toEqual(['b', 'a']);
  });

  it('tells of each request once, at its edge, and of none that was there before the page', () => {
    const inbox = new Inbox();
    expect(inbox.update([asking('a', 'r1')], false)).toEqual([]);
    expect(inbox.update([asking('a', 'r1')], true)).toEqual([]);
    const both = [asking('a', 'r1'), asking('b', 'r2')];
    expect(inbox.update(both, true).map((each) => each.sessionId)).toEqual(['b']);
    expect(inbox.update(both, true)).toEqual([]);
    expect(inbox.update([], true)).toEqual([]);
    expect(inbox.update([asking('b', 'r2')], true)).toEqual([]);
    expect(inbox.update([asking('b', 'r3')], true)).toHaveLength(1);
  });

  it('says who has answered, whichever of the two news comes first, until it is closed', () => {
    const answer = (requestId: string) =>
      makeMessage('a', 9, { role: 'system', content: 'Grace answered: No', metadata: { answers: requestId, operator: { id: 'u1', name: 'Grace' } } });
    for (const isMessageFirst of [true, false]) {
      const inbox = new Inbox();
      inbox.update([asking('a', 'r1')], true);
      if (isMessageFirst) inbox.onMessage(answer('r1'));
      inbox.update([], true);
      if (!isMessageFirst) inbox.onMessage(answer('r1'));
      expect(inbox.settled.map(({ text, by }) => [text, by])).toEqual([['may a?', { id: 'u1', name: 'Grace', said: 'No' }]]);
      inbox.clearSettled();
      expect(inbox.settled).toEqual([]);
    }
  });
});
