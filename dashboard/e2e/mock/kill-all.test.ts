// Ending everything: the board while it works, and the receipt until nothing of it is pending.

import type { Locator, Page } from 'playwright-core';
import { beforeEach, describe, expect, it } from 'vitest';
import { api } from '../../src/routes.ts';
import { DEADLINE_MS, stack, until, useBrowser, visit, type Visitor } from '../harness.ts';
import { serious } from './axe.ts';
import { steer } from './fake.ts';

useBrowser();
beforeEach(() => steer('reset'));

/** Types the words into the dialog and has it done. */
async function killAll(page: Page, count: number, warning = /This cannot be undone/): Promise<void> {
  await page.getByRole('button', { name: 'Kill all' }).click();
  const dialog = page.getByRole('alertdialog', { name: 'Kill all sessions' });
  expect(await dialog.getByRole('button', { name: `Kill ${count}` }).isDisabled()).toBe(true);
  await dialog.getByText(warning).waitFor();
  await dialog.getByLabel(/^Type/).fill('KILL ALL');
  await dialog.getByRole('button', { name: `Kill ${count}` }).click();
}

const receiptOf = (page: Page): Locator => page.getByRole('dialog', { name: 'Kill-all of every runtime' });

/** Two sessions, and the host of the second is cut off. */
async function cutOff(visitor: Visitor): Promise<{ near: string; far: string }> {
  const near = await visitor.spawn('e2e-echo', 'Near');
  const far = await visitor.spawn('e2e-echo', 'Far');
  await steer('node', { node: 'cinder', online: false });
  await steer('update', { sessionId: far.sessionId, part: { node: 'cinder', stale: true, staleSince: new Date().toISOString() } });
  return { near: near.sessionId, far: far.sessionId };
}

describe('kill-all', () => {
  it('shows its progress session by session, and a receipt that can be copied', async () => {
    const visitor = await visit(stack.operator);
    for (let i = 1; i <= 12; i += 1) await visitor.spawn('e2e-echo', `Victim ${i}`);
    const { page } = visitor;
    await killAll(page, 12);
    await page.getByRole('progressbar', { name: 'Ended sessions' }).waitFor();
    const receipt = receiptOf(page);
    await receipt.getByText('12 of 12 sessions ended.').waitFor({ timeout: DEADLINE_MS });
    await page.context().grantPermissions(['clipboard-read', 'clipboard-write'], { origin: stack.url });
    await receipt.getByRole('button', { name: 'Copy the receipt' }).click();
    await receipt.getByRole('button', { name: 'Copied' }).waitFor();
    const text = await page.evaluate(() => navigator.clipboard.readText());
    expect(text).toMatch(/^Kill-all of every runtime in default, by Grace, /);
    expect(text.match(/^killed\t/gm)).toHaveLength(12);
    await receipt.getByRole('button', { name: 'Close', exact: true }).last().click();
    // Nothing is left to say of it in the bar.
    expect(await page.getByRole('banner').getByRole('button', { name: /^Kill-all|pending/ }).count()).toBe(0);
  });

  it('follows what is pending over a reload until its host is back, for whoever has the link', async () => {
    const visitor = await visit(stack.operator);
    const { far } = await cutOff(visitor);
    const { page } = visitor;
    await killAll(page, 2, /^1 is on a node that is away: it is killed when that is back in time/);
    const receipt = receiptOf(page);
    await receipt.getByText('1 of 2 sessions ended.').waitFor({ timeout: DEADLINE_MS });
    await receipt.getByText('1 is pending').waitFor();
    await receipt.getByText(/when its node is heard of again, for 14m \d\ds more/).waitFor();
    expect((await receipt.getByRole('listitem').allInnerTexts()).map((text) => text.split('\n')[0])).toEqual(['pending', 'killed']);
    expect(await serious(page)).toEqual([]);
    await page.reload();
    await receipt.getByText('1 is pending').waitFor({ timeout: DEADLINE_MS });
    await page.keyboard.press('Escape');
    await receipt.waitFor({ state: 'detached' });
    expect(new URL(page.url()).pathname).toBe('/mission-control/');
    await page.reload();
    const chip = page.getByRole('button', { name: '1 kill pending' });
    await chip.click({ timeout: DEADLINE_MS });
    await receipt.getByText('1 is pending').waitFor();
    const link = page.url();
    const colleague = await visit(stack.observer, { path: new URL(link).pathname });
    await receiptOf(colleague.page).getByText('1 is pending').waitFor({ timeout: DEADLINE_MS });
    await steer('node', { node: 'cinder', online: true });
    for (const each of [page, colleague.page]) await receiptOf(each).getByText('2 of 2 sessions ended.').waitFor({ timeout: DEADLINE_MS });
    expect((await visitor.session(far)).status).toBe('killed');
    await page.keyboard.press('Escape');
    await chip.waitFor({ state: 'detached' });
  });

  it('says what it gave up when the time for it is over, and offers to try again', async () => {
    const visitor = await visit(stack.operator);
    const { far } = await cutOff(visitor);
    const { page } = visitor;
    await killAll(page, 2);
    const receipt = receiptOf(page);
    await receipt.getByText('1 is pending').waitFor({ timeout: DEADLINE_MS });
    await steer('lease-over');
    await receipt.getByText('1 was not ended: see below.').waitFor({ timeout: DEADLINE_MS });
    await receipt.getByText(/^not carried out: node cinder was not back by/).waitFor();
    expect(await receipt.getByRole('progressbar').count()).toBe(0);
    await steer('node', { node: 'cinder', online: true });
    await steer('update', { sessionId: far, part: { stale: false } });
    await page.keyboard.press('Escape');
    await page.getByRole('button', { name: 'Kill all' }).click();
    const dialog = page.getByRole('alertdialog', { name: 'Kill all sessions' });
    await dialog.getByRole('button', { name: /1 of 2 ended.*every runtime, by Grace/ }).click();
    await receipt.getByText('1 was not ended: see below.').waitFor();
    // Ended by other means, it stays what it was to this kill-all.
    await visitor.call('POST', api.act(far, 'kill'));
    await receipt.getByText(/not carried out.*; since then killed/).waitFor({ timeout: DEADLINE_MS });
    await receipt.getByText('1 was not ended: see below.').waitFor();
  });

  it('is found again where the page was loaded again before the answer, and its hub says nothing new for a while', async () => {
    const visitor = await visit(stack.operator);
    await cutOff(visitor);
    for (let i = 1; i <= 20; i += 1) await visitor.spawn('e2e-echo', `Victim ${i}`);
    const { page } = visitor;
    await killAll(page, 22);
    await page.getByRole('progressbar', { name: 'Ended sessions' }).waitFor();
    await page.reload();
    await page.getByRole('button', { name: /^(Killing…|Kill-all done|1 kill pending)$/ }).waitFor({ timeout: DEADLINE_MS });
    await page.getByRole('button', { name: '1 kill pending' }).click({ timeout: DEADLINE_MS });
    const receipt = receiptOf(page);
    await receipt.getByText('21 of 22 sessions ended.').waitFor();
    await page.route('**/kill-all/*', (route) => route.abort());
    await receipt.getByText(/^As of \d\d:\d\d:\d\d; nothing newer is known: the server cannot be reached/).waitFor({ timeout: DEADLINE_MS });
    await page.unroute('**/kill-all/*');
    await steer('node', { node: 'cinder', online: true });
    await receipt.getByText('22 of 22 sessions ended.').waitFor({ timeout: DEADLINE_MS });
    expect(await receipt.getByText(/^As of/).count()).toBe(0);
  });

  it('goes on when its dialog is closed, and says so when it is done', async () => {
    const visitor = await visit(stack.operator);
    for (let i = 1; i <= 25; i += 1) await visitor.spawn('e2e-echo', `Victim ${i}`);
    const { page } = visitor;
    await killAll(page, 25);
    await page.getByRole('button', { name: 'Close, it goes on' }).click();
    await page.getByRole('button', { name: 'Killing…' }).click();
    await page.getByRole('progressbar', { name: 'Ended sessions' }).waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('button', { name: 'Kill-all done' }).click({ timeout: DEADLINE_MS });
    await receiptOf(page).getByText('25 of 25 sessions ended.').waitFor();
    await page.keyboard.press('Escape');
    await until('the bar has nothing more to say', async () => (await page.getByRole('button', { name: 'Kill-all done' }).count()) === 0);
  });

  it('that the hub refuses was not done, and a receipt that nobody has is not there', async () => {
    const visitor = await visit(stack.operator);
    await visitor.spawn('e2e-echo', 'Survivor');
    const { page } = visitor;
    await page.route('**/kill-all', (route) => (route.request().method() === 'POST' ? route.fulfill({ status: 503, json: { error: { code: 'busAway', message: 'the bus is away: nothing was killed', requestId: 'req-1' } } }) : route.continue()));
    await killAll(page, 1);
    await page.getByRole('alertdialog').getByRole('alert').getByText(/nothing was killed/).waitFor();
    await page.goto(`${stack.url}/mission-control/kill-all/01JD8Z2V9Q0000000000000NONE`);
    await page.getByRole('dialog', { name: 'Kill-all' }).getByText(/no such receipt at hand; the audit log has all of them/).waitFor({ timeout: DEADLINE_MS });
  });
});
