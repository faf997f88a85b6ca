//! The engine's log of a container, cut into its pieces. Pure.
//!
//! Source: Docker Engine API 1.41, "Attach to a container", and measured with Engine 20.10:
//! - without a terminal: frames of `stream u8 · 0 0 0 · length u32 (big endian) · stamp · blank · piece`;
//! - with a terminal: only `stamp · blank · piece`, one behind the other. A piece ends with its newline, or after 16 KiB
//!   (in the middle of a character, perhaps) directly before the stamp of the next.

use super::moment;

/// The engine cuts longer lines into pieces of this size.
const PIECE_BYTES: usize = 16 * 1024;
/// Longest frame that is believed: other log drivers may give longer pieces.
const MAX_FRAME_BYTES: usize = 1024 * 1024;
/// Longest stamp: nine digits of a second and an offset.
const MAX_STAMP_BYTES: usize = 35;
/// Shortest stamp: no fraction.
const MIN_STAMP_BYTES: usize = 20;

/// A piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// 1 or 2.
    pub stream: u8,
    /// The engine's stamp.
    pub nanos: i64,
    pub bytes: Vec<u8>,
}

/// What came is not a log with stamps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the engine's log is not of the form we know: {0}")]
pub(crate) struct Garbled(&'static str);

/// Takes bytes of the log in any portions and gives pieces.
#[derive(Debug)]
pub(crate) struct Pieces {
    has_frames: bool,
    buffer: Vec<u8>,
}

impl Pieces {
    pub fn new(tty: bool) -> Self {
        Self { has_frames: !tty, buffer: vec![] }
    }

    /// Takes the next bytes, and gives the pieces that are whole.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Piece>, Garbled> {
        self.buffer.extend_from_slice(bytes);
        let (mut pieces, mut used) = (vec![], 0);
        loop {
            let rest = self.buffer.get(used..).unwrap_or_default();
            let next = if self.has_frames { frame(rest)? } else { line(rest, false)? };
            let Some((piece, length)) = next else { break };
            pieces.push(piece);
            used += length;
        }
        self.buffer.drain(..used);
        Ok(pieces)
    }

    /// The log has ended: what is left of a terminal's.
    pub fn finish(&mut self) -> Result<Option<Piece>, Garbled> {
        let rest = std::mem::take(&mut self.buffer);
        if self.has_frames || rest.is_empty() {
            // A frame that was cut comes again.
            return Ok(None);
        }
        Ok(line(&rest, true)?.map(|(piece, _)| piece))
    }
}

/// The first frame, and its length.
fn frame(bytes: &[u8]) -> Result<Option<(Piece, usize)>, Garbled> {
    let Some(([stream, 0, 0, 0, length @ ..], rest)) = bytes.split_first_chunk::<8>() else {
        return if bytes.len() < 8 { Ok(None) } else { Err(Garbled("a frame has no header")) };
    };
    let length = u32::from_be_bytes(*length) as usize;
    if length > MAX_FRAME_BYTES || *stream > 2 {
        return Err(Garbled("a frame's header makes no sense"));
    }
    let Some(payload) = rest.get(..length) else { return Ok(None) };
    let Some((nanos, stamp)) = stamp(payload) else { return Err(Garbled("a frame has no time")) };
    let bytes = payload.get(stamp..).unwrap_or_default().to_vec();
    Ok(Some((Piece { stream: (*stream).max(1), nanos, bytes }, 8 + length)))
}

/// The first piece of a terminal's log, and its length.
fn line(bytes: &[u8], is_last: bool) -> Result<Option<(Piece, usize)>, Garbled> {
    let Some((nanos, begin)) = stamp(bytes) else {
        let may_come = bytes.len() <= MAX_STAMP_BYTES && !bytes.contains(&b' ') && !is_last;
        return if may_come { Ok(None) } else { Err(Garbled("a line has no time")) };
    };
    let rest = bytes.get(begin..).unwrap_or_default();
    let newline = rest.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
    // Only behind a full piece may a stamp stand without a newline before it.
    let scanned = newline.unwrap_or(rest.len());
    let cut = (PIECE_BYTES..scanned.min(3 * PIECE_BYTES + 1)).find(|at| rest.get(*at..).and_then(stamp).is_some());
    let end = match cut.or(newline) {
        Some(end) => end,
        None if is_last => rest.len(),
        None if rest.len() > MAX_FRAME_BYTES => return Err(Garbled("a line has no end")),
        None => return Ok(None),
    };
    let bytes = rest.get(..end).unwrap_or_default().to_vec();
    Ok(Some((Piece { stream: 1, nanos, bytes }, begin + end)))
}

/// A stamp at the beginning, and how long it is with its blank.
fn stamp(bytes: &[u8]) -> Option<(i64, usize)> {
    // What is no digit is no stamp: said quickly, since this is asked at every place of a long line.
    bytes.first().filter(|byte| byte.is_ascii_digit())?;
    let head = bytes.get(..bytes.len().min(MAX_STAMP_BYTES + 1)).unwrap_or_default();
    let length = head.iter().position(|byte| *byte == b' ')?;
    if length < MIN_STAMP_BYTES {
        return None;
    }
    Some((moment::nanos(head.get(..length)?)?, length + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STAMP: &str = "2026-11-26T18:51:41.596473528Z ";
    const NANOS: i64 = 1_795_719_101_596_473_528;

    fn framed(stream: u8, text: &[u8]) -> Vec<u8> {
        let payload = [STAMP.as_bytes(), text].concat();
        [&[stream, 0, 0, 0][..], &(payload.len() as u32).to_be_bytes(), &payload].concat()
    }

    fn all(tty: bool, bytes: &[u8], cut: usize) -> Vec<(u8, Vec<u8>)> {
        let mut pieces = Pieces::new(tty);
        let mut found: Vec<Piece> = bytes.chunks(cut).flat_map(|part| pieces.push(part).unwrap()).collect();
        found.extend(pieces.finish().unwrap());
        assert!(found.iter().all(|piece| piece.nanos == NANOS));
        found.into_iter().map(|piece| (piece.stream, piece.bytes)).collect()
    }

    #[test]
    fn a_long_line_of_a_terminal_comes_in_pieces() {
        let (full, rest) = (vec![b'7'; PIECE_BYTES], [&vec![b'7'; 7232][..], b"\r\n"].concat());
        let log =
            [STAMP.as_bytes(), &full, STAMP.as_bytes(), &full, STAMP.as_bytes(), &rest, STAMP.as_bytes(), b"x\r\n"]
                .concat();
        let expected = [(1, full.clone()), (1, full), (1, rest), (1, b"x\r\n".to_vec())];
        for cut in [33, 1000, log.len()] {
            assert_eq!(all(true, &log, cut), expected, "cut at {cut}");
        }
    }

    #[test]
    fn the_last_line_of_a_terminal_may_have_no_end() {
        let log = [STAMP.as_bytes(), b"a\r\n", STAMP.as_bytes(), b"$ "].concat();
        assert_eq!(all(true, &log, 5), [(1, b"a\r\n".to_vec()), (1, b"$ ".to_vec())]);
    }

    #[test]
    fn the_longest_stamp_may_come_byte_by_byte() {
        let stamp = "2026-11-26T18:51:41.59647352800000Z ";
        assert_eq!(stamp.len(), MAX_STAMP_BYTES + 1);
        let log = [stamp.as_bytes(), b"two\r\n"].concat();
        for cut in [1, log.len()] {
            assert_eq!(all(true, &log, cut), [(1, b"two\r\n".to_vec())], "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_log_is_an_error() {
        assert!(Pieces::new(false).push(b"{\"message\":\"no\"}").is_err());
        assert!(Pieces::new(true).push(b"configured logging driver does not support reading").is_err());
        assert!(Pieces::new(false).push(&framed(7, b"x")).is_err());
    }

    proptest! {
        #[test]
        fn any_portions_give_the_same_pieces(
            texts in prop::collection::vec((1u8..3, prop::collection::vec(any::<u8>(), 0..50)), 0..20),
            cut in 1usize..40,
        ) {
            let log: Vec<u8> = texts.iter().flat_map(|(stream, text)| framed(*stream, text)).collect();
            prop_assert_eq!(all(false, &log, cut), texts);
        }
    }
}
