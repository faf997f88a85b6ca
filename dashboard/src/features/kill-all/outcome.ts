// What became of one session in a kill-all.

/** Ended, not known, or not ended; a word that this page does not know counts as not. */
export function killTone(outcome: string): 'good' | 'warn' | 'bad' {
  switch (outcome) {
    case 'killed':
      return 'good';
    case 'unknown':
    case 'unreachable':
      return 'warn';
    default:
      return 'bad';
  }
}
