//! What an event means: which session is to be looked at, and what may be shown before that.

use std::sync::Arc;

use bus_schema::Status;
use serde_json::Value;

use super::{Gateway, requests};
use crate::clock;
use crate::openclaw::core::{Core, ended};
use crate::openclaw::link::Event;
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

/// How long what begins in a killed conversation is taken for what waited behind the kill (measured: 1 to 2.5 s).
const FENCED_FOR_MS: u64 = 15_000;

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
        "session.tool" => known().map_or(Wake::Nothing, |session| tool(gateway, session, payload)),
        "chat" => chat(gateway, core, payload, known()),
        "agent" => match known() {
            Some(session) => agent(gateway, session, payload),
            None => came_to_life(gateway, core, payload),
        },
        name => {
            if let Some(change) = requests::change(name) {
                requests::take(gateway, core, change, payload);
            }
            // Everything else is not about sessions, or is told in another way.
            Wake::Nothing
        }
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

/// A run begins in a conversation that has no living session. Old releases have no archive that fences what was killed:
/// what waited behind the kill begins all the same, and is stopped. What begins later is somebody's new word.
fn came_to_life(gateway: &Gateway, core: &Core, payload: &Value) -> Wake {
    let is_start = str_at(payload, "/stream") == "lifecycle" && str_at(payload, "/data/phase") == "start";
    let key = str_at(payload, "/sessionKey");
    let Some(session) = core.by_key(gateway.id(), key).filter(|_| is_start && gateway.quirks().is_old) else {
        return Wake::Nothing;
    };
    let was_killed = session.status() == Status::Killed;
    if was_killed && session.ended_at().is_some_and(|at| clock::now().millis_since(at) < FENCED_FOR_MS) {
        return Wake::Risen(key.to_owned());
    }
    let row = serde_json::json!({"key": key, "sessionId": session.generation(), "hasActiveRun": true});
    core.take_row(gateway.id(), &row, false).map_or(Wake::Nothing, |session| {
        session.take_run(str_at(payload, "/runId"), true, None);
        Wake::Session(session)
    })
}

fn tool(gateway: &Gateway, session: Arc<Session>, payload: &Value) -> Wake {
    match str_at(payload, "/data/phase") {
        "update" => {
            let text = text_of(payload.pointer("/data/partialResult/content"));
            if !text.is_empty() {
                // The rows of old releases do not name their run.
                let run = if gateway.quirks().is_old { "" } else { str_at(payload, "/runId") };
                session.take_progress(run, str_at(payload, "/data/toolCallId"), text);
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
        // Where this runs on over the steps of a turn, the agent's own stream has the text of each.
        "delta" if gateway.quirks().is_old => Wake::Nothing,
        "delta" => {
            // Every release repeats the whole text.
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

fn agent(gateway: &Gateway, session: Arc<Session>, payload: &Value) -> Wake {
    let run = str_at(payload, "/runId");
    match str_at(payload, "/stream") {
        "lifecycle" => {}
        "assistant" if gateway.quirks().is_old => {
            // Its beginning may have been told to nobody, or to the node agent before us.
            if !session.has_run() {
                session.take_run(run, true, None);
            }
            let text = str_at(payload, "/data/text");
            if !text.is_empty() {
                session.take_delta(run, text.to_owned());
            }
            return Wake::Nothing;
        }
        _ => return Wake::Nothing,
    }
    match str_at(payload, "/data/phase") {
        "start" => session.take_run(run, true, None),
        "end" => session.take_run(run, false, None),
        "error" => session.take_run(run, false, Some(str_at(payload, "/data/error").to_owned())),
        _ => return Wake::Nothing,
    }
    Wake::Session(session)
}
