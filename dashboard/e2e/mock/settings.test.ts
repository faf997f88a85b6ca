// Runtimes set up from the page, and what agents ask answered there: by role, in a real browser.

import { beforeEach, describe, expect, it } from 'vitest';
import { DEADLINE_MS, stack, until, useBrowser, visit } from '../harness.ts';
import { steer } from './fake.ts';

useBrowser();
beforeEach(() => steer('reset'));

const TOKEN = 'not-the-right-one';

describe('settings', () => {
  it('let an admin set a runtime up, try it, and see its node take it over', async () => {
    const { page } = await visit(stack.admin, { path: '/mission-control/settings' });
    await page.getByText('None yet. Add one').waitFor();
    await page.getByRole('button', { name: 'Add' }).click();
    const dialog = page.getByRole('dialog');
    const save = dialog.getByRole('button', { name: 'Save' });
    expect(await save.isDisabled()).toBe(true);
    await dialog.getByLabel('Name').fill('office');
    await dialog.getByLabel('Gateway URL').fill('ws://127.0.0.1:1/');
    await dialog.getByRole('button', { name: 'Test connection' }).click();
    await dialog.getByText(/nobody answers there/).waitFor();
    await dialog.getByLabel('Gateway URL').fill('ws://127.0.0.1:18789/');
    await dialog.getByLabel('Token', { exact: true }).fill(TOKEN);
    await dialog.getByRole('button', { name: 'Test connection' }).click();
    await dialog.getByText(/does not take this token/).waitFor();
    await save.click();
    const card = page.getByRole('article', { name: 'office' });
    await card.getByText('openclaw on atlas: the gateway refused the token').waitFor();
    await card.getByRole('status', { name: 'Delivery: applied' }).waitFor({ timeout: DEADLINE_MS });
    expect(await page.content()).not.toContain(TOKEN);

    await card.getByRole('button', { name: 'Change' }).click();
    expect(await dialog.getByLabel('Token', { exact: true }).inputValue()).toBe('');
    await dialog.getByLabel('Token', { exact: true }).fill('right');
    await save.click();
    await dialog.waitFor({ state: 'detached' });
    await card.getByRole('button', { name: 'Test connection' }).click();
    await card.getByText(/OpenClaw .* answers/).waitFor();

    await page.getByRole('button', { name: 'Add' }).click();
    await dialog.getByLabel('Name').fill('office');
    await dialog.getByLabel('Gateway URL').fill('ws://x/');
    await save.click();
    await dialog.getByRole('alert').getByText(/named "office" already/).waitFor();
    await dialog.getByRole('button', { name: 'Cancel' }).click();

    await card.getByRole('button', { name: 'Remove' }).click();
    await page.getByRole('alertdialog').getByRole('button', { name: 'Remove' }).click();
    await card.waitFor({ state: 'detached' });
  });

  it('show others how it stands, and offer them nothing', async () => {
    const admin = await visit(stack.admin);
    const body = { name: 'office', provider: 'openclaw', node: 'atlas', gatewayUrl: 'ws://x/', credentials: 'right', isActive: true };
    expect((await admin.call('POST', '/api/agent-providers', body)).status).toBe(201);
    for (const who of [stack.operator, stack.observer]) {
      const { page } = await visit(who);
      await page.getByRole('button', { name: 'Settings' }).click();
      expect(new URL(page.url()).pathname).toBe('/mission-control/settings');
      const card = page.getByRole('article', { name: 'office' });
      await card.getByText('token kept, sealed').waitFor();
      expect(await page.getByRole('main').getByRole('button').allInnerTexts()).toEqual(['← Panels']);
      await page.getByRole('button', { name: '← Panels' }).click();
      await until('the panels are back', async () => new URL(page.url()).pathname === '/mission-control/');
    }
  });
});

describe('what an agent asks', () => {
  it('is shown word for word, and answered from the panel with an option and words', async () => {
    const visitor = await visit(stack.operator);
    const { sessionId } = await visitor.spawn('e2e-asks', 'Cleaner');
    const panel = await visitor.open('Cleaner');
    const banner = panel.getByRole('region', { name: 'Cleaner asks' });
    await banner.getByText('rm -r build/').waitFor({ timeout: DEADLINE_MS });
    await banner.getByLabel('Answer in words').fill('keep it');
    await visitor.page.route('**/answer', (route) => route.fulfill({ status: 503, json: { error: { code: 'nodeAway', message: 'node atlas is away', requestId: 'r1' } } }), { times: 1 });
    await banner.getByRole('button', { name: 'No' }).click();
    await banner.getByRole('alert').getByText('Not answered: node atlas is away').waitFor();
    await banner.getByRole('button', { name: 'No' }).click();
    await banner.waitFor({ state: 'detached' });
    await panel.getByText('got: never keep it').waitFor();
    expect((await visitor.session(sessionId)).attention).toBeUndefined();
  });

  it('is answered from the roster too', async () => {
    const visitor = await visit(stack.operator);
    await visitor.spawn('e2e-asks', 'Cleaner');
    const asking = visitor.page.getByRole('list', { name: 'Sessions that wait for an answer' });
    await asking.getByRole('button', { name: 'Yes, once' }).click();
    await asking.waitFor({ state: 'detached' });
    const panel = await visitor.open('Cleaner');
    await panel.getByText('got: once').waitFor();
  });

  it('is shown to observers, who are told why they may not answer', async () => {
    const operator = await visit(stack.operator);
    await operator.spawn('e2e-asks', 'Cleaner');
    const { page } = await visit(stack.observer);
    const asking = page.getByRole('list', { name: 'Sessions that wait for an answer' });
    await asking.getByText(/your role, observer, may not answer/).waitFor({ timeout: DEADLINE_MS });
    for (const button of ['Yes, once', 'No', 'Answer']) {
      expect(await asking.getByRole('button', { name: button, exact: true }).isDisabled(), button).toBe(true);
    }
  });
});
