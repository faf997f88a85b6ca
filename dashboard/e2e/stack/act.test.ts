// Somebody does something: every control, by the roles that have it.

import { describe, expect, it } from 'vitest';
import { api } from '../../src/routes.ts';
import { DEADLINE_MS, linesIn, stack, until, useBrowser, visit } from '../harness.ts';

useBrowser();

describe('an operator', () => {
  it('speaks to a session, and sees it in the conversation with name and delivery', async () => {
    const visitor = await visit(stack.operator);
    const session = await visitor.spawn('e2e-echo', 'Listener');
    const panel = await visitor.open('Listener');
    const box = panel.getByLabel('Message to Listener');
    await box.fill('first line');
    await box.press('Shift+Enter');
    expect(await box.inputValue()).toBe('first line\n');
    await box.fill('hello there');
    await box.press('Enter');
    const said = panel.getByRole('article', { name: 'operator' });
    await said.waitFor({ timeout: DEADLINE_MS });
    expect(await said.innerText()).toMatch(/\[OPERATOR\][\s\S]*hello there/);
    await until('it was handed over', async () => /written|taken/.test(await said.innerText()));
    await panel.getByText('heard: hello there').waitFor({ timeout: DEADLINE_MS });
    expect(await box.inputValue()).toBe('');
    const { json } = await visitor.call<{ messages: { role: string; metadata: { operator?: { name?: string } } }[] }>(
      'GET',
      api.messages(session.sessionId, { limit: 50 }),
    );
    const name = json.messages.find((m) => m.role === 'operator')?.metadata.operator?.name;
    expect(await said.innerText()).toContain(name);
  });

  it('keeps what was not sent, and trying again does not say it twice, whatever got through', async () => {
    const visitor = await visit(stack.operator);
    await visitor.spawn('e2e-echo', 'Bad line');
    const panel = await visitor.open('Bad line');
    const box = panel.getByLabel('Message to Bad line');
    // The hub gets it, and its answer is lost on the way.
    await visitor.page.route('**/inject', async (route) => {
      await route.fetch();
      await route.abort();
    });
    await box.fill('only once');
    await box.press('Enter');
    await panel.getByText('not sent').waitFor();
    expect(await panel.getByRole('alert').innerText()).toMatch(/cannot be reached/);
    await visitor.page.unroute('**/inject');
    await panel.getByRole('button', { name: 'Retry' }).click();
    await panel.getByText('not sent').waitFor({ state: 'detached' });
    await panel.getByText('heard: only once').waitFor({ timeout: DEADLINE_MS });
    expect(await panel.getByRole('article', { name: 'operator' }).count()).toBe(1);
    expect(await panel.getByText('heard: only once').count()).toBe(1);
  });

  it('keeps a draft over a reload', async () => {
    const visitor = await visit(stack.operator);
    await visitor.spawn('e2e-echo', 'Drafty');
    const saved = visitor.page.waitForResponse((r) => r.url().endsWith('/layout') && r.request().method() === 'PUT');
    const panel = await visitor.open('Drafty');
    await panel.getByLabel('Message to Drafty').fill('not yet');
    await saved;
    await visitor.page.reload();
    const box = visitor.panel('Drafty').getByLabel('Message to Drafty');
    await box.waitFor();
    expect(await box.inputValue()).toBe('not yet');
  });

  it('pauses and resumes', async () => {
    const visitor = await visit(stack.operator);
    const { sessionId } = await visitor.spawn('e2e-talker', 'Sleeper');
    const panel = await visitor.open('Sleeper');
    await until('it talks', async () => (await linesIn(panel)).length > 2);
    await panel.getByRole('button', { name: 'Pause', exact: true }).click();
    await panel.getByRole('button', { name: 'Resume' }).waitFor({ timeout: DEADLINE_MS });
    expect((await visitor.session(sessionId)).status).toBe('paused');
    await panel.getByRole('button', { name: 'Resume' }).click();
    await panel.getByRole('button', { name: 'Pause', exact: true }).waitFor({ timeout: DEADLINE_MS });
    const before = Math.max(...(await linesIn(panel)));
    await until('it goes on', async () => Math.max(...(await linesIn(panel))) > before);
  });

  it('pauses before speaking', async () => {
    const visitor = await visit(stack.operator);
    const { sessionId } = await visitor.spawn('e2e-talker', 'Held');
    const panel = await visitor.open('Held');
    await panel.getByText('Pause first').click();
    await panel.getByLabel('Message to Held').fill('wait');
    await panel.getByLabel('Message to Held').press('Enter');
    await panel.getByRole('button', { name: 'Resume' }).waitFor({ timeout: DEADLINE_MS });
    expect((await visitor.session(sessionId)).status).toBe('paused');
  });

  it('kills only after saying so once', async () => {
    const visitor = await visit(stack.operator);
    const { sessionId } = await visitor.spawn('e2e-talker', 'Doomed');
    const panel = await visitor.open('Doomed');
    await panel.getByRole('button', { name: 'Kill at once' }).click();
    const question = visitor.page.getByRole('alertdialog');
    await question.getByRole('button', { name: 'Keep it' }).click();
    await question.waitFor({ state: 'detached' });
    expect((await visitor.session(sessionId)).status).not.toBe('killed');
    await panel.getByRole('button', { name: 'Kill at once' }).click();
    await visitor.page.keyboard.press('Escape');
    await question.waitFor({ state: 'detached' });
    await panel.getByRole('button', { name: 'Kill at once' }).click();
    await question.getByRole('button', { name: 'Kill now' }).click();
    await panel.getByText(/^Ended: killed/).waitFor({ timeout: DEADLINE_MS });
    expect((await visitor.session(sessionId)).status).toBe('killed');
    expect(await panel.getByRole('button', { name: 'Kill at once' }).count()).toBe(0);
  });

  it('pauses and kills from the roster, and finds a session by filter and keyboard', async () => {
    const visitor = await visit(stack.operator);
    const { sessionId } = await visitor.spawn('e2e-talker', 'Rosterman');
    await visitor.spawn('e2e-echo', 'Bystander');
    await visitor.row('Bystander').waitFor();
    await visitor.page.getByLabel('Filter the roster').fill('rosterman');
    await visitor.row('Bystander').waitFor({ state: 'detached' });
    await visitor.page.getByRole('tree').focus();
    await visitor.page.keyboard.press('Home');
    await visitor.page.keyboard.press('ArrowDown');
    await visitor.page.keyboard.press('Enter');
    await visitor.panel('Rosterman').waitFor();
    const row = visitor.row('Rosterman');
    await row.hover();
    await row.getByRole('button', { name: 'Pause', exact: true }).click();
    await row.getByRole('button', { name: 'Resume' }).waitFor({ timeout: DEADLINE_MS });
    await row.getByRole('button', { name: 'Kill at once' }).click();
    await visitor.page.getByRole('alertdialog').getByRole('button', { name: 'Kill now' }).click();
    await until('it is killed', async () => (await visitor.session(sessionId)).status === 'killed');
  });

  it('starts a session from a profile', async () => {
    const visitor = await visit(stack.operator);
    await visitor.page.getByRole('button', { name: 'New session' }).first().click();
    const dialog = visitor.page.getByRole('dialog', { name: 'New session' });
    await dialog.getByRole('radio', { name: /e2e-echo/ }).check({ force: true });
    await dialog.getByLabel('Title (optional)').fill('Made by hand');
    await dialog.getByRole('button', { name: 'Start' }).click();
    const panel = visitor.panel('Made by hand');
    await panel.waitFor({ timeout: DEADLINE_MS });
    await panel.getByRole('button', { name: 'Stop: let it finish its step' }).click();
    await visitor.page.getByRole('alertdialog').getByRole('button', { name: 'Stop' }).click();
    await panel.getByText(/^Ended: /).waitFor({ timeout: DEADLINE_MS });
  });

  it('types into a terminal', async () => {
    const visitor = await visit(stack.operator);
    await visitor.spawn('shell', 'Typed at');
    const panel = await visitor.open('Typed at');
    const terminal = panel.getByRole('button', { name: 'Terminal', exact: true });
    if ((await terminal.getAttribute('aria-pressed')) === 'false') await terminal.click();
    const screen = panel.locator('.xterm-rows');
    await until('a prompt', async () => /[$#>%]/.test(await screen.innerText()));
    await panel.getByRole('group', { name: 'Terminal' }).click();
    await visitor.page.keyboard.type('echo over-the-wire', { delay: 5 });
    await until('it is echoed, in order', async () => (await screen.innerText()).includes('echo over-the-wire'));
  });

  it('finds in the audit log what was done', async () => {
    const visitor = await visit(stack.operator);
    await visitor.spawn('e2e-echo', 'Audited');
    const panel = await visitor.open('Audited');
    await panel.getByLabel('Message to Audited').fill('for the record 4711');
    await panel.getByLabel('Message to Audited').press('Enter');
    await panel.getByText('heard: for the record 4711').waitFor({ timeout: DEADLINE_MS });
    await visitor.page.getByRole('button', { name: 'Audit', exact: true }).click();
    const drawer = visitor.page.getByRole('dialog', { name: 'Audit log' });
    await drawer.getByText('for the record 4711').first().waitFor();
    await visitor.page.keyboard.press('Escape');
    await drawer.waitFor({ state: 'detached' });
  });

  it('kills everything of one runtime after typing it out', async () => {
    const visitor = await visit(stack.operator);
    const one = await visitor.spawn('e2e-talker', 'Last one');
    await visitor.page.getByRole('button', { name: 'Kill all' }).click();
    const dialog = visitor.page.getByRole('alertdialog', { name: 'Kill all sessions' });
    await dialog.getByLabel('Scope').selectOption(one.provider);
    const button = dialog.getByRole('button', { name: /^Kill \d/ });
    await dialog.getByLabel(/^Type/).fill('kill all');
    expect(await button.isDisabled()).toBe(true);
    await dialog.getByLabel(/^Type/).fill('KILL ALL');
    await button.click();
    const receipt = visitor.page.getByRole('dialog', { name: `Kill-all of ${one.provider}` });
    await receipt.getByText(/of \d+ sessions? ended/).waitFor({ timeout: 60_000 });
    expect(await receipt.getByRole('listitem').filter({ hasText: 'Last one' }).count()).toBe(1);
    await until('it is killed', async () => (await visitor.session(one.sessionId)).status === 'killed');
  }, 120_000);
});

describe('an observer', () => {
  it('is offered nothing that writes, and is refused it', async () => {
    const operator = await visit(stack.operator);
    const { sessionId } = await operator.spawn('e2e-talker', 'Watched');
    const observer = await visit(stack.observer);
    const panel = await observer.open('Watched');
    await until('live messages', async () => (await linesIn(panel)).length > 0);
    for (const name of ['New session', 'Kill all', 'Pause', 'Resume', 'Stop: let it finish its step', 'Kill at once', 'Send']) {
      expect(await observer.page.getByRole('button', { name, exact: true }).count(), name).toBe(0);
    }
    expect(await panel.getByRole('textbox').count()).toBe(0);
    for (const path of [api.inject(sessionId), api.act(sessionId, 'kill'), api.act(sessionId, 'pause'), api.killAll()]) {
      const reply = await observer.call('POST', path, { content: 'x', idempotencyKey: 'k', confirm: 'KILL ALL' });
      expect(reply.status, path).toBe(403);
    }
    expect((await operator.session(sessionId)).status).toBe('running');
  });
});
