// What stands around the panels: roster, inbox, palette, keys, search, audit, spawn and first-run.

import { readFileSync } from 'node:fs';
import { beforeEach, describe, expect, it } from 'vitest';
import { api } from '../../src/routes.ts';
import { DEADLINE_MS, stack, until, useBrowser, visit } from '../harness.ts';
import { serious } from './axe.ts';
import { steer } from './fake.ts';

useBrowser();
beforeEach(() => steer('reset'));

describe('the roster', () => {
  it('is grouped by who needs somebody, says what each does and what is unread, and is a tree for the keyboard', async () => {
    const visitor = await visit(stack.operator);
    const { page } = visitor;
    const echo = await visitor.spawn('e2e-echo', 'Quiet one');
    await visitor.spawn('e2e-asks', 'Asking one');
    await page.getByLabel('Group by').selectOption('status');
    const tree = page.getByRole('tree', { name: 'Sessions by status' });
    await tree.getByRole('treeitem', { name: 'Needs you, 1' }).waitFor({ timeout: DEADLINE_MS });
    await steer('say', { sessionId: echo.sessionId, role: 'agent', content: 'cargo test -p hub', kind: 'text' });
    const row = tree.getByRole('treeitem', { name: /^Quiet one, running, unread/ });
    await row.getByText('cargo test -p hub').waitFor();
    await tree.focus();
    await page.keyboard.press('End');
    expect(await tree.getAttribute('aria-activedescendant')).toBe(await row.getAttribute('id'));
    expect([await row.getAttribute('aria-posinset'), await row.getAttribute('aria-setsize')]).toEqual(['1', '1']);
    await page.keyboard.press('Space');
    await visitor.panel('Quiet one').waitFor();
    expect(await page.evaluate(() => document.activeElement?.getAttribute('role'))).toBe('tree');
    await tree.getByRole('treeitem', { name: 'Quiet one, running', exact: true }).waitFor();
    await page.keyboard.press('Enter');
    await until('the focus is in the panel', () => visitor.panel('Quiet one').evaluate((panel) => panel.contains(document.activeElement)));
  });

  it('is resized by pointer and keyboard, moves to the other side, and is so again after signing in elsewhere', async () => {
    const visitor = await visit(stack.operator);
    const { page } = visitor;
    const roster = page.getByRole('complementary', { name: 'Roster' });
    const bar = page.getByRole('separator', { name: 'Width of the roster' });
    const width = async (): Promise<number> => (await roster.boundingBox())?.width ?? 0;
    const before = await width();
    await bar.focus();
    await page.keyboard.press('ArrowRight');
    await until('it is wider', async () => (await width()) === before + 16);
    const box = await bar.boundingBox();
    await page.mouse.move((box?.x ?? 0) + 3, 400);
    await page.mouse.down();
    await page.mouse.move((box?.x ?? 0) + 83, 400);
    await page.mouse.up();
    await until('it is wider still', async () => (await width()) === before + 96);
    const saved = page.waitForResponse((r) => r.url().endsWith('/layout') && r.request().method() === 'PUT');
    await page.getByRole('button', { name: 'Move the roster to the right' }).click();
    await saved;
    await page.reload();
    await until('it stands on the right, as wide', async () => {
      const again = await roster.boundingBox();
      return again?.width === before + 96 && again.x > 600;
    });
  });

  it('draws only the rows in view of a fleet of thousands', async () => {
    await steer('many', { count: 3_000 });
    const { page } = await visit(stack.operator);
    await page.getByRole('heading', { name: 'Roster 3000' }).waitFor({ timeout: DEADLINE_MS });
    expect(await page.getByRole('treeitem').count()).toBeLessThan(60);
    await page.getByRole('tree').focus();
    await page.keyboard.press('End');
    await page.getByRole('treeitem', { name: /^Session 2999, / }).waitFor();
    expect(await page.getByRole('treeitem').count()).toBeLessThan(60);
  });
});

describe('the inbox', () => {
  it('has what everybody asks, the count in the title, and says who has answered elsewhere without anything moving', async () => {
    const visitor = await visit(stack.operator);
    const { sessionId } = await visitor.spawn('e2e-asks', 'First asker');
    await visitor.spawn('e2e-asks', 'Second asker');
    const { page } = visitor;
    await until('the title counts them', async () => (await page.title()) === '(2) Mission Control');
    await page.getByRole('button', { name: /^Inbox/ }).click();
    const inbox = page.getByRole('dialog', { name: 'Inbox' });
    const items = inbox.getByRole('list', { name: 'Who needs somebody' }).locator(':scope > li');
    expect((await items.allInnerTexts()).map((text) => text.split('\n')[0])).toEqual(['First asker', 'Second asker']);
    await inbox.getByText('rm -r build/').first().waitFor();
    const admin = await visit(stack.admin);
    const requestId = (await visitor.session(sessionId)).attention?.request?.requestId ?? '';
    const reply = await admin.call('POST', api.answer(sessionId), { requestId, optionId: 'once' });
    expect(reply.status).toBe(200);
    await inbox.getByText('Answered elsewhere by Ada: Yes, once').waitFor({ timeout: DEADLINE_MS });
    expect((await items.allInnerTexts()).map((text) => text.split('\n')[0])).toEqual(['First asker', 'Second asker']);
    await items.nth(1).getByRole('button', { name: 'No' }).click();
    await inbox.getByText('Answered by you: No').waitFor({ timeout: DEADLINE_MS });
    await until('the title is calm again', async () => (await page.title()) === 'Mission Control');
  });

  it('notifies at the edge, once, only those who asked for it and look away', async () => {
    const visitor = await visit(stack.operator);
    const { page } = visitor;
    await page.context().grantPermissions(['notifications'], { origin: stack.url });
    await page.evaluate(() => {
      const told: string[] = [];
      Object.assign(window, { told });
      class Fake {
        onclick: (() => void) | null = null;
        constructor(title: string) {
          told.push(title);
        }
      }
      Object.assign(Fake, { permission: 'granted', requestPermission: () => Promise.resolve('granted') });
      Object.assign(window, { Notification: Fake });
      document.hasFocus = () => false;
    });
    const told = (): Promise<string[]> => page.evaluate(() => (window as unknown as { told: string[] }).told);
    await visitor.spawn('e2e-asks', 'Too early');
    await page.getByRole('button', { name: /^Inbox/ }).click();
    await page.getByRole('dialog').getByText('rm -r build/').waitFor({ timeout: DEADLINE_MS });
    expect(await told()).toEqual([]);
    await page.getByRole('button', { name: 'Notify me' }).click();
    await page.getByRole('button', { name: 'Notifications on' }).waitFor();
    await visitor.spawn('e2e-asks', 'In time');
    await until('it is told', async () => (await told()).length > 0);
    expect(await told()).toEqual(['In time needs you']);
  });
});

describe('the palette and the keys', () => {
  it('lead to sessions, actions and pages without a mouse', async () => {
    const visitor = await visit(stack.admin);
    await visitor.spawn('e2e-echo', 'Wanted session');
    const { page } = visitor;
    await page.keyboard.press('Control+k');
    await page.getByRole('combobox', { name: 'Session, action or page' }).fill('wanted');
    await page.getByRole('option', { name: /Wanted session/ }).waitFor();
    await page.keyboard.press('Enter');
    await visitor.panel('Wanted session').waitFor();
    await page.keyboard.press('Control+k');
    await page.keyboard.type('retention');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Retention' }).waitFor();
    expect(new URL(page.url()).pathname).toBe('/mission-control/settings/retention');
    await page.keyboard.press('?');
    const keys = page.getByRole('dialog', { name: 'Keys' });
    await keys.getByText('Go to or do anything').waitFor();
    await keys.getByLabel(/Single keys do something/).uncheck();
    await page.keyboard.press('Escape');
    await page.keyboard.press('i');
    expect(await page.getByRole('dialog').count()).toBe(0);
    await page.keyboard.press('Control+k');
    await page.getByRole('dialog', { name: 'Go to or do' }).waitFor();
  });

  it('offer an observer nothing that writes', async () => {
    const { page } = await visit(stack.observer);
    await page.keyboard.press('n');
    await page.keyboard.press('Control+k');
    expect(await page.getByRole('option', { name: /Kill all|new session|People/ }).count()).toBe(0);
    expect(await page.getByRole('dialog').count()).toBe(1);
  });
});

describe('search', () => {
  it('finds what was said, shows it in its place, and opens the session there', async () => {
    const visitor = await visit(stack.operator);
    const { sessionId } = await visitor.spawn('e2e-echo', 'Archive');
    await steer('say', { sessionId, role: 'agent', content: 'entry number % of the log', kind: 'text', times: 400 });
    const { page } = visitor;
    await page.keyboard.press('s');
    await page.getByRole('searchbox', { name: 'Search what was said' }).fill('NUMBER 17');
    const hits = page.getByRole('list', { name: 'Found messages' }).getByRole('button', { name: /Archive/ });
    // 17, 117, 217, 317, and 170 to 179.
    await until('all are found', async () => (await hits.count()) === 14);
    await hits.last().click();
    await page.getByText('entry number 16 of the log').waitFor();
    await page.getByRole('button', { name: 'Open the session here' }).click();
    await visitor.panel('Archive').waitFor();
    expect(new URL(page.url()).pathname).toBe(`/mission-control/sessions/${sessionId}/17`);
    // There, though it is far from the end that was in view, and marked.
    const found = visitor.panel('Archive').locator('[aria-current="true"]');
    await found.getByText('entry number 17 of the log').waitFor();
    expect(await found.evaluate((row) => {
      const [at, view] = [row.getBoundingClientRect(), row.closest('[role="log"]')?.getBoundingClientRect()];
      return view !== undefined && at.top >= view.top && at.bottom <= view.bottom;
    })).toBe(true);
    // A colleague who is sent the link sees it there too.
    await page.reload();
    await visitor.panel('Archive').locator('[aria-current="true"]').getByText('entry number 17 of the log').waitFor({ timeout: DEADLINE_MS });
    await steer('offer', { isOffered: false });
    await page.keyboard.press('Escape');
    await page.getByRole('button', { name: 'Search' }).click();
    await page.getByRole('searchbox', { name: 'Search what was said' }).fill('anything');
    await page.getByText('This hub does not offer search.').waitFor();
  });

  it('goes on where a page ended, each hit once', async () => {
    const visitor = await visit(stack.operator);
    const { page } = visitor;
    const { sessionId } = await visitor.spawn('e2e-echo', 'Haystack');
    await steer('say', { sessionId, role: 'agent', content: 'needle % in the hay', kind: 'text', times: 70 });
    await page.keyboard.press('s');
    const hits = page.getByRole('list', { name: 'Found messages' }).getByRole('button');
    await page.getByRole('searchbox', { name: 'Search what was said' }).fill('needle');
    await page.getByText(/^50 or more found in the newest [\d,]+ messages$/).waitFor();
    await page.getByRole('button', { name: 'Look further' }).click();
    await page.getByText('70 found').waitFor();
    expect(await hits.count()).toBe(70);
    expect(await page.getByRole('button', { name: 'Look further' }).count()).toBe(0);
    expect(await serious(page)).toEqual([]);
  });
});

describe('the audit log', () => {
  it('shows number, hash and how far the chain is verified, by session, and is exported', async () => {
    const visitor = await visit(stack.admin);
    const { sessionId } = await visitor.spawn('e2e-echo', 'Audited');
    await visitor.spawn('e2e-echo', 'Not this one');
    const { page } = visitor;
    await page.getByRole('button', { name: 'Audit', exact: true }).click();
    const drawer = page.getByRole('dialog', { name: 'Audit log' });
    await drawer.getByText(/verified to #\d+/).waitFor();
    await drawer.getByLabel('Session').selectOption(sessionId);
    const entries = drawer.getByRole('list', { name: 'Audit entries' }).getByRole('listitem');
    await until('only its rows', async () => (await entries.count()) === 1);
    expect(await entries.first().innerText()).toMatch(/spawn[\s\S]*#\d+ Ada \(admin\)[\s\S]*[0-9a-f]{12}/);
    const download = page.waitForEvent('download');
    await drawer.getByRole('button', { name: 'JSON lines' }).click();
    const file = await download;
    expect(file.suggestedFilename()).toMatch(/^audit-.*\.jsonl$/);
    const rows = readFileSync(await file.path(), 'utf8').trim().split('\n').map((line) => JSON.parse(line) as { sessionId: string });
    // The whole log, whatever is looked at: a part of it proves nothing.
    expect(new Set(rows.map((row) => row.sessionId)).size).toBeGreaterThan(1);
    const other = await visit(stack.operator);
    await other.page.getByRole('button', { name: 'Audit', exact: true }).click();
    await other.page.getByRole('dialog', { name: 'Audit log' }).getByText(/verified to/).waitFor();
    expect(await other.page.getByRole('button', { name: 'JSON lines' }).count()).toBe(0);
  });
});

describe('settings', () => {
  it('enrol a node with a join line that is told once, and revoke one', async () => {
    const { page } = await visit(stack.admin, { path: '/mission-control/settings/nodes' });
    await page.getByRole('button', { name: 'Add a node' }).click();
    const dialog = page.getByRole('dialog', { name: 'Add a node' });
    await dialog.getByLabel('Name of the node').fill('no dots.here');
    expect(await dialog.getByRole('button', { name: 'Make credentials' }).isDisabled()).toBe(true);
    await dialog.getByLabel('Name of the node').fill('atlas');
    await dialog.getByRole('button', { name: 'Make credentials' }).click();
    await dialog.getByRole('alert').getByText(/revoke it first/).waitFor();
    await dialog.getByLabel('Name of the node').fill('delta');
    await dialog.getByRole('button', { name: 'Make credentials' }).click();
    expect(await dialog.getByLabel('Join line').inputValue()).toContain('mosaic-node join');
    await dialog.getByText('Waiting for delta…').waitFor();
    await dialog.getByRole('button', { name: 'Done' }).click();
    expect(await page.content()).not.toContain('mm1_');
    await page.getByRole('row', { name: /borealis/ }).getByRole('button', { name: 'Revoke' }).click();
    await page.getByRole('alertdialog').getByRole('button', { name: 'Revoke' }).click();
    await page.getByRole('row', { name: /borealis/ }).waitFor({ state: 'detached' });
  });

  it('change roles, invite, and remove people', async () => {
    const { page } = await visit(stack.admin, { path: '/mission-control/settings/people' });
    await page.getByLabel('Role of Ole').selectOption('operator');
    await page.getByRole('alertdialog').getByRole('button', { name: 'Make operator' }).click();
    await until('it is changed', async () => (await page.getByLabel('Role of Ole').inputValue()) === 'operator');
    expect(await page.getByLabel('Role of Ada').isDisabled()).toBe(true);
    await page.getByRole('button', { name: 'Invite' }).click();
    await page.getByRole('dialog').getByLabel('Email').fill('new@example.org');
    await page.getByRole('dialog').getByRole('button', { name: 'Make the link' }).click();
    expect(await page.getByLabel(/^Send this link/).inputValue()).toContain('/mission-control/invitation#');
    await page.getByRole('button', { name: 'Done' }).click();
    await page.getByRole('row', { name: /new@example.org/ }).waitFor();
  });

  it('make a token that is told once, keep messages longer, and change a password', async () => {
    const { page } = await visit(stack.admin, { path: '/mission-control/settings/tokens' });
    await page.getByRole('button', { name: 'New token' }).click();
    await page.getByLabel('What is it for?').fill('nightly');
    await page.getByRole('button', { name: 'Make it' }).click();
    expect(await page.getByLabel(/^Token; it is told only now/).inputValue()).toMatch(/^mm_/);
    await page.getByRole('button', { name: 'Done' }).click();
    await page.getByRole('row', { name: /nightly/ }).getByRole('button', { name: 'Revoke' }).click();
    await page.getByRole('alertdialog').getByRole('button', { name: 'Revoke' }).click();
    await page.getByText('You have none.').waitFor();
    await page.getByRole('link', { name: 'Retention' }).click();
    await page.getByLabel('Days').fill('0');
    await page.getByText('A whole number from 1 to 3650.').waitFor();
    await page.getByLabel('Days').fill('7');
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByRole('alertdialog').getByRole('button', { name: 'Shorten' }).click();
    await page.getByText('Messages are kept 7 days').waitFor();
    await page.getByRole('link', { name: 'My account' }).click();
    await page.getByText('this one').waitFor();
    await page.getByLabel('Password of now').fill('wrong');
    await page.getByLabel('New password', { exact: true }).fill('a long new password');
    await page.getByLabel('New password, again').fill('a long new password');
    await page.getByRole('button', { name: 'Change password' }).click();
    await page.getByRole('alert').getByText(/password of now is wrong/).waitFor();
  });

  it('say what this hub does not offer', async () => {
    await steer('offer', { isOffered: false });
    const { page } = await visit(stack.admin, { path: '/mission-control/settings/tokens' });
    for (const section of ['API tokens', 'Retention', 'People']) {
      await page.getByRole('link', { name: section }).click();
      await page.getByText('This hub does not offer it.').first().waitFor();
    }
  });
});

describe('a new session', () => {
  it('is started for another one, with a task and a mission', async () => {
    const visitor = await visit(stack.operator);
    const parent = await visitor.spawn('e2e-echo', 'Lead');
    const { page } = visitor;
    await page.keyboard.press('n');
    const dialog = page.getByRole('dialog', { name: 'New session' });
    await dialog.getByRole('radio', { name: /e2e-echo/ }).check({ force: true });
    await dialog.getByLabel('Title (optional)').fill('Helper');
    await dialog.getByLabel('Started for (optional)').selectOption(parent.sessionId);
    await dialog.getByLabel('Mission (optional)').fill('moon');
    await dialog.getByLabel('Task id (optional)').fill('MM-1');
    await dialog.getByLabel('Task source').selectOption('external');
    await dialog.getByRole('button', { name: 'Start' }).click();
    await visitor.panel('Helper').waitFor({ timeout: DEADLINE_MS });
    const { json } = await visitor.call<{ sessions: { title?: string }[] }>('GET', api.sessions());
    expect(json.sessions.find((each) => each.title === 'Helper')).toMatchObject({ parentSessionId: parent.sessionId, missionId: 'moon', taskId: 'MM-1', taskSource: 'external' });
    expect(await visitor.row('Helper').getAttribute('aria-level')).toBe('3');
  });
});

describe('the first run', () => {
  it('waits for a node, and turns into the first host by itself', async () => {
    await steer('no-nodes');
    const { page } = await visit(stack.admin);
    await page.getByRole('heading', { name: 'Waiting for a node' }).waitFor();
    await steer('node', { node: 'first' });
    await page.getByRole('list', { name: 'Nodes' }).getByText('first', { exact: true }).waitFor();
    await page.getByRole('main').getByRole('button', { name: 'New session' }).waitFor();
  });
});
