// The fleet that the fake hub pretends to have: sessions, messages, terminals, audit, and the log that a stream
// resumes from. Knows no HTTP.
//
// Law: the same contract as the real hub in everything that the page can see.

import { createHash } from 'node:crypto';
import type {
  AgentProvider,
  AgentProviderInput,
  AnswerRequest,
  AuditRow,
  ConnectionTest,
  Delta,
  Json,
  Message,
  Metadata,
  NodeInfo,
  Receipt,
  Session,
  SpawnRequest,
  StreamEvent,
  TerminalChunk,
  TerminalSize,
} from '../src/api/types.ts';

/** Events that a stream can resume over; the real bus has more. */
const LOG_MAX = 20_000;
const MESSAGES_MAX = 20_000;
const TERMINAL_BYTES_MAX = 256 * 1024;
const TAPE_MAX = 2_000;
const INJECTS_PER_MINUTE = 10;

export class MockError extends Error {
  readonly status: number;
  readonly code: string;
  readonly retryAfter: number | null;

  constructor(status: number, code: string, message: string, retryAfter: number | null = null) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

export interface Actor {
  id: string;
  name: string;
  email: string;
  role: string;
}

/** What makes a session do something by itself. */
export interface Script {
  /** Called while the session runs; `now` grows by the tick. */
  tick(self: MockSession, now: number): void;
  /** Called for a message of an operator. */
  onInject?(self: MockSession, content: string): void;
  onInput?(self: MockSession, bytes: Buffer): void;
  /** Called when somebody has answered what the session asked. */
  onAnswer?(self: MockSession, answer: AnswerRequest): void;
}

export class MockSession {
  session: Session;
  messages: Message[] = [];
  size: TerminalSize = { cols: 100, rows: 30 };
  terminal = Buffer.alloc(0);
  /** Bytes of output before `terminal`. */
  terminalStart = 0;
  readonly script: Script;
  readonly world: World;
  /** Free for the script. */
  state: Record<string, number> = {};

  constructor(world: World, session: Session, script: Script) {
    this.world = world;
    this.session = session;
    this.script = script;
  }

  get isEnded(): boolean {
    return ['completed', 'failed', 'killed'].includes(this.session.status);
  }

  say(role: Message['role'], content: string, kind: Message['kind'] = 'text', metadata: Metadata = {}, messageId?: string): Message {
    const message: Message = {
      messageId: messageId ?? this.world.newId(),
      sessionId: this.session.sessionId,
      seq: this.session.lastSeq + 1,
      role,
      content,
      timestamp: this.world.time(),
      kind,
      metadata,
    };
    this.messages.push(message);
    if (this.messages.length > MESSAGES_MAX) this.messages.shift();
    // The snapshot follows the messages at leisure, as a node's does.
    this.session = { ...this.session, lastSeq: message.seq, lastMessageAt: message.timestamp };
    this.world.publish({ type: 'message', data: message });
    return message;
  }

  /** Messages of its past that are made up when they are asked for. */
  archived = 0;

  /** Gives a session that has said nothing yet a past of `count` messages. */
  archive(count: number): void {
    this.archived = count;
    this.session = { ...this.session, lastSeq: count };
  }

  /** A page of a session with an archive. */
  page(limit: number, before: number | null, after: number | null): { messages: Message[]; hasMore: boolean } {
    const last = this.session.lastSeq;
    const from = after === null ? Math.max(1, Math.min(last + 1, before ?? last + 1) - limit) : after + 1;
    const to = after === null ? Math.min(last, (before ?? last + 1) - 1) : Math.min(last, after + limit);
    const kept = new Map(this.messages.map((message) => [message.seq, message]));
    const messages: Message[] = [];
    for (let seq = from; seq <= to; seq += 1) messages.push(kept.get(seq) ?? this.#made(seq));
    return { messages, hasMore: after === null ? from > 1 : to < last };
  }

  #made(seq: number): Message {
    const content = seq % 7 === 0 ? `**Step ${seq}** looked at \`part-${seq % 97}\`:\n\n- found ${seq % 13} things\n- left ${seq % 5}` : `line ${seq}`;
    return {
      messageId: `archived-${this.session.sessionId}-${seq}`,
      sessionId: this.session.sessionId,
      seq,
      role: seq % 5_000 === 0 ? 'operator' : 'agent',
      content,
      timestamp: new Date(Date.parse(this.session.spawnedAt) - (this.archived - seq) * 50).toISOString(),
      kind: 'text',
      metadata: {},
    };
  }

  delta(messageId: string, content: string, kind: Delta['kind'] = 'text'): void {
    const data: Delta = { messageId, sessionId: this.session.sessionId, role: 'agent', content, timestamp: this.world.time(), kind };
    this.world.publish({ type: 'delta', data });
  }

  update(part: Partial<Session>): Session {
    const isStatusNew = part.status !== undefined && part.status !== this.session.status;
    this.session = {
      ...this.session,
      ...(isStatusNew ? { statusSince: this.world.time() } : {}),
      ...part,
      rev: this.session.rev + 1,
    };
    this.world.publish({ type: 'session', data: this.session });
    return this.session;
  }

  clear(field: 'attention' | 'statusReason'): void {
    const { [field]: _gone, ...rest } = this.session;
    this.session = rest;
  }

  end(status: 'completed' | 'failed' | 'killed', reason: string, exitCode: number): Session {
    this.clear('attention');
    const error = status === 'failed' ? { error: reason } : {};
    return this.update({ status, statusReason: reason, completedAt: this.world.time(), exitCode, capabilities: [], ...error });
  }

  write(text: string | Buffer): void {
    const data = typeof text === 'string' ? Buffer.from(text, 'utf8') : text;
    this.#tape.push({ at: Date.now(), text: data.toString('utf8') });
    if (this.#tape.length > TAPE_MAX) this.#tape.shift();
    const offset = this.terminalStart + this.terminal.length;
    this.terminal = Buffer.concat([this.terminal, data]);
    if (this.terminal.length > TERMINAL_BYTES_MAX) {
      const cut = this.terminal.length - TERMINAL_BYTES_MAX;
      this.terminal = this.terminal.subarray(cut);
      this.terminalStart += cut;
    }
    this.world.publish({ type: 'terminal', data: this.chunk(offset, data) });
  }

  /** What was written when, for the recording. */
  readonly #tape: { at: number; text: string }[] = [];

  /** The recording of its terminal, as an asciicast. */
  recording(): string {
    const first = this.#tape[0];
    if (first === undefined) throw new MockError(404, 'notFound', 'nothing of the terminal of this session is kept');
    const timestamp = Math.floor(first.at / 1_000);
    const head = { version: 2, width: this.size.cols, height: this.size.rows, timestamp, mosaic: { sessionId: this.session.sessionId, fromOffset: 0 } };
    const events = this.#tape.map(({ at, text }) => JSON.stringify([at / 1_000 - timestamp, 'o', text]));
    return `${[JSON.stringify(head), ...events].join('\n')}\n`;
  }

  chunk(offset: number, data: Buffer): TerminalChunk {
    const sessionId = this.session.sessionId;
    return { sessionId, offset, data: data.toString('base64'), size: this.size, timestamp: this.world.time() };
  }

  /** What a new watcher gets, or one that wants to go on at `from`. */
  replay(from: number | null): TerminalChunk {
    const end = this.terminalStart + this.terminal.length;
    if (from !== null && from >= this.terminalStart) {
      return this.chunk(from, this.terminal.subarray(from - this.terminalStart));
    }
    return { ...this.chunk(end, this.terminal), snapshot: true };
  }
}

type Listener = (event: StreamEvent, cursor: number | null) => void;

export class World {
  readonly sessions = new Map<string, MockSession>();
  readonly nodes = new Map<string, NodeInfo>();
  readonly audit: AuditRow[] = [];
  /** The row before the first that is not as it was written; null where the whole log is. */
  auditGoodTo: number | null = null;
  readonly agentProviders = new Map<string, AgentProvider>();
  /** Tokens that open the pretended gateways, by id. Never told. */
  readonly #tokens = new Map<string, string>();
  readonly layouts = new Map<string, { layout: Json; rev: number }>();
  /** Multiplies how much the scripts say. */
  rate = 1;
  /** What a profile starts. */
  readonly profiles = new Map<string, () => Script>();
  readonly #listeners = new Set<Listener>();
  readonly #log: { cursor: number; event: StreamEvent }[] = [];
  readonly #injects = new Map<string, { at: number; key: string; messageId: string }[]>();
  #cursor = 0;
  #ids = 0;
  #timer: NodeJS.Timeout | null = null;

  start(): void {
    const tickMs = 50;
    this.#timer ??= setInterval(() => this.tick(), tickMs);
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }

  tick(): void {
    const now = Date.now();
    for (const each of this.sessions.values()) {
      if (each.session.status === 'paused' || each.isEnded || each.session.stale === true) continue;
      each.script.tick(each, now);
    }
  }

  time(): string {
    return new Date().toISOString();
  }

  newId(): string {
    this.#ids += 1;
    return `01JD8Z2V9Q${this.#ids.toString(32).toUpperCase().padStart(16, '0')}`;
  }

  get cursor(): number {
    return this.#cursor;
  }

  listen(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** What came after `cursor`, or null if that is too long ago. */
  since(cursor: number): { cursor: number; event: StreamEvent }[] | null {
    const first = this.#log[0]?.cursor ?? this.#cursor + 1;
    return cursor + 1 < first || cursor > this.#cursor ? null : this.#log.slice(cursor + 1 - first);
  }

  /** No stream can be resumed over what was until now. */
  forget(): void {
    this.#cursor += 1;
    this.#log.length = 0;
  }

  publish(event: StreamEvent): void {
    const isKept = !['delta', 'terminal', 'control', 'controls'].includes(event.type);
    if (isKept) {
      this.#cursor += 1;
      this.#log.push({ cursor: this.#cursor, event });
      if (this.#log.length > LOG_MAX * 1.25) this.#log.splice(0, this.#log.length - LOG_MAX);
    }
    for (const listener of this.#listeners) listener(event, isKept ? this.#cursor : null);
  }

  addNode(node: NodeInfo): void {
    this.nodes.set(node.node, node);
    this.publish({ type: 'node', data: node });
  }

  add(session: Partial<Session> & Pick<Session, 'node' | 'provider'>, script: Script): MockSession {
    const now = this.time();
    const made = new MockSession(
      this,
      {
        sessionId: this.newId(),
        workspace: 'default',
        status: 'running',
        statusSource: 'runtime',
        statusSince: now,
        taskSource: 'internal',
        spawnedAt: now,
        startedAt: now,
        lastSeq: 0,
        capabilities: ['inject', 'pause', 'resume', 'terminate', 'kill'],
        rev: 1,
        metadata: {},
        ...session,
      },
      script,
    );
    this.sessions.set(made.session.sessionId, made);
    this.publish({ type: 'session', data: made.session });
    return made;
  }

  find(id: string): MockSession {
    const found = this.sessions.get(id);
    if (found === undefined) throw new MockError(404, 'unknownSession', `there is no session ${id} in this workspace`);
    return found;
  }

  able(id: string, capability: string): MockSession {
    const found = this.find(id);
    if (found.isEnded) throw new MockError(409, 'wrongState', `the session is ${found.session.status}`);
    if (found.session.stale === true) throw new MockError(503, 'nodeAway', `node ${found.session.node} is away`);
    if (!found.session.capabilities.includes(capability)) {
      throw new MockError(409, 'notCapable', `the session cannot do this: ${capability}`);
    }
    return found;
  }

  inject(actor: Actor, id: string, body: { content: string; mode?: string; pauseFirst?: boolean; idempotencyKey?: string }) {
    const target = this.able(id, 'inject');
    if (body.content.trim() === '') throw new MockError(422, 'invalid', 'content must not be empty');
    const bucket = `${actor.id} ${id}`;
    const lately = (this.#injects.get(bucket) ?? []).filter((i) => i.at > Date.now() - 60_000);
    const before = lately.find((i) => i.key === body.idempotencyKey && i.key !== '');
    if (before !== undefined) return { messageId: before.messageId, delivery: 'accepted' };
    const oldest = lately[0];
    if (lately.length >= INJECTS_PER_MINUTE && oldest !== undefined) {
      const wait = Math.ceil((oldest.at + 60_000 - Date.now()) / 1000);
      throw new MockError(429, 'rateLimited', `at most ${INJECTS_PER_MINUTE} messages a minute to one session`, wait);
    }
    const messageId = this.newId();
    this.#injects.set(bucket, [...lately, { at: Date.now(), key: body.idempotencyKey ?? '', messageId }]);
    this.record(actor, 'inject', { sessionId: id, content: body.content });
    if (body.pauseFirst === true) this.act(actor, id, 'pause');
    const mode = body.mode ?? 'steer';
    const receipt = (state: Receipt['state']): void =>
      this.publish({ type: 'receipt', data: { sessionId: id, messageId, state, modeAsked: mode, modeObtained: 'queue', timestamp: this.time() } });
    setTimeout(() => {
      const metadata = { operator: { id: actor.id, name: actor.name }, delivery: { state: 'delivered', modeAsked: mode } };
      target.say('operator', body.content, 'text', metadata, messageId);
      receipt('delivered');
      setTimeout(() => receipt('written'), 250);
      if (target.session.status !== 'paused') {
        setTimeout(() => {
          receipt('taken');
          target.script.onInject?.(target, body.content);
        }, 600);
      }
    }, 120);
    return { messageId, delivery: 'accepted' };
  }

  act(actor: Actor, id: string, verb: 'pause' | 'resume' | 'terminate' | 'kill'): Session {
    const target = this.able(id, verb);
    if (verb === 'resume' && target.session.status !== 'paused') throw new MockError(409, 'wrongState', 'the session is not paused');
    this.record(actor, verb, { sessionId: id });
    switch (verb) {
      case 'pause':
        return target.update({ status: 'paused', statusSource: 'operator', statusReason: `paused by ${actor.name}` });
      case 'resume':
        target.clear('statusReason');
        return target.update({ status: 'running', statusSource: 'operator' });
      case 'terminate':
        setTimeout(() => {
          if (!target.isEnded) target.end('killed', `ended on request of ${actor.name}`, 143);
        }, 900);
        return target.update({ statusReason: `asked to end by ${actor.name}`, statusSource: 'operator' });
      case 'kill':
        return target.end('killed', `killed by ${actor.name}`, 137);
    }
  }

  answer(actor: Actor, id: string, body: AnswerRequest): Session {
    const target = this.able(id, 'approve');
    const asked = target.session.attention?.request;
    if (asked === undefined || asked.requestId !== body.requestId) throw new MockError(409, 'wrongState', 'the session asks nothing now: it was answered already');
    const option = asked.options.find((each) => each.optionId === body.optionId);
    if (body.optionId !== undefined && option === undefined) throw new MockError(422, 'invalid', `the request offers no option ${JSON.stringify(body.optionId)}`);
    if (option === undefined && (body.text ?? '') === '') throw new MockError(422, 'invalid', 'an answer needs optionId or text');
    if (option === undefined && asked.takesText !== true) throw new MockError(422, 'invalid', 'the request is not answered in words; choose an option');
    const { requestId, ...given } = body;
    this.record(actor, 'answer', { sessionId: id, metadata: { requestId, ...given }, ...(body.text === undefined ? {} : { content: body.text }) });
    const said = [option?.label, body.text].filter((part) => part !== undefined).join(': ');
    target.say('system', `${actor.name} answered: ${said}`, 'permission', { answers: requestId, ...given, operator: { id: actor.id, name: actor.name } });
    target.clear('attention');
    target.script.onAnswer?.(target, body);
    return target.update({ status: 'running', turn: 'active' });
  }

  listAgentProviders(): AgentProvider[] {
    return [...this.agentProviders.values()].map((each) => this.#shown(each)).sort((a, b) => a.name.localeCompare(b.name));
  }

  saveAgentProvider(actor: Actor, id: string | null, body: Partial<AgentProviderInput>): AgentProvider {
    const known = id === null ? null : this.findAgentProvider(id);
    const { credentials, ...given } = body;
    const name = given.name ?? known?.name ?? '';
    if (name === '') throw new MockError(422, 'invalid', 'name must be 1 to 80 characters');
    if ([...this.agentProviders.values()].some((each) => each.name === name && each.id !== id)) {
      throw new MockError(409, 'nameTaken', `there is an agent provider named ${JSON.stringify(name)} already`);
    }
    if (given.gatewayUrl?.includes('@') === true) throw new MockError(422, 'invalid', 'gatewayUrl must not hold a user or password; they belong into credentials');
    if (given.node !== undefined && !this.nodes.has(given.node)) throw new MockError(422, 'invalid', `there is no node ${JSON.stringify(given.node)}`);
    const made: AgentProvider = {
      ...(known ?? { id: this.newId(), provider: '', node: '', gatewayUrl: '', isActive: true, createdAt: this.time(), hasCredentials: false, credentialsState: 'none', delivery: 'pending' }),
      ...given,
      name,
      updatedAt: this.time(),
      rev: Date.now(),
    };
    if (credentials !== undefined) {
      this.#tokens.set(made.id, credentials);
      made.hasCredentials = credentials !== '';
      made.credentialsState = credentials === '' ? 'none' : 'kept';
    }
    this.agentProviders.set(made.id, made);
    this.record(actor, id === null ? 'createAgentProvider' : 'updateAgentProvider', { node: made.node, metadata: { agentProviderId: made.id, name: made.name } });
    setTimeout(() => {
      const node = this.nodes.get(made.node);
      if (node?.online === true && node.sealKey !== undefined) this.addNode({ ...node, settingsRev: Math.max(node.settingsRev ?? 0, made.rev) });
    }, 900);
    return this.#shown(made);
  }

  removeAgentProvider(actor: Actor, id: string): void {
    const known = this.findAgentProvider(id);
    this.agentProviders.delete(id);
    this.record(actor, 'deleteAgentProvider', { node: known.node, metadata: { agentProviderId: id, name: known.name } });
  }

  testAgentProvider(actor: Actor, body: Partial<AgentProviderInput> & { id?: string }): ConnectionTest {
    const known = body.id === undefined ? null : this.findAgentProvider(body.id);
    const node = this.nodes.get(body.node ?? known?.node ?? '');
    if (node?.online !== true) throw new MockError(503, 'nodeAway', `node ${node?.node ?? ''} is away; nothing was done`, 2);
    const token = body.credentials ?? this.#tokens.get(known?.id ?? '') ?? '';
    const url = body.gatewayUrl ?? known?.gatewayUrl ?? '';
    const test = trial(url, token);
    this.record(actor, 'testAgentProvider', { node: node.node, metadata: { verdict: test.verdict } });
    return test;
  }

  findAgentProvider(id: string): AgentProvider {
    const found = this.agentProviders.get(id);
    if (found === undefined) throw new MockError(404, 'notFound', `there is no agent provider ${id}`);
    return found;
  }

  /** With what the node says now. */
  #shown(each: AgentProvider): AgentProvider {
    const node = this.nodes.get(each.node);
    const { deliveryDetail: _detail, health: _health, ...rest } = each;
    if (each.credentialsState === 'unreadable') {
      const deliveryDetail = `the credentials of "${each.name}" cannot be read: it is sealed under the key k-77aa01fe, which is not in the key file; enter them anew, or bring the key file back`;
      return { ...rest, delivery: 'failed', deliveryDetail };
    }
    if (node?.online !== true) return { ...rest, delivery: 'pending', deliveryDetail: `node ${each.node} is away; it is told when it is back` };
    const runtime = node.providers.find((p) => p.name === each.provider);
    const health = runtime === undefined ? {} : { health: { healthy: runtime.healthy, ...(runtime.error === undefined ? {} : { error: runtime.error }) } };
    if (node.sealKey === undefined) {
      return { ...rest, ...health, delivery: 'upgrade', deliveryDetail: `node ${each.node} runs mosaic-node ${node.version}, which takes no settings; upgrade it` };
    }
    return { ...rest, ...health, delivery: (node.settingsRev ?? 0) >= each.rev ? 'applied' : 'pending' };
  }

  spawn(actor: Actor, body: SpawnRequest): Session {
    const node = this.nodes.get(body.node);
    const profile = node?.profiles.find((p) => p.name === body.profile);
    const script = this.profiles.get(body.profile);
    if (node === undefined || profile === undefined || script === undefined) {
      throw new MockError(422, 'unknownProfile', `node ${body.node} has no profile ${body.profile}`);
    }
    if (!node.online) throw new MockError(503, 'nodeAway', `node ${body.node} is away`);
    const isTerminal = profile.protocol === 'terminal';
    const capabilities = ['inject', 'pause', 'resume', 'terminate', 'kill', ...(isTerminal ? ['terminal', 'input', 'resize'] : []), ...(profile.protocol === 'acp' ? ['approve'] : [])];
    const { node: _node, profile: _profile, prompt, resumeSessionId, ...rest } = body;
    const resumed = resumeSessionId === undefined ? null : this.find(resumeSessionId);
    if (resumed !== null && !resumed.isEnded) throw new MockError(409, 'wrongState', 'it goes on by itself');
    const metadata: Metadata = resumed === null ? {} : { conversation: resumed.session.metadata['conversation'] ?? null, resumes: resumed.session.sessionId };
    const made = this.add(
      { node: node.node, provider: profile.provider, profile: profile.name, status: 'spawning', capabilities, metadata, ...rest },
      script(),
    );
    this.record(actor, 'spawn', { sessionId: made.session.sessionId, node: node.node, ...(prompt === undefined ? {} : { content: prompt }) });
    setTimeout(() => {
      made.update({ status: 'running' });
      if (prompt !== undefined) made.say('user', prompt);
    }, 400);
    return made.session;
  }

  record(actor: AuditRow['user'], action: string, more: Partial<AuditRow> = {}, result = 'ok'): void {
    const actionId = this.newId();
    for (const phase of ['intent', 'outcome'] as const) {
      this.audit.push({
        n: this.audit.length + 1,
        workspace: 'default',
        timestamp: this.time(),
        actionId,
        phase,
        action,
        user: { ...actor },
        result: phase === 'intent' ? 'pending' : result,
        requestId: `req-${actionId.slice(-6)}`,
        metadata: {},
        hash: createHash('sha256').update(`${this.audit.at(-1)?.hash ?? ''} ${actionId} ${phase}`).digest('hex'),
        ...more,
      });
    }
  }
}

/** How a pretended gateway answers: port 1 is closed, and the token is `right`. */
function trial(url: string, token: string): ConnectionTest {
  if (/:1(\/|$)/.test(url)) return { verdict: 'unreachable', message: 'nobody answers there (connection refused); is the gateway running, and is this its port?' };
  if (token !== 'right') return { verdict: 'unauthorized', message: 'the gateway does not take this token; compare it with gateway.auth.token in its configuration' };
  return { verdict: 'ok', message: 'OpenClaw 2026.11.2 answers, protocol 3, 4 sessions' };
}
