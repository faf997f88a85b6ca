import { describe, expect, it } from 'vitest';
import { isSentByPerson, isTerminalKey } from './terminal-input.ts';

describe('terminal input', () => {
  it('is what a person does, not what a glance causes', () => {
    for (const typed of ['a', '\r', '\u001b[A', '\u001b', '\u001b[200~pasted\u001b[201~', 'é']) {
      expect(isSentByPerson(typed, false)).toBe(true);
    }
    expect(isSentByPerson('\u001b[I', true)).toBe(false);
    expect(isSentByPerson('\u001b[O', true)).toBe(false);
    expect(isSentByPerson('\u001b[<35;10;5M', true)).toBe(false);
    expect(isSentByPerson('\u001b[<0;10;5M', true)).toBe(true);
    expect(isSentByPerson('\u001b[<64;10;5M', false)).toBe(false);
    expect(isSentByPerson('\u001b[M !!', false)).toBe(false);
  });
});

describe('keys of a terminal', () => {
  const key = (key: string, ...held: ('ctrlKey' | 'shiftKey' | 'metaKey' | 'altKey')[]) => ({ key, ctrlKey: false, shiftKey: false, metaKey: false, altKey: false, ...Object.fromEntries(held.map((each) => [each, true])) });
  const writable = { hasSelection: true, isWritable: true };

  it('are ours for copying and searching, where the program does not need them', () => {
    expect(isTerminalKey(key('C', 'ctrlKey', 'shiftKey'), writable)).toBe('copy');
    expect(isTerminalKey(key('c', 'metaKey'), writable)).toBe('copy');
    expect(isTerminalKey(key('F', 'ctrlKey', 'shiftKey'), writable)).toBe('search');
    expect(isTerminalKey(key('c', 'ctrlKey'), { hasSelection: true, isWritable: false })).toBe('copy');
  });

  it('go to the program otherwise', () => {
    expect(isTerminalKey(key('c', 'ctrlKey'), writable)).toBeNull();
    expect(isTerminalKey(key('f', 'ctrlKey'), writable)).toBeNull();
    expect(isTerminalKey(key('c'), writable)).toBeNull();
    expect(isTerminalKey(key('C', 'ctrlKey', 'shiftKey'), { hasSelection: false, isWritable: true })).toBeNull();
    expect(isTerminalKey(key('f', 'ctrlKey', 'altKey', 'shiftKey'), writable)).toBeNull();
  });
});
