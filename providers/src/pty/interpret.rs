//! From a session's log to what the mesh is told: pure, block by block.
//!
//! ```text
//! blocks ─► status of the session (standing)
//!       ├─► terminal pieces
//!       └─► messages: lines · jsonl · reports of the session · what the screen shows
//! ```
//!
//! Laws:
//! 1. Events are a function of the blocks alone: no clock, no randomness. Told again from any checkpoint, they are the
//!    same, with the same positions and message ids. (A [`delta`](Interpreter::delta) is no event of the log.)
//! 2. At the beginning of each segment the interpreter is saved and goes on from what was saved, so that going on and
//!    starting again there are one thing.
//! 3. One message comes from one source. Once the session has reported messages itself, its screen gives none.
//! 4. What an agent says of itself is not believed where only the mesh can know it: the role `operator`, and the facts
//!    `operator`, `delivery`, `truncated`.

mod child;
mod lines;
mod message;
mod screen;
mod standing;

use bus_schema::{Delivery, InjectMode, MessageId, MessageKind, Metadata, Role, SessionId, TerminalSize, Timestamp};
use serde::{Deserialize, Serialize};

pub(crate) use self::child::{ChildInterpreter, end_with_parent};
use self::lines::Lines;
use self::message::{Voice, normalised};
use self::screen::{Found, Screen};
use self::standing::Standing;
use super::log::{Block, Kind, SegmentHeader, parse_size};
use super::record::{Exit, Fragment, Injecting, Input, Note, Typist, unpack};
use super::report::{Report, Sourced};
use crate::profile::Protocol;
use crate::provider::{AgentEvent, Child, DeltaDraft, InjectOutcome, MessageDraft, News, Position, TerminalPiece};

/// Version of what [`Interpreter::save`] gives. Another one is not read; the log is told from an earlier place then.
const CHECKPOINT_FORMAT: u32 = 1;
/// Operator messages that are remembered until the agent shows that it took them.
const MAX_AWAITED: usize = 32;
/// Longest partial line that is told while it is being written.
const MAX_DELTA_BYTES: usize = 16 * 1024;

/// Derives events from the blocks of one session's log.
pub(crate) struct Interpreter {
    session: SessionId,
    protocol: Protocol,
    segment: u64,
    kept: Kept,
    /// Where the protocol has a screen.
    screen: Option<Screen>,
    checkpoint: Option<(u64, Vec<u8>)>,
}

/// What is kept between blocks, besides the screen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Kept {
    /// Bytes of output so far.
    output: u64,
    /// The size, until it was told with a piece of output.
    size: Option<TerminalSize>,
    standing: Standing,
    lines: Lines,
    /// Of a second stream, where the runtime has one.
    #[serde(default = "no_lines")]
    second: Lines,
    /// Operator messages that were typed, oldest first.
    awaited: Vec<Awaited>,
    /// True once the session reported a message itself.
    speaks: bool,
    /// True once it is over.
    ended: bool,
}

fn no_lines() -> Lines {
    Lines::new(0)
}

/// An operator message that the agent has not shown to have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Awaited {
    message_id: MessageId,
    content: String,
    /// How it was handed over.
    mode: Option<InjectMode>,
}

#[derive(Serialize, Deserialize)]
struct Checkpoint {
    format: u32,
    kept: Kept,
    screen: Option<Screen>,
}

/// Events of one block, being collected.
struct Telling {
    offset: u64,
    index: u32,
    at: Timestamp,
    events: Vec<AgentEvent>,
}

impl Telling {
    fn tell(&mut self, news: News) {
        self.index += 1;
        let position = Position { offset: self.offset, index: self.index };
        self.events.push(AgentEvent { position, at: self.at, news });
    }

    fn tell_all(&mut self, news: Vec<News>) {
        for news in news {
            self.tell(news);
        }
    }
}

impl Interpreter {
    /// For a log, or what is left of it, that begins with this segment.
    pub fn new(session: &SessionId, protocol: Protocol, header: SegmentHeader) -> Self {
        let kept = Kept {
            output: header.output,
            size: Some(header.size),
            standing: Standing::default(),
            lines: Lines::new(header.output),
            second: Lines::new(header.output),
            awaited: vec![],
            speaks: false,
            ended: false,
        };
        let screen = (protocol == Protocol::Terminal).then(|| Screen::new(header.size));
        Self { session: session.clone(), protocol, segment: header.base, kept, screen, checkpoint: None }
    }

    /// Goes on from a checkpoint at the beginning of the segment with this base. `None` if it cannot be read.
    pub fn restore(session: &SessionId, protocol: Protocol, base: u64, bytes: &[u8]) -> Option<Self> {
        let Checkpoint { format, kept, screen } = unpack(bytes)?;
        if format != CHECKPOINT_FORMAT || screen.is_some() != (protocol == Protocol::Terminal) {
            return None;
        }
        Some(Self { session: session.clone(), protocol, segment: base, kept, screen, checkpoint: None })
    }

    /// The checkpoint that the last block gave, with the base of its segment.
    pub fn take_checkpoint(&mut self) -> Option<(u64, Vec<u8>)> {
        self.checkpoint.take()
    }

    /// True once the end was told.
    pub fn has_ended(&self) -> bool {
        self.kept.ended
    }

    /// What the next block says.
    pub fn block(&mut self, block: &Block) -> Vec<AgentEvent> {
        if block.segment != self.segment {
            self.enter(block.segment);
        }
        let at = Timestamp::from_millis(block.time.div_euclid(1000));
        let mut telling = Telling { offset: block.end, index: 0, at, events: vec![] };
        match block.kind {
            Kind::Output => self.output(&block.data, &mut telling),
            Kind::Fragment => {
                if let Some(fragment) = Fragment::decode(&block.data) {
                    self.fragment(fragment, &mut telling);
                }
            }
            Kind::Input => self.input(&block.data),
            Kind::Resize => {
                if let Some(size) = parse_size(&block.data) {
                    self.kept.size = Some(size);
                    if let Some(screen) = &mut self.screen {
                        let found = screen.resize(size);
                        self.tell_found(found, &mut telling);
                    }
                }
            }
            Kind::Report => {
                if let Ok(sourced) = serde_json::from_slice::<Sourced>(&block.data) {
                    self.report(sourced, &mut telling);
                }
            }
            Kind::Note => {
                if let Some(note) = unpack::<Note>(&block.data) {
                    self.note(note, &mut telling);
                }
            }
            Kind::Quiet => {
                let millis = block.data.first_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes));
                if let Some(screen) = &mut self.screen {
                    let found = screen.quiet(millis);
                    self.tell_found(found, &mut telling);
                }
            }
            Kind::Exit => {
                if let Some(Exit { end }) = unpack::<Exit>(&block.data) {
                    self.last_words(&mut telling);
                    self.kept.ended = true;
                    telling.tell(News::Ended(end));
                }
            }
            Kind::Other(_) => {}
        }
        telling.events
    }

    fn enter(&mut self, segment: u64) {
        self.segment = segment;
        let screen = self.screen.take();
        let bytes = super::record::pack(&Checkpoint { format: CHECKPOINT_FORMAT, kept: self.kept.clone(), screen });
        // Law 2. What was just written can be read.
        self.screen = unpack::<Checkpoint>(&bytes).and_then(|checkpoint| checkpoint.screen);
        self.checkpoint = Some((segment, bytes));
    }

    fn output(&mut self, data: &[u8], telling: &mut Telling) {
        let offset = self.kept.output;
        self.kept.output += data.len() as u64;
        let size = self.kept.size.take();
        telling.tell(News::Terminal(TerminalPiece { offset, data: data.to_vec().into(), size }));
        match self.protocol {
            Protocol::Lines | Protocol::Jsonl | Protocol::Acp => {
                for line in self.kept.lines.feed(data) {
                    self.tell_line(&line, telling);
                }
            }
            Protocol::Terminal => {
                let Some(screen) = &mut self.screen else { return };
                let (found, signals) = screen.output(data);
                self.tell_found(found, telling);
                let at = telling.at;
                for signal in &signals {
                    telling.tell_all(self.kept.standing.signal(signal, at));
                }
                if self.kept.standing.take_turn_over()
                    && let Some(screen) = &mut self.screen
                {
                    screen.settle_soon();
                }
            }
        }
    }

    /// A piece of output that has no terminal: only lines are made of it.
    fn fragment(&mut self, fragment: Fragment<'_>, telling: &mut Telling) {
        let is_second = fragment.stream == 2;
        let lines = if is_second { &mut self.kept.second } else { &mut self.kept.lines };
        for line in lines.feed(fragment.bytes) {
            if is_second {
                self.tell_second(&line, telling);
            } else {
                self.tell_line(&line, telling);
            }
        }
    }

    /// A line of the second stream: text, whatever the protocol of the first.
    fn tell_second(&mut self, line: &lines::Line, telling: &mut Telling) {
        let mut voice = Voice::of_line(line, "lines");
        voice.metadata.insert("stream".into(), "stderr".into());
        note_cut(line, &mut voice);
        self.say(&format!("e{:x}", line.start), voice, telling);
    }

    fn tell_line(&mut self, line: &lines::Line, telling: &mut Telling) {
        let mut voice = match self.protocol {
            Protocol::Jsonl => Voice::of_json(&line.bytes).unwrap_or_else(|| Voice::of_line(line, "jsonl")),
            Protocol::Lines | Protocol::Acp | Protocol::Terminal => Voice::of_line(line, "lines"),
        };
        note_cut(line, &mut voice);
        self.say(&format!("o{:x}", line.start), voice, telling);
    }

    /// Tells a message, or takes it for the proof that an operator message arrived.
    fn say(&mut self, key: &str, voice: Voice, telling: &mut Telling) {
        if voice.role == Role::User
            && let Some(Awaited { message_id, mode, .. }) = self.take_awaited(&voice.content)
        {
            let outcome = InjectOutcome { state: Delivery::Taken, mode, reason: None };
            telling.tell(News::Receipt { message_id, outcome });
            return;
        }
        let Some(message_id) = self.message_id(key) else { return };
        let Voice { role, kind, content, metadata } = voice;
        telling.tell(News::Message(MessageDraft { message_id, role, kind, content, timestamp: telling.at, metadata }));
    }

    fn message_id(&self, key: &str) -> Option<MessageId> {
        MessageId::new(format!("{}-{key}", self.session)).ok()
    }

    /// The operator message with this text, if one was typed.
    fn take_awaited(&mut self, content: &str) -> Option<Awaited> {
        let content = normalised(content);
        let index = self.kept.awaited.iter().position(|awaited| normalised(&awaited.content) == content)?;
        Some(self.kept.awaited.remove(index))
    }

    fn input(&mut self, data: &[u8]) {
        let (Some(Input { by, data, hidden }), Some(screen)) = (unpack::<Input>(data), &mut self.screen) else {
            return;
        };
        match by {
            Typist::Operator(_) if !hidden => screen.typed(&data),
            Typist::Operator(_) | Typist::Message(_) | Typist::Terminal | Typist::Other => {}
        }
    }

    fn note(&mut self, note: Note, telling: &mut Telling) {
        match note {
            Note::Started { pid, containment } => {
                let mut facts = Metadata::new();
                facts.insert("pid".into(), pid.into());
                facts.insert("containment".into(), containment.into());
                telling.tell(News::Facts(facts));
                telling.tell_all(self.kept.standing.started());
            }
            Note::Frozen { by } => {
                telling.tell_all(self.kept.standing.frozen(&by));
            }
            Note::Thawed { .. } => {
                telling.tell_all(self.kept.standing.thawed());
            }
            Note::Injecting(message) => {
                if let Some(screen) = &mut self.screen {
                    screen.injected(&message.content);
                }
                if self.kept.awaited.len() >= MAX_AWAITED {
                    self.kept.awaited.remove(0);
                }
                let Injecting { message_id, content, .. } = message;
                self.kept.awaited.push(Awaited { message_id, content, mode: None });
            }
            Note::Injected { message_id, outcome } => {
                if outcome.state == Delivery::Refused {
                    self.kept.awaited.retain(|awaited| awaited.message_id != message_id);
                }
                if let Some(awaited) = self.kept.awaited.iter_mut().find(|awaited| awaited.message_id == message_id) {
                    awaited.mode.clone_from(&outcome.mode);
                }
                telling.tell(News::Receipt { message_id, outcome });
            }
            Note::Stands { status, reason, source } => telling.tell(News::Status { status, reason, source }),
            Note::Told { text } => {
                let mut metadata = Metadata::new();
                metadata.insert("source".into(), "runtime".into());
                let voice = Voice { role: Role::System, kind: MessageKind::Status, content: text, metadata };
                self.say(&format!("n{:x}", telling.offset), voice, telling);
            }
            Note::Intent(_) | Note::Other => {}
        }
    }

    fn report(&mut self, Sourced { source, report }: Sourced, telling: &mut Telling) {
        match report {
            // Of a child: told in the child's own sequence.
            Report::Message { session_id: Some(_), .. } | Report::Status { session_id: Some(_), .. } => {}
            Report::Message { role, content, kind, metadata, session_id: None } => {
                self.kept.speaks = true;
                let voice = Voice::claimed(role, kind.unwrap_or(MessageKind::Text), content, metadata, &source);
                self.say(&format!("s{:x}", telling.offset), voice, telling);
            }
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
            Report::Speaks => self.kept.speaks = true,
            Report::Title { title } => {
                telling.tell_all(self.kept.standing.titled(&title));
            }
        }
    }

    /// Tells what the screen gave, unless the session speaks for itself.
    fn tell_found(&mut self, found: Vec<Found>, telling: &mut Telling) {
        if self.kept.speaks {
            return;
        }
        for (number, found) in found.into_iter().enumerate() {
            let voice = Voice::of_screen(found);
            self.say(&format!("f{:x}-{number}", telling.offset), voice, telling);
        }
    }

    /// What stood there without an end when the session ended.
    fn last_words(&mut self, telling: &mut Telling) {
        if let Some(line) = self.kept.lines.finish() {
            self.tell_line(&line, telling);
        }
        if let Some(line) = self.kept.second.finish() {
            self.tell_second(&line, telling);
        }
        if let Some(screen) = &mut self.screen {
            let found = screen.finish();
            self.tell_found(found, telling);
        }
    }

    /// The line that is being written, if there is one and it is not too long.
    pub fn delta(&self) -> Option<DeltaDraft> {
        if self.protocol == Protocol::Terminal {
            return None;
        }
        let line = self.kept.lines.partial().filter(|line| line.bytes.len() <= MAX_DELTA_BYTES)?;
        if self.protocol == Protocol::Jsonl && line.bytes.starts_with(b"{") {
            return None;
        }
        let message_id = self.message_id(&format!("o{:x}", line.start))?;
        let Voice { role, kind, content, .. } = Voice::of_line(&line, "lines");
        Some(DeltaDraft { message_id, role, kind, content })
    }
}

/// Says of a line that not all of it was kept.
fn note_cut(line: &lines::Line, voice: &mut Voice) {
    if line.dropped > 0 {
        voice.metadata.insert("lineCut".into(), true.into());
        voice.metadata.insert("lineBytes".into(), (line.bytes.len() as u64 + line.dropped).into());
    }
}

#[cfg(test)]
mod captures;
#[cfg(test)]
mod tests;
