//! Transcripts of Claude Code: one entry a line, most of them bookkeeping; only `user`, `assistant` and a few others are
//! the conversation.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bus_schema::{MessageKind, Role, SessionId, Turn};
use serde_json::Value;

use super::tail::Tail;
use super::{Found, message, text, texts};
use crate::process::ProcessId;
use crate::pty::report::Report;

/// The transcripts of these processes, and of their sub-agents.
pub(super) fn search(processes: &[i32]) -> Vec<Found> {
    let mut found: Vec<Found> = processes.iter().flat_map(|pid| transcripts(*pid)).collect();
    found.sort();
    found.dedup();
    // The session's own first.
    found.sort_by_key(|found| found.child.is_some());
    found
}

fn transcripts(pid: i32) -> Vec<Found> {
    let Some((config, id)) = conversation(pid) else { return vec![] };
    let projects = std::fs::read_dir(config.join("projects")).into_iter().flatten().flatten();
    let transcript = projects.map(|project| project.path().join(format!("{id}.jsonl"))).find(|path| path.is_file());
    let Some(transcript) = transcript else { return vec![] };
    let agents = std::fs::read_dir(transcript.with_extension("").join("subagents")).into_iter().flatten().flatten();
    let agents = agents.filter_map(|entry| {
        let name = entry.file_name();
        let agent = name.to_str()?.strip_prefix("agent-")?.strip_suffix(".jsonl")?.to_owned();
        Some(Found { path: entry.path(), child: Some(child(&id, &agent)?) })
    });
    agents.chain([Found { path: transcript.clone(), child: None }]).collect()
}

/// The configuration folder of a process and the id of its conversation, if it is a Claude Code.
fn conversation(pid: i32) -> Option<(PathBuf, String)> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let variable = |name: &[u8]| {
        let found = environment.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(name)?.strip_prefix(b"="));
        found.filter(|value| !value.is_empty()).map(|value| PathBuf::from(OsStr::from_bytes(value)))
    };
    let config = variable(b"CLAUDE_CONFIG_DIR").or_else(|| variable(b"HOME").map(|home| home.join(".claude")))?;
    let facts = std::fs::read(config.join("sessions").join(format!("{pid}.json"))).ok()?;
    let facts: Value = serde_json::from_slice(&facts).ok()?;
    // Of this process, and not of an earlier one with its number.
    let started = text(&facts, "procStart");
    let is_its = ProcessId::of(pid).is_some_and(|process| started.is_empty() || process.start.to_string() == started);
    let id = text(&facts, "sessionId");
    let is_plain = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    (is_its && is_plain).then(|| (config, id.to_owned()))
}

/// The session id that stands for a sub-agent: the first half of its session's, and its own number.
pub(crate) fn child(conversation: &str, agent: &str) -> Option<SessionId> {
    let digits: String = conversation.chars().filter(|c| *c != '-').collect();
    let parent = u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32)?;
    let own = u64::from_str_radix(agent.get(agent.len().saturating_sub(16)..)?, 16).ok()?;
    SessionId::new(ulid::Ulid::from((parent >> 64 << 64) | u128::from(own)).to_string()).ok()
}

/// What a line says.
pub(super) fn take(tail: &mut Tail, line: &Value) -> Vec<Report> {
    let mut reports = vec![];
    if let Some(child) = tail.child.clone().filter(|_| !tail.is_told) {
        tail.is_told = true;
        let title = title(&tail.facts);
        reports.push(Report::Child { session_id: Some(child), title, agent_type: Some("claude".into()), ended: false });
    }
    let child = tail.child.as_ref();
    // In the session's own file, lines of sub-agents are told in theirs.
    if child.is_none() && line.get("isSidechain").and_then(Value::as_bool) == Some(true) {
        return reports;
    }
    match text(line, "type") {
        "user" => reports.extend(user(line, child)),
        "assistant" => reports.extend(assistant(line, child)),
        // What a person typed in the middle of a turn, when it enters the conversation.
        "attachment" if line.pointer("/attachment/type").and_then(Value::as_str) == Some("queued_command") => {
            let prompt = line.pointer("/attachment/prompt").and_then(Value::as_str).unwrap_or_default();
            reports.extend(said(prompt, line.get("attachment").unwrap_or(line), child));
        }
        _ => {}
    }
    reports
}

fn title(facts: &Path) -> Option<String> {
    let facts: Value = serde_json::from_slice(&std::fs::read(facts).ok()?).ok()?;
    Some(text(&facts, "description").to_owned()).filter(|title| !title.is_empty())
}

fn user(line: &Value, child: Option<&SessionId>) -> Vec<Report> {
    if line.get("isMeta").and_then(Value::as_bool) == Some(true) {
        return vec![];
    }
    let content = line.pointer("/message/content");
    let mut reports = vec![];
    match content {
        Some(Value::String(text)) => reports.extend(said(text, line, child)),
        Some(Value::Array(parts)) => {
            for part in parts {
                match text(part, "type") {
                    "text" => reports.extend(said(text(part, "text"), line, child)),
                    "tool_result" => {
                        let content = match part.get("content") {
                            Some(Value::String(text)) => text.clone(),
                            Some(parts) => texts(parts),
                            None => String::new(),
                        };
                        let failed = part.get("is_error").and_then(Value::as_bool) == Some(true);
                        let facts =
                            [("callId", text(part, "tool_use_id")), ("isError", if failed { "true" } else { "" })];
                        reports.push(message(Role::Agent, MessageKind::ToolResult, content, &facts, child));
                    }
                    _ => {}
                }
            }
        }
        Some(_) | None => {}
    }
    reports
}

/// A text on the user's side: a person's, or the machine's own.
fn said(content: &str, line: &Value, child: Option<&SessionId>) -> Option<Report> {
    if content.is_empty() {
        return None;
    }
    let origin = line.pointer("/origin/kind").and_then(Value::as_str);
    let is_machine = content.starts_with('<') || content.starts_with("[Request interrupted");
    let role = match origin {
        Some("human") => Role::User,
        None if !is_machine => Role::User,
        Some(_) | None => Role::System,
    };
    Some(message(role, MessageKind::Text, content.into(), &[], child))
}

fn assistant(line: &Value, child: Option<&SessionId>) -> Vec<Report> {
    let failed = line.get("isApiErrorMessage").and_then(Value::as_bool) == Some(true);
    let role = if failed { Role::System } else { Role::Agent };
    let mut reports = vec![];
    for part in line.pointer("/message/content").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default() {
        let (kind, content, facts) = match text(part, "type") {
            "text" => (MessageKind::Text, text(part, "text").to_owned(), [("", ""), ("", "")]),
            "thinking" => (MessageKind::Reasoning, text(part, "thinking").to_owned(), [("", ""), ("", "")]),
            "tool_use" => {
                let facts = [("tool", text(part, "name")), ("callId", text(part, "id"))];
                (MessageKind::ToolCall, input(part.get("input").unwrap_or(&Value::Null)), facts)
            }
            _ => continue,
        };
        if !content.is_empty() {
            reports.push(message(role.clone(), kind, content, &facts, child));
        }
    }
    // A sub-agent has no terminal that would tell.
    if let Some(child) = child {
        let over = line.pointer("/message/stop_reason").and_then(Value::as_str) == Some("end_turn");
        let turn = Some(if over { Turn::Idle } else { Turn::Active });
        reports.push(Report::Status { turn, status: None, reason: None, session_id: Some(child.clone()) });
    }
    reports
}

/// The input of a tool as a person would write it: the command, where it is one.
pub(crate) fn input(input: &Value) -> String {
    match input.get("command") {
        Some(Value::String(command)) => command.clone(),
        Some(_) | None => input.to_string(),
    }
}
