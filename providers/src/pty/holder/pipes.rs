//! Pipes to a program that speaks a protocol: its input, its output, and its errors apart from that. Never waits.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};

use rustix::pipe::{PipeFlags, pipe_with};

use super::unread::{Unread, read_some};
use crate::process::ProcessId;

/// The system's side of the pipes.
pub(crate) struct Pipes {
    /// `None` once it is closed.
    input: Option<File>,
    output: File,
    errors: File,
    /// Kept until the program is started.
    theirs: Option<[OwnedFd; 3]>,
    unread: Unread,
    /// True once the input is to be closed behind what waits for it.
    is_closing: bool,
}

impl Pipes {
    /// Opens them.
    pub fn open() -> io::Result<Self> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC);
        let ((their_input, input), (output, their_output), (errors, their_errors)) = (pipe()?, pipe()?, pipe()?);
        for ours in [&input, &output, &errors] {
            rustix::io::ioctl_fionbio(ours, true)?;
        }
        Ok(Self {
            input: Some(input.into()),
            output: output.into(),
            errors: errors.into(),
            theirs: Some([their_input, their_output, their_errors]),
            unread: Unread::default(),
            is_closing: false,
        })
    }

    /// Starts a program at their other ends, with exactly this environment. It makes a session of its own by itself.
    pub fn spawn(&mut self, program: &[OsString], environment: &[(OsString, OsString)]) -> io::Result<ProcessId> {
        let ended = || io::Error::other("the pipes are in use");
        let [input, output, errors] = self.theirs.take().ok_or_else(ended)?;
        let (program, arguments) = program.split_first().ok_or_else(|| io::Error::other("no program"))?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().current_dir("/").envs(environment.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::from(input)).stdout(Stdio::from(output)).stderr(Stdio::from(errors));
        // The child is waited for with all others that come to us; see `Keeper`.
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).ok();
        pid.and_then(ProcessId::of).ok_or_else(|| io::Error::other("the process was gone at once"))
    }

    /// For waiting until there is output.
    pub fn output(&self) -> BorrowedFd<'_> {
        self.output.as_fd()
    }

    /// For waiting until there are errors.
    pub fn errors(&self) -> BorrowedFd<'_> {
        self.errors.as_fd()
    }

    /// For waiting until more can be written, where something waits for that.
    pub fn input(&self) -> Option<BorrowedFd<'_>> {
        self.input.as_ref().filter(|_| self.unread.len() > 0).map(AsFd::as_fd)
    }

    /// See [`read_some`].
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_some(&mut self.output, buffer)
    }

    /// See [`read_some`].
    pub fn read_errors(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_some(&mut self.errors, buffer)
    }

    /// Writes. What the program does not read yet, waits.
    pub fn write(&mut self, bytes: &[u8]) {
        if self.input.is_some() && !self.is_closing {
            self.unread.push(bytes);
            self.flush();
        }
    }

    /// Writes what waits, as far as it goes now.
    pub fn flush(&mut self) {
        if let Some(input) = &mut self.input {
            self.unread.flush(input);
        }
        if self.is_closing && self.unread.len() == 0 {
            self.input = None;
        }
    }

    /// Bytes that wait.
    pub fn unread(&self) -> &Unread {
        &self.unread
    }

    /// Ends the program's input behind what waits for it.
    pub fn close_input(&mut self) {
        self.is_closing = true;
        self.flush();
    }
}
