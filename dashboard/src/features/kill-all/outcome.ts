// What became of the sessions of a kill-all, in numbers and words. Pure.

import type { KillAllResult, KillReceipt } from '../../api/types.ts';

/** Ended; not known yet, or by nobody; or not ended. A word that this page does not know counts as the last. */
export function killTone(outcome: string): 'good' | 'warn' | 'bad' {
  switch (outcome) {
    case 'killed':
    case 'ended':
      return 'good';
    case 'unknown':
    case 'pending':
      return 'warn';
    // It lives on until somebody else agrees.
    case 'awaitsApproval':
      return 'warn';
    default:
      return 'bad';
  }
}

const TONES = ['bad', 'warn', 'good'] as const;

/** Those that somebody has to look at come first. */
export function worstFirst(results: readonly KillAllResult[]): KillAllResult[] {
  const rank = ({ outcome }: KillAllResult): number => TONES.indexOf(killTone(outcome));
  return [...results].sort((a, b) => rank(a) - rank(b) || a.sessionId.localeCompare(b.sessionId));
}

export interface Tally {
  all: number;
  ended: number;
  pending: number;
  unknown: number;
  asked: number;
  /** Not ended, and nothing more is tried. */
  alive: number;
}

export function tally(results: readonly KillAllResult[]): Tally {
  const count = (isOne: (outcome: string) => boolean): number => results.filter(({ outcome }) => isOne(outcome)).length;
  return {
    all: results.length,
    ended: count((outcome) => killTone(outcome) === 'good'),
    pending: count((outcome) => outcome === 'pending'),
    unknown: count((outcome) => outcome === 'unknown'),
    asked: count((outcome) => outcome === 'awaitsApproval'),
    alive: count((outcome) => killTone(outcome) === 'bad'),
  };
}

export function scopeText({ scope }: Pick<KillReceipt, 'scope'>): string {
  return scope === 'all' ? 'every runtime' : scope;
}
