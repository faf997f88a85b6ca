// Rows of the audit log as actions: what was wanted and what became of it, in one line. Pure.

import type { AuditRow } from '../../api/types.ts';

/** What one can ask for, by what it is about. The hub takes any name; these are the ones that it writes itself. */
export const ACTION_NAMES: readonly string[] = [
  ...['inject', 'answer', 'pause', 'resume', 'terminate', 'kill', 'killAll', 'killAllResumed', 'killAllCompleted', 'spawn', 'input', 'resize', 'discardMessage'],
  ...['takeControl', 'releaseControl', 'requestApproval', 'approveRequest', 'refuseRequest', 'withdrawRequest', 'requestExpired', 'requestUnknown', 'markFourEyes', 'unmarkFourEyes'],
  ...['signIn', 'signOut', 'endSignIn', 'endSignIns', 'changePassword', 'refused', 'commandRefused'],
  ...['createAgentProvider', 'updateAgentProvider', 'deleteAgentProvider', 'testAgentProvider', 'enrolNode', 'revokeNode'],
  ...['createInvitation', 'deleteInvitation', 'acceptInvitation', 'updateUser', 'deleteUser', 'createToken', 'deleteToken'],
  ...['setRetention', 'hold', 'releaseHold', 'forgetMessages', 'exportAudit', 'auditHealed', 'auditFault'],
];

export interface AuditAction {
  key: string;
  /** The row that began it; the outcome's where the intent is on a page not loaded yet. */
  row: AuditRow;
  result: string;
  detail: string | null;
}

/** Joins the two rows of each action. Rows come newest first, and so do the actions. */
export function auditActions(rows: readonly AuditRow[]): AuditAction[] {
  const outcomes = new Map<string, AuditRow>();
  const intents = new Set<string>();
  for (const row of rows) {
    if (row.phase === 'outcome') outcomes.set(row.actionId, row);
    else intents.add(row.actionId);
  }
  const actions: AuditAction[] = [];
  for (const row of rows) {
    if (row.phase === 'outcome' && intents.has(row.actionId)) continue;
    const outcome = outcomes.get(row.actionId) ?? row;
    actions.push({
      key: `${row.actionId}-${row.n}`,
      row,
      result: outcome.result,
      detail: outcome.detail ?? row.detail ?? null,
    });
  }
  return actions;
}

export function resultTone(result: string): 'good' | 'bad' | 'warn' | 'neutral' {
  switch (result) {
    case 'ok':
      return 'good';
    case 'refused':
    case 'failed':
      return 'bad';
    case 'unknown':
      return 'warn';
    default:
      return 'neutral';
  }
}

/** The name of an exported file: sorts by time, and is one that every system takes. */
export function exportName(format: 'jsonl' | 'csv', now: Date): string {
  return `audit-${now.toISOString().slice(0, 19).replaceAll(':', '-')}.${format}`;
}
