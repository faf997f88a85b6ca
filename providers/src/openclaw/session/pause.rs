//! A session in a soft pause: what is told of it, and how long.
//!
//! ```text
//! waiting, running ──► (run ended, fenced) ──► paused ──► resumed, perhaps with a new run
//!                                                └──► over: the gateway began a run by itself, and that is told
//! ```
//!
//! Laws:
//! 1. `paused` is told only after the gateway's rows said that nothing runs, and not a moment longer than that is so.
//! 2. That a run has begun in a pause is believed of its first event, or of the second history that says so: one may
//!    have been read before the run was ended.

use std::sync::Arc;

use bus_schema::{MessageId, MessageKind, Metadata, Role, SessionId, Status, Turn};

use super::{Session, State};
use crate::clock;
use crate::openclaw::record::{Kept, Paused};
use crate::openclaw::rows::message_id;
use crate::provider::MessageDraft;

/// Why it runs although it was paused.
const OVER: &str = "the soft pause is over: the gateway began a run by itself (another client of it, a channel, cron)";

impl Paused {
    fn reason(&self) -> String {
        let run = if self.cut { "its run was ended" } else { "nothing ran" };
        let fence = if self.is_fenced {
            "the gateway takes nothing for it"
        } else {
            "the gateway could not be told to take nothing for it"
        };
        format!("soft pause by {}: {run}, and {fence}", self.by.name)
    }
}

/// While a pause or a resume is under way: nothing is told of the status in between.
pub(in crate::openclaw) struct Quiet(Arc<Session>);

impl Drop for Quiet {
    fn drop(&mut self) {
        self.0.change(|state| {
            state.is_pausing = false;
            let is_active = state.record.facts.is_active;
            state.settle(&self.0.id, is_active)
        });
    }
}

impl Quiet {
    /// It is in a soft pause: proven.
    pub fn paused(self, paused: Paused) {
        self.0.change(|state| {
            state.is_pausing = false;
            state.runs.clear();
            state.was_busy = false;
            state.record.facts.last_error = None;
            state.record.set_pause(Some(paused))?;
            state.settle(&self.0.id, false)
        });
    }

    /// It is in no pause any more; `run` was begun.
    pub fn resumed(self, run: Option<String>) {
        self.0.change(|state| {
            state.is_pausing = false;
            state.held_back.clear();
            state.record.set_pause(None)?;
            let is_active = run.is_some() || state.record.facts.is_active;
            state.runs.extend(run);
            state.settle(&self.0.id, is_active)
        });
    }
}

impl Session {
    pub fn quiet(self: &Arc<Self>) -> Quiet {
        self.lock().is_pausing = true;
        Quiet(self.clone())
    }

    /// The soft pause it is in.
    pub fn soft_pause(&self) -> Option<Paused> {
        self.lock().record.facts.pause.clone().filter(|pause| !pause.is_over)
    }

    /// True in a soft pause, and while one begins or ends.
    pub fn is_soft_paused(&self) -> bool {
        let state = self.lock();
        state.is_pausing || state.is_paused()
    }

    /// True if a message may not go to the gateway now; it is remembered that there is one.
    pub fn hold_back(&self, id: &MessageId) -> bool {
        let mut state = self.lock();
        let holds = state.is_pausing || state.is_paused();
        if holds {
            state.held_back.insert(id.clone());
        }
        holds
    }

    /// True if a message waits for the end of the pause.
    pub fn has_held_back(&self) -> bool {
        !self.lock().held_back.is_empty()
    }

    /// Writes down how far the resume has come.
    pub fn resuming(&self, paused: Paused) {
        self.change(|state| state.record.set_pause(Some(paused)));
    }
}

impl State {
    pub(super) fn is_paused(&self) -> bool {
        self.record.facts.pause.as_ref().is_some_and(|pause| !pause.is_over)
    }

    /// Ends the pause that is one no more.
    pub(super) fn look_at_pause(&mut self, id: &SessionId, is_active: bool) -> std::io::Result<()> {
        let Some(pause) = self.record.facts.pause.clone() else { return Ok(()) };
        if pause.is_over && !is_active {
            return self.record.set_pause(None);
        }
        if pause.is_over || !is_active {
            return Ok(());
        }
        self.held_back.clear();
        let name = format!("softPause:{}:over", pause.at.as_millis());
        self.record.set_pause(Some(Paused { is_over: true, ..pause }))?;
        let Some(message_id) = message_id(id, &name) else { return Ok(()) };
        let (role, kind, timestamp) = (Role::System, MessageKind::Status, clock::now());
        let metadata = Metadata::from_iter([("source".to_owned(), "openclaw".into())]);
        let draft = MessageDraft { message_id, role, kind, content: OVER.into(), timestamp, metadata };
        self.record.add(clock::now(), Kept::Message(draft), None)
    }

    /// What is told in place of the usual: of a pause, or of the run that broke it.
    pub(super) fn told_of_pause(&self, is_active: bool) -> Option<(Status, Option<String>, Turn)> {
        let pause = self.record.facts.pause.as_ref()?;
        match (pause.is_over, is_active) {
            (false, false) => Some((Status::Paused, Some(pause.reason()), Turn::Idle)),
            (true, true) => Some((Status::Running, Some(OVER.into()), Turn::Active)),
            _ => None,
        }
    }
}
