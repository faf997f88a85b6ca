//! The conversation of OpenCode, as its own API tells it. Pure: events and what was read in, reports out.
//!
//! ```text
//! message.updated, message.part.updated ─► parts of messages ─► told once each, when they are whole
//! session.status                        ─► turn of the session, or of a sub-agent (a session with a parent)
//! permission.asked, permission.replied  ─► a request, and that it is answered
//! ```
//!
//! Seen with OpenCode 1.18.33: the text before a tool call is whole only after the call has begun; `idle` comes before
//! the last words of a turn that is aborted, and again after them; what is said in the middle of a turn is in the
//! conversation at once, but the model gets it with its next step, which is a message that names it as its parent.
//!
//! Laws:
//! 1. Each part is told once, however often it is heard of, and in the order in which it was said.
//! 2. What a person says is told when the model gets it.
//! 3. What was said before the session began (a conversation that is resumed) is not told.

use std::collections::{BTreeMap, BTreeSet};

use bus_schema::{AnswerOption, AttentionKind, InjectMode, MessageKind, OptionKind, Role, SessionId, Timestamp, Turn};
use serde_json::Value;

use super::claude::input;
use super::{message, text};
use crate::pty::report::Report;

/// Messages that are known to be told: more than are ever read again.
const MAX_DONE: usize = 4096;

/// What follows from what was heard.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Told {
    /// To be reported.
    Report(Report),
    /// The model was given this text, which a person said; how, if that was within a turn.
    Took(String, Option<InjectMode>),
}

/// All sessions of one OpenCode.
pub(crate) struct Conversation {
    /// In ms since 1970.
    since: i64,
    fresh: fn() -> Option<SessionId>,
    threads: BTreeMap<String, Thread>,
    /// The session that is spoken with: the last one without a parent of which something was heard.
    current: Option<String>,
    /// Requests that are open, and whether they were told.
    asked: BTreeMap<String, (Value, bool)>,
    told: Vec<Told>,
}

/// One session.
#[derive(Default)]
struct Thread {
    child: Option<SessionId>,
    messages: BTreeMap<String, Said>,
    done: BTreeSet<String>,
    /// Its turn, as told.
    turn: Option<Turn>,
    /// True when its turn is over and its last words are still to come.
    is_ending: bool,
    /// An error that no message had yet.
    error: Option<String>,
    agent: Option<String>,
}

/// One message.
#[derive(Default)]
struct Said {
    role: String,
    is_complete: bool,
    /// Said in the middle of a turn.
    in_turn: bool,
    /// Of a person: the model has it.
    is_taken: bool,
    finish: String,
    error: Option<Value>,
    parts: BTreeMap<String, Part>,
}

struct Part {
    value: Value,
    is_told: bool,
    is_answered: bool,
}

impl Conversation {
    /// For a session that began at `since`. `fresh` gives ids for its sub-agents.
    pub fn new(since: Timestamp, fresh: fn() -> Option<SessionId>) -> Self {
        let since = since.as_millis();
        let (threads, asked) = (BTreeMap::new(), BTreeMap::new());
        Self { since, fresh, threads, current: None, asked, told: vec![] }
    }

    /// The session that is spoken with, and the agent in it that was spoken with last.
    pub fn current(&self) -> Option<(&str, Option<&str>)> {
        let current = self.current.as_deref()?;
        Some((current, self.threads.get(current)?.agent.as_deref()))
    }

    /// True while that is at work.
    pub fn is_active(&self) -> bool {
        let thread = self.current.as_ref().and_then(|current| self.threads.get(current));
        thread.is_some_and(|thread| thread.turn == Some(Turn::Active) && !thread.is_ending)
    }

    /// Connected: which of its sessions work, and what it asks.
    pub fn opened(&mut self, status: &Value, permissions: &Value) -> Vec<Told> {
        let sessions: Vec<String> = self.threads.keys().cloned().collect();
        for session in sessions {
            self.status(&session, status.get(&session).unwrap_or(&Value::Null));
        }
        let open = permissions.as_array().map(Vec::as_slice).unwrap_or_default();
        let gone: Vec<String> =
            self.asked.keys().filter(|id| !open.iter().any(|asked| text(asked, "id") == *id)).cloned().collect();
        for id in gone {
            self.replied(&id);
        }
        for asked in open {
            self.asks(asked);
        }
        self.ask_what_is_called(true);
        if self.threads.values().all(|thread| thread.turn.is_none()) {
            // It has said nothing yet, and listens.
            self.told.push(Told::Report(status_report(Turn::Idle, None)));
        }
        std::mem::take(&mut self.told)
    }

    /// A session as it is.
    pub fn session(&mut self, info: &Value, messages: &Value) -> Vec<Told> {
        self.info(info);
        for one in messages.as_array().map(Vec::as_slice).unwrap_or_default() {
            let info = one.get("info").unwrap_or(&Value::Null);
            // All parts before what completes the message.
            if !self.is_old(info) {
                let (session, id) = (text(info, "sessionID").to_owned(), text(info, "id").to_owned());
                self.thread(&session);
                for part in one.get("parts").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default() {
                    self.keep_part(&session, &id, part);
                }
            }
            self.message(info);
        }
        std::mem::take(&mut self.told)
    }

    /// Something happened.
    pub fn event(&mut self, event: &Value) -> Vec<Told> {
        let Some(facts) = event.get("properties") else { return vec![] };
        let session = text(facts, "sessionID");
        match text(event, "type") {
            "session.created" | "session.updated" => self.info(facts.get("info").unwrap_or(&Value::Null)),
            "message.updated" => self.message(facts.get("info").unwrap_or(&Value::Null)),
            "message.part.updated" => {
                let part = facts.get("part").unwrap_or(&Value::Null);
                let message = text(part, "messageID").to_owned();
                self.keep_part(session, &message, part);
                self.tell_parts(session, &message);
            }
            "session.status" => self.status(session, facts.get("status").unwrap_or(&Value::Null)),
            "session.error" => self.failed(session, facts.get("error")),
            "permission.asked" => self.asks(facts),
            "permission.replied" => self.replied(text(facts, "requestID")),
            "question.asked" => {
                let question = facts.pointer("/questions/0/question").and_then(Value::as_str).unwrap_or_default();
                let question = format!("{question}\n(answer it at the terminal)");
                self.told.push(Told::Report(Report::Attention { kind: Some(AttentionKind::Question), text: question }));
            }
            "question.replied" | "question.rejected" => {
                self.told.push(Told::Report(Report::Attention { kind: None, text: String::new() }));
            }
            // Whatever did not come until now will not.
            "server.heartbeat" => {
                self.ask_what_is_called(true);
                let sessions: Vec<String> = self.threads.keys().cloned().collect();
                for session in sessions {
                    self.end_turn(&session, true);
                }
            }
            _ => {}
        }
        self.ask_what_is_called(false);
        std::mem::take(&mut self.told)
    }

    /// The end of all: what was not whole is told as far as it came.
    pub fn finish(&mut self) -> Vec<Told> {
        let sessions: Vec<String> = self.threads.keys().cloned().collect();
        for session in sessions {
            let messages: Vec<String> = match self.threads.get_mut(&session) {
                Some(thread) => {
                    for said in thread.messages.values_mut() {
                        (said.is_complete, said.is_taken) = (true, true);
                    }
                    thread.messages.keys().cloned().collect()
                }
                None => vec![],
            };
            for message in messages {
                self.tell_parts(&session, &message);
            }
        }
        std::mem::take(&mut self.told)
    }

    fn is_old(&self, info: &Value) -> bool {
        info.pointer("/time/created").and_then(Value::as_i64).is_some_and(|created| created < self.since)
    }

    fn thread(&mut self, session: &str) -> &mut Thread {
        self.threads.entry(session.into()).or_default()
    }

    /// What a session is.
    fn info(&mut self, info: &Value) {
        let id = text(info, "id").to_owned();
        if id.is_empty() {
            return;
        }
        let is_new = !self.threads.contains_key(&id);
        let is_child = !text(info, "parentID").is_empty();
        let fresh = self.fresh;
        let thread = self.thread(&id);
        if is_child && thread.child.is_none() {
            thread.child = fresh();
            let title = Some(text(info, "title").to_owned()).filter(|title| !title.is_empty());
            let child = Report::Child {
                session_id: thread.child.clone(),
                title,
                agent_type: Some("opencode".into()),
                ended: false,
            };
            self.told.push(Told::Report(child));
        }
        if is_new && !is_child {
            self.current = Some(id);
        }
    }

    /// A message is there, or more is known of it.
    fn message(&mut self, info: &Value) {
        let (session, id, role) = (text(info, "sessionID"), text(info, "id"), text(info, "role"));
        if session.is_empty() || id.is_empty() {
            return;
        }
        let is_old = self.is_old(info);
        let thread = self.thread(session);
        if !text(info, "agent").is_empty() {
            thread.agent = Some(text(info, "agent").into());
        }
        if thread.done.contains(id) {
            return;
        }
        if is_old {
            thread.finished(id);
            return;
        }
        let in_turn = thread.turn == Some(Turn::Active) && !thread.is_ending;
        let is_child = thread.child.is_some();
        let said = thread.messages.entry(id.into()).or_insert_with(|| Said { in_turn, ..Said::default() });
        said.role = role.into();
        said.finish = text(info, "finish").into();
        said.error = info.get("error").filter(|error| !error.is_null()).cloned().or(said.error.take());
        said.is_complete |= info.pointer("/time/completed").is_some_and(|at| !at.is_null());
        if role == "user" && !is_child {
            self.current = Some(session.into());
        }
        if role == "assistant" {
            self.takes(session, text(info, "parentID"));
        }
        self.tell_parts(session, id);
        self.end_turn(session, false);
    }

    /// The model has everything that was said up to this message.
    fn takes(&mut self, session: &str, up_to: &str) {
        let thread = self.thread(session);
        let mut ids = vec![];
        for (id, said) in thread.messages.iter_mut().filter(|(_, said)| said.role == "user" && !said.is_taken) {
            if id.as_str() <= up_to {
                said.is_taken = true;
                ids.push(id.clone());
            }
        }
        for id in ids {
            self.tell_parts(session, &id);
        }
    }

    fn keep_part(&mut self, session: &str, message: &str, part: &Value) {
        let id = text(part, "id");
        if session.is_empty() || message.is_empty() || id.is_empty() {
            return;
        }
        let thread = self.thread(session);
        if thread.done.contains(message) {
            return;
        }
        let parts = &mut thread.messages.entry(message.into()).or_default().parts;
        let new = || Part { value: Value::Null, is_told: false, is_answered: false };
        parts.entry(id.into()).or_insert_with(new).value = part.clone();
    }

    /// Tells of a message what is whole and was not told.
    fn tell_parts(&mut self, session: &str, id: &str) {
        let Some(thread) = self.threads.get_mut(session) else { return };
        let before = thread.messages.range(..id.to_owned()).rev().find(|(_, said)| said.role == "assistant");
        let goes_on = before.is_none_or(|(_, said)| said.finish == "tool-calls");
        let child = thread.child.clone();
        let Some(said) = thread.messages.get_mut(id) else { return };
        let told = &mut self.told;
        match said.role.as_str() {
            "user" if said.is_taken => {
                for part in said.parts.values_mut().filter(|part| !part.is_told) {
                    part.is_told = true;
                    let content = text(&part.value, "text");
                    let is_own = ["synthetic", "ignored"].iter().all(|key| part.value.get(key) != Some(&true.into()));
                    if text(&part.value, "type") == "text" && is_own && !content.is_empty() {
                        let mode = said.in_turn.then_some(if goes_on { InjectMode::Steer } else { InjectMode::Queue });
                        if child.is_none() {
                            told.push(Told::Took(content.into(), mode));
                        }
                        let said = message(Role::User, MessageKind::Text, content.into(), &[], child.as_ref());
                        told.push(Told::Report(said));
                    }
                }
            }
            "assistant" => said.tell(child.as_ref(), told),
            _ => return,
        }
        if said.is_complete
            && let Some(error) = said.error.take()
        {
            thread.error = None;
            told.push(Told::Report(failure(&error, child.as_ref())));
        }
        if said.is_over() {
            thread.finished(id);
        }
    }

    fn status(&mut self, session: &str, status: &Value) {
        if session.is_empty() {
            return;
        }
        let thread = self.thread(session);
        match text(status, "type") {
            "" | "idle" => {
                thread.is_ending = thread.turn == Some(Turn::Active);
                self.end_turn(session, false);
            }
            "retry" => {
                let why = text(status, "message").to_owned();
                let child = thread.child.clone();
                let said =
                    message(Role::System, MessageKind::Status, format!("it tries again: {why}"), &[], child.as_ref());
                self.told.push(Told::Report(said));
            }
            _ => {
                thread.is_ending = false;
                if thread.turn.replace(Turn::Active) != Some(Turn::Active) {
                    let child = thread.child.clone();
                    self.told.push(Told::Report(status_report(Turn::Active, child)));
                }
            }
        }
    }

    /// A turn is over once its last words are there.
    fn end_turn(&mut self, session: &str, by_force: bool) {
        let thread = self.thread(session);
        let speaks = thread.messages.values().any(|said| said.role == "assistant" && !said.is_complete);
        if !thread.is_ending || (speaks && !by_force) {
            return;
        }
        (thread.is_ending, thread.turn) = (false, Some(Turn::Idle));
        let (child, error) = (thread.child.clone(), thread.error.take());
        // What the model never got is said all the same.
        self.takes(session, "\u{7f}");
        self.told.extend(
            error.map(|error| Told::Report(message(Role::System, MessageKind::Text, error, &[], child.as_ref()))),
        );
        // Nothing can be asked by what is over.
        let asked = self.asked.iter().filter(|(_, (asked, _))| text(asked, "sessionID") == session);
        let asked: Vec<String> = asked.map(|(id, _)| id.clone()).collect();
        for id in asked {
            self.replied(&id);
        }
        self.told.push(Told::Report(status_report(Turn::Idle, child)));
    }

    fn failed(&mut self, session: &str, error: Option<&Value>) {
        let Some(error) = error.filter(|_| !session.is_empty()) else { return };
        if text(error, "name") != "MessageAbortedError" {
            self.thread(session).error = Some(words(error));
        }
    }

    fn asks(&mut self, asked: &Value) {
        let id = text(asked, "id");
        if !id.is_empty() {
            self.asked.entry(id.into()).or_insert_with(|| (asked.clone(), false));
        }
    }

    fn replied(&mut self, id: &str) {
        if let Some((_, true)) = self.asked.remove(id) {
            self.told.push(Told::Report(Report::Called { call: id.into() }));
        }
    }

    /// Asks for leave behind the call for which it is asked, or without that if it does not come.
    fn ask_what_is_called(&mut self, all: bool) {
        for (id, (asked, is_told)) in self.asked.iter_mut().filter(|(_, (_, is_told))| !is_told) {
            let call = asked.pointer("/tool/callID").and_then(Value::as_str).unwrap_or_default();
            let messages = self.threads.get(text(asked, "sessionID")).map(|thread| &thread.messages);
            let parts = messages.into_iter().flatten().flat_map(|(_, said)| said.parts.values());
            let part = parts.into_iter().find(|part| text(&part.value, "callID") == call && !call.is_empty());
            if !all && part.is_some_and(|part| !part.is_told) {
                continue;
            }
            *is_told = true;
            let what = part.map(|part| (text(&part.value, "tool"), part.value.pointer("/state/input")));
            let content = match what {
                Some((tool, Some(given))) => format!("{tool}: {}", input(given)),
                _ => format!("{}: {}", text(asked, "permission"), list(asked.get("patterns"))),
            };
            let option = |id: &str, label: String, kind| AnswerOption { option_id: id.into(), label, kind };
            let always = format!("Allow always: {}", list(asked.get("always")));
            let options = vec![
                option("once", "Allow once".into(), OptionKind::AllowOnce),
                option("always", always, OptionKind::AllowAlways),
                option("reject", "Reject".into(), OptionKind::RejectOnce),
            ];
            let call = Some(id.clone());
            let ask = Report::Ask { request: None, text: content, call, options, takes_text: true };
            self.told.push(Told::Report(ask));
        }
    }
}

impl Thread {
    /// A message has nothing more to tell.
    fn finished(&mut self, id: &str) {
        self.done.insert(id.into());
        if self.done.len() > MAX_DONE {
            self.done.pop_first();
        }
        // Its end says how the next one came; its parts are of no use any more.
        if let Some(said) = self.messages.get_mut(id) {
            said.parts.clear();
        }
        while self.messages.len() > MAX_DONE {
            self.messages.pop_first();
        }
    }
}

impl Said {
    fn tell(&mut self, child: Option<&SessionId>, told: &mut Vec<Told>) {
        let is_complete = self.is_complete;
        let mut say = |kind, content: String, facts: &[(&str, &str)]| {
            told.push(Told::Report(message(Role::Agent, kind, content, facts, child)));
        };
        for part in self.parts.values_mut() {
            let value = &part.value;
            match text(value, "type") {
                kind @ ("text" | "reasoning") if !part.is_told => {
                    if !is_complete && value.pointer("/time/end").is_none_or(Value::is_null) {
                        // What is behind it was said behind it.
                        return;
                    }
                    part.is_told = true;
                    let content = text(value, "text").trim_end().to_owned();
                    let kind = if kind == "text" { MessageKind::Text } else { MessageKind::Reasoning };
                    if !content.is_empty() {
                        say(kind, content, &[]);
                    }
                }
                "tool" => {
                    let call = text(value, "callID");
                    let state = value.get("state").unwrap_or(&Value::Null);
                    let status = text(state, "status");
                    if !part.is_told && (is_complete || matches!(status, "running" | "completed" | "error")) {
                        part.is_told = true;
                        let given = input(state.get("input").unwrap_or(&Value::Null));
                        say(MessageKind::ToolCall, given, &[("tool", text(value, "tool")), ("callId", call)]);
                    }
                    if !part.is_answered && matches!(status, "completed" | "error") {
                        part.is_answered = true;
                        let failed = status == "error";
                        let content = text(state, if failed { "error" } else { "output" });
                        let facts = [("callId", call), ("isError", if failed { "true" } else { "" })];
                        say(MessageKind::ToolResult, content.into(), &facts);
                    }
                }
                _ => {}
            }
        }
    }

    /// True if nothing more of it will be told.
    fn is_over(&self) -> bool {
        match self.role.as_str() {
            "user" => self.is_taken && !self.parts.is_empty(),
            _ => {
                let is_open = |part: &Part| text(&part.value, "type") == "tool" && !part.is_answered;
                self.is_complete && !self.parts.values().any(is_open)
            }
        }
    }
}

fn status_report(turn: Turn, session_id: Option<SessionId>) -> Report {
    Report::Status { turn: Some(turn), status: None, reason: None, session_id }
}

/// That a turn failed or was stopped.
fn failure(error: &Value, child: Option<&SessionId>) -> Report {
    if text(error, "name") == "MessageAbortedError" {
        return message(Role::System, MessageKind::Status, "turn aborted".into(), &[], child);
    }
    message(Role::System, MessageKind::Text, words(error), &[], child)
}

fn words(error: &Value) -> String {
    let said = error.pointer("/data/message").and_then(Value::as_str).filter(|said| !said.is_empty());
    format!("{}: {}", text(error, "name"), said.unwrap_or("no reason was given"))
}

fn list(words: Option<&Value>) -> String {
    let words = words.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
