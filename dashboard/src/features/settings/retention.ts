// How many days messages may be kept. Pure.

export const DAYS = { min: 1, max: 3_650 } as const;

/** The days that a text says, or null where it says no possible number. */
export function daysOf(text: string): number | null {
  if (!/^\s*\d{1,4}\s*$/.test(text)) return null;
  const days = Number(text);
  return days >= DAYS.min && days <= DAYS.max ? days : null;
}
