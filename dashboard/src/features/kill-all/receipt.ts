// A kill-all as a text that can be kept: what was ended, what was not, and why. Pure.

import type { KillAllResult } from '../../api/types.ts';
import { killTone } from './outcome.ts';

export interface ReceiptLine extends KillAllResult {
  title: string;
  where: string;
}

export interface ReceiptHead {
  at: string;
  by: string;
  workspace: string;
  /** A provider, or null for all. */
  scope: string | null;
}

/** One line for each session, after a head that says who, when and what; tab-separated, for a table or a ticket. */
export function receiptText(head: ReceiptHead, lines: readonly ReceiptLine[]): string {
  const ended = lines.filter((line) => killTone(line.outcome) === 'good').length;
  const plain = (text: string): string => text.replace(/\s+/g, ' ');
  return [
    `Kill-all of ${head.scope ?? 'every runtime'} in ${head.workspace}, by ${head.by}, ${head.at}`,
    `${ended} of ${lines.length} ended`,
    '',
    ['outcome', 'session', 'title', 'where', 'detail'].join('\t'),
    ...lines.map((line) => [line.outcome, line.sessionId, plain(line.title), line.where, plain(line.detail ?? '')].join('\t')),
    '',
  ].join('\n');
}
