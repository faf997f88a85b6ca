//! A gateway's rows as messages: pure. Shapes as measured on 2026.9.6 and 2026.4.15.
//!
//! One stored message may come as several rows of one id (commentary, then the tool call), and live events leave some
//! of them out. So rows are taken from the history only, and each part has an identity that does not depend on which
//! of its siblings came along: the row's id with the number of the text, or with the id of the tool call.

use std::collections::HashMap;

use bus_schema::{MessageId, MessageKind, Metadata, Role, SessionId, Timestamp};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// One message of a history.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    /// The same each time the row is read.
    pub row: String,
    /// What its message is named after: a tool's result after its call, so that its progress can be shown before.
    pub name: String,
    pub role: Role,
    pub kind: MessageKind,
    pub content: String,
    pub timestamp: Timestamp,
    pub metadata: Metadata,
    /// The operator message it is the arrival of: the id that was sent with it.
    pub arrival: Option<String>,
    /// Digest of words that came from a node of the mesh, in a release that keeps no id (protocol 3).
    pub words: Option<String>,
    /// True if it went into a run that was under way.
    pub is_steered: bool,
    /// The run it belongs to.
    pub run: Option<String>,
    /// The gateway began the conversation anew here.
    pub is_reset: bool,
}

/// The message id of what has this name in a session.
pub(super) fn message_id(session: &SessionId, name: &str) -> Option<MessageId> {
    let mut hash = Sha256::new();
    hash.update(session.as_str());
    hash.update([0]);
    hash.update(name);
    let hash = data_encoding::HEXLOWER.encode(hash.finalize().get(..16).unwrap_or_default());
    MessageId::new(format!("oc-{hash}")).ok()
}

/// What the result of a tool call is named after.
pub(super) fn result_name(run: &str, call: &str) -> String {
    format!("result:{run}:{call}")
}

/// What words are known by.
pub(super) fn digest(words: &str) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(words.trim()))
}

/// The messages of a history, in its order.
pub(super) fn parts(rows: &[Value]) -> Vec<Part> {
    let mut texts = HashMap::new();
    let before = std::iter::once(None).chain(rows.iter().map(Some));
    let rows = rows.iter().zip(before).filter(|(row, before)| !before.is_some_and(|before| is_the_same(before, row)));
    rows.flat_map(|(row, _)| of_row(row, &mut texts)).collect()
}

/// True for the second of the two rows in which releases of protocol 3 keep what an aborted run had said: the gateway's
/// own, then the model's (measured on 2026.4.15).
fn is_the_same(before: &Value, row: &Value) -> bool {
    let is_aborted = before.pointer("/openclawAbort/aborted").and_then(Value::as_bool) == Some(true);
    let is_again = str_at(row, "/stopReason") == Some("aborted") && row.get("openclawAbort").is_none();
    let (said, again) = (text_of(before.get("content")), text_of(row.get("content")));
    is_aborted && is_again && again.trim().starts_with(said.trim())
}

/// The text of a `content`, which is a string or a list of parts.
pub(super) fn text_of(content: Option<&Value>) -> String {
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let texts = parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str));
            texts.collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

/// What we are called at a gateway: it puts this beside what we send.
pub(super) const OUR_NAME: &str = "Mosaic Mesh";
/// How the ids of messages begin with which the provider itself takes up a run.
pub(super) const RESUME: &str = "mosaic-resume-";

fn str_at<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn of_row(row: &Value, texts: &mut HashMap<String, u32>) -> Vec<Part> {
    let timestamp = row.get("timestamp").and_then(Value::as_i64).unwrap_or_default();
    let seq = row.pointer("/__openclaw/seq").and_then(Value::as_i64).unwrap_or_default();
    // Old rows without an id are told apart by place and time.
    let id = str_at(row, "/__openclaw/id").map_or_else(|| format!("{seq}@{timestamp}"), str::to_owned);
    let run = str_at(row, "/__openclaw/runId").map(str::to_owned);
    let mut metadata = Metadata::from_iter([("source".to_owned(), "openclaw".into())]);
    for (key, pointer) in [("model", "/model"), ("provenance", "/provenance/kind")] {
        if let Some(text) = str_at(row, pointer) {
            metadata.insert(key.into(), text.into());
        }
    }
    if row.pointer("/openclawAbort/aborted").and_then(Value::as_bool) == Some(true) {
        metadata.insert("aborted".into(), true.into());
    }
    let base = Part {
        row: id.clone(),
        name: id.clone(),
        role: Role::System,
        kind: MessageKind::Text,
        content: String::new(),
        timestamp: Timestamp::from_millis(timestamp),
        metadata,
        arrival: None,
        words: None,
        is_steered: false,
        run,
        is_reset: false,
    };
    let content = row.get("content");
    match row.get("role").and_then(Value::as_str).unwrap_or_default() {
        "user" => {
            let text = text_of(content);
            let key = str_at(row, "/idempotencyKey").or_else(|| str_at(row, "/__openclaw/idempotencyKey"));
            let arrival = key.and_then(|key| key.strip_suffix(":user")).map(str::to_owned);
            let is_a_resume = arrival.as_deref().is_some_and(|arrival| arrival.starts_with(RESUME));
            let is_nobodys = is_a_resume || is_the_gateways(row, &text);
            let role = if is_nobodys { Role::System } else { Role::User };
            let is_steered = str_at(row, "/__openclaw/steerTargetRunId").is_some();
            let is_ours = key.is_none() && str_at(row, "/senderLabel").is_some_and(|label| label.starts_with(OUR_NAME));
            let words = is_ours.then(|| digest(&text));
            vec![Part { role, content: text, arrival, words, is_steered, ..base }]
        }
        "assistant" => assistant(row, base, texts),
        "toolResult" => {
            let mut part = Part { role: Role::Agent, kind: MessageKind::ToolResult, content: text_of(content), ..base };
            for (key, pointer) in [("tool", "/toolName"), ("callId", "/toolCallId")] {
                if let Some(text) = str_at(row, pointer) {
                    part.metadata.insert(key.into(), text.into());
                }
            }
            if row.get("isError").and_then(Value::as_bool) == Some(true) {
                part.metadata.insert("isError".into(), "true".into());
            }
            if let Some(call) = str_at(row, "/toolCallId") {
                part.name = result_name(part.run.as_deref().unwrap_or_default(), call);
            }
            vec![part]
        }
        role => {
            let is_reset = str_at(row, "/__openclaw/kind") == Some("reset");
            let kind = if is_reset { MessageKind::Status } else { MessageKind::Text };
            let mut part = Part { kind, content: text_of(content), is_reset, ..base };
            part.metadata.insert("rowRole".into(), role.into());
            if part.content.is_empty() { vec![] } else { vec![part] }
        }
    }
}

fn assistant(row: &Value, base: Part, texts: &mut HashMap<String, u32>) -> Vec<Part> {
    let id = base.row.clone();
    let mut count = |what: &str| {
        let count = texts.entry(format!("{id}.{what}")).or_default();
        *count += 1;
        format!("{id}.{what}{count}")
    };
    let mut found = vec![];
    let whole = [serde_json::json!({"type": "text", "text": row.get("content").and_then(Value::as_str)})];
    let items = row.get("content").and_then(Value::as_array).map_or(whole.as_slice(), Vec::as_slice);
    for item in items {
        let mut part = Part { role: Role::Agent, ..base.clone() };
        match item.get("type").and_then(Value::as_str) {
            Some("text") => {
                part.content = str_at(item, "/text").unwrap_or_default().to_owned();
                part.row = count("t");
            }
            Some("thinking" | "reasoning") => {
                let text = str_at(item, "/thinking").or_else(|| str_at(item, "/text"));
                part.content = text.unwrap_or_default().to_owned();
                part.kind = MessageKind::Reasoning;
                part.row = count("r");
            }
            Some("toolCall" | "tool_use") => {
                let call = str_at(item, "/id").map_or_else(|| count("c"), str::to_owned);
                part.kind = MessageKind::ToolCall;
                let input = item.get("arguments").or_else(|| item.get("input")).unwrap_or(&Value::Null);
                part.content = input.as_str().map_or_else(|| input.to_string(), str::to_owned);
                part.metadata.insert("tool".into(), str_at(item, "/name").unwrap_or_default().into());
                part.row = format!("{id}.{call}");
                part.metadata.insert("callId".into(), call.into());
            }
            _ => continue,
        }
        if !part.content.trim().is_empty() {
            part.name = part.row.clone();
            found.push(part);
        }
    }
    if let Some(error) = str_at(row, "/errorMessage") {
        let mut part = Part { kind: MessageKind::Status, content: error.to_owned(), ..base };
        part.row = format!("{id}.error");
        part.name = part.row.clone();
        found.push(part);
    }
    found
}

/// True for what the gateway itself writes into the conversation under the name of the user.
fn is_the_gateways(row: &Value, text: &str) -> bool {
    str_at(row, "/provenance/kind").is_some_and(|kind| kind.starts_with("internal"))
        || text.trim_start().starts_with("<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>")
        || text.trim_start().starts_with("[Internal task completion event]")
        || text.trim_start().starts_with("[System] ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rows() -> Vec<Value> {
        let at = |id: &str, seq: u32| json!({"id": id, "seq": seq, "runId": "r"});
        vec![
            json!({"role": "user", "content": "hi", "timestamp": 5, "idempotencyKey": "m1:user",
                "__openclaw": {"id": "a", "seq": 1, "steerTargetRunId": "r"}}),
            json!({"role": "assistant", "content": [{"type": "text", "text": "let me look"}], "__openclaw": at("b", 2)}),
            json!({"role": "assistant", "content": [{"type": "toolCall", "id": "call_1", "name": "exec",
                "arguments": {"command": "ls"}}], "__openclaw": at("b", 2)}),
            json!({"role": "toolResult", "toolCallId": "call_1", "toolName": "exec", "isError": true,
                "content": [{"type": "text", "text": "no"}], "__openclaw": at("c", 3)}),
            json!({"role": "user", "content": "x", "provenance": {"kind": "internal_system"}, "__openclaw": at("d", 4)}),
            json!({"role": "system", "content": [{"type": "text", "text": "Reset"}],
                "__openclaw": {"kind": "reset", "id": "e", "seq": 1}}),
        ]
    }

    #[test]
    fn every_part_has_its_role_its_kind_and_its_own_identity() {
        let parts = parts(&rows());
        let shape: Vec<_> =
            parts.iter().map(|p| (p.role.as_str(), p.kind.as_str(), p.row.as_str(), p.content.as_str())).collect();
        assert_eq!(
            shape,
            [
                ("user", "text", "a", "hi"),
                ("agent", "text", "b.t1", "let me look"),
                ("agent", "toolCall", "b.call_1", r#"{"command":"ls"}"#),
                ("agent", "toolResult", "c", "no"),
                ("system", "text", "d", "x"),
                ("system", "status", "e", "Reset"),
            ]
        );
        assert_eq!((parts[0].arrival.as_deref(), parts[0].is_steered), (Some("m1"), true));
        assert_eq!(parts[3].name, "result:r:call_1");
        assert!(parts[5].is_reset);
    }

    #[test]
    fn what_protocol_3_keeps_twice_of_an_aborted_run_is_told_once() {
        let text = |text: &str| json!([{"type": "text", "text": text}]);
        let rows = [
            json!({"role": "user", "content": text("go"), "senderLabel": "Mosaic Mesh (gateway-client)",
                "__openclaw": {"id": "a", "seq": 1}}),
            json!({"role": "assistant", "content": text("part ial"), "openclawAbort": {"aborted": true},
                "__openclaw": {"id": "b", "seq": 2}}),
            json!({"role": "assistant", "content": text("part ial w2 "), "stopReason": "aborted",
                "errorMessage": "Request was aborted", "__openclaw": {"id": "c", "seq": 3}}),
        ];
        let parts = parts(&rows);
        assert_eq!(parts.iter().map(|part| part.row.as_str()).collect::<Vec<_>>(), ["a", "b.t1"]);
        assert_eq!(parts[0].words, Some(digest(" go\n")));
    }

    #[test]
    fn a_part_keeps_its_identity_when_its_sibling_is_missing() {
        let all = rows();
        let (with, without) = (parts(&all), parts(&all[2..]));
        assert_eq!(with[2].row, without[0].row);
    }
}
