// One configuration for the dev server, the build and the unit tests.
//
// Laws: everything is served from our own origin under `/mission-control/`, and nothing is inlined, so that the
// page runs under a content security policy without `unsafe-inline` and without `data:`.
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';
import { mockHub } from './mock/plugin.ts';
import { xtermUnderCsp } from './vite/xterm-csp.ts';

export default defineConfig(({ mode }) => ({
  base: '/mission-control/',
  plugins: [svelte(), xtermUnderCsp(), ...(mode === 'test' ? [] : [mockHub()])],
  // Under test the browser build of Svelte is wanted: its runes react.
  ...(mode === 'test' ? { resolve: { conditions: ['browser'] } } : {}),
  build: {
    target: 'es2023',
    outDir: 'dist',
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: { port: 5173, strictPort: false },
  test: { include: ['src/**/*.test.ts', 'vite/*.test.ts'], environment: 'node' },
}));
