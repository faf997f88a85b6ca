// Makers of plain records for tests.

import type { AgentProvider, Message, NodeInfo, Session } from '../api/types.ts';

const AT = '2026-01-01T00:00:00Z';

export function makeSession(sessionId: string, more: Partial<Session> = {}): Session {
  return {
    sessionId,
    workspace: 'default',
    node: 'node-1',
    provider: 'pty',
    status: 'running',
    statusSource: 'process',
    statusSince: AT,
    taskSource: 'internal',
    spawnedAt: AT,
    lastSeq: 0,
    capabilities: [],
    rev: 1,
    metadata: {},
    ...more,
  };
}

export function makeMessage(sessionId: string, seq: number, more: Partial<Message> = {}): Message {
  return {
    messageId: `${sessionId}-${seq}`,
    sessionId,
    seq,
    role: 'agent',
    content: `message ${seq}`,
    timestamp: AT,
    kind: 'text',
    metadata: {},
    ...more,
  };
}

export function makeNode(node: string, more: Partial<NodeInfo> = {}): NodeInfo {
  return {
    workspace: 'default',
    node,
    version: '0.1.0',
    status: 'up',
    host: { hostname: node, os: 'linux', arch: 'x86_64', cpus: 8 },
    bootId: 'b',
    incarnation: 'i',
    startedAt: AT,
    timestamp: AT,
    providers: [],
    profiles: [],
    load: { sessions: 0, outboxRecords: 0, outboxBytes: 0, dropped: 0, load1: 0, rssBytes: 0 },
    online: true,
    lastSeen: AT,
    ...more,
  };
}

export function makeAgentProvider(id: string, more: Partial<AgentProvider> = {}): AgentProvider {
  return {
    id,
    name: `gateway ${id}`,
    provider: 'openclaw',
    node: 'node-1',
    gatewayUrl: 'ws://127.0.0.1:18789/',
    isActive: true,
    hasCredentials: true,
    credentialsState: 'kept',
    createdAt: AT,
    updatedAt: AT,
    rev: 1,
    delivery: 'applied',
    ...more,
  };
}
