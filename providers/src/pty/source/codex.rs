//! Rollout files of Codex: every line `{"timestamp","type","payload"}`.
//!
//! Messages are taken from completed items, tool calls and their results from response items, where they are whole; a
//! command's result from its execution item, which has the plain output and the exit code. Versions without items have
//! `user_message` and `agent_message` events instead.

use bus_schema::{MessageKind, Role, SessionId, Turn};
use serde_json::Value;

use super::tail::Tail;
use super::{Found, message, session_of_uuid, text, texts};
use crate::pty::report::Report;

/// The rollout files that these processes have open.
pub(super) fn search(processes: &[i32]) -> Vec<Found> {
    let mut found = vec![];
    for pid in processes {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        for path in open.filter_map(|entry| std::fs::read_link(entry.path()).ok()) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with("rollout-") && name.ends_with(".jsonl") {
                found.push(Found { path, child: None });
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// The child whose conversation this is, if the line says so.
pub(super) fn child(line: &Value) -> Option<SessionId> {
    let meta = line.get("payload").filter(|_| text(line, "type") == "session_meta")?;
    let is_child = meta.get("parent_thread_id").is_some_and(Value::is_string)
        || meta.get("source").is_some_and(|source| source.get("subagent").is_some());
    session_of_uuid(text(meta, "id")).filter(|_| is_child)
}

/// What a line says.
pub(super) fn take(tail: &mut Tail, line: &Value) -> Vec<Report> {
    let Some(payload) = line.get("payload") else { return vec![] };
    match text(line, "type") {
        "session_meta" => {
            let Some(id) = child(line) else { return vec![] };
            tail.child = Some(id.clone());
            let title = Some(text(payload, "agent_nickname")).filter(|name| !name.is_empty()).map(Into::into);
            vec![Report::Child { session_id: Some(id), title, agent_type: Some("codex".into()), ended: false }]
        }
        "response_item" => item(tail, payload).into_iter().collect(),
        "event_msg" => event(tail, payload).into_iter().collect(),
        _ => vec![],
    }
}

fn item(tail: &mut Tail, item: &Value) -> Option<Report> {
    let (call, child) = (text(item, "call_id"), tail.child.as_ref());
    let tool_call = |tool: &str, content: String| {
        Some(message(Role::Agent, MessageKind::ToolCall, content, &[("tool", tool), ("callId", call)], child))
    };
    match text(item, "type") {
        "function_call" => tool_call(text(item, "name"), arguments(text(item, "arguments"))),
        "custom_tool_call" => tool_call(text(item, "name"), text(item, "input").into()),
        "local_shell_call" => tool_call("shell", words(item.pointer("/action/command"))),
        "web_search_call" => {
            let query = item.pointer("/action/query").and_then(Value::as_str).unwrap_or_default();
            tool_call("web_search", query.into())
        }
        "function_call_output" | "custom_tool_call_output" => {
            if tail.answered.contains(call) {
                return None;
            }
            let output = item.get("output")?;
            let content = match output {
                Value::String(text) => text.clone(),
                Value::Array(_) => texts(output),
                other => other.get("content").and_then(Value::as_str).map_or_else(|| other.to_string(), Into::into),
            };
            Some(message(Role::Agent, MessageKind::ToolResult, content, &[("callId", call)], child))
        }
        "reasoning" => {
            let thoughts = item.get("summary").map(texts).filter(|thoughts| !thoughts.is_empty())?;
            Some(message(Role::Agent, MessageKind::Reasoning, thoughts, &[], child))
        }
        _ => None,
    }
}

fn event(tail: &mut Tail, event: &Value) -> Option<Report> {
    let child = tail.child.clone();
    let say = |role: Role, kind: MessageKind, content: &str| {
        (!content.is_empty()).then(|| message(role, kind, content.into(), &[], child.as_ref()))
    };
    match text(event, "type") {
        "item_completed" => completed(tail, event.get("item")?),
        "user_message" if !tail.has_items => say(Role::User, MessageKind::Text, text(event, "message")),
        "agent_message" if !tail.has_items => say(Role::Agent, MessageKind::Text, text(event, "message")),
        "error" | "warning" | "stream_error" => say(Role::System, MessageKind::Text, text(event, "message")),
        "turn_aborted" => {
            let reason = format!("turn aborted: {}", text(event, "reason"));
            say(Role::System, MessageKind::Status, &reason)
        }
        // The session's own turn is told by its terminal, approvals included; a child has none.
        "task_started" => child.map(|child| turn(Turn::Active, child)),
        "task_complete" => child.map(|child| turn(Turn::Idle, child)),
        _ => None,
    }
}

fn turn(turn: Turn, child: SessionId) -> Report {
    Report::Status { turn: Some(turn), status: None, reason: None, session_id: Some(child) }
}

fn completed(tail: &mut Tail, item: &Value) -> Option<Report> {
    let say = |role: Role, tail: &mut Tail| {
        tail.has_items = true;
        let content = item.get("content").map(texts).filter(|content| !content.is_empty())?;
        Some(message(role, MessageKind::Text, content, &[], tail.child.as_ref()))
    };
    match text(item, "type") {
        "UserMessage" => say(Role::User, tail),
        "AgentMessage" => say(Role::Agent, tail),
        "CommandExecution" => {
            let call = text(item, "id");
            tail.answered.insert(call.into());
            let code = item.get("exit_code").and_then(Value::as_i64).map(|code| code.to_string()).unwrap_or_default();
            let content = text(item, "aggregated_output").to_owned();
            let facts = [("callId", call), ("exitCode", code.as_str())];
            Some(message(Role::Agent, MessageKind::ToolResult, content, &facts, tail.child.as_ref()))
        }
        _ => None,
    }
}

/// The arguments of a call as a person would write them: the command, where it is one.
fn arguments(json: &str) -> String {
    let Ok(value) = serde_json::from_str::<Value>(json) else { return json.into() };
    let command = value.get("cmd").or_else(|| value.get("command"));
    match command {
        Some(Value::String(command)) => command.clone(),
        Some(list @ Value::Array(_)) => words(Some(list)),
        Some(_) | None => json.into(),
    }
}

fn words(list: Option<&Value>) -> String {
    let list = list.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
}
