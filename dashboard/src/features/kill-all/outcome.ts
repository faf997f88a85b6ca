// What became of one session in a kill-all.

/** Ended, under way, or not; a word that is not known counts as not. */
export function killTone(outcome: string): 'good' | 'neutral' | 'bad' {
  switch (outcome) {
    case 'killed':
    case 'done':
    case 'ok':
    case 'ended':
      return 'good';
    case 'accepted':
      return 'neutral';
    default:
      return 'bad';
  }
}
