// Panels and composers by keyboard, and what assistive technology finds in them.

import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { SHOTS, stack, until, useBrowser, visit } from '../harness.ts';
import { steer } from './fake.ts';

useBrowser();
beforeEach(() => steer('reset'));

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

describe('panels', () => {
  it('are made larger and pinned by keyboard, and are so after a reload', async () => {
    const visitor = await visit(stack.operator, { width: 1600 });
    for (const title of ['First', 'Second']) await visitor.spawn('e2e-echo', title);
    await visitor.open('First');
    const second = await visitor.open('Second');
    const small = (await second.boundingBox())?.width ?? 0;
    const slot = visitor.page.locator('.slot', { has: visitor.page.getByRole('region', { name: 'Second', exact: true }) });
    await slot.getByRole('button', { name: /^Size of this panel/ }).focus();
    await visitor.page.keyboard.press('ArrowRight');
    await until('it is wider', async () => ((await second.boundingBox())?.width ?? 0) > small * 1.8);
    await second.getByRole('button', { name: 'Pin', exact: true }).press('Enter');
    const isFirst = async (): Promise<boolean> => (await visitor.page.locator('.slot').first().getByRole('heading', { name: 'Second' }).count()) === 1;
    await until('it is first', isFirst);
    expect(await second.getByRole('button', { name: /^Close this panel/ }).getAttribute('aria-disabled')).toBe('true');
    await until('the layout is kept', async () => {
      const { layout } = (await visitor.call<{ layout: { panels: unknown[]; shapes?: { columns: number; isPinned: boolean }[] } }>('GET', '/api/mission-control/layout')).json;
      return layout.panels.length === 2 && layout.shapes?.some((shape) => shape.columns === 2 && shape.isPinned) === true;
    });
    await visitor.page.reload();
    await second.waitFor();
    await until('it is first again', isFirst);
    expect((await second.boundingBox())?.width ?? 0).toBeGreaterThan(small * 1.8);
    writeFileSync(join(SHOTS, 'panels-sized.png'), await visitor.page.screenshot());
  });

  it('interrupt by Esc only after a question, and with what was written', async () => {
    const visitor = await visit(stack.operator);
    const { sessionId } = await visitor.spawn('e2e-echo', 'At work');
    await steer('update', { sessionId, part: { turn: 'active' } });
    const panel = await visitor.open('At work');
    const modes: string[] = [];
    visitor.page.on('request', (request) => {
      if (request.url().endsWith('/inject')) modes.push(String((request.postDataJSON() as { mode?: string }).mode));
    });
    const box = panel.getByLabel('Message to At work');
    await panel.getByLabel('How the message is to arrive').waitFor();
    await box.fill('stop that');
    await box.press('Escape');
    const dialog = visitor.page.getByRole('alertdialog', { name: /^Interrupt/ });
    await dialog.waitFor();
    await visitor.page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'detached' });
    expect(await box.inputValue()).toBe('stop that');
    expect(modes).toEqual([]);
    await box.press('Escape');
    await dialog.getByRole('button', { name: 'Interrupt and send' }).click();
    await until('it is sent', async () => modes.length === 1);
    expect(modes).toEqual(['interrupt']);
  });

  it('offer to send again what was refused, and not to an observer', async () => {
    for (const user of [stack.operator, stack.observer]) {
      await steer('reset');
      const helper = await visit(stack.operator);
      const { sessionId } = await helper.spawn('e2e-echo', 'Deaf');
      await steer('say', { sessionId, role: 'operator', kind: 'text', content: 'hello?', metadata: { operator: { id: 'u1', name: 'Grace' }, delivery: { state: 'refused', reason: 'busy' } } });
      const visitor = user === stack.operator ? helper : await visit(user);
      const panel = await visitor.open('Deaf');
      await panel.getByText('refused', { exact: true }).waitFor();
      const again = panel.getByRole('button', { name: 'Send again' });
      if (user === stack.observer) expect(await again.count()).toBe(0);
      else {
        await again.click();
        await until('it is said again', async () => (await panel.getByText('hello?', { exact: true }).count()) === 2);
      }
    }
  });

  it('have nothing serious that axe-core finds in the dark', async () => {
    for (const theme of ['dark'] as const) {
      await steer('reset');
      const visitor = await visit(stack.operator, { theme });
      const { sessionId } = await visitor.spawn('e2e-echo', 'Checked');
      await steer('say', { sessionId, role: 'agent', kind: 'text', content: '**bold** [link](https://example.org) `code`\n\n- [x] done\n\n| a |\n|---|\n| b |\n\n> quote' });
      await steer('say', { sessionId, role: 'agent', kind: 'toolCall', content: 'cargo test', metadata: { tool: 'bash', callId: 'a' } });
      await steer('say', { sessionId, role: 'agent', kind: 'toolResult', content: '\u001b[31mred\u001b[32mgreen\u001b[33myellow\u001b[34mblue\u001b[90mgrey', metadata: { callId: 'a', exitCode: 1 } });
      await steer('say', { sessionId, role: 'operator', kind: 'text', content: 'hello', metadata: { operator: { name: 'Grace' }, delivery: 'taken' } });
      const panel = await visitor.open('Checked');
      await panel.getByText('hello', { exact: true }).waitFor();
      await visitor.page.evaluate(AXE);
      const found = await visitor.page.evaluate(async () => {
        interface Violation { id: string; impact: string; nodes: { target: string[]; failureSummary: string }[] }
        const { axe } = globalThis as unknown as { axe: { run: (where: string) => Promise<{ violations: Violation[] }> } };
        const { violations } = await axe.run('section.panel');
        return violations.filter((each) => each.impact === 'serious' || each.impact === 'critical').flatMap((each) => each.nodes.map((node) => `${each.id}: ${node.target.join(' ')} ${node.failureSummary}`));
      });
      expect(found, theme).toEqual([]);
    }
  });
});
