// What became of one session in a kill-all.

/** Ended, not known (its node is told when it is back), or not ended; a word that this page does not know counts as not. */
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
