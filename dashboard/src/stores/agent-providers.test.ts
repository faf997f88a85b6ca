import { describe, expect, it } from 'vitest';
import type { AgentProvider } from '../api/types.ts';
import { AgentProviders, nodesMark } from './agent-providers.svelte.ts';
import { makeAgentProvider, makeNode } from './testing.ts';

const INPUT = { name: 'office', provider: 'openclaw', node: 'n1', gatewayUrl: 'ws://x/', isActive: true };

function fake(answers: (AgentProvider[] | Error)[]) {
  const calls: string[] = [];
  const client = {
    agentProviders: () => {
      const next = answers.shift() ?? [];
      return next instanceof Error ? Promise.reject(next) : Promise.resolve(next);
    },
    createAgentProvider: (body: object) => (calls.push(`create ${Object.keys(body).join()}`), Promise.resolve(makeAgentProvider('a'))),
    updateAgentProvider: (id: string, body: object) => (calls.push(`update ${id} ${Object.keys(body).join()}`), Promise.resolve(makeAgentProvider('a'))),
    deleteAgentProvider: (id: string) => (calls.push(`delete ${id}`), Promise.resolve()),
  };
  return { calls, store: new AgentProviders(client) };
}

describe('agent providers', () => {
  it('are asked for again after every change', async () => {
    const { calls, store } = fake([[], [makeAgentProvider('a', { delivery: 'pending' })], [makeAgentProvider('a')], []]);
    await store.list.load();
    expect(store.list.all).toEqual({ state: 'ready', value: [] });
    await store.save(null, { ...INPUT, credentials: 'x' });
    expect(store.isUnsettled).toBe(true);
    await store.save('a', INPUT);
    expect(store.isUnsettled).toBe(false);
    await store.remove('a');
    expect(calls).toEqual([
      'create name,provider,node,gatewayUrl,isActive,credentials',
      'update a name,provider,node,gatewayUrl,isActive',
      'delete a',
    ]);
  });

  it('stay on the page when asking again fails, and say why when there is nothing yet', async () => {
    const { store } = fake([new Error('away'), [makeAgentProvider('a')], new Error('away')]);
    await store.list.load();
    expect(store.list.all).toMatchObject({ state: 'failed', error: { message: 'away' } });
    await store.list.load();
    await store.list.load();
    expect(store.list.all).toMatchObject({ state: 'ready', value: [{ id: 'a' }] });
  });

  it('depend on what nodes say of settings and runtimes, and not on their load', () => {
    const node = makeNode('n1', { settingsRev: 4, providers: [{ name: 'openclaw', healthy: true, sessions: 0, capabilities: [] }] });
    const before = nodesMark([node, makeNode('n2')]);
    expect(nodesMark([makeNode('n2'), { ...node, load: { ...node.load, load1: 3 }, timestamp: 'later' }])).toBe(before);
    expect(nodesMark([{ ...node, settingsRev: 5 }, makeNode('n2')])).not.toBe(before);
    expect(nodesMark([{ ...node, online: false }, makeNode('n2')])).not.toBe(before);
    expect(nodesMark([{ ...node, providers: [] }, makeNode('n2')])).not.toBe(before);
  });
});
