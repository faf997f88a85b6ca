// The searched words inside a snippet. Pure, and never markup: what was said is text.

export interface Part {
  text: string;
  isHit: boolean;
}

/** Cuts a snippet at the words that were searched, whatever their case. */
export function marked(snippet: string, query: string): Part[] {
  const quoted = query.split('"').flatMap((part, i) => (i % 2 === 1 ? [part.trim()] : part.split(/\s+/)));
  const words = quoted.filter((word) => word !== '').map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  if (words.length === 0) return [{ text: snippet, isHit: false }];
  return snippet
    .split(new RegExp(`(${words.join('|')})`, 'giu'))
    .map((text, i) => ({ text, isHit: i % 2 === 1 }))
    .filter((part) => part.text !== '');
}
