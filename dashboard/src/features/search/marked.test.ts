import { expect, it } from 'vitest';
import { marked } from './marked.ts';

const show = (snippet: string, query: string): string => marked(snippet, query).map((part) => (part.isHit ? `[${part.text}]` : part.text)).join('');

it('searched words are marked whatever their case, and nothing in them is a pattern', () => {
  expect(show('The Sweep waits for ingest', 'sweep INGEST')).toBe('The [Sweep] waits for [ingest]');
  expect(show('a.b (c) axb', 'a.b (c)')).toBe('[a.b] [(c)] axb');
  expect(show('<b>no markup</b>', 'markup')).toBe('<b>no [markup]</b>');
  expect(show('as it is', '')).toBe('as it is');
  expect(show('the big sweep and a sweep', '"big sweep"')).toBe('the [big sweep] and a sweep');
});
