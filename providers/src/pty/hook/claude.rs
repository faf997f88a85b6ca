//! Hooks of Claude Code: how they are set up for a session, what their events say, how a request is answered.
//!
//! | event | tells |
//! |---|---|
//! | `SessionStart` | that requests can be answered |
//! | `UserPromptSubmit` | the turn is active; the receipt of an operator message |
//! | `PreToolUse`, `PostToolUse` | the turn is active, of a sub-agent where `agent_id` is there; leave was given |
//! | `PermissionRequest` | a request; answered by what the hook prints |
//! | `SubagentStart`, `SubagentStop` | a child, and that its turn is over: it may be given another one |
//! | `Stop` | the turn is over; the session waits, unless `background_tasks` run |
//! | `SessionEnd` | the conversation is over, and perhaps the program |
//!
//! Seen with Claude Code 2.1.330. The hook of a request runs beside the dialog, and whoever is first decides: leave given
//! by the hook closes the dialog, Esc in the dialog ends the hook with SIGTERM, a key in it leaves the hook running.
//! Messages are not taken from here, but from the transcript.

use std::ffi::OsString;
use std::path::Path;

use bus_schema::{AnswerOption, AttentionKind, OptionKind, SessionId, Status, Turn};
use serde_json::{Value, json};

use super::{DECIDED_WITHIN, Decision, Told};
use crate::pty::kind;
use crate::pty::report::Report;
use crate::pty::source::claude::{child, input};

/// Events that are asked for, with how long the hook may take, in seconds. Names that a version does not know make it
/// refuse the settings, so only those are asked for that are needed.
const EVENTS: [(&str, u64); 9] = [
    ("SessionStart", 10),
    ("UserPromptSubmit", 10),
    ("PreToolUse", 10),
    ("PermissionRequest", DECIDED_WITHIN.as_secs()),
    ("PostToolUse", 10),
    ("SubagentStart", 10),
    ("SubagentStop", 10),
    ("Stop", 10),
    ("SessionEnd", 10),
];
/// Tools that ask the user something, or show a plan: what the hook could answer is not what they ask for.
const ASK_FOR_MORE: [&str; 2] = ["AskUserQuestion", "ExitPlanMode"];
/// Arguments that choose which conversation it is.
const CHOOSE_CONVERSATION: [&str; 6] = ["--session-id", "--resume", "-r", "--continue", "-c", "--fork-session"];

/// True if this is Claude Code, without hooks of somebody's own choice.
pub(crate) fn is_ours(command: &[String], agent_type: Option<&str>) -> bool {
    let is_claude = [kind::by_name(command), agent_type].contains(&Some("claude"));
    is_claude && !has(command, &["--settings"])
}

/// The command with our hooks, which are in `settings`, and with a conversation that is named after the session.
pub(crate) fn with_hooks(command: &[String], settings: &Path, session: &SessionId) -> Vec<String> {
    let mut ours = vec!["--settings".to_owned(), settings.display().to_string()];
    if let Some(uuid) = uuid(session).filter(|_| !has(command, &CHOOSE_CONVERSATION)) {
        ours.extend(["--session-id".to_owned(), uuid]);
    }
    // What follows `--` is no option.
    let at = command.iter().position(|word| word == "--").unwrap_or(command.len());
    let (before, after) = command.split_at(at);
    [before, &ours, after].concat()
}

fn has(command: &[String], options: &[&str]) -> bool {
    let words = command.iter().take_while(|word| *word != "--");
    words.into_iter().any(|word| options.iter().any(|option| word.split('=').next() == Some(option)))
}

/// The settings: every event runs `program report hook claude`.
pub(crate) fn settings(program: &[OsString]) -> Value {
    let words = program.iter().map(|word| word.to_string_lossy().into_owned());
    let words = words.chain(["report", "hook", "claude"].map(str::to_owned));
    let command = words.map(|word| quoted(&word)).collect::<Vec<_>>().join(" ");
    let hook = |timeout: u64| json!([{"hooks": [{"type": "command", "command": command, "timeout": timeout}]}]);
    let hooks: serde_json::Map<String, Value> =
        EVENTS.iter().map(|(event, timeout)| ((*event).to_owned(), hook(*timeout))).collect();
    json!({"hooks": hooks})
}

/// A word as a shell takes it for itself.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The name of the conversation: both are 128 bits that begin with the time.
fn uuid(session: &SessionId) -> Option<String> {
    let number = ulid::Ulid::from_string(session.as_str()).ok()?.0;
    let digits = format!("{number:032x}");
    let mut parts = vec![];
    let mut rest = digits.as_str();
    for length in [8, 4, 4, 4, 12] {
        let (part, after) = rest.split_at_checked(length)?;
        parts.push(part);
        rest = after;
    }
    Some(parts.join("-"))
}

/// What an event says.
pub(crate) fn tell(event: &Value) -> Told {
    let text = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default();
    let agent = || child(text("session_id"), text("agent_id"));
    let turn = |turn: Turn, session_id| Report::Status { turn: Some(turn), status: None, reason: None, session_id };
    let reports = match text("hook_event_name") {
        "SessionStart" => vec![Report::Answers],
        "UserPromptSubmit" => {
            vec![turn(Turn::Active, None), Report::Prompt { content: text("prompt").into() }]
        }
        "PreToolUse" => vec![turn(Turn::Active, agent())],
        "PostToolUse" => vec![Report::Called { call: call(event) }, turn(Turn::Active, agent())],
        "PermissionRequest" if ASK_FOR_MORE.contains(&text("tool_name")) => {
            let (kind, text) = (Some(AttentionKind::Question), wanted(event));
            vec![turn(Turn::Blocked, None), Report::Attention { kind, text }]
        }
        "PermissionRequest" => return Told { reports: vec![ask(event)], asks: true },
        "SubagentStart" => agent().map_or(vec![], |agent| {
            let (session_id, agent_type) = (Some(agent.clone()), Some("claude".into()));
            vec![Report::Child { session_id, title: None, agent_type, ended: false }, turn(Turn::Active, Some(agent))]
        }),
        "SubagentStop" => agent().map_or(vec![], |agent| vec![turn(Turn::Idle, Some(agent))]),
        "Stop" => vec![stopped(event)],
        "SessionEnd" => {
            let reason = Some(format!("its conversation is over: {}", text("reason")));
            vec![Report::Status { turn: Some(Turn::Idle), status: None, reason, session_id: None }]
        }
        _ => vec![],
    };
    Told { reports, asks: false }
}

/// The turn is over. With work that goes on behind it, the session does not wait: that work ends in a turn of its own.
fn stopped(event: &Value) -> Report {
    let tasks = event.get("background_tasks").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let running = tasks.iter().filter(|task| task.get("status").and_then(Value::as_str) == Some("running")).count();
    let (status, reason) = match running {
        0 => (Status::Waiting, None),
        1 => (Status::Running, Some("a task of it runs in the background".into())),
        more => (Status::Running, Some(format!("{more} tasks of it run in the background"))),
    };
    Report::Status { turn: Some(Turn::Idle), status: Some(status), reason, session_id: None }
}

fn ask(event: &Value) -> Report {
    let option = |id: &str, label: String, kind| AnswerOption { option_id: id.into(), label, kind };
    let mut options = vec![option("allow", "Yes".into(), OptionKind::AllowOnce)];
    if let Some(always) = always(event) {
        options.push(option("always", format!("Yes, and from now on: {always}"), OptionKind::AllowAlways));
    }
    options.push(option("deny", "No".into(), OptionKind::RejectOnce));
    Report::Ask { request: None, text: wanted(event), call: Some(call(event)), options, takes_text: true }
}

/// What leave is asked for, as a person would write it.
fn wanted(event: &Value) -> String {
    let tool = event.get("tool_name").and_then(Value::as_str).unwrap_or("a tool");
    format!("{tool}: {}", input(event.get("tool_input").unwrap_or(&Value::Null)))
}

/// What the agent suggests to allow from now on.
fn always(event: &Value) -> Option<String> {
    let suggestions = event.get("permission_suggestions")?.as_array()?;
    let words = |suggestion: &Value| {
        let rules = suggestion.get("rules").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let rules = rules.iter().map(|rule| {
            let part = |key: &str| rule.get(key).and_then(Value::as_str).unwrap_or_default();
            match part("ruleContent") {
                "" => part("toolName").to_owned(),
                content => format!("{}({content})", part("toolName")),
            }
        });
        let directories = suggestion.get("directories").and_then(Value::as_array).map(Vec::as_slice);
        let directories = directories.unwrap_or_default().iter().filter_map(Value::as_str).map(str::to_owned);
        let mode = suggestion.get("mode").and_then(Value::as_str).map(|mode| format!("mode {mode}"));
        rules.chain(directories).chain(mode).collect::<Vec<_>>()
    };
    let words: Vec<String> = suggestions.iter().flat_map(words).filter(|word| !word.is_empty()).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// A name for a call, the same before and behind leave for it: the request has no id of its own (FNV-1a, 64 bits).
fn call(event: &Value) -> String {
    let text = format!(
        "{}\n{}",
        event.get("tool_name").unwrap_or(&Value::Null),
        event.get("tool_input").unwrap_or(&Value::Null)
    );
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{hash:016x}")
}

/// What the hook prints for an answer.
pub(crate) fn decided(event: &Value, decision: &Decision) -> Value {
    let mut decided = match decision.option_id.as_str() {
        "allow" => json!({"behavior": "allow"}),
        "always" => json!({
            "behavior": "allow",
            "updatedPermissions": event.get("permission_suggestions").unwrap_or(&Value::Null),
        }),
        _ => json!({"behavior": "deny", "message": "The operator said no."}),
    };
    if let (Some("deny"), Some(text)) = (decided.get("behavior").and_then(Value::as_str), &decision.text) {
        decided["message"] = text.as_str().into();
    }
    json!({"hookSpecificOutput": {"hookEventName": "PermissionRequest", "decision": decided}})
}

#[cfg(test)]
mod tests;
