// Batching: many changes, one redraw.
//
// Law: what was scheduled runs within FLUSH_MAX_MS even where the browser draws no frames (a hidden tab).

const FLUSH_MAX_MS = 500;

export type Schedule = () => void;

/** Returns a function that makes `flush` run once, with the next frame, however often it is called until then. */
export function perFrame(flush: () => void): Schedule {
  let frame: number | null = null;
  let timer: ReturnType<typeof setTimeout> | null = null;
  const run = (): void => {
    if (frame !== null && typeof cancelAnimationFrame === 'function') cancelAnimationFrame(frame);
    if (timer !== null) clearTimeout(timer);
    frame = null;
    timer = null;
    flush();
  };
  return () => {
    if (timer !== null) return;
    if (typeof requestAnimationFrame === 'function') frame = requestAnimationFrame(run);
    timer = setTimeout(run, FLUSH_MAX_MS);
  };
}
