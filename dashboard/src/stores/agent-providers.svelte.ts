// What is set up for the runtimes of nodes. The hub is the truth: after every change, and whenever a node says
// something that matters here, the list is asked for again.

import type { HubClient } from '../api/client.ts';
import { errorText, type ErrorText } from '../api/errors.ts';
import type { AgentProvider, AgentProviderInput, NodeInfo } from '../api/types.ts';

export type AgentProviderList =
  | { state: 'loading' }
  | { state: 'ready'; list: AgentProvider[] }
  | { state: 'failed'; error: ErrorText };

type Client = Pick<HubClient, 'agentProviders' | 'createAgentProvider' | 'updateAgentProvider' | 'deleteAgentProvider'>;

export class AgentProviders {
  all = $state.raw<AgentProviderList>({ state: 'loading' });
  readonly #client: Client;
  /** Only the answer to the last question counts. */
  #asked = 0;

  constructor(client: Client) {
    this.#client = client;
  }

  /** True while a node does not have what it should. */
  get isUnsettled(): boolean {
    return this.all.state === 'ready' && this.all.list.some((each) => each.delivery !== 'applied');
  }

  async load(): Promise<void> {
    this.#asked += 1;
    const mine = this.#asked;
    try {
      const list = await this.#client.agentProviders();
      if (mine === this.#asked) this.all = { state: 'ready', list };
    } catch (error) {
      // What is shown already is better than nothing.
      if (mine === this.#asked && this.all.state !== 'ready') this.all = { state: 'failed', error: errorText(error) };
    }
  }

  async save(id: string | null, input: Partial<AgentProviderInput> & AgentProviderInput): Promise<void> {
    if (id === null) await this.#client.createAgentProvider(input);
    else await this.#client.updateAgentProvider(id, input);
    await this.load();
  }

  async remove(id: string): Promise<void> {
    await this.#client.deleteAgentProvider(id);
    await this.load();
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
