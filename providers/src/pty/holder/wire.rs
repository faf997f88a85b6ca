//! A connection that never makes the holder wait, with bounds on both sides.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// How much is read from one connection at a time, so that none is served for ever.
const READ_AT_ONCE: usize = 64 * 1024;

/// A connection and what waits on it.
pub(crate) struct Wire {
    stream: UnixStream,
    /// What came and was not used yet.
    pub input: Vec<u8>,
    output: Vec<u8>,
    /// True once the other side is gone, or has broken a rule.
    pub is_closed: bool,
}

impl Wire {
    /// Takes over an accepted connection.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, input: vec![], output: vec![], is_closed: false })
    }

    /// For waiting on it.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Reads what is there.
    pub fn fill(&mut self) {
        let mut buffer = [0; READ_AT_ONCE];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.is_closed = true,
            Ok(count) => self.input.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => self.is_closed = true,
        }
    }

    /// Bytes that wait to be sent.
    pub fn waiting(&self) -> usize {
        self.output.len()
    }

    /// Sends, now or when the other side reads.
    pub fn send(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
        self.flush();
    }

    /// Sends what waits, as far as it goes now.
    pub fn flush(&mut self) {
        let mut sent = 0;
        while let Some(rest) = self.output.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) => break,
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.is_closed = true;
                    break;
                }
            }
        }
        self.output.drain(..sent);
    }
}
