import { describe, expect, it } from 'vitest';
import { continues, plainLine, shortened, summary, type Said } from './message-text.ts';

const said = (more: Partial<Said> = {}): Said => ({
  role: 'agent', content: 'x', kind: 'text', timestamp: '2026-01-01T00:00:00Z', ...more,
});

describe('message text', () => {
  it('is shown whole while it is short', () => {
    expect(shortened('a\nb\nc')).toBeNull();
    expect(shortened('')).toBeNull();
    expect(shortened('x\n'.repeat(40).slice(0, -1))).toBeNull();
  });

  it('is cut by lines and by length', () => {
    expect(shortened('x\n'.repeat(100))?.split('\n')).toHaveLength(40);
    expect(shortened('y'.repeat(100_000))).toHaveLength(4_000);
  });

  it('stands under one head while one voice speaks, except an operator', () => {
    const later = (ms: number): string => new Date(Date.parse('2026-01-01T00:00:00Z') + ms).toISOString();
    expect(continues(said(), said({ timestamp: later(1_000) }))).toBe(true);
    expect(continues(said(), said({ timestamp: later(200_000) }))).toBe(false);
    expect(continues(said(), said({ role: 'system' }))).toBe(false);
    expect(continues(said({ role: 'operator' }), said({ role: 'operator' }))).toBe(false);
    expect(continues(null, said())).toBe(false);
  });

  it('has a summary of one line', () => {
    expect(summary(said({ content: '\n\n  first\nsecond' }))).toBe('first');
    expect(summary(said({ content: 'z'.repeat(500) })).length).toBeLessThan(150);
  });

  it('is a plain line where nothing of it is to be drawn or done', () => {
    expect(plainLine(said({ content: 'line 7 \u202eok' }))).toBe('line 7 ok');
    expect(plainLine(said({ content: '**done**', metadata: { stream: 'stdout' } }))).toBe('**done**');
    for (const more of [{ content: '**done**' }, { content: '\u001b[31mred' }, { content: 'x\n'.repeat(100) }, { role: 'operator' }, { kind: 'toolCall' }, { metadata: { truncated: true } }] as const) {
      expect(plainLine(said(more))).toBeNull();
    }
  });
});
