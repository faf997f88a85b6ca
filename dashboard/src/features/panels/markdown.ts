// Markdown as a tree of our own, which `Markdown.svelte` draws with elements and text nodes. Pure.
//
// Laws:
// 1. There is no way from it to markup: HTML in the text is a text like any other, and nothing here yields HTML.
// 2. A link leads to http, https or mailto, written out in full; anything else stays text. Images are never fetched:
//    they are links.
// 3. Whatever comes, however long or deeply nested, something readable comes back in bounded time.

import { Lexer, type Token, type Tokens } from 'marked';
import { stripControls } from './ansi.ts';

export type Inline =
  | { type: 'text'; text: string }
  | { type: 'code'; text: string }
  | { type: 'break' }
  | { type: 'strong' | 'em' | 'del'; children: Inline[] }
  | { type: 'link'; href: string; children: Inline[] };

export type Align = 'left' | 'center' | 'right' | null;

export type Block =
  | { type: 'paragraph'; children: Inline[] }
  | { type: 'heading'; level: number; children: Inline[] }
  | { type: 'code'; text: string; lang: string | null }
  | { type: 'quote'; blocks: Block[] }
  | { type: 'list'; start: number | null; items: { checked: boolean | null; blocks: Block[] }[] }
  | { type: 'table'; align: Align[]; head: Inline[][]; rows: Inline[][][] }
  | { type: 'rule' };

/** Longer text is shown as it stands: the reader of it wants the text, and lexing has no bound of its own. */
export const MARKDOWN_CHARS_MAX = 16_000;
const DEPTH_MAX = 10;
/** Runs of marks deeper than any writing has: what makes lexers slow. */
const SUSPICIOUS = /(?:[[\]()*_`~<>!] ?){60}/;
/** Marks in one paragraph. The lexer's time grows with more than their square. */
const PARAGRAPH_MARKS_MAX = 300;
/** Text without any of these is the same with or without Markdown. */
const MARKS = /[*_`#>|~[\]<&\\]|^\s{0,3}(?:[-+]|\d+[.)])\s|^\s*(?:---|===)|^(?: {4}|\t)|https?:\/\/|www\./m;

/** False for text that is the same with or without Markdown. */
export function hasMarks(content: string): boolean {
  return MARKS.test(content);
}

/** The blocks of a text, or null where it is best shown as it stands. */
export function parseMarkdown(content: string): Block[] | null {
  if (content.length > MARKDOWN_CHARS_MAX || !hasMarks(content) || isSlow(content)) return null;
  try {
    const blocks = blocksOf(Lexer.lex(stripControls(content), { gfm: true, breaks: true }), 0);
    return blocks.length === 0 ? null : blocks;
  } catch {
    return null;
  }
}

const FENCE = /^ {0,3}(`{3,}|~{3,})/;
/** A line that begins something of its own, whatever stands above it. */
const FRESH = /^(?![-+*>] |\d+[.)] )\S/;

/**
 * The blocks of a text that grows: what stands is read once, and its blocks stay the same objects; only the end, from
 * the last empty line that divides paragraphs, is read again. What a later line would change further up (a definition
 * of a link) shows when the message is complete and read as a whole.
 */
export class GrowingMarkdown {
  #settled = '';
  #blocks: readonly Block[] = [];

  blocks(content: string): readonly Block[] | null {
    if (content.length > MARKDOWN_CHARS_MAX) return null;
    if (!content.startsWith(this.#settled)) {
      this.#settled = '';
      this.#blocks = [];
    }
    const rest = content.slice(this.#settled.length);
    const end = settledLength(rest);
    if (end > 0) {
      this.#blocks = [...this.#blocks, ...asBlocks(rest.slice(0, end))];
      this.#settled += rest.slice(0, end);
    }
    const tail = rest.slice(end);
    if (this.#blocks.length === 0) return parseMarkdown(tail);
    return tail.trim() === '' ? this.#blocks : [...this.#blocks, ...asBlocks(tail)];
  }
}

function asBlocks(text: string): readonly Block[] {
  return parseMarkdown(text) ?? [{ type: 'paragraph', children: plain(stripControls(text.trim())) }];
}

/** Where the last paragraph begins that nothing above it can reach into. */
function settledLength(text: string): number {
  let fence: string | null = null;
  let isAfterBlank = false;
  let settled = 0;
  for (let at = 0; at < text.length; ) {
    const next = text.indexOf('\n', at);
    // What a line begins is known when it is complete.
    if (next < 0) break;
    const line = text.slice(at, next);
    const mark = FENCE.exec(line)?.[1] ?? null;
    if (fence === null && isAfterBlank && FRESH.test(line)) settled = at;
    if (mark !== null && fence === null) fence = mark;
    else if (mark !== null && fence !== null && mark.startsWith(fence)) fence = null;
    isAfterBlank = line.trim() === '';
    at = next + 1;
  }
  return settled;
}

/** True for what no one writes and a lexer suffers from. Fenced code costs nothing. */
function isSlow(content: string): boolean {
  if (SUSPICIOUS.test(content)) return true;
  const paragraphs = content.replace(/^```[^\n]*\n[\s\S]*?^```/gm, '').split(/\n\s*\n/);
  return paragraphs.some((each) => (each.match(/[*_~[`]/g)?.length ?? 0) > PARAGRAPH_MARKS_MAX);
}

function blocksOf(tokens: readonly Token[], depth: number): Block[] {
  const blocks: Block[] = [];
  for (const token of tokens) {
    const block = depth > DEPTH_MAX ? asText(token) : blockOf(token, depth);
    if (block !== null) blocks.push(block);
  }
  return blocks;
}

function blockOf(token: Token, depth: number): Block | null {
  // The lexer's own union also has an open generic member, so each kind is named here.
  switch (token.type) {
    case 'space':
    case 'def':
      return null;
    case 'hr':
      return { type: 'rule' };
    case 'code': {
      const code = token as Tokens.Code;
      const lang = code.lang?.trim().split(/\s/, 1)[0] ?? '';
      return { type: 'code', text: code.text, lang: lang === '' ? null : lang };
    }
    case 'heading': {
      const heading = token as Tokens.Heading;
      return { type: 'heading', level: heading.depth, children: inlinesOf(heading.tokens, depth) };
    }
    case 'blockquote':
      return { type: 'quote', blocks: blocksOf((token as Tokens.Blockquote).tokens, depth + 1) };
    case 'list': {
      const list = token as Tokens.List;
      return {
        type: 'list',
        start: list.ordered ? Number(list.start === '' ? 1 : list.start) : null,
        items: list.items.map((item) => ({
          checked: item.task ? item.checked === true : null,
          blocks: blocksOf(item.tokens.filter((each) => each.type !== 'checkbox'), depth + 1),
        })),
      };
    }
    case 'table': {
      const table = token as Tokens.Table;
      return {
        type: 'table',
        align: table.align,
        head: table.header.map((cell) => inlinesOf(cell.tokens, depth)),
        rows: table.rows.map((row) => row.map((cell) => inlinesOf(cell.tokens, depth))),
      };
    }
    case 'paragraph':
    case 'text': {
      const text = token as Tokens.Paragraph | Tokens.Text;
      return { type: 'paragraph', children: text.tokens === undefined ? plain(text.text) : inlinesOf(text.tokens, depth) };
    }
    default:
      return asText(token);
  }
}

function inlinesOf(tokens: readonly Token[], depth: number): Inline[] {
  return tokens.flatMap((token) => (depth > DEPTH_MAX ? plain(token.raw) : inlineOf(token, depth)));
}

function inlineOf(token: Token, depth: number): Inline[] {
  switch (token.type) {
    case 'strong':
    case 'em':
    case 'del':
      return [{ type: token.type, children: inlinesOf((token as Tokens.Strong).tokens, depth + 1) }];
    case 'codespan':
      return [{ type: 'code', text: (token as Tokens.Codespan).text }];
    case 'br':
      return [{ type: 'break' }];
    case 'escape':
      return plain((token as Tokens.Escape).text);
    case 'text': {
      const text = token as Tokens.Text;
      return text.tokens === undefined ? plain(entities(text.text)) : inlinesOf(text.tokens, depth);
    }
    case 'link': {
      const link = token as Tokens.Link;
      const href = safeHref(link.href);
      const children = inlinesOf(link.tokens, depth + 1);
      return href === null ? [...children, ...aside(link)] : [{ type: 'link', href, children }];
    }
    case 'image': {
      const image = token as Tokens.Image;
      const href = safeHref(image.href);
      const name = plain(image.text === '' ? 'image' : image.text);
      return href === null ? plain(image.raw) : [{ type: 'link', href, children: name }];
    }
    default:
      return plain(token.raw);
  }
}

/** Where a link that leads nowhere wanted to lead, for the reader to see. */
function aside(link: Tokens.Link): Inline[] {
  return link.href === '' || link.href === link.text ? [] : plain(` (${link.href})`);
}

function plain(text: string): Inline[] {
  return text === '' ? [] : [{ type: 'text', text }];
}

function asText(token: Token): Block | null {
  const text = token.raw.replace(/\n+$/, '');
  return text === '' ? null : { type: 'paragraph', children: plain(text) };
}

/** The address in full if a person may be led there, else null. */
export function safeHref(href: string): string | null {
  const decoded = entities(href).trim();
  if (!/^(?:https?:\/\/|mailto:)/i.test(decoded)) return null;
  try {
    const url = new URL(decoded);
    const isSafe = url.protocol === 'http:' || url.protocol === 'https:' || url.protocol === 'mailto:';
    // A name and password in an address only serve to hide the host behind them.
    return isSafe && url.username === '' && url.password === '' ? url.href : null;
  } catch {
    return null;
  }
}

const NAMED: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'", nbsp: '\u00a0' };

/** The few entities that people write. What they stand for is text, also where it is `<`. */
function entities(text: string): string {
  return text.replace(/&(?:#(\d{1,7})|#x([0-9a-f]{1,6})|(amp|lt|gt|quot|apos|nbsp));/gi, (whole, dec?: string, hex?: string, name?: string) => {
    if (name !== undefined) return NAMED[name.toLowerCase()] ?? whole;
    const code = dec === undefined ? parseInt(hex ?? '', 16) : Number(dec);
    return code >= 32 && code <= 0x10ffff ? stripControls(String.fromCodePoint(code)) : whole;
  });
}
