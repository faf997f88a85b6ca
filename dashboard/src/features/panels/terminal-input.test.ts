import { describe, expect, it } from 'vitest';
import { isSentByPerson } from './terminal-input.ts';

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
