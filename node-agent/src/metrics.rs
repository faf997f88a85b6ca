//! What the node counts. Told in the node's state (`load`) and, at intervals, in its log.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$meta:meta])* $name:ident,)+) => {
        /// Counters since the start of the program. They only grow.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$meta])* pub $name: Counter,)+
        }

        impl Counters {
            /// Name and value of each, in the order of declaration.
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)+]
            }
        }
    };
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// How many.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

counters! {
    /// Records handed to the bus, repeats included.
    published_records,
    /// Records the bus has acknowledged, repeats included.
    acked_records,
    /// Of those, how many it had already.
    duplicate_records,
    /// Acknowledgements that did not come, or said no.
    failed_acks,
    /// Times that a session's records were sent again from the trim point.
    rewinds,
    /// Records on disk that could not be read back.
    damaged_records,
    /// Messages that were dropped, each told by a gap.
    dropped_messages,
    /// Partial texts that were dropped: the bus was away.
    dropped_deltas,
    /// Bytes of terminal output not published: the bus was away, or there were too many.
    dropped_terminal_bytes,
    /// Connections to the bus that were made.
    bus_connects,
    /// Connections to the bus that were lost.
    bus_disconnects,
    /// Times the client dropped messages because we did not read them.
    bus_slow_consumers,
    /// Errors that the server or the client told of.
    bus_errors,
    /// Commands that arrived.
    commands,
    /// Of those, how many were refused.
    commands_refused,
    /// Refusals that were told to the hub as a number only.
    refusals_untold,
    /// Commands that were repeats.
    commands_repeated,
    /// Operator messages handed over.
    injections,
    /// Calls to providers that failed or took too long.
    provider_failures,
    /// Tasks that were started again after an error.
    task_restarts,
    /// Things the runtime told that must not happen, and were passed over.
    ignored_news,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_listed_by_name() {
        let counters = Counters::default();
        counters.rewinds.add(3);
        let all = counters.all();
        assert!(all.contains(&("rewinds", 3)) && all.contains(&("commands", 0)), "{all:?}");
    }
}
