import { describe, expect, it, vi } from 'vitest';
import type { HubClient } from '../api/client.ts';
import type { Approval, Control } from '../api/types.ts';
import { Controls, settledText } from './controls.svelte.ts';
import { makeSession } from './testing.ts';
import { Toasts } from './toasts.svelte.ts';

const AT = '2026-01-01T00:00:00Z';

function request(approvalId: string, more: Partial<Approval> = {}): Approval {
  return { approvalId, sessionId: 'A', action: 'kill', by: { id: 'u1', name: 'Grace' }, askedAt: AT, expiresAt: AT, state: 'open', at: AT, ...more };
}

function control(sessionId: string, more: Partial<Control> = {}): Control {
  return { sessionId, requests: [], ...more };
}

function made(me: string): { controls: Controls; toasts: Toasts } {
  const toasts = new Toasts();
  return { controls: new Controls({} as HubClient, toasts, () => me), toasts };
}

describe('who may act', () => {
  it('what is not told at the begin of a stream is not so any more', () => {
    const { controls } = made('u1');
    controls.onControl(control('A', { writer: { userId: 'u1', name: 'Grace', since: AT, until: AT } }));
    expect(controls.of('A')?.writer?.name).toBe('Grace');
    controls.onControls([control('B', { fourEyes: { reason: 'r', by: { id: 'u0', name: 'Ada' }, since: AT } })]);
    expect([controls.of('A'), controls.of('B')?.fourEyes?.reason]).toEqual([null, 'r']);
    controls.onControl(control('B'));
    expect(controls.of('B')).toBeNull();
  });

  it('a session is marked through those that it descends from, and a ring of parents ends', () => {
    const { controls } = made('u1');
    const sessions = new Map([makeSession('A'), makeSession('B', { parentSessionId: 'A' }), makeSession('C', { parentSessionId: 'D' }), makeSession('D', { parentSessionId: 'C' })].map((s) => [s.sessionId, s]));
    const over = (id: string): string | undefined => controls.markOver(sessions.get(id) ?? makeSession(id), (each) => sessions.get(each) ?? null)?.sessionId;
    controls.onControl(control('A', { fourEyes: { reason: 'r', by: { id: 'u0', name: 'Ada' }, since: AT } }));
    expect([over('A'), over('B'), over('C')]).toEqual(['A', 'A', undefined]);
  });

  it('others decide what somebody asked for, and whoever asked is told once what became of it', () => {
    vi.useFakeTimers();
    const mine = made('u1');
    const theirs = made('u0');
    for (const { controls } of [mine, theirs]) controls.onControl(control('A', { requests: [request('1')] }));
    expect([mine.controls.forMe.length, theirs.controls.forMe.length]).toEqual([0, 1]);
    const refused = request('1', { state: 'refused', decidedBy: { id: 'u0', name: 'Ada' }, outcome: 'not today' });
    for (const { controls } of [mine, theirs]) {
      controls.onControl(control('A', { requests: [refused] }));
      controls.onControl(control('A', { requests: [refused, request('2', { state: 'expired' })] }));
    }
    expect(mine.toasts.list.map((toast) => toast.text)).toEqual(['Refused by Ada: not today']);
    expect(theirs.toasts.list).toEqual([]);
    vi.useRealTimers();
  });

  it('every state has its words, also one of a newer hub', () => {
    expect(settledText(request('1'))).toBeNull();
    for (const state of ['approved', 'done', 'failed', 'unknown', 'refused', 'withdrawn', 'expired', 'melted']) {
      expect(settledText(request('1', { state }))).toMatch(/\w/);
    }
    expect(settledText(request('1', { state: 'expired' }))).toContain('nothing was done');
  });
});
