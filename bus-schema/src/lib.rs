//! The contract of Mosaic Mesh: every subject, payload, header and limit that crosses the bus.
//!
//! This crate is the one vocabulary of the project. It does no I/O, knows no clock and no async runtime, and
//! never logs: it only says what the words are and how they are written down.
//!
//! # The protocol on one page
//!
//! Subjects have the form `mosaic.v1.{workspace}.{node}.{kind}[.{session}]` ([`Subject`]). What a stream has
//! stored is republished under `live.`; that is what one watches ([`Subject::live`]).
//!
//! | kind | payload | kept in | published by |
//! |---|---|---|---|
//! | `node` | [`NodeState`] | [`STATE`](jetstream::STATE), last per subject | node |
//! | `session` | [`Session`] | [`STATE`](jetstream::STATE), last per subject | node |
//! | `message` | [`Message`] | [`MESSAGES`](jetstream::MESSAGES) | node |
//! | `refusal` | [`RefusedCommand`] | [`REFUSALS`](jetstream::REFUSALS) | node |
//! | `receipt` | [`Receipt`] | [`MESSAGES`](jetstream::MESSAGES) | node |
//! | `delta` | [`Delta`] | not kept | node |
//! | `terminal` | [`Terminal`] | [`TERMINAL`](jetstream::TERMINAL), bounded per session | node |
//! | `command` | [`Command`], answered by [`CommandReply`] | request-reply | hub |
//! | `audit` | [`AuditRow`], now and then a [`Checkpoint`] | [`AUDIT`](jetstream::AUDIT) | hub |
//!
//! # Laws
//!
//! 1. A payload is one MessagePack map with named camelCase fields, the same names as in the HTTP JSON
//!    ([`encode`], [`decode`]). Byte strings stay byte strings.
//! 2. Unknown fields are ignored and new fields have defaults, so that an older and a newer program understand
//!    each other. Enums are open: an unknown word decodes to `Unknown` and encodes to the same bytes again.
//! 3. The root `v1` is the major version. A change that an older reader would misunderstand is a `v2`;
//!    [`SCHEMA_VERSION`] is bumped in the commit that adds a field whose absence matters.
//! 4. Nothing else in the workspace formats or splits a subject.

mod audit;
mod command;
mod envelope;
mod id;
pub mod jetstream;
mod join;
pub mod limits;
mod message;
mod node;
mod open_enum;
mod permission;
mod refused;
pub mod secret;
mod session;
mod settings;
mod subject;
mod succession;
mod time;

pub use audit::{
    Actor, AuditEntry, AuditFault, AuditHash, AuditLine, AuditPhase, AuditReport, AuditRow, ChainCheck, Checkpoint,
    CheckpointLine, FaultKind, GENESIS, SignatureCheck, Verifier, canonical,
};
pub use command::{
    Action, Answer, Command, CommandReply, EndReport, EndStep, EndedProcess, InjectMode, Outcome, Refusal, RefusalCode,
    Resumed, Spawn, TerminalSnapshot, Verb,
};
pub use envelope::{DecodeError, EncodeError, SCHEMA_VERSION, decode, encode, header, signed_bytes};
pub use id::{CommandId, IdError, MessageId, NodeId, ProviderName, SessionId, UserId, WorkspaceId};
pub use join::{JoinToken, JoinTokenError};
pub use message::{
    Delivery, Delta, Message, MessageKind, Operator, Receipt, Role, Terminal, TerminalSize, truncate_content,
};
pub use node::{AWAY_AFTER_MS, HEARTBEAT_MS, HostInfo, Load, NodeState, NodeStatus, ProfileInfo, ProviderState};
pub use permission::{BusRole, NODE_SERVICE, Permissions, REPLY_WITHIN_S, inbox_prefix, live_filter};
pub use refused::{MAX_CLAIM_BYTES, RefusedCommand, cut_claim};
pub use secret::Secret;
pub use session::{
    AnswerOption, Asked, Attention, AttentionKind, Capability, OptionKind, Session, Status, StatusSource, TaskSource,
    TransitionError, Turn,
};
pub use settings::{Connection, ConnectionTest, ConnectionVerdict, NodeSettings};
pub use subject::{Kind, LIVE, ROOT, Subject, SubjectError};
pub use succession::{KeySuccession, MAX_CHAIN, SuccessionError};
pub use time::{TimeError, Timestamp};

/// Free-form facts about a session or a message. Keys are camelCase; values are JSON.
pub type Metadata = serde_json::Map<String, serde_json::Value>;
