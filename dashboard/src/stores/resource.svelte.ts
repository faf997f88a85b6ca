// Something of the hub that one part of the page shows and changes.
//
//   loading ──► ready ◄──► (loaded again)
//      ├──────► failed ──► (tried again)
//      └──────► notOffered: this hub has no such route

import { ApiError, errorText, type ErrorText } from '../api/errors.ts';

export type Loaded<T> =
  | { state: 'loading' }
  | { state: 'ready'; value: T }
  | { state: 'failed'; error: ErrorText }
  | { state: 'notOffered' };

/** True where the hub does not know the route at all: 404 or 405. */
export function isNotOffered(error: unknown): boolean {
  if (!(error instanceof ApiError)) return false;
  const { failure } = error;
  return (failure.kind === 'refused' || failure.kind === 'nonsense') && (failure.status === 404 || failure.status === 405);
}

export class Resource<T> {
  all = $state.raw<Loaded<T>>({ state: 'loading' });
  readonly #load: () => Promise<T>;
  #asked = 0;

  constructor(load: () => Promise<T>) {
    this.#load = load;
  }

  /** Asks the hub. What is shown already stays until there is something better, also when that fails. */
  async load(): Promise<void> {
    this.#asked += 1;
    const mine = this.#asked;
    try {
      const value = await this.#load();
      if (mine === this.#asked) this.all = { state: 'ready', value };
    } catch (error) {
      if (mine !== this.#asked || this.all.state === 'ready') return;
      this.all = isNotOffered(error) ? { state: 'notOffered' } : { state: 'failed', error: errorText(error) };
    }
  }
}
