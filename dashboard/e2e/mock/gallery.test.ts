// The components by themselves, in all their states, on the gallery that the dev server has.

import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { chromium, type Browser, type Page } from 'playwright-core';
import { createServer, type ViteDevServer } from 'vite';
import { serious } from './axe.ts';

const ROOT = join(import.meta.dirname, '..', '..');
let server: ViteDevServer;
let browser: Browser;

beforeAll(async () => {
  server = await createServer({ root: ROOT, configFile: join(ROOT, 'vite.config.ts'), mode: 'development', logLevel: 'error', server: { port: 0, host: '127.0.0.1', hmr: false } });
  await server.listen();
  browser = await chromium.launch({ executablePath: process.env['MOSAIC_CHROMIUM'] ?? '/usr/bin/chromium', args: ['--headless', '--no-sandbox', '--disable-gpu'] });
});
afterAll(async () => {
  await browser.close();
  await server.close();
});

/** The gallery as somebody of a role, and what went wrong while it was drawn. */
async function open(role: string, theme: 'dark' | 'light' = 'dark'): Promise<{ page: Page; faults: string[] }> {
  const page = await browser.newPage({ viewport: { width: 1600, height: 1000 }, colorScheme: theme, reducedMotion: 'reduce' });
  const faults: string[] = [];
  page.on('pageerror', (error) => faults.push(error.message));
  await page.goto(`${server.resolvedUrls?.local[0] ?? ''}gallery/?role=${role}`, { timeout: 60_000 });
  await page.getByRole('region', { name: 'Short notices', exact: true }).waitFor({ timeout: 60_000 });
  return { page, faults };
}

describe('the gallery', () => {
  it.each(['dark', 'light'] as const)('shows everything without a fault, and nothing serious stands in the way, in %s', async (theme) => {
    const { page, faults } = await open('admin', theme);
    expect(await page.evaluate(() => document.documentElement.dataset['theme'])).toBe(theme);
    for (const name of ['Status marks', 'Buttons', 'Panels by status', 'What agents ask', 'Messages', 'A long list']) {
      expect((await page.getByRole('region', { name, exact: true }).innerText()).length, name).toBeGreaterThan(20);
    }
    expect(await serious(page)).toEqual([]);
    expect(faults).toEqual([]);
    await page.close();
  }, 120_000);

  it('says in words what each state is', async () => {
    const { page } = await open('operator');
    const panel = (name: string) => page.getByRole('region', { name: 'Panels by status' }).getByRole('article', { name, exact: true });
    expect(await panel('is completed').innerText()).toMatch(/Ended: completed · exit code 0/);
    expect(await panel('is failed').innerText()).toMatch(/could not compile/);
    expect(await panel('on a node that is away').innerText()).toMatch(/is away; last seen/);
    expect(await panel('is paused').getByRole('button', { name: 'Resume' }).count()).toBe(1);
    expect(await panel('may not be spoken to').getByRole('textbox').isDisabled()).toBe(true);
    const messages = page.getByRole('region', { name: 'Messages' });
    for (const state of ['accepted', 'delivered', 'written', 'taken · queue', 'refused', 'expired', 'not known']) {
      expect(await messages.getByText(state, { exact: true }).count(), state).toBeGreaterThan(0);
    }
    expect(await messages.getByText(/messages missing/).count()).toBe(1);
    expect(await messages.locator('img, script, iframe').count()).toBe(0);
    const asks = page.getByRole('region', { name: 'What agents ask' });
    expect(await asks.getByRole('button', { name: 'Yes, once' }).first().isEnabled()).toBe(true);
    await page.close();
  }, 120_000);

  it('offers an observer nothing that writes', async () => {
    const { page } = await open('observer');
    const panels = page.getByRole('region', { name: 'Panels by status' });
    for (const name of ['Pause', 'Resume', 'Kill at once', 'Send']) expect(await panels.getByRole('button', { name, exact: true }).count(), name).toBe(0);
    expect(await panels.getByRole('textbox').count()).toBe(0);
    await page.close();
  }, 120_000);

  it('draws of a long list what is in view, from its end', async () => {
    const { page } = await open('admin');
    const list = page.getByRole('log', { name: 'Five thousand rows' });
    await list.scrollIntoViewIfNeeded();
    expect(await list.innerText()).toContain('row 5000');
    expect(await list.locator('.row').count()).toBeLessThan(40);
    await list.hover();
    await page.mouse.wheel(0, -3_000);
    await page.waitForFunction(() => !(document.querySelector('[aria-label="Five thousand rows"]')?.textContent ?? '').includes('row 5000'));
    expect(await list.locator('.row').count()).toBeGreaterThan(5);
    await page.close();
  }, 120_000);

  it('is not part of what is served to people', () => {
    const files = readdirSync(join(ROOT, 'dist'), { recursive: true }).map(String);
    expect(files.filter((file) => file.toLowerCase().includes('gallery'))).toEqual([]);
    expect(files.some((file) => file.endsWith('.js'))).toBe(true);
  });
});
