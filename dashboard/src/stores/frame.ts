// Batching: many changes, one redraw; and many that redraw, one after the other.
//
// Laws:
// 1. What was scheduled runs within a second even where the browser draws no frames (a hidden tab).
// 2. A frame draws for about `FRAME_BUDGET_MS`: whoever types meanwhile waits no longer than that.
// 3. All drawing together takes about `SHARE_MAX` of the time, down to a few redraws a second: what is dear is done
//    less often, and what nobody could read is not drawn at all.

import { flushSync } from 'svelte';

const FLUSH_MAX_MS = 500;

export type Schedule = () => void;

/**
 * Returns a function that makes `flush` run once, with the next frame, however often it is called until then; and
 * not sooner than `pauseMs` after the last time.
 */
export function perFrame(flush: () => void, pauseMs = 0): Schedule {
  let stop: (() => void) | null = null;
  let last = Number.NEGATIVE_INFINITY;
  const run = (): void => {
    stop = null;
    last = performance.now();
    flush();
  };
  return () => {
    stop ??= inFrame(run, last + pauseMs - performance.now());
  };
}

/** Runs `run` in the first frame after `waitMs`, or soon after that if there is none. Returns what undoes it. */
function inFrame(run: () => void, waitMs: number): () => void {
  let frame: number | null = null;
  let timer: ReturnType<typeof setTimeout>;
  const stop = (): void => {
    if (frame !== null) cancelAnimationFrame(frame);
    clearTimeout(timer);
  };
  const now = (): void => {
    stop();
    run();
  };
  const withNextFrame = (): void => {
    if (typeof requestAnimationFrame === 'function') frame = requestAnimationFrame(now);
    timer = setTimeout(now, FLUSH_MAX_MS);
  };
  if (waitMs <= 0) withNextFrame();
  else timer = setTimeout(withNextFrame, waitMs);
  return stop;
}

/** Twelve redraws a second read as live. */
const REST_MIN_MS = 80;
/** Rather four a second than a page that does not listen. */
const REST_MAX_MS = 250;
const FRAME_BUDGET_MS = 12;
const SHARE_MAX = 0.08;
/** Whoever drew within this time counts as busy. */
const BUSY_MS = 1_000;
/** How much the newest measurement counts. */
const WEIGHT = 0.1;

interface Painter {
  flush: () => void;
  isDue: boolean;
  drawnAt: number;
}

export interface Turn {
  /** Asks for a redraw. */
  request(): void;
  /** Asks for none any more. */
  leave(): void;
}

/** Lets many draw in turns. There is one for the page; tests make their own. */
export class Turns {
  readonly #painters = new Set<Painter>();
  readonly #apply: () => void;
  #stop: (() => void) | null = null;
  /** When the next drawing begins. */
  #at = Number.POSITIVE_INFINITY;
  /** What one redraw costs. */
  #costMs = 1;

  constructor(apply: () => void = flushSync) {
    this.#apply = apply;
  }

  join(flush: () => void): Turn {
    const painter: Painter = { flush, isDue: false, drawnAt: Number.NEGATIVE_INFINITY };
    this.#painters.add(painter);
    return {
      request: () => {
        if (painter.isDue || !this.#painters.has(painter)) return;
        painter.isDue = true;
        this.#next();
      },
      leave: () => this.#painters.delete(painter),
    };
  }

  /** How long everybody rests after drawing, as dear as that is now. */
  restMs(now = performance.now()): number {
    let busy = 0;
    for (const painter of this.#painters) if (now - painter.drawnAt < BUSY_MS) busy += 1;
    return Math.min(REST_MAX_MS, Math.max(REST_MIN_MS, (busy * this.#costMs) / SHARE_MAX));
  }

  #next(): void {
    let first = Number.POSITIVE_INFINITY;
    for (const { isDue, drawnAt } of this.#painters) if (isDue) first = Math.min(first, drawnAt);
    const now = performance.now();
    const at = first + this.restMs(now);
    // A frame that was asked for comes; another one would not be sooner.
    if (first === Number.POSITIVE_INFINITY || this.#at <= Math.max(at, now)) return;
    this.#stop?.();
    this.#at = Math.max(at, now);
    this.#stop = inFrame(() => this.#draw(), at - now);
  }

  #draw(): void {
    this.#stop = null;
    this.#at = Number.POSITIVE_INFINITY;
    const start = performance.now();
    const rest = this.restMs(start);
    // Half a frame early is in time: the next frame would be half a frame late.
    const due = [...this.#painters].filter((painter) => painter.isDue && start - painter.drawnAt >= rest - 8);
    due.sort((a, b) => a.drawnAt - b.drawnAt);
    const mine = due.slice(0, Math.max(1, Math.floor(FRAME_BUDGET_MS / this.#costMs)));
    for (const painter of mine) {
      painter.isDue = false;
      painter.drawnAt = start;
      painter.flush();
    }
    if (mine.length > 0) {
      // Here and not in a microtask of its own, so that its cost is known; all of them are laid out at once.
      this.#apply();
      const cost = (performance.now() - start) / mine.length;
      this.#costMs += (Math.max(0.1, cost) - this.#costMs) * WEIGHT;
    }
    this.#next();
  }
}

export const turns = new Turns();
