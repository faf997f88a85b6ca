// Puts the fake hub behind Vite's dev server, so that `npm run dev` needs nothing else. With MOSAIC_URL set, the
// dev server talks to that hub instead.

import type { Plugin } from 'vite';
import { busyWorld } from './fleet.ts';
import { MockHub, MOCK_PASSWORD } from './server.ts';

export function mockHub(): Plugin {
  return {
    name: 'mosaic-mock-hub',
    apply: 'serve',
    config() {
      const hub = process.env['MOSAIC_URL'];
      return hub === undefined ? {} : { server: { proxy: { '/api': { target: hub, changeOrigin: true } } } };
    },
    configureServer(server) {
      if (process.env['MOSAIC_URL'] !== undefined) return;
      const hub = new MockHub(busyWorld);
      server.httpServer?.on('close', () => hub.stop());
      server.middlewares.use((request, response, next) => {
        void hub.handle(request, response).then((isDone) => {
          if (!isDone) next();
        });
      });
      server.config.logger.info(`fake hub: sign in as admin@example.org, password ${MOCK_PASSWORD}`);
    },
  };
}
