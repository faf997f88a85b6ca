import { describe, expect, it } from 'vitest';
import { Fleet } from './fleet.svelte.ts';
import { makeSession } from './testing.ts';

describe('the fleet', () => {
  it('takes the newer of two snapshots, in whatever order they come', () => {
    const fleet = new Fleet();
    fleet.onSession(makeSession('A', { rev: 5, status: 'paused' }));
    fleet.onSession(makeSession('A', { rev: 4, status: 'running' }));
    fleet.flush();
    expect(fleet.get('A')?.status).toBe('paused');
    fleet.onSession(makeSession('A', { rev: 3 }));
    fleet.learn([makeSession('A', { rev: 5, title: 'fetched' })]);
    expect(fleet.get('A')?.title).toBeUndefined();
    fleet.onSession(makeSession('A', { rev: 5, status: 'paused', stale: true }));
    fleet.flush();
    expect(fleet.get('A')?.stale).toBe(true);
  });

  it('changes its structure only for what lists depend on', () => {
    const fleet = new Fleet();
    fleet.learn([makeSession('A')]);
    const before = fleet.structure;
    for (let rev = 2; rev < 100; rev += 1) fleet.onSession(makeSession('A', { rev, lastSeq: rev }));
    fleet.flush();
    expect([fleet.structure, fleet.get('A')?.lastSeq]).toEqual([before, 99]);
    fleet.onSession(makeSession('A', { rev: 100, status: 'failed' }));
    fleet.flush();
    expect(fleet.structure).toBe(before + 1);
  });

  it('names what was not in a fresh snapshot', () => {
    const fleet = new Fleet();
    fleet.onFresh();
    for (const id of ['A', 'B', 'C']) fleet.onSession(makeSession(id));
    expect(fleet.onReady()).toEqual([]);
    fleet.onSession(makeSession('C', { rev: 2, status: 'completed' }));
    fleet.onFresh();
    fleet.onSession(makeSession('B', { rev: 2 }));
    expect(fleet.onReady()).toEqual(['A']);
  });

  it('tells of an end once, and forgets the oldest ends', () => {
    const ends: string[] = [];
    const fleet = new Fleet(({ sessionId }) => ends.push(sessionId));
    fleet.learn(Array.from({ length: 400 }, (_, i) => makeSession(`S${i}`)));
    fleet.learn(
      Array.from({ length: 400 }, (_, i) =>
        makeSession(`S${i}`, { rev: 2, status: 'completed', completedAt: `2026-01-01T00:00:00.${String(i).padStart(3, '0')}Z` }),
      ),
    );
    expect(ends).toHaveLength(400);
    expect(fleet.all()).toHaveLength(300);
    expect(fleet.get('S0')).toBeNull();
    expect(fleet.get('S399')).not.toBeNull();
  });

  it('counts nothing as running that is not known to, and it is not lost either', () => {
    const fleet = new Fleet();
    fleet.learn([makeSession('A'), makeSession('B', { stale: true }), makeSession('C', { stale: true, status: 'failed' })]);
    expect([fleet.counts.running, fleet.counts.failed, fleet.away, fleet.active.length]).toEqual([1, 1, 1, 2]);
  });

  it('counts by status', () => {
    const fleet = new Fleet();
    fleet.learn([makeSession('A'), makeSession('B', { status: 'paused' }), makeSession('C', { status: 'hibernating' })]);
    expect(fleet.counts).toMatchObject({ running: 1, paused: 1, other: 1, failed: 0 });
  });
});
