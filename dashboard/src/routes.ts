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
  inject: (id: string): string => `${session(id)}/inject`,
  answer: (id: string): string => `${session(id)}/answer`,
  act: (id: string, verb: SessionVerb): string => `${session(id)}/${verb}`,
  terminalInput: (id: string): string => `${session(id)}/terminal/input`,
  terminalResize: (id: string): string => `${session(id)}/terminal/resize`,
  killAll: (): string => `${MC}/kill-all`,
  layout: (): string => `${MC}/layout`,
  audit: (query?: { limit?: number; before?: number; user?: string; session?: string; action?: string }): string =>
    withQuery(`${MC}/audit`, query),
  nodes: (): string => '/api/nodes',
  agentProviders: (): string => '/api/agent-providers',
  agentProvider: (id: string): string => `/api/agent-providers/${encodeURIComponent(id)}`,
  agentProviderTest: (): string => '/api/agent-providers/test',
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
export type Page = { name: 'grid' } | { name: 'session'; id: string } | { name: 'settings' };

export const page = {
  href: (where: Page): string => {
    switch (where.name) {
      case 'grid':
        return BASE;
      case 'session':
        return `${BASE}sessions/${encodeURIComponent(where.id)}`;
      case 'settings':
        return `${BASE}settings`;
    }
  },
  parse: (path: string): Page => {
    if (/^\/mission-control\/settings\/?$/.test(path)) return { name: 'settings' };
    const id = /^\/mission-control\/sessions\/([^/]+)\/?$/.exec(path)?.[1];
    return id === undefined ? { name: 'grid' } : { name: 'session', id: decodeURIComponent(id) };
  },
};
