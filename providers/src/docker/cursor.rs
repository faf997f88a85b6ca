//! How far the engine's log of a container is in ours, and what of it comes again after a break. Pure.
//!
//! The engine stamps each piece of output when it reads it and gives its log from a time on, that time included, and
//! all pieces of one long line carry the same stamp. So a place is a stamp and how many pieces of the stream had it.
//! The two streams are stamped independently: one may be a little behind the other in the same log.
//!
//! What was rotated away while nobody read is noticed: then nothing that we have comes again. What an engine loses by
//! rotating a log of one file while it is read from (seen with Engine 20.10, `max-file=1`) is not: stamps have no number.

/// Number of streams: output (or a terminal), and standard error.
const STREAMS: usize = 2;
/// How far before the newest stamp a log is asked for again, in seconds: the streams may be stamped out of order by as
/// long as the engine waited for its disk in between.
const OVERLAP_S: i64 = 10;

fn index(stream: u8) -> usize {
    usize::from(stream == 2)
}

/// The last piece of one stream that we have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    nanos: i64,
    /// How many pieces at the end of what we have carry this stamp.
    count: u32,
}

/// How far each stream is in our log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    places: [Option<Place>; STREAMS],
    /// Nothing up to this stamp belongs to the session.
    after: Option<i64>,
}

impl Cursor {
    /// At the beginning of a session that begins behind this stamp.
    pub fn new(after: Option<i64>) -> Self {
        Self { places: [None; STREAMS], after }
    }

    /// A piece was written to our log.
    pub fn wrote(&mut self, stream: u8, nanos: i64) {
        let place = &mut self.places[index(stream)];
        let count = place.filter(|place| place.nanos == nanos).map_or(0, |place| place.count);
        *place = Some(Place { nanos, count: count.saturating_add(1) });
    }

    /// The newest stamp that we have.
    pub fn latest(&self) -> Option<i64> {
        self.places.iter().flatten().map(|place| place.nanos).max().or(self.after)
    }

    /// From when on, in seconds since 1970, the log has to be asked for. 0: all of it.
    pub fn since_seconds(&self) -> i64 {
        self.latest().map_or(0, |nanos| (nanos.div_euclid(1_000_000_000) - OVERLAP_S).max(0))
    }

    /// Tells what comes again from what is new, for a log that is asked for from there.
    pub fn catch_up(&self) -> CatchUp {
        CatchUp { goal: self.clone(), counts: [0; STREAMS], is_behind: [true; STREAMS], met: false, told: false }
    }
}

/// What a piece is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// We have it.
    Old,
    /// It is new.
    New,
    /// It is new, and something between what we have and this is no longer to be had.
    NewBehindGap,
}

/// Reads the engine's log again up to where we were.
#[derive(Debug)]
pub(crate) struct CatchUp {
    goal: Cursor,
    counts: [u32; STREAMS],
    is_behind: [bool; STREAMS],
    /// Something that we have was seen again, so nothing is missing.
    met: bool,
    told: bool,
}

impl CatchUp {
    /// Judges the next piece. To be asked once for each, in order.
    pub fn judge(&mut self, stream: u8, nanos: i64) -> Known {
        let index = index(stream);
        if self.is_behind[index] {
            let is_old = match self.goal.places[index] {
                Some(place) if nanos < place.nanos => true,
                Some(place) if nanos == place.nanos => {
                    self.counts[index] += 1;
                    self.counts[index] <= place.count
                }
                Some(_) => false,
                None => self.goal.after.is_some_and(|after| nanos <= after),
            };
            if is_old {
                self.met = true;
                return Known::Old;
            }
            // From here on all is new, even if the clock goes back.
            self.is_behind[index] = false;
        }
        let has_any = self.goal.places.iter().any(Option::is_some);
        if has_any && !self.met && !self.told {
            self.told = true;
            return Known::NewBehindGap;
        }
        Known::New
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: i64 = 1_000_000_000;

    #[test]
    fn pieces_of_one_stamp_are_counted() {
        let mut cursor = Cursor::new(None);
        for _ in 0..2 {
            cursor.wrote(1, 5 * S);
        }
        let mut again = cursor.catch_up();
        let judged: Vec<_> = (0..4).map(|_| again.judge(1, 5 * S)).collect();
        assert_eq!(judged, [Known::Old, Known::Old, Known::New, Known::New]);
    }

    #[test]
    fn a_log_that_no_longer_reaches_back_is_a_gap_told_once() {
        let mut cursor = Cursor::new(None);
        cursor.wrote(1, 5 * S);
        let mut again = cursor.catch_up();
        assert_eq!(again.judge(1, 6 * S), Known::NewBehindGap);
        assert_eq!(again.judge(1, 7 * S), Known::New);
        // Nothing was written yet: nothing can be missing.
        assert_eq!(Cursor::new(Some(S)).catch_up().judge(1, 6 * S), Known::New);
    }

    #[test]
    fn an_earlier_run_of_the_container_is_not_told_again() {
        let mut again = Cursor::new(Some(5 * S)).catch_up();
        assert_eq!(
            [again.judge(1, 4 * S), again.judge(2, 5 * S), again.judge(1, 6 * S)],
            [Known::Old, Known::Old, Known::New]
        );
    }

    #[test]
    fn a_clock_that_goes_back_loses_nothing_while_we_read() {
        let mut again = Cursor::new(None).catch_up();
        assert_eq!([again.judge(1, 6 * S), again.judge(1, 2 * S)], [Known::New, Known::New]);
    }

    proptest! {
        /// However often the reading breaks off, every piece is taken once and in order.
        #[test]
        fn every_piece_once(
            steps in prop::collection::vec((1u8..3, 0i64..3, 0i64..5), 1..60),
            breaks in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            // One log, in which a stream is stamped up to 5 s before its place.
            let (mut clock, mut last) = (20 * S, [0; STREAMS]);
            let log: Vec<(u8, i64)> = steps.iter().map(|(stream, step, late)| {
                clock += step * S / 3;
                let last = &mut last[index(*stream)];
                *last = (clock - late * S).max(*last);
                (*stream, *last)
            }).collect();
            let mut stops: Vec<usize> = breaks.iter().map(|at| at.index(log.len() + 1)).collect();
            stops.push(log.len());
            let (mut cursor, mut taken) = (Cursor::new(None), vec![]);
            for stop in stops {
                let mut reading = cursor.catch_up();
                let since = cursor.since_seconds() * S;
                for (number, (stream, nanos)) in log.iter().enumerate().take(stop.max(taken.len())) {
                    if *nanos < since {
                        continue;
                    }
                    let known = reading.judge(*stream, *nanos);
                    prop_assert!(known != Known::NewBehindGap);
                    if known == Known::New {
                        taken.push(number);
                        cursor.wrote(*stream, *nanos);
                    }
                }
            }
            prop_assert_eq!(taken, (0..log.len()).collect::<Vec<_>>());
        }
    }
}
