// The one clock of a replay: where it stands, and how it runs on. Knows neither terminal nor conversation.
//
// Laws:
// 1. It stays between the first and the last moment, and stops at the last one.
// 2. Pauses in which nothing happens are left out where that is asked for; what happens is never left out.

export const SPEEDS = [0.5, 1, 2, 4, 8, 16] as const;
/** A longer pause is left out, but for its last moments. */
export const PAUSE_MAX_MS = 2_000;
const LEAD_MS = 500;
/** A window that was hidden does not run on by all that time at once. */
const STEP_MAX_MS = 500;

export class Player {
  /** In milliseconds since 1970. */
  at = $state(0);
  isPlaying = $state(false);
  speed = $state<number>(1);
  skipsPauses = $state(true);
  readonly from: number;
  readonly to: number;
  /** When something happens, in the order of time. */
  readonly #moments: readonly number[];

  constructor(moments: readonly number[]) {
    this.#moments = [...moments].sort((a, b) => a - b);
    this.from = this.#moments[0] ?? 0;
    this.to = this.#moments.at(-1) ?? 0;
    this.at = this.from;
  }

  get length(): number {
    return this.to - this.from;
  }

  seek(at: number): void {
    this.at = Math.max(this.from, Math.min(this.to, Math.round(at)));
    if (this.at >= this.to) this.isPlaying = false;
  }

  toggle(): void {
    // From the end it begins again.
    if (!this.isPlaying && this.at >= this.to) this.at = this.from;
    this.isPlaying = !this.isPlaying && this.length > 0;
  }

  /** Runs on by some time of the person who looks. */
  step(ms: number): void {
    if (!this.isPlaying) return;
    let next = this.at + Math.min(ms, STEP_MAX_MS) * this.speed;
    if (this.skipsPauses) {
      const soon = this.#after(this.at);
      if (soon !== null && soon - this.at > PAUSE_MAX_MS && soon - LEAD_MS > next) next = soon - LEAD_MS;
    }
    this.seek(next);
  }

  #after(at: number): number | null {
    let [low, high] = [0, this.#moments.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#moments[middle] ?? 0) <= at) low = middle + 1;
      else high = middle;
    }
    return this.#moments[low] ?? null;
  }
}
