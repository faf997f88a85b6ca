// Pictures of every page and dialog: dark and light, 1280 and 1920 wide, with a fleet that is empty, busy, or failing.
// From the fake hub and the built page: `npm run build && npm run screenshots [-- PART-OF-A-NAME…]`, into
// `screenshots/`, where `README.md` lists them.

import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { chromium, type Browser, type Page } from 'playwright-core';
import { api } from '../src/routes.ts';
import { busyWorld, emptyWorld, failingWorld } from '../mock/fleet.ts';
import { MOCK_PASSWORD, MockHub, serve } from '../mock/server.ts';
import type { World } from '../mock/world.ts';
import { HOME, LOOKS, VIEWS, type FleetName, type Look, type Stage } from '../e2e/views.ts';
import { small } from './png.ts';

const HERE = import.meta.dirname;
const OUT = join(HERE, '..', 'screenshots');
const only = process.argv.slice(2);
/** Also on a machine with other things to do. */
const PATIENCE_MS = 120_000;
/** What fades in or out, and what a stream brings, has come by then. */
const CALM_MS = 350;

/** What is before one is in. */
const ENTRIES = [{ name: 'sign-in', what: 'Sign in' }, { name: 'invitation', what: 'Somebody was invited' }] as const;
const FLEETS: Record<FleetName, () => World> = { empty: emptyWorld, busy: busyWorld, failing: failingWorld };
const nameOf = (name: string, fleet: FleetName, { theme, width }: Look): string => `${name}-${fleet}-${theme}-${width}.png`;
const isWanted = (file: string): boolean => only.length === 0 || only.some((each) => file.includes(each));

async function take(page: Page, file: string): Promise<void> {
  if (!isWanted(file)) return;
  await page.waitForTimeout(CALM_MS);
  writeFileSync(join(OUT, file), small(await page.screenshot()));
}

/** People and tokens, so that there is something to see. */
async function furnish({ page, hub }: Stage): Promise<void> {
  const post = (path: string, body: object): Promise<unknown> =>
    page.evaluate(([where, what]) => fetch(where, { method: 'POST', body: what, headers: { 'Content-Type': 'application/json' } }).then((r) => r.status), [path, JSON.stringify(body)] as const);
  if (hub.admin.tokens.size > 0) return;
  await post(api.tokens(), { name: 'Nightly report', role: 'observer' });
  await post(api.tokens(), { name: 'Deploy hook', role: 'operator' });
  await post(api.invitations(), { email: 'new.colleague@example.org', role: 'operator' });
}

/** With a password that is not right. */
async function tried(page: Page, action: string): Promise<void> {
  await page.getByLabel('Password').fill('it was something with a horse');
  await page.getByRole('button', { name: action }).click();
  await page.getByRole('alert').waitFor();
}

async function shoot(browser: Browser, fleet: FleetName, look: Look): Promise<void> {
  const views = VIEWS.filter((each) => each.fleets.includes(fleet));
  if (![...views.map((each) => each.name), ...ENTRIES.map((each) => each.name)].some((name) => isWanted(nameOf(name, fleet, look)))) return;
  const hub = new MockHub(FLEETS[fleet]);
  const { server, url } = await serve(hub, join(HERE, '..', 'dist'));
  const context = await browser.newContext({ viewport: { width: look.width, height: look.width === 1920 ? 1080 : 800 }, colorScheme: look.theme, reducedMotion: 'reduce', locale: 'en-GB' });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.setDefaultNavigationTimeout(PATIENCE_MS);
  const stage = { page, hub, url };
  await page.goto(`${url}/mission-control/invitation#mi_example`);
  await page.getByRole('heading', { name: 'You are invited' }).waitFor();
  if (fleet === 'failing') await tried(page, 'Enter');
  if (fleet !== 'empty') await take(page, nameOf('invitation', fleet, look));
  await page.goto(url + HOME);
  await page.getByLabel('Email').waitFor();
  if (fleet === 'failing') {
    await page.getByLabel('Email').fill('admin@example.org');
    await tried(page, 'Sign in');
  }
  if (fleet !== 'empty') await take(page, nameOf('sign-in', fleet, look));
  await page.getByLabel('Email').fill('admin@example.org');
  await page.getByLabel('Password').fill(MOCK_PASSWORD);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('status', { name: 'Connection: Live' }).waitFor();
  if (fleet === 'busy') await furnish(stage);
  for (const view of views) {
    if (!isWanted(nameOf(view.name, fleet, look)) && !view.name.startsWith('kill-all')) continue;
    if (page.url() !== url + (view.path ?? HOME)) await page.goto(url + (view.path ?? HOME));
    await page.getByRole('status', { name: 'Connection: Live' }).waitFor();
    // Terminals are loaded when they are first shown.
    if (view.path === undefined && fleet === 'busy' && !view.name.startsWith('kill-all')) await page.locator('.xterm-rows', { hasText: 'parser' }).first().waitFor();
    await view.go?.(stage);
    await take(page, nameOf(view.name, fleet, look));
    await view.after?.(stage);
    if ((await page.locator('dialog[open]').count()) > 0) await page.keyboard.press('Escape');
  }
  await context.close();
  hub.stop();
  server.closeAllConnections();
  server.close();
}

/** The index, from what is there. */
function list(): void {
  const files = readdirSync(OUT).filter((file) => file.endsWith('.png'));
  const all = new Map([...ENTRIES, ...VIEWS].map(({ name, what }) => [name, what]));
  const rows = [...all].map(([name, what]) => {
    const mine = files.filter((file) => /^-(empty|busy|failing)-(dark|light)-\d+\.png$/.test(file.slice(name.length)) && file.startsWith(name)).sort();
    return `| ${what} | ${mine.map((file) => `[${file.slice(name.length + 1, -4).replaceAll('-', ' ')}](${file})`).join(' · ')} |`;
  });
  const text = `# Pictures of the page

Taken by \`npm run screenshots\` from the fake hub, with a fleet that is empty, busy or failing, dark and light, 1280 and
1920 wide. What looks the same whatever the fleet does has no picture of its own for it; a page that cannot load what it
shows counts as failing. They have 256 colours each, to be small.

| what | pictures |
|---|---|
${rows.join('\n')}
`;
  writeFileSync(join(OUT, 'README.md'), text);
}

mkdirSync(OUT, { recursive: true });
const browser = await chromium.launch({ executablePath: process.env['MOSAIC_CHROMIUM'] ?? '/usr/bin/chromium', args: ['--headless', '--no-sandbox', '--disable-gpu'] });
for (const fleet of ['busy', 'failing', 'empty'] as const) for (const look of LOOKS) await shoot(browser, fleet, look);
await browser.close();
list();
