// Makes a picture of the page small: 256 colours, the frequent ones first and none too near to another, so that what is
// rare (a mark, a word in a box) keeps its own; and for every other one the nearest of them. Pure.
// Reads what browsers write (8 bits, RGB or RGBA, not interlaced).

import { crc32, deflateSync, inflateSync } from 'node:zlib';

const SIGNATURE = Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]);
const COLOURS_MAX = 256;
/** The most frequent are taken as they are; further ones only where they are this far from all before them. */
const ALIKE_FROM = 48;
const ALIKE = 900;

interface Picture {
  width: number;
  height: number;
  /** One number for each point: 0xRRGGBB. */
  points: Uint32Array;
}

export function small(png: Buffer): Buffer {
  const { width, height, points } = read(png);
  const counts = new Map<number, number>();
  for (const point of points) counts.set(point, (counts.get(point) ?? 0) + 1);
  const palette: number[] = [];
  for (const [colour] of [...counts].sort((a, b) => b[1] - a[1])) {
    if (palette.length === COLOURS_MAX) break;
    if (palette.length < ALIKE_FROM || distance(palette[nearest(palette, colour)] ?? 0, colour) > ALIKE) palette.push(colour);
  }
  const index = new Map(palette.map((colour, i) => [colour, i]));
  const rows = Buffer.alloc((width + 1) * height);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const colour = points[y * width + x] ?? 0;
      let at = index.get(colour);
      if (at === undefined) index.set(colour, (at = nearest(palette, colour)));
      rows[y * (width + 1) + 1 + x] = at;
    }
  }
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([8, 3, 0, 0, 0], 8);
  const colours = Buffer.from(palette.flatMap((colour) => [colour >> 16, (colour >> 8) & 255, colour & 255]));
  return Buffer.concat([SIGNATURE, chunk('IHDR', head), chunk('PLTE', colours), chunk('IDAT', deflateSync(rows, { level: 9 })), chunk('IEND', Buffer.alloc(0))]);
}

function nearest(palette: readonly number[], colour: number): number {
  let [best, least] = [0, Infinity];
  for (const [i, each] of palette.entries()) {
    const far = distance(each, colour);
    if (far < least) [best, least] = [i, far];
  }
  return best;
}

function distance(one: number, other: number): number {
  const [r, g, b] = [(one >> 16) - (other >> 16), ((one >> 8) & 255) - ((other >> 8) & 255), (one & 255) - (other & 255)];
  return 3 * r * r + 4 * g * g + 2 * b * b;
}

function chunk(name: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(name, 'latin1'), data]);
  const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length);
  sum.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, sum]);
}

function read(png: Buffer): Picture {
  const [width, height, type] = [png.readUInt32BE(16), png.readUInt32BE(20), png[25]];
  const bytes = type === 6 ? 4 : 3;
  const parts: Buffer[] = [];
  for (let at = SIGNATURE.length; at < png.length; at += 12 + png.readUInt32BE(at)) {
    if (png.toString('latin1', at + 4, at + 8) === 'IDAT') parts.push(png.subarray(at + 8, at + 8 + png.readUInt32BE(at)));
  }
  const lines = inflateSync(Buffer.concat(parts));
  const stride = width * bytes;
  let before = new Uint8Array(stride);
  const points = new Uint32Array(width * height);
  for (let y = 0; y < height; y += 1) {
    const filter = lines[y * (stride + 1)] ?? 0;
    const row = Uint8Array.from(lines.subarray(y * (stride + 1) + 1, (y + 1) * (stride + 1)));
    for (let i = 0; i < stride; i += 1) {
      const [left, up, corner] = [i < bytes ? 0 : (row[i - bytes] ?? 0), before[i] ?? 0, i < bytes ? 0 : (before[i - bytes] ?? 0)];
      row[i] = (row[i] ?? 0) + predicted(filter, left, up, corner);
    }
    for (let x = 0; x < width; x += 1) points[y * width + x] = ((row[x * bytes] ?? 0) << 16) | ((row[x * bytes + 1] ?? 0) << 8) | (row[x * bytes + 2] ?? 0);
    before = row;
  }
  return { width, height, points };
}

/** The filters of PNG, by number. */
function predicted(filter: number, left: number, up: number, corner: number): number {
  if (filter === 1) return left;
  if (filter === 2) return up;
  if (filter === 3) return (left + up) >> 1;
  if (filter !== 4) return 0;
  const [a, b, c] = [Math.abs(up - corner), Math.abs(left - corner), Math.abs(left + up - 2 * corner)];
  return a <= b && a <= c ? left : b <= c ? up : corner;
}
