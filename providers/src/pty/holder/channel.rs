//! The way to the agent: a pseudo-terminal, or pipes where its protocol is spoken over those.

use std::ffi::OsString;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use bus_schema::TerminalSize;

use super::pipes::Pipes;
use super::terminal::{InputModes, Terminal};
use super::unread::Unread;
use crate::process::ProcessId;
use crate::profile::Protocol;

/// The system's side of it.
pub(crate) enum Channel {
    /// A terminal.
    Terminal(Terminal),
    /// Pipes.
    Pipes(Pipes),
}

impl Channel {
    /// Opens what this protocol is spoken over.
    pub fn open(size: TerminalSize, protocol: Protocol) -> io::Result<Self> {
        match protocol {
            Protocol::Acp => Pipes::open().map(Channel::Pipes),
            Protocol::Terminal | Protocol::Lines | Protocol::Jsonl => {
                Terminal::open(size, protocol).map(Channel::Terminal)
            }
        }
    }

    /// Starts a program at its other end, with exactly this environment.
    pub fn spawn(&mut self, program: &[OsString], environment: &[(OsString, OsString)]) -> io::Result<ProcessId> {
        match self {
            Channel::Terminal(terminal) => terminal.spawn(program, environment),
            Channel::Pipes(pipes) => pipes.spawn(program, environment),
        }
    }

    /// For waiting until there is output.
    pub fn output(&self) -> BorrowedFd<'_> {
        match self {
            Channel::Terminal(terminal) => terminal.fd(),
            Channel::Pipes(pipes) => pipes.output(),
        }
    }

    /// For waiting until more can be written, where something waits for that.
    pub fn input(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Channel::Terminal(terminal) => (terminal.unread().len() > 0).then(|| terminal.fd()),
            Channel::Pipes(pipes) => pipes.input(),
        }
    }

    /// For waiting until there are errors, where they come by themselves.
    pub fn errors(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Channel::Terminal(_) => None,
            Channel::Pipes(pipes) => Some(pipes.errors()),
        }
    }

    /// Reads what is there of the output. `Ok(0)` if nothing is there now.
    ///
    /// # Errors
    /// Any error means that nothing will come any more.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Channel::Terminal(terminal) => terminal.read(buffer),
            Channel::Pipes(pipes) => pipes.read(buffer),
        }
    }

    /// Reads what is there of the errors.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_errors(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Channel::Terminal(_) => Err(io::ErrorKind::UnexpectedEof.into()),
            Channel::Pipes(pipes) => pipes.read_errors(buffer),
        }
    }

    /// Writes. What the agent does not read yet, waits; the caller has asked for room.
    pub fn write(&mut self, bytes: &[u8]) {
        match self {
            Channel::Terminal(terminal) => terminal.write(bytes),
            Channel::Pipes(pipes) => pipes.write(bytes),
        }
    }

    /// Writes what waits, as far as it goes now.
    pub fn flush(&mut self) {
        match self {
            Channel::Terminal(terminal) => terminal.flush(),
            Channel::Pipes(pipes) => pipes.flush(),
        }
    }

    /// True if so much more may be written.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.waiting().has_room(bytes)
    }

    /// Bytes that wait to be read.
    pub fn unread(&self) -> usize {
        self.waiting().len()
    }

    fn waiting(&self) -> &Unread {
        match self {
            Channel::Terminal(terminal) => terminal.unread(),
            Channel::Pipes(pipes) => pipes.unread(),
        }
    }

    /// Changes the size of the terminal, if it is one.
    pub fn resize(&self, size: TerminalSize) -> io::Result<()> {
        match self {
            Channel::Terminal(terminal) => terminal.resize(size),
            Channel::Pipes(_) => Err(io::Error::other("it has no terminal")),
        }
    }

    /// The name of the terminal in the file system.
    pub fn name(&self) -> Option<PathBuf> {
        match self {
            Channel::Terminal(terminal) => terminal.name(),
            Channel::Pipes(_) => None,
        }
    }

    /// The process group in front of the terminal.
    pub fn foreground(&self) -> Option<i32> {
        match self {
            Channel::Terminal(terminal) => terminal.foreground(),
            Channel::Pipes(_) => None,
        }
    }

    /// How the terminal takes input now.
    pub fn input_modes(&self) -> InputModes {
        match self {
            Channel::Terminal(terminal) => terminal.input_modes(),
            Channel::Pipes(_) => InputModes::default(),
        }
    }

    /// The leader is gone: what it has written can be read to its end.
    pub fn close_own_side(&mut self) {
        match self {
            Channel::Terminal(terminal) => terminal.close_own_side(),
            Channel::Pipes(pipes) => pipes.close_input(),
        }
    }

    /// Ends the agent's input, where that can be done without ending more.
    pub fn close_input(&mut self) {
        match self {
            Channel::Terminal(_) => {}
            Channel::Pipes(pipes) => pipes.close_input(),
        }
    }
}
