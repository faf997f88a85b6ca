// Which commands a few typed letters mean, best first. Pure.

export interface Ranked {
  title: string;
  /** Further words it can be found by. */
  words: string;
}

/** Keeps what has all the letters in order, the closest first; of equals, the one that came first. */
export function rank<T extends Ranked>(items: readonly T[], typed: string, max: number): T[] {
  const wanted = typed.toLowerCase().split(/\s+/).filter((word) => word !== '');
  if (wanted.length === 0) return items.slice(0, max);
  const scored: { item: T; score: number }[] = [];
  for (const item of items) {
    const score = scoreOf(item, wanted);
    if (score !== null) scored.push({ item, score });
  }
  // Sorting is stable.
  return scored.sort((a, b) => b.score - a.score).slice(0, max).map(({ item }) => item);
}

function scoreOf(item: Ranked, wanted: readonly string[]): number | null {
  const title = item.title.toLowerCase();
  const all = `${title} ${item.words.toLowerCase()}`;
  let sum = 0;
  for (const word of wanted) {
    const score = wordScore(title, word) ?? (all.includes(word) ? 20 : isSpread(title, word) ? 5 : null);
    if (score === null) return null;
    sum += score;
  }
  return sum;
}

function wordScore(title: string, word: string): number | null {
  const at = title.indexOf(word);
  if (at === 0) return 100;
  if (at < 0) return null;
  return /\W/.test(title[at - 1] ?? '') ? 70 : 40;
}

/** True where the letters stand in the text in this order. */
function isSpread(text: string, letters: string): boolean {
  let at = 0;
  for (const letter of letters) {
    at = text.indexOf(letter, at) + 1;
    if (at === 0) return false;
  }
  return true;
}
