// Who may do what with a session, as one table. The hub decides; this only spares people the attempt.
//
// Law: what a role may never do is not offered; what cannot be done now is disabled, with the reason.

import type { Capability, Session, UserRole } from '../api/types.ts';
import { isEnded } from './status.ts';

export type Leave =
  | { state: 'allowed' }
  | { state: 'disabled'; reason: string }
  /** Not offered at all. */
  | { state: 'absent' };

export type FleetControl = 'spawn' | 'killAll' | 'configure';

/** True for roles that may change anything. An unknown role may not. */
export function mayWrite(role: UserRole): boolean {
  return role === 'admin' || role === 'operator';
}

export function fleetLeave(role: UserRole, control: FleetControl): Leave {
  switch (control) {
    case 'spawn':
    case 'killAll':
      return mayWrite(role) ? { state: 'allowed' } : { state: 'absent' };
    case 'configure':
      return role === 'admin' ? { state: 'allowed' } : { state: 'absent' };
  }
}

const LACKS: Record<string, string> = {
  inject: 'this agent takes no messages from operators',
  pause: 'this runtime cannot pause a session',
  resume: 'this session cannot be resumed now',
  terminate: 'this session cannot be asked to end',
  kill: 'this runtime cannot kill a session',
  input: 'nothing can be typed into this terminal',
  resize: 'the size of this terminal is fixed',
  approve: 'this agent cannot be answered from here',
};

/** Whether a user of `role` can use `capability` on the session now. */
export function leave(role: UserRole, session: Session, capability: Capability): Leave {
  if (!mayWrite(role)) return { state: 'absent' };
  if (isEnded(session.status)) return { state: 'disabled', reason: 'the session has ended' };
  if (session.stale === true) return { state: 'disabled', reason: `node ${session.node} is away` };
  if (!session.capabilities.includes(capability)) {
    return { state: 'disabled', reason: notCapable(session, capability) };
  }
  return { state: 'allowed' };
}

/** As `leave`, for answering what a session asks. What it asks is shown to all, so the answers are too: disabled, with
 *  the reason. */
export function answerLeave(role: UserRole, session: Session): Exclude<Leave, { state: 'absent' }> {
  const may = leave(role, session, 'approve');
  return may.state === 'absent' ? { state: 'disabled', reason: `your role, ${role}, may not answer; ask an operator` } : may;
}

function notCapable(session: Session, capability: Capability): string {
  const reasons = session.metadata['notCapable'];
  if (reasons !== null && typeof reasons === 'object' && !Array.isArray(reasons)) {
    const reason = reasons[capability];
    if (typeof reason === 'string' && reason !== '') return reason;
  }
  return LACKS[capability] ?? `this session cannot do that (${capability})`;
}
