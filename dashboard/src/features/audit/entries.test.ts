import { describe, expect, it } from 'vitest';
import type { AuditRow } from '../../api/types.ts';
import { auditActions, exportName } from './entries.ts';

const row = (n: number, actionId: string, phase: 'intent' | 'outcome', result: string): AuditRow => ({
  n, actionId, phase, result, workspace: 'w', timestamp: '', action: 'kill', user: { name: 'Ada' }, metadata: {},
});

describe('audit actions', () => {
  it('join intent and outcome, and keep what has only one of them', () => {
    const rows = [
      row(6, 'c', 'intent', 'pending'),
      row(5, 'b', 'outcome', 'refused'),
      row(4, 'b', 'intent', 'pending'),
      row(3, 'a', 'outcome', 'ok'),
    ];
    expect(auditActions(rows).map((a) => [a.row.actionId, a.row.n, a.result])).toEqual([
      ['c', 6, 'pending'],
      ['b', 4, 'refused'],
      ['a', 3, 'ok'],
    ]);
  });
});

it('an export is named so that it sorts, on any system', () => {
  expect(exportName('csv', new Date('2026-01-02T03:04:05Z'))).toBe('audit-2026-01-02T03-04-05.csv');
});
