// The fleet that a fresh fake hub shows.

import type { Capability, NodeInfo } from '../src/api/types.ts';
import { asks, echo, idle, screen, shell, talker, worker } from './scripts.ts';
import { World } from './world.ts';

const PTY: Capability[] = ['inject', 'pause', 'resume', 'terminate', 'kill', 'terminal', 'input', 'resize'];

export function node(name: string, more: Partial<NodeInfo> = {}): NodeInfo {
  const now = new Date().toISOString();
  const state = (provider: string, healthy = true, error?: string) => ({
    name: provider,
    healthy,
    sessions: 0,
    capabilities: PTY,
    ...(error === undefined ? {} : { error }),
  });
  return {
    workspace: 'default',
    node: name,
    version: '0.1.0',
    status: 'up',
    host: { hostname: `${name}.example.org`, os: 'linux', arch: 'x86_64', cpus: 16 },
    bootId: 'boot-1',
    incarnation: 'one',
    startedAt: now,
    timestamp: now,
    sealKey: 'XA2PQSEALEDKEYOFTHEMOCK',
    providers: [state('pty'), state('openclaw', false, 'the gateway refused the token'), state('docker', false, 'the docker socket cannot be opened; add the user to its group')],
    profiles: [
      { name: 'shell', provider: 'pty', title: 'Shell', program: 'bash', protocol: 'terminal' },
      { name: 'codex', provider: 'acp', title: 'Codex', agentType: 'codex', program: 'codex-acp', protocol: 'acp' },
      { name: 'claude', provider: 'pty', title: 'Claude Code', agentType: 'claude', program: 'claude', protocol: 'terminal' },
      { name: 'e2e-talker', provider: 'pty', program: 'bash', protocol: 'lines' },
      { name: 'e2e-echo', provider: 'pty', program: 'bash', protocol: 'lines' },
      { name: 'e2e-asks', provider: 'acp', program: 'asks', protocol: 'acp' },
    ],
    load: { sessions: 0, outboxRecords: 0, outboxBytes: 0, dropped: 0, load1: 1.4, rssBytes: 48_000_000 },
    online: true,
    lastSeen: now,
    ...more,
  };
}

/** Nodes tell how many sessions they have. */
function counted(world: World): World {
  for (const each of world.nodes.values()) {
    const sessions = [...world.sessions.values()].filter(({ isEnded, session }) => !isEnded && session.node === each.node).length;
    world.addNode({ ...each, load: { ...each.load, sessions } });
  }
  return world;
}

/** A fleet of very many quiet sessions. */
export function addMany(world: World, count: number): void {
  for (let i = 1; i <= count; i += 1) {
    const spawnedAt = new Date(Date.now() - (count - i) * 1_000).toISOString();
    world.add({ node: i % 2 === 0 ? 'atlas' : 'borealis', provider: 'pty', title: `Session ${i}`, spawnedAt }, idle());
  }
}

/** Nodes and profiles, and no session: for tests that start their own. */
export function emptyWorld(): World {
  const world = new World();
  world.profiles.set('shell', shell);
  world.profiles.set('codex', () => worker());
  world.profiles.set('claude', () => screen('claude'));
  world.profiles.set('e2e-talker', () => talker());
  world.profiles.set('e2e-echo', echo);
  world.profiles.set('e2e-asks', asks);
  world.addNode(node('atlas'));
  world.addNode(node('borealis'));
  return world;
}

/** A working day: for the dev server and for pictures. */
export function busyWorld(): World {
  const world = emptyWorld();
  const ago = (minutes: number): string => new Date(Date.now() - minutes * 60_000).toISOString();
  const times = (minutes: number) => ({ spawnedAt: ago(minutes), startedAt: ago(minutes), statusSince: ago(minutes / 3) });
  world.addNode(node('cinder', { online: false, lastSeen: ago(14) }));

  const lead = world.add(
    { node: 'atlas', provider: 'acp', agentType: 'codex', profile: 'codex', title: 'Retention sweep loses messages', taskId: 'MM-214', taskSource: 'mosaic-queue', missionId: 'hardening', turn: 'active', ...times(47) },
    worker(),
  );
  lead.say('user', 'The nightly soak lost four messages. Find out why and prove the fix with a test that fails without it.');
  const child = { node: 'atlas', provider: 'acp', agentType: 'codex', parentSessionId: lead.session.sessionId };
  world.add({ ...child, title: 'Write the overlap test', turn: 'active', ...times(31) }, worker(3));
  world.add({ ...child, title: 'Read SurrealKV sources', ...times(28) }, worker(6));

  world.add(
    { node: 'atlas', provider: 'pty', agentType: 'claude', profile: 'claude', title: 'Property tests, codec', taskId: 'MM-219', statusSource: 'terminal', capabilities: PTY, ...times(12) },
    screen('property tests'),
  );
  const waiting = world.add(
    { node: 'atlas', provider: 'acp', agentType: 'claude', title: 'Release notes 0.4', taskId: 'MM-198', status: 'waiting', turn: 'blocked', capabilities: ['inject', 'pause', 'resume', 'terminate', 'kill', 'approve'], ...times(63) },
    idle(),
  );
  waiting.say('user', 'Draft the release notes for 0.4 from the merged changes and prepare the tag.');
  waiting.say('agent', 'git log --oneline v0.3.2..HEAD', 'toolCall', { tool: 'bash' });
  waiting.say('agent', Array.from({ length: 60 }, (_, i) => `${(0x3fa21c + i * 7919).toString(16)} change number ${i + 1}`).join('\n'), 'toolResult', { tool: 'bash' });
  waiting.say('agent', 'The notes are in RELEASES.md: 3 features, 11 fixes, and one change of behaviour (the sweep now waits for ingest). The tag is signed and local.');
  const push = waiting.say('system', 'May I push the tag v0.4.0 to origin?\n\n    git push origin refs/tags/v0.4.0', 'permission');
  waiting.update({
    attention: {
      kind: 'permission',
      text: push.content,
      since: ago(3),
      request: {
        requestId: push.messageId,
        takesText: true,
        options: [
          { optionId: 'allow', label: 'Yes, push it', kind: 'allowOnce' },
          { optionId: 'always', label: 'Yes, and all later tags', kind: 'allowAlways' },
          { optionId: 'reject', label: 'No', kind: 'rejectOnce' },
        ],
      },
    },
  });
  const admin = { id: 'u0', name: 'Ada', email: 'admin@example.org', role: 'admin' };
  const gateway = { provider: 'openclaw', isActive: true };
  world.saveAgentProvider(admin, null, { ...gateway, name: 'Office gateway', node: 'atlas', gatewayUrl: 'wss://openclaw.office.example.org/', credentials: 'right' });
  world.saveAgentProvider(admin, null, { ...gateway, name: 'Field van', node: 'cinder', gatewayUrl: 'ws://127.0.0.1:18789/', credentials: 'right' });
  world.saveAgentProvider(admin, null, { ...gateway, name: 'Old lab', node: 'borealis', gatewayUrl: 'ws://10.4.0.7:18789/', credentials: 'right', isActive: false });
  const lost = world.saveAgentProvider(admin, null, { ...gateway, name: 'Support desk', node: 'borealis', gatewayUrl: 'wss://claw.support.example.org/', credentials: 'right' });
  world.agentProviders.set(lost.id, { ...lost, hasCredentials: false, credentialsState: 'unreadable' });

  const paused = world.add(
    { node: 'borealis', provider: 'docker', agentType: 'indexer', title: 'Reindex corpus', taskId: 'ext-7781', taskSource: 'external', status: 'paused', statusReason: 'paused by Grace', statusSource: 'operator', ...times(190) },
    talker(4),
  );
  for (let i = 1; i <= 400; i += 1) paused.say('agent', `indexed shard ${String(i).padStart(4, '0')}  ${(i * 7.31).toFixed(1)} MB`);
  world.add(
    { node: 'borealis', provider: 'docker', title: 'Ingest benchmark', agentType: 'bench', ...times(8) },
    talker(12),
  );
  const claw = world.add(
    { node: 'borealis', provider: 'openclaw', title: 'Support inbox', agentType: 'openclaw', status: 'waiting', turn: 'idle', capabilities: ['inject', 'terminate'], metadata: { notCapable: { pause: 'the gateway cannot pause a session', kill: 'the gateway ends sessions in its own time; use stop' } }, ...times(1500) },
    idle(),
  );
  claw.say('user', 'A customer asks whether the hub can run without Docker.');
  claw.say('agent', 'Yes. Only the Docker provider needs it; PTY, ACP and OpenClaw sessions work without. I answered with a link to the two-command setup.');
  world.add({ node: 'borealis', provider: 'pty', profile: 'shell', title: 'Shell', status: 'waiting', statusSource: 'screen', capabilities: PTY, ...times(5) }, shell());

  world.add(
    { node: 'cinder', provider: 'pty', title: 'Firmware bisect', agentType: 'codex', taskId: 'MM-177', stale: true, staleSince: ago(14), capabilities: PTY, ...times(122) },
    idle(),
  ).say('agent', 'bisecting: 6 revisions left to test after this (roughly 3 steps)');
  const failed = world.add({ node: 'atlas', provider: 'pty', title: 'Docs link check', ...times(20) }, idle());
  failed.say('agent', 'checked 812 links, 3 broken');
  failed.end('failed', 'exit code 2', 2);
  world.record({ id: 'u1', name: 'Grace', email: 'operator@example.org', role: 'operator' }, 'pause', { sessionId: paused.session.sessionId });
  return counted(world);
}

/** A bad day: failures, a host that is away, one that is sick, and many who wait. */
export function failingWorld(): World {
  const world = emptyWorld();
  const ago = (minutes: number): string => new Date(Date.now() - minutes * 60_000).toISOString();
  world.addNode(node('borealis', { online: false, lastSeen: ago(9) }));
  world.addNode(node('cinder', { online: false, lastSeen: ago(55) }));
  for (const [i, title] of ['Migrate billing', 'Nightly backup', 'Crawl docs', 'Train ranker'].entries()) {
    const failed = world.add({ node: 'atlas', provider: 'pty', title, spawnedAt: ago(40 + i), startedAt: ago(40 + i) }, idle());
    failed.say('agent', 'error: connection reset by peer (os error 104)');
    failed.end('failed', i % 2 === 0 ? 'exit code 101' : 'killed by signal 9 (out of memory)', i % 2 === 0 ? 101 : 137);
  }
  for (let i = 1; i <= 4; i += 1) {
    const stale = world.add({ node: i % 2 === 0 ? 'borealis' : 'cinder', provider: 'docker', title: `Shard ${i}`, stale: true, staleSince: ago(9), spawnedAt: ago(200), startedAt: ago(200) }, idle());
    stale.say('agent', `indexed ${i * 317} of 9000`);
  }
  for (const [i, title] of ['Rotate keys', 'Drop old tables', 'Publish crate'].entries()) {
    const asking = world.add({ node: 'atlas', provider: 'acp', agentType: 'codex', title, status: 'waiting', turn: 'blocked', capabilities: ['inject', 'pause', 'terminate', 'kill', 'approve'], spawnedAt: ago(30), startedAt: ago(30) }, idle());
    const push = asking.say('system', `May I run this?\n\n    ${['openssl genrsa 4096', 'psql -c "drop table events_2024"', 'cargo publish'][i] ?? ''}`, 'permission');
    asking.update({
      attention: {
        kind: 'permission',
        text: push.content,
        since: ago(20 - i),
        request: { requestId: push.messageId, options: [{ optionId: 'y', label: 'Yes', kind: 'allowOnce' }, { optionId: 'n', label: 'No', kind: 'rejectOnce' }] },
      },
    });
  }
  const stuck = world.add({ node: 'atlas', provider: 'pty', title: 'Deploy staging', turn: 'error', spawnedAt: ago(12), startedAt: ago(12) }, idle());
  stuck.say('agent', 'helm upgrade failed: timed out waiting for the condition');
  stuck.update({ attention: { kind: 'error', text: 'the last turn ended with an error: rate limit reached, resets at 18:00', since: ago(4) } });

  const admin = { id: 'u0', name: 'Ada', email: 'admin@example.org', role: 'admin' };
  const gateway = { provider: 'openclaw', isActive: true };
  world.saveAgentProvider(admin, null, { ...gateway, name: 'Field van', node: 'cinder', gatewayUrl: 'ws://127.0.0.1:18789/', credentials: 'right' });
  const lost = world.saveAgentProvider(admin, null, { ...gateway, name: 'Support desk', node: 'atlas', gatewayUrl: 'wss://claw.support.example.org/', credentials: 'right' });
  world.agentProviders.set(lost.id, { ...lost, hasCredentials: false, credentialsState: 'unreadable' });
  const operator = { id: 'u1', name: 'Grace', email: 'operator@example.org', role: 'operator' };
  const sessionId = stuck.session.sessionId;
  world.record({ name: 'mallory@example.org', email: 'mallory@example.org' }, 'signIn', { detail: 'email or password is wrong' }, 'failed');
  for (let i = 0; i < 12; i += 1) world.record(operator, 'pause', { sessionId, node: 'atlas' });
  world.record(operator, 'inject', { sessionId, node: 'atlas', content: 'Roll it back and say when it is done.', detail: 'the node did not say within 10 s whether it took it' }, 'unknown');
  world.record({ name: 'mosaic-hub' }, 'commandRefused', { node: 'atlas', detail: 'the signature is not by a key that the node trusts' }, 'refused');
  world.record({ name: 'mosaic-hub' }, 'auditFault', { detail: 'row 9 is not what was written: its hash is another' }, 'failed');
  world.auditGoodTo = 8;
  return counted(world);
}
