// What an operator does to one session, with the question before it and the honest word after it.

import type { HubClient } from '../api/client.ts';
import type { Session } from '../api/types.ts';
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

  constructor(client: HubClient, fleet: Fleet, toasts: Toasts, confirm: Confirm) {
    this.#client = client;
    this.#fleet = fleet;
    this.#toasts = toasts;
    this.#confirm = confirm;
  }

  /** Does it, after asking where it cannot be undone. Resolves when the hub has answered, or nothing was done. */
  async act(session: Session, verb: SessionVerb): Promise<void> {
    const title = sessionTitle(session);
    if (verb === 'kill' && !(await this.#confirm.ask(killQuestion(session)))) return;
    if (verb === 'terminate' && !(await this.#confirm.ask(stopQuestion(session)))) return;
    try {
      const after = await this.#client.act(session.sessionId, verb);
      this.#fleet.learn([after]);
      const { tone, text } = outcome(after, verb);
      this.#toasts.show(tone, title, text);
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

/** What the session says of itself after the action: never more than is known. */
export function outcome(after: Session, verb: SessionVerb): { tone: 'good' | 'info'; text: string } {
  const reason = after.statusReason === undefined ? '' : ` (${after.statusReason})`;
  const isDone: Record<SessionVerb, boolean> = {
    pause: after.status === 'paused',
    resume: after.status !== 'paused' && !isEnded(after.status),
    terminate: isEnded(after.status),
    kill: isEnded(after.status),
  };
  if (isDone[verb]) return { tone: 'good', text: `It is now ${after.status}${reason}.` };
  return { tone: 'info', text: `Asked for; the session is still ${after.status}${reason}.` };
}
