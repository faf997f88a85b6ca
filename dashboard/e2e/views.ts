// Every page and dialog, and how one comes there as an admin: for the pictures, and for whoever looks at all of them.

import type { Page } from 'playwright-core';
import type { MockHub } from '../mock/server.ts';

export const HOME = '/mission-control/';
export type FleetName = 'empty' | 'busy' | 'failing';
export interface Look {
  theme: 'dark' | 'light';
  width: number;
}
/** In all combinations; the first two have both themes and both widths. */
export const LOOKS: readonly Look[] = [{ theme: 'dark', width: 1280 }, { theme: 'light', width: 1920 }, { theme: 'light', width: 1280 }, { theme: 'dark', width: 1920 }];
export const TWO_LOOKS = LOOKS.slice(0, 2);

export interface Stage {
  page: Page;
  hub: MockHub;
  url: string;
}

/** Something to look at, and how one comes there. */
export interface View {
  name: string;
  what: string;
  fleets: readonly FleetName[];
  looks?: readonly Look[];
  path?: string;
  go?: (stage: Stage) => Promise<void>;
  /** Leaves the hub as it was found. */
  after?: (stage: Stage) => Promise<void>;
}

const key = (pressed: string) => async ({ page }: Stage): Promise<void> => {
  await page.evaluate(() => (document.activeElement as HTMLElement | null)?.blur());
  await page.keyboard.press(pressed);
  await page.getByRole('dialog').waitFor();
};
const click = (name: string) => async ({ page }: Stage): Promise<void> => void (await page.getByRole('button', { name, exact: true }).first().click());

async function typed(stage: Stage): Promise<void> {
  await click('Kill all')(stage);
  await stage.page.getByLabel(/^Type/).fill('KILL ALL');
}

/** The first of these titles that there is. */
async function openSession({ page, hub, url }: Stage, ...titles: string[]): Promise<void> {
  const id = [...hub.world.sessions.values()].find(({ session }) => titles.includes(session.title ?? ''))?.session.sessionId ?? '';
  await page.goto(`${url}/mission-control/sessions/${id}`);
  await page.getByRole('status', { name: 'Connection: Live' }).waitFor();
}

const section = (id: string, fleets: readonly FleetName[] = ['busy']): View => ({ name: `settings-${id}`, what: `Settings: ${id}`, fleets, path: `/mission-control/settings/${id}` });

// What changes the fleet for good comes last.
export const VIEWS: readonly View[] = [
  { name: 'panels', what: 'The fleet', fleets: ['empty', 'busy', 'failing'], looks: LOOKS },
  { name: 'roster-status', what: 'The roster, by who needs somebody', fleets: ['busy', 'failing'], go: async ({ page }) => (await page.getByLabel('Group by').selectOption('status'), await page.getByRole('button', { name: 'Load earlier ones' }).click()), after: async ({ page }) => void (await page.getByLabel('Group by').selectOption('host')) },
  { name: 'session', what: 'One session, its stream', fleets: ['busy', 'failing'], go: (stage) => openSession(stage, 'Retention sweep loses messages', 'Drop old tables') },
  { name: 'terminal', what: 'One session, its terminal', fleets: ['busy'], go: async (stage) => (await openSession(stage, 'Property tests, codec'), void (await stage.page.locator('.xterm-rows', { hasText: 'step' }).first().waitFor())) },
  { name: 'replay', what: 'A session, replayed', fleets: ['busy'], go: async (stage) => (await openSession(stage, 'Property tests, codec'), await stage.page.goto(`${stage.page.url()}/replay`), void (await stage.page.locator('[aria-label="Terminal as it was"] .xterm-screen').waitFor())) },
  { name: 'inbox', what: 'Who waits for an answer', fleets: ['empty', 'busy', 'failing'], go: key('i') },
  {
    name: 'search',
    what: 'Search over all conversations',
    fleets: ['empty', 'busy', 'failing'],
    go: async (stage) => {
      await key('s')(stage);
      await stage.page.keyboard.type('the');
      await stage.page.getByText(/found|said like that|not work/).first().waitFor();
    },
  },
  { name: 'palette', what: 'Go to anything, do anything', fleets: ['empty', 'busy'], go: key('Control+k') },
  { name: 'keys', what: 'The keys', fleets: ['busy'], go: key('?') },
  { name: 'spawn', what: 'A new session', fleets: ['empty', 'busy', 'failing'], go: key('n') },
  { name: 'audit', what: 'Who did what', fleets: ['empty', 'busy', 'failing'], go: key('a') },
  section('providers', ['empty', 'busy', 'failing']),
  section('nodes', ['empty', 'busy', 'failing']),
  section('people'),
  section('tokens', ['empty', 'busy']),
  section('account'),
  section('retention'),
  {
    name: 'not-live',
    what: 'No connection',
    fleets: ['busy'],
    go: async ({ page, hub }) => {
      await page.route('**/stream?**', (route) => route.abort());
      hub.cut();
      await page.getByText(/^Not live for/).waitFor();
    },
    after: async ({ page }) => page.unroute('**/stream?**'),
  },
  {
    name: 'settings-provider',
    what: 'A runtime is set up',
    fleets: ['busy'],
    path: '/mission-control/settings/providers',
    go: async ({ page }) => (await page.getByRole('button', { name: 'Add', exact: true }).click(), void (await page.getByRole('dialog').waitFor())),
  },
  {
    name: 'settings-add-node',
    what: 'A node is added: told only once',
    fleets: ['busy'],
    path: '/mission-control/settings/nodes',
    go: async ({ page }) => {
      await page.getByRole('button', { name: 'Add a node' }).click();
      await page.getByLabel('Name of the node').fill('delta');
      await page.getByRole('button', { name: 'Make credentials' }).click();
      await page.getByLabel('Join line').waitFor();
    },
  },
  {
    name: 'settings-invite',
    what: 'Somebody is invited',
    fleets: ['busy'],
    path: '/mission-control/settings/people',
    go: async ({ page }) => (await page.getByRole('button', { name: 'Invite' }).click(), void (await page.getByRole('dialog').waitFor())),
  },
  {
    name: 'confirm',
    what: 'A question before what cannot be undone',
    fleets: ['busy'],
    path: '/mission-control/settings/people',
    go: async ({ page }) => (await page.getByRole('row', { name: /Ole/ }).getByRole('button', { name: 'Remove' }).click(), void (await page.getByRole('alertdialog').waitFor())),
  },
  { name: 'kill-all', what: 'Kill all, typed out', fleets: ['empty', 'busy', 'failing'], go: typed },
  {
    name: 'kill-all-board',
    what: 'Kill all at work',
    fleets: ['busy', 'failing'],
    go: async (stage) => {
      await typed(stage);
      await stage.page.getByRole('button', { name: /^Kill \d/ }).click();
      await stage.page.getByRole('progressbar', { name: 'Ended sessions' }).waitFor();
    },
  },
  {
    name: 'kill-all-receipt',
    what: 'What became of it: hosts that are away are told when they are back',
    fleets: ['busy', 'failing'],
    go: async ({ page, hub, url }) => {
      while (hub.killAlls.receipts.length === 0) await page.waitForTimeout(200);
      await page.goto(`${url}/mission-control/kill-all/${hub.killAlls.receipts[0]?.receiptId ?? ''}`);
      await page.getByText(/sessions? ended/).waitFor();
    },
  },
  { name: 'first-run', what: 'The first run, before any host', fleets: ['empty'], go: async ({ page, hub, url }) => (hub.world.nodes.clear(), hub.cut(), await page.goto(url + HOME), void (await page.getByRole('heading', { name: 'Waiting for a node' }).waitFor())) },
];

