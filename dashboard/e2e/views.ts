// Every page and dialog, and how one comes there as an admin: for the pictures, and for whoever looks at all of them.

import type { Page } from 'playwright-core';
import { idle } from '../mock/scripts.ts';
import type { MockHub } from '../mock/server.ts';
import { api } from '../src/routes.ts';

export const HOME = '/mission-control/';
export type FleetName = 'empty' | 'busy' | 'failing';
export interface Look {
  theme: 'dark' | 'light';
  width: number;
}
export const LOOKS: readonly Look[] = [{ theme: 'dark', width: 1280 }, { theme: 'light', width: 1920 }, { theme: 'light', width: 1280 }, { theme: 'dark', width: 1920 }];

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

/** A session that has said nothing yet. */
async function openNew(stage: Stage): Promise<void> {
  const { world } = stage.hub;
  world.add({ node: [...world.nodes.keys()][0] ?? 'atlas', provider: 'pty', agentType: 'claude', title: 'Just begun' }, idle());
  await openSession(stage, 'Just begun');
}

const section = (id: string, fleets: readonly FleetName[] = ['busy']): View => ({ name: `settings-${id}`, what: `Settings: ${id}`, fleets, path: `/mission-control/settings/${id}` });

/** From here on the hub refuses some of what it is asked. */
const refuse = ({ page }: Stage, error: { code: string; message: string; requestId: string }, which: (path: string) => boolean): Promise<unknown> =>
  page.route(({ pathname }) => which(pathname), (route) => route.fulfill({ status: 503, json: { error } }));

/** A section that cannot be loaded, whatever the fleet does. */
const failing = (id: string, ...paths: readonly string[]): View => ({
  ...section(id, ['failing']),
  go: async (stage) => {
    const { page } = stage;
    const error = { code: 'storeUnavailable', message: 'the store does not answer; the bus keeps what happens until it does', requestId: 'req-7f3a02' };
    await refuse(stage, error, (path) => paths.includes(path));
    await page.reload();
    await page.getByRole('status', { name: 'Connection: Live' }).waitFor();
    await page.getByRole('alert').first().waitFor();
  },
  after: async ({ page }) => page.unrouteAll(),
});

// What changes the fleet for good comes last.
export const VIEWS: readonly View[] = [
  { name: 'panels', what: 'The fleet', fleets: ['empty', 'busy', 'failing'] },
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
  { name: 'spawn', what: 'A new session', fleets: ['empty', 'busy'], go: key('n') },
  {
    name: 'spawn',
    what: 'A new session',
    fleets: ['failing'],
    go: async (stage) => {
      const error = { code: 'nodeAway', message: 'node atlas did not answer within 10 s; nothing was started', requestId: 'req-7f3a02' };
      await refuse(stage, error, (path) => path.endsWith('/sessions'));
      await key('n')(stage);
      await click('Start')(stage);
      await stage.page.getByRole('alert').first().waitFor();
    },
    after: async ({ page }) => page.unrouteAll(),
  },
  { name: 'audit', what: 'Who did what', fleets: ['empty', 'busy', 'failing'], go: key('a') },
  section('providers', ['empty', 'busy', 'failing']),
  section('nodes', ['empty', 'busy', 'failing']),
  section('people', ['empty', 'busy']),
  failing('people', api.users(), api.invitations()),
  section('tokens', ['empty', 'busy']),
  failing('tokens', api.tokens()),
  section('account'),
  failing('account', api.signIns()),
  section('retention'),
  failing('retention', api.retention()),
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
  { name: 'session', what: 'One session, its stream', fleets: ['empty'], go: openNew },
  { name: 'first-run', what: 'The first run, before any host', fleets: ['empty'], go: async ({ page, hub, url }) => (hub.world.nodes.clear(), hub.world.sessions.clear(), hub.world.layouts.clear(), hub.cut(), await page.goto(url + HOME), void (await page.getByRole('heading', { name: 'Waiting for a node' }).waitFor())) },
];

