// The routes of settings and search, with their shapes. An older hub may offer none of them.

import { api } from '../routes.ts';
import type { HubClient } from './client.ts';
import type { Role, UserRole } from './types.ts';

export interface User {
  userId: string;
  email: string;
  name: string;
  role: UserRole;
  /** True while an admin keeps them out. */
  disabled: boolean;
}

export interface Invitation {
  invitationId: string;
  email: string;
  role: UserRole;
  createdAt: string;
  expiresAt: string;
}

/** Told once. */
export interface NewInvitation {
  invitation: Invitation;
  /** What the invited person opens. */
  link: string;
}

export interface ApiToken {
  tokenId: string;
  name: string;
  role: UserRole;
  createdAt: string;
  lastUsedAt?: string;
  expiresAt: string;
}

/** Told once. */
export interface NewApiToken {
  apiToken: ApiToken;
  token: string;
}

/** A browser somebody is signed in with. */
export interface SignIn {
  sessionId: string;
  createdAt: string;
  expiresAt: string;
  agent?: string;
  address?: string;
  current: boolean;
}

/** What a new node is started with. Told once. */
export interface Enrolment {
  /** The command to run on the host. */
  join: string;
  credentials: string;
}

export interface Retention {
  messageDays: number;
}

export interface SearchHit {
  sessionId: string;
  seq: number;
  role: Role;
  timestamp: string;
  snippet: string;
}

export interface SearchPage {
  hits: SearchHit[];
  /** Not all that is kept was looked at: go on at `next`. */
  hasMore: boolean;
  next?: string;
  lookedAt: number;
}

export class Admin {
  readonly #client: Pick<HubClient, 'get' | 'write' | 'tell'>;

  constructor(client: Pick<HubClient, 'get' | 'write' | 'tell'>) {
    this.#client = client;
  }

  enrol = (node: string): Promise<Enrolment> => this.#client.write('POST', api.nodes(), { node });
  revokeNode = (node: string): Promise<void> => this.#client.tell('DELETE', api.node(node));

  users = async (): Promise<User[]> => (await this.#client.get<{ users: User[] }>(api.users())).users;
  setRole = (id: string, role: UserRole): Promise<void> => this.#client.tell('PATCH', api.user(id), { role });
  setDisabled = (id: string, disabled: boolean): Promise<void> => this.#client.tell('PATCH', api.user(id), { disabled });
  removeUser = (id: string): Promise<void> => this.#client.tell('DELETE', api.user(id));

  invitations = async (): Promise<Invitation[]> =>
    (await this.#client.get<{ invitations: Invitation[] }>(api.invitations())).invitations;
  invite = (email: string, role: UserRole): Promise<NewInvitation> =>
    this.#client.write('POST', api.invitations(), { email, role });
  accept = (token: string, name: string, password: string): Promise<void> =>
    this.#client.tell('POST', api.acceptInvitation(), name === '' ? { token, password } : { token, name, password });
  withdraw = (id: string): Promise<void> => this.#client.tell('DELETE', api.invitation(id));

  tokens = async (): Promise<ApiToken[]> => (await this.#client.get<{ tokens: ApiToken[] }>(api.tokens())).tokens;
  createToken = (name: string, role: UserRole): Promise<NewApiToken> => this.#client.write('POST', api.tokens(), { name, role });
  revokeToken = (id: string): Promise<void> => this.#client.tell('DELETE', api.token(id));

  changePassword = (old: string, wanted: string): Promise<void> => this.#client.tell('POST', api.password(), { old, new: wanted });
  signIns = async (): Promise<SignIn[]> => (await this.#client.get<{ sessions: SignIn[] }>(api.signIns())).sessions;
  endSignIn = (id: string): Promise<void> => this.#client.tell('DELETE', api.signIn(id));

  retention = (): Promise<Retention> => this.#client.get(api.retention());
  setRetention = (messageDays: number): Promise<void> => this.#client.tell('PUT', api.retention(), { messageDays });

  search = (q: string, limit: number, cursor?: string): Promise<SearchPage> =>
    this.#client.get(api.search(cursor === undefined ? { q, limit } : { q, limit, cursor }));
}
