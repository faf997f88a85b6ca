// The fake hub over HTTP: the routes of the real one, a few to steer it from tests (`/mock/…`), and for browser
// tests the built page under the same headers as the real hub sends.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { readFile } from 'node:fs/promises';
import { extname, join, normalize } from 'node:path';
import type { AddressInfo } from 'node:net';
import type { AgentProviderInput, AnswerRequest, AuditRow, Json, Metadata, NodeInfo, Session, SpawnRequest } from '../src/api/types.ts';
import { addMany, node as makeNode } from './fleet.ts';
import { MockAdmin } from './admin.ts';
import { MockControls } from './control.ts';
import { MockKillAlls } from './kill-all.ts';
import { MockError, type Actor, type World } from './world.ts';

/** What the page must be able to live with. The hub sends the same. */
export const CONTENT_SECURITY_POLICY =
  "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; " +
  "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

export const MOCK_PASSWORD = 'mission-control';
const USERS: (Actor & { role: 'admin' | 'operator' | 'observer' })[] = [
  { id: 'u0', name: 'Ada', email: 'admin@example.org', role: 'admin' },
  { id: 'u1', name: 'Grace', email: 'operator@example.org', role: 'operator' },
  { id: 'u2', name: 'Ole', email: 'observer@example.org', role: 'observer' },
];
const COOKIE = 'mosaic_session';
const HEARTBEAT_MS = 15_000;
/** A viewer that does not read is cut and may resume, as at the real hub. */
const BACKLOG_MAX_BYTES = 8 * 1024 * 1024;

type Body = Record<string, unknown>;

export class MockHub {
  world: World;
  admin: MockAdmin;
  controls: MockControls;
  killAlls: MockKillAlls;
  readonly #makeWorld: () => World;
  readonly #cookies = new Map<string, (typeof USERS)[number]>();
  readonly #streams = new Set<ServerResponse>();
  streamsOpened = 0;

  constructor(makeWorld: () => World) {
    this.#makeWorld = makeWorld;
    this.world = makeWorld();
    this.admin = new MockAdmin(this.world, USERS);
    this.controls = new MockControls(this.world);
    this.killAlls = new MockKillAlls(this.world, this.controls);
    this.world.start();
  }

  stop(): void {
    this.world.stop();
    this.cut();
  }

  /** Ends every stream, as a restart of the hub would. */
  cut(): void {
    for (const stream of this.#streams) stream.destroy();
  }

  /** Answers a request of the API; false if it is not one. */
  async handle(request: IncomingMessage, response: ServerResponse): Promise<boolean> {
    const url = new URL(request.url ?? '/', 'http://mock');
    if (!url.pathname.startsWith('/api/') && !url.pathname.startsWith('/mock/')) return false;
    try {
      await this.#route(request, response, url);
    } catch (error) {
      const known = error instanceof MockError ? error : new MockError(500, 'internal', String(error));
      if (known.retryAfter !== null) response.setHeader('Retry-After', String(known.retryAfter));
      this.#json(response, known.status, {
        error: { code: known.code, message: known.message, requestId: `req-${this.world.newId().slice(-6)}` },
      });
    }
    return true;
  }

  async #route(request: IncomingMessage, response: ServerResponse, url: URL): Promise<void> {
    const body = request.method === 'GET' ? {} : await readBody(request);
    const path = url.pathname;
    const ok = (json: Json | object): void => this.#json(response, 200, json);
    const route = `${request.method ?? 'GET'} ${path}`;

    if (path.startsWith('/mock/')) return ok(this.#steer(path, body));
    if (route === 'POST /api/auth/login') return this.#login(request, response, body);
    const user = this.#cookies.get(cookieOf(request) ?? '');
    if (route === 'POST /api/invitations/accept') throw new MockError(404, 'notFound', 'this invitation is not good, or not any more; ask for a new one');
    if (user === undefined) throw new MockError(401, 'unauthorized', 'sign in first');
    const write = (): void => {
      if (user.role === 'observer') throw new MockError(403, 'forbidden', 'observers may not do this');
    };
    const configure = (): void => {
      if (user.role !== 'admin') throw new MockError(403, 'forbidden', `your role, ${user.role}, does not allow this`);
    };
    switch (route) {
      case 'GET /api/agent-providers':
        return ok({ agentProviders: this.world.listAgentProviders() });
      case 'POST /api/agent-providers':
        configure();
        return this.#json(response, 201, { agentProvider: this.world.saveAgentProvider(user, null, body as Partial<AgentProviderInput>) });
      case 'POST /api/agent-providers/test':
        configure();
        return ok(this.world.testAgentProvider(user, body as Partial<AgentProviderInput> & { id?: string }));
      case 'POST /api/auth/logout':
        this.#cookies.delete(cookieOf(request) ?? '');
        return void response.writeHead(204).end();
      case 'GET /api/auth/me': {
        const { role, ...who } = user;
        return ok({ user: who, workspace: 'default', role, workspaces: [{ id: 'default', role }] });
      }
      case 'GET /api/nodes':
        return ok({ nodes: [...this.world.nodes.values()] });
      case 'GET /api/mission-control/stream':
        return this.#stream(response, url);
      case 'GET /api/mission-control/sessions': {
        const all = url.searchParams.get('all') === 'true';
        const sessions = [...this.world.sessions.values()].filter((s) => all || !s.isEnded);
        return ok({ sessions: sessions.map((s) => s.session) });
      }
      case 'POST /api/mission-control/sessions':
        write();
        return this.#json(response, 201, { session: this.world.spawn(user, body as unknown as SpawnRequest) });
      case 'POST /api/mission-control/kill-all':
        write();
        return ok(await this.killAlls.run(user, body));
      case 'GET /api/mission-control/kill-all':
        return ok({ receipts: this.killAlls.receipts });
      case 'GET /api/mission-control/layout':
        return ok(this.world.layouts.get(user.id) ?? { layout: null, rev: 0 });
      case 'PUT /api/mission-control/layout': {
        const known = this.world.layouts.get(user.id) ?? { layout: null, rev: 0 };
        if (body['rev'] !== known.rev) throw new MockError(409, 'conflict', 'the layout was changed elsewhere');
        const next = { layout: body['layout'] as Json, rev: known.rev + 1 };
        this.world.layouts.set(user.id, next);
        return ok(next);
      }
      case 'GET /api/mission-control/audit':
        return ok(this.#audit(url));
    }
    if (this.admin.isOffered && this.#administer(request, response, url, user, body, configure)) return;
    const provider = /^\/api\/agent-providers\/([^/]+)$/.exec(path)?.[1];
    if (provider !== undefined) {
      configure();
      const which = decodeURIComponent(provider);
      if (request.method === 'PATCH') return ok({ agentProvider: this.world.saveAgentProvider(user, which, body as Partial<AgentProviderInput>) });
      if (request.method === 'DELETE') {
        this.world.removeAgentProvider(user, which);
        return void response.writeHead(204).end();
      }
    }
    const receipt = /^\/api\/mission-control\/kill-all\/([^/]+)$/.exec(path)?.[1];
    if (receipt !== undefined && request.method === 'GET') return ok(this.killAlls.find(decodeURIComponent(receipt)));
    const decision = /^\/api\/mission-control\/approvals\/([^/]+)\/(approve|refuse)$/.exec(path);
    if (decision !== null) {
      write();
      return ok({ approval: this.controls.decide(user, decodeURIComponent(decision[1] ?? ''), decision[2] === 'approve', String(body['reason'] ?? '')) });
    }
    const match = /^\/api\/mission-control\/sessions\/([^/]+)(?:\/(.+))?$/.exec(path);
    if (match?.[1] === undefined) throw new MockError(404, 'unknownRoute', `no route ${route}`);
    const id = decodeURIComponent(match[1]);
    const sub = `${request.method ?? 'GET'} ${match[2] ?? ''}`;
    if (sub === 'GET ') return ok({ session: this.world.find(id).session });
    if (sub === 'GET messages') return ok(this.#messages(id, url));
    if (sub === 'GET terminal/recording') {
      const recording = this.world.find(id).recording();
      return void response.writeHead(200, { 'Content-Type': 'application/x-asciicast' }).end(recording);
    }
    write();
    const waits = (approval: object): void => this.#json(response, 202, { approval });
    if (this.controls.isMarked(id)) {
      const { content } = body as { content?: string };
      switch (sub) {
        case 'POST inject': {
          const approval = this.controls.ask(user, id, 'inject', content, () => void this.world.inject(user, id, body as { content: string }));
          return this.#json(response, 202, { messageId: approval.approvalId, delivery: 'awaitsApproval', approval });
        }
        case 'POST answer':
          return waits(this.controls.ask(user, id, 'answer', undefined, () => void this.world.answer(user, id, body as unknown as AnswerRequest)));
        case 'POST terminate':
        case 'POST kill':
          return waits(this.controls.ask(user, id, sub.slice(5), undefined, () => void this.world.act(user, id, sub.slice(5) as 'kill')));
      }
    }
    switch (sub) {
      case 'POST terminal/take': {
        const taken = this.controls.take(user, id);
        return this.#json(response, 'approval' in taken ? 202 : 200, taken);
      }
      case 'POST terminal/release':
        return ok({ control: this.controls.release(user, id) });
      case 'PUT four-eyes':
        configure();
        if (body['fourEyes'] !== true) return waits(this.controls.unmark(user, id));
        this.controls.mark(user, id, String(body['reason'] ?? ''));
        return ok({ fourEyes: true });
      case 'POST inject':
        return this.#json(response, 202, this.world.inject(user, id, body as { content: string }));
      case 'POST answer':
        return ok({ session: this.world.answer(user, id, body as unknown as AnswerRequest) });
      case 'POST pause':
      case 'POST resume':
      case 'POST terminate':
      case 'POST kill':
        return ok({ session: this.world.act(user, id, sub.slice(5) as 'pause') });
      case 'POST terminal/input': {
        const target = this.world.able(id, 'input');
        this.controls.beforeTyping(user, id);
        target.script.onInput?.(target, Buffer.from(String(body['data']), 'base64'));
        return void response.writeHead(204).end();
      }
      case 'POST terminal/resize': {
        const target = this.world.able(id, 'resize');
        this.controls.beforeTyping(user, id);
        target.size = { cols: Number(body['cols']), rows: Number(body['rows']) };
        target.write('');
        return void response.writeHead(204).end();
      }
    }
    throw new MockError(404, 'unknownRoute', `no route ${route}`);
  }

  /** The routes of settings, search and export. True where it was one of them. */
  #administer(request: IncomingMessage, response: ServerResponse, url: URL, user: Actor, body: Body, configure: () => void): boolean {
    const { admin } = this;
    const [, , name = '', id] = url.pathname.split('/');
    const which = id === undefined ? '' : decodeURIComponent(id);
    const ok = (json: object): true => (this.#json(response, 200, json), true);
    const created = (json: object): true => (this.#json(response, 201, json), true);
    const done = (): true => (response.writeHead(204).end(), true);
    switch (`${request.method ?? 'GET'} ${url.pathname}`) {
      case 'GET /api/search':
        return ok(admin.search(url.searchParams.get('q') ?? '', Number(url.searchParams.get('limit') ?? 50), Number(url.searchParams.get('cursor') ?? 0)));
      case 'GET /api/mission-control/audit/export': {
        const { entries } = this.#audit(url, Number.MAX_SAFE_INTEGER);
        const isCsv = url.searchParams.get('format') === 'csv';
        const lines = entries.reverse().map((row) => (isCsv ? [row.n, row.timestamp, row.user.name, row.action, row.sessionId ?? '', row.result].join(',') : JSON.stringify(row)));
        if (isCsv) lines.unshift('n,timestamp,user,action,sessionId,result');
        response.writeHead(200, { 'Content-Type': isCsv ? 'text/csv' : 'application/jsonl' }).end(`${lines.join('\n')}\n`);
        return true;
      }
      case 'POST /api/nodes':
        configure();
        return created(admin.enrol(user, body));
      case 'GET /api/users':
        configure();
        return ok({ users: admin.users });
      case 'GET /api/invitations':
        configure();
        return ok({ invitations: admin.invitations });
      case 'POST /api/invitations':
        configure();
        return created(admin.invite(user, body));
      case 'GET /api/tokens':
        return ok({ tokens: admin.tokens.get(user.id) ?? [] });
      case 'POST /api/tokens':
        return created(admin.createToken(user, String(body['name']), String(body['role'])));
      case 'POST /api/auth/password':
        admin.changePassword(user, body, MOCK_PASSWORD);
        return done();
      case 'GET /api/auth/sessions':
        return ok({ sessions: admin.signIns(user, cookieOf(request) ?? '') });
      case 'GET /api/retention':
        return ok({ messageDays: admin.messageDays });
      case 'PUT /api/retention':
        configure();
        admin.messageDays = Number(body['messageDays']);
        this.world.record(user, 'setRetention', { metadata: { messageDays: admin.messageDays } });
        return done();
    }
    if (which === '') return false;
    switch (`${request.method ?? 'GET'} ${name}`) {
      case 'DELETE nodes':
        configure();
        admin.revokeNode(user, which);
        return done();
      case 'PATCH users':
        configure();
        if (typeof body['disabled'] === 'boolean') admin.setDisabled(user, which, body['disabled']);
        else admin.setRole(user, which, String(body['role']));
        return done();
      case 'DELETE users':
        configure();
        admin.removeUser(user, which);
        return done();
      case 'DELETE invitations':
        configure();
        admin.withdraw(user, which);
        return done();
      case 'DELETE tokens':
        admin.revokeToken(user, which);
        return done();
      case 'DELETE auth': {
        const signIn = decodeURIComponent(url.pathname.split('/')[4] ?? '');
        this.#cookies.delete(signIn);
        admin.endSignIn(user, signIn);
        return done();
      }
    }
    return false;
  }

  #steer(path: string, body: Body): object {
    switch (path) {
      case '/mock/reset':
        this.world.stop();
        this.world = this.#makeWorld();
        this.admin = new MockAdmin(this.world, USERS);
        this.controls = new MockControls(this.world);
        this.killAlls = new MockKillAlls(this.world, this.controls);
        this.world.start();
        this.#cookies.clear();
        this.cut();
        this.streamsOpened = 0;
        break;
      case '/mock/rate':
        this.world.rate = Number(body['rate']);
        break;
      case '/mock/forget':
        this.world.forget();
        break;
      case '/mock/expire':
        this.controls.expire();
        break;
      case '/mock/lease-over':
        this.killAlls.expire();
        break;
      case '/mock/offer':
        this.admin.isOffered = body['isOffered'] === true;
        break;
      case '/mock/many':
        addMany(this.world, Number(body['count']));
        break;
      case '/mock/no-nodes':
        for (const node of [...this.world.nodes.keys()]) this.world.nodes.delete(node);
        this.cut();
        break;
      case '/mock/cut':
        this.cut();
        break;
      case '/mock/say': {
        const { sessionId, role, content, kind, times, metadata } = body as { sessionId: string; role: string; content: string; kind: string; times: number; metadata?: Metadata };
        for (let i = 0; i < (times ?? 1); i += 1) this.world.find(sessionId).say(role, content.replace('%', String(i + 1)), kind, metadata ?? {});
        break;
      }
      case '/mock/write':
        this.world.find(String(body['sessionId'])).write(String(body['text']));
        break;
      case '/mock/end':
        this.world.find(String(body['sessionId'])).end('completed', 'it is done', 0);
        break;
      case '/mock/archive':
        this.world.find(String(body['sessionId'])).archive(Number(body['count']));
        break;
      case '/mock/update':
        this.world.find(String(body['sessionId'])).update(body['part'] as Partial<Session>);
        break;
      case '/mock/node':
        this.world.addNode({ ...(this.world.nodes.get(String(body['node'])) ?? makeNode(String(body['node']))), ...body } as NodeInfo);
        break;
      case '/mock/sign-out':
        this.#cookies.clear();
        this.cut();
        break;
    }
    return { streams: this.#streams.size, streamsOpened: this.streamsOpened, cursor: this.world.cursor };
  }

  #login(request: IncomingMessage, response: ServerResponse, body: Body): void {
    const user = USERS.find((u) => u.email === body['email']);
    if (user === undefined || !this.admin.isPassword(user, body['password'], MOCK_PASSWORD)) {
      throw new MockError(401, 'badCredentials', 'email or password is wrong');
    }
    const token = this.world.newId() + String(Math.random()).slice(2);
    this.#cookies.set(token, user);
    this.admin.signedIn(user, token, request.headers['user-agent'] ?? 'unknown');
    this.world.record(user, 'signIn');
    response.setHeader('Set-Cookie', `${COOKIE}=${token}; Path=/; HttpOnly; SameSite=Strict`);
    response.writeHead(204).end();
  }

  #messages(id: string, url: URL): object {
    const target = this.world.find(id);
    const all = target.messages;
    const limit = Math.min(500, Number(url.searchParams.get('limit') ?? 100));
    const before = url.searchParams.get('before');
    const after = url.searchParams.get('after');
    if (target.archived > 0) return target.page(limit, before === null ? null : Number(before), after === null ? null : Number(after));
    if (after !== null) {
      const from = all.filter((m) => m.seq > Number(after));
      return { messages: from.slice(0, limit), hasMore: from.length > limit };
    }
    const upTo = before === null ? all : all.filter((m) => m.seq < Number(before));
    return { messages: upTo.slice(-limit), hasMore: upTo.length > limit };
  }

  #audit(url: URL, limit = Number(url.searchParams.get('limit') ?? 50)): { entries: AuditRow[]; hasMore: boolean; verifiedTo: number } {
    const wants = (name: string, value: string | undefined): boolean => {
      const wanted = url.searchParams.get(name);
      return wanted === null || wanted === value;
    };
    const before = Number(url.searchParams.get('before') ?? Number.MAX_SAFE_INTEGER);
    const rows = this.world.audit.filter(
      (row) =>
        row.n < before &&
        wants('action', row.action) &&
        wants('session', row.sessionId) &&
        (wants('user', row.user.name) || wants('user', row.user.id) || wants('user', row.user.email)),
    );
    return { entries: rows.slice(-limit).reverse(), hasMore: rows.length > limit, verifiedTo: this.world.auditGoodTo ?? this.world.audit.length };
  }

  #stream(response: ServerResponse, url: URL): void {
    response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
    this.#streams.add(response);
    this.streamsOpened += 1;
    const world = this.world;
    const terminals = new Map<string, number | null>();
    for (const wish of (url.searchParams.get('terminals') ?? '').split(',').filter((w) => w !== '')) {
      const [id = '', offset] = wish.split(':');
      terminals.set(id, offset === undefined ? null : Number(offset));
    }
    const send = (name: string, data: object, cursor: number | null): void => {
      if (response.writableLength > BACKLOG_MAX_BYTES) response.destroy();
      const id = cursor === null ? '' : `id: ${cursor}\n`;
      response.write(`${id}event: ${name}\ndata: ${JSON.stringify(data)}\n\n`);
    };
    const cursor = url.searchParams.get('cursor');
    const missed = cursor === null ? null : world.since(Number(cursor));
    if (missed === null) {
      if (cursor !== null) send('gap', { reason: 'the bus no longer holds that far back' }, null);
      for (const node of world.nodes.values()) send('node', node, null);
      for (const each of world.sessions.values()) if (!each.isEnded) send('session', each.session, null);
    } else {
      for (const { cursor: at, event } of missed) send(event.type, event.data, at);
    }
    const controls = this.controls.all();
    if (missed !== null || controls.length > 0) send('controls', { controls }, null);
    send('ready', { cursor: String(world.cursor) }, null);
    for (const [id, offset] of terminals) {
      const each = world.sessions.get(id);
      if (each !== undefined) send('terminal', each.replay(offset), null);
    }
    const unlisten = world.listen((event, at) => {
      if (event.type === 'terminal' && !terminals.has(event.data.sessionId)) return;
      send(event.type, event.data, at);
    });
    const heartbeat = setInterval(() => response.write(': here\n\n'), HEARTBEAT_MS);
    response.on('close', () => {
      clearInterval(heartbeat);
      unlisten();
      this.#streams.delete(response);
    });
  }

  #json(response: ServerResponse, status: number, json: Json | object): void {
    response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(json));
  }
}

const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
};

/** Serves the fake hub and the built page in `dist` on a port of the system's choice. */
export async function serve(hub: MockHub, dist: string): Promise<{ server: Server; url: string }> {
  const server = createServer((request, response) => {
    void hub.handle(request, response).then(async (isDone) => {
      if (isDone) return;
      const path = new URL(request.url ?? '/', 'http://mock').pathname;
      if (!path.startsWith('/mission-control')) {
        response.writeHead(302, { Location: '/mission-control/' }).end();
        return;
      }
      const file = normalize(path.slice('/mission-control'.length));
      const wanted = extname(file) === '' ? 'index.html' : file;
      const content = await readFile(join(dist, wanted)).catch(() => null);
      response.writeHead(content === null ? 404 : 200, {
        'Content-Type': TYPES[extname(wanted)] ?? 'application/octet-stream',
        'Content-Security-Policy': CONTENT_SECURITY_POLICY,
        'X-Content-Type-Options': 'nosniff',
        'Referrer-Policy': 'no-referrer',
      });
      response.end(content ?? 'not found');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  // An address object, since it listens on TCP.
  const { port } = server.address() as AddressInfo;
  return { server, url: `http://127.0.0.1:${port}` };
}

function cookieOf(request: IncomingMessage): string | null {
  return new RegExp(`${COOKIE}=([^;]+)`).exec(request.headers.cookie ?? '')?.[1] ?? null;
}

async function readBody(request: IncomingMessage): Promise<Body> {
  let text = '';
  for await (const piece of request) text += String(piece);
  if (text === '') return {};
  try {
    return JSON.parse(text) as Body;
  } catch {
    throw new MockError(400, 'malformed', 'the body is not JSON');
  }
}
