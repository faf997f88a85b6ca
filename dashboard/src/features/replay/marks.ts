// Where in a conversation somebody who replays it wants to stop. Pure.

import type { Message } from '../../api/types.ts';

export type MarkKind = 'operator' | 'permission' | 'error';

export interface Mark {
  kind: MarkKind;
  at: number;
  seq: number;
  text: string;
}

export const MARK_WORDS: Record<MarkKind, string> = { operator: 'operator message', permission: 'request for leave', error: 'error' };
const TEXT_CHARS = 80;

function kindOf(message: Message): MarkKind | null {
  if (message.role === 'operator') return 'operator';
  if (message.kind === 'permission') return 'permission';
  const { exitCode, isError, status } = message.metadata;
  const code = exitCode === undefined || exitCode === null || exitCode === '' ? 0 : Number(exitCode);
  return code !== 0 || isError === true || isError === 'true' || status === 'failed' || status === 'error' ? 'error' : null;
}

export function marksOf(messages: readonly { message: Message; at: number }[]): Mark[] {
  return messages.flatMap(({ message, at }) => {
    const kind = kindOf(message);
    return kind === null ? [] : [{ kind, at, seq: message.seq, text: message.content.replaceAll(/\s+/g, ' ').slice(0, TEXT_CHARS) }];
  });
}

/** The next one in a direction, of a kind or of any. One that is just being shown is not the next one. */
export function markFrom(marks: readonly Mark[], at: number, direction: -1 | 1, kind: MarkKind | null): Mark | null {
  const wanted = marks.filter((mark) => kind === null || mark.kind === kind);
  return (direction < 0 ? wanted.findLast((mark) => mark.at < at) : wanted.find((mark) => mark.at > at)) ?? null;
}
