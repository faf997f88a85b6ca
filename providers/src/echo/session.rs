//! One echo session: what happened in it, the agent that makes it happen, and its journal.
//!
//! Laws:
//! 1. Everything that happens is appended under one lock, first to the journal (where there is one), then to memory:
//!    whoever holds the lock knows that nothing of the session runs. That is the proof of a pause.
//! 2. The agent waits while [`RETAINED`] events are not acknowledged.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bus_schema::{
    Attention, AttentionKind, Capability, Delivery, MessageId, MessageKind, Metadata, Role, SessionId, Status,
    StatusSource, TerminalSize, Turn,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::script::{Act, Steps, steps};
use crate::clock;
use crate::provider::{
    AgentEvent, Child, DeltaDraft, End, InjectOutcome, MessageDraft, News, OperatorMessage, Position, ProviderError,
    SessionInfo, TerminalPiece,
};

/// Events kept until they are acknowledged; then the agent waits. Enough that a node which acknowledges every second
/// does not slow an agent of a few thousand messages a second.
pub(super) const RETAINED: usize = 8_192;
/// Events on their way to a subscriber: a moment's worth, so that a silent one is felt soon.
const SUBSCRIBER_QUEUE: usize = 64;
/// Terminal output kept for a snapshot, in bytes.
const SCREEN_BYTES: usize = 64 * 1024;

/// How a session began.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Birth {
    pub session_id: SessionId,
    pub parent: Option<SessionId>,
    pub title: Option<String>,
    pub agent_type: Option<String>,
    pub profile: Option<String>,
    pub at: bus_schema::Timestamp,
    pub cannot: Vec<Capability>,
    pub delay_ms: u64,
    pub pace_ms: u64,
    pub program: Vec<String>,
}

/// What happened, as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Kept {
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
enum Line {
    Born(Birth),
    Given { message_id: MessageId, text: String },
    Did { at: bus_schema::Timestamp, input: usize, step: u64, kept: Kept },
}

/// An event, and whether it is kept or only shown.
#[derive(Clone, Debug)]
struct Logged {
    position: Position,
    at: bus_schema::Timestamp,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Kept(Kept),
    Shown(DeltaDraft),
}

/// A line the agent was given; the first ones are its program.
struct Input {
    message_id: Option<MessageId>,
    text: String,
}

pub(super) struct Session {
    pub birth: Birth,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

struct State {
    status: Status,
    reason: Option<String>,
    source: StatusSource,
    title: Option<String>,
    facts: Metadata,
    started_at: Option<bus_schema::Timestamp>,
    ended_at: Option<bus_schema::Timestamp>,
    log: VecDeque<Logged>,
    /// How many events were dropped from the front of `log`.
    dropped: u64,
    kept: u64,
    inputs: Vec<Input>,
    /// The input in work, and how many of its steps are done.
    input: usize,
    step: u64,
    /// How many inputs the agent has begun to act on.
    taken: usize,
    children: Vec<(SessionId, Option<String>)>,
    leaving: bool,
    printed: u64,
    screen: Vec<u8>,
    size: TerminalSize,
    resized: bool,
    journal: Option<File>,
}

impl Session {
    /// A new session, its journal begun in `folder`.
    pub fn begin(birth: Birth, folder: Option<&Path>) -> std::io::Result<Self> {
        let journal = match folder {
            Some(folder) => Some(File::options().append(true).create(true).open(journal_path(folder, &birth))?),
            None => None,
        };
        let session = Self::empty(birth, journal);
        session.lock().write(&Line::Born(session.birth.clone()))?;
        session
            .lock()
            .record(0, Kept::Status { status: Status::Running, reason: None, source: StatusSource::Runtime })?;
        Ok(session)
    }

    /// A session as its journal tells it; `None` if the journal ends before the session began.
    pub fn reopen(path: &Path) -> std::io::Result<Option<Self>> {
        let text = std::fs::read_to_string(path)?;
        // A line that was cut by a kill never became visible: it is cut off, and the agent does that step again.
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        let file = File::options().append(true).open(path)?;
        file.set_len(whole as u64)?;
        let mut lines = text.get(..whole).unwrap_or_default().lines();
        let Some(Line::Born(birth)) = lines.next().map(serde_json::from_str).transpose()? else { return Ok(None) };
        let session = Self::empty(birth, None);
        for line in lines {
            let mut state = session.lock();
            match serde_json::from_str(line)? {
                Line::Born(_) => {}
                Line::Given { message_id, text } => state.inputs.push(Input { message_id: Some(message_id), text }),
                Line::Did { at, input, step, kept } => {
                    (state.input, state.step) = (input, step);
                    state.apply(at, kept);
                }
            }
        }
        session.lock().journal = Some(file);
        Ok(Some(session))
    }

    fn empty(birth: Birth, journal: Option<File>) -> Self {
        let inputs = birth.program.iter().map(|text| Input { message_id: None, text: text.clone() }).collect();
        let state = State {
            status: Status::Spawning,
            reason: None,
            source: StatusSource::Runtime,
            title: birth.title.clone(),
            facts: Metadata::new(),
            started_at: None,
            ended_at: None,
            log: VecDeque::new(),
            dropped: 0,
            kept: 0,
            inputs,
            input: 0,
            step: 0,
            taken: 0,
            children: vec![],
            leaving: false,
            printed: 0,
            screen: vec![],
            size: TerminalSize { cols: 80, rows: 24 },
            resized: true,
            journal,
        };
        Self { birth, state: Mutex::new(state), changed: watch::Sender::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        self.changed.send_modify(|version| *version = version.wrapping_add(1));
    }

    pub fn capabilities(&self) -> Vec<Capability> {
        let can = |c: &&Capability| !matches!(c, Capability::Approve) && !self.birth.cannot.contains(c);
        Capability::ALL.iter().filter(can).cloned().collect()
    }

    /// Refuses what the session cannot do, or cannot do any more.
    pub fn require(&self, capability: Capability) -> Result<(), ProviderError> {
        let status = self.lock().status.clone();
        if !self.capabilities().contains(&capability) {
            let reason = "its profile says so; start it from another one".into();
            return Err(ProviderError::NotCapable { capability, reason });
        }
        if status.is_terminal() {
            return Err(ProviderError::WrongState { status, reason: "it has ended".into() });
        }
        Ok(())
    }

    /// The sessions it started.
    pub fn children(&self) -> Vec<(SessionId, Option<String>)> {
        self.lock().children.clone()
    }

    pub fn status(&self) -> Status {
        self.lock().status.clone()
    }

    pub fn info(&self) -> SessionInfo {
        let state = self.lock();
        SessionInfo {
            session_id: self.birth.session_id.clone(),
            parent_session_id: self.birth.parent.clone(),
            status: state.status.clone(),
            status_reason: state.reason.clone(),
            status_source: state.source.clone(),
            title: state.title.clone(),
            agent_type: self.birth.agent_type.clone(),
            profile: self.birth.profile.clone(),
            spawned_at: self.birth.at,
            started_at: state.started_at,
            ended_at: state.ended_at,
            capabilities: self.capabilities(),
            metadata: state.facts.clone(),
        }
    }

    pub fn recent(&self, limit: usize) -> Vec<MessageDraft> {
        let state = self.lock();
        let mut drafts: Vec<_> = state
            .log
            .iter()
            .rev()
            .filter_map(|logged| match &logged.what {
                What::Kept(Kept::Message(draft)) => Some(draft.clone()),
                What::Kept(_) | What::Shown(_) => None,
            })
            .take(limit)
            .collect();
        drafts.reverse();
        drafts
    }

    pub fn acknowledge(&self, position: Position) {
        let mut state = self.lock();
        let gone = state.log.partition_point(|logged| logged.position <= position);
        state.log.drain(..gone);
        state.dropped += gone as u64;
        drop(state);
        self.wake();
    }

    /// Gives the agent a line. Law 5 of the trait: the same message id only once.
    pub fn give(&self, message: &OperatorMessage) -> std::io::Result<()> {
        let mut state = self.lock();
        if state.inputs.iter().any(|input| input.message_id.as_ref() == Some(&message.message_id)) {
            return Ok(());
        }
        let (message_id, text) = (message.message_id.clone(), message.content.clone());
        state.write(&Line::Given { message_id: message_id.clone(), text: text.clone() })?;
        state.inputs.push(Input { message_id: Some(message_id), text });
        drop(state);
        self.wake();
        Ok(())
    }

    pub fn given(&self, message: &MessageId) -> Option<Delivery> {
        let state = self.lock();
        let at = state.inputs.iter().position(|input| input.message_id.as_ref() == Some(message))?;
        Some(if at < state.taken { Delivery::Taken } else { Delivery::Written })
    }

    pub fn pause(&self, by: &str) -> std::io::Result<()> {
        self.set_status(Status::Paused, format!("paused by {by}"))
    }

    pub fn resume(&self, by: &str) -> std::io::Result<()> {
        if self.status() != Status::Paused {
            return Ok(());
        }
        self.set_status(Status::Running, format!("resumed by {by}"))
    }

    fn set_status(&self, status: Status, reason: String) -> std::io::Result<()> {
        let mut state = self.lock();
        if state.status != status && !state.status.is_terminal() {
            let step = state.step;
            state.record(step, Kept::Status { status, reason: Some(reason), source: StatusSource::Operator })?;
        }
        drop(state);
        self.wake();
        Ok(())
    }

    /// Lets the agent finish its step and then end.
    pub fn leave(&self, by: &str) -> std::io::Result<()> {
        self.resume(by)?;
        self.lock().leaving = true;
        self.wake();
        Ok(())
    }

    /// Ends it here and now.
    pub fn end(&self, end: End) -> std::io::Result<()> {
        let mut state = self.lock();
        if !state.status.is_terminal() {
            let step = state.step;
            state.record(step, Kept::Ended(end))?;
        }
        drop(state);
        self.wake();
        Ok(())
    }

    pub fn print(&self, data: &[u8]) -> std::io::Result<()> {
        let mut state = self.lock();
        let (step, piece) = (state.step, state.piece(data));
        state.record(step, piece)?;
        drop(state);
        self.wake();
        Ok(())
    }

    pub fn resize(&self, size: TerminalSize) {
        let mut state = self.lock();
        (state.size, state.resized) = (size, true);
    }

    pub fn snapshot(&self) -> bus_schema::TerminalSnapshot {
        let state = self.lock();
        bus_schema::TerminalSnapshot { offset: state.printed, data: state.screen.clone(), size: state.size }
    }

    /// Sends what is behind `from`, and all that follows, until the session has ended or nobody listens.
    pub fn subscribe(&self, from: Position) -> (mpsc::Receiver<AgentEvent>, Feed) {
        let (tx, rx) = mpsc::channel(SUBSCRIBER_QUEUE);
        let state = self.lock();
        let at = state.dropped + state.log.partition_point(|logged| logged.position <= from) as u64;
        (rx, Feed { tx, at, changed: self.changed.subscribe() })
    }

    /// Feeds one subscriber. Cancel-safe only as a whole: it is the body of a task.
    pub async fn feed(&self, mut feed: Feed) {
        loop {
            let (batch, ended) = {
                let state = self.lock();
                feed.at = feed.at.max(state.dropped);
                let skip = usize::try_from(feed.at - state.dropped).unwrap_or(usize::MAX);
                let batch: Vec<_> = state.log.iter().skip(skip).take(SUBSCRIBER_QUEUE).cloned().collect();
                (batch, state.status.is_terminal())
            };
            if batch.is_empty() {
                if ended {
                    return;
                }
                tokio::select! {
                    changed = feed.changed.changed() => if changed.is_err() { return },
                    () = feed.tx.closed() => return,
                }
            }
            for logged in batch {
                if feed.tx.send(logged.into_event()).await.is_err() {
                    return;
                }
                feed.at += 1;
            }
        }
    }

    /// The agent: does one step after the other until it ends or is cancelled. New children are told to `children`.
    pub async fn live(&self, cancel: CancellationToken, children: mpsc::Sender<(SessionId, Option<String>)>) {
        let mut changed = self.changed.subscribe();
        let mut current: Option<(usize, Steps)> = None;
        while !cancel.is_cancelled() {
            changed.borrow_and_update();
            match self.step(&mut current) {
                Ok(Stepped::Ended) => return,
                Ok(Stepped::Did(child)) => {
                    self.wake();
                    if let Some(child) = child
                        && children.send(child).await.is_err()
                    {
                        return;
                    }
                    if self.birth.pace_ms > 0 {
                        tokio::select! {
                            () = tokio::time::sleep(Duration::from_millis(self.birth.pace_ms)) => {}
                            () = cancel.cancelled() => return,
                        }
                    } else {
                        tokio::task::yield_now().await;
                    }
                }
                Ok(Stepped::Nothing) => tokio::select! {
                    changed = changed.changed() => if changed.is_err() { return },
                    () = cancel.cancelled() => return,
                },
                Err(error) => {
                    tracing::error!(session_id = %self.birth.session_id, error = %error, "echo journal cannot be written");
                    return;
                }
            }
        }
    }

    fn step(&self, current: &mut Option<(usize, Steps)>) -> std::io::Result<Stepped> {
        let mut state = self.lock();
        if state.status.is_terminal() {
            return Ok(Stepped::Ended);
        }
        if state.leaving {
            let reason = "asked to end".to_owned();
            let end = End { status: Status::Killed, reason, exit_code: Some(0), error: None, report: None };
            let step = state.step;
            state.record(step, Kept::Ended(end))?;
            return Ok(Stepped::Did(None));
        }
        if state.status == Status::Paused || state.log.len() >= RETAINED {
            return Ok(Stepped::Nothing);
        }
        let Some(input) = state.inputs.get(state.input) else { return Ok(Stepped::Nothing) };
        let steps = match current {
            Some((of, steps)) if *of == state.input => steps,
            _ => {
                let mut begun = steps(&input.text);
                if let Some(done) = usize::try_from(state.step).ok().filter(|done| *done > 0) {
                    begun.nth(done - 1);
                }
                &mut current.insert((state.input, begun)).1
            }
        };
        let Some(act) = steps.next() else {
            (state.input, state.step) = (state.input + 1, 0);
            return Ok(Stepped::Did(None));
        };
        if state.taken <= state.input
            && let Some(message_id) = input.message_id.clone()
        {
            let outcome = InjectOutcome { state: Delivery::Taken, mode: None, reason: None };
            state.record(0, Kept::Receipt { message_id, outcome })?;
        }
        state.act(act, &self.birth.session_id).map(Stepped::Did)
    }
}

enum Stepped {
    Nothing,
    Did(Option<(SessionId, Option<String>)>),
    Ended,
}

/// One subscriber's place.
pub(super) struct Feed {
    tx: mpsc::Sender<AgentEvent>,
    at: u64,
    changed: watch::Receiver<u64>,
}

impl State {
    fn act(&mut self, act: Act, id: &SessionId) -> std::io::Result<Option<(SessionId, Option<String>)>> {
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
                let attention = Attention { kind: AttentionKind::Question, text, since: now };
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
                let session_id = super::new_session_id();
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
    fn next_message_id(&self, session: &SessionId) -> std::io::Result<MessageId> {
        MessageId::new(format!("{session}-{}", self.kept + 1)).map_err(std::io::Error::other)
    }

    fn piece(&mut self, data: &[u8]) -> Kept {
        let size = self.resized.then_some(self.size);
        Kept::Terminal { offset: self.printed, data: data.to_vec(), size }
    }

    /// Law 1: to the journal, then to memory.
    fn record(&mut self, step: u64, kept: Kept) -> std::io::Result<()> {
        let at = clock::now();
        self.step = step;
        self.write(&Line::Did { at, input: self.input, step, kept: kept.clone() })?;
        self.apply(at, kept);
        Ok(())
    }

    fn write(&mut self, line: &Line) -> std::io::Result<()> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        journal.write_all(text.as_bytes())
    }

    fn apply(&mut self, at: bus_schema::Timestamp, kept: Kept) {
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
    fn into_event(self) -> AgentEvent {
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

pub(super) fn journal_path(folder: &Path, birth: &Birth) -> std::path::PathBuf {
    folder.join(format!("{}.jsonl", birth.session_id))
}
