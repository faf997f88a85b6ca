// A terminal as a tool: what it has shown is found and copied, and how it is drawn makes no difference.

import { beforeEach, describe, expect, it } from 'vitest';
import type { Locator } from 'playwright-core';
import { stack, until, useBrowser, visit, type Visitor } from '../harness.ts';
import { api } from '../../src/routes.ts';
import { steer } from './fake.ts';

useBrowser();
beforeEach(() => steer('reset'));

const LINES = 400;

/** A shell that has shown many lines, the first of them far out of view. */
async function longShell(visitor: Visitor): Promise<Locator> {
  const { sessionId } = await visitor.spawn('shell', 'Long shell');
  const panel = await visitor.open('Long shell');
  const terminal = panel.getByRole('button', { name: 'Terminal', exact: true });
  if ((await terminal.getAttribute('aria-pressed')) === 'false') await terminal.click();
  await until('it is drawn', async () => (await panel.locator('.xterm-screen').count()) === 1);
  const text = Array.from({ length: LINES }, (_, i) => `row ${i + 1}${i === 4 ? ' needle' : ''}\r\n`).join('');
  await steer('write', { sessionId, text });
  return panel;
}

describe('a terminal', () => {
  it('finds what has scrolled away, also what was there before somebody looked, and copies it', async () => {
    const visitor = await visit(stack.operator);
    await visitor.page.context().grantPermissions(['clipboard-read', 'clipboard-write'], { origin: stack.url });
    const panel = await longShell(visitor);
    await until('the layout is kept', async () => {
      const { json } = await visitor.call<{ layout: { panels: { view?: string }[] } }>('GET', api.layout());
      return json.layout.panels[0]?.view === 'terminal';
    });
    // All of it comes from the hub again.
    await visitor.page.reload();
    const rows = panel.locator('.xterm-rows');
    await until('the end is shown', async () => (await rows.innerText()).includes(`row ${LINES}`));
    expect(await rows.innerText()).not.toContain('needle');
    await panel.getByRole('group', { name: 'Terminal' }).click();
    await visitor.page.keyboard.press('Control+Shift+F');
    const box = panel.getByLabel('Find in the terminal', { exact: true });
    await box.fill('needle');
    await panel.getByText('1 of 1').waitFor();
    await until('it is in view', async () => (await rows.innerText()).includes('row 5 needle'));
    await panel.getByRole('button', { name: /^Copy what is selected/ }).click();
    await panel.getByText('copied', { exact: true }).waitFor();
    expect(await visitor.page.evaluate(() => navigator.clipboard.readText())).toBe('needle');
    await box.fill('no such thing');
    await panel.getByText('not found').waitFor();
    await box.press('Escape');
    await box.waitFor({ state: 'detached' });
    expect(await panel.evaluate((element) => element.contains(document.activeElement))).toBe(true);
  });

  it('is drawn with WebGL where that is wanted and there, and with elements once that is lost', async () => {
    const visitor = await visit(stack.operator);
    await visitor.page.evaluate(() => localStorage.setItem('mosaic.terminal.renderer', 'webgl'));
    const panel = await longShell(visitor);
    const group = panel.getByRole('group', { name: 'Terminal' });
    await until('WebGL is loaded', async () => (await group.getAttribute('data-renderer')) === 'webgl');
    await until('a canvas is drawn on', async () => (await group.locator('.xterm-screen canvas').count()) > 0);
    await group.locator('.xterm-screen canvas').evaluateAll((all) => {
      for (const canvas of all as HTMLCanvasElement[]) canvas.getContext('webgl2')?.getExtension('WEBGL_lose_context')?.loseContext();
    });
    await until('elements take over', async () => (await group.getAttribute('data-renderer')) === 'elements');
    await until('and show the same', async () => (await panel.locator('.xterm-rows').innerText()).includes(`row ${LINES}`));
  });

  it('is drawn with elements where nothing else is wanted, and loads no more for it', async () => {
    const visitor = await visit(stack.operator);
    await visitor.page.evaluate(() => localStorage.setItem('mosaic.terminal.renderer', 'elements'));
    const loaded: string[] = [];
    visitor.page.on('request', (request) => loaded.push(request.url()));
    const panel = await longShell(visitor);
    await until('the end is shown', async () => (await panel.locator('.xterm-rows').innerText()).includes(`row ${LINES}`));
    expect(await panel.getByRole('group', { name: 'Terminal' }).getAttribute('data-renderer')).toBe('elements');
    expect(loaded.filter((url) => url.includes('webgl'))).toEqual([]);
  });
});
