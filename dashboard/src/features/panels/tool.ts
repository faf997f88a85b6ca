// What a tool call and its result say, for the card that shows both. Pure.

import type { Json, Message, Metadata } from '../../api/types.ts';
import { stripControls } from './ansi.ts';

type Called = Pick<Message, 'content' | 'metadata' | 'timestamp'>;

export interface ToolFacts {
  /** The tool's own name. */
  name: string;
  /** What it was used on: a command, a file, an address. One line. */
  target: string;
  /** The whole call, where there is more to it than its target. */
  input: string;
  /** A change of a file, as a unified diff; null if it is none. */
  diff: string | null;
  isFailed: boolean;
  exitCode: number | null;
  durationMs: number | null;
  isOpen: boolean;
}

const TARGET_CHARS_MAX = 160;
/** Arguments by which a call is known, in this order. */
const TARGETS = ['command', 'cmd', 'file_path', 'filePath', 'path', 'notebook_path', 'url', 'pattern', 'query', 'description', 'prompt'];

/** The id by which a result names its call. */
export function callId(metadata: Metadata | undefined): string | null {
  const id = metadata?.['toolCallId'] ?? metadata?.['callId'];
  return typeof id === 'string' && id !== '' ? id : null;
}

export function toolFacts(call: Called | null, result: Called | null): ToolFacts {
  const metadata: Metadata = { ...call?.metadata, ...result?.metadata };
  const input = objectOf(call?.metadata['rawInput']) ?? objectOf(parsed(call?.content ?? ''));
  const content = call?.content ?? '';
  const exitCode = numberOf(result?.metadata['exitCode']);
  const status = metadata['status'];
  const isError = result?.metadata['isError'] === true || result?.metadata['isError'] === 'true';
  return {
    name: nameOf(metadata, call !== null),
    target: oneLine(targetOf(input) ?? (isJson(content) ? '' : content)),
    input: isJson(content) && input !== null ? JSON.stringify(input, null, 2) : content,
    diff: diffOf(input, content),
    isFailed: isError || status === 'failed' || status === 'error' || (exitCode !== null && exitCode !== 0),
    exitCode,
    durationMs: durationOf(call, result),
    isOpen: result === null,
  };
}

function nameOf(metadata: Metadata, isCall: boolean): string {
  for (const key of ['tool', 'toolName', 'name', 'toolKind']) {
    const name = metadata[key];
    if (typeof name === 'string' && name !== '') return stripControls(name).slice(0, 60);
  }
  return isCall ? 'tool' : 'result';
}

function targetOf(input: Record<string, Json> | null): string | null {
  for (const key of TARGETS) {
    const value = input?.[key];
    if (typeof value === 'string' && value !== '') return value;
    if (Array.isArray(value) && value.every((each) => typeof each === 'string')) return value.join(' ');
  }
  return null;
}

function oneLine(text: string): string {
  const line = stripControls(text).trimStart().split('\n', 1)[0] ?? '';
  return line.length > TARGET_CHARS_MAX ? `${line.slice(0, TARGET_CHARS_MAX)}…` : line;
}

/** A change, from the text of a diff or from the arguments of an editing tool. */
function diffOf(input: Record<string, Json> | null, content: string): string | null {
  if (isDiff(content)) return content;
  const [before, after] = [input?.['old_string'] ?? input?.['oldText'], input?.['new_string'] ?? input?.['newText']];
  if (typeof before !== 'string' || typeof after !== 'string') return null;
  const side = (sign: string, text: string): string => (text === '' ? '' : text.split('\n').map((line) => sign + line).join('\n'));
  return [side('-', before), side('+', after)].filter((part) => part !== '').join('\n');
}

export function isDiff(text: string): boolean {
  return /^@@ .*@@/m.test(text) || /^diff --git /m.test(text) || /^--- .*\n\+\+\+ /m.test(text);
}

export type DiffLine = { type: 'add' | 'remove' | 'hunk' | 'same'; text: string };

export function diffLines(text: string): DiffLine[] {
  return stripControls(text).split('\n').map((line) => {
    if (/^(?:@@|diff --git|index |--- |\+\+\+ )/.test(line)) return { type: 'hunk', text: line };
    if (line.startsWith('+')) return { type: 'add', text: line };
    return { type: line.startsWith('-') ? 'remove' : 'same', text: line };
  });
}

function durationOf(call: Called | null, result: Called | null): number | null {
  const told = numberOf(result?.metadata['durationMs']);
  if (told !== null) return told;
  if (call === null || result === null) return null;
  const between = Date.parse(result.timestamp) - Date.parse(call.timestamp);
  return Number.isFinite(between) && between >= 0 ? between : null;
}

/** `0.4 s`, `12 s`, `3 min 5 s`. */
export function durationText(ms: number): string {
  if (ms < 9_950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

function numberOf(value: Json | undefined): number | null {
  if (value === undefined || value === null || value === '') return null;
  const number = Number(value);
  return Number.isFinite(number) ? number : null;
}

function isJson(content: string): boolean {
  return content.startsWith('{') && content.trimEnd().endsWith('}');
}

function parsed(content: string): Json {
  if (!isJson(content)) return null;
  try {
    return JSON.parse(content) as Json;
  } catch {
    return null;
  }
}

function objectOf(value: Json | undefined): Record<string, Json> | null {
  return value !== null && typeof value === 'object' && !Array.isArray(value) ? value : null;
}
