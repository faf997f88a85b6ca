// Who writes on which terminal, which sessions need two people, and what waits for the second of them.
//
// Laws:
// 1. The hub tells all of it for one session at a time, and at the begin of every stream of all sessions: what is not
//    told there is not so any more.
// 2. Whoever asked for something is told once what became of it, whoever decided.

import type { HubClient } from '../api/client.ts';
import type { Approval, Control, Session } from '../api/types.ts';
import type { Toasts } from './toasts.svelte.ts';

/** How deep the ancestors of a session are followed. */
const ANCESTORS_MAX = 100;
const ACTIONS: Record<string, string> = {
  kill: 'Kill',
  terminate: 'Stop',
  inject: 'Send a message',
  answer: 'Answer',
  control: 'Type into the terminal',
  unmark: 'Take the four-eyes mark off',
};

/** What somebody asked for, in words. */
export function wishText(action: string): string {
  return ACTIONS[action] ?? action;
}

/** What became of a request, in words; null while it waits. */
export function settledText({ state, decidedBy, outcome }: Approval): string | null {
  const by = decidedBy === undefined ? '' : ` by ${decidedBy.name}`;
  const why = outcome === undefined || outcome === '' ? '' : `: ${outcome}`;
  switch (state) {
    case 'open':
      return null;
    case 'approved':
      return `Agreed to${by}; it is being done`;
    case 'done':
      return `Agreed to${by}, and done`;
    case 'failed':
      return `Agreed to${by}, but it failed${why}`;
    case 'unknown':
      return `Agreed to${by}; whether it was done is not known${why}`;
    case 'refused':
      return `Refused${by}${why}`;
    case 'withdrawn':
      return 'Taken back';
    case 'expired':
      return 'Its time is over: nobody decided, and nothing was done';
    default:
      return `${state}${why}`;
  }
}

export class Controls {
  #byId = $state.raw<ReadonlyMap<string, Control>>(new Map());
  readonly #client: HubClient;
  readonly #toasts: Toasts;
  readonly #me: () => string;
  readonly #told = new Set<string>();

  constructor(client: HubClient, toasts: Toasts, me: () => string) {
    this.#client = client;
    this.#toasts = toasts;
    this.#me = me;
  }

  /** Who this page speaks for. */
  get me(): string {
    return this.#me();
  }

  /** Whether this person has control of a terminal; a script of theirs is somebody else. */
  isMine(sessionId: string): boolean {
    const writer = this.of(sessionId)?.writer;
    return writer !== undefined && writer.userId === this.#me() && writer.tokenId === undefined;
  }

  of(sessionId: string): Control | null {
    return this.#byId.get(sessionId) ?? null;
  }

  /** The marked session that makes this one need two: itself, or one it descends from. */
  markOver(session: Session, find: (id: string) => Session | null): Control | null {
    let at: Session | null = session;
    for (let i = 0; at !== null && i < ANCESTORS_MAX; i += 1) {
      const control = this.of(at.sessionId);
      if (control?.fourEyes !== undefined) return control;
      at = at.parentSessionId === undefined ? null : find(at.parentSessionId);
    }
    return null;
  }

  /** Everything that waits, the oldest first. */
  readonly open: readonly Approval[] = $derived(
    [...this.#byId.values()]
      .flatMap((control) => control.requests)
      .filter((request) => request.state === 'open')
      .sort((a, b) => a.askedAt.localeCompare(b.askedAt) || a.approvalId.localeCompare(b.approvalId)),
  );

  /** What of it this person could decide: what others have asked for. */
  readonly forMe: readonly Approval[] = $derived.by(() => this.open.filter((request) => request.by.id !== this.#me()));

  onControl(control: Control): void {
    const next = new Map(this.#byId);
    if (control.writer === undefined && control.fourEyes === undefined && control.requests.length === 0) next.delete(control.sessionId);
    else next.set(control.sessionId, control);
    const before = this.#byId.get(control.sessionId)?.requests ?? [];
    this.#byId = next;
    for (const request of control.requests) {
      const wasOpen = before.some((each) => each.approvalId === request.approvalId && (each.state === 'open' || each.state === 'approved'));
      if (wasOpen) this.#tell(request);
    }
  }

  onControls(controls: readonly Control[]): void {
    this.#byId = new Map(controls.map((control) => [control.sessionId, control]));
  }

  /** A stream without a past begins: nothing is so that is not told. */
  onFresh(): void {
    this.#byId = new Map();
  }

  take = (id: string): Promise<void> =>
    this.#try('Control could not be taken', async () => {
      const { control, approval } = await this.#client.takeControl(id);
      if (control !== undefined) this.onControl(control);
      if (approval !== undefined) this.#toasts.show('info', 'A second person has been asked', 'This session is marked: you can type when somebody else agrees.');
    });
  release = (id: string): Promise<void> =>
    this.#try('Control could not be given back', async () => this.onControl((await this.#client.releaseControl(id)).control));
  approve = (approval: Approval): Promise<void> =>
    this.#try('It could not be agreed to', async () => {
      const after = (await this.#client.approve(approval.approvalId)).approval;
      const text = settledText(after) ?? '';
      if (after.state === 'done') this.#toasts.show('good', wishText(after.action), text);
      else this.#toasts.error(wishText(after.action), new Error(text));
    });
  refuse = (approval: Approval, reason: string): Promise<void> =>
    this.#try('It could not be refused', async () => void (await this.#client.refuse(approval.approvalId, reason)));
  mark = (id: string, reason: string): Promise<void> =>
    this.#try('The session could not be marked', async () => void (await this.#client.setFourEyes(id, { fourEyes: true, reason })));
  unmark = (id: string): Promise<void> =>
    this.#try('The mark could not be taken off', async () => {
      const { approval } = await this.#client.setFourEyes(id, { fourEyes: false });
      if (approval !== undefined) this.#toasts.show('info', 'A second person has been asked', 'The mark goes when somebody else agrees.');
    });

  async #try(what: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#toasts.error(what, error);
    }
  }

  #tell(request: Approval): void {
    if (request.by.id !== this.#me() || ['open', 'approved', 'withdrawn'].includes(request.state) || this.#told.has(request.approvalId)) return;
    this.#told.add(request.approvalId);
    const [title, text] = [wishText(request.action), settledText(request) ?? ''];
    if (request.state === 'done') this.#toasts.show('good', title, text);
    else this.#toasts.error(title, new Error(text));
  }
}
