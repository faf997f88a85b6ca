import { beforeEach, describe, expect, it, vi } from 'vitest';
import { Activities, activityLine } from './activity.svelte.ts';
import { makeMessage } from './testing.ts';

beforeEach(() => {
  const kept = new Map<string, string>();
  vi.stubGlobal('localStorage', { getItem: (k: string) => kept.get(k) ?? null, setItem: (k: string, v: string) => kept.set(k, v) });
});

describe('what a session does now', () => {
  it('is its tool and target, or the last line it said', () => {
    expect(activityLine(makeMessage('a', 1, { kind: 'toolCall', content: 'cargo test\nmore', metadata: { tool: 'bash' } }))).toBe('bash · cargo test');
    expect(activityLine(makeMessage('a', 1, { content: 'first\n\n  last  \n' }))).toBe('last');
    expect(activityLine(makeMessage('a', 1, { content: ' \n ' }))).toBeNull();
    expect(activityLine(makeMessage('a', 1, { content: 'x'.repeat(9_000) }))).toHaveLength(120);
  });

  it('changes calmly, and never back', () => {
    vi.useFakeTimers();
    const activities = new Activities();
    for (let seq = 1; seq <= 500; seq += 1) activities.onMessage(makeMessage('a', seq));
    activities.onMessage(makeMessage('a', 3));
    expect(activities.line('a')).toBeNull();
    vi.advanceTimersByTime(1_000);
    expect(activities.line('a')).toBe('message 500');
    vi.useRealTimers();
  });

  it('is unread until somebody looks, also over a reload', () => {
    const activities = new Activities();
    expect([activities.isUnread('a', 0), activities.isUnread('a', 4)]).toEqual([false, true]);
    activities.see('a', 4);
    expect(activities.isUnread('a', 4)).toBe(false);
    activities.onMessage(makeMessage('a', 5));
    activities.flush();
    expect(activities.isUnread('a', 4)).toBe(true);
    activities.see('a', 4);
    activities.keep();
    expect([new Activities().isUnread('a', 5), new Activities().isUnread('a', 6)]).toEqual([false, true]);
  });

  it('is not confused by what somebody else kept', () => {
    localStorage.setItem('mosaic.seen', '{"no":"list"');
    expect(new Activities().isUnread('a', 1)).toBe(true);
  });
});
