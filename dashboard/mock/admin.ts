// What the fake hub keeps of people, tokens and retention. Knows no HTTP.

import type { ApiToken, Enrolment, Invitation, NewApiToken, NewInvitation, SearchHit, SearchPage, SignIn, User } from '../src/api/admin.ts';
import { MockError, type Actor, type World } from './world.ts';

const SNIPPET_CHARS = 160;

export class MockAdmin {
  readonly users: User[];
  readonly invitations: Invitation[] = [];
  readonly tokens = new Map<string, ApiToken[]>();
  readonly #signIns = new Map<string, SignIn[]>();
  readonly #passwords = new Map<string, string>();
  messageDays = 30;
  /** False pretends an older hub that has none of these routes. */
  isOffered = true;
  readonly #world: World;

  constructor(world: World, users: readonly Actor[]) {
    this.#world = world;
    this.users = users.map(({ id, name, email, role }) => ({ userId: id, name, email, role, disabled: false }));
  }

  enrol(actor: Actor, body: Record<string, unknown>): Enrolment {
    const node = String(body['node']);
    if (!/^[A-Za-z0-9_-]{1,64}$/.test(node)) throw new MockError(422, 'invalid', 'node must be 1 to 64 letters, digits, - or _');
    if (this.#world.nodes.has(node)) throw new MockError(409, 'nameTaken', `there is a node ${JSON.stringify(node)} already; revoke it first`);
    this.#world.record(actor, 'enrolNode', { node });
    const credentials = `-----BEGIN NATS USER JWT-----\n${Buffer.from(`{"sub":"${node}"}`).toString('base64')}\n------END NATS USER JWT------`;
    return { join: `mosaic-node join mm1_${this.#world.newId()}`, credentials };
  }

  revokeNode(actor: Actor, node: string): void {
    if (!this.#world.nodes.delete(node)) throw new MockError(404, 'notFound', `there is no node ${node}`);
    this.#world.record(actor, 'revokeNode', { node });
  }

  setRole(actor: Actor, id: string, role: string): void {
    const user = this.#user(id);
    if (id === actor.id) throw new MockError(409, 'wrongState', 'nobody changes their own role');
    user.role = role;
    this.#world.record(actor, 'updateUser', { metadata: { userId: id, role } });
  }

  setDisabled(actor: Actor, id: string, disabled: boolean): void {
    this.#user(id).disabled = disabled;
    this.#world.record(actor, 'updateUser', { metadata: { userId: id, disabled } });
  }

  removeUser(actor: Actor, id: string): void {
    this.users.splice(this.users.indexOf(this.#user(id)), 1);
    this.#world.record(actor, 'deleteUser', { metadata: { userId: id } });
  }

  invite(actor: Actor, body: Record<string, unknown>): NewInvitation {
    const id = this.#world.newId();
    const expiresAt = new Date(Date.now() + 7 * 86_400_000).toISOString();
    const email = String(body['email'] ?? '');
    if (!email.includes('@')) throw new MockError(422, 'invalid', `${JSON.stringify(email)} is not an email address`);
    const invitation: Invitation = { invitationId: id, email, role: String(body['role']), createdAt: this.#world.time(), expiresAt };
    this.invitations.push(invitation);
    this.#world.record(actor, 'createInvitation', { metadata: { invitationId: id } });
    return { invitation, link: `/mission-control/invitation#mi_${id}` };
  }

  withdraw(actor: Actor, id: string): void {
    const at = this.invitations.findIndex((each) => each.invitationId === id);
    if (at < 0) throw new MockError(404, 'notFound', 'there is no such invitation');
    this.invitations.splice(at, 1);
    this.#world.record(actor, 'deleteInvitation', { metadata: { invitationId: id } });
  }

  createToken(actor: Actor, name: string, role: string): NewApiToken {
    const expiresAt = new Date(Date.now() + 90 * 86_400_000).toISOString();
    const apiToken: ApiToken = { tokenId: this.#world.newId(), name, role, createdAt: this.#world.time(), expiresAt };
    this.tokens.set(actor.id, [...(this.tokens.get(actor.id) ?? []), apiToken]);
    this.#world.record(actor, 'createToken', { metadata: { tokenId: apiToken.tokenId, name } });
    return { apiToken, token: `mm_${this.#world.newId()}${this.#world.newId()}` };
  }

  revokeToken(actor: Actor, id: string): void {
    this.tokens.set(actor.id, (this.tokens.get(actor.id) ?? []).filter((token) => token.tokenId !== id));
    this.#world.record(actor, 'deleteToken', { metadata: { tokenId: id } });
  }

  signedIn(actor: Actor, id: string, userAgent: string): void {
    const list = this.#signIns.get(actor.id) ?? [];
    this.#signIns.set(actor.id, [...list, { sessionId: id, createdAt: this.#world.time(), expiresAt: new Date(Date.now() + 12 * 3_600_000).toISOString(), agent: userAgent, address: '127.0.0.1', current: false }]);
  }

  signIns(actor: Actor, current: string): SignIn[] {
    return (this.#signIns.get(actor.id) ?? []).map((each) => ({ ...each, current: each.sessionId === current }));
  }

  endSignIn(actor: Actor, id: string): void {
    this.#signIns.set(actor.id, (this.#signIns.get(actor.id) ?? []).filter((each) => each.sessionId !== id));
  }

  isPassword(user: Actor, password: unknown, usual: string): boolean {
    return password === (this.#passwords.get(user.id) ?? usual);
  }

  changePassword(actor: Actor, body: Record<string, unknown>, usual: string): void {
    if (!this.isPassword(actor, body['old'], usual)) throw new MockError(422, 'badCredentials', 'the password of now is wrong');
    this.#passwords.set(actor.id, String(body['new']));
    this.#world.record(actor, 'changePassword');
  }

  search(q: string, limit: number, from: number): SearchPage {
    const words = q.toLowerCase().split(/\s+/).filter((word) => word !== '');
    if (words.length === 0) throw new MockError(422, 'invalid', 'q must not be empty');
    const hits: SearchHit[] = [];
    let lookedAt = 0;
    for (const { messages } of this.#world.sessions.values()) {
      for (const message of messages) {
        lookedAt += 1;
        const text = message.content.toLowerCase();
        if (!words.every((word) => text.includes(word))) continue;
        const from = Math.max(0, text.indexOf(words[0] ?? '') - SNIPPET_CHARS / 4);
        const { sessionId, seq, role, timestamp } = message;
        hits.push({ sessionId, seq, role, timestamp, snippet: message.content.slice(from, from + SNIPPET_CHARS) });
      }
    }
    hits.sort((a, b) => b.timestamp.localeCompare(a.timestamp) || b.seq - a.seq);
    const hasMore = hits.length > from + limit;
    return { hits: hits.slice(from, from + limit), hasMore, lookedAt, ...(hasMore ? { next: String(from + limit) } : {}) };
  }

  #user(id: string): User {
    const found = this.users.find((user) => user.userId === id);
    if (found === undefined) throw new MockError(404, 'notFound', `there is no user ${id}`);
    return found;
  }
}
