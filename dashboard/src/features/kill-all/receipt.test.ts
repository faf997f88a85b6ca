import { expect, it } from 'vitest';
import { receiptText } from './receipt.ts';

it('a receipt says who ended what and what lives on, one line for each session', () => {
  const head = { at: '2026-01-01T00:00:00Z', by: 'Grace', workspace: 'default', scope: 'pty' };
  const lines = [
    { sessionId: 'A', outcome: 'killed', title: 'Two\nlines', where: 'pty on atlas' },
    { sessionId: 'B', outcome: 'survived', detail: 'pid 4\tlives', title: 'B', where: 'pty on atlas' },
  ];
  expect(receiptText(head, lines).split('\n')).toEqual([
    'Kill-all of pty in default, by Grace, 2026-01-01T00:00:00Z',
    '1 of 2 ended',
    '',
    'outcome\tsession\ttitle\twhere\tdetail',
    'killed\tA\tTwo lines\tpty on atlas\t',
    'survived\tB\tB\tpty on atlas\tpid 4 lives',
    '',
  ]);
  expect(receiptText({ ...head, scope: null }, [])).toContain('Kill-all of every runtime');
});
