//! One subscription: reads a session's log from the holder, or from the files once that is gone, and tells its events.
//!
//! ```text
//! checkpoint ─► holder (live) ─► … ─► connection ends ─► files ─► end
//!                  ▲ acknowledgements
//! ```
//!
//! Laws:
//! 1. Events up to the subscriber's place are derived and not told.
//! 2. The subscriber is waited for. Nothing is kept for it but what its channel holds: the rest waits in the log.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bus_schema::{Delivery, MessageId, MessageKind, Metadata, Role, SessionId, Timestamp};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::checkpoints;
use super::entry::Entry;
use super::interpret::{ChildInterpreter, Interpreter, end_with_parent};
use super::link::Link;
use super::log::{Block, Decoder, Kind, LogError, LogReader};
use super::protocol::{Call, FromHolder, ToHolder};
use super::record::{Exit, Note, unpack};
use super::recovery::Found;
use crate::clock;
use crate::profile::Protocol;
use crate::provider::{AgentEvent, DeltaDraft, InjectOutcome, MessageDraft, News, Position, ProviderError};

/// Events that wait for a subscriber. Enough to keep both sides busy; the largest is a piece of terminal output, 64 KiB.
pub(crate) const FEED_CAPACITY: usize = 256;
/// How long a text may be without an end before it is told as far as it goes.
const DELTA_AFTER: Duration = Duration::from_millis(200);
/// How long acknowledgements are collected before they are passed on.
const ACKNOWLEDGE_AFTER: Duration = Duration::from_millis(20);
/// How long a subscriber may take to acknowledge the end before its holder is left to leave by itself.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);
/// How long to wait before a holder that lives but does not answer is asked again.
const AGAIN: Duration = Duration::from_millis(500);
/// Blocks read from files at a time.
const FILE_BATCH: usize = 256;

/// A subscription.
pub(crate) struct Feed {
    entry: Arc<Entry>,
    events: mpsc::Sender<AgentEvent>,
    subject: Subject,
    /// The place behind the last block that was interpreted.
    offset: u64,
    /// The last position that the subscriber has.
    told: Position,
    /// The partial text that was told last.
    delta: Option<String>,
    /// Where the log begins, if that is behind the subscriber's place.
    gap: Option<u64>,
}

/// Whose events are told.
enum Subject {
    /// The session's own.
    Session(Box<Interpreter>),
    /// Those of a session that it said it started.
    Child(Box<ChildInterpreter>),
}

impl Subject {
    fn block(&mut self, block: &Block) -> Vec<AgentEvent> {
        match self {
            Subject::Session(interpreter) => interpreter.block(block),
            Subject::Child(interpreter) => interpreter.block(block),
        }
    }

    fn take_checkpoint(&mut self) -> Option<(u64, Vec<u8>)> {
        match self {
            Subject::Session(interpreter) => interpreter.take_checkpoint(),
            Subject::Child(_) => None,
        }
    }

    fn delta(&self) -> Option<DeltaDraft> {
        match self {
            Subject::Session(interpreter) => interpreter.delta(),
            Subject::Child(_) => None,
        }
    }

    fn has_ended(&self) -> bool {
        match self {
            Subject::Session(interpreter) => interpreter.has_ended(),
            Subject::Child(interpreter) => interpreter.has_ended(),
        }
    }

    fn id<'a>(&'a self, entry: &'a Entry) -> &'a SessionId {
        match self {
            Subject::Session(_) => &entry.id,
            Subject::Child(interpreter) => interpreter.id(),
        }
    }
}

/// Why reading stopped.
enum Stop {
    /// The subscriber is gone, or has everything.
    Over,
    /// The connection ended.
    Disconnected,
}

impl Feed {
    /// Prepares to tell what is behind `from`. Blocks: it reads files.
    pub fn open(entry: Arc<Entry>, from: Position, events: mpsc::Sender<AgentEvent>) -> Result<Self, LogError> {
        let (interpreter, offset) = begin(&Shelf::of(&entry), from)?;
        let subject = Subject::Session(Box::new(interpreter));
        let gap = (offset > from.offset).then_some(offset);
        Ok(Self { entry, events, subject, offset, told: from, delta: None, gap })
    }

    /// The same for a session that the one of `entry` said it started.
    pub fn open_child(
        entry: Arc<Entry>,
        child: &SessionId,
        from: Position,
        events: mpsc::Sender<AgentEvent>,
    ) -> Result<Self, LogError> {
        let offset = LogReader::first(&entry.dir.log())?.map_or(0, |header| header.base);
        let subject = Subject::Child(Box::new(ChildInterpreter::new(child)));
        Ok(Self { entry, events, subject, offset, told: from, delta: None, gap: None })
    }

    /// Tells events until the session is over or the subscriber gone.
    pub async fn run(mut self) {
        if !self.tell_gap().await {
            return;
        }
        loop {
            match Link::connect(self.entry.dir.path()).await {
                Ok(link) => match self.follow(link).await {
                    Ok(Stop::Over) => return self.take_leave().await,
                    Ok(Stop::Disconnected) => {}
                    Err(error) => return self.give_up(&error),
                },
                Err(error) if !error.is_gone() => {
                    tracing::warn!(session_id = %self.entry.id, %error, "holder does not answer");
                }
                Err(_) => {}
            }
            if self.entry.is_held() {
                // Alive and not listening: starting, ending, or not well.
                tokio::select! {
                    () = tokio::time::sleep(AGAIN) => {}
                    () = self.events.closed() => return,
                }
                if let Err(error) = self.begin_again().await {
                    return self.give_up(&error);
                }
                continue;
            }
            match self.entry.recover().await {
                Ok(Found::Ended(_)) => {}
                // Somebody else looks whether it is; look again.
                Ok(Found::Held) => continue,
                Err(error) => {
                    tracing::error!(session_id = %self.entry.id, %error, "a session could not be brought to its end");
                    return;
                }
            }
            return match self.read_files().await {
                Ok(()) => {}
                Err(error) => self.give_up(&error),
            };
        }
    }

    /// Tells the holder of a session that has ended that it is needed no more, once the subscriber has the end.
    async fn take_leave(self) {
        let Self { entry, events, subject, told, .. } = self;
        // The end is the last event, so the subscriber sees that nothing comes behind it.
        drop(events);
        if !matches!(&subject, Subject::Session(interpreter) if interpreter.has_ended()) {
            return;
        }
        let mut acknowledged = entry.acknowledged();
        let has_all = acknowledged.wait_for(|position| *position >= told);
        if matches!(tokio::time::timeout(TAKEN_WITHIN, has_all).await, Ok(Ok(_))) {
            // A holder that does not hear it leaves by itself.
            let _ = entry.call(Call::Leave, TAKEN_WITHIN).await;
        }
    }

    /// Says that the beginning of the log is gone. It was acknowledged, but perhaps not by this subscriber.
    async fn tell_gap(&mut self) -> bool {
        let Some(base) = self.gap.take() else { return true };
        let Ok(message_id) = MessageId::new(format!("{}-gap{base:x}", self.subject.id(&self.entry))) else {
            return true;
        };
        let content = format!("what this session did before byte {base} of its log is no longer kept");
        let (timestamp, mut metadata) = (clock::now(), Metadata::new());
        metadata.insert("firstOffset".into(), base.into());
        let (role, kind) = (Role::System, MessageKind::Status);
        let draft = MessageDraft { message_id, role, kind, content, timestamp, metadata };
        self.told = Position { offset: base, index: 0 };
        let event = AgentEvent { position: self.told, at: timestamp, news: News::Message(draft) };
        self.events.send(event).await.is_ok()
    }

    fn give_up(&self, error: &LogError) {
        tracing::error!(session_id = %self.entry.id, %error, "log cannot be told on");
    }

    /// If the log no longer has the place where we are, begins at the next checkpoint: what lies between was
    /// acknowledged.
    async fn begin_again(&mut self) -> Result<(), LogError> {
        let (entry, told, offset) = (Arc::clone(&self.entry), self.told, self.offset);
        let begin = tokio::task::spawn_blocking(move || {
            let first = LogReader::first(&entry.dir.log())?.map_or(0, |header| header.base);
            if first <= offset { Ok(None) } else { begin(&Shelf::of(&entry), told).map(Some) }
        });
        if let Some((interpreter, offset)) = begin.await.unwrap_or(Ok(None))? {
            self.offset = offset;
            if let Subject::Session(own) = &mut self.subject {
                **own = interpreter;
            }
        }
        Ok(())
    }

    /// Reads from the holder.
    async fn follow(&mut self, mut link: Link) -> Result<Stop, LogError> {
        if link.send(&ToHolder::Attach { from: self.offset }).await.is_err() {
            return Ok(Stop::Disconnected);
        }
        let mut decoder = Decoder::new(self.offset);
        let mut acknowledged = self.entry.acknowledged();
        let mut acknowledge_at = Some(Instant::now());
        let mut delta_at = None;
        loop {
            tokio::select! {
                message = link.receive() => match message {
                    Ok(FromHolder::Log { segment, data, .. }) => {
                        decoder.push(segment, &data);
                        while let Some(block) = decoder.next()? {
                            if !self.block(&block).await {
                                return Ok(Stop::Over);
                            }
                        }
                        // Not put off by what comes meanwhile: a text may be written for minutes without a pause.
                        delta_at = delta_at.or_else(|| Some(Instant::now() + DELTA_AFTER));
                    }
                    Ok(FromHolder::Hello { .. } | FromHolder::Refused { .. } | FromHolder::Reply { .. } | FromHolder::Go)
                    | Err(_) => return Ok(Stop::Disconnected),
                },
                () = sleep_until(acknowledge_at) => {
                    acknowledge_at = None;
                    let (position, floor) = self.entry.acknowledgement();
                    let message = ToHolder::Acknowledge { acknowledged: position, floor };
                    if link.send(&message).await.is_err() {
                        return Ok(Stop::Disconnected);
                    }
                }
                changed = acknowledged.changed(), if acknowledge_at.is_none() => {
                    if changed.is_err() {
                        return Ok(Stop::Over);
                    }
                    acknowledge_at = Some(Instant::now() + ACKNOWLEDGE_AFTER);
                }
                () = sleep_until(delta_at) => {
                    delta_at = None;
                    self.tell_delta();
                }
                () = self.events.closed() => return Ok(Stop::Over),
            }
        }
    }

    /// Reads from the files, to the end.
    async fn read_files(&mut self) -> Result<(), LogError> {
        let (dir, offset) = (self.entry.dir.log(), self.offset);
        let open = tokio::task::spawn_blocking(move || LogReader::open(&dir, offset));
        let Ok(reader) = open.await else { return Ok(()) };
        let mut reader = reader?;
        loop {
            let batch = tokio::task::spawn_blocking(move || {
                let mut blocks = vec![];
                while blocks.len() < FILE_BATCH
                    && let Some(block) = reader.next()?
                {
                    blocks.push(block);
                }
                Ok::<_, LogError>((reader, blocks))
            });
            let Ok(result) = batch.await else { return Ok(()) };
            let (next, blocks) = result?;
            reader = next;
            if blocks.is_empty() {
                self.tell_lost_end().await;
                return Ok(());
            }
            for block in blocks {
                if !self.block(&block).await {
                    self.tell_lost_end().await;
                    return Ok(());
                }
            }
        }
    }

    /// A crash of the machine can take the end of a log with it that the subscriber has seen already. Then its end lies
    /// before where the subscriber is, and is told behind that.
    async fn tell_lost_end(&mut self) {
        let exit = self.entry.exit().await;
        if let Some(Exit { end }) = exit.filter(|_| self.told.offset > self.offset) {
            let position = Position { offset: self.told.offset + 1, index: 0 };
            let end = match self.subject {
                Subject::Session(_) => end,
                Subject::Child(_) => end_with_parent(&end),
            };
            // If the subscriber is gone, nobody is left to be told.
            let _ = self.events.send(AgentEvent { position, at: clock::now(), news: News::Ended(end) }).await;
        }
    }

    /// Tells what a block says. False once there is nobody to tell, or nothing more.
    async fn block(&mut self, block: &Block) -> bool {
        let events = self.subject.block(block);
        self.offset = block.end;
        if let Some((base, bytes)) = self.subject.take_checkpoint() {
            self.entry.checkpoints.keep(base, bytes).await;
        }
        for event in events {
            if let Subject::Session(_) = self.subject {
                self.entry.learn(&event);
            }
            if event.position <= self.told {
                continue;
            }
            self.told = event.position;
            self.delta = None;
            if self.events.send(event).await.is_err() {
                return false;
            }
        }
        !self.subject.has_ended()
    }

    /// Tells the text that is being written. If the subscriber is busy, it does without.
    fn tell_delta(&mut self) {
        let Some(delta) = self.subject.delta() else { return };
        if self.delta.as_ref() == Some(&delta.content) {
            return;
        }
        self.delta = Some(delta.content.clone());
        let at: Timestamp = clock::now();
        let _ = self.events.try_send(AgentEvent { position: self.told, at, news: News::Delta(delta) });
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Where a session's log and its checkpoints are, and how it is read.
#[derive(Clone, Debug)]
pub(crate) struct Shelf {
    pub id: SessionId,
    pub protocol: Protocol,
    pub log: PathBuf,
    pub checkpoints: PathBuf,
}

impl Shelf {
    /// That of a terminal session.
    pub fn of(entry: &Entry) -> Self {
        let (log, checkpoints) = (entry.dir.log(), entry.dir.checkpoints());
        Self { id: entry.id.clone(), protocol: entry.spec.protocol, log, checkpoints }
    }
}

/// An interpreter as of a place at or before `from`, the newest there is, and that place. Blocks: it reads files.
pub(crate) fn begin(shelf: &Shelf, from: Position) -> Result<(Interpreter, u64), LogError> {
    let Some(header) = LogReader::first(&shelf.log)? else {
        return Err(LogError::Corrupt { offset: 0 });
    };
    // A position within a block needs that block again.
    let usable = || checkpoints::places(&shelf.checkpoints).into_iter().filter(|base| *base >= header.base);
    let before = usable().rev().filter(|base| *base < from.offset);
    // If all that is kept lies behind `from`, the oldest is the nearest.
    let oldest = usable().next().filter(|_| header.base > 0);
    for base in before.chain(oldest) {
        let bytes = checkpoints::read(&shelf.checkpoints, base).unwrap_or_default();
        if let Some(interpreter) = Interpreter::restore(&shelf.id, shelf.protocol, base, &bytes) {
            return Ok((interpreter, base));
        }
    }
    Ok((Interpreter::new(&shelf.id, shelf.protocol, header), header.base))
}

/// The last messages of a session, from its files. Blocks: it reads them.
pub(crate) fn recent(shelf: &Shelf, limit: usize) -> Result<Vec<MessageDraft>, LogError> {
    let Some(header) = LogReader::first(&shelf.log)? else { return Ok(vec![]) };
    let mut places: Vec<u64> = checkpoints::places(&shelf.checkpoints);
    places.retain(|base| *base > header.base);
    places.insert(0, header.base);
    // From the newest place back, until there are enough.
    while let Some(base) = places.pop() {
        let restored = checkpoints::read(&shelf.checkpoints, base)
            .and_then(|bytes| Interpreter::restore(&shelf.id, shelf.protocol, base, &bytes));
        let mut interpreter = match restored {
            Some(interpreter) => interpreter,
            None if base == header.base => Interpreter::new(&shelf.id, shelf.protocol, header),
            None => continue,
        };
        let mut reader = LogReader::open(&shelf.log, base)?;
        let mut found = std::collections::VecDeque::new();
        while let Some(block) = reader.next()? {
            for event in interpreter.block(&block) {
                if let News::Message(draft) = event.news {
                    found.push_back(draft);
                    if found.len() > limit {
                        found.pop_front();
                    }
                }
            }
        }
        if found.len() >= limit || places.is_empty() {
            return Ok(found.into());
        }
    }
    Ok(vec![])
}

/// How far an operator message came, from the files of a session whose holder is gone.
pub(crate) fn injection(entry: &Entry, message_id: &MessageId) -> Result<Option<InjectOutcome>, LogError> {
    let log = entry.dir.log();
    let Some(header) = LogReader::first(&log)? else { return Ok(None) };
    let mut reader = LogReader::open(&log, header.base)?;
    let mut outcome = None;
    while let Some(block) = reader.next()? {
        let note = (block.kind == Kind::Note).then(|| unpack::<Note>(&block.data)).flatten();
        match note {
            Some(Note::Injecting(message)) if message.message_id == *message_id => {
                let reason = Some("the holder died while it handed the message over".into());
                outcome = Some(InjectOutcome { state: Delivery::NotKnown, mode: None, reason });
            }
            Some(Note::Injected { message_id: told, outcome: so_far }) if told == *message_id => {
                outcome = Some(so_far);
            }
            Some(_) | None => {}
        }
    }
    Ok(outcome)
}

/// A failure to read a log, as the provider tells it.
pub(crate) fn unavailable(error: LogError) -> ProviderError {
    ProviderError::Unavailable { what: "the session's log cannot be read".into(), source: Some(Box::new(error)) }
}
