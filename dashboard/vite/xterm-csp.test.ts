import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { rewriteXterm } from './xterm-csp.ts';

describe('xterm under a strict policy', () => {
  const source = readFileSync(join(import.meta.dirname, '../node_modules/@xterm/xterm/lib/xterm.mjs'), 'utf8');

  it('writes no style element and no style attribute', () => {
    const code = rewriteXterm(source);
    expect(code).not.toMatch(/createElement\(["']style["']\)/);
    expect(code).not.toMatch(/setAttribute\(["']style["']/);
  });

  it('fails the build where xterm has changed', () => {
    expect(() => rewriteXterm(source.replaceAll('createElement("style")', 'createElement("div")'))).toThrow(/xterm has changed/);
  });
});
