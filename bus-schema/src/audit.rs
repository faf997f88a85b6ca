//! A row of the audit log: who did what to what, when, and what became of it.
//!
//! Laws:
//! 1. Rows are numbered 1, 2, 3 … without gap within a workspace, and never changed.
//! 2. An action has two rows with the same `actionId`: its intent, written before anything happens (what cannot be
//!    written does not happen), and its outcome.
//! 3. Each row carries the hash of the one before it ([`AuditLine`]), and the hub signs the last one now and then
//!    ([`Checkpoint`]): who has the log can check it without the hub ([`Verifier`]). Byte for byte in
//!    `ops/docs/audit.md`.

mod canonical;
mod chain;
mod verify;

use serde::{Deserialize, Serialize};

use crate::Metadata;
use crate::id::{NodeId, SessionId, UserId, WorkspaceId};
use crate::open_enum::open_enum;
use crate::time::Timestamp;
pub use canonical::canonical;
pub use chain::{AuditEntry, AuditHash, AuditLine, Checkpoint, CheckpointLine, GENESIS};
pub use verify::{AuditFault, AuditReport, ChainCheck, FaultKind, SignatureCheck, Verifier};

open_enum! {
    /// Which of the two rows of an action it is.
    pub enum AuditPhase {
        /// Before: it is about to be done.
        Intent = "intent",
        /// After: what became of it.
        Outcome = "outcome",
    }
}

/// Who acted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Actor {
    /// The user; none before sign-in has succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<UserId>,
    /// Their name.
    pub name: String,
    /// Their email, as given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Their role in the workspace at the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

/// One row of the audit log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AuditRow {
    /// 1, 2, 3 … without gap within the workspace.
    pub n: u64,
    /// The workspace.
    pub workspace: WorkspaceId,
    /// When the row was written.
    pub timestamp: Timestamp,
    /// Binds intent and outcome together.
    pub action_id: String,
    /// Intent or outcome.
    pub phase: AuditPhase,
    /// What: `inject`, `pause`, `resume`, `terminate`, `kill`, `killAll`, `spawn`, `signIn`, …
    pub action: String,
    /// Who.
    pub user: Actor,
    /// The session acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// The node acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// What was sent, word for word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// What became of it: `ok`, `refused`, `failed`, `unknown`; `pending` on an intent.
    pub result: String,
    /// Why, in a few words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The HTTP request that caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Further facts.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub metadata: Metadata,
    /// Hash of the row before, 64 hex digits; 64 zeros in the first row. None in rows of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<String>,
    /// Hash of this row, 64 hex digits. None in rows of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}
