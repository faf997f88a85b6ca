//! What a session reports of itself, and its requests for leave: asked, answered, closed.

use bus_schema::{AnswerOption, Asked, MessageKind, Metadata, Role};

use super::{Interpreter, Telling, Voice};
use crate::provider::{Child, MessageDraft, News};
use crate::pty::entry::answering;
use crate::pty::record::Answered;
use crate::pty::report::{HOOK, Report, Sourced};

impl Interpreter {
    /// It asks for leave: the message first, then that somebody is needed.
    fn asked(&mut self, name: &str, voice: Voice, options: Vec<AnswerOption>, takes_text: bool, telling: &mut Telling) {
        let Some(request_id) = self.message_id(name) else { return };
        let text = voice.content.clone();
        self.say(name, voice, telling);
        let asked = Asked { request_id, options, takes_text };
        let at = telling.at;
        telling.tell_all(self.kept.standing.asked(asked, &text, at));
    }

    pub(super) fn answered(&mut self, answered: Answered, telling: &mut Telling) {
        let Answered { request, option, label, text, by, confirmed, source } = answered;
        let content = text.map_or(label.clone(), |text| format!("{label}: {text}"));
        let mut facts = Metadata::new();
        facts.insert("optionId".into(), option.into());
        facts.insert("operator".into(), serde_json::json!({"id": by.id, "name": by.name}));
        if !confirmed {
            facts.insert("confirmed".into(), false.into());
        }
        self.close(&request, content, (facts, &source), telling);
    }

    /// A request is open no more: the message that says why, then who else is needed.
    fn close(&mut self, name: &str, content: String, (facts, source): (Metadata, &str), telling: &mut Telling) {
        let (Some(request), Some(message_id)) = (self.message_id(name), self.message_id(&format!("{name}-a"))) else {
            return;
        };
        let mut metadata = facts;
        metadata.insert("answers".into(), request.as_str().into());
        metadata.insert("source".into(), source.into());
        let (role, kind, timestamp) = (Role::System, MessageKind::Permission, telling.at);
        telling.tell(News::Message(MessageDraft { message_id, role, kind, content, timestamp, metadata }));
        telling.tell_all(self.kept.standing.closed(&request));
    }

    pub(super) fn report(&mut self, Sourced { source, report }: Sourced, telling: &mut Telling) {
        match report {
            // Of a child: told in the child's own sequence.
            Report::Message { session_id: Some(_), .. } | Report::Status { session_id: Some(_), .. } => {}
            Report::Message { role, content, kind, metadata, session_id: None } => {
                self.speaks();
                let voice = Voice::claimed(role, kind.unwrap_or(MessageKind::Text), content, metadata, &source);
                self.say(&format!("s{:x}", telling.offset), voice, telling);
            }
            Report::Status { turn, status, reason, session_id: None } if source == HOOK => {
                telling.tell_all(self.kept.standing.hooked(turn, status, reason));
            }
            Report::Prompt { content } => self.prompted(&content, telling),
            Report::Ask { request: Some(name), text, options, takes_text, call: _ } => {
                let voice = Voice::claimed(Role::System, MessageKind::Permission, text, None, &source);
                self.asked(&name, voice, options, takes_text, telling);
            }
            Report::Answers => {
                if !std::mem::replace(&mut self.kept.answers, true) {
                    telling.tell(News::Capabilities(answering()));
                    let mut facts = Metadata::new();
                    facts.insert("notCapable".into(), serde_json::Value::Null);
                    telling.tell(News::Facts(facts));
                }
            }
            Report::Closed { request, reason } => {
                self.close(&request, reason, (Metadata::new(), &source), telling);
            }
            Report::Ask { request: None, .. } | Report::Called { .. } => {}
            Report::Status { turn, status, reason, session_id: None } => {
                telling.tell_all(self.kept.standing.reported(turn, status, reason));
            }
            Report::Attention { kind, text } => {
                let at = telling.at;
                telling.tell_all(self.kept.standing.attention(kind, text, at));
            }
            Report::Child { session_id: Some(session_id), title, agent_type, ended: _ } => {
                telling.tell(News::Child(Child { session_id, title, agent_type }));
            }
            Report::Child { session_id: None, .. } => {}
            Report::Speaks => self.speaks(),
            Report::Expected => self.kept.held = Some(vec![]),
            Report::Missing => self.missing(telling),
            Report::Title { title } => {
                telling.tell_all(self.kept.standing.titled(&title));
            }
        }
    }
}
