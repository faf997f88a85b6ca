//! One session's way onto the bus: what is in flight, how far the bus has it, how far it may be forgotten. Pure but for
//! the outbox it reads.
//!
//! ```text
//!  records:   … trimmed │ floor … acknowledged │ acked … in flight │ read … on disk │ last
//!                       └── sent again on a failed ack and on a new connection ──┘
//! ```
//! Law: `acked` moves over the contiguous prefix only, and `floor` follows it by the lag: a server that loses power
//! forgets what it has acknowledged since its last sync.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use async_nats::Subject as NatsSubject;
use bus_schema::{NodeId, SessionId, Subject, WorkspaceId};

use super::outgoing::Outlet;
use crate::outbox::record::RecordKind;
use crate::outbox::{OutboxError, Reader};

/// How often the acknowledged prefix is noted; the floor moves in such steps.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// First pause after a failed acknowledgement; doubled each time, up to [`MAX_BACKOFF`].
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// Longest pause between two attempts.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

pub(super) struct Lane {
    /// Names the lane in the subjects of its acknowledgements.
    pub id: u64,
    pub outlet: Outlet,
    pub reader: Reader,
    pub subjects: Subjects,
    /// Grows with every rewind; acknowledgements of older generations do not count.
    pub generation: u32,
    /// True while it stands in the publisher's round.
    pub is_in_round: bool,
    pub retry_at: Option<Instant>,
    in_flight: VecDeque<Sent>,
    acked: u64,
    history: VecDeque<(Instant, u64)>,
    sampled_at: Option<Instant>,
    failures: u32,
}

struct Sent {
    number: u64,
    at: Instant,
    is_acked: bool,
}

/// Where a session's payloads go.
pub(super) struct Subjects {
    message: NatsSubject,
    receipt: NatsSubject,
    session: NatsSubject,
    pub delta: NatsSubject,
    pub terminal: NatsSubject,
}

impl Subjects {
    pub fn new(workspace: &WorkspaceId, node: &NodeId, session: &SessionId) -> Self {
        let make = |of: fn(WorkspaceId, NodeId, SessionId) -> Subject| {
            NatsSubject::from(of(workspace.clone(), node.clone(), session.clone()).to_string())
        };
        Self {
            message: make(Subject::Message),
            receipt: make(Subject::Receipt),
            session: make(Subject::Session),
            delta: make(Subject::Delta),
            terminal: make(Subject::Terminal),
        }
    }

    /// Where a record goes; `None` for those that stay.
    pub fn of(&self, kind: RecordKind) -> Option<NatsSubject> {
        match kind {
            RecordKind::Message => Some(self.message.clone()),
            RecordKind::Receipt => Some(self.receipt.clone()),
            RecordKind::Session => Some(self.session.clone()),
            RecordKind::Checkpoint | RecordKind::Mark => None,
        }
    }
}

impl Lane {
    pub fn new(id: u64, outlet: Outlet, subjects: Subjects) -> Self {
        let floor = outlet.files.floor();
        let reader = Reader::new(outlet.files.clone(), floor);
        Self {
            id,
            outlet,
            reader,
            subjects,
            generation: 0,
            is_in_round: false,
            retry_at: None,
            in_flight: VecDeque::new(),
            acked: floor,
            history: VecDeque::new(),
            sampled_at: None,
            failures: 0,
        }
    }

    /// True if a record could be sent now.
    pub fn is_ready(&self, now: Instant) -> bool {
        self.reader.has_more() && self.retry_at.is_none_or(|at| at <= now)
    }

    /// Records that the bus has not acknowledged.
    pub fn backlog(&self) -> u64 {
        self.outlet.files.last().saturating_sub(self.acked)
    }

    /// Notes that a record was sent.
    pub fn sent(&mut self, number: u64, now: Instant) {
        self.in_flight.push_back(Sent { number, at: now, is_acked: false });
    }

    /// Notes that a record has nothing to be sent.
    pub fn skipped(&mut self, number: u64, now: Instant) {
        self.in_flight.push_back(Sent { number, at: now, is_acked: true });
        self.advance();
    }

    /// Notes an acknowledgement. False if it was none of ours, or not the first.
    pub fn ack(&mut self, generation: u32, number: u64) -> bool {
        if generation != self.generation {
            return false;
        }
        let Ok(at) = self.in_flight.binary_search_by_key(&number, |sent| sent.number) else { return false };
        let is_first = self.in_flight.get_mut(at).is_some_and(|sent| !std::mem::replace(&mut sent.is_acked, true));
        self.failures = 0;
        self.advance();
        is_first
    }

    fn advance(&mut self) {
        while let Some(sent) = self.in_flight.front().filter(|sent| sent.is_acked) {
            self.acked = sent.number;
            self.in_flight.pop_front();
        }
    }

    /// When the oldest record that waits for its acknowledgement was sent.
    pub fn oldest(&self) -> Option<Instant> {
        self.in_flight.front().map(|sent| sent.at)
    }

    /// Goes back to the trim point. Gives the number of records that are not in flight any more.
    pub fn rewind(&mut self) -> usize {
        let waiting = self.in_flight.iter().filter(|sent| !sent.is_acked).count();
        self.in_flight.clear();
        self.history.clear();
        self.generation = self.generation.wrapping_add(1);
        self.acked = self.outlet.files.floor();
        self.reader.seek(self.acked);
        self.retry_at = None;
        waiting
    }

    /// Waits before the next attempt, longer each time. `jitter` is between 0 and 1.
    pub fn back_off(&mut self, now: Instant, jitter: f64) {
        let pause = FIRST_BACKOFF.saturating_mul(1 << self.failures.min(10)).min(MAX_BACKOFF);
        self.failures += 1;
        self.retry_at = Some(now + pause.mul_f64(0.5 + jitter / 2.0));
    }

    /// Moves the floor behind what the bus has had for `lag`, and frees the space.
    pub fn trim(&mut self, now: Instant, lag: Duration) -> Result<(), OutboxError> {
        if self.sampled_at.is_some_and(|at| now.saturating_duration_since(at) < SAMPLE_EVERY.min(lag)) {
            return Ok(());
        }
        self.sampled_at = Some(now);
        if self.history.back().map_or(self.outlet.files.floor(), |(_, acked)| *acked) < self.acked {
            self.history.push_back((now, self.acked));
        }
        let mut floor = None;
        while let Some((_, acked)) = self.history.front().filter(|(at, _)| now.saturating_duration_since(*at) >= lag) {
            floor = Some(*acked);
            self.history.pop_front();
        }
        floor.map_or(Ok(()), |floor| self.outlet.files.trim(floor))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::outbox::{Limits, Meter, Outbox};
    use crate::publisher::live::Live;

    fn lane(folder: &std::path::Path, records: u64) -> Lane {
        let session = SessionId::new("01JD8Z2V9Q0000000000000000").unwrap();
        let meter = Meter::new(Limits { session_bytes: 1 << 20, total_bytes: 1 << 20 });
        let mut outbox = Outbox::open(&session, folder, meter).unwrap().outbox;
        outbox.begin_segment(b"").unwrap();
        for _ in 1..records {
            outbox.append(RecordKind::Message, Default::default(), b"m");
        }
        outbox.commit().unwrap();
        let subjects = Subjects::new(&WorkspaceId::new("w").unwrap(), &NodeId::new("n").unwrap(), &session);
        let outlet = Outlet { files: outbox.files().clone(), live: Arc::new(Live::new(1)) };
        Lane::new(1, outlet, subjects)
    }

    fn send_all(lane: &mut Lane, now: Instant) {
        while let Ok(Some(crate::outbox::Located::Record(record))) = lane.reader.read() {
            match lane.subjects.of(record.kind) {
                Some(_) => lane.sent(record.number, now),
                None => lane.skipped(record.number, now),
            }
        }
    }

    #[test]
    fn only_the_contiguous_prefix_counts() {
        let folder = tempfile::tempdir().unwrap();
        let (mut lane, now) = (lane(folder.path(), 5), Instant::now());
        send_all(&mut lane, now);
        assert_eq!(lane.backlog(), 4, "the checkpoint is not sent");
        assert!(lane.ack(0, 4) && lane.ack(0, 3));
        assert_eq!(lane.backlog(), 4);
        assert!(lane.ack(0, 2) && !lane.ack(0, 2));
        assert_eq!((lane.backlog(), lane.oldest()), (1, Some(now)));
    }

    #[test]
    fn acks_from_before_a_rewind_do_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let (mut lane, now) = (lane(folder.path(), 5), Instant::now());
        send_all(&mut lane, now);
        lane.ack(0, 2);
        assert_eq!(lane.rewind(), 3);
        assert!(lane.is_ready(now));
        send_all(&mut lane, now);
        assert!(!lane.ack(0, 3));
        assert_eq!(lane.backlog(), 4);
        (2..=5).for_each(|number| assert!(lane.ack(1, number)));
        assert_eq!(lane.backlog(), 0);
    }

    #[test]
    fn the_floor_follows_by_the_lag_and_survives_a_rewind() {
        let folder = tempfile::tempdir().unwrap();
        let (mut lane, start) = (lane(folder.path(), 5), Instant::now());
        let (lag, after) = (Duration::from_secs(30), |s| start + Duration::from_secs(s));
        send_all(&mut lane, start);
        (2..=3).for_each(|number| assert!(lane.ack(0, number)));
        lane.trim(start, lag).unwrap();
        lane.ack(0, 4);
        lane.trim(after(29), lag).unwrap();
        assert_eq!(lane.outlet.files.floor(), 0);
        lane.trim(after(35), lag).unwrap();
        assert_eq!(lane.outlet.files.floor(), 3);
        lane.rewind();
        assert_eq!((lane.reader.at(), lane.backlog()), (3, 2));
        // What was acknowledged before the rewind may be forgotten since.
        lane.trim(after(100), lag).unwrap();
        assert_eq!(lane.outlet.files.floor(), 3);
    }

    #[test]
    fn attempts_become_rarer_until_one_succeeds() {
        let folder = tempfile::tempdir().unwrap();
        let (mut lane, now) = (lane(folder.path(), 3), Instant::now());
        let mut pauses = vec![];
        for _ in 0..8 {
            lane.back_off(now, 1.0);
            pauses.push(lane.retry_at.unwrap() - now);
        }
        assert_eq!((pauses[0], pauses[1], pauses[7]), (FIRST_BACKOFF, FIRST_BACKOFF * 2, MAX_BACKOFF));
        assert!(!lane.is_ready(now) && lane.is_ready(now + MAX_BACKOFF));
        send_all(&mut lane, now);
        lane.ack(0, 2);
        lane.back_off(now, 1.0);
        assert_eq!(lane.retry_at.unwrap() - now, FIRST_BACKOFF);
    }
}
