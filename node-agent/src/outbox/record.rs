//! How one record stands in a segment.
//!
//! ```text
//! length u32 │ crc32 u32 │ number u64 │ kind u8 │ offset u64 │ index u32 │ body …
//!            └─ over all that follows ────────────────────────────────────────┘
//! ```
//! Little endian. `length` counts from `number` to the end of the body. A record that does not fit its length or its
//! checksum was torn by a crash: it and all behind it never happened.

use bytes::Bytes;
use providers::Position;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// A message, as it goes onto the bus.
    Message,
    /// A receipt, as it goes onto the bus.
    Receipt,
    /// A snapshot of the session, as it goes onto the bus.
    Session,
    /// All that the session's task must know, for itself. Begins every segment.
    Checkpoint,
    /// Only a position, for itself.
    Mark,
}

impl RecordKind {
    /// True if it goes onto the bus.
    pub fn is_published(self) -> bool {
        match self {
            RecordKind::Message | RecordKind::Receipt | RecordKind::Session => true,
            RecordKind::Checkpoint | RecordKind::Mark => false,
        }
    }

    fn code(self) -> u8 {
        match self {
            RecordKind::Message => 1,
            RecordKind::Receipt => 2,
            RecordKind::Session => 3,
            RecordKind::Checkpoint => 4,
            RecordKind::Mark => 5,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => RecordKind::Message,
            2 => RecordKind::Receipt,
            3 => RecordKind::Session,
            4 => RecordKind::Checkpoint,
            5 => RecordKind::Mark,
            _ => return None,
        })
    }
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// 1, 2, 3 … within the outbox.
    pub number: u64,
    /// What it is.
    pub kind: RecordKind,
    /// The place in the runtime's sequence up to which everything is on disk with this record.
    pub position: Position,
    /// The payload.
    pub body: Bytes,
}

/// Bytes before the part that `length` counts.
const PREFIX: usize = 8;
/// Bytes that `length` counts before the body.
const HEADER: usize = 8 + 1 + 8 + 4;
/// Longest body: a payload of the bus, or a checkpoint with its waiting operator messages. More than that in a length
/// field is damage.
pub const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

/// Bytes that a record with such a body takes.
pub fn framed_len(body: usize) -> usize {
    PREFIX + HEADER + body
}

/// Appends a record to `out`.
pub fn write(out: &mut Vec<u8>, number: u64, kind: RecordKind, position: Position, body: &[u8]) {
    let start = out.len();
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&number.to_le_bytes());
    out.push(kind.code());
    out.extend_from_slice(&position.offset.to_le_bytes());
    out.extend_from_slice(&position.index.to_le_bytes());
    out.extend_from_slice(body);
    let crc = crc32fast::hash(out.get(start + PREFIX..).unwrap_or_default());
    if let Some(slot) = out.get_mut(start + 4..start + PREFIX) {
        slot.copy_from_slice(&crc.to_le_bytes());
    }
}

/// What stands at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A record, and how many bytes it takes.
    Whole(Record, usize),
    /// The beginning of one that takes so many bytes.
    Partial(usize),
    /// Nothing that could be a record.
    Damaged,
}

/// Reads the record at the beginning of `bytes`.
pub fn parse(bytes: &[u8]) -> Parsed {
    let Some(length) = le_u32(bytes, 0) else { return Parsed::Partial(PREFIX + HEADER) };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if !(HEADER..=HEADER + MAX_BODY_BYTES).contains(&length) {
        return Parsed::Damaged;
    }
    let total = PREFIX + length;
    let (Some(crc), Some(covered)) = (le_u32(bytes, 4), bytes.get(PREFIX..total)) else {
        return Parsed::Partial(total);
    };
    if crc32fast::hash(covered) != crc {
        return Parsed::Damaged;
    }
    let record = (|| {
        Some(Record {
            number: le_u64(covered, 0)?,
            kind: RecordKind::from_code(*covered.get(8)?)?,
            position: Position { offset: le_u64(covered, 9)?, index: le_u32(covered, 17)? },
            body: Bytes::copy_from_slice(covered.get(HEADER..)?),
        })
    })();
    record.map_or(Parsed::Damaged, |record| Parsed::Whole(record, total))
}

fn le_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn le_u64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kinds() -> impl Strategy<Value = RecordKind> {
        (1u8..=5).prop_map(|code| RecordKind::from_code(code).unwrap())
    }

    proptest! {
        #[test]
        fn a_record_comes_back_as_it_was(
            number: u64, kind in kinds(), offset: u64, index: u32, body in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let (mut bytes, position) = (vec![], Position { offset, index });
            write(&mut bytes, number, kind, position, &body);
            prop_assert_eq!(bytes.len(), framed_len(body.len()));
            let record = Record { number, kind, position, body: body.into() };
            prop_assert_eq!(parse(&bytes), Parsed::Whole(record, bytes.len()));
        }

        #[test]
        fn a_torn_or_altered_record_is_none(
            body in prop::collection::vec(any::<u8>(), 0..100), cut in 0.0..1.0, flip in 0.0..1.0, bit in 0u8..8,
        ) {
            let mut bytes = vec![];
            write(&mut bytes, 7, RecordKind::Message, Position::default(), &body);
            let at = |part: f64| (part * bytes.len() as f64) as usize;
            let (cut, flip) = (at(cut), at(flip));
            prop_assert!(!matches!(parse(&bytes[..cut]), Parsed::Whole(..)));
            bytes[flip] ^= 1 << bit;
            prop_assert!(!matches!(parse(&bytes), Parsed::Whole(..)));
        }

        #[test]
        fn no_bytes_make_it_fail(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            parse(&bytes);
        }
    }
}
