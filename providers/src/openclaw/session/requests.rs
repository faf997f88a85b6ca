//! What a session waits for an answer to: leave for a command, leave for a plugin, a question.
//!
//! Several questions may come in one request of the gateway's. Each is a request of ours, and the gateway hears of the
//! answers when the last of them is there.

use bus_schema::{Asked, Attention, AttentionKind, MessageId, MessageKind, Metadata, Operator, Role};

use super::Session;
use crate::clock;
use crate::openclaw::record::{Kept, Request, RequestKind};
use crate::openclaw::rows::message_id;
use crate::provider::MessageDraft;

impl Request {
    /// What its message is named after.
    fn name(&self) -> String {
        match &self.question {
            Some(question) => format!("{}#{question}", self.approval),
            None => self.approval.clone(),
        }
    }

    /// Why the session waits.
    pub fn waits_for(&self) -> &'static str {
        match self.kind {
            RequestKind::Exec | RequestKind::Plugin => "waits for leave",
            RequestKind::Question => "waits for an answer",
        }
    }

    /// Who is needed, and what for.
    pub fn attention(&self, id: &MessageId) -> Attention {
        let kind = match self.kind {
            RequestKind::Exec | RequestKind::Plugin => AttentionKind::Permission,
            RequestKind::Question => AttentionKind::Question,
        };
        let options = self.options.clone();
        let request = Some(Asked { request_id: id.clone(), options, takes_text: self.takes_text });
        Attention { kind, text: self.text.clone(), since: self.at, request }
    }
}

impl Session {
    /// A request has come; known ones change nothing.
    pub fn take_request(&self, request: Request) {
        self.change(|state| {
            let Some(id) = message_id(&self.id, &request.name()) else { return Ok(()) };
            if state.record.facts.requests.contains_key(&id) || state.record.is_ended() {
                return Ok(());
            }
            let draft = MessageDraft {
                message_id: id.clone(),
                role: Role::System,
                kind: MessageKind::Permission,
                content: request.text.clone(),
                timestamp: request.at,
                metadata: Metadata::from_iter([
                    ("source".to_owned(), "openclaw".into()),
                    ("options".to_owned(), serde_json::to_value(&request.options).unwrap_or_default()),
                ]),
            };
            state.record.set_request(id, request)?;
            state.record.add(clock::now(), Kept::Message(draft), None)?;
            let is_active = state.record.facts.is_active;
            state.settle(&self.id, is_active)
        });
    }

    /// Somebody of ours answers: remembered, so that the message that closes the request names them.
    pub fn answering(&self, id: &MessageId, by: &Operator) {
        self.change(|state| {
            let Some(mut request) = state.record.facts.requests.get(id).cloned() else { return Ok(()) };
            request.by = Some(by.clone());
            state.record.set_request(id.clone(), request)
        });
    }

    /// A request is closed; of one with several questions, the one that is named, or all.
    pub fn take_decision(&self, approval: &str, question: Option<&str>, decision: &str) {
        self.change(|state| {
            let is_it = |request: &Request| {
                request.approval == approval
                    && request.decided.is_none()
                    && question.is_none_or(|question| request.question.as_deref() == Some(question))
            };
            let found = state.record.facts.requests.iter().filter(|(_, request)| is_it(request));
            let found: Vec<_> = found.map(|(id, request)| (id.clone(), request.clone())).collect();
            for (id, mut request) in found {
                request.decided = Some(decision.to_owned());
                let label = request.options.iter().find(|option| option.option_id == decision);
                let mut metadata = Metadata::from_iter([
                    ("source".to_owned(), "openclaw".into()),
                    ("answers".to_owned(), id.as_str().into()),
                ]);
                if label.is_some() || request.kind != RequestKind::Question {
                    metadata.insert("optionId".into(), decision.into());
                }
                if let Some(by) = &request.by {
                    metadata.insert("operator".into(), serde_json::json!({ "id": by.id, "name": by.name }));
                }
                let content = label.map_or_else(|| decision.to_owned(), |option| option.label.clone());
                let name = format!("{}:answer", request.name());
                state.record.set_request(id, request)?;
                if let Some(message_id) = message_id(&self.id, &name) {
                    let (role, kind, timestamp) = (Role::System, MessageKind::Permission, clock::now());
                    let draft = MessageDraft { message_id, role, kind, content, timestamp, metadata };
                    state.record.add(clock::now(), Kept::Message(draft), None)?;
                }
            }
            let is_active = state.record.facts.is_active;
            state.settle(&self.id, is_active)
        });
    }

    pub fn request(&self, id: &MessageId) -> Option<Request> {
        self.lock().record.facts.requests.get(id).cloned()
    }

    /// The questions that came with this one, itself among them.
    pub fn asked_with(&self, request: &Request) -> Vec<Request> {
        let state = self.lock();
        let all = state.record.facts.requests.values();
        all.filter(|other| other.approval == request.approval).cloned().collect()
    }

    /// The gateway's names of the requests of a kind that are open.
    pub fn open_requests(&self, kind: RequestKind) -> Vec<String> {
        let state = self.lock();
        let all = state.record.facts.requests.values();
        let open = all.filter(|request| request.kind == kind && request.decided.is_none());
        open.map(|request| request.approval.clone()).collect()
    }
}
