//! The reading end of the log, from its files: for sessions whose holder is gone, and for looking back.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{Block, Decoder, LogError, SEGMENT_HEADER, SegmentHeader, segments};

/// How much is read at once.
const READ_BYTES: usize = 64 * 1024;

/// Gives the blocks of a log in order. Never sees half a block of a log that is being written: it stops before it.
#[derive(Debug)]
pub(crate) struct LogReader {
    dir: PathBuf,
    file: Option<File>,
    base: u64,
    /// How far the file has been read.
    read: u64,
    decoder: Decoder,
}

impl LogReader {
    /// Reads from `offset` on, a place between two blocks.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] if that place is no longer kept.
    pub fn open(dir: &Path, offset: u64) -> Result<Self, LogError> {
        let mut reader = Self { dir: dir.into(), file: None, base: 0, read: offset, decoder: Decoder::new(offset) };
        let all = segments(dir)?;
        let Some((base, path)) = all.iter().rev().find(|(base, _)| *base <= offset) else {
            return Err(LogError::Corrupt { offset });
        };
        reader.enter(*base, path)?;
        Ok(reader)
    }

    /// What the first segment that is kept says of itself; `None` for a log without one.
    pub fn first(dir: &Path) -> Result<Option<SegmentHeader>, LogError> {
        for (_, path) in segments(dir)? {
            if let Some(header) = header(&path)? {
                return Ok(Some(header));
            }
        }
        Ok(None)
    }

    fn enter(&mut self, base: u64, path: &Path) -> Result<(), LogError> {
        self.file = Some(File::open(path).map_err(LogError::io("opening", path))?);
        self.base = base;
        header(path).map(|_| ())
    }

    /// The next block; `None` at the end of what is written.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] within the log; a torn tail is its end.
    pub fn next(&mut self) -> Result<Option<Block>, LogError> {
        loop {
            let torn = match self.decoder.next() {
                Ok(Some(block)) => return Ok(Some(block)),
                Ok(None) => None,
                Err(error) => Some(error),
            };
            if torn.is_none() && self.fill()? {
                continue;
            }
            // The end of this segment, or damage in it: is there one behind it?
            let all = segments(&self.dir)?;
            let next = all.iter().find(|(base, _)| *base > self.base);
            match (next, torn) {
                (None, _) => return Ok(None),
                (Some(_), Some(error)) => return Err(error),
                (Some((base, path)), None) => {
                    if *base != self.decoder.offset() {
                        // The writer may have finished this segment and begun the next since we looked.
                        if self.fill()? {
                            continue;
                        }
                        return Err(LogError::Corrupt { offset: self.decoder.offset() });
                    }
                    self.enter(*base, path)?;
                    self.read = *base;
                }
            }
        }
    }

    /// Reads on in the file; false if there is nothing more in it now.
    fn fill(&mut self) -> Result<bool, LogError> {
        let Some(file) = &self.file else { return Ok(false) };
        let mut bytes = vec![0; READ_BYTES];
        let at = SEGMENT_HEADER as u64 + (self.read - self.base);
        let count = file.read_at(&mut bytes, at).map_err(LogError::io("reading", &self.dir))?;
        self.decoder.push(self.base, bytes.get(..count).unwrap_or_default());
        self.read += count as u64;
        Ok(count > 0)
    }
}

fn header(path: &Path) -> Result<Option<SegmentHeader>, LogError> {
    let mut bytes = vec![];
    let file = File::open(path).map_err(LogError::io("opening", path))?;
    file.take(SEGMENT_HEADER as u64).read_to_end(&mut bytes).map_err(LogError::io("reading", path))?;
    SegmentHeader::decode(&bytes, path)
}
