//! What the agent writes to its terminal, and what is typed into it.

use std::time::{Duration, Instant};

use super::session::Session;
use crate::pty::emulator::{ProgramState, Signal};
use crate::pty::log::Kind;
use crate::pty::record::{Input, Typist, pack};

/// Silences after output that are noted, for what is derived from the screen.
pub(crate) const SILENCES: [Duration; 2] = [Duration::from_millis(400), Duration::from_secs(2)];
/// How often it is noted that output goes on.
const BUSY: Duration = Duration::from_secs(2);
/// What is kept of the output for viewers where there is no screen.
const TAIL_BYTES: usize = 32 * 1024;

impl Session {
    /// Reads at most so much.
    pub fn read_terminal(&mut self, buffer: &mut [u8], room: u64) {
        let most = usize::try_from(room).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..most).filter(|buffer| !buffer.is_empty()) else { return };
        match self.parts.channel.read(buffer) {
            Ok(0) => {}
            Ok(count) => {
                self.flow.took(count);
                self.output(buffer.get(..count).unwrap_or_default());
            }
            Err(_) => self.output_closed(),
        }
    }

    /// Logs output, and answers what it asks.
    pub fn output(&mut self, bytes: &[u8]) {
        if self.started.is_none() {
            // The exec shim writes nothing.
            self.launcher_gone();
        }
        self.record(Kind::Output, bytes);
        self.last_output = Instant::now();
        if let Some(sources) = &mut self.sources {
            sources.output(self.last_output);
        }
        if self.silences > 0 {
            self.busy = self.last_output;
            self.silences = 0;
        }
        if self.agent.is_some() {
            return self.agent_output(bytes);
        }
        let Some(emulator) = &mut self.emulator else {
            self.tail.extend(bytes);
            let over = self.tail.len().saturating_sub(TAIL_BYTES);
            self.tail.drain(..over);
            return;
        };
        let signals = emulator.feed(bytes);
        let is_bracketed = emulator.screen().bracketed_paste();
        self.bracketed = is_bracketed.then(|| self.bracketed.unwrap_or(self.last_output));
        for signal in signals {
            match signal {
                Signal::Reply(reply) => {
                    if self.parts.channel.has_room(reply.len()) {
                        self.type_in(Typist::Terminal, &reply);
                    }
                }
                Signal::Program(report) if report.child.is_none() => {
                    self.program = Some(report.state);
                    self.stands(report.state);
                }
                // A shell that shows its prompt has no program at work.
                Signal::Prompt => {
                    if matches!(self.program, Some(ProgramState::Working | ProgramState::Blocked)) {
                        self.program = None;
                    }
                }
                Signal::Program(_)
                | Signal::Title(_)
                | Signal::Progress(_)
                | Signal::CommandRuns
                | Signal::Scrolled { .. } => {}
            }
        }
    }

    /// Types into the terminal. The caller has asked for room.
    pub fn type_in(&mut self, by: Typist, bytes: &[u8]) {
        let modes = self.parts.channel.input_modes();
        // A line that is collected but not shown is a password.
        let hidden = modes.canonical && !modes.echo && matches!(by, Typist::Operator(_));
        self.typed(&by, bytes);
        let data = if hidden { vec![] } else { bytes.to_vec() };
        self.record(Kind::Input, &pack(&Input { by, data, hidden }));
        self.parts.channel.write(bytes);
    }

    /// Notes that there was no output for a while, or that it goes on. Only where messages come from the screen.
    pub fn note_silence(&mut self, now: Instant) {
        if self.next_silence().is_none_or(|at| now < at) {
            return;
        }
        let silence = SILENCES.get(self.silences).copied().filter(|silence| now >= self.last_output + *silence);
        self.busy = now;
        self.silences += usize::from(silence.is_some());
        let millis = silence.map_or(0, |silence| u32::try_from(silence.as_millis()).unwrap_or(u32::MAX));
        self.record(Kind::Quiet, &millis.to_le_bytes());
    }

    /// When there is a silence to note.
    pub fn next_silence(&self) -> Option<Instant> {
        // Output that is not read is no silence.
        if self.emulator.is_none() || self.flow.is_full(self.parts.log.end()) {
            return None;
        }
        let silence = self.last_output + *SILENCES.get(self.silences)?;
        Some(if self.silences == 0 { silence.min(self.busy + BUSY) } else { silence })
    }
}
