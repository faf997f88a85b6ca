// What is set up for the runtimes of nodes. The hub is the truth: after every change, and whenever a node says
// something that matters here, the list is asked for again.

import type { HubClient } from '../api/client.ts';
import type { AgentProvider, AgentProviderInput, NodeInfo } from '../api/types.ts';
import { Resource } from './resource.svelte.ts';

type Client = Pick<HubClient, 'agentProviders' | 'createAgentProvider' | 'updateAgentProvider' | 'deleteAgentProvider'>;

export class AgentProviders {
  readonly list: Resource<AgentProvider[]>;
  readonly #client: Client;

  constructor(client: Client) {
    this.#client = client;
    this.list = new Resource(() => client.agentProviders());
  }

  /** True while a node does not have what it should. */
  get isUnsettled(): boolean {
    return this.list.all.state === 'ready' && this.list.all.value.some((each) => each.delivery !== 'applied');
  }

  async save(id: string | null, input: Partial<AgentProviderInput> & AgentProviderInput): Promise<void> {
    if (id === null) await this.#client.createAgentProvider(input);
    else await this.#client.updateAgentProvider(id, input);
    await this.list.load();
  }

  async remove(id: string): Promise<void> {
    await this.#client.deleteAgentProvider(id);
    await this.list.load();
  }
}

/** What of the nodes makes a difference to the list: a change of it is a reason to ask again. */
export function nodesMark(nodes: Iterable<NodeInfo>): string {
  const marks = [...nodes].map((node) => {
    const health = node.providers.map((each) => `${each.name}=${each.healthy ? 'ok' : (each.error ?? 'sick')}`);
    return `${node.node} ${node.online} ${node.settingsRev ?? 0} ${node.sealKey ?? ''} ${health.join(',')}`;
  });
  return marks.sort().join('\n');
}
