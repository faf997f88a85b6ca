//! A conversation that is expected from a source of its own: until that speaks, what the screen shows is held back, and
//! if it does not speak once the agent was given something to do, the screen is used, and the session says so.

use std::time::{Duration, Instant};

use super::session::Session;
use crate::pty::emulator::ProgramState;
use crate::pty::record::Typist;
use crate::pty::report::{Report, SCREEN};

/// How long the conversation may take to show up behind the first words to the agent. Files are looked for once a
/// second; Claude Code and Codex were seen to write theirs within two.
const SPEAKS_WITHIN: Duration = Duration::from_secs(30);

/// What is known of it.
#[derive(Clone, Copy, Default)]
pub(crate) enum Expected {
    /// It is none of those whose conversation is known, or it speaks.
    #[default]
    Nothing,
    /// Nothing was asked of the agent, so it has nothing to say.
    Words,
    /// It has something to say, until then.
    Until(Instant),
}

impl Session {
    /// From now on its screen is held back, if it is one of those whose conversation is known.
    pub fn expect_words(&mut self) {
        if self.sources.is_some() || self.api.is_some() {
            self.expected = Expected::Words;
            self.report(SCREEN, Report::Expected);
        }
    }

    /// Something was typed: with Enter, the agent has something to do.
    pub fn typed(&mut self, by: &Typist, bytes: &[u8]) {
        let is_person = matches!(by, Typist::Operator(_) | Typist::Message(_));
        if is_person && bytes.contains(&b'\r') {
            self.has_words();
        }
    }

    /// The program says where it stands.
    pub fn stands(&mut self, state: ProgramState) {
        if state == ProgramState::Working {
            self.has_words();
        }
    }

    fn has_words(&mut self) {
        // An API has a time of its own.
        if matches!(self.expected, Expected::Words) && self.api.is_none() {
            self.expected = Expected::Until(Instant::now() + SPEAKS_WITHIN);
        }
    }

    /// When the screen is used, unless it speaks.
    pub fn expected_until(&self) -> Option<Instant> {
        match self.expected {
            Expected::Until(until) => Some(until),
            Expected::Nothing | Expected::Words => None,
        }
    }

    /// Uses the screen where the time is over.
    pub fn look_at_expected(&mut self, now: Instant) {
        if self.expected_until().is_none_or(|until| now < until) || !self.takes_reports() {
            return;
        }
        self.read_sources(now);
        if self.expected_until().is_some() {
            self.give_up_words();
        }
    }

    /// It does not speak: the screen is used.
    pub fn give_up_words(&mut self) {
        if !matches!(std::mem::take(&mut self.expected), Expected::Nothing) {
            self.report(SCREEN, Report::Missing);
        }
    }
}
