// A session as it was, and what can come of it: the replay, its export, a conversation that goes on. And a layout that
// is one in two browsers.

import { readFileSync } from 'node:fs';
import { beforeEach, describe, expect, it } from 'vitest';
import { api } from '../../src/routes.ts';
import { arrive, DEADLINE_MS, signIn, stack, until, useBrowser, visit, type Visitor } from '../harness.ts';
import { serious } from './axe.ts';
import { steer } from './fake.ts';

useBrowser();
beforeEach(() => steer('reset'));

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** A session that has ended, with three moments of which each is in terminal and conversation. */
async function recorded(visitor: Visitor): Promise<string> {
  const { sessionId } = await visitor.spawn('shell', 'Recorded');
  for (const [what, role, metadata] of [['first', 'operator', {}], ['second', 'agent', { exitCode: 2 }], ['third', 'agent', {}]] as const) {
    // The moments are some time apart, since that is what is looked at.
    await pause(400);
    await steer('write', { sessionId, text: `\r\n${what} output` });
    await steer('say', { sessionId, role, kind: 'text', content: `${what} words`, metadata });
  }
  await steer('end', { sessionId });
  return sessionId;
}

describe('the replay', () => {
  it('shows terminal and conversation of a session that has ended at any moment, by keyboard', async () => {
    const visitor = await visit(stack.operator);
    const sessionId = await recorded(visitor);
    const { page } = visitor;
    await page.goto(`${stack.url}/mission-control/sessions/${sessionId}/replay`);
    const replay = page.getByRole('region', { name: 'Replay of Recorded' });
    const slider = replay.getByRole('slider', { name: 'Time of the replay' });
    await slider.waitFor({ timeout: DEADLINE_MS });
    const terminal = replay.getByRole('group', { name: 'Terminal as it was' }).locator('.xterm-rows');
    const said = replay.getByRole('group', { name: 'Conversation up to this moment' });
    const shows = async (words: string[], not: string[]): Promise<void> => {
      await until(`terminal and conversation show ${words.join()}, not ${not.join()}`, async () => {
        const [drawn, talk] = [await terminal.innerText(), await said.innerText()];
        const has = (word: string): boolean => drawn.replaceAll('\u00a0', ' ').includes(`${word} output`) && talk.includes(`${word} words`);
        const hasAny = (word: string): boolean => drawn.replaceAll('\u00a0', ' ').includes(`${word} output`) || talk.includes(`${word} words`);
        return words.every(has) && !not.some(hasAny);
      });
    };
    await shows([], ['first', 'second', 'third']);
    await slider.focus();
    await page.keyboard.press('End');
    await shows(['first', 'second', 'third'], []);
    expect(await slider.getAttribute('aria-valuetext')).toMatch(/^\S+, \d+s of \d+s$/);
    // Back, and the terminal is as it was; mark by mark.
    await page.keyboard.press('Home');
    await shows([], ['first', 'second', 'third']);
    await page.keyboard.press(']');
    await shows(['first'], ['second', 'third']);
    await replay.getByText(/^operator message, message \d+: first words$/).waitFor();
    await page.keyboard.press(']');
    await replay.getByText(/^error, message \d+: second words$/).waitFor();
    await shows(['first', 'second'], ['third']);
    await page.keyboard.press('[');
    await shows(['first'], ['second', 'third']);
    // It plays on from there by itself, and stops at the end.
    await replay.getByLabel('Speed').selectOption('0.5');
    await slider.focus();
    await page.keyboard.press(' ');
    await replay.getByRole('button', { name: 'Pause the replay' }).waitFor();
    await shows(['first', 'second', 'third'], []);
    await replay.getByRole('button', { name: 'Play', exact: true }).waitFor();
    expect(await serious(page)).toEqual([]);
    const [download] = await Promise.all([page.waitForEvent('download'), replay.getByRole('button', { name: 'Export .cast' }).click()]);
    expect(download.suggestedFilename()).toBe(`${sessionId}.cast`);
    const lines = readFileSync(await download.path(), 'utf8').trim().split('\n').map((line) => JSON.parse(line) as unknown);
    expect(lines[0]).toMatchObject({ version: 2, width: 100, height: 30 });
    expect(JSON.stringify(lines)).toContain('third output');
    await page.keyboard.press('Escape');
    expect(new URL(page.url()).pathname).toBe('/mission-control/');
  });

  it('of a session without a terminal is its conversation, and is reached from its panel', async () => {
    const visitor = await visit(stack.operator);
    const { page } = visitor;
    const { sessionId } = await visitor.spawn('e2e-echo', 'Only words');
    await steer('say', { sessionId, role: 'agent', kind: 'text', content: 'word %', times: 3 });
    const panel = await visitor.open('Only words');
    await panel.getByRole('button', { name: 'Replay' }).click();
    const replay = page.getByRole('region', { name: 'Replay of Only words' });
    await replay.getByText('Nothing of a terminal is kept of this session').waitFor();
    expect(await replay.getByRole('button', { name: 'Export .cast' }).count()).toBe(0);
    await replay.getByRole('slider').focus();
    await page.keyboard.press('End');
    await replay.getByText('word 3').waitFor();
    // It runs: what was said since is there when it is loaded again.
    await steer('say', { sessionId, role: 'agent', kind: 'text', content: 'the last word' });
    await replay.getByRole('button', { name: 'Load again' }).click();
    await replay.getByRole('slider').focus();
    await page.keyboard.press('End');
    await replay.getByText('the last word').waitFor();
    await replay.getByRole('button', { name: 'Back' }).click();
    await panel.waitFor();
  });
});

describe('a conversation that has ended', () => {
  it('goes on in a new session, once, and an observer is not offered it', async () => {
    const visitor = await visit(stack.operator);
    const { page } = visitor;
    const { sessionId, node } = await visitor.spawn('codex', 'Refactoring');
    await steer('update', { sessionId, part: { metadata: { conversation: 'thread-7' } } });
    const panel = await visitor.open('Refactoring');
    await steer('end', { sessionId });
    const asked: unknown[] = [];
    page.on('request', (request) => {
      if (request.method() === 'POST' && request.url().endsWith(api.sessions())) asked.push(request.postDataJSON());
    });
    const observer = await arrive({ path: `/mission-control/sessions/${sessionId}` });
    await signIn(observer, stack.observer);
    await observer.panel('Refactoring').locator('.status', { hasText: 'completed' }).waitFor({ timeout: DEADLINE_MS });
    expect(await observer.page.getByRole('button', { name: 'Continue' }).count()).toBe(0);
    await panel.getByRole('button', { name: 'Continue' }).click();
    await until('it is asked for', async () => asked.length === 1);
    expect(asked[0]).toMatchObject({ node, profile: 'codex', resumeSessionId: sessionId, title: 'Refactoring' });
    await panel.first().getByText('Its conversation goes on in another session.').waitFor();
    await until('both are open', async () => (await panel.count()) === 2);
    expect(await page.getByRole('button', { name: 'Continue' }).count()).toBe(0);
  });
});

describe('a layout', () => {
  it('is one in two browsers of the same person, sizes and pins too', async () => {
    const [here, there] = [await visit(stack.operator, { width: 1600 }), await visit(stack.operator, { width: 1600 })];
    for (const title of ['First', 'Second']) await here.spawn('e2e-echo', title);
    await here.open('First');
    const second = await here.open('Second');
    await second.getByRole('button', { name: 'Pin', exact: true }).press('Enter');
    const isFirst = (visitor: Visitor) => async (): Promise<boolean> => (await visitor.page.locator('.slot').first().getByRole('heading', { name: 'Second' }).count()) === 1;
    await until('it is first here', isFirst(here));
    await until('it is first there', isFirst(there));
    // The other one changes something else; nothing of the first is undone.
    const first = there.panel('First');
    const slot = there.page.locator('.slot', { has: first });
    const small = (await first.boundingBox())?.height ?? 0;
    await slot.getByRole('button', { name: /^Size of this panel/ }).focus();
    await there.page.keyboard.press('ArrowRight');
    const isWide = (visitor: Visitor) => async (): Promise<boolean> => ((await visitor.panel('First').boundingBox())?.width ?? 0) > 1_000;
    expect(small).toBeGreaterThan(0);
    await until('it is wide there', isWide(there));
    await until('it is wide here', isWide(here));
    expect(await isFirst(here)()).toBe(true);
    expect(await isFirst(there)()).toBe(true);
  });

  it('takes over what a browser of an earlier version had kept', async () => {
    const visitor = await visit(stack.operator, { width: 1600 });
    const { sessionId } = await visitor.spawn('e2e-echo', 'Of old');
    const panel = await visitor.open('Of old');
    await until('the panel is kept', async () => (await visitor.call<{ layout: { panels: unknown[] } }>('GET', api.layout())).json.layout.panels.length === 1);
    await visitor.page.evaluate((id) => localStorage.setItem('mosaic.shapes', JSON.stringify([[id, { columns: 2, rows: 1, isPinned: true }]])), sessionId);
    await visitor.page.reload();
    await panel.getByRole('button', { name: 'Pin', exact: true, pressed: true }).waitFor();
    const kept = async (): Promise<string> => JSON.stringify((await visitor.call<{ layout: { shapes?: unknown } }>('GET', api.layout())).json.layout.shapes);
    await until('the server has it', async () => (await kept()) === JSON.stringify([{ id: sessionId, columns: 2, rows: 1, isPinned: true }]));
    await until('the browser has forgotten it', async () => (await visitor.page.evaluate(() => localStorage.getItem('mosaic.shapes'))) === null);
  });
});
