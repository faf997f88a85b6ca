// One writer at a time, and four eyes, as the real hub has them: who writes, what is marked, what waits for a second.

import type { Approval, Control, FourEyes, Writer } from '../src/api/types.ts';
import { MockError, type Actor, type World } from './world.ts';

const LEASE_MS = 60_000;
const APPROVAL_MS = 600_000;

export class MockControls {
  readonly world: World;
  readonly #writers = new Map<string, Writer>();
  readonly #marks = new Map<string, FourEyes>();
  readonly #requests: (Approval & { run: () => void })[] = [];

  constructor(world: World) {
    this.world = world;
  }

  of(sessionId: string): Control {
    const writer = this.#writers.get(sessionId);
    const fourEyes = this.#marks.get(sessionId);
    const requests = this.#requests.filter((each) => each.sessionId === sessionId).map(({ run: _run, ...request }) => request);
    return { sessionId, requests, ...(writer === undefined ? {} : { writer }), ...(fourEyes === undefined ? {} : { fourEyes }) };
  }

  all(): Control[] {
    const ids = new Set([...this.#writers.keys(), ...this.#marks.keys(), ...this.#requests.map((each) => each.sessionId)]);
    return [...ids].map((id) => this.of(id));
  }

  isMarked(id: string): boolean {
    for (let at: string | undefined = id; at !== undefined; at = this.world.sessions.get(at)?.session.parentSessionId) if (this.#marks.has(at)) return true;
    return false;
  }

  /** Before something is typed: whoever does it is the writer, becomes it, or is refused. */
  beforeTyping(actor: Actor, id: string): void {
    const writer = this.#writers.get(id);
    if (writer !== undefined && writer.userId !== actor.id) throw new MockError(409, 'held', `${writer.name} has control of this terminal; take control first`);
    if (writer === undefined && this.isMarked(id)) throw new MockError(409, 'needsSecond', 'this session is marked: ask for control');
    if (writer === undefined) this.#give(actor, id);
  }

  /** Takes control, or asks for it. */
  take(actor: Actor, id: string): { control: Control } | { approval: Approval } {
    this.world.able(id, 'input');
    if (this.isMarked(id)) return { approval: this.ask(actor, id, 'control', undefined, () => this.#give(actor, id)) };
    this.#give(actor, id);
    return { control: this.of(id) };
  }

  release(actor: Actor, id: string): Control {
    const writer = this.#writers.get(id);
    if (writer !== undefined && writer.userId !== actor.id && !this.isMarked(id)) throw new MockError(409, 'notYours', `${writer.name} has control of this terminal`);
    this.#writers.delete(id);
    this.world.record(actor, 'releaseControl', { sessionId: id });
    this.#tell(id);
    return this.of(id);
  }

  mark(actor: Actor, id: string, reason: string): void {
    if (reason.trim() === '') throw new MockError(422, 'invalid', 'a mark needs a reason');
    this.#marks.set(id, { reason, by: { id: actor.id, name: actor.name }, since: this.world.time() });
    this.world.record(actor, 'markFourEyes', { sessionId: id });
    this.#tell(id);
  }

  unmark(actor: Actor, id: string): Approval {
    return this.ask(actor, id, 'unmark', undefined, () => void this.#marks.delete(id));
  }

  ask(actor: Actor, id: string, action: string, content: string | undefined, run: () => void): Approval {
    const same = this.#requests.find((each) => each.sessionId === id && each.action === action && each.state === 'open' && each.content === content);
    if (same !== undefined) return same;
    const at = this.world.time();
    const expiresAt = new Date(Date.now() + APPROVAL_MS).toISOString();
    const request = { approvalId: this.world.newId(), sessionId: id, action, by: { id: actor.id, name: actor.name }, askedAt: at, expiresAt, state: 'open', at, ...(content === undefined ? {} : { content }), run };
    this.#requests.push(request);
    this.world.record(actor, 'requestApproval', { sessionId: id, ...(content === undefined ? {} : { content }) });
    this.#tell(id);
    const { run: _run, ...told } = request;
    return told;
  }

  decide(actor: Actor, approvalId: string, isAgreed: boolean, reason: string): Approval {
    const request = this.#requests.find((each) => each.approvalId === approvalId);
    if (request === undefined) throw new MockError(404, 'notFound', `there is no request ${approvalId}`);
    const isOwn = request.by.id === actor.id;
    if (isAgreed && isOwn) throw new MockError(403, 'samePerson', 'you asked for this yourself: somebody else has to agree');
    if (request.state !== 'open') throw new MockError(409, 'decided', `this cannot be decided any more: it is ${request.state}`);
    if (isAgreed) request.run();
    const state = isAgreed ? 'done' : isOwn ? 'withdrawn' : 'refused';
    Object.assign(request, { state, decidedBy: { id: actor.id, name: actor.name }, at: this.world.time(), ...(reason === '' ? {} : { outcome: reason }) });
    this.#tell(request.sessionId);
    const { run: _run, ...told } = request;
    return told;
  }

  /** The time of every request is over. */
  expire(): void {
    for (const request of this.#requests) {
      if (request.state !== 'open') continue;
      Object.assign(request, { state: 'expired', at: this.world.time(), outcome: 'nobody decided it in time; nothing was done' });
      this.#tell(request.sessionId);
    }
  }

  #give(actor: Actor, id: string): void {
    const until = new Date(Date.now() + LEASE_MS).toISOString();
    this.#writers.set(id, { userId: actor.id, name: actor.name, since: this.world.time(), until });
    this.world.record(actor, 'takeControl', { sessionId: id });
    this.#tell(id);
  }

  #tell(id: string): void {
    this.world.publish({ type: 'control', data: this.of(id) });
  }
}
