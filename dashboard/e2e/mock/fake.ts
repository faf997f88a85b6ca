// Steers the fake hub.

import { stack } from '../harness.ts';

export interface FakeState {
  streams: number;
  streamsOpened: number;
  cursor: number;
}

export async function steer(what: string, body: object = {}): Promise<FakeState> {
  const response = await fetch(`${stack.url}/mock/${what}`, { method: 'POST', body: JSON.stringify(body) });
  return (await response.json()) as FakeState;
}
