// What an operator does to one session, with the question before it and the honest word after it.

import type { HubClient } from '../api/client.ts';
import type { ActReply, Session } from '../api/types.ts';
import type { SessionVerb } from '../routes.ts';
import type { Confirm } from './confirm.svelte.ts';
import type { Fleet } from './fleet.svelte.ts';
import { isEnded, sessionTitle } from './status.ts';
import type { Toasts } from './toasts.svelte.ts';

const DOING: Record<SessionVerb, string> = {
  pause: 'Pausing',
  resume: 'Resuming',
  terminate: 'Stopping',
  kill: 'Killing',
};

export class Actions {
  readonly #client: HubClient;
  readonly #fleet: Fleet;
  readonly #toasts: Toasts;
  readonly #confirm: Confirm;
  readonly #me: () => string;

  constructor(client: HubClient, fleet: Fleet, toasts: Toasts, confirm: Confirm, me: () => string) {
    this.#client = client;
    this.#fleet = fleet;
    this.#toasts = toasts;
    this.#confirm = confirm;
    this.#me = me;
  }

  /** Does it, after asking where it cannot be undone. Resolves when the hub has answered, or nothing was done. */
  async act(session: Session, verb: SessionVerb): Promise<void> {
    const title = sessionTitle(session);
    if (verb === 'kill' && !(await this.#confirm.ask(killQuestion(session)))) return;
    if (verb === 'terminate' && !(await this.#confirm.ask(stopQuestion(session)))) return;
    try {
      const after = await this.#client.act(session.sessionId, verb);
      if ('approval' in after) {
        const isOwn = after.approval.by.id === this.#me();
        const text = isOwn ? 'This session is marked: it is done when somebody else agrees.' : `${after.approval.by.name} has asked for this already: approve it there.`;
        this.#toasts.show('info', `A second person ${isOwn ? 'has been asked' : 'is needed'}`, text);
        return;
      }
      this.#fleet.learn([after.session]);
      const { tone, text } = outcome(after, verb);
      if (tone === 'bad') this.#toasts.error(title, new Error(text));
      else this.#toasts.show(tone, title, text);
    } catch (error) {
      this.#toasts.error(`${DOING[verb]} “${title}” did not work`, error);
    }
  }
}

function killQuestion(session: Session): { title: string; text: string; action: string; cancel: string } {
  return {
    title: `Kill “${sessionTitle(session)}”?`,
    text: `Its whole process tree on ${session.node} is ended at once. What it was doing is lost, and this cannot be undone.`,
    action: 'Kill now',
    cancel: 'Keep it',
  };
}

function stopQuestion(session: Session): { title: string; text: string; action: string; cancel: string } {
  return {
    title: `Stop “${sessionTitle(session)}”?`,
    text: 'The agent is asked to end and may finish its step. A session that has ended cannot be started again.',
    action: 'Stop',
    cancel: 'Keep it',
  };
}

/** What the session and the proof of its end say after the action: never more than is known. */
export function outcome(after: ActReply, verb: SessionVerb): { tone: 'good' | 'info' | 'bad'; text: string } {
  const { session, report } = after;
  if (report !== undefined && report.survivors.length > 0) {
    const names = report.survivors.map(({ pid, name }) => `${name} (${pid})`).join(', ');
    return { tone: 'bad', text: `Not all of it has ended. Still alive: ${names}.` };
  }
  const reason = session.statusReason === undefined ? '' : ` (${session.statusReason})`;
  const isDone: Record<SessionVerb, boolean> = {
    pause: session.status === 'paused',
    resume: session.status !== 'paused' && !isEnded(session.status),
    terminate: isEnded(session.status),
    kill: isEnded(session.status),
  };
  if (!isDone[verb]) return { tone: 'info', text: `Asked for; the session is still ${session.status}${reason}.` };
  const count = report?.ended.length ?? 0;
  const proof = count === 0 ? '' : ` ${count} ${count === 1 ? 'process' : 'processes'} ended.`;
  return { tone: 'good', text: `It is now ${session.status}${reason}.${proof}` };
}
