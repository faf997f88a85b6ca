// Terminal output in a message: its colours as spans, everything else it asks of a terminal left out. Pure.
//
// Law: whatever comes, what goes out is text in bounded pieces; no sequence survives in it.

/** A palette index (0–255) or `#rrggbb`. */
export type Colour = number | string;

export interface Span {
  text: string;
  fg: Colour | null;
  bg: Colour | null;
  bold: boolean;
  dim: boolean;
  italic: boolean;
  underline: boolean;
  strike: boolean;
}

type Style = Omit<Span, 'text'>;

/** More pieces than this are joined in the last one's style. */
const SPANS_MAX = 3_000;
const PLAIN: Style = { fg: null, bg: null, bold: false, dim: false, italic: false, underline: false, strike: false };

/* CSI; OSC, DCS, SOS, PM and APC up to their end (or the end of the text); any other escape. The C1 forms as well. */
const SEQUENCE = /(?:\u001b\[|\u009b)([0-9:;<=>?]*)[ -/]*([@-~])|(?:\u001b[\]PX^_]|[\u009d\u0090\u0098\u009e\u009f])[\s\S]*?(?:\u0007|\u001b\\|\u009c|$)|\u001b[ -/]*[0-~]?|\u001b|[\u009b]/g;
/* Control characters other than tab and newline, and those that turn the direction of writing. */
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;

export function hasSequences(text: string): boolean {
  return text.includes('\u001b') || text.includes('\u009b') || text.includes('\r') || text.includes('\b');
}

/** The text alone: no sequence, no control character. */
export function stripControls(text: string): string {
  return overwritten(text.replace(SEQUENCE, '')).replace(CONTROLS, '');
}

/** The text in pieces of one style each. */
export function ansiSpans(text: string): Span[] {
  const source = overwritten(text);
  const spans: Span[] = [];
  let style = PLAIN;
  let isInverse = false;
  let at = 0;
  const put = (raw: string): void => {
    const clean = raw.replace(CONTROLS, '');
    if (clean === '') return;
    const last = spans.at(-1);
    if (last !== undefined && spans.length >= SPANS_MAX) last.text += clean;
    else spans.push({ text: clean, ...(isInverse ? { ...style, fg: style.bg ?? 0, bg: style.fg ?? 7 } : style) });
  };
  for (const match of source.matchAll(SEQUENCE)) {
    put(source.slice(at, match.index));
    at = match.index + match[0].length;
    if (match[2] === 'm') {
      const next = styled(style, isInverse, match[1] ?? '');
      style = next.style;
      isInverse = next.isInverse;
    }
  }
  put(source.slice(at));
  return spans;
}

function styled(before: Style, wasInverse: boolean, parameters: string): { style: Style; isInverse: boolean } {
  let style = before;
  let isInverse = wasInverse;
  const codes = parameters === '' ? [0] : parameters.split(/[;:]/).slice(0, 32).map((code) => Number(code === '' ? 0 : code));
  for (let i = 0; i < codes.length; i += 1) {
    const code = codes[i] ?? 0;
    if (code === 0) {
      style = PLAIN;
      isInverse = false;
    } else if (code === 1) style = { ...style, bold: true };
    else if (code === 2) style = { ...style, dim: true };
    else if (code === 3) style = { ...style, italic: true };
    else if (code === 4) style = { ...style, underline: true };
    else if (code === 7) isInverse = true;
    else if (code === 9) style = { ...style, strike: true };
    else if (code === 22) style = { ...style, bold: false, dim: false };
    else if (code === 23) style = { ...style, italic: false };
    else if (code === 24) style = { ...style, underline: false };
    else if (code === 27) isInverse = false;
    else if (code === 29) style = { ...style, strike: false };
    else if (code === 39) style = { ...style, fg: null };
    else if (code === 49) style = { ...style, bg: null };
    else if (code >= 30 && code <= 37) style = { ...style, fg: code - 30 };
    else if (code >= 40 && code <= 47) style = { ...style, bg: code - 40 };
    else if (code >= 90 && code <= 97) style = { ...style, fg: code - 82 };
    else if (code >= 100 && code <= 107) style = { ...style, bg: code - 92 };
    else if (code === 38 || code === 48) {
      const { colour, used } = extended(codes, i + 1);
      i += used;
      if (colour !== null) style = code === 38 ? { ...style, fg: colour } : { ...style, bg: colour };
    }
  }
  return { style, isInverse };
}

/** `5;n` or `2;r;g;b` after 38 or 48. */
function extended(codes: readonly number[], at: number): { colour: Colour | null; used: number } {
  const byte = (value: number | undefined): number => Math.max(0, Math.min(255, Math.floor(value ?? 0) || 0));
  if (codes[at] === 5) return { colour: byte(codes[at + 1]), used: 2 };
  if (codes[at] !== 2) return { colour: null, used: 0 };
  const hex = [1, 2, 3].map((i) => byte(codes[at + i]).toString(16).padStart(2, '0'));
  return { colour: `#${hex.join('')}`, used: 4 };
}

/** What stands in each line after its carriage returns and backspaces: a progress bar is its last state. */
function overwritten(text: string): string {
  if (!text.includes('\r') && !text.includes('\b')) return text;
  return text
    .replaceAll('\r\n', '\n')
    .split('\n')
    .map((line) => {
      const from = line.endsWith('\r') ? line.lastIndexOf('\r', line.length - 2) : line.lastIndexOf('\r');
      let rest = (from < 0 ? line : line.slice(from + 1)).replaceAll('\r', '');
      for (let i = 0; i < 200 && rest.includes('\b'); i += 1) rest = rest.replace(/[^\b]?\u0008/, '');
      return rest;
    })
    .join('\n');
}

/** A palette colour beyond the first sixteen, which the theme has. */
export function paletteHex(index: number): string {
  if (index >= 232) {
    const grey = (8 + (index - 232) * 10).toString(16).padStart(2, '0');
    return `#${grey}${grey}${grey}`;
  }
  const cube = index - 16;
  const step = (n: number): string => (n === 0 ? 0 : 55 + n * 40).toString(16).padStart(2, '0');
  return `#${step(Math.floor(cube / 36))}${step(Math.floor(cube / 6) % 6)}${step(cube % 6)}`;
}
