// How a conversation is read: what agents write, the tools they use, and the way about in it.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { SHOTS, stack, until, useBrowser, visit } from '../harness.ts';
import { steer } from './fake.ts';

useBrowser();
beforeEach(() => steer('reset'));

const ESC = '\u001b';

describe('a conversation', () => {
  it('draws Markdown, tools, colours and changes, and opens what failed', async () => {
    for (const theme of ['dark', 'light'] as const) {
      await steer('reset');
      const visitor = await visit(stack.operator, { theme });
      const { sessionId } = await visitor.spawn('e2e-echo', 'Writer');
      const say = (kind: string, content: string, metadata: object = {}, role = 'agent') => steer('say', { sessionId, role, kind, content, metadata });
      await say('text', 'The sweep loses **four** messages. See [the log](https://example.org/log).\n\n1. read the `cursor`\n2. move it *inside*\n\n| step | took |\n|---|--:|\n| read | 12 ms |\n\n```rs\nlet bound = tx.cursor(ws).await?;\n```');
      await say('reasoning', 'If the cursor is read before the lock…');
      await say('toolCall', 'cargo test', { tool: 'bash', callId: 'a' });
      await say('toolCall', 'retention.rs\n@@ -1,2 +1,2 @@\n-let bound = horizon;\n+let bound = cursor.min(horizon);', { tool: 'edit', callId: 'b' });
      await say('toolResult', 'applied', { callId: 'b' });
      await say('toolResult', `${ESC}[31;1mFAIL${ESC}[0m retention::overlap\n${ESC}[32mPASS${ESC}[0m others`, { callId: 'a', exitCode: 101 });
      await say('text', 'warning: unused', { stream: 'stderr' });
      const panel = await visitor.open('Writer');
      await panel.getByRole('link', { name: 'the log' }).waitFor();
      expect(await panel.getByRole('link', { name: 'the log' }).getAttribute('rel')).toContain('noopener');
      await panel.getByRole('cell', { name: '12 ms' }).waitFor();
      // Its result came after another one's: still one card, opened because it failed.
      const failed = panel.getByRole('button', { name: /bash cargo test exit 101/ });
      expect(await failed.getAttribute('aria-expanded')).toBe('true');
      expect(await panel.getByText('FAIL', { exact: true }).evaluate((span) => getComputedStyle(span).color)).toBe(theme === 'dark' ? 'rgb(242, 119, 109)' : 'rgb(179, 38, 30)');
      const edit = panel.getByRole('button', { name: /^edit retention.rs/ });
      expect(await edit.getAttribute('aria-expanded')).toBe('false');
      await edit.click();
      await panel.getByText('-let bound = horizon;').waitFor();
      writeFileSync(join(SHOTS, `stream-${theme}.png`), await visitor.page.screenshot());
      await panel.getByRole('button', { name: 'System' }).click();
      await panel.getByText('warning: unused').waitFor({ state: 'detached' });
      await panel.getByRole('button', { name: 'Tools' }).click();
      await failed.waitFor({ state: 'detached' });
    }
  });

  it('executes nothing of what an agent writes, wherever it stands', async () => {
    const visitor = await visit(stack.operator);
    const { sessionId } = await visitor.spawn('e2e-echo', '<img src=x onerror="document.title=1">');
    const evil = [
      '<script>document.title = "owned"</script>', '<img src=x onerror="document.title=`owned`">', '[click](javascript:document.title="owned")',
      '![x](javascript:document.title="owned")', '<a href="javascript:document.title=`owned`">a</a>', '[d](data:text/html,<script>1</script>)',
      `${ESC}]0;owned${ESC}\\after`, '&lt;script&gt;document.title="owned"&lt;/script&gt;', '<svg/onload=document.title="owned">', '![p](https://evil.example/p.png)',
    ];
    for (const content of evil) for (const kind of ['text', 'reasoning', 'toolCall', 'permission', 'status']) await steer('say', { sessionId, role: kind === 'status' ? 'system' : 'agent', kind, content });
    await steer('update', { sessionId, part: { statusReason: '<b onclick=1>reason</b>', error: '<script>document.title="owned"</script>', metadata: { x: '<img src=x>' } } });
    const row = visitor.page.getByRole('treeitem', { name: /img src=x/ });
    await row.click();
    const panel = visitor.page.getByRole('region', { name: /img src=x/ });
    const log = panel.getByRole('log');
    await log.getByText('owned').first().waitFor();
    for (const button of await log.getByRole('button', { expanded: false }).all()) await button.click({ timeout: 2_000 }).catch(() => undefined);
    expect(await panel.locator('script, img, iframe, object, svg[onload]').count()).toBe(0);
    const hrefs = await panel.locator('a').evaluateAll((links) => links.map((link) => link.getAttribute('href')));
    for (const href of hrefs) expect(href).toMatch(/^(https?|mailto):/);
    expect(await visitor.page.title()).not.toContain('owned');
    expect(await log.innerText()).not.toContain(ESC);
  });

  it('is gone about in by keys: to operators, errors and permissions, also far above', async () => {
    const visitor = await visit(stack.operator);
    const { sessionId } = await visitor.spawn('e2e-echo', 'Jumper');
    const say = (role: string, kind: string, content: string, times = 1, metadata = {}) => steer('say', { sessionId, role, kind, content, times, metadata });
    await say('operator', 'text', 'far above', 1, { operator: { id: 'u1', name: 'Grace' } });
    await say('agent', 'text', 'line %', 900);
    await say('system', 'permission', 'May I?');
    await say('agent', 'text', 'after %', 60);
    await say('agent', 'toolResult', 'went wrong', 1, { exitCode: 2 });
    await say('agent', 'text', 'end %', 60);
    const panel = await visitor.open('Jumper');
    const log = panel.getByRole('log');
    await until('the end', async () => (await log.innerText()).includes('end 60'));
    await log.focus();
    await log.press('Shift+E');
    await until('the error', async () => (await log.innerText()).includes('went wrong'));
    await log.press('Shift+P');
    await until('the permission', async () => (await log.innerText()).includes('May I?'));
    await log.press('Shift+O');
    await until('the operator message', async () => (await log.innerText()).includes('far above'), 40_000);
    await log.press('e');
    await until('the error again', async () => (await log.innerText()).includes('went wrong'), 40_000);
    await log.press('End');
    await until('the end again', async () => (await log.innerText()).includes('end 60'));
    await panel.getByRole('button', { name: /Live$/ }).waitFor({ state: 'detached' });
  }, 120_000);
});
