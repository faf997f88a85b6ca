//! A session that another one said it started: no process of its own that we know of, only what the other one reports
//! of it, in the other one's log.

use bus_schema::{MessageId, MessageKind, SessionId, Status, Timestamp};

use super::Telling;
use super::message::Voice;
use super::standing::Standing;
use crate::provider::{AgentEvent, End, MessageDraft, News};
use crate::pty::log::{Block, Kind};
use crate::pty::record::{Exit, Note, unpack};
use crate::pty::report::{Report, Sourced};

/// Derives the events of a child from its parent's log.
pub(crate) struct ChildInterpreter {
    child: SessionId,
    standing: Standing,
    is_known: bool,
    ended: bool,
}

impl ChildInterpreter {
    /// For the child with this id.
    pub fn new(child: &SessionId) -> Self {
        Self { child: child.clone(), standing: Standing::default(), is_known: false, ended: false }
    }

    /// The child.
    pub fn id(&self) -> &SessionId {
        &self.child
    }

    /// True once the end was told.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// What the next block says of the child.
    pub fn block(&mut self, block: &Block) -> Vec<AgentEvent> {
        let at = Timestamp::from_millis(block.time.div_euclid(1000));
        let mut telling = Telling { offset: block.end, index: 0, at, events: vec![] };
        if self.ended {
            return vec![];
        }
        match block.kind {
            Kind::Report => {
                if let Ok(Sourced { source, report }) = serde_json::from_slice(&block.data) {
                    self.report(&source, report, &mut telling);
                }
            }
            Kind::Note => match unpack::<Note>(&block.data) {
                Some(Note::Frozen { by }) => telling.tell_all(self.standing.frozen(&by)),
                Some(Note::Thawed { .. }) => telling.tell_all(self.standing.thawed()),
                Some(
                    Note::Started { .. }
                    | Note::Intent(_)
                    | Note::Injecting(_)
                    | Note::Injected { .. }
                    | Note::Answered(_)
                    | Note::Stands { .. }
                    | Note::Told { .. }
                    | Note::Other,
                )
                | None => {}
            },
            Kind::Exit => {
                if let Some(Exit { end }) = unpack(&block.data) {
                    self.end(end_with_parent(&end), &mut telling);
                }
            }
            Kind::Output
            | Kind::Errors
            | Kind::Input
            | Kind::Resize
            | Kind::Quiet
            | Kind::Fragment
            | Kind::Shown
            | Kind::Other(_) => {}
        }
        telling.events
    }

    fn report(&mut self, source: &str, report: Report, telling: &mut Telling) {
        match report {
            Report::Child { session_id: Some(child), title, ended, .. } if child == self.child => {
                self.known(telling);
                if let Some(title) = title {
                    telling.tell_all(self.standing.titled(&title));
                }
                if ended {
                    let reason = "the session that started it says that it is over".into();
                    let end = End { status: Status::Completed, reason, exit_code: None, error: None, report: None };
                    self.end(end, telling);
                }
            }
            Report::Message { role, content, kind, metadata, session_id: Some(child) } if child == self.child => {
                self.known(telling);
                let voice = Voice::claimed(role, kind.unwrap_or(MessageKind::Text), content, metadata, source);
                let Ok(message_id) = MessageId::new(format!("{}-s{:x}", self.child, telling.offset)) else { return };
                let Voice { role, kind, content, metadata } = voice;
                let timestamp = telling.at;
                telling.tell(News::Message(MessageDraft { message_id, role, kind, content, timestamp, metadata }));
            }
            Report::Status { turn, status, reason, session_id: Some(child) } if child == self.child => {
                self.known(telling);
                telling.tell_all(self.standing.reported(turn, status, reason));
            }
            Report::Child { .. }
            | Report::Message { .. }
            | Report::Status { .. }
            | Report::Attention { .. }
            | Report::Title { .. }
            | Report::Prompt { .. }
            | Report::Ask { .. }
            | Report::Called { .. }
            | Report::Answers
            | Report::Closed { .. }
            | Report::Speaks
            | Report::Expected
            | Report::Missing => {}
        }
    }

    fn known(&mut self, telling: &mut Telling) {
        if !std::mem::replace(&mut self.is_known, true) {
            telling.tell_all(self.standing.started());
        }
    }

    fn end(&mut self, end: End, telling: &mut Telling) {
        self.ended = true;
        telling.tell(News::Ended(end));
    }
}

/// How a child ends whose parent ends.
pub(crate) fn end_with_parent(end: &End) -> End {
    let reason = format!("with the session that started it: {}", end.reason);
    End { status: end.status.clone(), reason, exit_code: None, error: end.error.clone(), report: None }
}
