// Every runtime in one page: a gateway set up in the settings, a container, Codex over ACP, Claude Code in a terminal.
// Whoever starts this has them ready: `ops/e2e/tests/runtimes.rs`.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Locator } from 'playwright-core';
import { describe, expect, it } from 'vitest';
import { SHOTS, stack, until, useBrowser, visit, type Visitor } from '../harness.ts';

useBrowser();

/** Real agents take their time. */
const WITHIN = 60_000;

interface Runtimes {
  node: string;
  gatewayUrl: string;
  gatewayToken: string;
}

function runtimes(): Runtimes {
  const told = process.env['MOSAIC_RUNTIMES'];
  if (told === undefined) throw new Error('MOSAIC_RUNTIMES is not set: run the test `runtimes` of the package e2e, which starts them');
  return JSON.parse(told) as Runtimes;
}

async function say(visitor: Visitor, panel: Locator, title: string, text: string): Promise<void> {
  const box = panel.getByLabel(`Message to ${title}`);
  await box.fill(text);
  await box.press('Enter');
  // What was sent is in the conversation, or is told as not sent.
  await until(`"${text}" is in the conversation of ${title}`, async () => (await operatorRows(panel)).some((row) => row.includes(text.slice(0, 20))), WITHIN);
  expect(visitor.faults).toEqual([]);
}

async function operatorRows(panel: Locator): Promise<string[]> {
  return panel.getByRole('article', { name: 'operator' }).allInnerTexts();
}

/** Waits until an operator's message with these words shows that it came so far. */
async function came(panel: Locator, words: string, state: RegExp): Promise<void> {
  await until(`"${words}" is ${state.source}`, async () => (await operatorRows(panel)).some((row) => row.includes(words) && state.test(row)), WITHIN);
}

async function reads(panel: Locator, words: string | RegExp): Promise<void> {
  await panel.getByRole('log').getByText(words).first().waitFor({ timeout: WITHIN });
}

/** Waits until a session asks in its panel, keeps a picture, and says yes. */
async function giveLeave(visitor: Visitor, panel: Locator, title: string, what: RegExp): Promise<void> {
  const banner = panel.getByRole('region', { name: `${title} asks` });
  await banner.getByText(what).first().waitFor({ timeout: WITHIN });
  writeFileSync(join(SHOTS, `runtimes-${title.toLowerCase()}-asks.png`), await visitor.page.screenshot());
  await banner.getByRole('button', { name: /^(Yes|Allow)/ }).first().click();
  await banner.waitFor({ state: 'detached', timeout: WITHIN });
}

describe('in one page', () => {
  it('a gateway, a container, Codex and Claude Code work, are spoken to, and are given leave', async () => {
    const { node, gatewayUrl, gatewayToken } = runtimes();
    const visitor = await visit(stack.admin, { width: 1920, height: 1080, path: '/mission-control/settings' });
    const { page } = visitor;

    // The gateway is set up, with a wrong token at first.
    await page.getByRole('button', { name: 'Add' }).first().click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel('Name').fill('office');
    await dialog.getByRole('combobox', { name: /^Node/ }).selectOption(node);
    await dialog.getByLabel('Gateway URL').fill(gatewayUrl);
    await dialog.getByLabel('Token', { exact: true }).fill('not-the-token');
    await dialog.getByRole('button', { name: 'Test connection' }).click();
    await dialog.getByRole('status').getByText(/token/).first().waitFor({ timeout: WITHIN });
    await dialog.getByLabel('Token', { exact: true }).fill(gatewayToken);
    await dialog.getByRole('button', { name: 'Test connection' }).click();
    await dialog.getByText(/OpenClaw .* answers/).waitFor({ timeout: WITHIN });
    writeFileSync(join(SHOTS, 'runtimes-settings.png'), await page.screenshot());
    await dialog.getByRole('button', { name: 'Save' }).click();
    const card = page.getByRole('article', { name: 'office' });
    await card.getByRole('status', { name: 'Delivery: applied' }).waitFor({ timeout: WITHIN });
    expect(await page.content()).not.toContain(gatewayToken);
    await page.getByRole('button', { name: '← Panels' }).click();

    // Four runtimes side by side.
    await visitor.spawn('gateway', 'Claw');
    await visitor.spawn('codex-acp', 'Codex');
    await visitor.spawn('claude', 'Claude');
    const [boxed, claw, codex, claude] = [await visitor.open('boxed'), await visitor.open('Claw'), await visitor.open('Codex'), await visitor.open('Claude')];

    // Each is told something within its turn, and what became of it stands on the message.
    await say(visitor, boxed, 'boxed', 'hello box');
    await reads(boxed, 'heard hello box');
    await came(boxed, 'hello box', /written/);

    const childTask = `FAKE:${JSON.stringify({ steps: [{ text: 'child', chunks: 60, delay_ms: 250 }] })}`;
    const steps = [{ spawn: childTask, label: 'kid' }, { tool: 'exec', args: { command: 'sleep 4; echo tool-done' } }, { text: 'parent done' }];
    await say(visitor, claw, 'Claw', `FAKE:${JSON.stringify({ steps })}`);
    await giveLeave(visitor, claw, 'Claw', /sleep 4/);
    await say(visitor, claw, 'Claw', 'stop');
    await came(claw, 'stop', /taken/);
    await reads(claw, /tool-done/);

    await say(visitor, codex, 'Codex', 'SAY: looking ;; RUN: sleep 5 ;; SAY: that was it');
    await reads(codex, /sleep 5/);
    await say(visitor, codex, 'Codex', 'SAY: operator heard');
    await came(codex, 'operator heard', /taken/);
    await codex.getByRole('article', { name: /^agent/ }).filter({ hasText: 'operator heard' }).first().waitFor({ timeout: WITHIN });

    // Children hang under their parents, of whichever runtime.
    for (const [parent, child] of [['boxed', 'boxed child'], ['Claw', 'kid']] as const) {
      const level = async (title: string): Promise<number> => Number(await visitor.row(title).first().getAttribute('aria-level'));
      await visitor.row(child).first().waitFor({ timeout: WITHIN });
      expect(await level(child), `${child} under ${parent}`).toBe((await level(parent)) + 1);
    }

    // Leave that is asked for is given from the page, and the agents go on.
    await claude.getByRole('button', { name: 'Conversation', exact: true }).click();
    await say(visitor, claude, 'Claude', 'SAY: I will ;; RUN: touch granted ;; SAY: thank you claude');
    await giveLeave(visitor, claude, 'Claude', /touch granted/);
    await reads(claude, 'thank you claude');
    await visitor.spawn('careful-codex', 'Careful');
    const careful = await visitor.open('Careful');
    const wish = { cmd: 'touch granted', sandbox_permissions: 'require_escalated', justification: 'to make it' };
    await say(visitor, careful, 'Careful', `SAY: making ;; TOOL: exec_command ${JSON.stringify(wish)} ;; SAY: thank you codex`);
    await giveLeave(visitor, careful, 'Careful', /touch granted/);
    await reads(careful, 'thank you codex');
    for (const [width, height] of [[1920, 1080], [1280, 800]] as const) {
      await page.setViewportSize({ width, height });
      writeFileSync(join(SHOTS, `runtimes-${width}.png`), await page.screenshot());
    }
  }, 600_000);
});
