// What only a fake hub does on demand: to fall silent, to flood, to forget who we are.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { DEADLINE_MS, linesIn, SHOTS, stack, until, useBrowser, visit, arrive, signIn } from '../harness.ts';
import { steer } from './fake.ts';

useBrowser();
beforeEach(() => steer('reset'));

describe('the page', () => {
  it('resumes a cut stream without a lost or doubled message', async () => {
    const visitor = await visit(stack.operator);
    const { sessionId } = await visitor.spawn('e2e-talker', 'Cut off');
    const panel = await visitor.open('Cut off');
    await until('it talks', async () => (await linesIn(panel)).length > 3);
    for (let i = 0; i < 3; i += 1) {
      const before = (await steer('rate', { rate: 4 })).streamsOpened;
      await steer('cut');
      await until('it is connected again', async () => (await steer('rate', { rate: 4 })).streamsOpened > before);
      const seen = Math.max(...(await linesIn(panel)));
      await until('it goes on', async () => Math.max(...(await linesIn(panel))) > seen);
    }
    await visitor.call('POST', `/api/mission-control/sessions/${sessionId}/pause`);
    const log = panel.getByRole('log');
    const all = new Set<number>();
    await log.hover();
    await until('the beginning is in view', async () => {
      const lines = await linesIn(panel);
      expect(lines).toEqual(lines.map((_, i) => (lines[0] ?? 0) + i));
      lines.forEach((n) => all.add(n));
      await visitor.page.mouse.wheel(0, -200);
      return lines[0] === 1;
    });
    expect([...all].sort((a, b) => a - b)).toEqual(Array.from({ length: all.size }, (_, i) => i + 1));
  });

  it('says so when it is not live, and becomes live again by itself', async () => {
    const visitor = await visit(stack.operator);
    await visitor.page.route('**/stream?**', (route) => route.abort());
    await steer('cut');
    const banner = visitor.page.getByText(/^Not live for/);
    await banner.waitFor({ timeout: DEADLINE_MS });
    const box = await banner.boundingBox();
    expect(box?.y).toBeLessThan(100);
    // It covers nothing: what stands below begins below it.
    expect((await visitor.page.getByRole('main').boundingBox())?.y).toBeGreaterThanOrEqual((box?.y ?? 0) + (box?.height ?? 0));
    writeFileSync(join(SHOTS, 'not-live.png'), await visitor.page.screenshot());
    await visitor.page.unroute('**/stream?**');
    await visitor.page.getByRole('status', { name: 'Connection: Live' }).waitFor({ timeout: 40_000 });
    await banner.waitFor({ state: 'detached' });
  });

  it('learns of an end that it missed while the stream could not be resumed', async () => {
    const visitor = await visit(stack.operator);
    const { sessionId } = await visitor.spawn('e2e-echo', 'Unseen end');
    await visitor.open('Unseen end');
    await visitor.page.route('**/stream?**', (route) => route.abort());
    await steer('cut');
    await visitor.call('POST', `/api/mission-control/sessions/${sessionId}/kill`);
    await steer('forget');
    await visitor.page.unroute('**/stream?**');
    await visitor.panel('Unseen end').getByText(/^Ended: killed/).waitFor({ timeout: DEADLINE_MS });
  });

  it('shows sessions of its layout that ended, or are not kept any more, after a reload', async () => {
    const visitor = await visit(stack.operator);
    const { sessionId } = await visitor.spawn('e2e-echo', 'Over');
    const panel = await visitor.open('Over');
    await visitor.call('POST', `/api/mission-control/sessions/${sessionId}/kill`);
    await panel.getByText(/^Ended: killed/).waitFor();
    const { json } = await visitor.call<{ rev: number }>('GET', '/api/mission-control/layout');
    const layout = { v: 1, panels: [{ id: sessionId }, { id: '01JD8Z2V9Q000000000000GONE' }] };
    await visitor.call('PUT', '/api/mission-control/layout', { layout, rev: json.rev });
    await visitor.page.reload();
    await panel.getByText(/^Ended: killed/).waitFor();
    await visitor.page.getByText('This session is no longer kept').waitFor();
    await visitor.page.getByRole('button', { name: 'Close this panel', exact: true }).click();
    await visitor.page.getByText('This session is no longer kept').waitFor({ state: 'detached' });
  });

  it('asks for sign-in when the hub has forgotten who we are, and goes on with the draft', async () => {
    const visitor = await visit(stack.operator);
    await visitor.spawn('e2e-echo', 'Patient');
    const saved = visitor.page.waitForResponse((r) => r.url().endsWith('/layout') && r.request().method() === 'PUT');
    const panel = await visitor.open('Patient');
    await panel.getByLabel('Message to Patient').fill('half a sen');
    await saved;
    await steer('sign-out');
    await visitor.page.getByText('Your session has ended').waitFor({ timeout: DEADLINE_MS });
    await signIn(visitor, stack.operator);
    await panel.waitFor();
    expect(await panel.getByLabel('Message to Patient').inputValue()).toBe('half a sen');
  });

  it('keeps still what is being read, counts what is new, and goes to the end when asked', async () => {
    const visitor = await visit(stack.operator);
    const { sessionId } = await visitor.spawn('e2e-echo', 'Long story');
    await steer('say', { sessionId, role: 'agent', kind: 'text', content: 'line %', times: 300 });
    const panel = await visitor.open('Long story');
    const log = panel.getByRole('log');
    await until('the end is in view', async () => (await linesIn(panel)).at(-1) === 300);
    await log.hover();
    await visitor.page.mouse.wheel(0, -700);
    await panel.getByRole('button', { name: 'Live', exact: true }).waitFor();
    const top = (): Promise<string> => log.evaluate((view) => {
      const box = view.getBoundingClientRect();
      return document.elementFromPoint(box.left + 40, box.top + 30)?.textContent ?? '';
    });
    const read = await top();
    expect(read).toMatch(/line \d+/);
    await steer('say', { sessionId, role: 'agent', kind: 'text', content: 'more %', times: 40 });
    await panel.getByRole('button', { name: '40 new · Live' }).waitFor();
    expect(await top()).toBe(read);
    await panel.getByRole('button', { name: '40 new · Live' }).click();
    await panel.getByText('more 40', { exact: true }).waitFor();
    await panel.getByRole('button', { name: '40 new · Live' }).waitFor({ state: 'detached' });
  });

  it('goes all the way back through a long conversation, and to its end again', async () => {
    const visitor = await visit(stack.operator);
    const { sessionId } = await visitor.spawn('e2e-echo', 'Saga');
    await steer('say', { sessionId, role: 'agent', kind: 'text', content: 'line %', times: 5_000 });
    const panel = await visitor.open('Saga');
    const log = panel.getByRole('log');
    await until('the end', async () => (await linesIn(panel)).at(-1) === 5_000);
    await log.hover();
    await until('the beginning', async () => {
      await visitor.page.mouse.wheel(0, -100_000);
      return (await linesIn(panel))[0] === 1;
    }, 50_000);
    await panel.getByRole('button', { name: 'Live', exact: true }).click();
    await until('the end again', async () => (await linesIn(panel)).at(-1) === 5_000);
  }, 90_000);

  it('follows the end through everything that changes its size, and loads a conversation once', async () => {
    const visitor = await visit(stack.operator);
    const { sessionId } = await visitor.spawn('e2e-talker', 'Follower');
    let loads = 0;
    visitor.page.on('request', (request) => (loads += request.url().includes('/messages') ? 1 : 0));
    const panel = await visitor.open('Follower');
    const box = panel.getByLabel('Message to Follower');
    for (let i = 0; i < 8; i += 1) {
      // A pending message comes and goes at the end, a notice above it, and the panel changes its size.
      await box.fill('one\ntwo\nthree');
      await box.press('Enter');
      await steer('update', { sessionId, part: i % 2 === 0 ? { error: 'something went wrong' } : { statusReason: `reason ${i}` } });
      await visitor.page.setViewportSize({ width: 1280 - 40 * i, height: 800 - 30 * i });
    }
    await panel.getByText('heard: one').last().waitFor();
    const last = Math.max(...(await linesIn(panel)));
    await until('the end is still followed', async () => Math.max(...(await linesIn(panel))) > last + 10);
    expect(await panel.getByRole('button', { name: /Live$/ }).count()).toBe(0);
    expect(loads).toBe(1);
  });

  it('keeps what the hub refused, with its reason, and waits as long as it says', async () => {
    const visitor = await visit(stack.operator);
    await visitor.spawn('e2e-echo', 'Busy ear');
    const panel = await visitor.open('Busy ear');
    const box = panel.getByLabel('Message to Busy ear');
    // The eleventh within a minute is too much.
    for (let i = 1; i <= 11; i += 1) {
      const answered = visitor.page.waitForResponse((r) => r.url().endsWith('/inject'));
      await box.fill(`number ${i}`);
      await box.press('Enter');
      await answered;
    }
    await panel.getByText('not sent').waitFor();
    expect(await panel.getByText('number 11').count()).toBe(1);
    expect(await panel.getByRole('alert').innerText()).toMatch(/request/);
    expect(await panel.getByRole('button', { name: /^Retry in/ }).isDisabled()).toBe(true);
    await panel.getByRole('button', { name: 'Discard' }).click();
    await panel.getByText('number 11').waitFor({ state: 'detached' });
  });

  it('folds tools and thoughts, and shows text as text', async () => {
    const visitor = await visit(stack.operator);
    const { sessionId } = await visitor.spawn('e2e-echo', 'Toolsmith');
    const nasty = '<img src=x onerror="document.title=1"><b>bold</b> **stars**';
    await steer('say', { sessionId, role: 'agent', kind: 'text', content: nasty });
    await steer('say', { sessionId, role: 'agent', kind: 'toolResult', content: 'first\nsecond\nhidden detail' });
    const panel = await visitor.open('Toolsmith');
    await panel.getByText('<img src=x onerror="document.title=1"><b>bold</b> stars', { exact: true }).waitFor();
    expect(await panel.locator('img').count()).toBe(0);
    expect(await panel.getByText('hidden detail').count()).toBe(0);
    await panel.getByRole('button', { name: /result/ }).click();
    await panel.getByText('hidden detail').waitFor();
  });

  it('shows that a node is away, and disables with a reason', async () => {
    const visitor = await visit(stack.operator);
    const { sessionId } = await visitor.spawn('e2e-echo', 'Far away');
    const panel = await visitor.open('Far away');
    await steer('update', { sessionId, part: { stale: true, staleSince: '2026-01-01T00:00:00Z' } });
    await panel.getByText(/is away; last seen/).waitFor();
    const kill = panel.getByRole('button', { name: 'Kill at once' });
    expect(await kill.getAttribute('aria-disabled')).toBe('true');
    expect(await kill.getAttribute('title')).toMatch(/is away/);
  });

  it('draws terminals in all their colours, answers no queries, and goes on after a cut', async () => {
    const visitor = await visit(stack.operator);
    await visitor.spawn('claude', 'Painter');
    const typed: string[] = [];
    visitor.page.on('request', (request) => {
      if (request.url().endsWith('/terminal/input')) typed.push(request.postData() ?? '');
    });
    const panel = await visitor.open('Painter');
    const screen = panel.locator('.xterm-rows');
    await until('it is drawn', async () => (await screen.innerText()).includes('claude'));
    const title = screen.locator('span', { hasText: 'claude' }).first();
    // The row may be drawn anew between finding and looking at it.
    await until('it has its colour', async () => (await title.evaluate((span) => getComputedStyle(span).color)) === 'rgb(90, 169, 255)');
    await steer('cut');
    const step = async (): Promise<number> => Number(/step (\d+)/.exec(await screen.innerText())?.[1] ?? 0);
    const before = await step();
    await until('it goes on', async () => (await step()) > before + 3);
    await panel.getByRole('group', { name: 'Terminal' }).hover();
    await visitor.page.mouse.move(400, 300, { steps: 10 });
    await panel.getByRole('button', { name: 'Conversation', exact: true }).hover();
    expect(typed).toEqual([]);
    await panel.getByRole('group', { name: 'Terminal' }).click();
    await visitor.page.keyboard.press('x');
    await until('a key arrives', async () => typed.length > 0);
  });

  it('sizes a terminal once for whoever starts it, and for nobody who only watches', async () => {
    const visitor = await visit(stack.operator);
    const sizes: { cols: number; rows: number }[] = [];
    visitor.page.on('request', (request) => {
      if (request.url().endsWith('/terminal/resize')) sizes.push(request.postDataJSON());
    });
    await visitor.page.getByRole('button', { name: 'New session' }).first().click();
    const dialog = visitor.page.getByRole('dialog', { name: 'New session' });
    await dialog.getByRole('radio', { name: /Shell/ }).check({ force: true });
    await dialog.getByLabel('Title (optional)').fill('My shell');
    await dialog.getByRole('button', { name: 'Start' }).click();
    await until('it is sized', async () => sizes.length > 0);
    const panel = visitor.panel('My shell');
    await until('letters are readable', async () =>
      panel.locator('.xterm-rows').evaluate((rows) => parseFloat(getComputedStyle(rows).fontSize) >= 11),
    );
    expect(sizes[0]?.cols).toBeGreaterThan(80);
    await visitor.page.reload();
    await until('it is drawn again', async () => (await panel.locator('.xterm-rows').innerText()).includes('Welcome'));
    expect(sizes).toHaveLength(1);
  });

  it('has something to say where there is nothing to show', async () => {
    const visitor = await visit(stack.operator);
    await visitor.page.getByRole('heading', { name: 'No session yet' }).waitFor();
    writeFileSync(join(SHOTS, 'empty.png'), await visitor.page.screenshot());
    const observer = await visit(stack.observer);
    await observer.page.getByText('Sessions appear here').waitFor();
  });

  it('opens what runs on the first visit', async () => {
    const helper = await visit(stack.operator);
    await helper.spawn('e2e-talker', 'Already here');
    const visitor = await arrive();
    await signIn(visitor, stack.admin);
    await visitor.panel('Already here').waitFor();
  });

  it('stays calm under twenty panels and thousands of messages a second', async () => {
    const visitor = await visit(stack.operator, { width: 1920, height: 1080 });
    const titles = Array.from({ length: 20 }, (_, i) => `Flood ${String(i + 1).padStart(2, '0')}`);
    for (const title of titles) await visitor.spawn('e2e-talker', title);
    for (const title of titles) await visitor.open(title);
    const from = (await steer('rate', { rate: 12 })).cursor;
    const start = Date.now();
    const { frames, longest } = await visitor.page.evaluate(async () => {
      let frames = 0;
      let longest = 0;
      let last = performance.now();
      const end = last + 10_000;
      while (performance.now() < end) {
        await new Promise(requestAnimationFrame);
        frames += 1;
        longest = Math.max(longest, performance.now() - last);
        last = performance.now();
      }
      return { frames, longest };
    });
    const state = await steer('rate', { rate: 1 });
    const perSecond = Math.round(((state.cursor - from) / (Date.now() - start)) * 1000);
    const heap = await visitor.page.evaluate(() => (performance as unknown as { memory: { usedJSHeapSize: number } }).memory.usedJSHeapSize);
    const nodes = await visitor.page.evaluate(() => document.getElementsByTagName('*').length);
    console.log(`flood: ${perSecond} events/s, ${frames / 10} frames/s, longest ${Math.round(longest)} ms, heap ${Math.round(heap / 1e6)} MB, ${nodes} elements`);
    expect(perSecond).toBeGreaterThan(1_500);
    expect(frames / 10).toBeGreaterThan(10);
    expect(nodes).toBeLessThan(15_000);
    expect([state.streams, visitor.openStreams.size]).toEqual([1, 1]);
    for (const title of titles) {
      await visitor.panel(title).scrollIntoViewIfNeeded();
      await until(`${title} is drawn`, async () => (await linesIn(visitor.panel(title))).length > 3);
      const lines = await linesIn(visitor.panel(title));
      expect(lines).toEqual(lines.map((_, i) => (lines[0] ?? 0) + i));
    }
    writeFileSync(join(SHOTS, 'flood.png'), await visitor.page.screenshot());
  }, 120_000);
});
