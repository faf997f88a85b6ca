//! From a session's log to what the mesh is told: pure, block by block.
//!
//! ```text
//! blocks ─► status of the session (standing)
//!       ├─► terminal pieces
//!       └─► messages: lines · jsonl · acp · reports of the session · what the screen shows
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
mod message;
mod reports;
mod screen;
mod standing;

use bus_schema::{
    Delivery, InjectMode, MessageId, MessageKind, Metadata, Role, SessionId, Status, TerminalSize, Timestamp,
};
use serde::{Deserialize, Serialize};

pub(crate) use self::child::{ChildInterpreter, end_with_parent};
pub(crate) use self::message::Voice;
use self::message::normalised;
use self::screen::{Found, Screen};
use self::standing::Standing;
use super::lines::{Line, Lines};
use super::log::{Block, Kind, SegmentHeader, parse_size};
use super::record::{Exit, Fragment, Injecting, Input, Note, Shown, Typist, unpack};
use super::report::Sourced;
use crate::acp::conversation::{self, Conversation, Tale};
use crate::profile::Protocol;
use crate::provider::{AgentEvent, DeltaDraft, InjectOutcome, MessageDraft, News, Position, TerminalPiece};

/// Version of what [`Interpreter::save`] gives. Another one is not read; the log is told from an earlier place then.
const CHECKPOINT_FORMAT: u32 = 1;
/// Operator messages that are remembered until the agent shows that it took them.
const MAX_AWAITED: usize = 32;
/// Texts of a screen that are held back, the newest.
const MAX_HELD: usize = 200;
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
    /// What its screen showed, while a better source is expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    held: Option<Vec<Found>>,
    /// True once it is over.
    ended: bool,
    /// True once it was told that its requests can be answered.
    #[serde(default)]
    answers: bool,
    /// What was said, where the protocol is ACP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    acp: Option<Box<Conversation>>,
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
    /// True once it was told that the agent took it; its conversation is still to show it, which is then no news.
    #[serde(default)]
    taken: bool,
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
            held: None,
            ended: false,
            answers: false,
            acp: (protocol == Protocol::Acp).then(Box::default),
        };
        let screen = (protocol == Protocol::Terminal).then(|| Screen::new(header.size));
        Self { session: session.clone(), protocol, segment: header.base, kept, screen, checkpoint: None }
    }

    /// Goes on from a checkpoint at the beginning of the segment with this base. `None` if it cannot be read.
    pub fn restore(session: &SessionId, protocol: Protocol, base: u64, bytes: &[u8]) -> Option<Self> {
        let Checkpoint { format, kept, screen } = unpack(bytes)?;
        let is_other =
            screen.is_some() != (protocol == Protocol::Terminal) || kept.acp.is_some() != (protocol == Protocol::Acp);
        if format != CHECKPOINT_FORMAT || is_other {
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
            Kind::Shown => {
                if let Some(Shown { offset, bytes }) = Shown::decode(&block.data) {
                    let (data, size) = (bytes.to_vec().into(), self.kept.size.take());
                    telling.tell(News::Terminal(TerminalPiece { offset, data, size }));
                }
            }
            Kind::Input => self.input(&block.data, &mut telling),
            Kind::Errors => self.second(&block.data, &mut telling),
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
                    if end.status == Status::Failed {
                        // Why it failed may stand on its screen alone.
                        self.missing(&mut telling);
                    }
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
        if self.protocol == Protocol::Acp {
            return self.heard(data, telling);
        }
        let size = self.kept.size.take();
        telling.tell(News::Terminal(TerminalPiece { offset, data: data.to_vec().into(), size }));
        match self.protocol {
            Protocol::Acp => {}
            Protocol::Lines | Protocol::Jsonl => {
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
        if fragment.stream == 2 {
            return self.second(fragment.bytes, telling);
        }
        for line in self.kept.lines.feed(fragment.bytes) {
            self.tell_line(&line, telling);
        }
    }

    /// What came on the second stream.
    fn second(&mut self, data: &[u8], telling: &mut Telling) {
        for line in self.kept.second.feed(data) {
            self.tell_second(&line, telling);
        }
    }

    /// A line of the second stream: text, whatever the protocol of the first. An agent of ACP speaks on the first alone.
    fn tell_second(&mut self, line: &Line, telling: &mut Telling) {
        let mut voice = match self.protocol {
            Protocol::Acp => Voice { role: Role::System, kind: MessageKind::Status, ..Voice::of_line(line, "acp") },
            Protocol::Lines | Protocol::Jsonl | Protocol::Terminal => Voice::of_line(line, "lines"),
        };
        if self.protocol == Protocol::Acp && voice.content.trim().is_empty() {
            return;
        }
        voice.metadata.insert("stream".into(), "stderr".into());
        note_cut(line, &mut voice);
        self.say(&format!("e{:x}", line.start), voice, telling);
    }

    fn tell_line(&mut self, line: &Line, telling: &mut Telling) {
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
            && let Some(Awaited { message_id, mode, taken, .. }) = self.take_awaited(&voice.content)
        {
            if !taken {
                let outcome = InjectOutcome { state: Delivery::Taken, mode, reason: None };
                telling.tell(News::Receipt { message_id, outcome });
            }
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

    /// The agent was given a text: the oldest operator message that says it has arrived.
    fn prompted(&mut self, content: &str, telling: &mut Telling) {
        let content = normalised(content);
        let mut waiting = self.kept.awaited.iter_mut().filter(|awaited| !awaited.taken);
        if let Some(awaited) = waiting.find(|awaited| normalised(&awaited.content) == content) {
            awaited.taken = true;
            let outcome = InjectOutcome { state: Delivery::Taken, mode: awaited.mode.clone(), reason: None };
            telling.tell(News::Receipt { message_id: awaited.message_id.clone(), outcome });
        }
    }

    fn input(&mut self, data: &[u8], telling: &mut Telling) {
        let Some(Input { by, data, hidden }) = unpack::<Input>(data) else { return };
        if let Some(acp) = &mut self.kept.acp {
            let operator = match &by {
                Typist::Operator(operator) => Some(operator),
                Typist::Message(_) | Typist::Terminal | Typist::Client | Typist::Other => None,
            };
            let tales = acp.said(&self.session, &data, operator);
            return self.tell_tales(tales, telling);
        }
        let Some(screen) = &mut self.screen else { return };
        match by {
            Typist::Operator(_) if !hidden => screen.typed(&data),
            Typist::Operator(_) | Typist::Message(_) | Typist::Terminal | Typist::Client | Typist::Other => {}
        }
    }

    fn note(&mut self, note: Note, telling: &mut Telling) {
        match note {
            Note::Started { pid, containment } => {
                let mut facts = Metadata::new();
                facts.insert("pid".into(), pid.into());
                facts.insert("containment".into(), containment.into());
                telling.tell(News::Facts(facts));
                if self.protocol == Protocol::Acp {
                    self.kept.standing.opening();
                } else {
                    telling.tell_all(self.kept.standing.started());
                }
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
                self.kept.awaited.push(Awaited { message_id, content, mode: None, taken: false });
            }
            Note::Injected { message_id, mut outcome } => {
                if outcome.state == Delivery::Refused {
                    self.kept.awaited.retain(|awaited| awaited.message_id != message_id);
                }
                if let Some(awaited) = self.kept.awaited.iter_mut().find(|awaited| awaited.message_id == message_id) {
                    awaited.mode.clone_from(&outcome.mode);
                    // What the agent has shown is not taken back by what the keys alone show, and told once.
                    awaited.taken |= outcome.state == Delivery::Taken;
                    if awaited.taken {
                        (outcome.state, outcome.reason) = (Delivery::Taken, None);
                    }
                }
                telling.tell(News::Receipt { message_id, outcome });
            }
            Note::Answered(answered) => self.answered(answered, telling),
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

    /// Tells what the screen gave, unless the session speaks for itself.
    fn tell_found(&mut self, found: Vec<Found>, telling: &mut Telling) {
        if self.kept.speaks {
            return;
        }
        if let Some(held) = &mut self.kept.held {
            let over = (held.len() + found.len()).saturating_sub(MAX_HELD);
            held.drain(..over.min(held.len()));
            held.extend(found);
            return;
        }
        for (number, found) in found.into_iter().enumerate() {
            let voice = Voice::of_screen(found);
            self.say(&format!("f{:x}-{number}", telling.offset), voice, telling);
        }
    }

    /// It speaks for itself: its screen is for people.
    fn speaks(&mut self) {
        self.kept.speaks = true;
        self.kept.held = None;
    }

    /// It was expected to speak for itself, and does not.
    fn missing(&mut self, telling: &mut Telling) {
        let Some(held) = self.kept.held.take() else { return };
        let mut metadata = Metadata::new();
        metadata.insert("source".into(), super::report::SCREEN.into());
        let content = "its own record of the conversation was not found; messages are taken from its screen".into();
        let voice = Voice { role: Role::System, kind: MessageKind::Status, content, metadata };
        self.say(&format!("m{:x}", telling.offset), voice, telling);
        self.tell_found(held, telling);
    }

    /// Lines of an agent that speaks ACP.
    fn heard(&mut self, data: &[u8], telling: &mut Telling) {
        for line in self.kept.lines.feed(data) {
            let Some(acp) = &mut self.kept.acp else { return };
            let tales = if line.dropped > 0 {
                vec![conversation::left_out(line.start, line.bytes.len() as u64 + line.dropped)]
            } else {
                acp.heard(&self.session, line.start, &line.bytes, telling.at)
            };
            self.tell_tales(tales, telling);
        }
    }

    fn tell_tales(&mut self, tales: Vec<Tale>, telling: &mut Telling) {
        for tale in tales {
            match tale {
                Tale::Say(key, voice) => self.say(&key, voice, telling),
                Tale::Opened => telling.tell_all(self.kept.standing.started()),
                Tale::Stand(turn, reason, attention) => {
                    telling.tell_all(self.kept.standing.follows(turn, reason, attention));
                }
                Tale::Facts(facts) => telling.tell(News::Facts(facts)),
                Tale::Title(title) => telling.tell_all(self.kept.standing.titled(&title)),
            }
        }
    }

    /// What stood there without an end when the session ended.
    fn last_words(&mut self, telling: &mut Telling) {
        if let Some(acp) = &mut self.kept.acp {
            let mut tales = acp.finish();
            if let Some(line) = self.kept.lines.finish() {
                tales.extend(acp.heard(&self.session, line.start, &line.bytes, telling.at));
            }
            self.tell_tales(tales, telling);
        } else if let Some(line) = self.kept.lines.finish() {
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
        match (self.protocol, &self.kept.acp) {
            (Protocol::Terminal, _) => return None,
            (_, Some(acp)) => return acp.delta(&self.session),
            (Protocol::Lines | Protocol::Jsonl | Protocol::Acp, None) => {}
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
fn note_cut(line: &Line, voice: &mut Voice) {
    if line.dropped > 0 {
        voice.metadata.insert("lineCut".into(), true.into());
        voice.metadata.insert("lineBytes".into(), (line.bytes.len() as u64 + line.dropped).into());
    }
}

#[cfg(test)]
mod captures;
#[cfg(test)]
mod tests;
