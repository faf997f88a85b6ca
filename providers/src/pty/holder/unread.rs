//! Reading and writing without ever waiting, and what waits for a program to read it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};

/// Bytes that wait for the agent to read them. Four of the longest operator messages; beyond it, it plainly does not
/// read.
pub(crate) const MAX_UNREAD_INPUT: usize = 1024 * 1024;

/// Bytes that wait to be read by a program.
#[derive(Default)]
pub(crate) struct Unread(VecDeque<u8>);

impl Unread {
    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if so much more may wait.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.0.len() + bytes <= MAX_UNREAD_INPUT
    }

    /// Puts bytes behind those that wait. The caller has asked for room.
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
    }

    /// Writes what waits, as far as it goes now.
    pub fn flush(&mut self, to: &mut File) {
        while !self.0.is_empty() {
            match to.write(self.0.as_slices().0) {
                Ok(0) => return,
                Ok(count) => {
                    self.0.drain(..count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    // Nobody will read it any more.
                    self.0.clear();
                }
            }
        }
    }
}

/// Reads until nothing is left, or the buffer is full. `Ok(0)` if nothing is there now.
///
/// # Errors
/// Any error means that nothing will come any more.
pub(crate) fn read_some(from: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while let Some(room) = buffer.get_mut(count..).filter(|room| !room.is_empty()) {
        match from.read(room) {
            Ok(0) => return if count > 0 { Ok(count) } else { Err(io::ErrorKind::UnexpectedEof.into()) },
            Ok(some) => count += some,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock || count > 0 => return Ok(count),
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}
