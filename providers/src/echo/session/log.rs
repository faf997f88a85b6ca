//! What happened in an echo session: as it is kept in the journal, as it is in memory, as it is told.

use std::io::Write;

use bus_schema::{
    Attention, AttentionKind, MessageId, MessageKind, Metadata, Role, SessionId, Status, StatusSource, TerminalSize,
    Timestamp, Turn,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::super::script::Act;
use super::{Birth, SCREEN_BYTES, State};
use crate::clock;
use crate::provider::{AgentEvent, Child, DeltaDraft, End, InjectOutcome, MessageDraft, News, Position, TerminalPiece};

/// What happened, as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Kept {
    Status { status: Status, reason: Option<String>, source: StatusSource },
    Turn(Option<Turn>),
    Attention(Option<Attention>),
    Title(String),
    Message(MessageDraft),
    Terminal { offset: u64, data: Vec<u8>, size: Option<TerminalSize> },
    Receipt { message_id: MessageId, outcome: InjectOutcome },
    Child { session_id: SessionId, title: Option<String> },
    Facts(Metadata),
    Ended(End),
}

/// One line of the journal.
#[derive(Serialize, Deserialize)]
pub(super) enum Line {
    Born(Birth),
    Given { message_id: MessageId, text: String },
    Did { at: Timestamp, input: usize, step: u64, kept: Kept },
}

/// An event, and whether it is kept or only shown.
#[derive(Clone, Debug)]
pub(super) struct Logged {
    pub position: Position,
    pub at: Timestamp,
    pub what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Kept(Kept),
    Shown(DeltaDraft),
}

impl State {
    pub(super) fn act(&mut self, act: Act, id: &SessionId) -> std::io::Result<Option<(SessionId, Option<String>)>> {
        let (now, step) = (clock::now(), self.step + 1);
        let status = |status| Kept::Status { status, reason: None, source: StatusSource::Runtime };
        match act {
            Act::Say(content) => {
                let draft = MessageDraft {
                    message_id: self.next_message_id(id)?,
                    role: Role::Agent,
                    kind: MessageKind::Text,
                    content,
                    timestamp: now,
                    metadata: Metadata::from_iter([("source".to_owned(), "echo".into())]),
                };
                self.record(step, Kept::Message(draft))?;
            }
            Act::Spell(content) => {
                let message_id = self.next_message_id(id)?;
                let delta = DeltaDraft { message_id, role: Role::Agent, kind: MessageKind::Text, content };
                let position = Position { offset: self.kept, index: 0 };
                self.log.push_back(Logged { position, at: now, what: What::Shown(delta) });
                self.step = step;
            }
            Act::Think => self.record(step, Kept::Turn(Some(Turn::Active)))?,
            Act::Wait(text) => {
                let attention = Attention::new(AttentionKind::Question, text, now);
                self.record(step, status(Status::Waiting))?;
                self.record(step, Kept::Attention(Some(attention)))?;
            }
            Act::Work => {
                self.record(step, Kept::Attention(None))?;
                self.record(step, status(Status::Running))?;
            }
            Act::Print(data) => {
                let piece = self.piece(&data);
                self.record(step, piece)?;
            }
            Act::Title(title) => self.record(step, Kept::Title(title))?,
            Act::Fact(key, value) => {
                let value = serde_json::from_str(&value).unwrap_or_else(|_| value.into());
                self.record(step, Kept::Facts(Metadata::from_iter([(key, value)])))?;
            }
            Act::Child(title) => {
                let session_id = super::super::new_session_id();
                let title = Some(title).filter(|t| !t.is_empty());
                self.record(step, Kept::Child { session_id: session_id.clone(), title: title.clone() })?;
                return Ok(Some((session_id, title)));
            }
            Act::Exit(code) => {
                let error = (code != 0).then(|| format!("ended with exit code {code}"));
                let status = if code == 0 { Status::Completed } else { Status::Failed };
                let reason = format!("exit code {code}");
                self.record(step, Kept::Ended(End { status, reason, exit_code: Some(code), error, report: None }))?;
            }
        }
        Ok(None)
    }

    /// The id of the message that stands at the next place: the same for its deltas, and after a restart.
    pub(super) fn next_message_id(&self, session: &SessionId) -> std::io::Result<MessageId> {
        MessageId::new(format!("{session}-{}", self.kept + 1)).map_err(std::io::Error::other)
    }

    pub(super) fn piece(&mut self, data: &[u8]) -> Kept {
        let size = self.resized.then_some(self.size);
        Kept::Terminal { offset: self.printed, data: data.to_vec(), size }
    }

    /// Law 1: to the journal, then to memory.
    pub(super) fn record(&mut self, step: u64, kept: Kept) -> std::io::Result<()> {
        let at = clock::now();
        self.step = step;
        self.write(&Line::Did { at, input: self.input, step, kept: kept.clone() })?;
        self.apply(at, kept);
        Ok(())
    }

    pub(super) fn write(&mut self, line: &Line) -> std::io::Result<()> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        journal.write_all(text.as_bytes())
    }

    pub(super) fn apply(&mut self, at: Timestamp, kept: Kept) {
        match &kept {
            Kept::Status { status, reason, source } => {
                (self.status, self.reason, self.source) = (status.clone(), reason.clone(), source.clone());
                self.started_at = self.started_at.or(Some(at));
            }
            Kept::Title(title) => self.title = Some(title.clone()),
            Kept::Facts(facts) => self.facts.extend(facts.clone()),
            Kept::Terminal { data, .. } => {
                self.printed += data.len() as u64;
                self.resized = false;
                self.screen.extend_from_slice(data);
                let over = self.screen.len().saturating_sub(SCREEN_BYTES);
                self.screen.drain(..over);
            }
            Kept::Ended(end) => {
                (self.status, self.reason) = (end.status.clone(), Some(end.reason.clone()));
                self.ended_at = Some(at);
            }
            Kept::Receipt { .. } => self.taken = self.input + 1,
            Kept::Child { session_id, title } => self.children.push((session_id.clone(), title.clone())),
            Kept::Turn(_) | Kept::Attention(_) | Kept::Message(_) => {}
        }
        self.kept += 1;
        let position = Position { offset: self.kept, index: 0 };
        self.log.push_back(Logged { position, at, what: What::Kept(kept) });
    }
}

impl Logged {
    pub(super) fn into_event(self) -> AgentEvent {
        let news = match self.what {
            What::Shown(delta) => News::Delta(delta),
            What::Kept(Kept::Status { status, reason, source }) => News::Status { status, reason, source },
            What::Kept(Kept::Turn(turn)) => News::Turn(turn),
            What::Kept(Kept::Attention(attention)) => News::Attention(attention),
            What::Kept(Kept::Title(title)) => News::Title(title),
            What::Kept(Kept::Message(draft)) => News::Message(draft),
            What::Kept(Kept::Terminal { offset, data, size }) => {
                News::Terminal(TerminalPiece { offset, data: Bytes::from(data), size })
            }
            What::Kept(Kept::Receipt { message_id, outcome }) => News::Receipt { message_id, outcome },
            What::Kept(Kept::Child { session_id, title }) => {
                News::Child(Child { session_id, title, agent_type: Some("echo".into()) })
            }
            What::Kept(Kept::Facts(facts)) => News::Facts(facts),
            What::Kept(Kept::Ended(end)) => News::Ended(end),
        };
        AgentEvent { position: self.position, at: self.at, news }
    }
}
