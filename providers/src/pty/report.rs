//! What a session says about itself on `MOSAIC_SOCKET`: one JSON object a line.
//!
//! ```text
//! {"type":"message","role":"agent","content":"…","kind":"text"?,"metadata":{…}?,"sessionId":CHILD?}
//! {"type":"status","turn":"idle|active|blocked|error"?,"status":"running|waiting"?,"reason":"…"?,"sessionId":CHILD?}
//! {"type":"attention","kind":"question|permission|idle|error","text":"…"}      kind null: nobody is needed
//! {"type":"child","sessionId":ULID?,"title":"…"?,"agentType":"…"?,"ended":true?}
//! {"type":"title","title":"…"}
//! ```
//! Each line is answered by `{"ok":true}` (a child's with its `sessionId`) or `{"ok":false,"error":"…"}`.

use bus_schema::{AttentionKind, MessageKind, Metadata, Role, SessionId, Status, Turn};
use serde::{Deserialize, Serialize};

/// Longest line: a message of 256 KiB with every character escaped in the usual way.
pub(crate) const MAX_REPORT_BYTES: usize = 1024 * 1024;

/// One report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum Report {
    /// Something was said.
    Message {
        /// By whom.
        role: Role,
        /// What.
        content: String,
        /// What kind of message it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kind: Option<MessageKind>,
        /// Further facts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        metadata: Option<Metadata>,
        /// The child that it belongs to, if not to the session itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session_id: Option<SessionId>,
    },
    /// Where it stands.
    Status {
        /// The turn.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        turn: Option<Turn>,
        /// The session; only `running` and `waiting` can be said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<Status>,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// The child that it belongs to, if not to the session itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session_id: Option<SessionId>,
    },
    /// Somebody is needed, or no longer.
    Attention {
        /// What for.
        #[serde(default)]
        kind: Option<AttentionKind>,
        /// In its own words.
        #[serde(default)]
        text: String,
    },
    /// It started another one.
    Child {
        /// Its id; given by the holder where it is missing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session_id: Option<SessionId>,
        /// A name for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        title: Option<String>,
        /// What kind of agent it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent_type: Option<String>,
        /// True once it is over.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        ended: bool,
    },
    /// A better title.
    Title {
        /// Which.
        title: String,
    },
    /// Its conversation is read from files of its own, so its screen gives no messages. Said by the holder alone.
    Speaks,
}

/// A line with who read it: the session's own socket, or one of the holder's sources (`rollout`, `transcript`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sourced {
    /// Where it was taken from.
    pub source: String,
    /// What.
    pub report: Report,
}

impl Report {
    /// Reads a line of the session.
    ///
    /// # Errors
    /// What is wrong with it, for whoever wrote it.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let report: Report = serde_json::from_slice(line).map_err(|error| format!("not a report: {error}"))?;
        match &report {
            Report::Status { turn: None, status: None, .. } => Err("a status report needs turn or status".into()),
            Report::Status { status: Some(status), .. } if !matches!(status, Status::Running | Status::Waiting) => {
                Err(format!("status {status}: only running and waiting can be reported"))
            }
            Report::Speaks => Err("not a report: unknown type".into()),
            Report::Message { .. }
            | Report::Status { .. }
            | Report::Attention { .. }
            | Report::Child { .. }
            | Report::Title { .. } => Ok(report),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_are_understood() {
        for line in [
            r#"{"type":"message","role":"agent","content":"hi"}"#,
            r#"{"type":"message","role":"agent","content":"ls","kind":"toolCall","metadata":{"tool":"Bash"}}"#,
            r#"{"type":"status","turn":"active"}"#,
            r#"{"type":"status","status":"waiting","reason":"nothing to do"}"#,
            r#"{"type":"attention","kind":"permission","text":"may I?"}"#,
            r#"{"type":"attention","kind":null}"#,
            r#"{"type":"child","title":"reviewer"}"#,
            r#"{"type":"title","title":"Fix the build"}"#,
        ] {
            let report = Report::parse(line.as_bytes()).unwrap();
            let again: Report = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
            assert_eq!(again, report, "{line}");
        }
    }

    #[test]
    fn what_is_no_report_is_refused_with_a_reason() {
        for (line, reason) in [
            ("hello", "not a report"),
            (r#"{"type":"levitate"}"#, "unknown variant"),
            (r#"{"type":"message","role":"agent"}"#, "content"),
            (r#"{"type":"status"}"#, "turn or status"),
            (r#"{"type":"status","status":"completed"}"#, "only running and waiting"),
            (r#"{"type":"child","sessionId":"x"}"#, "ULID"),
            (r#"{"type":"speaks"}"#, "not a report"),
        ] {
            let error = Report::parse(line.as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{line}: {error}");
        }
    }
}
