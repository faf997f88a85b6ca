//! After the death of a holder: what is left of its session is killed, and the end is written.
//!
//! Law: whoever writes has the lock, which fell with the holder. All of this blocks for a bounded time.

use std::path::Path;
use std::time::Duration;

use bus_schema::{EndReport, EndStep, Status};

use super::files::{FileError, SCHEMA, SessionDir, Spec, State};
use super::log::{Kind, LogError, LogReader, LogWriter};
use super::record::{EndAction, Exit, Intent, pack, unpack};
use crate::clock;
use crate::process::{Cgroup, Containment, Family, ended};
use crate::provider::End;

/// How long what is left may take to be gone.
const KILL_WITHIN: Duration = Duration::from_secs(5);
/// How much of what a dying holder said is repeated.
const MAX_LAST_WORDS: usize = 500;

/// A session whose holder died could not be brought to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoveryError {
    /// One of its files.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its log.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// What was found.
#[derive(Debug)]
pub(crate) enum Found {
    /// Its holder lives.
    Held,
    /// It has ended.
    Ended(Exit),
}

/// Brings a session to its end if its holder is dead. `intent`: who wanted that, if somebody did.
pub(crate) fn recover(dir: &SessionDir, spec: &Spec, intent: Option<Intent>) -> Result<Found, RecoveryError> {
    let Some(_lock) = dir.try_lock()? else { return Ok(Found::Held) };
    let state = match dir.state() {
        Ok(state) => Some(state),
        Err(error) if error.is_missing() => None,
        Err(error) => return Err(error.into()),
    };
    if let Some(exit) = state.as_ref().and_then(|state| state.exit.clone()) {
        return Ok(Found::Ended(exit));
    }
    // The log is written first, so it may know more than the state.
    let mut log = match LogWriter::recover(&dir.log(), spec.limits) {
        Ok(Some(log)) => log,
        Ok(None) | Err(LogError::Io { .. }) => LogWriter::create(&dir.log(), spec.limits, spec.size)?,
        Err(error) => return Err(error.into()),
    };
    let exit = match last_exit(&dir.log(), &log)? {
        Some(exit) => exit,
        None => {
            let exit = Exit { end: end(dir, spec, state.as_ref(), intent.clone()) };
            log.append(Kind::Exit, clock::now_micros(), &pack(&exit))?;
            let _ = log.file().sync_data();
            exit
        }
    };
    let mut state = state.unwrap_or_else(|| never_held(dir, spec));
    state.intent = state.intent.or(intent);
    state.ended_at = state.ended_at.or(Some(clock::now_micros()));
    state.frozen_by = None;
    state.exit = Some(exit.clone());
    dir.write_state(&state)?;
    // Nobody listens there any more.
    let _ = std::fs::remove_file(dir.path().join(SessionDir::HOLDER_SOCKET));
    let _ = std::fs::remove_file(&spec.agent_socket);
    Ok(Found::Ended(exit))
}

/// The exit block, if the log has one: it is the last.
fn last_exit(dir: &Path, log: &LogWriter) -> Result<Option<Exit>, LogError> {
    let mut reader = LogReader::open(dir, log.last_segment())?;
    let mut exit = None;
    while let Some(block) = reader.next()? {
        exit = (block.kind == Kind::Exit).then(|| unpack(&block.data)).flatten();
    }
    Ok(exit)
}

fn end(dir: &SessionDir, spec: &Spec, state: Option<&State>, intent: Option<Intent>) -> End {
    let report = kill_rest(spec, state);
    let holder = state.map_or(String::new(), |state| format!(" (process {})", state.holder.pid));
    let error = match (state, last_words(dir)) {
        (None, None) => "its holder did not start".to_owned(),
        (None, Some(words)) => format!("its holder did not start: {words}"),
        (Some(_), None) => format!("its holder{holder} died, and with it its terminal"),
        (Some(_), Some(words)) => format!("its holder{holder} died, and with it its terminal: {words}"),
    };
    match intent.or_else(|| state.and_then(|state| state.intent.clone())) {
        Some(Intent { action, by, .. }) => {
            let verb = if action == EndAction::Kill { "killed" } else { "ended" };
            let reason = format!("{verb} by {}: {error}", by.name);
            End { status: Status::Killed, reason, exit_code: None, error: None, report: Some(report) }
        }
        None => {
            let reason = "its holder died".into();
            End { status: Status::Failed, reason, exit_code: None, error: Some(error), report: Some(report) }
        }
    }
}

/// Kills what the session left behind: by its cgroup, and by the mark in the environment.
fn kill_rest(spec: &Spec, state: Option<&State>) -> EndReport {
    let cgroup = state.and_then(|state| state.cgroup.clone()).filter(|dir| dir.is_dir()).map(Cgroup::open);
    let leader = state.and_then(|state| state.child);
    let mut containment = Containment::new(cgroup, Family::new(spec.session_id.as_str(), leader, None));
    let before = containment.members();
    let survivors = if before.is_empty() { vec![] } else { containment.kill_all(KILL_WITHIN) };
    containment.remove();
    let dead: Vec<_> = before.into_iter().filter(|p| !survivors.iter().any(|left| left.id == p.id)).collect();
    let detail = format!("{} left of a session whose holder died", survivors.len());
    EndReport {
        containment: containment.name().into(),
        steps: vec![EndStep { step: "kill".into(), at: clock::now(), detail }],
        ended: ended(&dead),
        survivors: ended(&survivors),
    }
}

/// The last line that the holder wrote to its standard error: usually why it died.
fn last_words(dir: &SessionDir) -> Option<String> {
    let text = std::fs::read(dir.holder_errors()).ok()?;
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty() && !line.starts_with("note:"))?;
    Some(line.chars().take(MAX_LAST_WORDS).collect())
}

fn never_held(dir: &SessionDir, spec: &Spec) -> State {
    State {
        schema: SCHEMA,
        session_id: spec.session_id.clone(),
        holder: crate::process::ProcessId { pid: 0, start: 0 },
        socket: dir.path().join(SessionDir::HOLDER_SOCKET),
        child: None,
        containment: None,
        cgroup: None,
        started_at: None,
        ended_at: None,
        frozen_by: None,
        intent: None,
        exit: None,
        children: Default::default(),
        answers: false,
    }
}
