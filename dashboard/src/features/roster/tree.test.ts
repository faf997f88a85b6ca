import { describe, expect, it } from 'vitest';
import type { Session } from '../../api/types.ts';
import { makeNode, makeSession } from '../../stores/testing.ts';
import { rosterRows, type RosterWish } from './tree.ts';

const show = (sessions: Session[], more: Partial<RosterWish> = {}): string[] =>
  rosterRows({ sessions, nodes: [], folded: new Set(), filter: '', onlyNeeding: false, showEnded: true, by: 'host', ...more }).map(
    (row) => `${'  '.repeat(row.depth - 1)}${row.kind === 'node' ? row.node : row.kind === 'group' ? `${row.label} ${row.count}` : row.id}`,
  );

describe('the roster', () => {
  const fleet = [
    makeSession('P', { title: 'lead', spawnedAt: '2026-01-01T00:00:02Z' }),
    makeSession('C', { parentSessionId: 'P', title: 'helper', node: 'node-2' }),
    makeSession('G', { parentSessionId: 'C', title: 'grandchild', status: 'completed' }),
    makeSession('A', { title: 'earlier', spawnedAt: '2026-01-01T00:00:01Z' }),
    makeSession('O', { parentSessionId: 'nobody', title: 'orphan', node: 'node-2', attention: { kind: 'question', text: '?', since: '' } }),
  ];

  it('puts children below their parents, on whichever node, and orphans at the top', () => {
    expect(show(fleet)).toEqual(['node-1', '  A', '  P', '    C', '      G', 'node-2', '  O']);
  });

  it('shows nodes without sessions', () => {
    expect(show([], { nodes: [makeNode('empty')] })).toEqual(['empty']);
  });

  it('folds branches', () => {
    expect(show(fleet, { folded: new Set(['P']) })).toEqual(['node-1', '  A', '  P', 'node-2', '  O']);
    expect(show(fleet, { folded: new Set(['node:node-1']) })).toEqual(['node-1', 'node-2', '  O']);
  });

  it('keeps the way to what a filter matches, unfolded', () => {
    expect(show(fleet, { filter: 'GRAND child', folded: new Set(['P']) })).toEqual(['node-1', '  P', '    C', '      G']);
    expect(show(fleet, { onlyNeeding: true })).toEqual(['node-2', '  O']);
    expect(show(fleet, { filter: 'nothing like it' })).toEqual([]);
  });

  it('leaves out what has ended, except on the way to something alive', () => {
    expect(show(fleet, { showEnded: false })).not.toContain('      G');
    const alive = [makeSession('P', { status: 'failed' }), makeSession('C', { parentSessionId: 'P' })];
    expect(show(alive, { showEnded: false })).toEqual(['node-1', '  P', '    C']);
  });

  it('shows each session once, whatever parents are claimed', () => {
    const circle = [
      makeSession('X', { parentSessionId: 'Y' }),
      makeSession('Y', { parentSessionId: 'X' }),
      makeSession('Z', { parentSessionId: 'Z' }),
      makeSession('W', { parentSessionId: 'X' }),
    ];
    expect(show(circle).map((row) => row.trim()).sort()).toEqual(['W', 'X', 'Y', 'Z', 'node-1']);
  });

  it('groups by who needs whom, with the most urgent first and everybody once', () => {
    const more = [...fleet, makeSession('I', { status: 'waiting' }), makeSession('T', { turn: 'idle' })];
    expect(show(more, { by: 'status' })).toEqual(['Needs you 1', '  O', 'Working 3', '  C', '  A', '  P', 'Idle 2', '  I', '  T', 'Done 1', '  G']);
  });

  it('claims of nobody that he works whose host is away', () => {
    const away = [makeSession('R', { stale: true }), makeSession('I', { status: 'waiting', stale: true }), makeSession('E', { status: 'completed', stale: true }), makeSession('W')];
    expect(show(away, { by: 'status' })).toEqual(['Working 1', '  W', 'Host away 2', '  I', '  R', 'Done 1', '  E']);
  });

  it('groups by provider, each session under its own, and by mission, with what a session has started', () => {
    const mixed = [makeSession('L', { provider: 'acp', missionId: 'moon' }), makeSession('K', { provider: 'docker', parentSessionId: 'L' }), makeSession('Z')];
    expect(show(mixed, { by: 'provider' })).toEqual(['acp 1', '  L', 'docker 1', '  K', 'pty 1', '  Z']);
    expect(show(mixed, { by: 'mission' })).toEqual(['Mission moon 1', '  L', '    K', 'No mission 1', '  Z']);
    expect(show(mixed, { by: 'mission', folded: new Set(['mission:moon']), filter: '' })).toEqual(['Mission moon 1', 'No mission 1', '  Z']);
  });

  it('tells each row its place among its siblings', () => {
    const rows = rosterRows({ sessions: fleet, nodes: [], folded: new Set(), filter: '', onlyNeeding: false, showEnded: true, by: 'host' });
    expect(rows.map((row) => `${row.position}/${row.siblings}`)).toEqual(['1/2', '1/2', '2/2', '1/1', '1/1', '2/2', '1/1']);
  });
});
