import { beforeEach, describe, expect, it, vi } from 'vitest';
import { isPressed, keyNames, Shortcuts } from './shortcuts.svelte.ts';

const press = (key: string, more: Partial<Record<'ctrlKey' | 'metaKey' | 'altKey' | 'shiftKey', boolean>> = {}) => ({
  key, ctrlKey: false, metaKey: false, altKey: false, shiftKey: false, ...more,
});

beforeEach(() => {
  const kept = new Map<string, string>();
  vi.stubGlobal('localStorage', { getItem: (k: string) => kept.get(k) ?? null, setItem: (k: string, v: string) => kept.set(k, v) });
  vi.stubGlobal('navigator', { userAgent: 'X11; Linux' });
});

describe('keys', () => {
  it('mean what is written, with Ctrl or Cmd, on any keyboard', () => {
    expect(isPressed('mod+k', press('k', { ctrlKey: true }))).toBe(true);
    expect(isPressed('mod+k', press('K', { metaKey: true }))).toBe(true);
    expect(isPressed('mod+k', press('k'))).toBe(false);
    expect(isPressed('k', press('k', { ctrlKey: true }))).toBe(false);
    // `?` needs Shift on most keyboards, and not on all.
    expect([isPressed('?', press('?', { shiftKey: true })), isPressed('?', press('?'))]).toEqual([true, true]);
    expect([isPressed('F6', press('F6')), isPressed('F6', press('F6', { shiftKey: true })), isPressed('shift+F6', press('F6', { shiftKey: true }))]).toEqual([true, false, true]);
    expect(isPressed('n', press('N', { shiftKey: true }))).toBe(false);
  });

  it('of one letter rest while somebody types, and for those who switched them off', () => {
    const shortcuts = new Shortcuts();
    const remove = shortcuts.add([
      { id: 'new', keys: ['n'], title: 'New', group: 'Page', run: () => undefined },
      { id: 'palette', keys: ['mod+k'], title: 'Palette', group: 'Page', run: () => undefined },
      { id: 'told', keys: ['x'], title: 'Handled elsewhere', group: 'Roster' },
    ]);
    const id = (key: string, isTyping: boolean, ctrlKey = false) => shortcuts.match(press(key, { ctrlKey }), isTyping)?.id;
    expect([id('n', false), id('n', true), id('k', true, true), id('x', false)]).toEqual(['new', undefined, 'palette', undefined]);
    shortcuts.setLetters(false);
    expect([id('n', false), id('k', false, true), new Shortcuts().hasLetters]).toEqual([undefined, 'palette', false]);
    remove();
    expect(shortcuts.list).toEqual([]);
  });

  it('are named as they stand on the keyboard', () => {
    expect([keyNames('mod+k', false), keyNames('mod+k', true), keyNames('shift+Enter', false), keyNames('ArrowUp', false)]).toEqual([
      ['Ctrl', 'K'], ['⌘', 'K'], ['Shift', 'Enter'], ['↑'],
    ]);
  });
});
