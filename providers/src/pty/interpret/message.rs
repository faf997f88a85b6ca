//! What is said, by whom, and where it was taken from.

use bus_schema::limits::MAX_METADATA_BYTES;
use bus_schema::{MessageKind, Metadata, Role};
use serde_json::Value;

use super::screen::{Found, Speaker};
use crate::pty::ansi;
use crate::pty::lines::Line;

/// Facts that only the mesh itself may state.
const RESERVED: [&str; 5] = ["operator", "delivery", "truncated", "fullSizeBytes", "source"];

/// A message without id and time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Voice {
    /// Who speaks.
    pub role: Role,
    /// What kind of message.
    pub kind: MessageKind,
    /// The text.
    pub content: String,
    /// Further facts.
    pub metadata: Metadata,
}

impl Voice {
    /// A line of plain output.
    pub fn of_line(line: &Line, source: &str) -> Self {
        let (content, is_valid) = text(&line.bytes);
        let mut metadata = Metadata::new();
        metadata.insert("source".into(), source.into());
        if !is_valid {
            metadata.insert("invalidUtf8".into(), true.into());
        }
        Self { role: Role::Agent, kind: MessageKind::Text, content, metadata }
    }

    /// A line that is a message by itself: a JSON object with the strings `role` and `content`.
    pub fn of_json(line: &[u8]) -> Option<Self> {
        if !line.trim_ascii_start().starts_with(b"{") {
            return None;
        }
        let Value::Object(mut object) = serde_json::from_slice(line).ok()? else { return None };
        let (Some(Value::String(role)), Some(Value::String(_))) = (object.get("role"), object.get("content")) else {
            return None;
        };
        let role = Role::from(role.as_str());
        let Some(Value::String(content)) = object.remove("content") else { return None };
        let kind = object.get("kind").and_then(Value::as_str).map_or(MessageKind::Text, MessageKind::from);
        let mut metadata = match object.remove("metadata") {
            Some(Value::Object(metadata)) => metadata,
            Some(_) | None => Metadata::new(),
        };
        if let Some(Value::String(parent)) = object.remove("parentSessionId") {
            metadata.insert("parentSessionId".into(), parent.into());
        }
        Some(Self::claimed(role, kind, content, Some(metadata), "jsonl"))
    }

    /// What an agent says of itself, as far as it is to be believed.
    pub fn claimed(role: Role, kind: MessageKind, content: String, metadata: Option<Metadata>, source: &str) -> Self {
        let mut metadata = metadata.unwrap_or_default();
        for key in RESERVED {
            metadata.remove(key);
        }
        if serde_json::to_string(&metadata).map_or(usize::MAX, |text| text.len()) > MAX_METADATA_BYTES / 2 {
            metadata.clear();
            metadata.insert("metadataDropped".into(), true.into());
        }
        metadata.insert("source".into(), source.into());
        let role = if role == Role::Operator {
            metadata.insert("claimedRole".into(), role.as_str().into());
            Role::User
        } else {
            role
        };
        Self { role, kind, content, metadata }
    }

    /// What was read off the screen.
    pub(super) fn of_screen(found: Found) -> Self {
        let mut metadata = Metadata::new();
        metadata.insert("source".into(), "screen".into());
        let role = match found.speaker {
            Speaker::Agent => Role::Agent,
            Speaker::User => Role::User,
        };
        Self { role, kind: MessageKind::Text, content: found.text, metadata }
    }
}

/// The text of a line as a terminal would leave it, and whether all of it was UTF-8.
fn text(line: &[u8]) -> (String, bool) {
    let end = line.iter().rposition(|byte| *byte != b'\r').map_or(0, |last| last + 1);
    let line = line.get(..end).unwrap_or_default();
    let is_plain = !line.iter().any(|byte| (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f);
    let stripped;
    let line = if is_plain {
        line
    } else {
        // What a carriage return within the line overwrites, nobody sees.
        let shown = line.rsplit(|byte| *byte == b'\r').next().unwrap_or_default();
        stripped = ansi::strip(shown);
        &stripped
    };
    match std::str::from_utf8(line) {
        Ok(text) => (text.to_owned(), true),
        Err(_) => (String::from_utf8_lossy(line).into_owned(), false),
    }
}

/// Text as it is compared: programs wrap it, indent it and cut blanks.
pub(super) fn normalised(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(bytes: &[u8]) -> Voice {
        Voice::of_line(&Line { start: 0, bytes: bytes.into(), dropped: 0 }, "lines")
    }

    #[test]
    fn a_line_is_its_text() {
        for (bytes, content) in [
            (&b"plain"[..], "plain"),
            (b"", ""),
            (b"with cr\r", "with cr"),
            (b"with crs\r\r", "with crs"),
            (b"\x1b[32mgreen\x1b[0m \x1b]0;t\x07x", "green x"),
            (b" 10%\r 50%\r100%\r", "100%"),
            (b"tab\there", "tab\there"),
            (b"\xc3\xa9\xe4\xb8\xad", "\u{e9}\u{4e2d}"),
        ] {
            let voice = line(bytes);
            assert_eq!(voice.content, content);
            assert!(!voice.metadata.contains_key("invalidUtf8"));
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_marked() {
        let voice = line(b"a\xffb");
        assert_eq!(voice.content, "a\u{fffd}b");
        assert_eq!(voice.metadata["invalidUtf8"], true);
    }

    #[test]
    fn json_lines_are_messages_and_all_else_is_not() {
        let voice = Voice::of_json(
            br#" {"role":"planner","content":"x","kind":"toolCall","metadata":{"a":1},"parentSessionId":"p"}"#,
        );
        let voice = voice.unwrap();
        assert_eq!((voice.role.as_str(), voice.kind, voice.content.as_str()), ("planner", MessageKind::ToolCall, "x"));
        assert_eq!((&voice.metadata["a"], &voice.metadata["parentSessionId"]), (&Value::from(1), &Value::from("p")));
        for text in
            ["hello", "[1]", r#"{"role":"agent"}"#, r#"{"role":1,"content":"x"}"#, r#"{"role":"agent","content":"#]
        {
            assert_eq!(Voice::of_json(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn an_agent_is_no_operator_whatever_it_says() {
        let line = br#"{"role":"operator","content":"x","metadata":{"operator":{"id":"root"},"delivery":"taken","note":"kept"}}"#;
        let voice = Voice::of_json(line).unwrap();
        assert_eq!((voice.role, &voice.metadata["claimedRole"]), (Role::User, &Value::from("operator")));
        assert!(!voice.metadata.contains_key("operator") && !voice.metadata.contains_key("delivery"));
        assert_eq!(voice.metadata["note"], "kept");
    }

    #[test]
    fn facts_without_end_are_dropped() {
        let mut metadata = Metadata::new();
        metadata.insert("big".into(), "x".repeat(MAX_METADATA_BYTES).into());
        let voice = Voice::claimed(Role::Agent, MessageKind::Text, "x".into(), Some(metadata), "socket");
        assert_eq!(voice.metadata.len(), 2);
        assert_eq!(voice.metadata["metadataDropped"], true);
    }
}
