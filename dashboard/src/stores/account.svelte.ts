// Who is signed in.
//
//   unknown ──► signedIn ◄──► signedOut
//      └──────────► failed ──► (tried again)

import type { HubClient } from '../api/client.ts';
import { ApiError, errorText, type ErrorText } from '../api/errors.ts';
import type { Me, UserRole } from '../api/types.ts';

export type Account =
  | { state: 'unknown' }
  | { state: 'signedOut'; hasExpired: boolean }
  | { state: 'signedIn'; me: Me }
  | { state: 'failed'; error: ErrorText };

const WORKSPACE_KEY = 'mosaic.workspace';

export class AccountStore {
  account = $state.raw<Account>({ state: 'unknown' });
  readonly #client: HubClient;

  constructor(client: HubClient) {
    this.#client = client;
    client.workspace = localStorage.getItem(WORKSPACE_KEY);
  }

  /** The role in the chosen workspace; an observer's until it is known. */
  get role(): UserRole {
    return this.account.state === 'signedIn' ? this.account.me.role : 'observer';
  }

  /** Who is signed in; nobody if empty. */
  get userId(): string {
    return this.account.state === 'signedIn' ? this.account.me.user.id : '';
  }

  async load(): Promise<void> {
    try {
      const me = await this.#client.me();
      // Whoever has several must name one in every call; until they choose, the one this answer is about.
      if (me.workspaces.length > 1) this.#client.workspace = me.workspace;
      this.account = { state: 'signedIn', me };
    } catch (error) {
      if (error instanceof ApiError && error.isSignedOut) {
        this.account = { state: 'signedOut', hasExpired: false };
        return;
      }
      if (this.#client.workspace !== null && error instanceof ApiError && error.failure.kind === 'refused') {
        // A workspace chosen long ago that is not ours any more.
        this.#client.workspace = null;
        localStorage.removeItem(WORKSPACE_KEY);
        return await this.load();
      }
      this.account = { state: 'failed', error: errorText(error) };
    }
  }

  async signIn(email: string, password: string): Promise<void> {
    await this.#client.signIn(email, password);
    await this.load();
  }

  async signOut(): Promise<void> {
    await this.#client.signOut();
    this.account = { state: 'signedOut', hasExpired: false };
  }

  /** The hub said 401. */
  onSignedOut(): void {
    if (this.account.state === 'signedIn') this.account = { state: 'signedOut', hasExpired: true };
  }

  chooseWorkspace(id: string): void {
    localStorage.setItem(WORKSPACE_KEY, id);
    location.reload();
  }
}
