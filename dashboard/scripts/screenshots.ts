// Pictures of every page: dark and light, 1280 and 1920 wide, with a fleet that is empty, busy, or failing. From the
// fake hub and the built page: `npm run build && npm run screenshots [-- NAME…]`, into `screenshots/new/`.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { chromium, type Browser, type Page } from 'playwright-core';
import { busyWorld, emptyWorld, failingWorld } from '../mock/fleet.ts';
import { MOCK_PASSWORD, MockHub, serve } from '../mock/server.ts';
import type { World } from '../mock/world.ts';

const HERE = import.meta.dirname;
const OUT = join(HERE, '..', 'screenshots', 'new');
const only = process.argv.slice(2);
/** Also on a machine with other things to do. */
const PATIENCE_MS = 180_000;

/** A page to look at, and how one comes there from the panels. */
interface View {
  name: string;
  path?: string;
  go?: (page: Page) => Promise<void>;
}

const key = (pressed: string) => async (page: Page): Promise<void> => {
  await page.evaluate(() => (document.activeElement as HTMLElement | null)?.blur());
  await page.keyboard.press(pressed);
  await page.getByRole('dialog').waitFor();
};

const VIEWS: View[] = [
  { name: 'panels' },
  { name: 'roster-status', go: async (page) => void (await page.getByLabel('Group by').selectOption('status')) },
  { name: 'inbox', go: key('i') },
  {
    name: 'search',
    go: async (page) => {
      await key('s')(page);
      await page.keyboard.type('the');
      await page.getByText(/found|said like that|not work/).first().waitFor();
    },
  },
  { name: 'palette', go: key('Control+k') },
  { name: 'keys', go: key('?') },
  { name: 'spawn', go: key('n') },
  { name: 'audit', go: key('a') },
  { name: 'kill-all', go: async (page) => void (await page.getByRole('button', { name: 'Kill all' }).click()) },
  ...['providers', 'nodes', 'people', 'tokens', 'account', 'retention'].map((section) => ({ name: `settings-${section}`, path: `/mission-control/settings/${section}` })),
];

const FLEETS: Record<string, () => World> = { empty: emptyWorld, busy: busyWorld, failing: failingWorld };

async function shoot(browser: Browser, url: string, fleet: string, theme: 'dark' | 'light', width: number): Promise<void> {
  const context = await browser.newContext({ viewport: { width, height: width === 1920 ? 1080 : 800 }, colorScheme: theme, reducedMotion: 'reduce' });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.setDefaultNavigationTimeout(PATIENCE_MS);
  const take = async (name: string): Promise<void> => {
    await page.waitForTimeout(250);
    writeFileSync(join(OUT, `${name}-${fleet}-${theme}-${width}.png`), await page.screenshot());
  };
  const isWanted = (name: string): boolean => only.length === 0 || only.some((each) => `${name}-${fleet}-${theme}-${width}`.includes(each));
  await page.goto(`${url}/mission-control/`);
  await page.getByLabel('Email').waitFor();
  if (isWanted('sign-in')) await take('sign-in');
  await page.getByLabel('Email').fill('admin@example.org');
  await page.getByLabel('Password').fill(MOCK_PASSWORD);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('status', { name: 'Connection: Live' }).waitFor();
  for (const view of VIEWS) {
    if (!isWanted(view.name)) continue;
    await page.goto(url + (view.path ?? '/mission-control/'));
    await page.getByRole('status', { name: 'Connection: Live' }).waitFor();
    await page.waitForTimeout(600);
    // Terminals are loaded when they are first shown.
    if (view.path === undefined && fleet === 'busy') await page.locator('.xterm-rows', { hasText: 'parser' }).first().waitFor();
    await view.go?.(page);
    await take(view.name);
    await page.keyboard.press('Escape');
  }
  await context.close();
}

mkdirSync(OUT, { recursive: true });
const browser = await chromium.launch({ executablePath: process.env['MOSAIC_CHROMIUM'] ?? '/usr/bin/chromium', args: ['--headless', '--no-sandbox', '--disable-gpu'] });
for (const [fleet, makeWorld] of Object.entries(FLEETS)) {
  for (const theme of ['dark', 'light'] as const) {
    for (const width of [1280, 1920]) {
      const hub = new MockHub(makeWorld);
      const { server, url } = await serve(hub, join(HERE, '..', 'dist'));
      await shoot(browser, url, fleet, theme, width);
      hub.stop();
      server.closeAllConnections();
      server.close();
    }
  }
}
await browser.close();
