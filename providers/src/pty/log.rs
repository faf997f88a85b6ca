//! A session's log: the total order of everything that happens to it.
//!
//! ```text
//! log/00000000000000000000.seg    segment: header, then blocks without gaps
//!     00000000000004194323.seg    named by its base: the bytes of all blocks before it
//!
//! block   length u32 · checksum u32 · kind u8 · time i64 (µs since 1970) · payload       (little endian)
//! ```
//!
//! Laws:
//! 1. A place in the log is the number of bytes of blocks before it, over all segments, headers not counted. It never
//!    changes, whatever is deleted.
//! 2. A block is written by one write before anybody is told of it. A tail torn by a crash fails its checksum and is
//!    cut off; nothing behind it was ever told.
//! 3. A segment begins where the one before it had grown to its size, so where segments begin is a fact of the log.

mod reader;
mod writer;

use std::path::{Path, PathBuf};

use bus_schema::TerminalSize;

pub(crate) use reader::LogReader;
pub use writer::LogLimits;
pub(crate) use writer::{LogWriter, parse_size, size_bytes};

/// Version of the format. A reader refuses a newer one.
pub(crate) const LOG_VERSION: u32 = 1;
/// Bytes of a block before its payload.
pub(crate) const BLOCK_HEADER: usize = 17;
/// Largest payload. Output comes in pieces of 64 KiB; the largest others are reports, see
/// [`MAX_REPORT_BYTES`](crate::pty::log::MAX_BLOCK_BYTES).
pub(crate) const MAX_BLOCK_BYTES: usize = 2 * 1024 * 1024;
/// Bytes of a segment before its first block.
const SEGMENT_HEADER: usize = 40;
const MAGIC: &[u8; 8] = b"MOSAICPT";

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `o`: bytes that the session wrote to its terminal.
    Output,
    /// `e`: bytes that the session wrote to its standard error, where that is not its terminal.
    Errors,
    /// `i`: bytes that were typed into it, and by whom.
    Input,
    /// `r`: the terminal's size from here on.
    Resize,
    /// `s`: one report of the session about itself.
    Report,
    /// `t`: something that was done to it.
    Note,
    /// `q`: there was no output for a while.
    Quiet,
    /// `d`: a piece of output that the runtime stamped itself: see [`Fragment`](crate::pty::record::Fragment).
    Fragment,
    /// `w`: what a terminal showed whose lines come as fragments: see [`Shown`](crate::pty::record::Shown).
    Shown,
    /// `x`: it is over. The last block.
    Exit,
    /// Of a newer version; passed over.
    Other(u8),
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Kind::Output => b'o',
            Kind::Errors => b'e',
            Kind::Input => b'i',
            Kind::Resize => b'r',
            Kind::Report => b's',
            Kind::Note => b't',
            Kind::Quiet => b'q',
            Kind::Fragment => b'd',
            Kind::Shown => b'w',
            Kind::Exit => b'x',
            Kind::Other(byte) => byte,
        }
    }

    pub fn of(byte: u8) -> Self {
        match byte {
            b'o' => Kind::Output,
            b'e' => Kind::Errors,
            b'i' => Kind::Input,
            b'r' => Kind::Resize,
            b's' => Kind::Report,
            b't' => Kind::Note,
            b'q' => Kind::Quiet,
            b'd' => Kind::Fragment,
            b'w' => Kind::Shown,
            b'x' => Kind::Exit,
            other => Kind::Other(other),
        }
    }
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// What it holds.
    pub kind: Kind,
    /// When it was written, in µs since 1970, by the clock on the wall: it may go back.
    pub time: i64,
    /// Its payload.
    pub data: Vec<u8>,
    /// The place behind it.
    pub end: u64,
    /// The base of the segment that it is in.
    pub segment: u64,
}

/// The log is not what we wrote.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// A file could not be read or written.
    #[error("{doing} {path}")]
    Io {
        /// What we were doing.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// Written by a newer version of this program.
    #[error("{path} has log version {found}, this program reads up to {LOG_VERSION}; use the newer one")]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// A block that its checksum does not fit, or no place where a block begins.
    #[error("no sound block at offset {offset} of the log")]
    Corrupt {
        /// Where.
        offset: u64,
    },
}

impl LogError {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| LogError::Io { doing, path: path.into(), source }
    }
}

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// The place where its first block begins.
    pub base: u64,
    /// Bytes of output in all blocks before it.
    pub output: u64,
    /// Size of the terminal at its beginning.
    pub size: TerminalSize,
}

impl SegmentHeader {
    fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&LOG_VERSION.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.size.cols.to_le_bytes());
        bytes[14..16].copy_from_slice(&self.size.rows.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.base.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.output.to_le_bytes());
        let sum = checksum(&[&bytes[..32]]);
        bytes[32..36].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// `None` if it is torn.
    fn decode(bytes: &[u8], path: &Path) -> Result<Option<Self>, LogError> {
        let (Some(head), Some(sum)) = (bytes.get(..32), u32_at(bytes, 32)) else { return Ok(None) };
        if &head[..8] != MAGIC || checksum(&[head]) != sum {
            return Ok(None);
        }
        match u32_at(bytes, 8) {
            Some(found) if found > LOG_VERSION => return Err(LogError::Newer { path: path.into(), found }),
            _ => {}
        }
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let size = TerminalSize { cols: u16_at(12), rows: u16_at(14) };
        Ok(u64_at(bytes, 16).zip(u64_at(bytes, 24)).map(|(base, output)| Self { base, output, size }))
    }
}

/// The segments of a log, by base.
pub(crate) fn segments(dir: &Path) -> Result<Vec<(u64, PathBuf)>, LogError> {
    let entries = std::fs::read_dir(dir).map_err(LogError::io("reading", dir))?;
    let mut found: Vec<(u64, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let base = entry.file_name().to_str()?.strip_suffix(".seg")?.parse().ok()?;
            Some((base, entry.path()))
        })
        .collect();
    found.sort();
    Ok(found)
}

fn segment_path(dir: &Path, base: u64) -> PathBuf {
    dir.join(format!("{base:020}.seg"))
}

/// A block as it stands in the log.
fn encode(kind: Kind, time: i64, data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u32).to_le_bytes();
    let mut rest = [0; 9];
    rest[0] = kind.byte();
    rest[1..].copy_from_slice(&time.to_le_bytes());
    let mut bytes = Vec::with_capacity(BLOCK_HEADER + data.len());
    bytes.extend_from_slice(&length);
    bytes.extend_from_slice(&checksum(&[&length, &rest, data]).to_le_bytes());
    bytes.extend_from_slice(&rest);
    bytes.extend_from_slice(data);
    bytes
}

/// Takes bytes of the log in any portions and gives blocks.
#[derive(Debug)]
pub(crate) struct Decoder {
    buffer: Vec<u8>,
    /// How much of the buffer has been given out.
    used: usize,
    /// The place in the log of what comes next.
    offset: u64,
    segment: u64,
}

impl Decoder {
    /// For bytes of the log from `offset` on, a place between two blocks.
    pub fn new(offset: u64) -> Self {
        Self { buffer: vec![], used: 0, offset, segment: 0 }
    }

    /// The place behind the last block given.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next bytes, from the segment with this base.
    pub fn push(&mut self, segment: u64, bytes: &[u8]) {
        if self.used > 0 {
            self.buffer.drain(..self.used);
            self.used = 0;
        }
        self.segment = segment;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole block.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] if the bytes are no block.
    pub fn next(&mut self) -> Result<Option<Block>, LogError> {
        let bytes = self.buffer.get(self.used..).unwrap_or_default();
        let Some((length, sum)) = u32_at(bytes, 0).zip(u32_at(bytes, 4)) else { return Ok(None) };
        let corrupt = LogError::Corrupt { offset: self.offset };
        let length = length as usize;
        if length > MAX_BLOCK_BYTES {
            return Err(corrupt);
        }
        let Some(body) = bytes.get(8..BLOCK_HEADER + length) else { return Ok(None) };
        let (head, data) = body.split_at(BLOCK_HEADER - 8);
        if checksum(&[&bytes[..4], body]) != sum {
            return Err(corrupt);
        }
        let time = u64_at(head, 1).map_or(0, u64::cast_signed);
        self.used += BLOCK_HEADER + length;
        self.offset += (BLOCK_HEADER + length) as u64;
        let kind = Kind::of(head[0]);
        Ok(Some(Block { kind, time, data: data.to_vec(), end: self.offset, segment: self.segment }))
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// CRC-32 as in IEEE 802.3, over all parts.
pub(crate) fn checksum(parts: &[&[u8]]) -> u32 {
    let mut sum = !0u32;
    for byte in parts.iter().copied().flatten() {
        sum = CRC_TABLE[((sum ^ u32::from(*byte)) & 0xff) as usize] ^ (sum >> 8);
    }
    !sum
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { 0xedb8_8320 ^ (value >> 1) } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_checksum_is_the_standard_one() {
        assert_eq!(checksum(&[b"1234", b"56789"]), 0xcbf4_3926);
    }

    proptest! {
        /// Blocks come back the same however the bytes are cut.
        #[test]
        fn any_portions_give_the_same_blocks(
            blocks in prop::collection::vec((any::<u8>(), any::<i64>(), prop::collection::vec(any::<u8>(), 0..200)), 0..20),
            cuts in prop::collection::vec(1usize..64, 1..20),
        ) {
            let mut bytes = vec![];
            for (kind, time, data) in &blocks {
                bytes.extend(encode(Kind::of(*kind), *time, data));
            }
            let (mut decoder, mut rest, mut cuts) = (Decoder::new(7), &bytes[..], cuts.iter().cycle());
            let mut found = vec![];
            while !rest.is_empty() {
                let (now, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                decoder.push(0, now);
                rest = later;
                while let Some(block) = decoder.next().unwrap() {
                    found.push((block.kind.byte(), block.time, block.data));
                }
            }
            prop_assert_eq!(&found, &blocks);
            prop_assert_eq!(decoder.offset(), 7 + bytes.len() as u64);
        }

        /// After a crash that cut the last segment anywhere, or left nonsense behind it, all blocks before that are there,
        /// no others, and writing goes on behind them.
        #[test]
        fn a_cut_log_is_recovered(
            blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..30),
            cut in any::<prop::sample::Index>(),
            nonsense in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let size = TerminalSize { cols: 80, rows: 24 };
            let limits = LogLimits { segment_bytes: 200, ..LogLimits::default() };
            let mut writer = LogWriter::create(dir.path(), limits, size).unwrap();
            let mut ends = vec![0];
            for block in &blocks {
                ends.push(writer.append(Kind::Output, 1, block).unwrap());
            }
            let base = writer.last_segment();
            let (_, path) = segments(dir.path()).unwrap().pop().unwrap();
            let mut bytes = std::fs::read(&path).unwrap();
            let kept = cut.index(bytes.len() + 1);
            bytes.truncate(kept);
            bytes.extend_from_slice(&nonsense);
            std::fs::write(&path, &bytes).unwrap();

            // Whole blocks of the last segment that were kept. Nonsense may happen to be what was cut off.
            let sound = |end: &u64| *end <= base || SEGMENT_HEADER as u64 + (end - base) <= kept as u64;
            let least = ends.iter().filter(|end| sound(end)).count() - 1;
            let mut writer = LogWriter::recover(dir.path(), limits).unwrap();
            if least == 0 && kept < SEGMENT_HEADER && base == 0 && writer.is_none() {
                return Ok(());
            }
            let writer = writer.as_mut().unwrap();
            let whole = ends.iter().position(|end| *end == writer.end()).unwrap();
            prop_assert!(whole >= least && (whole == least || !nonsense.is_empty()));
            writer.append(Kind::Exit, 2, b"end").unwrap();
            let output: u64 = blocks[..whole].iter().map(|block| block.len() as u64).sum();
            prop_assert_eq!(writer.output(), output);

            let mut reader = LogReader::open(dir.path(), 0).unwrap();
            for block in &blocks[..whole] {
                prop_assert_eq!(&reader.next().unwrap().unwrap().data, block);
            }
            prop_assert_eq!(reader.next().unwrap().unwrap().kind, Kind::Exit);
            prop_assert_eq!(reader.next().unwrap(), None);
        }

        /// A changed byte never gives a block that was not written.
        #[test]
        fn damage_is_noticed(data in prop::collection::vec(any::<u8>(), 0..100), at in any::<prop::sample::Index>(), by in 1u8..) {
            let mut bytes = encode(Kind::Output, 5, &data);
            let at = at.index(bytes.len());
            bytes[at] ^= by;
            let mut decoder = Decoder::new(0);
            decoder.push(0, &bytes);
            prop_assert!(!matches!(decoder.next(), Ok(Some(_))));
        }
    }
}
