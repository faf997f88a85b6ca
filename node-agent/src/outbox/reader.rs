//! The reading end of an outbox: from any record on, in order, as far as records are committed.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Buf, BytesMut};

use super::files::{Files, segment_path};
use super::record::{Parsed, Record, parse};
use super::{OutboxError, SEGMENT_HEADER, io};

/// Bytes read at once: some two hundred short messages, and small enough to keep for every busy session.
const READ_BYTES: usize = 32 * 1024;

/// Reads an outbox. Owned by the publisher.
pub struct Reader {
    files: Arc<Files>,
    /// Records up to this one were given out, or passed over.
    at: u64,
    place: Option<Place>,
}

/// Where the reader stands within a segment.
struct Place {
    first: u64,
    /// Where the next byte to read stands.
    offset: u64,
    /// Open while there is something to read.
    file: Option<File>,
    buffer: BytesMut,
}

/// A record, or a place where records are missing.
#[derive(Debug, PartialEq, Eq)]
pub enum Located {
    /// The next record.
    Record(Record),
    /// The records behind `after` up to the next segment cannot be read.
    Damaged {
        /// The last one that could.
        after: u64,
    },
}

impl Reader {
    /// A reader that begins behind record `after`.
    pub fn new(files: Arc<Files>, after: u64) -> Self {
        Self { files, at: after, place: None }
    }

    /// The number of the last record given out.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Goes back (or forth) to behind record `after`.
    pub fn seek(&mut self, after: u64) {
        (self.at, self.place) = (after, None);
    }

    /// True if there is a record that was not given out.
    pub fn has_more(&self) -> bool {
        self.files.last() > self.at
    }

    /// The next record; `None` if there is none yet.
    ///
    /// # Errors
    /// [`OutboxError::Io`]; the same record is tried again by the next call.
    pub fn read(&mut self) -> Result<Option<Located>, OutboxError> {
        loop {
            if !self.has_more() {
                // A reader that has caught up needs no buffer and no file.
                if let Some(place) = &mut self.place {
                    (place.file, place.buffer) = (None, BytesMut::new());
                }
                return Ok(None);
            }
            let place = match &mut self.place {
                Some(place) => place,
                none => {
                    let Some(segment) = self.files.segment_behind(self.at) else { return Ok(None) };
                    let (first, offset) = (segment.first, SEGMENT_HEADER);
                    none.insert(Place { first, offset, file: None, buffer: BytesMut::new() })
                }
            };
            let Some(segment) = self.files.segment(place.first) else {
                // Deleted beneath us: all of it was acknowledged.
                self.place = None;
                continue;
            };
            let is_damaged = match parse(&place.buffer) {
                Parsed::Whole(record, length) => {
                    place.buffer.advance(length);
                    if record.number <= self.at {
                        continue;
                    }
                    self.at = record.number;
                    return Ok(Some(Located::Record(record)));
                }
                Parsed::Partial(needed) => {
                    let left = usize::try_from(segment.bytes.saturating_sub(place.offset)).unwrap_or(usize::MAX);
                    let wanted = needed.saturating_sub(place.buffer.len()).max(READ_BYTES).min(left);
                    if wanted == 0 && place.buffer.is_empty() {
                        // The end of this segment; the rest is in the next one.
                        self.at = self.at.max(segment.last);
                        self.place = None;
                        continue;
                    }
                    wanted == 0 || place.fill(&self.files, wanted)? == 0
                }
                Parsed::Damaged => true,
            };
            if is_damaged {
                let after = self.at;
                self.at = self.at.max(segment.last);
                self.place = None;
                return Ok(Some(Located::Damaged { after }));
            }
        }
    }
}

impl Place {
    fn fill(&mut self, files: &Files, wanted: usize) -> Result<usize, OutboxError> {
        let path = segment_path(files.dir(), self.first);
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(File::open(&path).map_err(io("opening", &path))?),
        };
        let start = self.buffer.len();
        self.buffer.resize(start + wanted, 0);
        let read = self.buffer.get_mut(start..).map_or(Ok(0), |space| file.read_at(space, self.offset));
        let count = *read.as_ref().unwrap_or(&0);
        self.buffer.truncate(start + count);
        self.offset += count as u64;
        read.map_err(io("reading", &path))
    }
}
