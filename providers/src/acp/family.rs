//! Sub-agents of an agent that speaks ACP: sessions of their own, told under their parent's (a draft of ACP, asked for
//! by the client capability `subagents`; seen with codex-acp 2.6 and claude-agent-acp 0.101). Pure; called by the client
//! in the holder, which logs what comes of it as reports, so that children are derived from the log like any others.
//!
//! ```text
//! subagent_update ─► child known ─► its own updates ─► messages
//!                        └─► idle with a reason to stop ─► over; one that runs again is another child
//! ```
//!
//! Laws:
//! 1. A child that is over stays over.
//! 2. What a sub-agent is given to do is told in its own session as a user's words, and by its parent as a tool's call.

use bus_schema::{MessageKind, Metadata, Role, SessionId, Status, Turn};
use serde_json::Value;

use super::conversation::{Conversation, Tale, ended_early};
use super::wire::{self, text_of};
use crate::pty::report::Report;

/// Sub-agents that are remembered, those that are over too. Beyond it the oldest of these is forgotten, and new ones
/// are not told.
const MAX_KIN: usize = 64;
/// Longest title, in characters.
const MAX_TITLE_CHARS: usize = 80;

/// The sub-agents of one session.
pub(super) struct Family {
    kin: Vec<Kin>,
    /// What the agent calls itself.
    pub agent: String,
    fresh: fn() -> Option<SessionId>,
}

struct Kin {
    /// The agent's own name of the session.
    name: String,
    id: SessionId,
    title: Option<String>,
    conversation: Conversation,
    /// True once it has begun to work.
    began: bool,
    is_over: bool,
}

impl Family {
    /// Nobody yet; where ids for children come from.
    pub fn new(fresh: fn() -> Option<SessionId>) -> Self {
        Self { kin: vec![], agent: String::new(), fresh }
    }

    /// What a `session/update` of the agent says of its sub-agents. `main`: its own name for the session itself.
    pub fn heard(&mut self, main: &str, start: u64, params: &Value) -> Vec<Report> {
        let update = params.get("update").unwrap_or(&Value::Null);
        let theirs = text_of(params, "sessionId").unwrap_or(main);
        if theirs == main {
            return match (wire::update_kind(update), text_of(update, "sessionId")) {
                (wire::SUBAGENT, Some(name)) => self.introduced(name, start, update),
                _ => vec![],
            };
        }
        let Some(kin) = self.kin.iter_mut().rev().find(|kin| kin.name == theirs && !kin.is_over) else {
            return vec![];
        };
        kin.began |= wire::shows_work(update);
        let tales = kin.conversation.updated(theirs, start, update);
        kin.reports(tales)
    }

    /// The session is over: what is still being told is told as it stands.
    pub fn finish(&mut self) -> Vec<Report> {
        let open = self.kin.iter_mut().filter(|kin| !kin.is_over);
        open.flat_map(|kin| {
            let tales = kin.conversation.finish();
            kin.reports(tales)
        })
        .collect()
    }

    fn introduced(&mut self, name: &str, start: u64, update: &Value) -> Vec<Report> {
        let state = update.pointer("/state/state").and_then(Value::as_str);
        let mut reports = vec![];
        let at = match self.kin.iter().rposition(|kin| kin.name == name) {
            Some(at) if !self.kin.get(at).is_some_and(|kin| kin.is_over) => at,
            // Law 1. Whatever else is said of it is no news.
            Some(_) if state != Some("running") => return vec![],
            Some(_) | None => {
                if self.kin.len() >= MAX_KIN {
                    let Some(over) = self.kin.iter().position(|kin| kin.is_over) else { return vec![] };
                    self.kin.remove(over);
                }
                let Some(id) = (self.fresh)() else { return vec![] };
                let (name, conversation) = (name.to_owned(), Conversation::of(&self.agent));
                self.kin.push(Kin { name, id, title: None, conversation, began: false, is_over: false });
                self.kin.len() - 1
            }
        };
        let Some(kin) = self.kin.get_mut(at) else { return vec![] };
        let title = text_of(update, "title").or(text_of(update, "description").filter(|_| kin.title.is_none()));
        let title = title.and_then(|title| title.lines().map(str::trim).find(|line| !line.is_empty()));
        let title = title.map(|title| title.chars().take(MAX_TITLE_CHARS).collect::<String>());
        if !kin.began || title.as_ref().is_some_and(|title| kin.title.as_ref() != Some(title)) {
            kin.title = title.or(kin.title.take());
            reports.push(kin.child(false));
        }
        match state {
            Some("running") => {
                kin.began = true;
                reports.push(kin.stands(Turn::Active, Status::Running, None));
            }
            Some("requires_action") => {
                let reason = Some("waits for an answer, which its parent's session asks for".to_owned());
                reports.push(kin.stands(Turn::Blocked, Status::Waiting, reason));
            }
            Some("idle") if kin.began => {
                let mut tales = kin.conversation.finish();
                let reason = update.pointer("/state/stopReason").and_then(Value::as_str).unwrap_or("end_turn");
                if reason != "end_turn" {
                    tales.push(ended_early(start, reason));
                }
                reports.extend(kin.reports(tales));
                kin.is_over = true;
                reports.push(kin.child(true));
            }
            Some(_) | None => {}
        }
        reports
    }
}

impl Kin {
    fn child(&self, ended: bool) -> Report {
        Report::Child { session_id: Some(self.id.clone()), title: self.title.clone(), agent_type: None, ended }
    }

    fn stands(&self, turn: Turn, status: Status, reason: Option<String>) -> Report {
        Report::Status { turn: Some(turn), status: Some(status), reason, session_id: Some(self.id.clone()) }
    }

    fn reports(&mut self, tales: Vec<Tale>) -> Vec<Report> {
        let id = self.id.clone();
        let report = |tale| match tale {
            Tale::Say(_, voice) => Some(said(&id, voice.role, voice.kind, voice.content, voice.metadata)),
            Tale::Title(title) => {
                self.title = Some(title);
                Some(self.child(false))
            }
            Tale::Opened | Tale::Stand(..) | Tale::Facts(_) => None,
        };
        tales.into_iter().filter_map(report).collect()
    }
}

fn said(id: &SessionId, role: Role, kind: MessageKind, content: String, metadata: Metadata) -> Report {
    let (kind, metadata) = (Some(kind), Some(metadata));
    Report::Message { role, content, kind, metadata, session_id: Some(id.clone()) }
}

#[cfg(test)]
mod tests;
