//! The last events, for viewers: each reads on from where it is, and resumes from a place that is not too long ago.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bus_schema::SessionId;
use tokio::sync::watch;

use crate::live::place::Place;

/// Most events kept.
const EVENTS_MAX: usize = 32 * 1024;
/// Most bytes kept, as JSON.
const BYTES_MAX: usize = 48 * 1024 * 1024;

/// Something that viewers are told.
#[derive(Clone, Debug)]
pub struct Event {
    /// Name of the event.
    pub name: &'static str,
    /// The session it is about; none for a node.
    pub session: Option<SessionId>,
    /// The place behind it.
    pub place: Place,
    /// True if it came from a stream, so that its place is worth telling.
    pub kept: bool,
    /// JSON on one line.
    pub data: Arc<str>,
}

/// The last events.
pub struct Ring {
    inner: Mutex<Inner>,
    head: watch::Sender<u64>,
}

struct Inner {
    /// Number of the first event kept.
    first: u64,
    events: VecDeque<Event>,
    bytes: usize,
    /// The place behind which this ring knows everything.
    begin: Place,
    /// The place behind its last event.
    end: Place,
}

/// What a reader gets.
#[derive(Debug)]
pub enum Read {
    /// The next events, and the number to read on from. Empty if there is nothing new.
    Events(Vec<Event>, u64),
    /// The reader was too slow: what it wants is no longer here.
    Passed,
}

impl Ring {
    /// An empty one that knows everything behind `place`.
    pub fn new(place: Place) -> Self {
        let inner = Inner { first: 0, events: VecDeque::new(), bytes: 0, begin: place, end: place };
        Self { inner: Mutex::new(inner), head: watch::Sender::new(0) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds events; the oldest go when there are too many.
    pub fn push(&self, events: impl IntoIterator<Item = Event>) {
        let head = {
            let mut inner = self.lock();
            for event in events {
                inner.end = event.place;
                inner.bytes += event.data.len();
                inner.events.push_back(event);
                while inner.events.len() > EVENTS_MAX || inner.bytes > BYTES_MAX {
                    let Some(oldest) = inner.events.pop_front() else { break };
                    inner.bytes -= oldest.data.len();
                    inner.begin = oldest.place;
                    inner.first += 1;
                }
            }
            inner.first + inner.events.len() as u64
        };
        self.head.send_replace(head);
    }

    /// Forgets everything: the streams are others now, or a part of them could not be read.
    pub fn reset(&self, place: Place) {
        let head = {
            let mut inner = self.lock();
            // Numbers go on, so that readers see that they were passed.
            inner.first += inner.events.len() as u64 + 1;
            inner.events.clear();
            (inner.bytes, inner.begin, inner.end) = (0, place, place);
            inner.first
        };
        self.head.send_replace(head);
    }

    /// The place behind the last event, and the number to read on from.
    pub fn end(&self) -> (Place, u64) {
        let inner = self.lock();
        (inner.end, inner.first + inner.events.len() as u64)
    }

    /// The number of the first event that somebody at `place` has not seen; none if this ring does not reach so far
    /// back, or belongs to other streams.
    pub fn resume(&self, place: Place) -> Option<u64> {
        let inner = self.lock();
        let reaches = place.epoch == inner.begin.epoch
            && place.messages >= inner.begin.messages
            && place.state >= inner.begin.state
            && place.messages <= inner.end.messages
            && place.state <= inner.end.state;
        let seen = |e: &Event| e.place.messages <= place.messages && e.place.state <= place.state;
        reaches.then(|| inner.first + inner.events.partition_point(seen) as u64)
    }

    /// Events from number `from` on, at most `limit`.
    pub fn read(&self, from: u64, limit: usize) -> Read {
        let inner = self.lock();
        let Some(skip) = from.checked_sub(inner.first) else { return Read::Passed };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let events: Vec<_> = inner.events.iter().skip(skip).take(limit).cloned().collect();
        let next = from + events.len() as u64;
        Read::Events(events, next)
    }

    /// Tells when there may be something behind a number.
    pub fn head(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(messages: u64, state: u64) -> Place {
        Place { epoch: 1, messages, state }
    }

    fn event(messages: u64, state: u64) -> Event {
        let data = format!("{messages}.{state}").into();
        Event { name: "message", session: None, place: place(messages, state), kept: true, data }
    }

    fn texts(read: Read) -> Vec<String> {
        match read {
            Read::Events(events, _) => events.iter().map(|e| e.data.to_string()).collect(),
            Read::Passed => vec!["passed".into()],
        }
    }

    #[test]
    fn a_reader_resumes_exactly_where_it_was() {
        let ring = Ring::new(place(10, 5));
        ring.push([event(11, 5), event(11, 6), event(12, 6)]);
        for (at, rest) in [
            (place(10, 5), vec!["11.5", "11.6", "12.6"]),
            (place(11, 5), vec!["11.6", "12.6"]),
            (place(11, 6), vec!["12.6"]),
            (place(12, 6), vec![]),
        ] {
            assert_eq!(texts(ring.read(ring.resume(at).unwrap(), 10)), rest, "{at:?}");
        }
        for too_far in [place(9, 5), place(10, 4), place(13, 6), Place { epoch: 2, ..place(11, 5) }] {
            assert_eq!(ring.resume(too_far), None, "{too_far:?}");
        }
    }

    #[test]
    fn it_is_bounded_and_a_slow_reader_is_told() {
        let ring = Ring::new(place(0, 0));
        ring.push((1..=EVENTS_MAX as u64 + 10).map(|n| event(n, 0)));
        assert!(matches!(ring.read(0, 1), Read::Passed));
        assert_eq!(ring.resume(place(9, 0)), None);
        assert_eq!(texts(ring.read(ring.resume(place(10, 0)).unwrap(), 2)), ["11.0", "12.0"]);
    }

    #[test]
    fn after_a_reset_every_reader_was_passed() {
        let ring = Ring::new(place(0, 0));
        ring.push([event(1, 0)]);
        let (_, next) = ring.end();
        ring.reset(place(7, 7));
        assert!(matches!(ring.read(next, 1), Read::Passed));
        let (at, next) = ring.end();
        assert_eq!(at, place(7, 7));
        ring.push([event(8, 7)]);
        assert_eq!(texts(ring.read(next, 10)), ["8.7"]);
    }
}
