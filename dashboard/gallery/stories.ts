// What the gallery shows: sessions, messages and failures in every state that the hub knows. Pure data.

import type { Attention, Message, Session } from '../src/api/types.ts';
import type { Entry } from '../src/stores/conversation.svelte.ts';
import { makeMessage, makeSession } from '../src/stores/testing.ts';
import type { Mark } from '../src/ui/StatusMark.svelte';

export const ALL = ['inject', 'pause', 'resume', 'terminate', 'kill', 'terminal', 'input', 'resize', 'approve'];
export const MARKS: readonly Mark[] = ['spawning', 'running', 'waiting', 'paused', 'completed', 'failed', 'killed', 'other'];
const SINCE = new Date(Date.now() - 95_000).toISOString();

const ENDED: Record<string, Partial<Session>> = {
  completed: { exitCode: 0, completedAt: SINCE, capabilities: [] },
  failed: { exitCode: 101, completedAt: SINCE, capabilities: [], error: 'the agent ended with exit code 101: could not compile `hub`', statusReason: 'exit code 101' },
  killed: { exitCode: 137, completedAt: SINCE, capabilities: [], statusReason: 'killed by Olivia Operator: 3 processes ended' },
};

/** A session for each status, and those that stand out within one. */
export const SESSIONS: readonly Session[] = [
  ...MARKS.map((status) => session(`is ${status}`, { status, ...ENDED[status] })),
  session('is at work', { turn: 'active' }),
  session('may not be spoken to', { capabilities: ['kill'] }),
  session('with a title so long that there is no room for all of it in a panel of the usual width', { taskId: 'task-with-a-long-name-4711', turn: 'active' }),
  session('on a node that is away', { stale: true, staleSince: SINCE }),
];

export function session(title: string, more: Partial<Session> = {}): Session {
  return makeSession(`gallery-${title.replace(/\W+/g, '-')}`, { title, agentType: 'claude', profile: 'claude', capabilities: ALL, statusSince: SINCE, spawnedAt: SINCE, ...more });
}

const choices: Attention['request'] = {
  requestId: 'r1',
  takesText: true,
  options: [
    { optionId: 'once', label: 'Yes, once', kind: 'allowOnce' },
    { optionId: 'always', label: 'Yes, and do not ask again for cargo', kind: 'allowAlways' },
    { optionId: 'never', label: 'No', kind: 'rejectOnce' },
  ],
};

/** Everything that makes an agent wait for somebody. */
export const ASKING: readonly Session[] = [
  asking('permission', 'May I run this?\n\n    rm -r build/ && cargo build --release', choices),
  asking('permission', 'Trust the files in this folder?'),
  asking('question', 'Which of the two databases is the one in production?', { requestId: 'r2', takesText: true, options: [] }),
  asking('input', 'Password for ops@atlas:'),
  asking('error', 'The account has no credit left.'),
];

function asking(kind: string, text: string, request?: Attention['request']): Session {
  const attention = { kind, text, since: SINCE, ...(request === undefined ? {} : { request }) };
  return session(`asks: ${text.slice(0, 24)}`, { status: 'waiting', turn: 'blocked', attention });
}

let seq = 0;
export function said(content: string, more: Partial<Message> = {}): Message {
  seq += 1;
  return makeMessage('gallery', seq, { content, timestamp: new Date(Date.parse(SINCE) + seq * 1_000).toISOString(), ...more });
}

const DIFF = '--- a/hub/src/retention.rs\n+++ b/hub/src/retention.rs\n@@ -171,3 +171,3 @@\n-    let bound = horizon;\n     let tx = store.begin().await?;\n+    let bound = tx.cursor(workspace).await?.min(horizon);';
const MARKDOWN = '# A heading\n\nSome **bold**, *italic*, ~~struck~~ and `code`, with [a link](https://example.org/).\n\n1. first\n2. second\n   - below it\n\n- [x] done\n- [ ] not done\n\n```rust\nlet bound = tx.cursor(workspace).await?;\n```\n\n| test | ms |\n|---|--:|\n| overlap | 391 |\n\n> quoted\n\n---\n\nEnd.';
const operator = { operator: { id: 'u1', name: 'Olivia Operator' } };
const tool = (name: string, callId: string): Message['metadata'] => ({ tool: name, callId });

/** One conversation with every kind of row. */
export const ENTRIES: readonly Entry[] = [
  said('A line of plain text.'),
  said('\u001b[32m✓ 9 passed\u001b[0m \u001b[31m✗ 1 failed\u001b[0m in 1.6 s'),
  said('a warning of a program', { metadata: { stream: 'stderr' } }),
  said(MARKDOWN),
  said('What the user wrote.', { role: 'user' }),
  said('context at 41 %', { role: 'system', kind: 'status' }),
  said('If two sweeps overlap, the second deletes what the first has put back.', { kind: 'reasoning' }),
  said('May I run `rm -r build/`?', { role: 'system', kind: 'permission' }),
  said('cargo nextest run -p hub', { kind: 'toolCall', metadata: tool('bash', 'c1') }),
  said('PASS [0.391s] hub retention::overlap', { kind: 'toolResult', metadata: { ...tool('bash', 'c1'), exitCode: 0 } }),
  said('cargo build', { kind: 'toolCall', metadata: tool('bash', 'c2') }),
  said('error[E0308]: mismatched types', { kind: 'toolResult', metadata: { ...tool('bash', 'c2'), exitCode: 101 } }),
  said('hub/src/retention.rs', { kind: 'toolCall', metadata: tool('edit', 'c3') }),
  said(DIFF, { kind: 'toolResult', metadata: { ...tool('edit', 'c3'), isError: true } }),
  said('sleep 600', { kind: 'toolCall', metadata: tool('bash', 'c4') }),
  said(Array.from({ length: 200 }, (_, i) => `output ${i}`).join('\n')),
  said('cut', { metadata: { truncated: true, fullSizeBytes: 900_000 } }),
  ...['accepted', 'delivered', 'written', 'taken', 'refused', 'expired', 'unknown'].map((state) =>
    said(`An operator's words, ${state}.`, { role: 'operator', metadata: { ...operator, delivery: { state, modeAsked: 'steer', modeObtained: state === 'taken' ? 'queue' : 'steer' } } }),
  ),
  said('After two that are missing.', { seq: (seq += 3) }),
].map((message): Entry => ({ type: 'message', message }));

export const WRITING: Entry = { type: 'delta', delta: { messageId: 'w', sessionId: 'gallery', role: 'agent', kind: 'text', timestamp: SINCE, content: 'It is **being written**, and', cut: true } };
