// How a message is shown: what of it, folded or not, and whether its Markdown is drawn. Nothing of it is ever markup.

import type { Message, MessageKind, Role } from '../../api/types.ts';
import { hasSequences, stripControls } from './ansi.ts';
import { hasMarks } from './markdown.ts';

/** What the row of a message or of a delta needs. */
export type Said = Pick<Message, 'role' | 'content' | 'kind' | 'timestamp'> & { metadata?: Message['metadata'] };

/** Longer text is cut until it is asked for: a quarter of a megabyte in one row helps nobody. */
const LINES_MAX = 40;
const CHARS_MAX = 4_000;
const PARAGRAPH_CHARS_MIN = 100;
const SUMMARY_CHARS_MAX = 140;
/** Messages of one voice within this time stand under one head. */
const SAME_BREATH_MS = 90_000;

/** Kinds that are shown as one line until they are opened. */
export function isFolded(kind: MessageKind): boolean {
  return kind === 'toolCall' || kind === 'toolResult' || kind === 'reasoning';
}

export type Voice = 'agent' | 'user' | 'system' | 'operator';

export function voice(role: Role): Voice {
  switch (role) {
    case 'user':
    case 'system':
    case 'operator':
      return role as 'user' | 'system' | 'operator';
    default:
      return 'agent';
  }
}

/** True if a message needs no head of its own after the one before it. */
export function continues(previous: Said | null, said: Said): boolean {
  if (previous === null || previous.role !== said.role || said.role === 'operator') return false;
  return Date.parse(said.timestamp) - Date.parse(previous.timestamp) < SAME_BREATH_MS;
}

/** True for text that reads better with air around it than a line of output does. */
export function isParagraph(content: string): boolean {
  return content.length > PARAGRAPH_CHARS_MIN || content.includes('\n');
}

/** True for what agents and people write as prose. Output of programs, and what operators typed, stands as it is. */
export function isFormatted(said: Said): boolean {
  if (said.metadata?.['stream'] !== undefined) return false;
  return (said.kind === 'text' || said.kind === 'reasoning') && said.role !== 'operator' && said.role !== 'system';
}

/** The text of a message that is nothing but text: no Markdown, no colours, nothing to unfold. Null for any other. */
export function plainLine(said: Said): string | null {
  const { content, metadata } = said;
  if (said.kind !== 'text' || said.role === 'operator' || metadata?.['truncated'] === true) return null;
  if (hasSequences(content) || shortened(content) !== null || (isFormatted(said) && hasMarks(content))) return null;
  return stripControls(content);
}

/** What of a text is shown at first; null if all of it. */
export function shortened(content: string): string | null {
  let end = Math.min(content.length, CHARS_MAX);
  let from = 0;
  for (let line = 0; line < LINES_MAX; line += 1) {
    const next = content.indexOf('\n', from);
    if (next < 0 || next >= end) return end < content.length ? content.slice(0, end) : null;
    from = next + 1;
  }
  end = from - 1;
  return end < content.length ? content.slice(0, end) : null;
}

/** The one line of a folded message. */
export function summary(said: Said): string {
  const line = said.content.trimStart().split('\n', 1)[0] ?? '';
  return line.length > SUMMARY_CHARS_MAX ? `${line.slice(0, SUMMARY_CHARS_MAX)}…` : line;
}

/** What a folded message is called. */
export function foldName(said: Said): string {
  return said.kind === 'reasoning' ? 'thought' : said.kind;
}

export function lineCount(content: string): number {
  let lines = 1;
  for (let at = content.indexOf('\n'); at >= 0 && lines < 10_000; at = content.indexOf('\n', at + 1)) lines += 1;
  return lines;
}

/** A size for people. */
export function bytesText(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  return bytes < 1024 * 1024 ? `${Math.round(bytes / 1024)} KiB` : `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
}
