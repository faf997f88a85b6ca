// The fake hub and the built page, on a port of their own.

import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { emptyWorld } from '../mock/fleet.ts';
import { MOCK_PASSWORD, MockHub, serve } from '../mock/server.ts';

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const hub = new MockHub(emptyWorld);
  const { server, url } = await serve(hub, join(import.meta.dirname, '..', 'dist'));
  const user = (role: string) => ({ email: `${role}@example.org`, password: MOCK_PASSWORD });
  project.provide('stack', { url, admin: user('admin'), operator: user('operator'), observer: user('observer') });
  return async () => {
    hub.stop();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
}
