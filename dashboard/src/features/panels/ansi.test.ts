import { describe, expect, it } from 'vitest';
import { ansiSpans, paletteHex, stripControls } from './ansi.ts';

const ESC = '\u001b';
const seen = (text: string): unknown[] => ansiSpans(text).map(({ text: t, fg, bg, bold }) => ({ text: t, ...(fg === null ? {} : { fg }), ...(bg === null ? {} : { bg }), ...(bold ? { bold } : {}) }));

describe('coloured output', () => {
  it('has its colours in every form', () => {
    expect(seen(`${ESC}[31mred${ESC}[0m plain ${ESC}[1;92mgreen${ESC}[22;39m x`)).toEqual([
      { text: 'red', fg: 1 }, { text: ' plain ' }, { text: 'green', fg: 10, bold: true }, { text: ' x' },
    ]);
    expect(seen(`${ESC}[38;5;208ma${ESC}[48;2;1;2;300mb`)).toEqual([{ text: 'a', fg: 208 }, { text: 'b', fg: 208, bg: '#0102ff' }]);
    expect(seen(`${ESC}[7mi`)).toEqual([{ text: 'i', fg: 0, bg: 7 }]);
    expect(paletteHex(208)).toBe('#ff8700');
    expect(paletteHex(255)).toBe('#eeeeee');
  });

  it('does nothing else that it asks for', () => {
    const asked = `a${ESC}]0;evil title${ESC}\\b${ESC}]52;c;Y2xpcA==\u0007c${ESC}[2J${ESC}[10;10Hd${ESC}P+q4d73${ESC}\\e${ESC}c\u0007\u0000f\u009b31mg`;
    expect(ansiSpans(asked).map((s) => s.text).join('')).toBe('abcdefg');
    expect(stripControls(asked)).toBe('abcdefg');
    expect(stripControls(`open ${ESC}]8;;javascript:alert(1)`)).toBe('open ');
    expect(stripControls(`cut ${ESC}`)).toBe('cut ');
    expect(stripControls('a\u202eb\u2066c')).toBe('abc');
  });

  it('shows the last state of a line that was written over', () => {
    expect(stripControls('10 %\r50 %\r100 %\ndone\r\nab\bc')).toBe('100 %\ndone\nac');
  });

  it('comes in a bounded number of pieces', () => {
    const spans = ansiSpans(`${ESC}[31ma${ESC}[32mb`.repeat(5_000));
    expect(spans.length).toBe(3_000);
    expect(spans.map((s) => s.text).join('')).toHaveLength(10_000);
  });
});
