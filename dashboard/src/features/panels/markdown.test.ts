import { describe, expect, it } from 'vitest';
import { GrowingMarkdown, parseMarkdown, safeHref, type Block, type Inline } from './markdown.ts';

/** All addresses that a tree leads to. */
function hrefs(blocks: readonly Block[] | null): string[] {
  const found: string[] = [];
  const walk = (value: unknown): void => {
    if (Array.isArray(value)) value.forEach(walk);
    else if (value !== null && typeof value === 'object') {
      if ('href' in value) found.push(String(value.href));
      Object.values(value).forEach(walk);
    }
  };
  walk(blocks);
  return found;
}

const first = (content: string): Inline[] => {
  const block = parseMarkdown(content)?.[0];
  return block?.type === 'paragraph' ? block.children : [];
};

describe('markdown', () => {
  it('is left alone where there is none', () => {
    expect(parseMarkdown('line 12')).toBeNull();
    expect(parseMarkdown('a sentence, and another.\nA line.')).toBeNull();
  });

  it('knows what agents write', () => {
    const blocks = parseMarkdown('# Title\n\nSome **bold** `code`\n\n- [x] one\n- [ ] two\n\n```rs\nlet a = 1;\n```\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n> quote\n\n---\n');
    expect(blocks?.map((b) => b.type)).toEqual(['heading', 'paragraph', 'list', 'code', 'table', 'quote', 'rule']);
    expect(blocks?.[2]).toMatchObject({ items: [{ checked: true }, { checked: false }] });
    expect(blocks?.[3]).toEqual({ type: 'code', text: 'let a = 1;', lang: 'rs' });
  });

  it('keeps single line breaks, as agents mean them', () => {
    expect(first('**a**\nb')).toEqual([{ type: 'strong', children: [{ type: 'text', text: 'a' }] }, { type: 'break' }, { type: 'text', text: 'b' }]);
  });

  it('shows HTML as the text it is', () => {
    for (const html of ['<script>alert(1)</script>', '<img src=x onerror=alert(1)>', 'a <b onclick=x>b</b>', '<!-- c -->', '<svg/onload=alert(1)>']) {
      expect(first(html).map((part) => (part.type === 'text' ? part.text : `(${part.type})`)).join('')).toBe(html);
    }
  });

  it('reads entities as text, never as markup', () => {
    expect(first('&lt;script&gt; &#106;')).toEqual([{ type: 'text', text: '<script> j' }]);
  });

  it('leads to http, https and mailto only', () => {
    expect(safeHref('https://example.org/a')).toBe('https://example.org/a');
    expect(safeHref('mailto:a@example.org')).toBe('mailto:a@example.org');
    for (const bad of [
      'javascript:alert(1)', 'JaVaScRiPt:alert(1)', ' javascript:alert(1)', 'java\tscript:alert(1)', '&#106;avascript:alert(1)',
      'data:text/html,<script>alert(1)</script>', 'vbscript:x', 'file:///etc/passwd', 'blob:https://a/b', '/api/auth/logout', '//evil.example',
      'https://good.example@evil.example/', '', 'http://', '#x',
    ]) {
      expect(safeHref(bad), bad).toBeNull();
    }
  });

  it('turns no link, image, reference or bare address into anything else', () => {
    const text = '[a](javascript:alert(1)) ![b](javascript:alert(2)) [c](data:text/html,x) <javascript:alert(3)> [d][e]\n\n[e]: javascript:alert(4) "t"\n\n[ok](https://example.org "title") https://example.org/x ![pic](https://example.org/p.png)';
    expect(hrefs(parseMarkdown(text))).toEqual(['https://example.org/', 'https://example.org/x', 'https://example.org/p.png']);
  });

  it('lets no escape sequence through', () => {
    expect(JSON.stringify(parseMarkdown('**a** \u001b]0;title\u0007\u001b[31mred\u001b[0m \u202eevil'))).not.toMatch(/\\u001b|\\u0007|title|\u202e/);
  });

  it('gives something back in bounded time, whatever comes', () => {
    const nasty = ['['.repeat(15_000), '>'.repeat(15_000), '*a '.repeat(5_000), '`'.repeat(15_000), '- '.repeat(7_000), '<'.repeat(15_000), '![['.repeat(5_000), '_a*'.repeat(5_000), '|'.repeat(15_000) + '\n' + '|-'.repeat(500), '[a]('.repeat(3_000), '(((a@b.c'.repeat(1_500)];
    // The slowest that is let through; the others are told by their look.
    expect(nasty.map(parseMarkdown).filter((blocks) => blocks !== null && blocks.length > 1)).toEqual([]);
    expect(parseMarkdown(`**${'x'.repeat(20_000)}`)).toBeNull();
  });
});

describe('markdown that is being written', () => {
  const TEXT = '# Title\n\nSome **bold** text\nin two lines.\n\n```rs\nlet a = 1;\n\nlet b = "**no**";\n```\n\n1. one\n\n2. two\n\n   more of two\n\nEnd with `code`.\n\n> quote\n\n> same quote\n\nLast words.';

  it('comes out as it does when it is read as a whole', () => {
    const growing = new GrowingMarkdown();
    for (let end = 1; end <= TEXT.length; end += 1) growing.blocks(TEXT.slice(0, end));
    expect(growing.blocks(TEXT)).toEqual(parseMarkdown(TEXT));
  });

  it('keeps the blocks that stand, so that they are not drawn again', () => {
    const growing = new GrowingMarkdown();
    const before = growing.blocks(TEXT.slice(0, TEXT.indexOf('> quote') + 9)) ?? [];
    const after = growing.blocks(TEXT) ?? [];
    expect(before.length).toBeGreaterThan(3);
    before.slice(0, 4).forEach((block, i) => expect(after[i]).toBe(block));
  });

  it('begins anew where the text is another one', () => {
    const growing = new GrowingMarkdown();
    growing.blocks(TEXT);
    expect(growing.blocks('*x*\n\ny')).toEqual(parseMarkdown('*x*\n\ny'));
    expect(growing.blocks('plain')).toBeNull();
  });
});
