//! The pseudo-terminal: opened, its first process started in it, read and written without ever waiting.
//!
//! Facts of portable-pty 0.9 that shape this (its source): dropping its writer types a newline and an end of file into
//! the child, and its `kill`s reach only the leader, so neither is used; it closes all descriptors above standard error
//! in the child, so a failed start cannot be told by one (see `launch`).

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use bus_schema::TerminalSize;
use portable_pty::{CommandBuilder, MasterPty, PtySize, SlavePty, native_pty_system};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex};

use super::unread::{Unread, read_some};
use crate::process::{ProcessId, duplicate};
use crate::profile::Protocol;

/// The system's side of a terminal.
pub(crate) struct Terminal {
    /// For reading and writing; the same open file as `master`, set not to block.
    file: File,
    master: Box<dyn MasterPty + Send>,
    /// Kept open while the leader lives, so that a moment without any process at the terminal is not its end.
    slave: Option<Box<dyn SlavePty + Send>>,
    unread: Unread,
}

/// How the terminal takes input now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct InputModes {
    /// The system collects lines.
    pub canonical: bool,
    /// The system shows what is typed.
    pub echo: bool,
}

impl Terminal {
    /// Opens a terminal of this size, set up for this protocol.
    pub fn open(size: TerminalSize, protocol: Protocol) -> io::Result<Self> {
        let size = PtySize { rows: size.rows, cols: size.cols, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).map_err(io::Error::other)?;
        let raw = pair.master.as_raw_fd().ok_or_else(|| io::Error::other("the terminal has no descriptor"))?;
        let file = File::from(duplicate(raw)?);
        rustix::io::ioctl_fionbio(&file, true)?;
        set_modes(&file, protocol)?;
        Ok(Self { file, master: pair.master, slave: Some(pair.slave), unread: Unread::default() })
    }

    /// Starts a program as leader of the terminal's session, with exactly this environment.
    pub fn spawn(&mut self, program: &[OsString], environment: &[(OsString, OsString)]) -> io::Result<ProcessId> {
        let slave = self.slave.as_ref().ok_or_else(|| io::Error::other("the terminal is closed"))?;
        let mut command = CommandBuilder::from_argv(program.to_vec());
        command.env_clear();
        for (key, value) in environment {
            command.env(key, value);
        }
        command.cwd("/");
        let child = slave.spawn_command(command).map_err(io::Error::other)?;
        let pid = child.process_id().and_then(|pid| i32::try_from(pid).ok());
        // The child is waited for with all others that come to us; see `Keeper`.
        pid.and_then(ProcessId::of).ok_or_else(|| io::Error::other("the process was gone at once"))
    }

    /// For waiting until it can be read or written.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// See [`read_some`].
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_some(&mut self.file, buffer)
    }

    /// Types. What the agent does not read yet, waits; the caller has asked for room.
    pub fn write(&mut self, bytes: &[u8]) {
        self.unread.push(bytes);
        self.flush();
    }

    /// Types what waits, as far as it goes now.
    pub fn flush(&mut self) {
        self.unread.flush(&mut self.file);
    }

    /// Bytes that wait to be typed.
    pub fn unread(&self) -> &Unread {
        &self.unread
    }

    /// Changes the size; the programs in front are told by a signal.
    pub fn resize(&self, size: TerminalSize) -> io::Result<()> {
        let size = PtySize { rows: size.rows, cols: size.cols, pixel_width: 0, pixel_height: 0 };
        self.master.resize(size).map_err(io::Error::other)
    }

    /// Its name in the file system.
    pub fn name(&self) -> Option<PathBuf> {
        self.master.tty_name()
    }

    /// The process group in front.
    pub fn foreground(&self) -> Option<i32> {
        self.master.process_group_leader()
    }

    /// How it takes input now.
    pub fn input_modes(&self) -> InputModes {
        let modes =
            rustix::termios::tcgetattr(&self.file).map(|modes| modes.local_modes).unwrap_or(LocalModes::empty());
        InputModes { canonical: modes.contains(LocalModes::ICANON), echo: modes.contains(LocalModes::ECHO) }
    }

    /// The leader is gone: what is still in the terminal can be read to its end.
    pub fn close_own_side(&mut self) {
        self.slave = None;
    }
}

/// For lines and JSON lines the terminal must not show what is typed, nor collect or cut lines; it still writes `\r\n`
/// for `\n`, so that its output is right in a viewer. Flow control by `^S` is off everywhere: nobody would see why the
/// agent stands still.
fn set_modes(file: &File, protocol: Protocol) -> io::Result<()> {
    use rustix::termios::InputModes;
    let mut modes = rustix::termios::tcgetattr(file)?;
    modes.input_modes.remove(InputModes::IXON | InputModes::IXOFF);
    modes.input_modes.insert(InputModes::IUTF8);
    match protocol {
        Protocol::Terminal => {}
        Protocol::Lines | Protocol::Jsonl | Protocol::Acp => {
            modes.local_modes.remove(LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON);
            modes.special_codes[SpecialCodeIndex::VMIN] = 1;
            modes.special_codes[SpecialCodeIndex::VTIME] = 0;
        }
    }
    Ok(rustix::termios::tcsetattr(file, OptionalActions::Now, &modes)?)
}

#[cfg(test)]
mod tests {
    use super::super::unread::MAX_UNREAD_INPUT;
    use super::*;

    #[test]
    fn a_terminal_for_lines_shows_and_collects_nothing() {
        let size = TerminalSize { cols: 80, rows: 24 };
        let lines = Terminal::open(size, Protocol::Lines).unwrap().input_modes();
        assert_eq!(lines, InputModes { canonical: false, echo: false });
        let plain = Terminal::open(size, Protocol::Terminal).unwrap().input_modes();
        assert_eq!(plain, InputModes { canonical: true, echo: true });
    }

    #[test]
    fn writing_never_waits() {
        let mut terminal = Terminal::open(TerminalSize { cols: 80, rows: 24 }, Protocol::Lines).unwrap();
        assert!(terminal.unread().has_room(MAX_UNREAD_INPUT));
        terminal.write(&vec![b'x'; MAX_UNREAD_INPUT]);
        assert!(terminal.unread().len() > MAX_UNREAD_INPUT / 2, "the terminal took all of it");
        assert!(!terminal.unread().has_room(MAX_UNREAD_INPUT));
    }
}
