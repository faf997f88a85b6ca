// A browser, people who are signed in, and sessions to look at. Every test leaves the fleet as it found it.
//
// Law: whatever the page does, it must not break its content security policy, throw, or call another host.
// `Visitor.faults` collects such things, and every test ends by expecting none.

import { existsSync, mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium, type Browser, type Locator, type Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, inject } from 'vitest';
import type { Session, SpawnRequest } from '../src/api/types.ts';
import { api } from '../src/routes.ts';
import type { User } from './stack.ts';

const CHROMIUM = process.env['MOSAIC_CHROMIUM'] ?? '/usr/bin/chromium';
const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  // WebGL in software, for the terminal that is drawn with it.
  '--enable-unsafe-swiftshader',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];
/** Where pictures go. */
export const SHOTS = process.env['MOSAIC_E2E_SHOTS'] ?? join(tmpdir(), 'mosaic-shots');
/** For anything that goes through agent, bus and browser, on a busy machine. */
export const DEADLINE_MS = 20_000;

export const stack = inject('stack');
const EMPTY_LAYOUT = { v: 1, panels: [], columns: 0, folded: [], isRosterOpen: true };

let browser: Browser | null = null;
const visitors: Visitor[] = [];

/** Called once at the top of each test file. */
export function useBrowser(): void {
  beforeAll(async () => {
    if (!existsSync(CHROMIUM)) {
      throw new Error(`no browser at ${CHROMIUM}: apt-get install chromium, or name one in MOSAIC_CHROMIUM`);
    }
    mkdirSync(SHOTS, { recursive: true });
    browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
  });
  afterEach(async ({ task }) => {
    const faults: string[] = [];
    if (task.result?.state === 'fail') {
      for (const [i, visitor] of visitors.entries()) await visitor.page.screenshot({ path: join(SHOTS, `failed-${i}.png`) });
    }
    for (const visitor of visitors.splice(0)) {
      faults.push(...visitor.faults);
      await visitor.leave();
    }
    expect(faults).toEqual([]);
  });
  afterAll(async () => {
    await browser?.close();
    browser = null;
  });
}

/** Somebody in front of the page. */
export class Visitor {
  readonly page: Page;
  readonly faults: string[] = [];
  /** Requests of the event stream that are open now. */
  readonly openStreams = new Set<unknown>();
  readonly #spawned: string[] = [];

  constructor(page: Page) {
    this.page = page;
    page.on('pageerror', (error) => this.faults.push(`the page threw: ${error.stack ?? error.message}`));
    page.on('console', (message) => {
      if (message.text().includes('Content Security Policy')) this.faults.push(message.text());
    });
    page.on('request', (request) => {
      const url = new URL(request.url());
      if (url.origin !== stack.url && url.protocol.startsWith('http')) this.faults.push(`asked another host: ${request.url()}`);
      if (url.pathname.endsWith('/stream')) this.openStreams.add(request);
    });
    page.on('requestfinished', (request) => this.openStreams.delete(request));
    page.on('requestfailed', (request) => this.openStreams.delete(request));
  }

  /** Calls the hub as the page would. */
  async call<T>(method: string, path: string, body?: unknown): Promise<{ status: number; json: T }> {
    return this.page.evaluate(
      async ([how, where, what]) => {
        const response = await fetch(where, {
          method: how,
          ...(what === null ? {} : { body: JSON.stringify(what), headers: { 'Content-Type': 'application/json' } }),
        });
        const text = await response.text();
        return { status: response.status, json: text === '' ? null : JSON.parse(text) };
      },
      [method, path, body ?? null] as const,
    );
  }

  /** Starts a session on some node that offers the profile, and waits until it runs. */
  async spawn(profile: string, title: string, more: Partial<SpawnRequest> = {}): Promise<Session> {
    const { json } = await this.call<{ nodes: { node: string; online: boolean; profiles: { name: string }[] }[] }>('GET', api.nodes());
    const node = json.nodes.find((n) => n.online && n.profiles.some((p) => p.name === profile));
    if (node === undefined) throw new Error(`no node offers the profile ${profile}: start it with dashboard/e2e/node.toml`);
    const made = await this.call<{ session: Session }>('POST', api.sessions(), { node: node.node, profile, title, ...more });
    expect(made.status, JSON.stringify(made.json)).toBe(201);
    const id = made.json.session.sessionId;
    this.#spawned.push(id);
    await until(`${title} runs`, async () => (await this.session(id)).status !== 'spawning');
    return this.session(id);
  }

  async session(id: string): Promise<Session> {
    return (await this.call<{ session: Session }>('GET', api.session(id))).json.session;
  }

  panel(title: string): Locator {
    return this.page.getByRole('region', { name: title, exact: true });
  }

  row(title: string): Locator {
    return this.page.getByRole('treeitem', { name: new RegExp(`^${title}, `) });
  }

  /** Opens the panel of a session from the roster. */
  async open(title: string): Promise<Locator> {
    await this.row(title).click();
    const panel = this.panel(title);
    await panel.waitFor();
    return panel;
  }

  async leave(): Promise<void> {
    try {
      for (const id of this.#spawned) await this.call('POST', api.act(id, 'kill'));
      await this.resetLayout();
    } catch {
      // Signed out, or its sessions have ended: that was the test.
    }
    await this.page.context().close();
  }

  async resetLayout(): Promise<void> {
    const { json } = await this.call<{ rev: number }>('GET', api.layout());
    await this.call('PUT', api.layout(), { layout: EMPTY_LAYOUT, rev: json.rev });
  }
}

export interface VisitOptions {
  width?: number;
  height?: number;
  theme?: 'dark' | 'light';
  path?: string;
}

/** Opens the page, not signed in. */
export async function arrive(options: VisitOptions = {}): Promise<Visitor> {
  if (browser === null) throw new Error('call useBrowser() at the top of the file');
  const context = await browser.newContext({
    viewport: { width: options.width ?? 1280, height: options.height ?? 800 },
    colorScheme: options.theme ?? 'dark',
  });
  const visitor = new Visitor(await context.newPage());
  visitors.push(visitor);
  await visitor.page.goto(stack.url + (options.path ?? '/mission-control/'));
  return visitor;
}

export async function signIn(visitor: Visitor, user: User): Promise<void> {
  const { page } = visitor;
  await page.getByLabel('Email').fill(user.email);
  await page.getByLabel('Password').fill(user.password);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('status', { name: 'Connection: Live' }).waitFor({ timeout: DEADLINE_MS });
}

/** Opens the page as somebody, with an empty grid. */
export async function visit(user: User, options: VisitOptions = {}): Promise<Visitor> {
  const visitor = await arrive(options);
  await signIn(visitor, user);
  await visitor.resetLayout();
  await visitor.page.reload();
  await visitor.page.getByRole('status', { name: 'Connection: Live' }).waitFor({ timeout: DEADLINE_MS });
  return visitor;
}

/** Waits for a condition, and says what it waited for when it gives up. */
export async function until(what: string, isTrue: () => Promise<boolean>, deadlineMs = DEADLINE_MS): Promise<void> {
  const end = Date.now() + deadlineMs;
  while (!(await isTrue())) {
    if (Date.now() > end) throw new Error(`waited ${deadlineMs} ms in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** The numbers of the `line N` messages that a panel shows now, in order. */
export async function linesIn(panel: Locator): Promise<number[]> {
  const text = await panel.getByRole('log').innerText();
  return [...text.matchAll(/^line (\d+)\s*$/gm)].map((match) => Number(match[1]));
}

/** How many colours a picture has: one or two, and nothing was drawn. Looked at in a page of its own. */
export async function colourCount(png: Buffer): Promise<number> {
  if (browser === null) throw new Error('call useBrowser() at the top of the file');
  const page = await browser.newPage();
  try {
    return await page.evaluate(async (base64) => {
      const image = new Image();
      image.src = `data:image/png;base64,${base64}`;
      await image.decode();
      const canvas = new OffscreenCanvas(image.width, image.height);
      const context = canvas.getContext('2d');
      if (context === null) return 0;
      context.drawImage(image, 0, 0);
      const pixels = new Uint32Array(context.getImageData(0, 0, image.width, image.height).data.buffer);
      return new Set(pixels).size;
    }, png.toString('base64'));
  } finally {
    await page.close();
  }
}
