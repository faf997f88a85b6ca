//! What happened in a session, as it is kept on disk until the node has it: the ground of law 1 of the trait.
//!
//! One file per session, one JSON object per line: how it began, then what happened. When the acknowledged part has
//! grown, the file is written anew without it, with the state at that place in one line, and renamed over the old one.
//! The first line of every file is also the map from the gateway's names to ours.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bus_schema::{
    AnswerOption, Attention, InjectMode, MessageId, Metadata, Operator, SessionId, Status, StatusSource, Timestamp,
    Turn,
};
use serde::{Deserialize, Serialize};

use crate::provider::{AgentEvent, End, InjectOutcome, MessageDraft, News, Position};

/// How a session began, and what it is called at its gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Birth {
    pub session_id: SessionId,
    /// Id of the connection.
    pub connection: String,
    /// The gateway's key: `agent:main:…`.
    pub key: String,
    pub agent: String,
    pub profile: Option<String>,
    pub title: Option<String>,
    pub parent: Option<SessionId>,
    pub at: Timestamp,
    /// Rows that are not younger belong to the session that had this key before.
    pub since: Option<Timestamp>,
}

/// What happened, as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Kept {
    Status { status: Status, reason: Option<String> },
    Turn(Turn),
    Attention(Option<Attention>),
    Title(String),
    Message(MessageDraft),
    Receipt { message_id: MessageId, outcome: InjectOutcome },
    Facts(Metadata),
    Ended(End),
}

impl Kept {
    pub fn news(self) -> News {
        match self {
            Kept::Status { status, reason } => News::Status { status, reason, source: StatusSource::Runtime },
            Kept::Turn(turn) => News::Turn(Some(turn)),
            Kept::Attention(attention) => News::Attention(attention),
            Kept::Title(title) => News::Title(title),
            Kept::Message(draft) => News::Message(draft),
            Kept::Receipt { message_id, outcome } => News::Receipt { message_id, outcome },
            Kept::Facts(facts) => News::Facts(facts),
            Kept::Ended(end) => News::Ended(end),
        }
    }
}

/// An operator message that was given to us.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Given {
    pub asked: InjectMode,
    /// `None` while nobody knows whether the gateway has it.
    pub outcome: Option<InjectOutcome>,
    /// When it was first handed over.
    #[serde(default)]
    pub at: Option<Timestamp>,
    /// Digest of its words: how it is known again in the rows of a release that does not keep its id.
    #[serde(default)]
    pub words: String,
}

/// What kind of answer is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum RequestKind {
    /// Leave to run a command.
    #[default]
    Exec,
    /// Leave that a plugin asks for.
    Plugin,
    /// A question of the agent's.
    Question,
}

/// A request for leave, or a question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Request {
    /// The gateway's name for it.
    pub approval: String,
    #[serde(default)]
    pub kind: RequestKind,
    /// Which one, of the questions that came with one request of the gateway's.
    #[serde(default)]
    pub question: Option<String>,
    /// True if it may be answered in words.
    #[serde(default)]
    pub takes_text: bool,
    pub text: String,
    pub options: Vec<AnswerOption>,
    pub at: Timestamp,
    /// What was decided, once it is closed.
    pub decided: Option<String>,
    /// Who answered through us: told with the message that closes it.
    pub by: Option<Operator>,
}

/// A soft pause.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Paused {
    pub by: Operator,
    pub at: Timestamp,
    /// A run was ended for it, which the resume takes up.
    pub cut: bool,
    /// The conversation is archived: the gateway takes nothing for it.
    pub is_fenced: bool,
    /// The gateway's name of the message that takes up the run, once the resume has come so far.
    pub resume: Option<String>,
    /// The gateway began a run all the same, which goes on.
    pub is_over: bool,
}

/// All that is known of a session besides what is in its log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Facts {
    /// The gateway's id of this conversation; empty until it has told it.
    pub generation: String,
    pub status: Option<Status>,
    pub reason: Option<String>,
    pub turn: Option<Turn>,
    pub attention: Option<Attention>,
    pub title: Option<String>,
    pub metadata: Metadata,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    /// Whether the gateway has a run of it.
    pub is_active: bool,
    /// Events before the log.
    pub dropped: u64,
    /// Rows that are in the log, or were: the last ones.
    pub seen: VecDeque<String>,
    pub given: BTreeMap<MessageId, Given>,
    pub requests: BTreeMap<MessageId, Request>,
    pub last_error: Option<String>,
    pub pause: Option<Paused>,
}

/// One line of the file.
#[derive(Debug, Serialize, Deserialize)]
enum Line {
    Born(Birth),
    Base(Box<Facts>),
    Did { at: Timestamp, kept: Box<Kept>, row: Option<String> },
    Given { message_id: MessageId, given: Given },
    Asked { message_id: MessageId, request: Request },
    Active(bool),
    Generation(String),
    Paused(Option<Paused>),
}

/// One event.
#[derive(Clone, Debug)]
pub(super) struct Logged {
    pub at: Timestamp,
    pub kept: Kept,
}

/// Rows remembered: more than a history that is looked at has.
const SEEN_MAX: usize = 8_192;
/// Operator messages remembered: an operator may send ten a minute.
const GIVEN_MAX: usize = 1_024;
/// Events kept although they are acknowledged, for whoever looks back.
const LOOK_BACK: usize = 256;
/// Acknowledged events, beyond those, that are worth writing the file anew.
const TRIM_BATCH: usize = 512;
/// Events that may wait for the node; then rows stay at the gateway until it has taken some.
const WAITING_MAX: usize = 16_384;

/// The record of one session.
pub(super) struct Record {
    pub birth: Birth,
    pub facts: Facts,
    seen: HashSet<String>,
    log: VecDeque<Logged>,
    acknowledged: u64,
    path: PathBuf,
    file: File,
}

impl Record {
    /// Begins one. It is on disk when this returns.
    pub fn begin(dir: &Path, birth: Birth) -> std::io::Result<Self> {
        let path = dir.join(format!("{}.jsonl", birth.session_id));
        let fresh = path.with_extension("new");
        let mut file = create(&fresh)?;
        write(&mut file, &Line::Born(birth.clone()))?;
        file.sync_data()?;
        std::fs::rename(&fresh, &path)?;
        let facts = Facts { title: birth.title.clone(), ..Facts::default() };
        Ok(Self { birth, facts, seen: HashSet::new(), log: VecDeque::new(), acknowledged: 0, path, file })
    }

    /// Reads one; `None` if the file ends before the session began.
    pub fn open(path: &Path) -> std::io::Result<Option<Self>> {
        let text = String::from_utf8_lossy(&std::fs::read(path)?).into_owned();
        let file = File::options().append(true).open(path)?;
        // A line that was cut by a kill was told to nobody.
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        file.set_len(whole as u64)?;
        let mut lines = text.get(..whole).unwrap_or_default().lines();
        let Some(Line::Born(birth)) = lines.next().map(serde_json::from_str).transpose()? else { return Ok(None) };
        let facts = Facts { title: birth.title.clone(), ..Facts::default() };
        let path = path.to_owned();
        let mut record = Self { birth, facts, seen: HashSet::new(), log: VecDeque::new(), acknowledged: 0, path, file };
        for line in lines {
            match serde_json::from_str(line)? {
                Line::Born(_) => {}
                Line::Base(facts) => {
                    record.seen = facts.seen.iter().cloned().collect();
                    record.facts = *facts;
                }
                Line::Did { at, kept, row } => record.apply(at, *kept, row),
                Line::Given { message_id, given } => record.apply_given(message_id, given),
                Line::Asked { message_id, request } => {
                    record.facts.requests.insert(message_id, request);
                }
                Line::Active(is_active) => record.facts.is_active = is_active,
                Line::Generation(generation) => record.facts.generation = generation,
                Line::Paused(pause) => record.facts.pause = pause,
            }
        }
        record.acknowledged = record.facts.dropped;
        Ok(Some(record))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn status(&self) -> Status {
        self.facts.status.clone().unwrap_or(Status::Spawning)
    }

    pub fn is_ended(&self) -> bool {
        self.facts.ended_at.is_some()
    }

    pub fn has_seen(&self, row: &str) -> bool {
        self.seen.contains(row)
    }

    pub fn has_rows(&self) -> bool {
        !self.seen.is_empty()
    }

    /// True if no more rows may be taken until the node has acknowledged some.
    pub fn is_full(&self) -> bool {
        self.end().saturating_sub(self.acknowledged) >= WAITING_MAX as u64
    }

    /// How many events there were.
    pub fn end(&self) -> u64 {
        self.facts.dropped + self.log.len() as u64
    }

    /// Adds what happened: on disk first. Nothing happens after the end.
    pub fn add(&mut self, at: Timestamp, kept: Kept, row: Option<String>) -> std::io::Result<()> {
        if self.is_ended() {
            return Ok(());
        }
        write(&mut self.file, &Line::Did { at, kept: Box::new(kept.clone()), row: row.clone() })?;
        self.apply(at, kept, row);
        Ok(())
    }

    pub fn set_given(&mut self, message_id: MessageId, given: Given) -> std::io::Result<()> {
        write(&mut self.file, &Line::Given { message_id: message_id.clone(), given: given.clone() })?;
        self.apply_given(message_id, given);
        Ok(())
    }

    pub fn set_request(&mut self, message_id: MessageId, request: Request) -> std::io::Result<()> {
        write(&mut self.file, &Line::Asked { message_id: message_id.clone(), request: request.clone() })?;
        self.facts.requests.insert(message_id, request);
        Ok(())
    }

    pub fn set_active(&mut self, is_active: bool) -> std::io::Result<()> {
        if self.facts.is_active != is_active {
            write(&mut self.file, &Line::Active(is_active))?;
            self.facts.is_active = is_active;
        }
        Ok(())
    }

    pub fn set_pause(&mut self, pause: Option<Paused>) -> std::io::Result<()> {
        write(&mut self.file, &Line::Paused(pause.clone()))?;
        self.facts.pause = pause;
        Ok(())
    }

    pub fn set_generation(&mut self, generation: &str) -> std::io::Result<()> {
        write(&mut self.file, &Line::Generation(generation.to_owned()))?;
        self.facts.generation = generation.to_owned();
        Ok(())
    }

    /// Events behind `from`, at most `most`, and the place of the first of them.
    pub fn read(&self, from: u64, most: usize) -> (u64, Vec<Logged>) {
        let from = from.max(self.facts.dropped);
        let skip = usize::try_from(from - self.facts.dropped).unwrap_or(usize::MAX);
        (from, self.log.iter().skip(skip).take(most).cloned().collect())
    }

    /// When its status was told last, as far as the log reaches back.
    pub fn status_since(&self) -> Option<Timestamp> {
        let told = self.log.iter().rev().find(|logged| matches!(logged.kept, Kept::Status { .. }));
        told.map(|logged| logged.at)
    }

    /// The last messages, oldest first.
    pub fn recent(&self, limit: usize) -> Vec<MessageDraft> {
        let mut drafts: Vec<_> = self.log.iter().rev().filter_map(message).take(limit).cloned().collect();
        drafts.reverse();
        drafts
    }

    /// The node has everything up to here. True if that made room.
    pub fn acknowledge(&mut self, position: u64) -> std::io::Result<bool> {
        let was_full = self.is_full();
        self.acknowledged = self.acknowledged.max(position.min(self.end()));
        let gone = usize::try_from(self.acknowledged - self.facts.dropped).unwrap_or(usize::MAX);
        let gone = gone.saturating_sub(LOOK_BACK);
        if gone >= TRIM_BATCH {
            self.log.drain(..gone);
            self.facts.dropped += gone as u64;
            self.write_anew()?;
        }
        Ok(was_full && !self.is_full())
    }

    fn write_anew(&mut self) -> std::io::Result<()> {
        let fresh = self.path.with_extension("new");
        let mut file = create(&fresh)?;
        let mut text = line(&Line::Born(self.birth.clone()))?;
        text.push_str(&line(&Line::Base(Box::new(self.facts.clone())))?);
        for Logged { at, kept } in &self.log {
            // The rows are in the base already.
            text.push_str(&line(&Line::Did { at: *at, kept: Box::new(kept.clone()), row: None })?);
        }
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        std::fs::rename(&fresh, &self.path)?;
        self.file = file;
        Ok(())
    }

    fn apply(&mut self, at: Timestamp, kept: Kept, row: Option<String>) {
        let facts = &mut self.facts;
        match &kept {
            Kept::Status { status, reason } => {
                (facts.status, facts.reason) = (Some(status.clone()), reason.clone());
                facts.started_at = facts.started_at.or(Some(at));
            }
            Kept::Turn(turn) => facts.turn = Some(turn.clone()),
            Kept::Attention(attention) => facts.attention = attention.clone(),
            Kept::Title(title) => facts.title = Some(title.clone()),
            Kept::Facts(more) => {
                for (key, value) in more {
                    if value.is_null() {
                        facts.metadata.remove(key);
                    } else {
                        facts.metadata.insert(key.clone(), value.clone());
                    }
                }
            }
            Kept::Ended(end) => {
                (facts.status, facts.reason) = (Some(end.status.clone()), Some(end.reason.clone()));
                facts.ended_at = Some(at);
            }
            Kept::Receipt { message_id, outcome } => {
                if let Some(given) = facts.given.get_mut(message_id) {
                    given.outcome = Some(outcome.clone());
                }
            }
            Kept::Message(_) => {}
        }
        if let Some(row) = row {
            self.seen.insert(row.clone());
            facts.seen.push_back(row);
            if facts.seen.len() > SEEN_MAX
                && let Some(oldest) = facts.seen.pop_front()
            {
                self.seen.remove(&oldest);
            }
        }
        self.log.push_back(Logged { at, kept });
    }

    fn apply_given(&mut self, message_id: MessageId, given: Given) {
        self.facts.given.insert(message_id, given);
        // Message ids are ULIDs: the first is the oldest.
        while self.facts.given.len() > GIVEN_MAX {
            self.facts.given.pop_first();
        }
    }
}

fn message(logged: &Logged) -> Option<&MessageDraft> {
    match &logged.kept {
        Kept::Message(draft) => Some(draft),
        _ => None,
    }
}

impl Logged {
    pub fn event(self, place: u64) -> AgentEvent {
        AgentEvent { position: Position { offset: place, index: 0 }, at: self.at, news: self.kept.news() }
    }
}

fn create(path: &Path) -> std::io::Result<File> {
    // For appending: what is written after the rename goes to the end.
    let mut file = File::options();
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    file.append(true).create(true).mode(0o600).open(path)
}

fn line(line: &Line) -> std::io::Result<String> {
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    Ok(text)
}

fn write(file: &mut File, what: &Line) -> std::io::Result<()> {
    file.write_all(line(what)?.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn birth() -> Birth {
        Birth {
            session_id: SessionId::new("01JABCDEFGHJKMNPQRSTVWXYZ0").unwrap(),
            connection: "c".into(),
            key: "agent:main:x".into(),
            agent: "main".into(),
            profile: None,
            title: None,
            parent: None,
            at: Timestamp::from_millis(1),
            since: None,
        }
    }

    fn title(n: usize) -> Kept {
        Kept::Title(n.to_string())
    }

    #[test]
    fn the_same_events_after_a_restart_a_cut_line_and_a_trim() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = Record::begin(dir.path(), birth()).unwrap();
        for n in 0..2_000 {
            record.add(Timestamp::from_millis(5), title(n), Some(format!("row{n}"))).unwrap();
        }
        let places = |record: &Record| {
            let (first, events) = record.read(1_500, usize::MAX);
            (first, events.into_iter().map(|logged| logged.kept).collect::<Vec<_>>())
        };
        let before = places(&record);
        assert_eq!((before.0, before.1.len()), (1_500, 500));
        record.acknowledge(1_500).unwrap();
        assert!(record.facts.dropped > 1_000, "{}", record.facts.dropped);
        assert_eq!(places(&record), before);
        let mut file = File::options().append(true).open(record.path()).unwrap();
        file.write_all(b"{\"Did\":{\"at").unwrap();
        let mut again = Record::open(record.path()).unwrap().unwrap();
        assert_eq!(places(&again), before);
        assert!(again.has_seen("row3") && again.has_seen("row1999"));
        again.add(Timestamp::from_millis(6), title(1), None).unwrap();
        assert_eq!(Record::open(record.path()).unwrap().unwrap().end(), 2_001);
    }

    #[test]
    fn nothing_happens_after_the_end_and_a_full_record_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = Record::begin(dir.path(), birth()).unwrap();
        for n in 0..WAITING_MAX {
            record.add(Timestamp::from_millis(5), title(n), None).unwrap();
        }
        assert!(record.is_full());
        assert!(record.acknowledge(100).unwrap() && !record.is_full());
        let end = End { status: Status::Completed, reason: "x".into(), exit_code: None, error: None, report: None };
        record.add(Timestamp::from_millis(7), Kept::Ended(end), None).unwrap();
        let count = record.end();
        record.add(Timestamp::from_millis(8), title(0), None).unwrap();
        assert_eq!((record.end(), record.status()), (count, Status::Completed));
    }
}
