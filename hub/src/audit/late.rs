//! Outcomes that the bus did not take when they came, because it was away. They wait until it is back, and are written
//! then, each once: one that is on the bus all the same, because only the answer was lost, is seen there first. Pure.
//!
//! What does not fit, and what a hub takes with it when it dies, stays an intent without an outcome.

use std::collections::VecDeque;

use bus_schema::{AuditPhase, AuditRow};

use super::{DeedResult, Intent};

/// Outcomes kept. Each is as large as what was sent.
const MAX: usize = 1_000;

/// The oldest first.
#[derive(Default)]
pub(super) struct Late(VecDeque<(Intent, DeedResult)>);

impl Late {
    /// Keeps one. Where there is no room it is given back.
    pub(super) fn keep(&mut self, intent: Intent, result: DeedResult) -> Option<Intent> {
        if self.0.len() >= MAX {
            return Some(intent);
        }
        self.0.push_back((intent, result));
        None
    }

    /// Takes a row of the log: what is there need not be written.
    pub(super) fn take(&mut self, row: &AuditRow) {
        if row.phase == AuditPhase::Outcome {
            self.0.retain(|(intent, _)| intent.action_id != row.action_id);
        }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The oldest.
    pub(super) fn next(&mut self) -> Option<(Intent, DeedResult)> {
        self.0.pop_front()
    }

    /// Puts the oldest back.
    pub(super) fn put_back(&mut self, intent: Intent, result: DeedResult) {
        self.0.push_front((intent, result));
    }
}
