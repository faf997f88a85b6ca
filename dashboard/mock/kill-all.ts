// Kill-alls, as the real hub has them: a receipt with every session; what a node that is away has is killed when it is
// back, within the lease.

import type { KillAllResult, KillReceipt } from '../src/api/types.ts';
import type { MockControls } from './control.ts';
import { MockError, type Actor, type World } from './world.ts';

/** How long the end of one session takes, so that there is progress to see. */
const KILL_MS = 60;
const LEASE_MS = 15 * 60_000;

export class MockKillAlls {
  /** The newest first. */
  receipts: KillReceipt[] = [];
  readonly #actors = new Map<string, Actor>();
  readonly #world: World;
  readonly #controls: MockControls;

  constructor(world: World, controls: MockControls) {
    this.#world = world;
    this.#controls = controls;
    world.listen((event) => {
      if (event.type === 'node' && event.data.online) this.#onBack(event.data.node);
    });
  }

  find(id: string): KillReceipt {
    const found = this.receipts.find((each) => each.receiptId === id);
    if (found === undefined) throw new MockError(404, 'notFound', 'there is no such receipt at hand; the audit log has all of them');
    return found;
  }

  async run(actor: Actor, body: Record<string, unknown>): Promise<KillReceipt> {
    if (body['confirm'] !== 'KILL ALL') throw new MockError(422, 'notConfirmed', 'confirm must be exactly KILL ALL');
    const scope = String(body['provider'] ?? 'all');
    const [receiptId, at, leaseUntil] = [this.#world.newId(), this.#world.time(), new Date(Date.now() + LEASE_MS).toISOString()];
    const results: KillAllResult[] = [];
    for (const each of this.#world.sessions.values()) {
      if (each.isEnded || (scope !== 'all' && each.session.provider !== scope)) continue;
      await new Promise((resolve) => setTimeout(resolve, KILL_MS));
      results.push(this.#kill(actor, each.session.sessionId));
    }
    const receipt = settled({ receiptId, at, by: { id: actor.id, name: actor.name }, scope, leaseUntil, state: 'complete', results });
    this.#actors.set(receiptId, actor);
    this.receipts.unshift(receipt);
    this.#world.record(actor, 'killAll', { metadata: { scope, leaseUntil } }, receipt.state === 'complete' ? 'ok' : 'unknown');
    return receipt;
  }

  /** The lease of every kill-all is over. */
  expire(): void {
    const expired = (result: KillAllResult, leaseUntil: string): KillAllResult =>
      result.outcome === 'pending' ? { ...result, outcome: 'expired', detail: `not carried out: node ${result.node} was not back by ${leaseUntil}` } : result;
    this.receipts = this.receipts.map((receipt) => {
      const leaseUntil = receipt.state === 'pending' ? this.#world.time() : receipt.leaseUntil;
      return settled({ ...receipt, leaseUntil, results: receipt.results.map((result) => expired(result, leaseUntil)) });
    });
  }

  #onBack(node: string): void {
    this.receipts = this.receipts.map((receipt) => {
      const actor = this.#actors.get(receipt.receiptId);
      if (actor === undefined || receipt.state !== 'pending') return receipt;
      const results = receipt.results.map((result) => {
        if (result.outcome !== 'pending' || result.node !== node) return result;
        this.#world.find(result.sessionId).update({ stale: false });
        return this.#kill(actor, result.sessionId);
      });
      return settled({ ...receipt, results });
    });
  }

  #kill(actor: Actor, sessionId: string): KillAllResult {
    const { isEnded, session } = this.#world.find(sessionId);
    const { node } = session;
    if (isEnded) return { sessionId, node, outcome: 'ended', detail: `it is ${session.status}` };
    if (this.#controls.isMarked(sessionId)) {
      const approval = this.#controls.ask(actor, sessionId, 'kill', undefined, () => void this.#world.act(actor, sessionId, 'kill'));
      return { sessionId, node, outcome: 'awaitsApproval', detail: 'marked: it lives until a second person agrees; they have been asked', approvalId: approval.approvalId };
    }
    try {
      this.#world.act(actor, sessionId, 'kill');
      return { sessionId, node, outcome: 'killed', detail: '3 processes ended' };
    } catch (error) {
      const detail = error instanceof Error ? error.message : String(error);
      const isAway = error instanceof MockError && error.code === 'nodeAway';
      return { sessionId, node, outcome: isAway ? 'pending' : 'refused', detail: isAway ? `${detail}; it is told when it is back` : detail };
    }
  }
}

function settled(receipt: KillReceipt): KillReceipt {
  return { ...receipt, state: receipt.results.some((each) => each.outcome === 'pending') ? 'pending' : 'complete' };
}
