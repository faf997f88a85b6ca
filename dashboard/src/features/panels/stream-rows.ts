// The rows of a conversation: what is filtered out is left out, a tool's call and result are one, and what is missing
// between two messages stands before the next one shown. Pure.

import type { Message } from '../../api/types.ts';
import type { Entry } from '../../stores/conversation.svelte.ts';
import { callId } from './tool.ts';

/** What somebody wants to see beside what the agent says. */
export interface StreamFilter {
  tools: boolean;
  reasoning: boolean;
  /** Messages of the system, and what programs write to stderr. */
  system: boolean;
}

export const SHOW_ALL: StreamFilter = { tools: true, reasoning: true, system: true };

export interface Missing {
  from: number;
  to: number;
}

export interface Row {
  key: string;
  entry: Entry;
  /** What came of a tool call. */
  result: Message | null;
  /** The row before it. */
  previous: Entry | null;
  missing: readonly Missing[];
}

export type Stop = 'operator' | 'error' | 'permission';

const NONE: readonly Missing[] = [];
const NO_RESULTS: ReadonlyMap<string, Message> = new Map();
/** A result further from its call than this stands by itself. */
const PAIR_ROWS_MAX = 200;

export function keyOf(entry: Entry): string {
  return entry.type === 'message' ? entry.message.messageId : entry.delta.messageId;
}

/** More rows than are shown are remembered up to this many, so that forgetting is not done with each redraw. */
const FORGOTTEN_MAX = 200;

/** Rows keep their identity while nothing of them changes: what did not change is not drawn again. */
export class RowMaker {
  #made = new Map<string, Row>();

  rows(entries: readonly Entry[], filter: StreamFilter): Row[] {
    const results = pairs(entries);
    const paired = new Set(results.values());
    const rows: Row[] = [];
    let missing: readonly Missing[] = NONE;
    let lastSeq: number | null = null;
    let previous: Entry | null = null;
    for (const entry of entries) {
      if (entry.type === 'message') {
        const { seq } = entry.message;
        if (lastSeq !== null && seq > lastSeq + 1) missing = [...missing, { from: lastSeq + 1, to: seq - 1 }];
        lastSeq = seq;
        if (paired.has(entry.message)) continue;
      }
      if (!isShown(entry, filter)) continue;
      const key = keyOf(entry);
      const result = results.get(key) ?? null;
      const known = this.#made.get(key);
      const isSame = known?.entry === entry && known.result === result && known.previous === previous && known.missing === NONE && missing === NONE;
      const row = isSame ? known : { key, entry, result, previous, missing };
      if (!isSame) this.#made.set(key, row);
      rows.push(row);
      missing = NONE;
      previous = entry;
    }
    if (this.#made.size > rows.length + FORGOTTEN_MAX) this.#made = new Map(rows.map((row) => [row.key, row]));
    return rows;
  }
}

/** The result of each call that has one, by the call's message id. Without ids, the very next message is it. */
function pairs(entries: readonly Entry[]): ReadonlyMap<string, Message> {
  if (!entries.some((entry) => entry.type === 'message' && entry.message.kind === 'toolResult')) return NO_RESULTS;
  const results = new Map<string, Message>();
  const open = new Map<string, { message: Message; at: number }>();
  let last: Message | null = null;
  entries.forEach((entry, at) => {
    if (entry.type !== 'message') return;
    const { message } = entry;
    const id = callId(message.metadata);
    if (message.kind === 'toolCall' && id !== null) open.set(id, { message, at });
    if (message.kind === 'toolResult') {
      const call = id === null ? null : (open.get(id) ?? null);
      if (call !== null && at - call.at <= PAIR_ROWS_MAX && !results.has(call.message.messageId)) {
        results.set(call.message.messageId, message);
      } else if (id === null && last !== null && last.kind === 'toolCall' && callId(last.metadata) === null) {
        results.set(last.messageId, message);
      }
    }
    last = message;
  });
  return results;
}

export function isStderr(entry: Entry): boolean {
  return entry.type === 'message' && entry.message.metadata['stream'] === 'stderr';
}

function isShown(entry: Entry, filter: StreamFilter): boolean {
  const said = entry.type === 'message' ? entry.message : entry.delta;
  if (said.role === 'operator' || said.kind === 'permission') return true;
  if (!filter.tools && (said.kind === 'toolCall' || said.kind === 'toolResult')) return false;
  if (!filter.reasoning && said.kind === 'reasoning') return false;
  return filter.system || !(said.role === 'system' || isStderr(entry));
}

/** True where somebody who looks for such things stops. */
export function isStop(row: Row, stop: Stop): boolean {
  const said = row.entry.type === 'message' ? row.entry.message : row.entry.delta;
  switch (stop) {
    case 'operator':
      return said.role === 'operator';
    case 'permission':
      return said.kind === 'permission';
    case 'error':
      return isFailure(row);
  }
}

function isFailure(row: Row): boolean {
  const of = (message: Message): boolean => {
    const { exitCode, isError, status, delivery } = message.metadata;
    const code = exitCode === undefined || exitCode === '' || exitCode === null ? 0 : Number(exitCode);
    const isRefused = delivery !== null && typeof delivery === 'object' && !Array.isArray(delivery) && ['refused', 'expired'].includes(String(delivery['state']));
    return code !== 0 || isError === true || isError === 'true' || status === 'failed' || status === 'error' || isRefused;
  };
  if (row.result !== null && of(row.result)) return true;
  return row.entry.type === 'message' && of(row.entry.message);
}
