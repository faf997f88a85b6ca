//! What agents and people say: messages, their partial text, their delivery, and raw terminal bytes.

use serde::{Deserialize, Serialize};

use crate::Metadata;
use crate::command::InjectMode;
use crate::id::{MessageId, SessionId, UserId};
use crate::limits::MAX_CONTENT_BYTES;
use crate::open_enum::open_enum;
use crate::time::Timestamp;

open_enum! {
    /// Who speaks.
    pub enum Role {
        /// The agent: text, thoughts, tool calls and their results.
        Agent = "agent",
        /// A person in the agent's own user interface.
        User = "user",
        /// The machine: lifecycle, retries, warnings.
        System = "system",
        /// A person through the mesh.
        Operator = "operator",
    }
}

open_enum! {
    /// What kind of message it is.
    #[derive(Default)]
    pub enum MessageKind {
        /// Something said.
        #[default]
        Text = "text",
        /// The agent calls a tool.
        ToolCall = "toolCall",
        /// What the tool answered.
        ToolResult = "toolResult",
        /// The agent's thoughts.
        Reasoning = "reasoning",
        /// A change of state.
        Status = "status",
        /// A request for leave, or its answer.
        Permission = "permission",
    }
}

open_enum! {
    /// How far an operator message has come (contract section 5).
    pub enum Delivery {
        /// The hub has it and the audit row is written.
        Accepted = "accepted",
        /// The node has it on disk.
        Delivered = "delivered",
        /// It was handed to the runtime.
        Written = "written",
        /// The runtime began to act on it.
        Taken = "taken",
        /// It will not be handed over; the reason says why.
        Refused = "refused",
        /// Its time was up before it could be handed over.
        Expired = "expired",
        /// Nobody knows; it is asked again on reconnect.
        NotKnown = "unknown",
    }
}

impl Delivery {
    /// True if nothing more will be heard of it.
    pub fn is_final(&self) -> bool {
        matches!(self, Delivery::Taken | Delivery::Refused | Delivery::Expired)
    }

    /// How far along it is: a receipt never takes a message back to a lower number. `unknown` is lowest, since any
    /// knowledge is better.
    pub fn rank(&self) -> u8 {
        match self {
            Delivery::NotKnown | Delivery::Unknown(_) => 0,
            Delivery::Accepted => 1,
            Delivery::Delivered => 2,
            Delivery::Written => 3,
            Delivery::Taken => 4,
            Delivery::Refused | Delivery::Expired => 5,
        }
    }
}

/// A person who acts through the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Operator {
    /// Who, for ever.
    pub id: UserId,
    /// Their name at the time.
    pub name: String,
}

/// One complete message (contract section 4).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Unique over all sessions.
    pub message_id: MessageId,
    /// The session it belongs to.
    pub session_id: SessionId,
    /// 1, 2, 3 … without gap within the session.
    pub seq: u64,
    /// Who speaks.
    pub role: Role,
    /// What is said: text, at most 256 KiB ([`MAX_CONTENT_BYTES`]).
    pub content: String,
    /// When it was written.
    pub timestamp: Timestamp,
    /// What kind of message it is.
    #[serde(default)]
    pub kind: MessageKind,
    /// Further facts: `source`, `truncated`, `operator`, `delivery`, the runtime's own.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub metadata: Metadata,
}

/// The text so far of a message that is still being written. The message with the same `messageId` replaces it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Delta {
    /// The message that will replace it.
    pub message_id: MessageId,
    /// The session it belongs to.
    pub session_id: SessionId,
    /// Who speaks.
    pub role: Role,
    /// All of the text so far, or its end where it is longer than a delta carries.
    pub content: String,
    /// True if the beginning of the text is missing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// When.
    pub timestamp: Timestamp,
    /// What kind of message it will be.
    #[serde(default)]
    pub kind: MessageKind,
}

/// How far an operator message has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// The session it was sent to.
    pub session_id: SessionId,
    /// The operator message.
    pub message_id: MessageId,
    /// How far it has come.
    pub state: Delivery,
    /// How the operator wanted it to arrive.
    pub mode_asked: InjectMode,
    /// How it did arrive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode_obtained: Option<InjectMode>,
    /// Why, in a few words: why refused, why unconfirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When.
    pub timestamp: Timestamp,
}

/// Size of a terminal in character cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TerminalSize {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

/// A piece of raw terminal output. Pieces may be repeated and overlap after a failure: cut by `offset`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Terminal {
    /// The session it belongs to.
    pub session_id: SessionId,
    /// How many bytes of output came before `data` since the start of the session.
    pub offset: u64,
    /// Exactly what the agent wrote.
    #[serde(with = "serde_bytes")]
    pub data: Vec<u8>,
    /// When it was read.
    pub timestamp: Timestamp,
    /// Set in the first piece and in each piece before which the size changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<TerminalSize>,
}

/// Cuts `content` to what one message may hold, at a character border, and says so in `metadata`: `truncated` and
/// `fullSizeBytes`.
pub fn truncate_content(content: &mut String, metadata: &mut Metadata) {
    let full = content.len();
    if full <= MAX_CONTENT_BYTES {
        return;
    }
    content.truncate(content.floor_char_boundary(MAX_CONTENT_BYTES));
    metadata.insert("truncated".into(), true.into());
    metadata.insert("fullSizeBytes".into(), full.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_content_is_cut_between_characters_and_says_so() {
        let mut content = "é".repeat(MAX_CONTENT_BYTES / 2 + 1);
        content.insert(0, 'x');
        let (full, mut metadata) = (content.len(), Metadata::new());
        truncate_content(&mut content, &mut metadata);
        assert_eq!(content.len(), MAX_CONTENT_BYTES - 1);
        assert_eq!(metadata["truncated"], true);
        assert_eq!(metadata["fullSizeBytes"], full);
    }

    #[test]
    fn short_content_stays_as_it_is() {
        let (mut content, mut metadata) = ("x".repeat(MAX_CONTENT_BYTES), Metadata::new());
        truncate_content(&mut content, &mut metadata);
        assert_eq!(content.len(), MAX_CONTENT_BYTES);
        assert!(metadata.is_empty());
    }

    #[test]
    fn knowledge_of_a_delivery_only_grows() {
        let order = [
            Delivery::NotKnown,
            Delivery::Accepted,
            Delivery::Delivered,
            Delivery::Written,
            Delivery::Taken,
            Delivery::Refused,
        ];
        assert!(order.is_sorted_by_key(Delivery::rank));
    }
}
