// What the answers to a request look like, and what is sent for them. Pure.

import type { AnswerRequest, Asked, OptionKind } from '../../api/types.ts';

/** Leave for this once is what one is here to give, a refusal is final; what lasts, and what is neither or new to us, is
 *  plain: nobody is to give more than is asked for by a slip of the hand. */
export function optionTone(kind: OptionKind): 'primary' | 'danger' | 'plain' {
  switch (kind) {
    case 'allowOnce':
      return 'primary';
    case 'rejectOnce':
    case 'rejectAlways':
      return 'danger';
    default:
      return 'plain';
  }
}

/** What an option is about to do, for the pointer that rests on it. */
export function optionHint(kind: OptionKind): string {
  switch (kind) {
    case 'allowOnce':
      return 'allow it this once';
    case 'allowAlways':
      return 'allow it from now on';
    case 'rejectOnce':
      return 'refuse it this once';
    case 'rejectAlways':
      return 'refuse it from now on';
    default:
      return 'answer with this';
  }
}

/** The answer to send, or null while there is nothing to say. Words go along with an option, where any are taken. */
export function answerOf(asked: Asked, optionId: string | null, text: string): AnswerRequest | null {
  const words = asked.takesText === true && text.trim() !== '' ? { text } : {};
  const option = optionId === null ? {} : { optionId };
  if (optionId === null && !('text' in words)) return null;
  return { requestId: asked.requestId, ...option, ...words };
}
