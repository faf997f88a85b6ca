//! An agent that speaks ACP, as its holder sees it: what comes goes to the client, and what that says is done.

use std::time::{Duration, Instant};

use bus_schema::{Answer as Given, MessageId, Operator};

use super::keeper::Command;
use super::session::Session;
use crate::acp::client::Step;
use crate::pty::log::Kind;
use crate::pty::protocol::{Answer, Fault, FaultKind};

/// How long a program that has closed its output may live on. Agents end within milliseconds of it.
const MUTE_FOR: Duration = Duration::from_secs(3);

/// More than any answer to a request is long.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

impl Session {
    /// Does what the client says.
    pub fn take_agent_steps(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        for step in agent.take_steps() {
            match step {
                Step::Send(by, line) => self.type_in(by, &line),
                Step::Tell(message_id, outcome) => self.told(message_id, outcome),
                Step::Report(report) => self.report("acp", report),
                Step::GiveUp(reason) => {
                    self.launch_error = Some(reason);
                    self.ask_to_leave("gave up");
                }
            }
        }
    }

    /// The program runs.
    pub fn agent_started(&mut self) {
        if let Some(agent) = &mut self.agent {
            agent.started(Instant::now());
        }
        self.take_agent_steps();
    }

    /// It has written.
    pub fn agent_output(&mut self, bytes: &[u8]) {
        if let Some(agent) = &mut self.agent {
            agent.output(bytes, self.last_output);
        }
        self.take_agent_steps();
    }

    /// What is due.
    pub fn look_at_agent(&mut self, now: Instant) {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        if is_due(self.agent.as_ref().and_then(|agent| agent.look_at())) {
            let frozen = self.parts.state.frozen_by.is_some();
            if let Some(agent) = &mut self.agent {
                agent.look(now, frozen);
            }
            self.take_agent_steps();
        }
        if is_due(self.mute_until()) {
            self.mute = None;
            self.launch_error = Some("it closed its output and lived on".into());
            self.ask_to_leave("its output is closed");
        }
    }

    /// When there is something to look at.
    pub fn agent_looks_at(&self) -> Option<Instant> {
        let due = self.agent.as_ref().filter(|_| self.leader_exit.is_none()).and_then(|agent| agent.look_at());
        due.into_iter().chain(self.mute_until()).min()
    }

    fn mute_until(&self) -> Option<Instant> {
        self.mute.filter(|_| self.leader_exit.is_none()).map(|at| at + MUTE_FOR)
    }

    /// Nothing more will come from it.
    pub fn output_closed(&mut self) {
        self.is_open = false;
        if self.agent.is_some() {
            self.mute = Some(Instant::now());
        }
    }

    /// Reads what it writes to its standard error.
    pub fn read_errors(&mut self, buffer: &mut [u8], room: u64) {
        let most = usize::try_from(room).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..most).filter(|buffer| !buffer.is_empty()) else { return };
        match self.parts.channel.read_errors(buffer) {
            Ok(0) => {}
            Ok(count) => {
                self.flow.took(count);
                let bytes = buffer.get(..count).unwrap_or_default().to_vec();
                self.record(Kind::Errors, &bytes);
            }
            Err(_) => self.has_errors = false,
        }
    }

    /// Reads the rest of its standard error, once it is gone.
    pub fn read_last_errors(&mut self, buffer: &mut [u8]) {
        while self.has_errors {
            match self.parts.channel.read_errors(buffer) {
                Ok(count) if count > 0 => {
                    let bytes = buffer.get(..count).unwrap_or_default().to_vec();
                    self.record(Kind::Errors, &bytes);
                }
                Ok(_) | Err(_) => self.has_errors = false,
            }
        }
    }

    /// Asks it to end in its own way: what runs is cancelled, and its input ends.
    pub fn ask_to_leave(&mut self, why: &'static str) {
        if let Some(agent) = &mut self.agent {
            agent.leave();
        }
        self.take_agent_steps();
        self.parts.channel.close_input();
        self.tell_keeper(Command::Leave { why });
    }

    /// An operator answers one of its requests.
    pub fn answer_agent(&mut self, request: &MessageId, given: &Given, by: Operator) -> Result<Answer, Fault> {
        if let Some(fault) = self.ended_fault() {
            return Err(fault);
        }
        if !self.parts.channel.has_room(MAX_ANSWER_BYTES) {
            let waiting = self.parts.channel.unread();
            let reason = format!("the agent does not read its input: {waiting} bytes wait for it");
            return Err(Fault::new(FaultKind::NotReading, reason));
        }
        let Some(agent) = &mut self.agent else {
            return Err(Fault::new(FaultKind::Invalid, "it asks nothing that could be answered here"));
        };
        agent.answer(request, given, by)?;
        self.take_agent_steps();
        Ok(Answer::Done)
    }

    /// What is not handed over never will be.
    pub fn abandon_agent(&mut self) {
        if let Some(agent) = &mut self.agent {
            agent.abandon();
        }
        self.take_agent_steps();
    }
}
