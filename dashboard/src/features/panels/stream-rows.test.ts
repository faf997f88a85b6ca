import { describe, expect, it } from 'vitest';
import type { Message, Metadata } from '../../api/types.ts';
import type { Entry } from '../../stores/conversation.svelte.ts';
import { isStop, RowMaker, SHOW_ALL } from './stream-rows.ts';
import { diffLines, durationText, toolFacts } from './tool.ts';

const message = (seq: number, more: Partial<Message> = {}): Message => ({
  messageId: `m${seq}`, sessionId: 's', seq, role: 'agent', kind: 'text', content: `c${seq}`, metadata: {},
  timestamp: new Date(Date.UTC(2026, 0, 1) + seq * 1000).toISOString(), ...more,
});
const entry = (seq: number, more: Partial<Message> = {}): Entry => ({ type: 'message', message: message(seq, more) });
const keys = (entries: Entry[], filter = SHOW_ALL): string[] => new RowMaker().rows(entries, filter).map((row) => row.key);
const call = (id: string | null): Partial<Message> => ({ kind: 'toolCall', metadata: id === null ? {} : { callId: id } });
const result = (id: string | null, more: Metadata = {}): Partial<Message> => ({ kind: 'toolResult', metadata: { ...(id === null ? {} : { callId: id }), ...more } });

describe('rows of a stream', () => {
  it('join a result with its call, by id also past others', () => {
    const rows = new RowMaker().rows([entry(1, call('a')), entry(2, call('b')), entry(3, result('b')), entry(4), entry(5, result('a'))], SHOW_ALL);
    expect(rows.map((row) => [row.key, row.result?.messageId ?? null])).toEqual([['m1', 'm5'], ['m2', 'm3'], ['m4', null]]);
  });

  it('join without ids only what stands together, and never lose a result', () => {
    expect(keys([entry(1, call(null)), entry(2, result(null))])).toEqual(['m1']);
    expect(keys([entry(1, call(null)), entry(2), entry(3, result(null))])).toEqual(['m1', 'm2', 'm3']);
    expect(keys([entry(1, result('gone'))])).toEqual(['m1']);
    expect(keys([entry(1, call('a')), entry(2, result('a')), entry(3, result('a'))])).toEqual(['m1', 'm3']);
  });

  it('tell what is missing once, also across what is filtered out', () => {
    const entries = [entry(1), entry(4, { role: 'system' }), entry(5), entry(9)];
    const rows = new RowMaker().rows(entries, { ...SHOW_ALL, system: false });
    expect(rows.map((row) => [row.key, row.missing])).toEqual([['m1', []], ['m5', [{ from: 2, to: 3 }]], ['m9', [{ from: 6, to: 8 }]]]);
  });

  it('leave out what is not wanted, never operators and permissions', () => {
    const entries = [
      entry(1, { role: 'system' }), entry(2, { metadata: { stream: 'stderr' } }), entry(3, { kind: 'reasoning' }), entry(4, call('a')),
      entry(5, { role: 'operator' }), entry(6, { role: 'system', kind: 'permission' }), entry(7),
    ];
    expect(keys(entries, { tools: false, reasoning: false, system: false })).toEqual(['m5', 'm6', 'm7']);
    expect(keys(entries)).toHaveLength(7);
  });

  it('stay the same objects while nothing changes', () => {
    const maker = new RowMaker();
    const entries = [entry(1), entry(2)];
    const [first] = maker.rows(entries, SHOW_ALL);
    expect(maker.rows([...entries, entry(3)], SHOW_ALL)[0]).toBe(first);
  });

  it('are stops for errors in every form', () => {
    const rows = new RowMaker().rows(
      [entry(1, call('a')), entry(2, result('a', { exitCode: '1' })), entry(3, result(null, { isError: 'true' })), entry(4, result(null, { exitCode: '' })), entry(5, result(null, { status: 'failed' }))],
      SHOW_ALL,
    );
    expect(rows.filter((row) => isStop(row, 'error')).map((row) => row.key)).toEqual(['m1', 'm3', 'm5']);
  });
});

describe('a tool card', () => {
  it('knows target, duration, exit code and failure', () => {
    const facts = toolFacts(message(1, { content: 'cargo test', metadata: { tool: 'bash' } }), message(3, { metadata: { exitCode: '101' } }));
    expect(facts).toMatchObject({ name: 'bash', target: 'cargo test', durationMs: 2000, exitCode: 101, isFailed: true, isOpen: false, diff: null });
    expect(toolFacts(message(1), null)).toMatchObject({ isOpen: true, isFailed: false, exitCode: null, durationMs: null });
  });

  it('finds the target and the change in the arguments', () => {
    const facts = toolFacts(message(1, { content: JSON.stringify({ file_path: 'a/b.rs', old_string: 'x\ny', new_string: 'z' }), metadata: { tool: 'Edit' } }), null);
    expect(facts).toMatchObject({ target: 'a/b.rs', diff: '-x\n-y\n+z' });
    expect(toolFacts(message(1, { content: 'f\n@@ -1 +1 @@\n-a\n+b' }), null).diff).not.toBeNull();
    expect(toolFacts(message(1, { content: '{"broken' }), null).target).toBe('{"broken');
  });

  it('lets no sequence into its title', () => {
    expect(toolFacts(message(1, { content: '\u001b]0;x\u0007ls\u202e', metadata: { tool: 'ba\u001b[31msh' } }), null)).toMatchObject({ name: 'bash', target: 'ls' });
  });

  it('tells durations and lines of a diff', () => {
    expect([400, 12_000, 185_000].map(durationText)).toEqual(['0.4 s', '12 s', '3 min 5 s']);
    expect(diffLines('@@ -1 +1 @@\n-a\n+b\n c').map((line) => line.type)).toEqual(['hunk', 'remove', 'add', 'same']);
  });
});
