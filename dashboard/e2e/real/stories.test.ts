// What only a real stack can show: agents of every kind at once, one that asks for leave, and a hub that dies.

import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { api } from '../../src/routes.ts';
import { linesIn, stack, until, useBrowser, visit } from '../harness.ts';

useBrowser();

/** Long enough for a hub that starts again on a busy machine. */
const AGAIN_MS = 90_000;

describe('on a real stack', () => {
  it('four agents of four kinds are watched at once, over one connection', async () => {
    const visitor = await visit(stack.operator, { width: 1920, height: 1080 });
    for (const [profile, title] of [['e2e-talker', 'Kind of talker'], ['e2e-echo', 'Kind of echo'], ['shell', 'Kind of shell'], ['e2e-leave', 'Kind of asker']] as const) {
      await visitor.spawn(profile, title);
      await visitor.open(title);
    }
    const [talker, echo, shell, asker] = ['Kind of talker', 'Kind of echo', 'Kind of shell', 'Kind of asker'].map((title) => visitor.panel(title));
    if (talker === undefined || echo === undefined || shell === undefined || asker === undefined) throw new Error('no panels');
    await until('the talker talks', async () => (await linesIn(talker)).length > 3);
    await echo.getByLabel(/^Message to/).fill('to one of four');
    await echo.getByLabel(/^Message to/).press('Enter');
    await echo.getByText('heard: to one of four').waitFor();
    const terminal = shell.getByRole('button', { name: 'Terminal', exact: true });
    if ((await terminal.getAttribute('aria-pressed')) === 'false') await terminal.click();
    await until('the shell has a prompt', async () => /[$#>%]/.test(await shell.locator('.xterm-rows').innerText()));
    await asker.getByLabel(/^Message to/).waitFor();
    for (const other of [talker, shell, asker]) expect(await other.getByText('to one of four').count()).toBe(0);
    expect(visitor.openStreams.size).toBe(1);
  }, 300_000);

  it('a request for leave is shown, answered, and the agent goes on with the answer', async () => {
    const visitor = await visit(stack.operator);
    const { sessionId } = await visitor.spawn('e2e-leave', 'Asker');
    const panel = await visitor.open('Asker');
    const box = panel.getByLabel('Message to Asker');
    for (const [option, decided] of [['Yes, once', 'decided: once'], ['No', 'decided: never']] as const) {
      await box.fill(`clean up, ${option}`);
      await box.press('Enter');
      const banner = panel.getByRole('region', { name: 'Asker asks' });
      await banner.getByText(/rm -r build/).first().waitFor({ timeout: AGAIN_MS });
      expect((await visitor.session(sessionId)).attention?.request?.options.map((each) => each.label)).toEqual(['Yes, once', 'No']);
      await banner.getByRole('button', { name: option, exact: true }).click();
      await banner.waitFor({ state: 'detached', timeout: AGAIN_MS });
      await panel.getByText(decided).waitFor({ timeout: AGAIN_MS });
    }
  }, 240_000);

  it('a hub that is killed while somebody watches comes back, with nothing lost and nothing twice', async () => {
    const pidFile = process.env['MOSAIC_HUB_PID_FILE'];
    if (pidFile === undefined) throw new Error("MOSAIC_HUB_PID_FILE is not set: it is run/hub.pid in the data folder of 'cargo xtask up'");
    const visitor = await visit(stack.operator, { width: 1920, height: 1080 });
    const { sessionId } = await visitor.spawn('e2e-talker', 'Survivor');
    const panel = await visitor.open('Survivor');
    await until('it talks', async () => (await linesIn(panel)).length > 5);
    const before = Math.max(...(await linesIn(panel)));
    process.kill(Number(readFileSync(pidFile, 'utf8').trim()), 'SIGKILL');
    const live = visitor.page.getByRole('status', { name: 'Connection: Live' });
    await live.waitFor({ state: 'detached', timeout: AGAIN_MS });
    await live.waitFor({ timeout: AGAIN_MS });
    await until('it goes on', async () => Math.max(...(await linesIn(panel))) > before + 20, AGAIN_MS);
    await visitor.call('POST', api.act(sessionId, 'pause'));
    const all = new Set<number>();
    await panel.getByRole('log').hover();
    await until('the beginning is in view', async () => {
      const lines = await linesIn(panel);
      expect(lines).toEqual(lines.map((_, i) => (lines[0] ?? 0) + i));
      lines.forEach((line) => all.add(line));
      await visitor.page.mouse.wheel(0, -200);
      return lines[0] === 1;
    }, AGAIN_MS);
    expect([...all].sort((a, b) => a - b)).toEqual(Array.from({ length: all.size }, (_, i) => i + 1));
    expect(Math.max(...all)).toBeGreaterThan(before + 20);
  }, 400_000);
});
