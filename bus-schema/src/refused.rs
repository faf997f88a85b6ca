//! What a node tells of a command that it did not obey: for the audit log, since whoever sent it need not be the hub.
//!
//! Laws:
//! 1. Nothing in it is proven but who tells it and why the command was refused: operator, action and session are what
//!    the command claims.
//! 2. A node tells a bounded number one by one; `untold` counts the others, so that none is lost from the count.

use serde::{Deserialize, Serialize};

use crate::command::{Action, Refusal};
use crate::id::{CommandId, NodeId, SessionId, WorkspaceId};
use crate::message::Operator;
use crate::time::Timestamp;

/// Longest text of a refused command that is told on, in bytes: a stranger wrote it.
pub const MAX_CLAIM_BYTES: usize = 200;

/// A command that a node did not obey.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusedCommand {
    /// Given by the node, so that what is told twice is written down once.
    pub refusal_id: String,
    /// The node's workspace.
    pub workspace: WorkspaceId,
    /// The node that refused.
    pub node: NodeId,
    /// When.
    pub refused_at: Timestamp,
    /// Why.
    pub refusal: Refusal,
    /// The command's id, as it claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
    /// What it asked for, as it claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// Of which session, as it claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// For whom, as it claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<Operator>,
    /// The public key that it names as its signer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The HTTP request that it names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Refusals since the last one that was told, which are told as this number only.
    #[serde(default)]
    pub untold: u64,
}

/// A text that a stranger wrote, cut to [`MAX_CLAIM_BYTES`] at a character border.
pub fn cut_claim(text: &str) -> String {
    let end = (0..=text.len().min(MAX_CLAIM_BYTES)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_cut_at_a_character() {
        assert_eq!(cut_claim("Ada"), "Ada");
        assert_eq!(cut_claim(&"ü".repeat(150)).len(), MAX_CLAIM_BYTES);
        assert_eq!(cut_claim(&format!("x{}", "ü".repeat(150))).len(), MAX_CLAIM_BYTES - 1);
    }
}
