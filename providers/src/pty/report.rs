//! What a session says about itself on `MOSAIC_SOCKET`: one JSON object a line.
//!
//! ```text
//! {"type":"message","role":"agent","content":"…","kind":"text"?,"metadata":{…}?,"sessionId":CHILD?}
//! {"type":"status","turn":"idle|active|blocked|error"?,"status":"running|waiting"?,"reason":"…"?,"sessionId":CHILD?}
//! {"type":"attention","kind":"question|permission|idle|error","text":"…"}      kind null: nobody is needed
//! {"type":"child","sessionId":ULID?,"title":"…"?,"agentType":"…"?,"ended":true?}
//! {"type":"title","title":"…"}
//! {"type":"prompt","content":"…"}                     what the agent was given to do: the receipt of a message
//! {"type":"ask","text":"…","options":[{"optionId","label","kind"}],"takesText":true?,"call":"…"?}
//! {"type":"called","call":"…"}                        what leave was asked for with this `call` was carried out
//! {"type":"answers"}                                  it asks for leave in this way
//! ```
//! Each line is answered by `{"ok":true}` (a child's with its `sessionId`) or `{"ok":false,"error":"…"}`. Who asks keeps
//! the connection open: one more line comes, `{"answer":{"optionId":"…","text":"…"}}` or `{"closed":"why"}`. Who ends the
//! connection before that takes the request back.
//!
//! A line with `"source":"hook"` is told as taken from there: an agent's hooks say less than all, so what its terminal
//! says still counts beside them.

use bus_schema::{AnswerOption, AttentionKind, MessageKind, Metadata, Role, SessionId, Status, Turn};
use serde::{Deserialize, Serialize};

/// Longest line: a message of 256 KiB with every character escaped in the usual way.
pub(crate) const MAX_REPORT_BYTES: usize = 1024 * 1024;
/// Answers that a request may offer: more, nobody reads.
pub(crate) const MAX_OPTIONS: usize = 16;
/// Source of what the session's own socket says.
pub(crate) const SOCKET: &str = "socket";
/// Source of what an agent's hooks say there.
pub(crate) const HOOK: &str = "hook";
/// Source of what an agent's own API says.
pub(crate) const API: &str = "api";
/// Source of what only the screen shows.
pub(crate) const SCREEN: &str = "screen";

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
    /// The agent was given this to do. No message: that comes from its conversation.
    Prompt {
        /// What.
        content: String,
    },
    /// It asks for leave, and waits for the answer on its connection.
    Ask {
        /// The request's own name, given by the holder.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request: Option<String>,
        /// What for, in its own words.
        text: String,
        /// Names what leave is asked for, so that its end shows that leave was given at the terminal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        call: Option<String>,
        /// What can be chosen.
        #[serde(default)]
        options: Vec<AnswerOption>,
        /// True if it can be answered in words.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        takes_text: bool,
    },
    /// What leave was asked for was carried out.
    Called {
        /// Its name in [`Report::Ask`].
        call: String,
    },
    /// It asks for leave in a way that can be answered through the mesh.
    Answers,
    /// A request can no longer be answered here. Said by the holder alone.
    Closed {
        /// Which.
        request: String,
        /// Why.
        reason: String,
    },
    /// Its conversation is read from files of its own, so its screen gives no messages. Said by the holder alone.
    Speaks,
    /// It is one of those whose conversation is known: what its screen shows is held back. Said by the holder alone.
    Expected,
    /// That did not come, so its screen gives messages. Said by the holder alone.
    Missing,
}

/// A line with who read it: the session's own socket, or one of the holder's sources (`rollout`, `transcript`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sourced {
    /// Where it was taken from.
    pub source: String,
    /// What.
    pub report: Report,
}

/// Where a line says that it comes from.
#[derive(Deserialize)]
struct Origin {
    #[serde(default)]
    source: String,
}

/// The source that a line of the session names, as far as it is to be told.
pub(crate) fn source_of(line: &[u8]) -> &'static str {
    match serde_json::from_slice::<Origin>(line) {
        Ok(Origin { source }) if source == HOOK => HOOK,
        Ok(_) | Err(_) => SOCKET,
    }
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
            Report::Ask { options, .. } if options.is_empty() || options.len() > MAX_OPTIONS => {
                Err(format!("a request offers 1 to {MAX_OPTIONS} options"))
            }
            Report::Speaks | Report::Expected | Report::Missing | Report::Closed { .. } => {
                Err("not a report: unknown type".into())
            }
            Report::Prompt { .. }
            | Report::Ask { .. }
            | Report::Called { .. }
            | Report::Answers
            | Report::Message { .. }
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
            r#"{"type":"prompt","content":"look around"}"#,
            r#"{"type":"ask","text":"rm x","call":"c","takesText":true,"options":[{"optionId":"y","label":"Yes","kind":"allowOnce"}]}"#,
            r#"{"type":"called","call":"c"}"#,
            r#"{"type":"answers","source":"hook"}"#,
        ] {
            let report = Report::parse(line.as_bytes()).unwrap();
            let again: Report = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
            assert_eq!(again, report, "{line}");
        }
    }

    #[test]
    fn only_known_sources_are_told() {
        assert_eq!(source_of(br#"{"type":"answers","source":"hook"}"#), HOOK);
        for line in [r#"{"type":"answers"}"#, r#"{"type":"answers","source":"rollout"}"#, "x"] {
            assert_eq!(source_of(line.as_bytes()), SOCKET, "{line}");
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
            (r#"{"type":"expected"}"#, "not a report"),
            (r#"{"type":"missing"}"#, "not a report"),
            (r#"{"type":"closed","request":"r","reason":"x"}"#, "not a report"),
            (r#"{"type":"ask","text":"x"}"#, "1 to 16 options"),
        ] {
            let error = Report::parse(line.as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{line}: {error}");
        }
    }
}
