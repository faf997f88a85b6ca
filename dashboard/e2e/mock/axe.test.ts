// Every page and dialog, in both themes, the way assistive technology sees them: nothing serious stands in the way.

import { join } from 'node:path';
import { chromium, type Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { busyWorld, emptyWorld } from '../../mock/fleet.ts';
import { MOCK_PASSWORD, MockHub, serve } from '../../mock/server.ts';
import type { World } from '../../mock/world.ts';
import { HOME, VIEWS, type Stage } from '../views.ts';
import { serious } from './axe.ts';

let browser: Browser;
beforeAll(async () => {
  browser = await chromium.launch({ executablePath: process.env['MOSAIC_CHROMIUM'] ?? '/usr/bin/chromium', args: ['--headless', '--no-sandbox', '--disable-gpu'] });
});
afterAll(() => browser.close());

type Theme = 'dark' | 'light';

/** The page on a fake hub of its own; `see` looks at what it shows now. */
async function open(theme: Theme, makeWorld: () => World, work: (stage: Stage, see: (name: string) => Promise<void>) => Promise<void>): Promise<void> {
  const hub = new MockHub(makeWorld);
  const { server, url } = await serve(hub, join(import.meta.dirname, '..', '..', 'dist'));
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, colorScheme: theme, reducedMotion: 'reduce', bypassCSP: true });
  const page = await context.newPage();
  const found: Record<string, string[]> = {};
  try {
    await work({ page, hub, url }, async (name) => {
      const violations = await serious(page);
      if (violations.length > 0) found[name] = violations;
    });
  } finally {
    await context.close();
    hub.stop();
    server.closeAllConnections();
    server.close();
  }
  expect(found).toEqual({});
}

async function enter({ page, url }: Stage): Promise<void> {
  await page.goto(url + HOME);
  await page.getByLabel('Email').fill('admin@example.org');
  await page.getByLabel('Password').fill(MOCK_PASSWORD);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('status', { name: 'Connection: Live' }).waitFor();
}

it.each(['dark', 'light'] as const)('nothing serious stands in the way before one is in, nor in a mesh without nodes, in %s', async (theme) => {
  await open(theme, emptyWorld, async (stage, see) => {
    const { page, url } = stage;
    await page.goto(`${url}/mission-control/invitation#mi_example`);
    await page.getByRole('heading', { name: 'You are invited' }).waitFor();
    await see('invitation');
    await page.goto(url + HOME);
    await page.getByLabel('Email').waitFor();
    await see('sign-in');
    await enter(stage);
    await VIEWS.find(({ name }) => name === 'first-run')?.go?.(stage);
    await see('first-run');
  });
}, 120_000);

it.each(['dark', 'light'] as const)('nothing serious stands in the way on any page or dialog, in %s', async (theme) => {
  await open(theme, busyWorld, async (stage, see) => {
    await enter(stage);
    for (const view of VIEWS.filter(({ fleets }) => fleets.includes('busy'))) {
      await stage.page.goto(stage.url + (view.path ?? HOME));
      await stage.page.getByRole('status', { name: 'Connection: Live' }).waitFor();
      await view.go?.(stage);
      await see(view.name);
      await view.after?.(stage);
    }
  });
}, 300_000);
