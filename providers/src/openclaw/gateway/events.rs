//! What an event means: which session is to be looked at, and what may be shown before that.

use std::sync::Arc;

use bus_schema::{AnswerOption, OptionKind, Status, Timestamp};
use serde_json::Value;

use super::Gateway;
use crate::clock;
use crate::openclaw::core::{Core, ended};
use crate::openclaw::link::Event;
use crate::openclaw::record::Request;
use crate::openclaw::rows::text_of;
use crate::openclaw::session::Session;

/// What is to be looked at.
pub(super) enum Wake {
    Nothing,
    Session(Arc<Session>),
    Everything,
    /// What an operator killed, and fenced, works again (a gateway that crashed takes up its runs): to be stopped.
    Risen(String),
}

fn str_at<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Takes one event. Never waits.
pub(super) fn take(gateway: &Gateway, core: &Core, event: &Event) -> Wake {
    let payload = &event.payload;
    let known = || core.by_key(gateway.id(), str_at(payload, "/sessionKey")).filter(|s| s.ended_at().is_none());
    match event.name.as_str() {
        "sessions.changed" => changed(gateway, core, payload),
        "session.message" => {
            let session = take_row(gateway, core, payload).or_else(known);
            session.map_or(Wake::Everything, Wake::Session)
        }
        "session.tool" => known().map_or(Wake::Nothing, |session| tool(session, payload)),
        "chat" => chat(gateway, core, payload, known()),
        "agent" => known().map_or(Wake::Nothing, |session| agent(session, payload)),
        "exec.approval.requested" => {
            take_approval(gateway, core, payload);
            Wake::Nothing
        }
        "exec.approval.resolved" => {
            let key = str_at(payload, "/request/sessionKey");
            let decision = Some(str_at(payload, "/decision")).filter(|d| !d.is_empty()).unwrap_or("closed");
            for session in core.living(gateway.id()) {
                if key.is_empty() || session.birth().key == key {
                    session.take_decision(str_at(payload, "/id"), decision);
                }
            }
            Wake::Nothing
        }
        // Everything else is not about sessions, or is told in another way.
        _ => Wake::Nothing,
    }
}

/// The row that comes with an event.
fn take_row(gateway: &Gateway, core: &Core, payload: &Value) -> Option<Arc<Session>> {
    let row = payload.get("session").filter(|row| row.get("key").is_some())?;
    core.take_row(gateway.id(), row, false)
}

fn changed(gateway: &Gateway, core: &Core, payload: &Value) -> Wake {
    let key = str_at(payload, "/sessionKey");
    if key.is_empty() {
        return Wake::Nothing;
    }
    if str_at(payload, "/reason") == "delete" {
        if let Some(session) = core.by_key(gateway.id(), key) {
            session.end(ended("deleted at the gateway"));
        }
        return Wake::Nothing;
    }
    match take_row(gateway, core, payload) {
        Some(session) if session.ended_at().is_some() => Wake::Nothing,
        Some(session) => Wake::Session(session),
        None if has_risen(gateway, core, key, payload) => Wake::Risen(key.to_owned()),
        // Of no concern, if it came with its row; else the list tells.
        None if payload.pointer("/session/key").is_some() => Wake::Nothing,
        None => Wake::Everything,
    }
}

fn has_risen(gateway: &Gateway, core: &Core, key: &str, payload: &Value) -> bool {
    let is = |pointer: &str| payload.pointer(pointer).and_then(Value::as_bool) == Some(true);
    let was_killed = || core.by_key(gateway.id(), key).is_some_and(|session| session.status() == Status::Killed);
    is("/session/archived") && is("/session/hasActiveRun") && was_killed()
}

fn tool(session: Arc<Session>, payload: &Value) -> Wake {
    match str_at(payload, "/data/phase") {
        "update" => {
            let text = text_of(payload.pointer("/data/partialResult/content"));
            if !text.is_empty() {
                session.take_progress(str_at(payload, "/runId"), str_at(payload, "/data/toolCallId"), text);
            }
            Wake::Nothing
        }
        "result" => {
            session.take_step();
            Wake::Session(session)
        }
        _ => Wake::Nothing,
    }
}

fn chat(gateway: &Gateway, core: &Core, payload: &Value, known: Option<Arc<Session>>) -> Wake {
    let Some(session) = known else {
        // A conversation that nobody has told of, at work: where there is no subscription, this is how it shows.
        let is_new = core.by_key(gateway.id(), str_at(payload, "/sessionKey")).is_none();
        return if is_new && gateway.quirks().no_subscribe { Wake::Everything } else { Wake::Nothing };
    };
    let run = str_at(payload, "/runId");
    match str_at(payload, "/state") {
        "delta" => {
            // Every release repeats the whole text; protocol 3 has no `deltaText` at all.
            let text = text_of(payload.pointer("/message/content"));
            if !text.is_empty() {
                session.take_delta(run, text);
            }
            Wake::Nothing
        }
        "error" => {
            let error = Some(str_at(payload, "/errorMessage")).filter(|error| !error.is_empty());
            session.take_run(run, false, Some(error.unwrap_or("no reason was told").to_owned()));
            Wake::Session(session)
        }
        "final" | "aborted" => {
            // The empty final of a message that was steered into another run ends no run.
            if payload.get("message").is_some() {
                session.take_run(run, false, None);
            }
            Wake::Session(session)
        }
        _ => Wake::Nothing,
    }
}

fn agent(session: Arc<Session>, payload: &Value) -> Wake {
    if str_at(payload, "/stream") != "lifecycle" {
        return Wake::Nothing;
    }
    let run = str_at(payload, "/runId");
    match str_at(payload, "/data/phase") {
        "start" => session.take_run(run, true, None),
        "end" => session.take_run(run, false, None),
        "error" => session.take_run(run, false, Some(str_at(payload, "/data/error").to_owned())),
        _ => return Wake::Nothing,
    }
    Wake::Session(session)
}

/// A request for leave, from an event or from the list of those that are open.
pub(super) fn take_approval(gateway: &Gateway, core: &Core, approval: &Value) {
    let Some(session) = core.by_key(gateway.id(), str_at(approval, "/request/sessionKey")) else { return };
    let offered = approval.pointer("/request/allowedDecisions").and_then(Value::as_array).cloned();
    let offered: Vec<_> = offered.unwrap_or_default().iter().filter_map(Value::as_str).map(str::to_owned).collect();
    // Releases that do not tell take all three.
    let offered =
        if offered.is_empty() { vec!["allow-once".into(), "allow-always".into(), "deny".into()] } else { offered };
    let option = |option_id: String| {
        let (label, kind) = match option_id.as_str() {
            "allow-once" => ("Allow once", OptionKind::AllowOnce),
            "allow-always" => ("Allow always", OptionKind::AllowAlways),
            "deny" => ("Deny", OptionKind::RejectOnce),
            other => (other, OptionKind::Choice),
        };
        AnswerOption { label: label.to_owned(), kind, option_id: option_id.clone() }
    };
    let at = approval.get("createdAtMs").and_then(Value::as_i64).map_or_else(clock::now, Timestamp::from_millis);
    let command = str_at(approval, "/request/command");
    let text = match str_at(approval, "/request/cwd") {
        "" => format!("wants to run: {command}"),
        cwd => format!("wants to run: {command} (in {cwd})"),
    };
    let approval = str_at(approval, "/id").to_owned();
    let options = offered.into_iter().map(option).collect();
    session.take_request(Request { approval, text, options, at, decided: None, by: None });
}
