// Holds our words (`types.ts`) against the hub's (`generated/schema.ts`, made by `npm run gen`). Types only: where
// they have drifted apart, `npm run check` fails here and names the field.
//
// The document is looser than the wire, in three ways that `Received` knows: what it calls nullable is left out
// instead of null; what has a default is always sent; and free-form facts come as an object without known fields.
// Its enumerations are closed, while ours stay open for the words of a newer hub.

import type { components } from './generated/schema.ts';
import type * as Admin from './admin.ts';
import type * as Ours from './types.ts';

type Hub = components['schemas'];

type Received<T> = T extends readonly (infer Each)[]
  ? Received<Each>[]
  : T extends Record<string, never>
    ? Ours.Metadata
    : T extends object
      ? { [K in keyof T as null extends T[K] ? K : never]?: Received<NonNullable<T[K]>> } & {
          [K in keyof T as null extends T[K] ? never : K]-?: Received<NonNullable<T[K]>>;
        }
      : T;

/** Fails to compile unless what the hub sends can be read as ours. */
type Reads<Our, Theirs extends Our> = [Our, Theirs];
/** Fails to compile unless the hub knows every field that we send. */
type Sends<Theirs, Our extends { [K in keyof Our]: K extends keyof Theirs ? unknown : never }> = [Theirs, Our];

export type Checked = [
  Reads<Ours.Session, Received<Hub['Session']>>,
  Reads<Ours.Message, Received<Hub['Message']>>,
  Reads<Ours.Delta, Received<Hub['Delta']>>,
  Reads<Ours.Receipt, Received<Hub['Receipt']>>,
  Reads<Ours.TerminalChunk, Received<Hub['TerminalEvent']>>,
  Reads<Ours.Gap, Received<Hub['GapEvent']>>,
  Reads<Ours.StreamEvents['ready'], Received<Hub['ReadyEvent']>>,
  Reads<Ours.StreamEvents['removed'], Received<Hub['RemovedEvent']>>,
  Reads<Ours.NodeInfo, Received<Hub['NodeView']>>,
  Reads<Ours.AuditRow, Received<Hub['AuditRow']>>,
  Reads<Ours.Me, Received<Hub['Me']>>,
  Reads<Ours.ActReply, Received<Hub['Acted']>>,
  Reads<Ours.InjectReply, Received<Hub['Injected']>>,
  Reads<Ours.AgentProvider, Received<Hub['AgentProviderView']>>,
  Reads<Ours.ConnectionTest, Received<Hub['ConnectionTest']>>,
  Reads<Ours.Control, Received<Hub['ControlView']>>,
  Reads<Ours.StreamEvents['controls'], Received<Hub['ControlsEvent']>>,
  Reads<Ours.Waiting, Received<Hub['Waiting']>>,
  Reads<Admin.SearchPage, Received<Hub['SearchResults']>>,
  Reads<Ours.KillReceipt, Received<Hub['KillReceipt']>>,
  Sends<Hub['SpawnBody'], Ours.SpawnRequest>,
  Sends<Hub['InjectBody'], Ours.InjectRequest>,
  Sends<Hub['AnswerBody'], Ours.AnswerRequest>,
  Sends<Hub['NewAgentProvider'], Ours.AgentProviderInput>,
  Sends<Hub['AgentProviderChanges'], Ours.AgentProviderInput>,
  Sends<Hub['TestBody'], Ours.AgentProviderInput & { id: string }>,
];
