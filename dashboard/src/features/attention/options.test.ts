import { describe, expect, it } from 'vitest';
import type { Asked } from '../../api/types.ts';
import { answerOf, optionHint, optionTone } from './options.ts';

const asked = (takesText?: boolean): Asked => ({ requestId: 'm1', options: [], ...(takesText === undefined ? {} : { takesText }) });

describe('answers', () => {
  it('look like what they mean, also those of a newer hub', () => {
    const tones = ['allowOnce', 'allowAlways', 'rejectOnce', 'rejectAlways', 'choice', 'postpone'].map(optionTone);
    expect(tones).toEqual(['primary', 'plain', 'danger', 'danger', 'plain', 'plain']);
    expect(new Set(['allowOnce', 'allowAlways', 'rejectOnce', 'rejectAlways', 'postpone'].map(optionHint)).size).toBe(5);
  });

  it('are an option, words where they are taken, or both, and never nothing', () => {
    expect(answerOf(asked(), 'yes', '')).toEqual({ requestId: 'm1', optionId: 'yes' });
    expect(answerOf(asked(), 'yes', 'unasked words')).toEqual({ requestId: 'm1', optionId: 'yes' });
    expect(answerOf(asked(true), 'no', 'too risky')).toEqual({ requestId: 'm1', optionId: 'no', text: 'too risky' });
    expect(answerOf(asked(true), null, ' blue ')).toEqual({ requestId: 'm1', text: ' blue ' });
    expect([answerOf(asked(true), null, '  '), answerOf(asked(), null, 'x')]).toEqual([null, null]);
  });
});
