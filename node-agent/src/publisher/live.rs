//! What a session shows and nobody keeps for it: terminal output and the text so far. Bounded, and dropped rather than
//! waited for: the holder's log has the one, the message replaces the other.
//!
//! Law: what is published of the terminal comes in runs without a gap. When output is too fast, a long piece is left
//! out and not many small ones, because a viewer who misses something has to ask for the whole screen.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bus_schema::limits::MAX_TERMINAL_CHUNK_BYTES;
use bus_schema::{Delta, MessageId, SessionId, Terminal, Timestamp};
use providers::TerminalPiece;

/// Output waiting for the publisher, per session: a quarter of a second at the default rate.
const QUEUE_BYTES: usize = 128 * 1024;
/// Pieces waiting for the publisher, per session; small ones are joined.
const QUEUE_PIECES: usize = 256;
/// Adjoining pieces are joined up to this size: large enough to be worth a message, small enough to be drawn at once.
const JOINED_BYTES: usize = 16 * 1024;
/// Shortest time between two publishes of one session: faster than an eye sees.
pub(super) const PACE: Duration = Duration::from_millis(40);

/// The queue of one session.
pub struct Live {
    rate: u64,
    inner: Mutex<Inner>,
}

struct Inner {
    pieces: VecDeque<(Timestamp, TerminalPiece)>,
    bytes: usize,
    delta: Option<Delta>,
    /// Bytes that may still be published, filled up at `rate`.
    tokens: u64,
    filled_at: Instant,
    is_dropping: bool,
    sent_at: Option<Instant>,
}

/// What is to be published next.
pub(super) enum Show {
    Terminal(Terminal),
    Delta(Delta),
}

impl Live {
    /// A queue that lets so many bytes of terminal output through per second.
    pub fn new(bytes_per_second: u64) -> Self {
        let inner = Inner {
            pieces: VecDeque::new(),
            bytes: 0,
            delta: None,
            tokens: bytes_per_second,
            filled_at: Instant::now(),
            is_dropping: false,
            sent_at: None,
        };
        Self { rate: bytes_per_second, inner: Mutex::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds terminal output. Gives the number of bytes that were dropped.
    pub fn terminal(&self, at: Timestamp, piece: TerminalPiece, now: Instant) -> u64 {
        let length = piece.data.len();
        let mut inner = self.lock();
        inner.fill(self.rate, now);
        // Begun to drop, it goes on until there is room for a good run again.
        inner.is_dropping &= inner.tokens < self.rate / 2 || !inner.pieces.is_empty();
        let is_over = inner.bytes + length > QUEUE_BYTES || inner.tokens < length as u64;
        inner.is_dropping |= is_over;
        if inner.is_dropping {
            return length as u64;
        }
        inner.tokens -= length as u64;
        inner.bytes += length;
        let joins = |last: &TerminalPiece| {
            let is_next = last.offset + last.data.len() as u64 == piece.offset && piece.size.is_none();
            is_next && last.data.len() + length <= JOINED_BYTES
        };
        if let Some((_, last)) = inner.pieces.back_mut().filter(|(_, last)| joins(last)) {
            last.data = [last.data.as_ref(), piece.data.as_ref()].concat().into();
        } else if inner.pieces.len() < QUEUE_PIECES {
            inner.pieces.push_back((at, piece));
        } else {
            inner.bytes -= length;
            inner.is_dropping = true;
            return length as u64;
        }
        0
    }

    /// Replaces the text so far: each one holds all of those before it.
    pub fn delta(&self, delta: Delta) {
        self.lock().delta = Some(delta);
    }

    /// The message is there: its text so far is of no interest any more.
    pub fn end_delta(&self, message_id: &MessageId) {
        let mut inner = self.lock();
        if inner.delta.as_ref().is_some_and(|delta| delta.message_id == *message_id) {
            inner.delta = None;
        }
    }

    /// When something may be published; `None` while there is nothing.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let inner = self.lock();
        let has_any = inner.delta.is_some() || !inner.pieces.is_empty();
        has_any.then(|| inner.sent_at.map_or(now, |at| at + PACE))
    }

    /// All that is to be published now.
    pub(super) fn take(&self, session: &SessionId, now: Instant) -> Vec<Show> {
        let mut inner = self.lock();
        inner.sent_at = Some(now);
        inner.bytes = 0;
        let mut shows: Vec<Show> = inner.delta.take().map(Show::Delta).into_iter().collect();
        for (timestamp, TerminalPiece { offset, data, size }) in std::mem::take(&mut inner.pieces) {
            for (at, part) in data.chunks(MAX_TERMINAL_CHUNK_BYTES).enumerate() {
                shows.push(Show::Terminal(Terminal {
                    session_id: session.clone(),
                    offset: offset + (at * MAX_TERMINAL_CHUNK_BYTES) as u64,
                    data: part.to_vec(),
                    timestamp,
                    size: size.filter(|_| at == 0),
                }));
            }
        }
        shows
    }

    /// Throws everything away. Gives the number of bytes of output, and of texts.
    pub(super) fn clear(&self) -> (u64, u64) {
        let mut inner = self.lock();
        inner.pieces.clear();
        let bytes = std::mem::take(&mut inner.bytes);
        (bytes as u64, u64::from(inner.delta.take().is_some()))
    }
}

impl Inner {
    fn fill(&mut self, rate: u64, now: Instant) {
        let millis = u64::try_from(now.saturating_duration_since(self.filled_at).as_millis()).unwrap_or(u64::MAX);
        let more = rate.saturating_mul(millis) / 1000;
        if more > 0 {
            self.tokens = self.tokens.saturating_add(more).min(rate);
            self.filled_at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(offset: u64, length: usize) -> TerminalPiece {
        TerminalPiece { offset, data: vec![b'x'; length].into(), size: None }
    }

    fn session() -> SessionId {
        SessionId::new("01JD8Z2V9Q0000000000000000").unwrap()
    }

    fn terminals(live: &Live, now: Instant) -> Vec<(u64, usize)> {
        let shows = live.take(&session(), now).into_iter();
        let terminal = |show| match show {
            Show::Terminal(terminal) => Some((terminal.offset, terminal.data.len())),
            Show::Delta(_) => None,
        };
        shows.filter_map(terminal).collect()
    }

    #[test]
    fn adjoining_pieces_become_one() {
        let (live, now, at) = (Live::new(1_000_000), Instant::now(), Timestamp::from_millis(0));
        for offset in [0, 10, 20, 40] {
            assert_eq!(live.terminal(at, piece(offset, 10), now), 0);
        }
        assert_eq!(live.due(now), Some(now));
        assert_eq!(terminals(&live, now), [(0, 30), (40, 10)]);
        assert_eq!(live.due(now), None);
        live.terminal(at, piece(50, 1), now);
        assert_eq!(live.due(now), Some(now + PACE));
    }

    #[test]
    fn too_much_is_left_out_in_one_run() {
        let (live, start, at) = (Live::new(10_000), Instant::now(), Timestamp::from_millis(0));
        let (mut dropped, mut runs, mut last) = (0, 0, None);
        // Twenty times the rate, for ten seconds.
        for n in 0..2_000u32 {
            let now = start + Duration::from_millis(5) * n;
            dropped += live.terminal(at, piece(u64::from(n) * 1_000, 1_000), now);
            for (offset, length) in terminals(&live, now) {
                runs += u64::from(last != Some(offset));
                last = Some(offset + length as u64);
            }
        }
        let through = 2_000_000 - dropped;
        assert!((60_000..=120_000).contains(&through), "{through}");
        assert!(runs <= 22, "{runs}");
    }

    #[test]
    fn large_pieces_are_cut_to_what_a_payload_holds() {
        let (live, now) = (Live::new(1_000_000), Instant::now());
        live.terminal(Timestamp::from_millis(0), piece(7, 100_000), now);
        assert_eq!(terminals(&live, now), [(7, 65_536), (7 + 65_536, 34_464)]);
    }

    #[test]
    fn nothing_is_kept_that_cannot_be_sent() {
        let (live, now) = (Live::new(1_000_000), Instant::now());
        live.terminal(Timestamp::from_millis(0), piece(0, 100), now);
        assert_eq!(live.clear(), (100, 0));
        assert_eq!(live.due(now), None);
    }
}
