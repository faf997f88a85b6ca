// For everybody: every page and dialog in the eyes of axe, dark and light, and a tour by keyboard alone.

import { beforeEach, describe, expect, it } from 'vitest';
import { api } from '../../src/routes.ts';
import { arrive, DEADLINE_MS, stack, until, useBrowser, visit, type Visitor } from '../harness.ts';
import { serious } from './axe.ts';
import { steer } from './fake.ts';

useBrowser();
beforeEach(() => steer('reset'));

describe.each(['dark', 'light'] as const)('in %s', (theme) => {
  it('nothing serious stands in the way on any page or dialog', async () => {
    const found: Record<string, string[]> = {};
    const look = async (name: string, visitor: Visitor): Promise<void> => {
      const lines = await serious(visitor.page);
      if (lines.length > 0) found[name] = lines;
    };
    const stranger = await arrive({ theme });
    await stranger.page.getByLabel('Email').waitFor();
    await look('sign-in', stranger);

    const visitor = await visit(stack.admin, { theme, width: 1440, height: 900 });
    const { page } = visitor;
    await look('no session', visitor);
    const echo = await visitor.spawn('e2e-echo', 'Speaker');
    await steer('say', { sessionId: echo.sessionId, role: 'agent', content: 'the number % of it', kind: 'text', times: 5 });
    await visitor.spawn('e2e-asks', 'Asking');
    const gone = await visitor.spawn('e2e-echo', 'Gone');
    await visitor.call('POST', api.act(gone.sessionId, 'kill'));
    await steer('node', { node: 'borealis', online: false });
    for (const grouping of ['host', 'status', 'provider', 'mission']) {
      await page.getByLabel('Group by').selectOption(grouping);
      await page.getByRole('tree', { name: `Sessions by ${grouping}` }).waitFor();
      await look(`roster by ${grouping}`, visitor);
    }
    await visitor.open('Speaker');
    await visitor.open('Asking');
    await look('panels', visitor);
    const dialogs: [string, string][] = [['?', 'Keys'], ['n', 'New session'], ['a', 'Audit log'], ['i', 'Inbox'], ['s', 'Search'], ['Control+k', 'Go to or do']];
    for (const [key, name] of dialogs) {
      await page.getByRole('tree').focus();
      await page.keyboard.press('F6');
      await page.evaluate(() => (document.activeElement as HTMLElement | null)?.blur());
      await page.keyboard.press(key);
      await page.getByRole('dialog', { name }).waitFor();
      if (name === 'Search') {
        await page.keyboard.type('number');
        await page.getByRole('list', { name: 'Found messages' }).waitFor();
      }
      await look(name, visitor);
      await page.keyboard.press('Escape');
      await page.getByRole('dialog', { name }).waitFor({ state: 'detached' });
    }
    await visitor.panel('Speaker').getByRole('button', { name: 'Replay' }).click();
    await page.getByRole('slider', { name: 'Time of the replay' }).waitFor();
    await look('replay', visitor);
    await page.getByRole('button', { name: 'Back' }).click();
    await page.getByRole('button', { name: 'Kill all' }).click();
    await look('kill all', visitor);
    await page.keyboard.press('Escape');
    for (const section of ['Agent providers', 'Nodes', 'People', 'API tokens', 'My account', 'Retention']) {
      if (!page.url().includes('settings')) await page.getByRole('button', { name: 'Settings' }).click();
      await page.getByRole('link', { name: section }).click();
      await page.getByRole('main').getByRole('heading', { level: 3 }).first().waitFor();
      await until('it is loaded', async () => (await page.getByText('Loading…').count()) === 0);
      await look(`settings: ${section}`, visitor);
    }
    expect(found).toEqual({});
  }, 180_000);
});

describe('by keyboard alone', () => {
  it('somebody signs in, starts a session, speaks to it, answers another, looks back, and ends it all', async () => {
    const { page } = await arrive();
    const keys = page.keyboard;
    await page.getByLabel('Email').waitFor();
    await tabTo('email', () => page.evaluate(() => document.activeElement?.getAttribute('autocomplete') === 'username' || document.activeElement?.getAttribute('type') === 'email'));
    await keys.type(stack.operator.email);
    await keys.press('Tab');
    await keys.type(stack.operator.password);
    await keys.press('Enter');
    await page.getByRole('status', { name: 'Connection: Live' }).waitFor({ timeout: DEADLINE_MS });

    await keys.press('n');
    await page.getByRole('dialog', { name: 'New session' }).waitFor();
    await start('e2e-asks', 'Asks by key');
    await page.getByRole('region', { name: 'Asks by key', exact: true }).waitFor({ timeout: DEADLINE_MS });
    await leaveBox();
    await keys.press('n');
    await start('e2e-echo', 'Heard by key');
    const heard = page.getByRole('region', { name: 'Heard by key', exact: true });
    await heard.waitFor({ timeout: DEADLINE_MS });

    // From the roster to the composer of the session.
    await leaveBox();
    await keys.press('r');
    await keys.type('h');
    await keys.press('Enter');
    await until('the composer has the focus', () => heard.evaluate((panel) => panel.contains(document.activeElement)));
    await tabTo('the composer', () => page.evaluate(() => document.activeElement?.tagName === 'TEXTAREA'));
    await keys.type('said by key');
    await keys.press('Enter');
    await heard.getByText('heard: said by key').waitFor({ timeout: DEADLINE_MS });

    // The inbox, and an answer.
    await leaveBox();
    await keys.press('i');
    const inbox = page.getByRole('dialog', { name: 'Inbox' });
    await inbox.getByText('rm -r build/').waitFor({ timeout: DEADLINE_MS });
    await tabTo('the answer', () => page.evaluate(() => document.activeElement?.textContent?.trim() === 'Yes, once'));
    await keys.press('Enter');
    await inbox.getByText('Answered by you: Yes, once').waitFor({ timeout: DEADLINE_MS });
    await keys.press('Escape');
    await inbox.waitFor({ state: 'detached' });

    // The audit log, the settings and back.
    await keys.press('a');
    await page.getByRole('dialog', { name: 'Audit log' }).getByText('said by key').first().waitFor();
    await keys.press('Escape');
    await keys.press(',');
    await page.getByRole('heading', { name: 'Settings' }).waitFor();
    await keys.press('p');
    await heard.waitFor();

    // The end of all of it.
    await keys.press('Control+k');
    await keys.type('kill all');
    await keys.press('Enter');
    await page.getByRole('alertdialog', { name: 'Kill all sessions' }).waitFor();
    await tabTo('the box', () => page.evaluate(() => document.activeElement?.tagName === 'INPUT'));
    await keys.type('KILL ALL');
    await keys.press('Enter');
    await page.getByRole('dialog', { name: 'Kill-all of every runtime' }).getByText('2 of 2 sessions ended.').waitFor({ timeout: DEADLINE_MS });

    async function start(profile: string, title: string): Promise<void> {
      await tabTo('the profiles', () => page.evaluate(() => document.activeElement?.getAttribute('name') === 'profile'));
      const chosen = (): Promise<string | null> => page.evaluate(() => (document.activeElement as HTMLInputElement | null)?.value ?? null);
      for (let i = 0; i < 20 && (await chosen()) !== profile; i += 1) await keys.press('ArrowDown');
      await keys.press('Tab');
      await keys.press('Tab');
      await keys.type(title);
      await keys.press('Enter');
    }

    /** Out of whatever one types in, to where single keys mean something. */
    async function leaveBox(): Promise<void> {
      await page.getByRole('dialog').waitFor({ state: 'detached' });
      await keys.press('F6');
      await until('no box has the focus', () => page.evaluate(() => !['TEXTAREA', 'INPUT', 'SELECT'].includes(document.activeElement?.tagName ?? '')));
    }

    async function tabTo(what: string, isThere: () => Promise<boolean>): Promise<void> {
      for (let i = 0; i < 60; i += 1) {
        if (await isThere()) return;
        await keys.press('Tab');
      }
      throw new Error(`the Tab key does not lead to ${what}`);
    }
  }, 120_000);

  it('somebody who wants no motion sees none', async () => {
    const visitor = await visit(stack.operator);
    await visitor.page.emulateMedia({ reducedMotion: 'reduce' });
    await visitor.spawn('e2e-talker', 'Breathing');
    await visitor.open('Breathing');
    const moving = await visitor.page.evaluate(() => document.getAnimations().filter((each) => Number(each.effect?.getComputedTiming().duration) > 1).length);
    expect(moving).toBe(0);
  });
});
