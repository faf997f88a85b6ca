// Batching: many changes, one redraw.
//
// Law: what was scheduled runs within FLUSH_MAX_MS even where the browser draws no frames (a hidden tab).

const FLUSH_MAX_MS = 500;

export type Schedule = () => void;

/**
 * Returns a function that makes `flush` run once, with the next frame, however often it is called until then; and
 * not sooner than `pauseMs` after the last time.
 */
export function perFrame(flush: () => void, pauseMs = 0): Schedule {
  let frame: number | null = null;
  let timer: ReturnType<typeof setTimeout> | null = null;
  let last = Number.NEGATIVE_INFINITY;
  const run = (): void => {
    if (frame !== null) cancelAnimationFrame(frame);
    if (timer !== null) clearTimeout(timer);
    frame = null;
    timer = null;
    last = performance.now();
    flush();
  };
  const withNextFrame = (): void => {
    if (typeof requestAnimationFrame === 'function') frame = requestAnimationFrame(run);
    timer = setTimeout(run, FLUSH_MAX_MS);
  };
  return () => {
    if (timer !== null) return;
    const wait = last + pauseMs - performance.now();
    if (wait <= 0) withNextFrame();
    else timer = setTimeout(withNextFrame, wait);
  };
}
