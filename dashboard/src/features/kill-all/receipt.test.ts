import { expect, it } from 'vitest';
import { receiptText } from './receipt.ts';

it('a receipt says who ended what and what lives on, one line for each session, and how old it is', () => {
  const head = { receiptId: 'R', at: '2026-01-01T00:00:00Z', by: { name: 'Grace' }, workspace: 'default', scope: 'pty', leaseUntil: '2026-01-01T00:15:00Z', asOf: '2026-01-01T00:00:09Z' };
  const lines = [
    { sessionId: 'A', node: 'atlas', outcome: 'killed', title: 'Two\nlines', where: 'pty on atlas' },
    { sessionId: 'B', node: 'atlas', outcome: 'survived', detail: 'pid 4\tlives', title: 'B', where: 'pty on atlas' },
  ];
  expect(receiptText(head, lines).split('\n')).toEqual([
    'Kill-all of pty in default, by Grace, 2026-01-01T00:00:00Z, receipt R',
    '1 of 2 ended, as of 2026-01-01T00:00:09Z',
    '',
    'outcome\tsession\ttitle\twhere\tdetail',
    'killed\tA\tTwo lines\tpty on atlas\t',
    'survived\tB\tB\tpty on atlas\tpid 4 lives',
    '',
  ]);
  expect(receiptText({ ...head, scope: 'all' }, [])).toContain('Kill-all of every runtime');
  expect(receiptText(head, [{ sessionId: 'C', node: 'atlas', outcome: 'pending', title: 'C', where: '' }])).toContain('0 of 1 ended, 1 pending until 2026-01-01T00:15:00Z');
});
