// A stack that runs already, named by the environment.

import type { TestProject } from 'vitest/node';
import type { Stack, User } from './stack.ts';

export default function setup(project: TestProject): void {
  project.provide('stack', stackFromEnv());
}

function stackFromEnv(): Stack {
  const missing: string[] = [];
  const need = (name: string): string => {
    const value = process.env[name];
    if (value === undefined || value === '') missing.push(name);
    return value ?? '';
  };
  const user = (role: string): User => ({ email: need(`MOSAIC_${role}_EMAIL`), password: need(`MOSAIC_${role}_PASSWORD`) });
  const stack = { url: need('MOSAIC_URL').replace(/\/$/, ''), admin: user('ADMIN'), operator: user('OPERATOR'), observer: user('OBSERVER') };
  if (missing.length > 0) {
    throw new Error(
      `the browser tests need ${missing.join(', ')}: start a stack with 'cargo xtask up --json --node-config dashboard/e2e/node.toml' and pass on what it prints, or run 'npm run e2e:mock'`,
    );
  }
  return stack;
}
