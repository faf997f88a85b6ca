// What of an emulator's output a person has caused, and what it says by itself.

import type { Terminal } from '@xterm/xterm';

/**
 * Makes the emulator answer nothing that the program asks of its terminal: device attributes, cursor and status
 * reports, modes, colours, settings, key protocols. The holder of the real terminal answers those.
 */
export function silenceQueries(terminal: Terminal): void {
  const { parser } = terminal;
  const swallow = (): boolean => true;
  // DA1, DA2, DA3; DSR and its private form; DECRQM in both forms; XTVERSION; kitty keyboard; window reports.
  parser.registerCsiHandler({ final: 'c' }, swallow);
  parser.registerCsiHandler({ prefix: '>', final: 'c' }, swallow);
  parser.registerCsiHandler({ prefix: '=', final: 'c' }, swallow);
  parser.registerCsiHandler({ final: 'n' }, swallow);
  parser.registerCsiHandler({ prefix: '?', final: 'n' }, swallow);
  parser.registerCsiHandler({ intermediates: '$', final: 'p' }, swallow);
  parser.registerCsiHandler({ prefix: '?', intermediates: '$', final: 'p' }, swallow);
  parser.registerCsiHandler({ prefix: '>', final: 'q' }, swallow);
  parser.registerCsiHandler({ prefix: '?', final: 'u' }, swallow);
  parser.registerCsiHandler({ final: 't' }, swallow);
  // DECID, its one-byte ancestor of DA1.
  parser.registerEscHandler({ final: 'Z' }, swallow);
  // DECRQSS, XTGETTCAP.
  parser.registerDcsHandler({ intermediates: '$', final: 'q' }, swallow);
  parser.registerDcsHandler({ intermediates: '+', final: 'q' }, swallow);
  // Colours: only the asking form is swallowed; setting them goes through.
  for (const code of [4, 10, 11, 12]) parser.registerOscHandler(code, (data) => data.includes('?'));
}

const ESC = '\u001b';
const FOCUS_REPORTS = [`${ESC}[I`, `${ESC}[O`];
const SGR_MOUSE = new RegExp(`^${ESC}\\[<(\\d+);`);
const MOTION_WITHOUT_BUTTON = 35;

/**
 * False for reports that a glance at the panel causes: focus coming and going, the mouse moving across it. A mouse
 * that clicks or turns its wheel in a terminal that has the focus is meant.
 */
export function isSentByPerson(text: string, hasFocus: boolean): boolean {
  if (FOCUS_REPORTS.includes(text)) return false;
  if (text.startsWith(`${ESC}[M`)) return hasFocus;
  const button = SGR_MOUSE.exec(text)?.[1];
  if (button === undefined) return true;
  return hasFocus && Number(button) !== MOTION_WITHOUT_BUTTON;
}

/**
 * Keys that belong to the page and not to the program: copy and search. Ctrl+C and Ctrl+F mean something to programs;
 * they are ours only where nothing can be typed anyway.
 */
export function isTerminalKey(
  event: Pick<KeyboardEvent, 'key' | 'ctrlKey' | 'shiftKey' | 'metaKey' | 'altKey'>,
  terminal: { hasSelection: boolean; isWritable: boolean },
): 'copy' | 'search' | null {
  const isOurs = !event.altKey && (event.metaKey !== event.ctrlKey) && (event.metaKey || event.shiftKey || !terminal.isWritable);
  if (!isOurs) return null;
  const key = event.key.toLowerCase();
  if (key === 'c') return terminal.hasSelection ? 'copy' : null;
  return key === 'f' ? 'search' : null;
}
