//! Requests for leave and questions, from an event or from the list of those that are open.
//!
//! | kind | list | events | answered by |
//! |---|---|---|---|
//! | a command | `exec.approval.list` | `exec.approval.requested`, `….resolved` | `exec.approval.resolve` |
//! | a plugin | `plugin.approval.list` | `plugin.approval.requested`, `….resolved` | `plugin.approval.resolve` |
//! | a question | `question.list` | `question.requested`, `….resolved` | `question.resolve` |
//!
//! (Measured on 2026.9.6. `session.approval` repeats the first two to whoever subscribed to one session: not needed.)

use std::sync::Arc;

use bus_schema::{AnswerOption, OptionKind, Timestamp};
use serde_json::{Value, json};

use super::{CALL_WITHIN, Gateway};
use crate::clock;
use crate::openclaw::core::Core;
use crate::openclaw::link::Link;
use crate::openclaw::record::{Request, RequestKind};
use crate::openclaw::session::Session;

/// All kinds, each with the method that lists those that are open.
const LISTS: [(RequestKind, &str); 3] = [
    (RequestKind::Exec, "exec.approval.list"),
    (RequestKind::Plugin, "plugin.approval.list"),
    (RequestKind::Question, "question.list"),
];

/// What an event says of a request.
#[derive(Clone, Copy)]
pub(super) enum Change {
    Asked(RequestKind),
    Answered,
}

pub(super) fn change(event: &str) -> Option<Change> {
    match event {
        "exec.approval.requested" => Some(Change::Asked(RequestKind::Exec)),
        "plugin.approval.requested" => Some(Change::Asked(RequestKind::Plugin)),
        "question.requested" => Some(Change::Asked(RequestKind::Question)),
        "exec.approval.resolved" | "plugin.approval.resolved" | "question.resolved" => Some(Change::Answered),
        _ => None,
    }
}

fn str_at<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Takes one event. Never waits.
pub(super) fn take(gateway: &Gateway, core: &Core, change: Change, payload: &Value) {
    match change {
        Change::Asked(kind) => take_request(gateway, core, kind, payload),
        Change::Answered => core.living(gateway.id()).iter().for_each(|session| close(session, payload)),
    }
}

/// A request is closed at the gateway: by the decision, by the answer to each question, or unanswered.
fn close(session: &Session, payload: &Value) {
    let id = str_at(payload, "/id");
    if let Some(answers) = payload.pointer("/answers/answers").and_then(Value::as_object) {
        for question in answers.keys() {
            let said: Vec<_> = items(&answers[question], "").iter().filter_map(Value::as_str).collect();
            session.take_decision(id, Some(question), &said.join(", "));
        }
        return;
    }
    let decision = [str_at(payload, "/decision"), str_at(payload, "/status"), "closed"];
    let decision = decision.into_iter().find(|decision| !decision.is_empty()).unwrap_or_default();
    session.take_decision(id, None, decision);
}

/// The requests that are open, of each kind that this gateway knows.
pub(super) async fn list(link: &Link) -> Vec<(RequestKind, Vec<Value>)> {
    let mut all = vec![];
    // Protocol 3 knows no questions; another release that does not know a kind has none of it open.
    let knows = |kind: RequestKind| link.hello.protocol >= 4 || kind != RequestKind::Question;
    for (kind, method) in LISTS.into_iter().filter(|(kind, _)| knows(*kind)) {
        let Ok(answer) = link.call(method, json!({}), CALL_WITHIN).await else { continue };
        let pointer = if kind == RequestKind::Question { "/questions" } else { "" };
        if let Some(open) = answer.pointer(pointer).and_then(Value::as_array) {
            all.push((kind, open.clone()));
        }
    }
    all
}

/// Takes the requests that are open, and closes those of ours that are not any more.
pub(super) fn take_list(gateway: &Gateway, core: &Core, all: Vec<(RequestKind, Vec<Value>)>) {
    for (kind, open) in all {
        for session in core.living(gateway.id()) {
            for ours in session.open_requests(kind) {
                if !open.iter().any(|request| str_at(request, "/id") == ours) {
                    session.take_decision(&ours, None, "closed without us");
                }
            }
        }
        open.iter().for_each(|request| take_request(gateway, core, kind, request));
    }
}

fn take_request(gateway: &Gateway, core: &Core, kind: RequestKind, payload: &Value) {
    let session = |pointer: &str| core.by_key(gateway.id(), str_at(payload, pointer));
    match kind {
        RequestKind::Question => {
            if let Some(session) = session("/sessionKey") {
                items(payload, "/questions").iter().for_each(|asked| question(&session, payload, asked));
            }
        }
        RequestKind::Exec | RequestKind::Plugin => {
            if let Some(session) = session("/request/sessionKey") {
                approval(&session, kind, payload);
            }
        }
    }
}

fn created_at(payload: &Value) -> Timestamp {
    payload.get("createdAtMs").and_then(Value::as_i64).map_or_else(clock::now, Timestamp::from_millis)
}

fn approval(session: &Arc<Session>, kind: RequestKind, payload: &Value) {
    let offered = items(payload, "/request/allowedDecisions").iter().filter_map(Value::as_str);
    let mut offered: Vec<_> = offered.collect();
    if offered.is_empty() {
        // Those that do not tell take all three.
        offered = vec!["allow-once", "allow-always", "deny"];
    }
    let option = |option_id: &str| {
        let (label, kind) = match option_id {
            "allow-once" => ("Allow once", OptionKind::AllowOnce),
            "allow-always" => ("Allow always", OptionKind::AllowAlways),
            "deny" => ("Deny", OptionKind::RejectOnce),
            other => (other, OptionKind::Choice),
        };
        AnswerOption { label: label.to_owned(), kind, option_id: option_id.to_owned() }
    };
    let at = |pointer: &str| str_at(payload, pointer);
    let text = match (kind, at("/request/cwd")) {
        (RequestKind::Plugin, _) => format!("{}: {}", at("/request/title"), at("/request/description")),
        (_, "") => format!("wants to run: {}", at("/request/command")),
        (_, cwd) => format!("wants to run: {} (in {cwd})", at("/request/command")),
    };
    session.take_request(Request {
        approval: at("/id").to_owned(),
        kind,
        question: None,
        text,
        options: offered.into_iter().map(option).collect(),
        takes_text: false,
        at: created_at(payload),
        decided: None,
        by: None,
    });
}

/// One of the questions of a request. A secret is given at the gateway itself: here it would be kept as a message.
fn question(session: &Arc<Session>, payload: &Value, asked: &Value) {
    let is = |name: &str| asked.get(name).and_then(Value::as_bool) == Some(true);
    let is_secret = is("isSecret") || asked.get("secretStore").is_some_and(|store| !store.is_null());
    let offered = if is_secret { &[] } else { items(asked, "/options") };
    let mut text = str_at(asked, "/question").to_owned();
    for option in offered {
        let (label, description) = (str_at(option, "/label"), str_at(option, "/description"));
        if !description.is_empty() {
            text.push_str(&format!("\n{label}: {description}"));
        }
    }
    if is_secret {
        text.push_str("\nIt asks for a secret: answer it at the gateway, where it is not kept as a message.");
    }
    let option = |option: &Value| {
        let label = str_at(option, "/label").to_owned();
        AnswerOption { option_id: label.clone(), label, kind: OptionKind::Choice }
    };
    session.take_request(Request {
        approval: str_at(payload, "/id").to_owned(),
        kind: RequestKind::Question,
        question: Some(str_at(asked, "/questionId").to_owned()),
        text,
        options: offered.iter().map(option).collect(),
        takes_text: !is_secret && (is("isOther") || offered.is_empty()),
        at: created_at(payload),
        decided: None,
        by: None,
    });
}
