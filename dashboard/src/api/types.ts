// The hub's JSON, as it stands on the wire. Written in the shapes that `npm run gen` makes from the hub's OpenAPI
// document, in this one file, so that generated types can take its place.
//
// Law: enumerations are open. A word that this version does not know may arrive at any time; nothing here may be
// matched without a way out.

/** A word of a known list, or one of a newer hub. */
export type Open<Known extends string> = Known | (string & Record<never, never>);

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type Metadata = Record<string, Json>;

export type Status = Open<'spawning' | 'running' | 'waiting' | 'paused' | 'completed' | 'failed' | 'killed'>;
export type StatusSource = Open<'operator' | 'runtime' | 'terminal' | 'screen' | 'process'>;
export type TaskSource = Open<'internal' | 'mosaic-queue' | 'external'>;
export type Turn = Open<'idle' | 'active' | 'blocked' | 'error'>;
export type AttentionKind = Open<'question' | 'permission' | 'idle' | 'error'>;
export type Capability = Open<
  'inject' | 'pause' | 'resume' | 'terminate' | 'kill' | 'terminal' | 'input' | 'resize' | 'approve'
>;
export type Role = Open<'agent' | 'user' | 'system' | 'operator'>;
export type MessageKind = Open<'text' | 'toolCall' | 'toolResult' | 'reasoning' | 'status' | 'permission'>;
export type Delivery = Open<'accepted' | 'delivered' | 'written' | 'taken' | 'refused' | 'expired' | 'unknown' | 'awaitsApproval'>;
export type InjectMode = Open<'queue' | 'steer' | 'interrupt'>;
export type UserRole = Open<'admin' | 'operator' | 'observer'>;

export interface Attention {
  kind: AttentionKind;
  text: string;
  since: string;
  /** What can be answered from here: the oldest open request. */
  request?: Asked;
}

export type OptionKind = Open<'allowOnce' | 'allowAlways' | 'rejectOnce' | 'rejectAlways' | 'choice'>;

/** A request of an agent that waits for an answer: for leave, or for words. */
export interface Asked {
  /** The message that asks. */
  requestId: string;
  /** In the agent's own words and order. */
  options: AnswerOption[];
  takesText?: boolean;
}

export interface AnswerOption {
  optionId: string;
  label: string;
  kind: OptionKind;
}

export interface Session {
  sessionId: string;
  parentSessionId?: string;
  workspace: string;
  node: string;
  provider: string;
  title?: string;
  status: Status;
  statusReason?: string;
  statusSource: StatusSource;
  statusSince: string;
  turn?: Turn;
  taskId?: string;
  taskSource: TaskSource;
  missionId?: string;
  agentType?: string;
  profile?: string;
  spawnedAt: string;
  startedAt?: string;
  completedAt?: string;
  exitCode?: number;
  error?: string;
  lastSeq: number;
  lastMessageAt?: string;
  attention?: Attention;
  capabilities: Capability[];
  stale?: boolean;
  staleSince?: string;
  rev: number;
  metadata: Metadata;
}

export interface Message {
  messageId: string;
  sessionId: string;
  seq: number;
  role: Role;
  content: string;
  timestamp: string;
  kind: MessageKind;
  metadata: Metadata;
}

export interface Delta {
  messageId: string;
  sessionId: string;
  role: Role;
  content: string;
  cut?: boolean;
  timestamp: string;
  kind: MessageKind;
}

export interface Receipt {
  sessionId: string;
  messageId: string;
  state: Delivery;
  modeAsked: InjectMode;
  modeObtained?: InjectMode;
  reason?: string;
  timestamp: string;
}

export interface TerminalSize {
  cols: number;
  rows: number;
}

export interface TerminalChunk {
  sessionId: string;
  /** Bytes of output before `data`; with `snapshot`, the bytes it covers: continue from here. */
  offset: number;
  /** Base64. */
  data: string;
  size?: TerminalSize;
  timestamp: string;
  /** `data` paints a whole screen: clear the terminal first. */
  snapshot?: boolean;
}

export interface Gap {
  sessionId?: string;
  fromSeq?: number;
  toSeq?: number;
  reason: string;
}

export interface HostInfo {
  hostname: string;
  os: string;
  arch: string;
  cpus: number;
}

export interface ProviderState {
  name: string;
  healthy: boolean;
  error?: string;
  sessions: number;
  capabilities: Capability[];
}

export interface ProfileInfo {
  name: string;
  provider: string;
  title?: string;
  agentType?: string;
  program?: string;
  protocol?: string;
}

export interface Load {
  sessions: number;
  outboxRecords: number;
  outboxBytes: number;
  dropped: number;
  load1: number;
  rssBytes: number;
}

export interface NodeInfo {
  workspace: string;
  node: string;
  version: string;
  status: Open<'up' | 'leaving'>;
  host: HostInfo;
  bootId: string;
  incarnation: string;
  startedAt: string;
  timestamp: string;
  providers: ProviderState[];
  profiles: ProfileInfo[];
  load: Load;
  /** Absent at nodes that are too old to be set up from afar. */
  sealKey?: string;
  /** Number of the settings it has. */
  settingsRev?: number;
  online: boolean;
  lastSeen: string;
}

export interface AuditRow {
  n: number;
  workspace: string;
  timestamp: string;
  actionId: string;
  phase: Open<'intent' | 'outcome'>;
  action: string;
  user: { id?: string; name: string; email?: string; role?: string };
  sessionId?: string;
  node?: string;
  content?: string;
  result: string;
  detail?: string;
  requestId?: string;
  metadata: Metadata;
  /** Hash of the row and the one before it, in hexadecimal; absent at hubs that do not tell. */
  hash?: string;
}

export interface AuditPage {
  entries: AuditRow[];
  hasMore: boolean;
  /** Up to this row the hub has recomputed the chain, and it holds. */
  verifiedTo?: number;
}

export interface Me {
  user: { id: string; email: string; name: string };
  workspace: string;
  role: UserRole;
  workspaces: { id: string; role: UserRole }[];
}

export interface InjectRequest {
  content: string;
  mode?: InjectMode;
  pauseFirst?: boolean;
  idempotencyKey: string;
  /** The message in whose place it is sent. */
  retryOf?: string;
}

export interface InjectReply {
  messageId: string;
  delivery: Delivery;
  /** Where it waits for a second person. */
  approval?: Approval;
}

/** Who may act on a session now. */
export interface Control {
  sessionId: string;
  /** Who writes on its terminal. */
  writer?: Writer;
  /** Its own mark. It is also marked through every ancestor that is. */
  fourEyes?: FourEyes;
  /** What waits for a second person, and what was decided lately. */
  requests: Approval[];
}

export interface Writer {
  userId: string;
  name: string;
  /** Set where a script types. */
  tokenId?: string;
  since: string;
  until: string;
  approvedBy?: Operator;
}

export interface FourEyes {
  reason: string;
  by: Operator;
  since: string;
}

export interface Operator {
  id: string;
  name: string;
}

/** What one person has asked for and a second one decides. */
export interface Approval {
  approvalId: string;
  sessionId: string;
  action: Open<'kill' | 'terminate' | 'inject' | 'answer' | 'control' | 'unmark'>;
  content?: string;
  optionId?: string;
  by: Operator;
  askedAt: string;
  expiresAt: string;
  state: Open<'open' | 'approved' | 'done' | 'failed' | 'unknown' | 'refused' | 'withdrawn' | 'expired'>;
  decidedBy?: Operator;
  at: string;
  outcome?: string;
}

/** The answer where it waits for a second person. */
export interface Waiting {
  approval: Approval;
}

export interface AnswerRequest {
  requestId: string;
  optionId?: string;
  text?: string;
}

/** How a runtime of a node is reached. Its credentials are never told. */
export interface AgentProvider {
  id: string;
  name: string;
  provider: string;
  node: string;
  gatewayUrl: string;
  isActive: boolean;
  hasCredentials: boolean;
  credentialsState: Open<'none' | 'kept' | 'unreadable'>;
  createdAt: string;
  updatedAt: string;
  rev: number;
  delivery: Open<'applied' | 'pending' | 'upgrade' | 'failed'>;
  deliveryDetail?: string;
  health?: { healthy: boolean; error?: string };
}

/** What a person says of an agent provider; credentials that are absent stay as they are. */
export interface AgentProviderInput {
  name: string;
  provider: string;
  node: string;
  gatewayUrl: string;
  credentials?: string;
  isActive: boolean;
}

export interface ConnectionTest {
  verdict: Open<'ok' | 'unreachable' | 'tls' | 'notARuntime' | 'unauthorized' | 'forbidden' | 'version' | 'failed'>;
  message: string;
}

export interface SpawnRequest {
  node: string;
  profile: string;
  prompt?: string;
  parentSessionId?: string;
  taskId?: string;
  taskSource?: TaskSource;
  missionId?: string;
  title?: string;
  /** A session that has ended, of the same node: the new one goes on with its conversation. */
  resumeSessionId?: string;
}

/** How a session was brought to its end: the proof of a kill. */
export interface EndReport {
  containment: string;
  ended: EndedProcess[];
  /** What lives in spite of everything. */
  survivors: EndedProcess[];
}

export interface EndedProcess {
  pid: number;
  name: string;
}

export interface ActReply {
  session: Session;
  report?: EndReport;
}

export interface KillAllResult {
  sessionId: string;
  node: string;
  outcome: Open<'killed' | 'ended' | 'pending' | 'expired' | 'survived' | 'refused' | 'unknown' | 'failed' | 'awaitsApproval'>;
  detail?: string;
  /** The request that a second person has to agree to. */
  approvalId?: string;
}

/** What became of a kill-all, as it stands now. */
export interface KillReceipt {
  receiptId: string;
  at: string;
  by: { id?: string; name: string };
  /** A provider, or `all`. */
  scope: string;
  /** Until when nodes that are away carry it out on their return. */
  leaseUntil: string;
  state: Open<'complete' | 'pending'>;
  results: KillAllResult[];
}

export interface LayoutReply {
  layout: Json;
  rev: number;
}

/** What one event of the stream carries, by its name. */
export interface StreamEvents {
  session: Session;
  message: Message;
  delta: Delta;
  receipt: Receipt;
  removed: { sessionId: string };
  gap: Gap;
  ready: { cursor: string };
  node: NodeInfo;
  terminal: TerminalChunk;
  /** All of it, of one session. */
  control: Control;
  /** All of it, of every session of which there is something to say. */
  controls: { controls: Control[] };
}

export type StreamEvent = { [Name in keyof StreamEvents]: { type: Name; data: StreamEvents[Name] } }[keyof StreamEvents];
