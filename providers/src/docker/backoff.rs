//! How long to wait before an engine that is away is asked again.

use std::time::Duration;

/// The first wait: an engine that restarts is back within seconds.
const FIRST: Duration = Duration::from_millis(200);
/// The longest: what an operator who has just started the engine is willing to wait.
const LONGEST: Duration = Duration::from_secs(5);

/// Doubles with every failure. Without jitter: the engine is on this machine, and few ask.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    pub fn new() -> Self {
        Self(FIRST)
    }

    /// It answered.
    pub fn reset(&mut self) {
        self.0 = FIRST;
    }

    /// The next wait.
    pub fn next(&mut self) -> Duration {
        let wait = self.0;
        self.0 = (wait * 2).min(LONGEST);
        wait
    }
}
