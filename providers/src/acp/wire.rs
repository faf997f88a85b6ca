//! Lines of the Agent Client Protocol, version 1: JSON-RPC 2.0, one object a line. Pure; called by the client, which
//! speaks, and by the conversation, which listens to both sides.
//!
//! What comes is kept as JSON values: an update of a kind that we do not know, or with one odd field, must not take the
//! rest of its line with it. What goes out is judged by the real adapters, which check it against the schema.

use serde_json::{Value, json};

/// The version of the protocol that we speak.
pub(crate) const VERSION: u64 = 1;
/// JSON-RPC: there is no such method (specification, section 5.1).
pub(crate) const METHOD_NOT_FOUND: i64 = -32601;

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Heard {
    /// Wants an answer.
    Request {
        /// The asker's own, a number or a text.
        id: Value,
        /// What is wanted.
        method: String,
        /// Of what.
        params: Value,
    },
    /// Wants none.
    Notice {
        /// What is told.
        method: String,
        /// Of what.
        params: Value,
    },
    /// To a request.
    Answer {
        /// The id of the request.
        id: Value,
        /// What came of it.
        result: Result<Value, Failure>,
    },
}

/// A request went wrong.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure {
    /// By JSON-RPC or the agent.
    pub code: i64,
    /// For people.
    pub message: String,
}

/// What a line says; `None` if it is none of the protocol.
pub(crate) fn hear(line: &[u8]) -> Option<Heard> {
    let Value::Object(mut object) = serde_json::from_slice(line).ok()? else { return None };
    let id = object.remove("id");
    let params = object.remove("params").unwrap_or_default();
    if let Some(Value::String(method)) = object.remove("method") {
        return Some(match id {
            Some(id) => Heard::Request { id, method, params },
            None => Heard::Notice { method, params },
        });
    }
    let result = match (object.remove("result"), object.remove("error")) {
        (_, Some(error)) => {
            let message = error.get("message").and_then(Value::as_str).unwrap_or("an error without a word");
            let code = error.get("code").and_then(Value::as_i64).unwrap_or_default();
            Err(Failure { code, message: message.into() })
        }
        (Some(result), None) => Ok(result),
        (None, None) => return None,
    };
    Some(Heard::Answer { id: id?, result })
}

fn line(value: &Value) -> Vec<u8> {
    format!("{value}\n").into_bytes()
}

fn request(id: u64, method: &str, params: Value) -> Vec<u8> {
    line(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
}

/// Agree on a version. We offer neither files nor a terminal: the agent uses its own, which are held with it.
pub(crate) fn initialize(id: u64) -> Vec<u8> {
    let files = json!({"readTextFile": false, "writeTextFile": false});
    let ours = json!({"name": "mosaic-mesh", "version": env!("CARGO_PKG_VERSION")});
    // Sub-agents: theirs is told as a session of its own (a draft of ACP; seen with codex-acp 2.6, claude-agent-acp 0.101).
    let can = json!({"fs": files, "terminal": false, "subagents": {}});
    request(id, INITIALIZE, json!({"protocolVersion": VERSION, "clientCapabilities": can, "clientInfo": ours}))
}

/// Open a session of the agent in this folder.
pub(crate) fn new_session(id: u64, cwd: &str) -> Vec<u8> {
    request(id, NEW_SESSION, json!({"cwd": cwd, "mcpServers": []}))
}

/// Go on with an earlier session of the agent, by its own name for it: silently, or ([`LOAD`]) telling it all again.
pub(crate) fn go_on(id: u64, method: &str, conversation: &str, cwd: &str) -> Vec<u8> {
    request(id, method, json!({"sessionId": conversation, "cwd": cwd, "mcpServers": []}))
}

/// How this agent goes on with an earlier session, by its answer to [`initialize`]; `None` if it does not.
pub(crate) fn way_to_go_on(initialized: &Value) -> Option<&'static str> {
    let can = initialized.get("agentCapabilities")?;
    let resumes = can.pointer("/sessionCapabilities/resume").is_some_and(|resume| !resume.is_null());
    let loads = can.get("loadSession").and_then(Value::as_bool) == Some(true);
    if resumes { Some(RESUME) } else { loads.then_some(LOAD) }
}

/// Begin a turn.
pub(crate) fn prompt(id: u64, session: &str, text: &str) -> Vec<u8> {
    request(id, PROMPT, json!({"sessionId": session, "prompt": [{"type": "text", "text": text}]}))
}

/// Put words into the running turn. An extension, advertised as `_meta.steering.supported` (seen with codex-acp 2.6 and
/// claude-agent-acp 0.101); an agent without a turn is to say so instead of beginning one.
pub(crate) fn steer(id: u64, session: &str, text: &str) -> Vec<u8> {
    let idle = json!({"steering": {"idleBehavior": "promptRequired"}});
    request(id, STEER, json!({"sessionId": session, "prompt": [{"type": "text", "text": text}], "_meta": idle}))
}

/// End the running turn.
pub(crate) fn cancel(session: &str) -> Vec<u8> {
    line(&json!({"jsonrpc": "2.0", "method": CANCEL, "params": {"sessionId": session}}))
}

/// The answer to a request for leave: this option, or that there is no answer any more.
pub(crate) fn decide(id: &Value, option: Option<&str>) -> Vec<u8> {
    let outcome = match option {
        Some(option) => json!({"outcome": "selected", "optionId": option}),
        None => json!({"outcome": "cancelled"}),
    };
    line(&json!({"jsonrpc": "2.0", "id": id, "result": {"outcome": outcome}}))
}

/// The answer to a request that we do not know.
pub(crate) fn refuse(id: &Value, method: &str) -> Vec<u8> {
    let error = json!({"code": METHOD_NOT_FOUND, "message": format!("this client does not offer {method}")});
    line(&json!({"jsonrpc": "2.0", "id": id, "error": error}))
}

/// Method names of the protocol.
pub(crate) const INITIALIZE: &str = "initialize";
/// See [`new_session`].
pub(crate) const NEW_SESSION: &str = "session/new";
/// See [`go_on`]. What was said before is not told again.
pub(crate) const RESUME: &str = "session/resume";
/// See [`go_on`]. What was said before is told again before the answer.
pub(crate) const LOAD: &str = "session/load";
/// See [`prompt`].
pub(crate) const PROMPT: &str = "session/prompt";
/// See [`steer`].
pub(crate) const STEER: &str = "_session/steering";
/// See [`cancel`].
pub(crate) const CANCEL: &str = "session/cancel";
/// The agent tells what it does.
pub(crate) const UPDATE: &str = "session/update";
/// Of an [`UPDATE`]: how a sub-agent stands.
pub(crate) const SUBAGENT: &str = "subagent_update";
/// Of an [`UPDATE`]: what one of two related sessions says to the other; told to both.
pub(crate) const BETWEEN: &str = "session_message";
/// The agent asks for leave.
pub(crate) const PERMISSION: &str = "session/request_permission";
/// The asker takes a request back (JSON-RPC extension of ACP).
pub(crate) const CANCEL_REQUEST: &str = "$/cancel_request";

/// The kind of a `session/update`.
pub(crate) fn update_kind(update: &Value) -> &str {
    text_of(update, "sessionUpdate").unwrap_or_default()
}

/// A text field.
pub(crate) fn text_of<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

/// True for updates that only a working agent sends: they show that it has begun with what it was given.
pub(crate) fn shows_work(update: &Value) -> bool {
    matches!(
        update_kind(update),
        "agent_message_chunk"
            | "agent_thought_chunk"
            | "user_message_chunk"
            | "tool_call"
            | "tool_call_update"
            | "plan"
    )
}

/// The text of a content block; a mark for what is no text.
pub(crate) fn text_of_content(content: &Value) -> String {
    let named = |key: &str| text_of(content, key).unwrap_or("?").to_owned();
    match text_of(content, "type") {
        Some("text") => text_of(content, "text").unwrap_or_default().to_owned(),
        Some("resource_link") => format!("[{}]", named("uri")),
        Some("resource") => {
            let resource = content.get("resource").cloned().unwrap_or_default();
            let uri = text_of(&resource, "uri").unwrap_or("?");
            text_of(&resource, "text").map_or_else(|| format!("[{uri}]"), ToOwned::to_owned)
        }
        Some(kind) => format!("[{kind} {}]", named("mimeType")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(line: &[u8]) -> Value {
        serde_json::from_slice::<Value>(line).unwrap()["params"].clone()
    }

    /// Names and forms as in the schema of protocol version 1 (read in `agent-client-protocol-schema` 1.20).
    #[test]
    fn what_we_say_is_what_the_protocol_says() {
        let first = params(&initialize(0));
        assert_eq!(first["protocolVersion"], 1);
        let files = json!({"readTextFile": false, "writeTextFile": false});
        let offered = json!({"fs": files, "terminal": false, "subagents": {}});
        assert_eq!(first["clientCapabilities"], offered);
        assert_eq!(params(&new_session(1, "/srv/x")), json!({"cwd": "/srv/x", "mcpServers": []}));
        assert_eq!(params(&go_on(1, LOAD, "s", "/x")), json!({"sessionId": "s", "cwd": "/x", "mcpServers": []}));
        let turn = json!({"sessionId": "s", "prompt": [{"type": "text", "text": "a \"b\"\nc"}]});
        assert_eq!(params(&prompt(2, "s", "a \"b\"\nc")), turn);
        assert_eq!(params(&cancel("s")), json!({"sessionId": "s"}));
        for (option, outcome) in [
            (Some("allow"), json!({"outcome": "selected", "optionId": "allow"})),
            (None, json!({"outcome": "cancelled"})),
        ] {
            let line: Value = serde_json::from_slice(&decide(&json!("r1"), option)).unwrap();
            assert_eq!(line, json!({"jsonrpc": "2.0", "id": "r1", "result": {"outcome": outcome}}));
        }
        assert_eq!(prompt(2, "s", "a\nb").iter().filter(|byte| **byte == b'\n').count(), 1, "one line");
    }

    #[test]
    fn an_agent_goes_on_in_the_quieter_way_that_it_offers() {
        for (can, way) in [
            (json!({"loadSession": true, "sessionCapabilities": {"resume": {}}}), Some(RESUME)),
            (json!({"loadSession": true, "sessionCapabilities": {"resume": null}}), Some(LOAD)),
            (json!({"loadSession": false, "sessionCapabilities": {"list": {}}}), None),
            (json!({}), None),
        ] {
            assert_eq!(way_to_go_on(&json!({"agentCapabilities": can})), way);
        }
        assert_eq!(way_to_go_on(&json!({})), None);
    }

    #[test]
    fn lines_are_told_apart() {
        let kinds = [
            (r#"{"jsonrpc":"2.0","id":"a","method":"m","params":{"x":1}}"#, "request"),
            (r#"{"jsonrpc":"2.0","method":"m"}"#, "notice"),
            (r#"{"jsonrpc":"2.0","id":3,"result":null}"#, "answer"),
            (r#"{"id":3,"error":{"code":-1,"message":"no"}}"#, "failure"),
            (r#"{"id":3}"#, "none"),
            ("[1]", "none"),
            ("npm warn", "none"),
        ];
        for (line, kind) in kinds {
            let heard = match hear(line.as_bytes()) {
                Some(Heard::Request { .. }) => "request",
                Some(Heard::Notice { .. }) => "notice",
                Some(Heard::Answer { result: Ok(_), .. }) => "answer",
                Some(Heard::Answer { result: Err(Failure { code: -1, .. }), .. }) => "failure",
                Some(Heard::Answer { result: Err(_), .. }) | None => "none",
            };
            assert_eq!(heard, kind, "{line}");
        }
    }

    #[test]
    fn content_that_is_no_text_is_named() {
        for (content, text) in [
            (json!({"type": "text", "text": "hi"}), "hi"),
            (json!({"type": "image", "mimeType": "image/png", "data": "AAAA"}), "[image image/png]"),
            (json!({"type": "resource_link", "uri": "file:///x", "name": "x"}), "[file:///x]"),
            (json!({"type": "resource", "resource": {"uri": "file:///x", "text": "in it"}}), "in it"),
            (json!(7), ""),
        ] {
            assert_eq!(text_of_content(&content), text);
        }
    }
}
