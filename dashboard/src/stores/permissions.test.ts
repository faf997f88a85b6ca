import { describe, expect, it } from 'vitest';
import type { Capability, Session, Status } from '../api/types.ts';
import { answerLeave, fleetLeave, leave } from './permissions.ts';
import { makeSession } from './testing.ts';

const WRITES: Capability[] = ['inject', 'pause', 'resume', 'terminate', 'kill', 'input', 'resize', 'approve'];

describe('permissions', () => {
  const able = (more: Partial<Session> = {}): Session => makeSession('S', { capabilities: WRITES, ...more });

  it('offer an observer, or a role nobody knows, no write at all', () => {
    for (const role of ['observer', 'auditor', '']) {
      for (const capability of WRITES) expect(leave(role, able(), capability)).toEqual({ state: 'absent' });
      expect(fleetLeave(role, 'spawn')).toEqual({ state: 'absent' });
      expect(fleetLeave(role, 'killAll')).toEqual({ state: 'absent' });
      expect(fleetLeave(role, 'configure')).toEqual({ state: 'absent' });
    }
  });

  it('let operators and admins do what the session can', () => {
    for (const role of ['operator', 'admin']) {
      for (const capability of WRITES) expect(leave(role, able(), capability)).toEqual({ state: 'allowed' });
      expect(fleetLeave(role, 'killAll')).toEqual({ state: 'allowed' });
    }
  });

  it('let only admins configure', () => {
    expect(fleetLeave('operator', 'configure')).toEqual({ state: 'absent' });
    expect(fleetLeave('admin', 'configure')).toEqual({ state: 'allowed' });
  });

  it('show answers to everybody, and say why one may not give them', () => {
    expect(answerLeave('operator', able())).toEqual({ state: 'allowed' });
    expect(answerLeave('observer', able())).toMatchObject({ state: 'disabled', reason: /observer.*ask an operator/ });
    expect(answerLeave('operator', able({ capabilities: [] }))).toMatchObject({ state: 'disabled', reason: /from here/ });
    expect(answerLeave('operator', able({ stale: true }))).toMatchObject({ state: 'disabled', reason: /away/ });
  });

  it('disable what the session cannot, with its own reason if it gives one', () => {
    const session = able({ capabilities: [], metadata: { notCapable: { pause: 'the gateway has no pause' } } });
    expect(leave('admin', session, 'pause')).toEqual({ state: 'disabled', reason: 'the gateway has no pause' });
    expect(leave('admin', session, 'kill')).toMatchObject({ state: 'disabled', reason: /cannot kill/ });
    expect(leave('admin', session, 'levitate')).toMatchObject({ state: 'disabled', reason: /levitate/ });
  });

  it('disable everything on a session that has ended or whose node is away', () => {
    for (const status of ['completed', 'failed', 'killed'] satisfies Status[]) {
      expect(leave('admin', able({ status }), 'kill')).toMatchObject({ state: 'disabled', reason: /ended/ });
    }
    expect(leave('admin', able({ stale: true }), 'kill')).toMatchObject({ state: 'disabled', reason: /away/ });
  });
});
