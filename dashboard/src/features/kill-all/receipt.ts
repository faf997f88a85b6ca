// A kill-all as a text that can be kept: what was ended, what was not, and why. Pure.

import type { KillAllResult, KillReceipt } from '../../api/types.ts';
import { scopeText, tally } from './outcome.ts';

export interface ReceiptLine extends KillAllResult {
  title: string;
  where: string;
}

export interface ReceiptHead extends Pick<KillReceipt, 'receiptId' | 'at' | 'by' | 'scope' | 'leaseUntil'> {
  workspace: string;
  /** When the hub said so. */
  asOf: string;
}

/** One line for each session, after a head that says who, when and what; tab-separated, for a table or a ticket. */
export function receiptText(head: ReceiptHead, lines: readonly ReceiptLine[]): string {
  const { ended, all, pending } = tally(lines);
  const plain = (text: string): string => text.replace(/\s+/g, ' ');
  return [
    `Kill-all of ${scopeText(head)} in ${head.workspace}, by ${head.by.name}, ${head.at}, receipt ${head.receiptId}`,
    `${ended} of ${all} ended${pending === 0 ? '' : `, ${pending} pending until ${head.leaseUntil}`}, as of ${head.asOf}`,
    '',
    ['outcome', 'session', 'title', 'where', 'detail'].join('\t'),
    ...lines.map((line) => [line.outcome, line.sessionId, plain(line.title), line.where, plain(line.detail ?? '')].join('\t')),
    '',
  ].join('\n');
}
