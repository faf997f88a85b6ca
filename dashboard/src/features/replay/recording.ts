// The recording of a terminal as the hub gives it (an asciicast, version 2), read into pieces. Pure.
//
// Law: whatever stands in a line, the others are read.

export type Piece =
  | { type: 'output'; at: number; text: string }
  | { type: 'resize'; at: number; cols: number; rows: number }
  /** Something is missing here. */
  | { type: 'gap'; at: number; text: string };

export interface Recording {
  cols: number;
  rows: number;
  /** Output before the first piece that is not in it, in bytes. */
  missingBytes: number;
  /** In the order of time; times in milliseconds since 1970. */
  pieces: Piece[];
}

const between = (value: unknown, usual: number): number => (typeof value === 'number' && value >= 1 && value <= 1_000 ? Math.round(value) : usual);

function parseLine(line: string): unknown {
  try {
    return JSON.parse(line) as unknown;
  } catch {
    return null;
  }
}

/** Null where it is no recording. */
export function parseCast(text: string): Recording | null {
  const [first = '', ...lines] = text.split('\n');
  const head = parseLine(first);
  if (head === null || typeof head !== 'object' || Array.isArray(head)) return null;
  const { version, width, height, timestamp, mosaic } = head as Record<string, unknown>;
  if (version !== 2 || typeof timestamp !== 'number') return null;
  const fromOffset = mosaic !== null && typeof mosaic === 'object' ? (mosaic as Record<string, unknown>)['fromOffset'] : 0;
  const pieces: Piece[] = [];
  for (const line of lines) {
    const event = parseLine(line);
    if (!Array.isArray(event)) continue;
    const [seconds, kind, data] = event as unknown[];
    if (typeof seconds !== 'number' || typeof data !== 'string') continue;
    const at = Math.round((timestamp + seconds) * 1_000);
    if (kind === 'o') pieces.push({ type: 'output', at, text: data });
    else if (kind === 'm') pieces.push({ type: 'gap', at, text: data });
    else if (kind === 'r') {
      const size = /^(\d+)x(\d+)$/.exec(data);
      if (size !== null) pieces.push({ type: 'resize', at, cols: between(Number(size[1]), 80), rows: between(Number(size[2]), 24) });
    }
  }
  return { cols: between(width, 80), rows: between(height, 24), missingBytes: typeof fromOffset === 'number' ? fromOffset : 0, pieces };
}

/** How many of these, which are in the order of time, are not later than `at`. */
export function countUntil(list: readonly { at: number }[], at: number): number {
  let [low, high] = [0, list.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((list[middle]?.at ?? 0) <= at) low = middle + 1;
    else high = middle;
  }
  return low;
}
