import { describe, expect, it } from 'vitest';
import { makeMessage } from '../../stores/testing.ts';
import { markFrom, marksOf } from './marks.ts';
import { Player } from './player.svelte.ts';
import { countUntil, parseCast } from './recording.ts';

describe('a recording', () => {
  it('is read into pieces on the clock of the messages, whatever else stands there', () => {
    const cast = [
      '{"version":2,"width":100,"height":30,"timestamp":1000,"mosaic":{"fromOffset":7}}',
      '[0.25,"o","one"]', 'nonsense', '[1,"i","typed"]', '[1.5,"r","90x20"]', '[2,"m","bytes 9 to 12 are not kept"]', '[2.001,"o","two\\u001b[0m"]', '["x","o",""]', '[3,"r","0x"]', '',
    ].join('\n');
    expect(parseCast(cast)).toEqual({
      cols: 100, rows: 30, missingBytes: 7,
      pieces: [
        { type: 'output', at: 1_000_250, text: 'one' },
        { type: 'resize', at: 1_001_500, cols: 90, rows: 20 },
        { type: 'gap', at: 1_002_000, text: 'bytes 9 to 12 are not kept' },
        { type: 'output', at: 1_002_001, text: 'two\u001b[0m' },
      ],
    });
    for (const none of ['', 'x', '[]', '{"version":3,"timestamp":1}', '{"version":2}']) expect(parseCast(none)).toBeNull();
  });

  it('is cut at a time', () => {
    const list = [{ at: 1 }, { at: 3 }, { at: 3 }, { at: 9 }];
    expect([0, 1, 2, 3, 8, 9, 10].map((at) => countUntil(list, at))).toEqual([0, 1, 1, 3, 3, 4, 4]);
  });
});

describe('marks', () => {
  const at = (seq: number, more: Parameters<typeof makeMessage>[2] = {}) => ({ message: makeMessage('S', seq, more), at: seq * 100 });
  const marks = marksOf([
    at(1), at(2, { role: 'operator', content: 'stop\n that' }), at(3, { kind: 'permission' }), at(4, { metadata: { exitCode: 0 } }), at(5, { metadata: { exitCode: 2 } }), at(6, { metadata: { isError: true } }),
  ]);

  it('are what operators said, what was asked, and what went wrong', () => {
    expect(marks.map(({ kind, seq }) => [kind, seq])).toEqual([['operator', 2], ['permission', 3], ['error', 5], ['error', 6]]);
    expect(marks[0]?.text).toBe('stop that');
  });

  it('are gone through in both directions, of one kind or of all', () => {
    const go = (from: number, direction: -1 | 1, kind: 'error' | null = null): number | null => markFrom(marks, from, direction, kind)?.seq ?? null;
    expect([go(0, 1), go(200, 1), go(200, 1, 'error'), go(600, 1), go(600, -1), go(200, -1), go(500, -1, 'error')]).toEqual([2, 3, 5, null, 5, null, null]);
  });
});

describe('the clock of a replay', () => {
  it('runs at its speed, stops at the end, and begins again from there', () => {
    const player = new Player([3_000, 1_000, 2_000]);
    expect([player.from, player.to, player.at]).toEqual([1_000, 3_000, 1_000]);
    player.step(100);
    expect(player.at).toBe(1_000);
    player.toggle();
    player.speed = 4;
    player.step(100);
    expect(player.at).toBe(1_400);
    // A window that was hidden for a minute.
    player.step(60_000);
    expect([player.at, player.isPlaying]).toEqual([3_000, false]);
    player.toggle();
    expect([player.at, player.isPlaying]).toEqual([1_000, true]);
    player.seek(-5);
    expect(player.at).toBe(1_000);
  });

  it('leaves out long pauses, and nothing that happens', () => {
    const player = new Player([0, 1_000, 61_000, 61_200]);
    player.toggle();
    player.seek(950);
    player.step(100);
    expect(player.at).toBe(1_050);
    player.step(16);
    expect(player.at).toBe(60_500);
    player.skipsPauses = false;
    player.seek(2_000);
    player.step(100);
    expect(player.at).toBe(2_100);
  });

  it('of nothing does nothing', () => {
    const player = new Player([]);
    player.toggle();
    player.step(100);
    expect([player.at, player.isPlaying, player.length]).toEqual([0, false, 0]);
  });
});
