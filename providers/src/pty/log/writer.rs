//! The writing end of the log. One writer at a time: the holder, or whoever holds its lock after its death.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bus_schema::TerminalSize;
use serde::{Deserialize, Serialize};

use super::{Decoder, Kind, LogError, SEGMENT_HEADER, SegmentHeader, encode, segment_path, segments};

/// How much of the log is kept, and how fast it may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogLimits {
    /// Bytes that may wait for the consumer; beyond them the agent's output is not read, so that its terminal slows it
    /// down.
    pub unacknowledged_bytes: u64,
    /// Bytes of output read per second at most.
    pub bytes_per_second: u64,
    /// Bytes kept although they are acknowledged, for whoever looks back.
    pub retained_bytes: u64,
    /// Size of a segment: the unit of deletion, and the distance between checkpoints.
    pub segment_bytes: u64,
}

impl Default for LogLimits {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            unacknowledged_bytes: 64 * MIB,
            bytes_per_second: 8 * MIB,
            retained_bytes: 16 * MIB,
            segment_bytes: 4 * MIB,
        }
    }
}

/// Appends to a log and deletes from its beginning.
#[derive(Debug)]
pub(crate) struct LogWriter {
    dir: PathBuf,
    limits: LogLimits,
    /// Bases of all segments there are; the last one is being written.
    bases: VecDeque<u64>,
    file: Arc<File>,
    end: u64,
    output: u64,
    size: TerminalSize,
}

impl LogWriter {
    /// Begins a new log in `dir`, which is made.
    pub fn create(dir: &Path, limits: LogLimits, size: TerminalSize) -> Result<Self, LogError> {
        std::fs::create_dir_all(dir).map_err(LogError::io("creating", dir))?;
        let header = SegmentHeader { base: 0, output: 0, size };
        let file = begin(dir, header)?;
        Ok(Self { dir: dir.into(), limits, bases: [0].into(), file, end: 0, output: 0, size })
    }

    /// Goes on with a log whose writer has died: cuts off what it did not finish. `None` if there is nothing sound.
    pub fn recover(dir: &Path, limits: LogLimits) -> Result<Option<Self>, LogError> {
        let mut found = segments(dir)?;
        while let Some((base, path)) = found.pop() {
            let bytes = std::fs::read(&path).map_err(LogError::io("reading", &path))?;
            let Some(header) = SegmentHeader::decode(&bytes, &path)? else {
                // Begun and not finished: nothing was in it yet.
                std::fs::remove_file(&path).map_err(LogError::io("removing", &path))?;
                continue;
            };
            let (mut output, mut size) = (header.output, header.size);
            let mut decoder = Decoder::new(base);
            decoder.push(base, bytes.get(SEGMENT_HEADER..).unwrap_or_default());
            while let Ok(Some(block)) = decoder.next() {
                match block.kind {
                    Kind::Output | Kind::Fragment | Kind::Shown => output += block.data.len() as u64,
                    Kind::Resize => size = parse_size(&block.data).unwrap_or(size),
                    Kind::Errors
                    | Kind::Input
                    | Kind::Report
                    | Kind::Note
                    | Kind::Quiet
                    | Kind::Exit
                    | Kind::Other(_) => {}
                }
            }
            let file = OpenOptions::new().write(true).open(&path).map_err(LogError::io("opening", &path))?;
            let sound = SEGMENT_HEADER as u64 + (decoder.offset() - base);
            file.set_len(sound).map_err(LogError::io("cutting", &path))?;
            let mut bases: VecDeque<u64> = found.iter().map(|(base, _)| *base).collect();
            bases.push_back(base);
            let (dir, file, end) = (dir.into(), Arc::new(file), decoder.offset());
            return Ok(Some(Self { dir, limits, bases, file, end, output, size }));
        }
        Ok(None)
    }

    /// The place behind the last block.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The place where what is kept begins.
    pub fn first(&self) -> u64 {
        self.bases.front().copied().unwrap_or(self.end)
    }

    /// The base of the segment that is being written.
    pub fn last_segment(&self) -> u64 {
        self.bases.back().copied().unwrap_or(0)
    }

    /// Bytes of output in the whole log.
    pub fn output(&self) -> u64 {
        self.output
    }

    /// The file that is being written, to be made durable by somebody who may wait for the disk.
    pub fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Writes one block. When it fails, nothing is in the log.
    pub fn append(&mut self, kind: Kind, time: i64, data: &[u8]) -> Result<u64, LogError> {
        let base = self.bases.back().copied().unwrap_or(0);
        if self.end - base >= self.limits.segment_bytes {
            let header = SegmentHeader { base: self.end, output: self.output, size: self.size };
            self.file = begin(&self.dir, header)?;
            self.bases.push_back(self.end);
        }
        let base = self.bases.back().copied().unwrap_or(0);
        let at = SEGMENT_HEADER as u64 + (self.end - base);
        let bytes = encode(kind, time, data);
        if let Err(source) = self.file.write_all_at(&bytes, at) {
            // What was half written would be cut at the next start; cut it now, so that a reader does not meet it.
            // If that fails too, the next block is written over it.
            let _ = self.file.set_len(at);
            return Err(LogError::Io { doing: "writing", path: segment_path(&self.dir, base), source });
        }
        self.end += bytes.len() as u64;
        match kind {
            Kind::Output | Kind::Fragment | Kind::Shown => self.output += data.len() as u64,
            Kind::Resize => self.size = parse_size(data).unwrap_or(self.size),
            Kind::Errors | Kind::Input | Kind::Report | Kind::Note | Kind::Quiet | Kind::Exit | Kind::Other(_) => {}
        }
        Ok(self.end)
    }

    /// Deletes segments that nobody needs: all of them acknowledged, before `floor`, and beyond the retention.
    pub fn release(&mut self, acknowledged: u64, floor: u64) {
        let keep_from = acknowledged.saturating_sub(self.limits.retained_bytes).min(floor);
        while let Some(next) = self.bases.get(1).copied()
            && next <= keep_from
        {
            if let Some(base) = self.bases.pop_front() {
                // If it stays, it is only a file too many: readers go by what they find.
                let _ = std::fs::remove_file(segment_path(&self.dir, base));
            }
        }
    }

    /// Bytes from the log from `offset` on, at most `most`, with the base of their segment. For sending: they may end
    /// within a block.
    pub fn read(&self, offset: u64, most: usize) -> Result<(u64, Vec<u8>), LogError> {
        let index = self.bases.partition_point(|base| *base <= offset);
        let base = index.checked_sub(1).and_then(|index| self.bases.get(index).copied());
        let Some(base) = base else { return Err(LogError::Corrupt { offset }) };
        let segment_end = self.bases.get(index).copied().unwrap_or(self.end);
        let length = usize::try_from(segment_end.saturating_sub(offset)).unwrap_or(usize::MAX).min(most);
        let mut bytes = vec![0; length];
        let at = SEGMENT_HEADER as u64 + (offset - base);
        let path = segment_path(&self.dir, base);
        let read = if self.bases.back() == Some(&base) {
            self.file.read_exact_at(&mut bytes, at)
        } else {
            File::open(&path).and_then(|file| file.read_exact_at(&mut bytes, at))
        };
        read.map_err(LogError::io("reading", &path))?;
        Ok((base, bytes))
    }
}

fn begin(dir: &Path, header: SegmentHeader) -> Result<Arc<File>, LogError> {
    let path = segment_path(dir, header.base);
    // Over whatever an earlier attempt left behind: nothing in it was told to anybody.
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&path).map_err(LogError::io("creating", &path))?;
    file.write_all(&header.encode()).map_err(LogError::io("writing", &path))?;
    Ok(Arc::new(file))
}

/// Payload of a resize block.
pub(crate) fn size_bytes(size: TerminalSize) -> [u8; 4] {
    let ([c0, c1], [r0, r1]) = (size.cols.to_le_bytes(), size.rows.to_le_bytes());
    [c0, c1, r0, r1]
}

/// The size in the payload of a resize block.
pub(crate) fn parse_size(data: &[u8]) -> Option<TerminalSize> {
    let [c0, c1, r0, r1] = *data else { return None };
    Some(TerminalSize { cols: u16::from_le_bytes([c0, c1]), rows: u16::from_le_bytes([r0, r1]) })
}
