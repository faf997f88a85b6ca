// What a person enters of an agent provider, and what is sent of it. Pure.
//
// Law: a token that was kept is never here; it stays unless another one is entered, or it is taken away on purpose.

import type { AgentProvider, AgentProviderInput, ConnectionTest, NodeInfo } from '../../api/types.ts';

export interface ProviderForm {
  name: string;
  provider: string;
  node: string;
  gatewayUrl: string;
  token: string;
  isTokenRemoved: boolean;
  isActive: boolean;
}

/** Runtimes that are reached over a gateway, in the order in which they are proposed. */
const GATEWAY_RUNTIMES = ['openclaw'];

export function formOf(kept: AgentProvider | null, nodes: readonly NodeInfo[]): ProviderForm {
  if (kept !== null) {
    const { name, provider, node, gatewayUrl, isActive } = kept;
    return { name, provider, node, gatewayUrl, isActive, token: '', isTokenRemoved: false };
  }
  const node = nodes.find((each) => each.online && runtimesOf(each)[0] !== undefined) ?? nodes[0];
  const provider = node === undefined ? '' : (runtimesOf(node)[0] ?? '');
  return { name: '', provider, node: node?.node ?? '', gatewayUrl: '', token: '', isTokenRemoved: false, isActive: true };
}

/** The runtimes of a node, those with a gateway first. */
export function runtimesOf(node: NodeInfo | undefined): string[] {
  const rank = (name: string): number => (GATEWAY_RUNTIMES.includes(name) ? 0 : 1);
  return (node?.providers ?? []).map((each) => each.name).sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
}

/** What is sent. The token only if there is something to say of it. */
export function inputOf(form: ProviderForm): AgentProviderInput {
  const { name, provider, node, gatewayUrl, isActive } = form;
  const input = { name: name.trim(), provider, node, gatewayUrl: gatewayUrl.trim(), isActive };
  if (form.token !== '') return { ...input, credentials: form.token };
  return form.isTokenRemoved ? { ...input, credentials: '' } : input;
}

/** Why it cannot be sent yet, in a few words, or null. The hub checks everything itself. */
export function missing(form: ProviderForm): string | null {
  if (form.name.trim() === '') return 'give it a name';
  if (form.node === '') return 'choose a node';
  if (form.provider === '') return 'choose a runtime';
  return missingForTrial(form);
}

export function missingForTrial(form: ProviderForm): string | null {
  if (!/^(https?|wss?):\/\/[^/]/i.test(form.gatewayUrl.trim())) return 'enter a URL that begins with ws://, wss://, http:// or https://';
  return form.node === '' || form.provider === '' ? 'choose a node and a runtime' : null;
}

type Tone = 'good' | 'bad' | 'warn' | 'neutral';

export function verdictTone(test: ConnectionTest): Tone {
  return test.verdict === 'ok' ? 'good' : 'bad';
}

/** A word and a colour for whether the node has it. */
export function deliveryLook(each: AgentProvider): { tone: Tone; word: string } {
  switch (each.delivery) {
    case 'applied':
      return { tone: each.isActive ? 'good' : 'neutral', word: each.isActive ? 'applied' : 'switched off' };
    case 'pending':
      return { tone: 'warn', word: 'pending' };
    case 'upgrade':
      return { tone: 'bad', word: 'node too old' };
    case 'failed':
      return { tone: 'bad', word: 'not delivered' };
    default:
      return { tone: 'neutral', word: each.delivery };
  }
}

export function credentialsText(each: AgentProvider): string {
  switch (each.credentialsState) {
    case 'kept':
      return 'token kept, sealed';
    case 'none':
      return 'no token';
    case 'unreadable':
      return 'token unreadable: the hub has lost its key. Enter it anew';
    default:
      return each.credentialsState;
  }
}
