// How many columns the grid has. Pure.

/** Narrower than this a panel is no pleasure to read. */
const PANEL_PX_MIN = 430;

/**
 * The columns for `count` panels in `width` pixels: as chosen, or else so that the panels are as large as can be,
 * side by side rather than below each other.
 */
export function gridColumns(count: number, width: number, chosen: number): number {
  if (chosen > 0) return chosen;
  const fitting = Math.max(1, Math.floor(width / PANEL_PX_MIN));
  const wanted = count <= 3 ? count : Math.ceil(Math.sqrt(count));
  return Math.max(1, Math.min(fitting, wanted));
}
