//! How many refusals one person may have written down: an audit log that anybody can fill is no log. What is over the
//! bound is counted, and the count stands in the next row. Pure.

use std::collections::HashMap;

use bus_schema::Timestamp;

/// Refusals of one person written down within [`WINDOW_MS`].
const WRITTEN_MAX: u32 = 30;
/// Length of the window.
const WINDOW_MS: u64 = 60_000;
/// People remembered; beyond, those of past windows are forgotten, and then nobody new is held back.
const PEOPLE_MAX: usize = 1_000;

/// What was refused to whom lately.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    people: HashMap<String, Window>,
}

#[derive(Debug)]
struct Window {
    since: Timestamp,
    written: u32,
    unwritten: u64,
}

impl Refusals {
    /// Whether a refusal to `who` is to be written down now, and if so how many before it were not.
    pub(super) fn admit(&mut self, who: &str, now: Timestamp) -> Option<u64> {
        let over = |window: &Window| now.millis_since(window.since) >= WINDOW_MS;
        if self.people.len() >= PEOPLE_MAX && !self.people.contains_key(who) {
            self.people.retain(|_, window| !over(window));
            if self.people.len() >= PEOPLE_MAX {
                return Some(0);
            }
        }
        let window = self.people.entry(who.to_owned()).or_insert(Window { since: now, written: 0, unwritten: 0 });
        if over(window) {
            (window.since, window.written) = (now, 0);
        }
        if window.written >= WRITTEN_MAX {
            window.unwritten += 1;
            return None;
        }
        window.written += 1;
        Some(std::mem::take(&mut window.unwritten))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_not_written() {
        let (mut refusals, t0) = (Refusals::default(), Timestamp::from_millis(0));
        let written = (0..100).filter(|_| refusals.admit("eve", t0).is_some()).count();
        assert_eq!(written, 30);
        assert_eq!(refusals.admit("ada", t0), Some(0), "another person is not held back");
        assert_eq!(refusals.admit("eve", t0.plus_millis(59_999)), None);
        assert_eq!(refusals.admit("eve", t0.plus_millis(60_000)), Some(71), "told with the next one");
        assert_eq!(refusals.admit("eve", t0.plus_millis(60_001)), Some(0));
    }

    #[test]
    fn it_does_not_grow_without_bound() {
        let mut refusals = Refusals::default();
        for n in 0..5_000_i64 {
            refusals.admit(&n.to_string(), Timestamp::from_millis(n));
        }
        assert_eq!(refusals.people.len(), PEOPLE_MAX);
    }
}
