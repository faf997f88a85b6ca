// Every key of the page, in one place: who wants one adds it here, and the overlay lists what is here.
//
// Laws:
// 1. A key without Ctrl or Cmd does nothing while somebody types, or when they have switched such keys off.
// 2. What is written down without `run` is handled where the focus is (a tree, a list, a composer).

import { SvelteMap } from 'svelte/reactivity';

export type ShortcutGroup = 'Page' | 'Panels' | 'Roster' | 'Conversation' | 'Composer';
export const SHORTCUT_GROUPS: readonly ShortcutGroup[] = ['Page', 'Roster', 'Panels', 'Conversation', 'Composer'];

export interface Shortcut {
  id: string;
  /** `mod+k`, `?`, `shift+Enter`, `F6`: `mod` is Ctrl, or Cmd on a Mac. The first is the one that is shown in menus. */
  keys: readonly string[];
  title: string;
  group: ShortcutGroup;
  run?: () => void;
  /** False where another one in the list speaks for it. */
  isListed?: boolean;
  /** Also offered in the palette. */
  isCommand?: boolean;
}

type Pressed = Pick<KeyboardEvent, 'key' | 'ctrlKey' | 'metaKey' | 'altKey' | 'shiftKey'>;

const KEY = 'mosaic.letters';

/** True where the pressed keys are the ones that are written. */
export function isPressed(written: string, event: Pressed): boolean {
  const parts = written.split('+');
  const key = parts.at(-1) ?? '';
  const wantsMod = parts.includes('mod');
  if (wantsMod !== (event.ctrlKey || event.metaKey) || parts.includes('alt') !== event.altKey) return false;
  // Shift makes another letter of most keys, and which depends on the keyboard: only named keys ask for it.
  if (key.length > 1 && parts.includes('shift') !== event.shiftKey) return false;
  return key.length > 1 ? event.key === key : event.key.toLowerCase() === key.toLowerCase() && (wantsMod || event.key === key);
}

/** True for keys that somebody who types might mean as letters. */
export function isLetter(written: string): boolean {
  return !written.includes('mod+') && !/F\d+$/.test(written) && written.length === 1;
}

const NAMES: Record<string, string> = { ArrowUp: '↑', ArrowDown: '↓', ArrowLeft: '←', ArrowRight: '→', ' ': 'Space', Escape: 'Esc' };

/** The keys as they stand on a keyboard. */
export function keyNames(written: string, isMac: boolean): string[] {
  return written.split('+').map((part) => {
    if (part === 'mod') return isMac ? '⌘' : 'Ctrl';
    if (part === 'shift') return isMac ? '⇧' : 'Shift';
    if (part === 'alt') return isMac ? '⌥' : 'Alt';
    return NAMES[part] ?? (part.length === 1 ? part.toUpperCase() : part);
  });
}

export class Shortcuts {
  /** Whether single letters do anything: some people's input tools press them by themselves. */
  hasLetters = $state(localStorage.getItem(KEY) !== 'off');
  readonly isMac = /Mac|iP(hone|ad)/.test(navigator.userAgent);
  readonly #all = new SvelteMap<string, Shortcut>();

  get list(): Shortcut[] {
    return [...this.#all.values()];
  }

  /** Adds shortcuts, in place of those with the same id. Returns how to take them away again. */
  add(shortcuts: readonly Shortcut[]): () => void {
    for (const shortcut of shortcuts) this.#all.set(shortcut.id, shortcut);
    return () => {
      for (const shortcut of shortcuts) if (this.#all.get(shortcut.id) === shortcut) this.#all.delete(shortcut.id);
    };
  }

  /** The shortcut that an event means, if it may be used now. */
  match(event: Pressed, isTyping: boolean): Shortcut | null {
    for (const shortcut of this.#all.values()) {
      if (shortcut.run === undefined) continue;
      for (const written of shortcut.keys) {
        if (!isPressed(written, event)) continue;
        if (isLetter(written) && (isTyping || !this.hasLetters)) continue;
        return shortcut;
      }
    }
    return null;
  }

  setLetters(hasLetters: boolean): void {
    this.hasLetters = hasLetters;
    localStorage.setItem(KEY, hasLetters ? 'on' : 'off');
  }
}
