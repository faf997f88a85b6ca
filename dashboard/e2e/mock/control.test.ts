// One writer at a time on a terminal, and what needs two people: as two of them see it, each in a browser of their own.

import { beforeEach, describe, expect, it } from 'vitest';
import { api } from '../../src/routes.ts';
import { DEADLINE_MS, stack, until, useBrowser, visit } from '../harness.ts';
import { steer } from './fake.ts';
import { serious } from './axe.ts';

useBrowser();
beforeEach(() => steer('reset'));

describe('a terminal', () => {
  it('is one person’s at a time; everybody sees whose, and taking it is seen at once', async () => {
    const grace = await visit(stack.operator);
    await grace.spawn('shell', 'Shared shell');
    const ada = await visit(stack.admin);
    const ole = await visit(stack.observer);
    const panels = [];
    for (const visitor of [grace, ada, ole]) {
      const panel = await visitor.open('Shared shell');
      await panel.getByRole('button', { name: 'Terminal', exact: true }).click();
      panels.push(panel);
    }
    const [hers, adas, oles] = panels;
    if (hers === undefined || adas === undefined || oles === undefined) throw new Error('a panel is missing');
    const screen = hers.getByRole('group', { name: 'Terminal' });
    await hers.getByText('Nobody has control; whoever types takes it').waitFor({ timeout: DEADLINE_MS });
    expect(await oles.getByRole('button', { name: 'Take control' }).count()).toBe(0);
    await screen.click();
    await grace.page.keyboard.type('l');
    await hers.getByText('You have control').waitFor({ timeout: DEADLINE_MS });
    await adas.getByText('Grace has control').waitFor({ timeout: DEADLINE_MS });
    await oles.getByText('Grace has control').waitFor({ timeout: DEADLINE_MS });
    expect(await adas.getByRole('button', { name: 'Resize the terminal to this panel, for everybody' }).getAttribute('aria-disabled')).toBe('true');

    // Ada's keys go nowhere until she takes control.
    const sent: string[] = [];
    ada.page.on('request', (request) => {
      if (request.url().endsWith('/terminal/input')) sent.push(request.url());
    });
    await adas.getByRole('group', { name: 'Terminal' }).click();
    await ada.page.keyboard.type('x');
    // The colours inside are the program's own.
    expect((await serious(ada.page)).filter((line) => !line.includes('.xterm'))).toEqual([]);
    await adas.getByRole('button', { name: 'Take control' }).click();
    await adas.getByText('You have control').waitFor({ timeout: DEADLINE_MS });
    await hers.getByText('Ada has control').waitFor({ timeout: DEADLINE_MS });
    expect(sent).toEqual([]);
    await adas.getByRole('group', { name: 'Terminal' }).click();
    await ada.page.keyboard.type('y');
    await until('what she types is sent', () => Promise.resolve(sent.length === 1));
    await adas.getByRole('button', { name: 'Release' }).click();
    await hers.getByText('Nobody has control; whoever types takes it').waitFor({ timeout: DEADLINE_MS });

    // Who looks away gives it back.
    await hers.getByRole('button', { name: 'Take control' }).click();
    await oles.getByText('Grace has control').waitFor({ timeout: DEADLINE_MS });
    await hers.getByRole('button', { name: 'Conversation', exact: true }).click();
    await adas.getByText('Nobody has control; whoever types takes it').waitFor({ timeout: DEADLINE_MS });
  });
});

describe('a marked session', () => {
  it('is killed when a second person agrees, and whoever asked is told what became of it', async () => {
    const grace = await visit(stack.operator);
    const { sessionId } = await grace.spawn('e2e-echo', 'Payroll');
    const ada = await visit(stack.admin);
    const hers = await grace.open('Payroll');
    const adas = await ada.open('Payroll');
    expect(await hers.getByRole('button', { name: 'Four eyes: let it need two people' }).count()).toBe(0);
    await adas.getByRole('button', { name: 'Four eyes: let it need two people' }).click();
    await adas.getByLabel('Why two people are needed').fill('it pays people');
    await adas.getByRole('button', { name: 'Mark', exact: true }).click();
    await hers.getByText('it pays people').waitFor({ timeout: DEADLINE_MS });

    await hers.getByRole('button', { name: 'Kill at once' }).click();
    await grace.page.getByRole('button', { name: 'Kill now' }).click();
    await grace.page.getByText('A second person has been asked').waitFor({ timeout: DEADLINE_MS });
    const own = hers.getByRole('region', { name: 'Grace asks: Kill' });
    await own.getByRole('button', { name: 'Take it back' }).waitFor();
    expect(await own.getByRole('button', { name: 'Approve' }).count()).toBe(0);

    // It stands in Ada's inbox, in the count and in the panel. She refuses; Grace is told.
    await until('the title counts it', async () => (await ada.page.title()) === '(1) Mission Control');
    await ada.page.getByRole('button', { name: /^Inbox/ }).click();
    const inbox = ada.page.getByRole('dialog', { name: 'Inbox' });
    const request = inbox.getByRole('list', { name: 'What waits for a second person' });
    await request.getByText('Grace asks').waitFor();
    expect(await serious(ada.page)).toEqual([]);
    await request.getByRole('button', { name: 'Refuse' }).click();
    await ada.page.keyboard.press('Escape');
    await grace.page.getByText('Refused by Ada').first().waitFor({ timeout: DEADLINE_MS });

    // A message waits with its words, and arrives when it is agreed to.
    await hers.getByRole('textbox').fill('pay nobody');
    await grace.page.keyboard.press('Enter');
    await adas.getByRole('region', { name: 'Grace asks: Send a message' }).getByText('pay nobody').waitFor({ timeout: DEADLINE_MS });
    await adas.getByRole('button', { name: 'Approve' }).click();
    await hers.getByText('heard: pay nobody').waitFor({ timeout: DEADLINE_MS });
    await grace.page.getByText('Agreed to by Ada, and done').first().waitFor({ timeout: DEADLINE_MS });

    // One that nobody decides is said to be over.
    await grace.call('POST', api.act(sessionId, 'terminate'));
    await adas.getByRole('region', { name: 'Grace asks: Stop' }).waitFor({ timeout: DEADLINE_MS });
    await steer('expire');
    await grace.page.getByText('Its time is over: nobody decided, and nothing was done').first().waitFor({ timeout: DEADLINE_MS });

    // Kill-all leaves it, says so, and asks; the second person agrees.
    await grace.spawn('e2e-echo', 'Other');
    await grace.page.getByRole('button', { name: 'Kill all' }).click();
    const dialog = grace.page.getByRole('alertdialog', { name: 'Kill all sessions' });
    await dialog.getByRole('textbox').fill('KILL ALL');
    await grace.page.keyboard.press('Enter');
    const receipt = grace.page.getByRole('dialog', { name: 'Kill-all of every runtime' });
    await receipt.getByText('1 of 2 sessions ended.').waitFor({ timeout: DEADLINE_MS });
    await receipt.getByText('1 is marked and lives until a second person agrees; they have been asked.').waitFor();
    await adas.getByRole('region', { name: 'Grace asks: Kill' }).getByRole('button', { name: 'Approve' }).click();
    await until('it has ended', async () => (await grace.session(sessionId)).status === 'killed');
  });
});
