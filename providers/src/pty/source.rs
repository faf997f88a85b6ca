//! Conversations that an agent CLI writes to files of its own. Read only, by the holder, into the session's log: so they
//! are told in order with all else, and told again they are the same.
//!
//! | agent | file | found by |
//! |---|---|---|
//! | `codex` | `$CODEX_HOME/sessions/…/rollout-*.jsonl`, one per thread | a process of the session has it open |
//! | `claude` | `$CLAUDE_CONFIG_DIR/projects/*/ID.jsonl`, sub-agents in `ID/subagents/` | `sessions/PID.json` names the ID |
//!
//! Seen with codex-cli 0.169.0 and Claude Code 2.1.330.
//!
//! Laws:
//! 1. Nothing is looked at while the agent is silent: these programs draw whenever they write.
//! 2. What was written before the session began (a conversation that is resumed) is not told.

pub(crate) mod claude;
mod codex;
pub(crate) mod opencode;
mod tail;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bus_schema::{MessageKind, Metadata, Role, SessionId, Timestamp};
use serde_json::Value;

use self::tail::Tail;
use super::report::Report;
use crate::process::descendants;

/// After output, how soon the files are looked at.
const LOOK_AFTER: Duration = Duration::from_millis(250);
/// After the last output, when they are looked at once more, for what was written late.
const LOOK_LATE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];
/// How often new files are looked for.
const SEARCH_EVERY: Duration = Duration::from_secs(1);
/// Files of one session: its own thread and those of its sub-agents.
const MAX_FILES: usize = 64;

/// A program whose files are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    Codex,
    Claude,
}

/// A file with a conversation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    path: PathBuf,
    /// The child whose it is, where the place of the file tells.
    child: Option<SessionId>,
}

/// The files of one session.
pub(crate) struct Sources {
    program: Program,
    since: Timestamp,
    tails: Vec<Tail>,
    known: BTreeSet<PathBuf>,
    searched: Option<Instant>,
    last_output: Instant,
    look_at: Option<Instant>,
}

impl Sources {
    /// For a kind of agent whose files are known, in a session that began at `since`.
    pub fn of(agent_type: Option<&str>, since: Timestamp, now: Instant) -> Option<Self> {
        let program = match agent_type? {
            "codex" => Program::Codex,
            "claude" => Program::Claude,
            _ => return None,
        };
        let (tails, known) = (vec![], BTreeSet::new());
        Some(Self { program, since, tails, known, searched: None, last_output: now, look_at: None })
    }

    /// The agent has drawn something.
    pub fn output(&mut self, now: Instant) {
        self.last_output = now;
        let soon = now + LOOK_AFTER;
        self.look_at = Some(self.look_at.map_or(soon, |at| at.min(soon)));
    }

    /// When to look.
    pub fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// Reads what is new, with the name of the source.
    pub fn look(&mut self, leader: i32, now: Instant) -> Vec<(&'static str, Report)> {
        self.look_at = LOOK_LATE.iter().map(|late| self.last_output + *late).find(|at| *at > now);
        let mut reports = vec![];
        if self.searched.is_none_or(|at| now >= at + SEARCH_EVERY) {
            self.searched = Some(now);
            for found in self.search(leader) {
                if self.known.len() < MAX_FILES && self.known.insert(found.path.clone()) {
                    if self.tails.is_empty() {
                        reports.push(Report::Speaks);
                    }
                    self.tails.extend(Tail::open(found.path, found.child));
                }
            }
        }
        let (program, since) = (self.program, self.since);
        for tail in &mut self.tails {
            for line in tail.read() {
                let Ok(line) = serde_json::from_slice::<Value>(&line) else { continue };
                if time(&line).is_some_and(|at| at < since) {
                    tail.old(&line, program);
                    continue;
                }
                reports.extend(tail.take(&line, program));
            }
        }
        let name = match program {
            Program::Codex => "rollout",
            Program::Claude => "transcript",
        };
        reports.into_iter().map(|report| (name, report)).collect()
    }

    fn search(&self, leader: i32) -> Vec<Found> {
        let processes = descendants(leader);
        match self.program {
            Program::Codex => codex::search(&processes),
            Program::Claude => claude::search(&processes),
        }
    }
}

/// What a file with these lines says, read from its beginning. For fuzzing.
pub(crate) fn read_back(is_codex: bool, lines: &[u8]) -> Vec<Report> {
    let program = if is_codex { Program::Codex } else { Program::Claude };
    let Some(mut tail) = Tail::open(PathBuf::from("/dev/null"), None) else { return vec![] };
    let lines = lines.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    lines.flat_map(|line| tail.take(&line, program)).collect()
}

/// When a line was written, by itself.
fn time(line: &Value) -> Option<Timestamp> {
    line.get("timestamp")?.as_str()?.parse().ok()
}

/// A message of a conversation, for the child whose file it is in, or for the session.
fn message(
    role: Role,
    kind: MessageKind,
    content: String,
    facts: &[(&str, &str)],
    child: Option<&SessionId>,
) -> Report {
    let mut metadata = Metadata::new();
    for (key, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        metadata.insert((*key).into(), (*value).into());
    }
    Report::Message { role, content, kind: Some(kind), metadata: Some(metadata), session_id: child.cloned() }
}

/// A field of a JSON object as text; empty if it is not there.
fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The texts of a list of parts, each an object with a text under `text`.
fn texts(parts: &Value) -> String {
    let parts = parts.as_array().map(Vec::as_slice).unwrap_or_default();
    parts.iter().map(|part| text(part, "text")).filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n")
}

/// The session id that stands for a thread of the agent's own: both are 128 bits that begin with the time.
fn session_of_uuid(uuid: &str) -> Option<SessionId> {
    let digits: String = uuid.chars().filter(|c| *c != '-').collect();
    let number = u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32)?;
    SessionId::new(ulid::Ulid::from(number).to_string()).ok()
}

#[cfg(test)]
mod tests;
