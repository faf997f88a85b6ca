// Answers to what agents ask, on their way.
//
//   (none) ──► sending ──► (none: the session tells that it is answered)
//                 └──────► failed ──► (tried again)

import type { HubClient } from '../api/client.ts';
import { errorText, type ErrorText } from '../api/errors.ts';
import type { AnswerRequest, Session } from '../api/types.ts';

export type AnswerState =
  | { state: 'open' }
  | { state: 'sending'; optionId: string | null }
  | { state: 'failed'; error: ErrorText };

const OPEN: AnswerState = { state: 'open' };

export class Answers {
  #states = $state.raw<ReadonlyMap<string, AnswerState>>(new Map());
  readonly #client: Pick<HubClient, 'answer'>;
  readonly #learn: (session: Session) => void;

  constructor(client: Pick<HubClient, 'answer'>, learn: (session: Session) => void) {
    this.#client = client;
    this.#learn = learn;
  }

  of(requestId: string): AnswerState {
    return this.#states.get(requestId) ?? OPEN;
  }

  /** Sends an answer; one at a time for each request. */
  async send(sessionId: string, answer: AnswerRequest): Promise<void> {
    const { requestId, optionId } = answer;
    if (this.of(requestId).state === 'sending') return;
    this.#set(requestId, { state: 'sending', optionId: optionId ?? null });
    try {
      const after = await this.#client.answer(sessionId, answer);
      // Where it waits for a second person, the request says so beside what is asked.
      if ('session' in after) this.#learn(after.session);
      this.#set(requestId, OPEN);
    } catch (error) {
      this.#set(requestId, { state: 'failed', error: errorText(error) });
    }
  }

  #set(requestId: string, state: AnswerState): void {
    const states = new Map(this.#states);
    if (state.state === 'open') states.delete(requestId);
    else states.set(requestId, state);
    this.#states = states;
  }
}
