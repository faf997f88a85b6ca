import { describe, expect, it } from 'vitest';
import { api, page } from './routes.ts';

describe('routes', () => {
  it('are these', () => {
    const id = '01JD8Z2V9Q0000000000000000';
    expect({
      sessions: api.sessions({ all: true, status: 'running' }),
      active: api.sessions({ all: false }),
      session: api.session(id),
      messages: api.messages(id, { limit: 100, before: 7 }),
      inject: api.inject(id),
      kill: api.act(id, 'kill'),
      input: api.terminalInput(id),
      resize: api.terminalResize(id),
      killAll: [api.killAll(), api.killReceipt('r')],
      layout: api.layout(),
      audit: api.audit({ limit: 50, before: 9, user: '' }),
      nodes: api.nodes(),
      answer: api.answer(id),
      agentProviders: [api.agentProviders(), api.agentProvider('a/b'), api.agentProviderTest()],
      stream: api.stream({ cursor: '12:4', terminals: [{ id: 'A', offset: null }, { id: 'B', offset: 0 }] }),
      auth: [api.login(), api.logout(), api.me(), api.password(), api.signIns(), api.signIn('s')],
      admin: [api.node('n'), api.users(), api.user('u'), api.invitations(), api.tokens(), api.token('t'), api.retention()],
      search: api.search({ q: 'two words', limit: 20, cursor: 'ended.X.7' }),
      recording: api.recording(id, { last: 9 }),
      export: api.auditExport({ format: 'csv' }),
    }).toMatchInlineSnapshot(`
      {
        "active": "/api/mission-control/sessions",
        "admin": [
          "/api/nodes/n",
          "/api/users",
          "/api/users/u",
          "/api/invitations",
          "/api/tokens",
          "/api/tokens/t",
          "/api/retention",
        ],
        "agentProviders": [
          "/api/agent-providers",
          "/api/agent-providers/a%2Fb",
          "/api/agent-providers/test",
        ],
        "answer": "/api/mission-control/sessions/01JD8Z2V9Q0000000000000000/answer",
        "audit": "/api/mission-control/audit?limit=50&before=9",
        "auth": [
          "/api/auth/login",
          "/api/auth/logout",
          "/api/auth/me",
          "/api/auth/password",
          "/api/auth/sessions",
          "/api/auth/sessions/s",
        ],
        "export": "/api/mission-control/audit/export?format=csv",
        "inject": "/api/mission-control/sessions/01JD8Z2V9Q0000000000000000/inject",
        "input": "/api/mission-control/sessions/01JD8Z2V9Q0000000000000000/terminal/input",
        "kill": "/api/mission-control/sessions/01JD8Z2V9Q0000000000000000/kill",
        "killAll": [
          "/api/mission-control/kill-all",
          "/api/mission-control/kill-all/r",
        ],
        "layout": "/api/mission-control/layout",
        "messages": "/api/mission-control/sessions/01JD8Z2V9Q0000000000000000/messages?limit=100&before=7",
        "nodes": "/api/nodes",
        "recording": "/api/mission-control/sessions/01JD8Z2V9Q0000000000000000/terminal/recording?last=9",
        "resize": "/api/mission-control/sessions/01JD8Z2V9Q0000000000000000/terminal/resize",
        "search": "/api/search?q=two+words&limit=20&cursor=ended.X.7",
        "session": "/api/mission-control/sessions/01JD8Z2V9Q0000000000000000",
        "sessions": "/api/mission-control/sessions?all=true&status=running",
        "stream": "/api/mission-control/stream?sessions=*&nodes=1&terminals=A,B:0&cursor=12:4",
      }
    `);
  });

  it('cannot be broken out of by an id', () => {
    expect(api.session('../../x?y')).toBe('/api/mission-control/sessions/..%2F..%2Fx%3Fy');
  });

  it('of the page are read back as they were built', () => {
    for (const where of [{ name: 'grid' }, { name: 'session', id: 'a/b c' }, { name: 'settings' }, { name: 'settings', section: 'nodes' }, { name: 'session', id: 'a', seq: 12 }, { name: 'replay', id: 'a/b' }, { name: 'killAll', id: 'a/b' }] as const) {
      expect(page.parse(page.href(where))).toEqual(where);
    }
    expect(page.parse('/mission-control')).toEqual({ name: 'grid' });
    expect(page.parse('/mission-control/no-such-page')).toEqual({ name: 'grid' });
  });
});
