// The routes of settings and search, with their shapes. In a file of its own, by hand, until the hub's document has
// them (see `types.ts`). Every answer may lack what an older hub does not know, and a hub may offer none of it.

import { api } from '../routes.ts';
import type { HubClient } from './client.ts';
import type { Role, UserRole } from './types.ts';

export interface User {
  id: string;
  email: string;
  name: string;
  role: UserRole;
  createdAt?: string;
  lastSeenAt?: string;
}

export interface Invitation {
  id: string;
  email?: string;
  role: UserRole;
  createdAt?: string;
  expiresAt?: string;
  acceptedAt?: string;
}

/** Told once. */
export interface NewInvitation {
  invitation: Invitation;
  /** What the invited person opens. */
  link: string;
}

export interface ApiToken {
  id: string;
  name: string;
  role?: UserRole;
  createdAt?: string;
  lastUsedAt?: string;
  expiresAt?: string;
}

/** Told once. */
export interface NewApiToken {
  token: ApiToken;
  secret: string;
}

/** A browser somebody is signed in with. */
export interface SignIn {
  id: string;
  createdAt: string;
  lastSeenAt?: string;
  userAgent?: string;
  address?: string;
  isCurrent?: boolean;
}

/** What a new node is started with. Told once. */
export interface Enrolment {
  /** The command to run on the host. */
  joinLine: string;
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

export class Admin {
  readonly #client: Pick<HubClient, 'get' | 'write' | 'tell'>;

  constructor(client: Pick<HubClient, 'get' | 'write' | 'tell'>) {
    this.#client = client;
  }

  enrol = (node: string): Promise<Enrolment> => this.#client.write('POST', api.nodes(), { node });
  revokeNode = (node: string): Promise<void> => this.#client.tell('DELETE', api.node(node));

  users = async (): Promise<User[]> => (await this.#client.get<{ users: User[] }>(api.users())).users;
  setRole = (id: string, role: UserRole): Promise<void> => this.#client.tell('PATCH', api.user(id), { role });
  removeUser = (id: string): Promise<void> => this.#client.tell('DELETE', api.user(id));

  invitations = async (): Promise<Invitation[]> =>
    (await this.#client.get<{ invitations: Invitation[] }>(api.invitations())).invitations;
  invite = (email: string, role: UserRole): Promise<NewInvitation> =>
    this.#client.write('POST', api.invitations(), email === '' ? { role } : { email, role });

  tokens = async (): Promise<ApiToken[]> => (await this.#client.get<{ tokens: ApiToken[] }>(api.tokens())).tokens;
  createToken = (name: string): Promise<NewApiToken> => this.#client.write('POST', api.tokens(), { name });
  revokeToken = (id: string): Promise<void> => this.#client.tell('DELETE', api.token(id));

  changePassword = (currentPassword: string, newPassword: string): Promise<void> =>
    this.#client.tell('POST', api.password(), { currentPassword, newPassword });
  signIns = async (): Promise<SignIn[]> => (await this.#client.get<{ sessions: SignIn[] }>(api.signIns())).sessions;
  endSignIn = (id: string): Promise<void> => this.#client.tell('DELETE', api.signIn(id));

  retention = (): Promise<Retention> => this.#client.get(api.retention());
  setRetention = (messageDays: number): Promise<void> => this.#client.tell('PUT', api.retention(), { messageDays });

  search = (q: string, limit: number): Promise<{ hits: SearchHit[]; hasMore: boolean }> =>
    this.#client.get(api.search({ q, limit }));
}
