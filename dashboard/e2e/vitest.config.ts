// Browser tests: against the stack at MOSAIC_URL, with `--mode runtimes` those that want every runtime there, or with
// `--mode mock` against the fake hub, which can also be cut, flooded and reset and therefore has further tests of its own.
import { defineConfig } from 'vitest/config';

const FILES: Record<string, string[]> = { mock: ['stack/*.test.ts', 'mock/*.test.ts'], runtimes: ['runtimes/*.test.ts'] };

export default defineConfig(({ mode }) => ({
  test: {
    root: import.meta.dirname,
    include: FILES[mode] ?? ['stack/*.test.ts', 'real/*.test.ts'],
    globalSetup: [mode === 'mock' ? './setup-mock.ts' : './setup-stack.ts'],
    // One browser and one fleet: files one after the other.
    fileParallelism: false,
    // Nothing is tried again but where a machine is known to be slow beyond any deadline; the report tells of it.
    retry: Number(process.env.MOSAIC_BROWSER_RETRIES ?? 0),
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
}));
