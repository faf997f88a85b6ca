// The time, once a second, for everything that shows how long ago something was.

export class Clock {
  now = $state(Date.now());
  #timer: ReturnType<typeof setInterval> | null = null;

  start(): void {
    this.#timer ??= setInterval(() => (this.now = Date.now()), 1_000);
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }
}

/** A duration in its two largest units: `42s`, `3m 05s`, `2h 07m`, `4d 03h`. */
export function duration(ms: number): string {
  const s = Math.max(0, Math.floor(ms / 1_000));
  const two = (n: number): string => String(n).padStart(2, '0');
  if (s < 60) return `${s}s`;
  if (s < 3_600) return `${Math.floor(s / 60)}m ${two(s % 60)}s`;
  if (s < 86_400) return `${Math.floor(s / 3_600)}h ${two(Math.floor(s / 60) % 60)}m`;
  return `${Math.floor(s / 86_400)}d ${two(Math.floor(s / 3_600) % 24)}h`;
}

/** How long a session has lasted, or lasted until its end. */
export function elapsed(session: { startedAt?: string; spawnedAt: string; completedAt?: string }, now: number): string {
  const from = Date.parse(session.startedAt ?? session.spawnedAt);
  const to = session.completedAt === undefined ? now : Date.parse(session.completedAt);
  return Number.isFinite(from) && Number.isFinite(to) ? duration(to - from) : '–';
}

/** Time of day, in the reader's own zone. */
export function clockTime(timestamp: string): string {
  const date = new Date(timestamp);
  return Number.isNaN(date.getTime()) ? timestamp : date.toLocaleTimeString([], { hour12: false });
}

/** To the minute, for tables. */
export function dateMinute(timestamp: string): string {
  const date = new Date(timestamp);
  return Number.isNaN(date.getTime()) ? timestamp : date.toLocaleString([], { dateStyle: 'short', timeStyle: 'short', hour12: false });
}

export function dateTime(timestamp: string): string {
  const date = new Date(timestamp);
  return Number.isNaN(date.getTime()) ? timestamp : date.toLocaleString([], { hour12: false });
}
