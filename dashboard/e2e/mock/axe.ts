// Looks at a page the way assistive technology does, with axe-core.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Page } from 'playwright-core';

const SOURCE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** A row of a tree is called by its title and status. What it does just now stands in it too, and is no part of its name:
 *  it would be read out at every change. */
const OPTIONS = { preload: false, resultTypes: ['violations'], rules: { 'label-content-name-mismatch': { enabled: false } } };

/** What an agent draws, in colours of its own. */
const TERMINAL = '.xterm';

interface Violation {
  id: string;
  impact: string | null;
  help: string;
  nodes: { target: string[]; failureSummary: string }[];
}

/** What axe finds serious or critical, as lines that name the rule and the places. */
export async function serious(page: Page): Promise<string[]> {
  if (!(await page.evaluate(() => 'axe' in window))) await page.evaluate(SOURCE);
  const violations = await page.evaluate(async ({ options, TERMINAL }) => {
    // What fades in is judged as it will stand.
    await Promise.all(document.getAnimations().filter((each) => each.effect?.getComputedTiming().iterations === 1).map((each) => each.finished.catch(() => undefined)));
    const { axe } = window as unknown as { axe: { run: (context: object, options: object) => Promise<{ violations: Violation[] }> } };
    return (await axe.run({ exclude: [TERMINAL] }, options)).violations;
  }, { options: OPTIONS, TERMINAL });
  return violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(({ id, help, nodes }) => `${id}: ${help}\n${nodes.slice(0, 6).map((node) => `    ${node.target.join(' ')}  ${node.failureSummary.split('\n').slice(1, 2).join('').trim()}`).join('\n')}`);
}
