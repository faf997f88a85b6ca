//! One append-only log per session: what is to reach the bus, on disk before it is published.
//!
//! ```text
//! sessions/ID/outbox/
//!   00000000000000000001.seg    named after its first record, which is a checkpoint
//!   00000000000000004711.seg    the last one is appended to
//!   floor                       number of the last record that need not be sent again
//! ```
//!
//! Laws:
//! 1. *The record is the commit.* What is in the log with its position has happened; a process that is killed goes on
//!    behind the last whole record. A torn tail is cut at [`Outbox::open`].
//! 2. *Every segment stands alone.* It begins with a checkpoint of all that the session's task must know, so older ones
//!    can be deleted, and only the last one is read at a start.
//! 3. *Written is visible, synced is promised.* [`Outbox::commit`] is one `write(2)` and survives the end of the
//!    process. Only [`Outbox::sync`] survives the end of the machine; an operator's message waits for it.
//! 4. *Bounded.* [`Outbox::is_full`] says when no more messages may be added. Small records of their own right (receipts,
//!    snapshots, operator messages, gaps) may use a reserve behind the bound.
//!
//! The session's task appends; the publisher reads ([`Reader`]), and deletes what the bus has had for long enough.

mod files;
mod reader;
pub mod record;

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bus_schema::SessionId;
use providers::Position;

pub use self::files::{Files, Meter};
use self::files::{Segment, segment_path};
pub use self::reader::{Located, Reader};
use self::record::{Parsed, Record, RecordKind};

/// Begins every segment: what it is, and the version of its format.
const MAGIC: &[u8; 7] = b"mosaicq";
/// Version of the format this program writes.
const FORMAT: u8 = 1;
/// Bytes before the first record of a segment.
pub(crate) const SEGMENT_HEADER: u64 = 8;
/// A segment is closed when it is larger, unless the bound of a session is so small that it would hold only a few.
/// Bounds what is read at a start, and what cannot be deleted yet.
const SEGMENT_BYTES: u64 = 1024 * 1024;
/// Segments of an outbox at its bound: so much of it can be freed at a time.
const SEGMENTS_PER_SESSION: u64 = 16;
/// Room behind the bound for records that must not be dropped: an operator's largest message and the gaps, receipts and
/// snapshots of a long outage.
pub const RESERVE_BYTES: u64 = 2 * 1024 * 1024;

/// Bounds of the outboxes of a node, in bytes on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of one session.
    pub session_bytes: u64,
    /// Of all sessions.
    pub total_bytes: u64,
}

impl Limits {
    fn segment_bytes(&self) -> u64 {
        SEGMENT_BYTES.min(self.session_bytes / SEGMENTS_PER_SESSION)
    }
}

/// The outbox cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The file system refused.
    #[error("{doing} {path:?}")]
    Io {
        /// What we were doing.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Written by a newer program.
    #[error("{path:?} has format {theirs}, this program reads up to {FORMAT}: start the newer one again")]
    NewerFormat {
        /// Which file.
        path: PathBuf,
        /// Its format.
        theirs: u8,
    },
    /// Not a segment at all, or one that lost its beginning.
    #[error("{path:?} is not an outbox segment, or is damaged; it was left as it is")]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
}

pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> OutboxError {
    let path = path.to_owned();
    move |source| OutboxError::Io { doing, path, source }
}

/// The writing end, owned by the session's task.
pub struct Outbox {
    files: Arc<Files>,
    active: Option<Active>,
    /// Records that are not written yet.
    buffer: Vec<u8>,
    /// The number of the last record, written or not.
    last: u64,
    position: Position,
}

struct Active {
    file: Arc<File>,
    path: PathBuf,
    /// Whole records in the file, in bytes.
    bytes: u64,
    is_new: bool,
}

/// An outbox and what its last segment holds, beginning with a checkpoint. Empty for a new one.
pub struct Opened {
    /// The writing end.
    pub outbox: Outbox,
    /// The records to recover from.
    pub records: Vec<Record>,
}

impl Outbox {
    /// Opens the outbox in `dir`, made if it is not there, and cuts what a crash has torn.
    ///
    /// # Errors
    /// [`OutboxError`]; nothing is deleted then.
    pub fn open(session_id: &SessionId, dir: &Path, meter: Arc<Meter>) -> Result<Opened, OutboxError> {
        std::fs::create_dir_all(dir).map_err(io("making", dir))?;
        let mut firsts = files::list(dir)?;
        let mut found = None;
        while let Some(&first) = firsts.last() {
            let path = segment_path(dir, first);
            match load(&path)? {
                Some(loaded) => {
                    found = Some((path, first, loaded));
                    break;
                }
                None => {
                    // A segment whose first record was torn: it was being made when the process was killed.
                    std::fs::remove_file(&path).map_err(io("removing", &path))?;
                    firsts.pop();
                }
            }
        }
        let floor = files::read_floor(dir)?;
        let mut segments = Vec::with_capacity(firsts.len());
        for (at, &first) in firsts.iter().enumerate() {
            let path = segment_path(dir, first);
            let bytes = std::fs::metadata(&path).map_err(io("looking at", &path))?.len();
            let last = firsts.get(at + 1).map_or(first, |next| next - 1);
            segments.push(Segment { first, last, bytes });
        }
        let (mut active, mut records, mut last) = (None, vec![], floor);
        if let Some((path, _, loaded)) = found {
            let file = File::options().append(true).open(&path).map_err(io("opening", &path))?;
            file.set_len(loaded.bytes).map_err(io("cutting the torn tail of", &path))?;
            last = loaded.records.last().map_or(last, |record| record.number.max(floor));
            if let Some(segment) = segments.last_mut() {
                segment.bytes = loaded.bytes;
                segment.last = loaded.records.last().map_or(segment.first, |record| record.number);
            }
            active = Some(Active { file: Arc::new(file), path, bytes: loaded.bytes, is_new: false });
            records = loaded.records;
            if floor >= last && records.last().is_none_or(|record| record.number < floor) {
                // The machine ended and took records with it that the bus had already. Numbers go on behind them, and
                // only a segment may begin with a jump.
                active = None;
            }
        }
        let position = records.last().map(|record| record.position).unwrap_or_default();
        let files = Arc::new(Files::new(session_id.clone(), dir.to_owned(), segments, floor, meter));
        Ok(Opened { outbox: Self { files, active, buffer: vec![], last, position }, records })
    }

    /// What the publisher needs of it.
    pub fn files(&self) -> &Arc<Files> {
        &self.files
    }

    /// The position of the last record.
    pub fn position(&self) -> Position {
        self.position
    }

    /// True where a new segment must be [begun](Self::begin_segment) before anything is appended.
    pub fn needs_segment(&self) -> bool {
        self.active.as_ref().is_none_or(|active| active.bytes + self.buffer.len() as u64 >= self.files.segment_bytes())
    }

    /// True where no more messages may be added: the bound of this session or of all is reached.
    pub fn is_full(&self) -> bool {
        self.files.is_full(self.buffer.len() as u64)
    }

    /// True where even the reserve behind the bound is used up.
    pub fn is_reserve_full(&self) -> bool {
        self.files.is_reserve_full(self.buffer.len() as u64)
    }

    /// Begins a segment with a checkpoint. What was appended before is written first.
    ///
    /// # Errors
    /// [`OutboxError::Io`]; then the outbox is as it was.
    pub fn begin_segment(&mut self, checkpoint: &[u8]) -> Result<(), OutboxError> {
        self.commit()?;
        let number = self.last + 1;
        let path = segment_path(self.files.dir(), number);
        let mut bytes = Vec::with_capacity(checkpoint.len() + 64);
        bytes.extend_from_slice(MAGIC);
        bytes.push(FORMAT);
        record::write(&mut bytes, number, RecordKind::Checkpoint, self.position, checkpoint);
        let file = File::options().append(true).create_new(true).open(&path).map_err(io("making", &path))?;
        let written = (&file).write_all(&bytes);
        if let Err(source) = written {
            // Nothing refers to it yet; if it cannot be removed, the next start does.
            let _ = std::fs::remove_file(&path);
            return Err(OutboxError::Io { doing: "writing", path, source });
        }
        let length = bytes.len() as u64;
        self.last = number;
        self.active = Some(Active { file: Arc::new(file), path, bytes: length, is_new: true });
        self.files.push_segment(number, length);
        Ok(())
    }

    /// Adds a record to those that the next [`commit`](Self::commit) writes. Gives its number.
    pub fn append(&mut self, kind: RecordKind, position: Position, body: &[u8]) -> u64 {
        self.last += 1;
        self.position = position;
        record::write(&mut self.buffer, self.last, kind, position, body);
        self.last
    }

    /// Writes what was appended, all of it or nothing, and shows it to the publisher.
    ///
    /// # Errors
    /// [`OutboxError::Io`]. The records stay in memory, and the next call tries again.
    pub fn commit(&mut self) -> Result<(), OutboxError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let Some(active) = &mut self.active else {
            return Err(OutboxError::Damaged { path: self.files.dir().to_owned() });
        };
        if let Err(source) = (&*active.file).write_all(&self.buffer) {
            // A part of a record must not stay: the next write would stand behind it and be cut with it.
            active.file.set_len(active.bytes).map_err(io("cutting back", &active.path))?;
            return Err(OutboxError::Io { doing: "writing", path: active.path.clone(), source });
        }
        active.bytes += self.buffer.len() as u64;
        self.files.written(self.last, self.buffer.len() as u64);
        self.buffer.clear();
        if self.buffer.capacity() > MAX_IDLE_BUFFER {
            self.buffer.shrink_to(MAX_IDLE_BUFFER);
        }
        Ok(())
    }

    /// Returns when everything committed would survive the end of the machine.
    ///
    /// # Errors
    /// [`OutboxError::Io`].
    pub async fn sync(&mut self) -> Result<(), OutboxError> {
        let Some(active) = &mut self.active else { return Ok(()) };
        let (file, path, is_new) = (active.file.clone(), active.path.clone(), active.is_new);
        let work = tokio::task::spawn_blocking(move || {
            file.sync_data()?;
            match path.parent().filter(|_| is_new) {
                Some(dir) => File::open(dir)?.sync_all(),
                None => Ok(()),
            }
        });
        let done = work.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        done.map_err(io("syncing", &active.path))?;
        active.is_new = false;
        Ok(())
    }
}

/// Memory that an idle outbox keeps for its next batch.
const MAX_IDLE_BUFFER: usize = 16 * 1024;

/// A segment as far as it is whole.
struct Loaded {
    records: Vec<Record>,
    bytes: u64,
}

/// Reads a segment; `None` if not even its first record is whole.
fn load(path: &Path) -> Result<Option<Loaded>, OutboxError> {
    let mut bytes = vec![];
    File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(io("reading", path))?;
    let Some((header, mut rest)) = bytes.split_at_checked(MAGIC.len() + 1) else { return Ok(None) };
    match header.split_last() {
        Some((&FORMAT, magic)) if magic == MAGIC => {}
        Some((&theirs, magic)) if magic == MAGIC && theirs > FORMAT => {
            return Err(OutboxError::NewerFormat { path: path.to_owned(), theirs });
        }
        _ => return Err(OutboxError::Damaged { path: path.to_owned() }),
    }
    let mut records: Vec<Record> = vec![];
    loop {
        match record::parse(rest) {
            Parsed::Whole(record, length) => {
                let follows = records.last().is_none_or(|before| record.number == before.number + 1);
                if !follows {
                    return Err(OutboxError::Damaged { path: path.to_owned() });
                }
                records.push(record);
                rest = rest.get(length..).unwrap_or_default();
            }
            Parsed::Partial(_) if records.is_empty() => return Ok(None),
            Parsed::Damaged if records.is_empty() => return Err(OutboxError::Damaged { path: path.to_owned() }),
            Parsed::Partial(_) | Parsed::Damaged => break,
        }
    }
    let whole = bytes.len() - rest.len();
    Ok(Some(Loaded { records, bytes: whole as u64 }))
}
