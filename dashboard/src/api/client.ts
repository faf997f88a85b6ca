// The hub's routes as functions. Knows no state and no component; every call has a deadline.

import { api, type SessionVerb } from '../routes.ts';
import { ApiError, refusal } from './errors.ts';
import type {
  ActReply,
  AgentProvider,
  Approval,
  Control,
  AgentProviderInput,
  AnswerRequest,
  AuditPage,
  ConnectionTest,
  InjectReply,
  InjectRequest,
  Json,
  KillReceipt,
  LayoutReply,
  Me,
  Message,
  NodeInfo,
  Session,
  SpawnRequest,
  Waiting,
} from './types.ts';

/** Longer than the hub's own deadline for a node's answer, so that its reason arrives rather than ours. */
const CALL_DEADLINE_MS = 30_000;
/** Ending a whole fleet takes a grace period per session. */
const KILL_ALL_DEADLINE_MS = 120_000;

/** A whole audit log may be long. */
const EXPORT_DEADLINE_MS = 300_000;

/** Largest page of messages that the hub gives. */
export const MESSAGES_LIMIT_MAX = 500;

export interface CallOptions {
  method?: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  body?: unknown;
  deadlineMs?: number;
  signal?: AbortSignal;
  /** Lets the call outlive the page. */
  keepalive?: boolean;
}

export interface HubClientOptions {
  fetch?: typeof fetch;
  /** Called on every 401, except where signing in itself was refused. */
  onSignedOut?: () => void;
}

export class HubClient {
  /** Chosen by a user who has several; sent with every call. */
  workspace: string | null = null;
  readonly #fetch: typeof fetch;
  readonly #onSignedOut: () => void;

  constructor(options: HubClientOptions = {}) {
    this.#fetch = options.fetch ?? ((input, init) => fetch(input, init));
    this.#onSignedOut = options.onSignedOut ?? (() => undefined);
  }

  headers(): Record<string, string> {
    return this.workspace === null ? {} : { 'X-Workspace': this.workspace };
  }

  /** Opens the event stream. Not read here: see `stream.ts`. */
  async openStream(path: string, signal: AbortSignal): Promise<Response> {
    const response = await this.#fetch(path, {
      headers: { Accept: 'text/event-stream', ...this.headers() },
      cache: 'no-store',
      signal,
    }).catch((error: unknown) => {
      // Browsers tell a network failure by this type, each in other words.
      throw error instanceof TypeError ? unreachable() : error;
    });
    if (!response.ok) throw await this.#refused(response, path);
    return response;
  }

  signIn = (email: string, password: string): Promise<void> =>
    this.#send(api.login(), { method: 'POST', body: { email, password } });
  signOut = (): Promise<void> => this.#send(api.logout(), { method: 'POST' });
  me = (): Promise<Me> => this.#json<Me>(api.me());

  sessions = async (query?: Parameters<typeof api.sessions>[0]): Promise<Session[]> =>
    (await this.#json<{ sessions: Session[] }>(api.sessions(query))).sessions;
  session = async (id: string): Promise<Session> =>
    (await this.#json<{ session: Session }>(api.session(id))).session;
  messages = (
    id: string,
    query: { limit: number; before?: number; after?: number },
    signal?: AbortSignal,
  ): Promise<{ messages: Message[]; hasMore: boolean }> =>
    this.#json(api.messages(id, query), signal === undefined ? {} : { signal });

  inject = (id: string, body: InjectRequest): Promise<InjectReply> =>
    this.#json(api.inject(id), { method: 'POST', body });
  discardMessage = (id: string, message: string): Promise<void> => this.#send(api.discardMessage(id, message), { method: 'POST' });
  answer = (id: string, body: AnswerRequest): Promise<ActReply | Waiting> =>
    this.#json(api.answer(id), { method: 'POST', body });
  act = (id: string, verb: SessionVerb): Promise<ActReply | Waiting> => this.#json(api.act(id, verb), { method: 'POST' });
  killAll = (provider: string | null): Promise<KillReceipt> =>
    this.#json(api.killAll(), {
      method: 'POST',
      body: provider === null ? { confirm: 'KILL ALL' } : { confirm: 'KILL ALL', provider },
      deadlineMs: KILL_ALL_DEADLINE_MS,
    });
  /** The last kill-alls, as they are now, the newest first. */
  killReceipts = async (): Promise<KillReceipt[]> => (await this.#json<{ receipts: KillReceipt[] }>(api.killAll())).receipts;
  killReceipt = (id: string): Promise<KillReceipt> => this.#json(api.killReceipt(id));
  spawn = async (body: SpawnRequest): Promise<Session> =>
    (await this.#json<{ session: Session }>(api.sessions(), { method: 'POST', body })).session;

  terminalInput = (id: string, data: string): Promise<void> =>
    this.#send(api.terminalInput(id), { method: 'POST', body: { data } });
  terminalResize = (id: string, cols: number, rows: number): Promise<void> =>
    this.#send(api.terminalResize(id), { method: 'POST', body: { cols, rows } });

  /** Takes control, or on a marked session asks for it. */
  takeControl = (id: string): Promise<{ control?: Control; approval?: Approval }> => this.#json(api.takeControl(id), { method: 'POST' });
  releaseControl = (id: string): Promise<{ control: Control }> => this.#json(api.releaseControl(id), { method: 'POST', keepalive: true });
  setFourEyes = (id: string, body: { fourEyes: boolean; reason?: string }): Promise<{ approval?: Approval }> =>
    this.#json(api.fourEyes(id), { method: 'PUT', body });
  approve = (id: string): Promise<{ approval: Approval }> => this.#json(api.approve(id), { method: 'POST' });
  refuse = (id: string, reason: string): Promise<{ approval: Approval }> =>
    this.#json(api.refuse(id), { method: 'POST', body: { reason } });

  layout = (): Promise<LayoutReply> => this.#json(api.layout());
  saveLayout = (layout: Json, rev: number, keepalive: boolean): Promise<LayoutReply> =>
    this.#json(api.layout(), { method: 'PUT', body: { layout, rev }, keepalive });

  audit = (query: Parameters<typeof api.audit>[0]): Promise<AuditPage> =>
    this.#json(api.audit(query));
  nodes = async (): Promise<NodeInfo[]> => (await this.#json<{ nodes: NodeInfo[] }>(api.nodes())).nodes;

  agentProviders = async (): Promise<AgentProvider[]> =>
    (await this.#json<{ agentProviders: AgentProvider[] }>(api.agentProviders())).agentProviders;
  createAgentProvider = async (body: AgentProviderInput): Promise<AgentProvider> =>
    (await this.#json<{ agentProvider: AgentProvider }>(api.agentProviders(), { method: 'POST', body })).agentProvider;
  updateAgentProvider = async (id: string, body: Partial<AgentProviderInput>): Promise<AgentProvider> =>
    (await this.#json<{ agentProvider: AgentProvider }>(api.agentProvider(id), { method: 'PATCH', body })).agentProvider;
  deleteAgentProvider = (id: string): Promise<void> => this.#send(api.agentProvider(id), { method: 'DELETE' });
  /** Has the node try it: one that is kept (`id`) with what is given, or a new one. */
  testAgentProvider = (body: Partial<AgentProviderInput> & { id?: string }): Promise<ConnectionTest> =>
    this.#json(api.agentProviderTest(), { method: 'POST', body });

  /** Any route whose answer is JSON: for what has a file of its own (`admin.ts`). */
  get = <T>(path: string): Promise<T> => this.#json<T>(path);
  write = <T>(method: 'POST' | 'PUT' | 'PATCH', path: string, body: unknown): Promise<T> => this.#json<T>(path, { method, body });
  /** A write whose answer holds nothing that we need. */
  tell = (method: 'POST' | 'PUT' | 'PATCH' | 'DELETE', path: string, body?: unknown): Promise<void> =>
    this.#send(path, body === undefined ? { method } : { method, body });
  text = (path: string): Promise<string> => this.#call(path, { deadlineMs: EXPORT_DEADLINE_MS });

  async #send(path: string, options: CallOptions = {}): Promise<void> {
    await this.#call(path, options);
  }

  async #json<T>(path: string, options: CallOptions = {}): Promise<T> {
    const text = await this.#call(path, options);
    try {
      // The hub's word for it: the shapes are its own (see `types.ts`).
      return JSON.parse(text) as T;
    } catch {
      throw new ApiError({ kind: 'nonsense', status: 200, message: 'the server answered with something unreadable' });
    }
  }

  async #call(path: string, options: CallOptions): Promise<string> {
    const deadline = AbortSignal.timeout(options.deadlineMs ?? CALL_DEADLINE_MS);
    const signal = options.signal === undefined ? deadline : AbortSignal.any([deadline, options.signal]);
    const headers = this.headers();
    const init: RequestInit = { method: options.method ?? 'GET', headers, signal, keepalive: options.keepalive ?? false };
    if (options.body !== undefined) {
      headers['Content-Type'] = 'application/json';
      init.body = JSON.stringify(options.body);
    }
    try {
      const response = await this.#fetch(path, init);
      if (!response.ok) throw await this.#refused(response, path);
      return await response.text();
    } catch (error) {
      if (error instanceof ApiError) throw error;
      if (deadline.aborted) throw new ApiError({ kind: 'timeout', message: 'the server did not answer in time' });
      if (options.signal?.aborted === true) throw error;
      throw unreachable();
    }
  }

  async #refused(response: Response, path: string): Promise<ApiError> {
    const error = refusal(response.status, await response.text().catch(() => ''), response.headers);
    if (error.isSignedOut && path !== api.login()) this.#onSignedOut();
    return error;
  }
}

function unreachable(): ApiError {
  return new ApiError({ kind: 'unreachable', message: 'the server cannot be reached' });
}
