// Every path of the product, built here and nowhere else: the hub's API and the page's own addresses.

type Query = Record<string, string | number | boolean | undefined>;

function withQuery(path: string, query: Query = {}): string {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== '' && value !== false) params.set(name, String(value));
  }
  // Commas, colons and stars separate ids in our own parameters and are legal in a query.
  const text = params.toString().replaceAll('%2C', ',').replaceAll('%3A', ':');
  return text === '' ? path : `${path}?${text}`;
}

const MC = '/api/mission-control';
const session = (id: string): string => `${MC}/sessions/${encodeURIComponent(id)}`;

export type SessionVerb = 'pause' | 'resume' | 'terminate' | 'kill';

/** A terminal to watch: from the byte `offset` on, or from a snapshot of its screen. */
export interface TerminalWish {
  id: string;
  offset: number | null;
}

export const api = {
  login: (): string => '/api/auth/login',
  logout: (): string => '/api/auth/logout',
  me: (): string => '/api/auth/me',
  sessions: (query?: { all?: boolean; status?: string; provider?: string; node?: string }): string =>
    withQuery(`${MC}/sessions`, query),
  session,
  messages: (id: string, query?: { limit?: number; before?: number; after?: number }): string =>
    withQuery(`${session(id)}/messages`, query),
  discardMessage: (id: string, message: string): string => `${session(id)}/messages/${encodeURIComponent(message)}/discard`,
  inject: (id: string): string => `${session(id)}/inject`,
  answer: (id: string): string => `${session(id)}/answer`,
  act: (id: string, verb: SessionVerb): string => `${session(id)}/${verb}`,
  terminalInput: (id: string): string => `${session(id)}/terminal/input`,
  terminalResize: (id: string): string => `${session(id)}/terminal/resize`,
  takeControl: (id: string): string => `${session(id)}/terminal/take`,
  releaseControl: (id: string): string => `${session(id)}/terminal/release`,
  fourEyes: (id: string): string => `${session(id)}/four-eyes`,
  approve: (id: string): string => `${MC}/approvals/${encodeURIComponent(id)}/approve`,
  refuse: (id: string): string => `${MC}/approvals/${encodeURIComponent(id)}/refuse`,
  recording: (id: string, query?: { last?: number }): string => withQuery(`${session(id)}/terminal/recording`, query),
  killAll: (): string => `${MC}/kill-all`,
  killReceipt: (id: string): string => `${MC}/kill-all/${encodeURIComponent(id)}`,
  layout: (): string => `${MC}/layout`,
  audit: (query?: { limit?: number; before?: number; user?: string; session?: string; action?: string }): string =>
    withQuery(`${MC}/audit`, query),
  nodes: (): string => '/api/nodes',
  agentProviders: (): string => '/api/agent-providers',
  agentProvider: (id: string): string => `/api/agent-providers/${encodeURIComponent(id)}`,
  agentProviderTest: (): string => '/api/agent-providers/test',
  auditExport: (query: { format: 'jsonl' | 'csv' }): string =>
    withQuery(`${MC}/audit/export`, query),
  search: (query: { q: string; limit?: number; cursor?: string }): string => withQuery('/api/search', query),
  node: (id: string): string => `/api/nodes/${encodeURIComponent(id)}`,
  users: (): string => '/api/users',
  user: (id: string): string => `/api/users/${encodeURIComponent(id)}`,
  invitations: (): string => '/api/invitations',
  invitation: (id: string): string => `/api/invitations/${encodeURIComponent(id)}`,
  acceptInvitation: (): string => '/api/invitations/accept',
  tokens: (): string => '/api/tokens',
  token: (id: string): string => `/api/tokens/${encodeURIComponent(id)}`,
  password: (): string => '/api/auth/password',
  signIns: (): string => '/api/auth/sessions',
  signIn: (id: string): string => `/api/auth/sessions/${encodeURIComponent(id)}`,
  retention: (): string => '/api/retention',
  stream: (query: { cursor: string | null; terminals: readonly TerminalWish[] }): string =>
    withQuery(`${MC}/stream`, {
      sessions: '*',
      nodes: 1,
      terminals: query.terminals.map((t) => (t.offset === null ? t.id : `${t.id}:${t.offset}`)).join(','),
      cursor: query.cursor ?? undefined,
    }),
};

const BASE = '/mission-control/';

/** What the address bar can say. */
export type Page =
  | { name: 'grid' }
  | { name: 'session'; id: string; seq?: number }
  | { name: 'replay'; id: string }
  | { name: 'settings'; section?: string }
  /** The panels, and over them what became of a kill-all. */
  | { name: 'killAll'; id: string };

export const page = {
  href: (where: Page): string => {
    switch (where.name) {
      case 'grid':
        return BASE;
      case 'session':
        return `${BASE}sessions/${encodeURIComponent(where.id)}${where.seq === undefined ? '' : `/${where.seq}`}`;
      case 'replay':
        return `${BASE}sessions/${encodeURIComponent(where.id)}/replay`;
      case 'killAll':
        return `${BASE}kill-all/${encodeURIComponent(where.id)}`;
      case 'settings':
        return `${BASE}settings${where.section === undefined ? '' : `/${encodeURIComponent(where.section)}`}`;
    }
  },
  parse: (path: string): Page => {
    const settings = /^\/mission-control\/settings(?:\/([a-z-]+))?\/?$/.exec(path);
    if (settings !== null) return settings[1] === undefined ? { name: 'settings' } : { name: 'settings', section: settings[1] };
    const receipt = /^\/mission-control\/kill-all\/([^/]+)\/?$/.exec(path)?.[1];
    if (receipt !== undefined) return { name: 'killAll', id: decodeURIComponent(receipt) };
    const found = /^\/mission-control\/sessions\/([^/]+)(?:\/(\d+|replay))?\/?$/.exec(path);
    if (found?.[1] === undefined) return { name: 'grid' };
    const id = decodeURIComponent(found[1]);
    if (found[2] === 'replay') return { name: 'replay', id };
    return found[2] === undefined ? { name: 'session', id } : { name: 'session', id, seq: Number(found[2]) };
  },
};
