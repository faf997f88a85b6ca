// The keys and commands of the page as a whole. What has the focus adds its own (see `stores/shortcuts.svelte.ts`).

import type { Shortcut } from '../stores/shortcuts.svelte.ts';

export type Overlay = 'none' | 'spawn' | 'killAll' | 'audit' | 'inbox' | 'palette' | 'keys' | 'search';

export interface Does {
  open: (overlay: Overlay) => void;
  settings: () => void;
  panels: () => void;
  toggleRoster: () => void;
  focusRoster: () => void;
  filterRoster: () => void;
  nextRegion: (by: 1 | -1) => void;
  panel: (n: number) => void;
  theme: () => void;
  maySpawn: boolean;
  mayKillAll: boolean;
  /** Where there was one. */
  lastKillAll?: () => void;
}

export function pageShortcuts(does: Does): Shortcut[] {
  const page = { group: 'Page', isCommand: true } as const;
  return [
    { id: 'palette', keys: ['mod+k'], title: 'Go to or do anything', group: 'Page', run: () => does.open('palette') },
    { id: 'keys', keys: ['?'], title: 'Show the keys', ...page, run: () => does.open('keys') },
    { id: 'inbox', keys: ['i'], title: 'Open the inbox', ...page, run: () => does.open('inbox') },
    { id: 'search', keys: ['s'], title: 'Search what was said', ...page, run: () => does.open('search') },
    ...(does.maySpawn ? [{ id: 'spawn', keys: ['n'], title: 'Start a new session', ...page, run: () => does.open('spawn') }] : []),
    { id: 'audit', keys: ['a'], title: 'Open the audit log', ...page, run: () => does.open('audit') },
    { id: 'settings', keys: [','], title: 'Open the settings', ...page, run: does.settings },
    { id: 'panels', keys: ['p'], title: 'Back to the panels', ...page, run: does.panels },
    { id: 'theme', keys: ['t'], title: 'Dark or light colours', ...page, run: does.theme },
    // Without a key: nobody is to come here by a slip of the finger.
    ...(does.mayKillAll ? [{ id: 'killAll', keys: [], title: 'Kill all sessions…', ...page, run: () => does.open('killAll') }] : []),
    ...(does.lastKillAll === undefined ? [] : [{ id: 'lastKillAll', keys: [], title: 'Receipt of the last kill-all', ...page, run: does.lastKillAll }]),
    { id: 'region', keys: ['F6'], title: 'Next area: bar, roster, panels', group: 'Page', run: () => does.nextRegion(1) },
    { id: 'regionBack', keys: ['shift+F6'], title: 'Area before', group: 'Page', run: () => does.nextRegion(-1) },
    { id: 'escape', keys: ['Escape'], title: 'Close, or leave the full screen', group: 'Page' },
    { id: 'rosterFocus', keys: ['r'], title: 'Go to the roster', group: 'Roster', isCommand: true, run: does.focusRoster },
    { id: 'rosterFilter', keys: ['/'], title: 'Filter the roster', group: 'Roster', isCommand: true, run: does.filterRoster },
    { id: 'rosterToggle', keys: ['b'], title: 'Show or hide the roster', group: 'Roster', isCommand: true, run: does.toggleRoster },
    { id: 'rosterMove', keys: ['ArrowUp', 'ArrowDown'], title: 'Row before, next row', group: 'Roster' },
    { id: 'rosterFold', keys: ['ArrowLeft', 'ArrowRight'], title: 'Fold, unfold', group: 'Roster' },
    { id: 'rosterOpen', keys: ['Enter'], title: 'Open the session and go there', group: 'Roster' },
    { id: 'rosterPeek', keys: [' '], title: 'Open the session, stay in the roster', group: 'Roster' },
    ...Array.from({ length: 9 }, (_, i): Shortcut => ({
      id: `panel${i + 1}`,
      keys: [String(i + 1)],
      title: i === 0 ? 'Go to panel 1, and so on to 9' : `Go to panel ${i + 1}`,
      isListed: i === 0,
      group: 'Panels',
      run: () => does.panel(i),
    })),
  ];
}
