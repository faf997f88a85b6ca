// Somebody signs in and watches.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { arrive, colourCount, DEADLINE_MS, linesIn, SHOTS, signIn, stack, until, useBrowser, visit } from '../harness.ts';

useBrowser();

describe('watching', () => {
  it('begins with signing in, and a wrong password is answered with a reason to quote', async () => {
    const visitor = await arrive();
    const { page } = visitor;
    await page.getByLabel('Email').fill(stack.operator.email);
    await page.getByLabel('Password').fill('certainly wrong');
    await page.getByRole('button', { name: 'Sign in' }).click();
    const alert = page.getByRole('alert');
    await alert.waitFor();
    expect(await alert.innerText()).toMatch(/request/);
    await signIn(visitor, stack.operator);
    expect(await page.getByRole('tree').isVisible()).toBe(true);
  });

  it('shows the live messages of a session, and looks like something', async () => {
    const visitor = await visit(stack.operator, { width: 1920, height: 1080 });
    await visitor.spawn('e2e-talker', 'Picture talker');
    const panel = await visitor.open('Picture talker');
    await until('messages appear', async () => (await linesIn(panel)).length > 3);
    const before = Math.max(...(await linesIn(panel)));
    await until('and more come', async () => Math.max(...(await linesIn(panel))) > before + 5);
    for (const [width, height] of [[1920, 1080], [1280, 800]] as const) {
      await visitor.page.setViewportSize({ width, height });
      const png = await visitor.page.screenshot();
      writeFileSync(join(SHOTS, `mission-control-${width}.png`), png);
      expect(await colourCount(png)).toBeGreaterThan(100);
    }
  });

  it('needs no sideways scrolling at 1280', async () => {
    const visitor = await visit(stack.operator);
    await visitor.spawn('e2e-echo', 'Narrow one');
    await visitor.open('Narrow one');
    const overflow = await visitor.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    expect(overflow).toBeLessThanOrEqual(0);
  });

  it('shows twenty live panels over one connection', async () => {
    const visitor = await visit(stack.operator, { width: 1920, height: 1080 });
    const titles = Array.from({ length: 20 }, (_, i) => `Talker ${String(i + 1).padStart(2, '0')}`);
    for (const title of titles) await visitor.spawn('e2e-talker', title);
    for (const title of titles) await visitor.open(title);
    for (const title of titles) {
      const panel = visitor.panel(title);
      await panel.scrollIntoViewIfNeeded();
      await until(`${title} is live`, async () => (await linesIn(panel)).length > 0);
      const before = Math.max(...(await linesIn(panel)));
      await until(`${title} goes on`, async () => Math.max(...(await linesIn(panel))) > before);
    }
    expect(visitor.openStreams.size).toBe(1);
    writeFileSync(join(SHOTS, 'twenty-panels.png'), await visitor.page.screenshot());
  }, 180_000);

  it('keeps the layout over a reload, and in another browser', async () => {
    const visitor = await visit(stack.operator);
    for (const title of ['Kept A', 'Kept B', 'Kept C']) await visitor.spawn('e2e-echo', title);
    for (const title of ['Kept A', 'Kept B', 'Kept C']) await visitor.open(title);
    const saved = visitor.page.waitForResponse((r) => r.url().endsWith('/layout') && r.request().method() === 'PUT');
    await visitor.panel('Kept C').getByRole('button', { name: 'Kept C' }).press('ArrowLeft');
    await saved;
    const order = async (page = visitor.page): Promise<string[]> => {
      await page.getByRole('region', { name: /^Kept/ }).nth(2).waitFor({ timeout: DEADLINE_MS });
      return page.getByRole('region', { name: /^Kept/ }).evaluateAll((panels) => panels.map((p) => p.getAttribute('aria-label') ?? ''));
    };
    expect(await order()).toEqual(['Kept A', 'Kept C', 'Kept B']);
    await visitor.page.reload();
    expect(await order()).toEqual(['Kept A', 'Kept C', 'Kept B']);
    const elsewhere = await arrive();
    await signIn(elsewhere, stack.operator);
    expect(await order(elsewhere.page)).toEqual(['Kept A', 'Kept C', 'Kept B']);
  });

  it('has an address for a session in full screen', async () => {
    const visitor = await visit(stack.operator);
    const session = await visitor.spawn('e2e-echo', 'Wide one');
    const panel = await visitor.open('Wide one');
    await panel.getByRole('button', { name: 'Full screen' }).click();
    await visitor.page.waitForURL(`**/mission-control/sessions/${session.sessionId}`);
    await visitor.page.reload();
    await visitor.panel('Wide one').getByRole('button', { name: 'Back to the grid' }).waitFor();
    expect((await visitor.panel('Wide one').boundingBox())?.width).toBe(1280);
    await visitor.page.keyboard.press('Escape');
    await visitor.page.waitForURL('**/mission-control/');
  });
});
