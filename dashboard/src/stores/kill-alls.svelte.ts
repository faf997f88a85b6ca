// Kill-alls: the one that is asked for here, and the receipts of the last ones, followed until they are complete.
//
//   none ──► working ──answer──► answered ──(its receipt is shown)──► none
//               ├──no answer──► lost ──found among the receipts──► answered
//               │                 └──not found in time──► failed
//               └──refused──► failed ──► (asked again)
//
// Laws:
// 1. What became of a session is the hub's word, never a guess from what the page sees.
// 2. A kill-all goes on whether or not anybody waits for its answer. One whose answer does not come (the page was
//    loaded again, the line broke) is looked for among the receipts; only a person sends it a second time.
// 3. A receipt with something pending is asked for until it is complete. What is shown has its age, and says so where
//    nothing newer is to be had.

import type { HubClient } from '../api/client.ts';
import { ApiError, errorText, type ErrorText } from '../api/errors.ts';
import type { KillReceipt, Session } from '../api/types.ts';

/** How often what is pending, or lost, is asked for. */
const LOOK_EVERY_MS = 2_000;
/** How long after the kill of a session others' kill-alls are looked for: they end many sessions at once. */
const OTHERS_AFTER_MS = 3_000;
/** How often they are looked for all the same: one whose sessions are all on hosts that are away ends nobody yet. */
const OTHERS_EVERY_MS = 30_000;
/** How long a kill-all may be lost: the hub gives each node less to answer. */
const LOST_MAX_MS = 150_000;
/** How long after the lease a hub may take to write down what it gave up. */
const GRACE_MS = 60_000;
const KEY = 'mosaic.kill-all';

/** What is asked for here and not answered yet, as it is kept over a reload of the page. */
interface Asked {
  by: string;
  since: number;
  /** The newest receipt at that time: its own is newer. */
  after: string;
}

export type Asking =
  | { state: 'none' }
  | { state: 'working'; since: number; targets: readonly Session[] }
  | { state: 'lost'; since: number }
  | { state: 'answered'; receiptId: string }
  | { state: 'failed'; error: ErrorText };

/** A receipt as far as it is known here. */
export type Followed =
  | { state: 'loading' }
  /** `error`: why nothing newer than `asOf` is known. */
  | { state: 'known'; receipt: KillReceipt; asOf: number; error: ErrorText | null }
  | { state: 'failed'; error: ErrorText };

type Client = Pick<HubClient, 'killAll' | 'killReceipts' | 'killReceipt'>;

export class KillAlls {
  asking = $state.raw<Asking>({ state: 'none' });
  #byId = $state.raw<ReadonlyMap<string, Followed>>(new Map());
  readonly #client: Client;
  readonly #me: () => string;
  readonly #kept: Storage | null;
  #timer: ReturnType<typeof setTimeout> | null = null;
  #others: ReturnType<typeof setTimeout> | null = null;
  /** A session was killed, and others' kill-alls will be looked for soon. */
  #isAlarmed = false;
  #isOn = false;

  constructor(client: Client, me: () => string, kept: Storage | null) {
    this.#client = client;
    this.#me = me;
    this.#kept = kept;
  }

  /** The newest first. */
  readonly receipts: KillReceipt[] = $derived.by(() =>
    [...this.#byId.values()].flatMap((each) => (each.state === 'known' ? [each.receipt] : [])).sort((a, b) => b.receiptId.localeCompare(a.receiptId)),
  );

  readonly pending: KillReceipt[] = $derived.by(() => this.receipts.filter((each) => each.state === 'pending'));

  of(receiptId: string): Followed {
    return this.#byId.get(receiptId) ?? { state: 'loading' };
  }

  /** Somebody is signed in: what was lost with the page before is looked for. */
  begin(): void {
    this.#isOn = true;
    const asked = this.#asked();
    if (asked !== null) this.asking = { state: 'lost', since: asked.since };
    this.#plan();
  }

  stop(): void {
    this.#isOn = false;
    for (const timer of [this.#timer, this.#others]) if (timer !== null) clearTimeout(timer);
    this.#timer = null;
    this.#others = null;
    this.#isAlarmed = false;
  }

  /** Takes the receipts that the hub has at hand: whenever the page has become live. */
  async load(): Promise<void> {
    try {
      const receipts = await this.#client.killReceipts();
      const asOf = Date.now();
      this.#take(receipts.map((receipt) => [receipt.receiptId, { state: 'known', receipt, asOf, error: null }]));
      this.#find(receipts);
    } catch {
      // Each receipt that is followed says by itself that there is nothing newer.
      this.#find([]);
    }
    this.#plan();
  }

  /** Follows one receipt, for whoever looks at it. */
  async follow(receiptId: string): Promise<void> {
    if (!this.#byId.has(receiptId)) this.#take([[receiptId, { state: 'loading' }]]);
    await this.#look(receiptId);
    this.#plan();
  }

  /** A session was killed: perhaps somebody else ends them all. */
  onKilled(): void {
    if (!this.#isOn || this.#isAlarmed) return;
    this.#isAlarmed = true;
    if (this.#others !== null) clearTimeout(this.#others);
    this.#others = setTimeout(() => void this.#lookForOthers(), OTHERS_AFTER_MS);
  }

  /** Kills every session of a provider, or of all; `targets` are those that are known here. */
  async ask(provider: string | null, targets: readonly Session[]): Promise<void> {
    if (this.asking.state === 'working') return;
    const since = Date.now();
    this.asking = { state: 'working', since, targets };
    this.#keep({ by: this.#me(), since, after: this.receipts[0]?.receiptId ?? '' });
    try {
      const receipt = await this.#client.killAll(provider);
      this.#take([[receipt.receiptId, { state: 'known', receipt, asOf: Date.now(), error: null }]]);
      this.#settle({ state: 'answered', receiptId: receipt.receiptId });
    } catch (error) {
      if (error instanceof ApiError && error.failure.kind === 'refused') this.#settle({ state: 'failed', error: errorText(error) });
      else this.asking = { state: 'lost', since };
    }
    this.#plan();
  }

  /** What was asked for has been seen, or is not waited for any more. */
  seen(): void {
    if (this.asking.state !== 'working') this.#settle({ state: 'none' });
  }

  async #lookForOthers(): Promise<void> {
    this.#others = null;
    this.#isAlarmed = false;
    await this.load();
  }

  /** Is one of these what was asked for here? */
  #find(receipts: readonly KillReceipt[]): void {
    const asked = this.#asked();
    if (this.asking.state !== 'lost' || asked === null) return;
    const own = receipts.findLast(({ receiptId, by }) => receiptId > asked.after && by.id === this.#me());
    if (own !== undefined) this.#settle({ state: 'answered', receiptId: own.receiptId });
    else if (Date.now() - asked.since > LOST_MAX_MS) {
      const message = 'no receipt of this kill-all was found; the audit log says whether it was carried out';
      this.#settle({ state: 'failed', error: { message, code: null, requestId: null } });
    }
  }

  async #look(receiptId: string): Promise<void> {
    const before = this.of(receiptId);
    try {
      const receipt = await this.#client.killReceipt(receiptId);
      this.#take([[receiptId, { state: 'known', receipt, asOf: Date.now(), error: null }]]);
    } catch (failure) {
      const error = errorText(failure);
      this.#take([[receiptId, before.state === 'known' ? { ...before, error } : { state: 'failed', error }]]);
    }
  }

  /** Asks again in a while for what is not known to its end. */
  #plan(): void {
    if (!this.#isOn) return;
    this.#others ??= setTimeout(() => void this.#lookForOthers(), OTHERS_EVERY_MS);
    if (this.#timer !== null || !this.#isUnsettled()) return;
    this.#timer = setTimeout(() => void this.#again(), LOOK_EVERY_MS);
  }

  #isUnsettled(): boolean {
    return this.asking.state === 'lost' || this.#unsettled().length > 0;
  }

  #unsettled(): string[] {
    // A hub that has begun anew has it back after a while, and nobody has it for ever.
    const isOpen = (each: Followed): boolean => each.state === 'known' && each.receipt.state === 'pending' && (each.error === null || Date.now() < Date.parse(each.receipt.leaseUntil) + GRACE_MS);
    return [...this.#byId].filter(([, each]) => isOpen(each)).map(([id]) => id);
  }

  async #again(): Promise<void> {
    if (this.asking.state === 'lost') await this.load();
    await Promise.all(this.#unsettled().map((id) => this.#look(id)));
    this.#timer = null;
    this.#plan();
  }

  #take(known: readonly (readonly [string, Followed])[]): void {
    this.#byId = new Map([...this.#byId, ...known]);
  }

  #settle(asking: Asking): void {
    this.asking = asking;
    this.#kept?.removeItem(KEY);
  }

  #keep(asked: Asked): void {
    this.#kept?.setItem(KEY, JSON.stringify(asked));
  }

  #asked(): Asked | null {
    try {
      // Written above, or by nobody.
      const asked = JSON.parse(this.#kept?.getItem(KEY) ?? 'null') as Asked | null;
      return asked?.by === this.#me() ? asked : null;
    } catch {
      return null;
    }
  }
}
