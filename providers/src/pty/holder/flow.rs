//! How fast the agent's output is read.
//!
//! Law: what is read is in the log, and the log's part that nobody has acknowledged is bounded. Beyond the bound, and
//! beyond the rate, the terminal is not read; it fills after some 16 KiB and then the agent waits. Nothing is lost, and
//! nobody else is slowed down.

use std::time::{Duration, Instant};

use crate::pty::log::LogLimits;

/// Least number of bytes worth a read. Below it we wait for the rate to allow more.
const LEAST_READ: u64 = 4096;

/// Decides whether the terminal may be read.
#[derive(Debug)]
pub(crate) struct Flow {
    limits: LogLimits,
    /// Bytes that may be read now, by the rate. At most one second's worth.
    allowance: u64,
    since: Instant,
    acknowledged: u64,
    floor: u64,
}

impl Flow {
    /// Nothing read, nothing acknowledged.
    pub fn new(limits: LogLimits, now: Instant) -> Self {
        Self { limits, allowance: limits.bytes_per_second, since: now, acknowledged: 0, floor: 0 }
    }

    /// The consumer has everything before `acknowledged`, and needs no segment before `floor`.
    pub fn acknowledge(&mut self, acknowledged: u64, floor: u64) {
        self.acknowledged = self.acknowledged.max(acknowledged);
        self.floor = self.floor.max(floor);
    }

    /// What the consumer has.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Where the oldest segment begins that is needed.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// True if the log that ends at `end` is as long as it may be.
    pub fn is_full(&self, end: u64) -> bool {
        end.saturating_sub(self.acknowledged) >= self.limits.unacknowledged_bytes
    }

    /// How many bytes may be read now. Zero means: see [`again`](Self::again).
    pub fn allows(&mut self, end: u64, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.since);
        let earned = u64::try_from(passed.as_micros()).unwrap_or(u64::MAX).saturating_mul(self.rate()) / 1_000_000;
        if earned > 0 {
            self.allowance = self.allowance.saturating_add(earned).min(self.rate());
            self.since = now;
        }
        if self.is_full(end) || self.allowance < self.least() { 0 } else { self.allowance }
    }

    /// So much was read.
    pub fn took(&mut self, bytes: usize) {
        self.allowance = self.allowance.saturating_sub(bytes as u64);
    }

    /// When the rate allows the next read, if it is the rate that does not.
    pub fn again(&self, end: u64) -> Option<Duration> {
        let missing = self.least().saturating_sub(self.allowance);
        if self.is_full(end) || missing == 0 {
            return None;
        }
        Some(Duration::from_micros(missing.saturating_mul(1_000_000) / self.rate() + 1_000))
    }

    fn rate(&self) -> u64 {
        self.limits.bytes_per_second.max(1)
    }

    fn least(&self) -> u64 {
        LEAST_READ.min(self.rate())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> LogLimits {
        LogLimits { unacknowledged_bytes: 100_000, bytes_per_second: 10_000, ..LogLimits::default() }
    }

    #[test]
    fn the_rate_is_kept_and_given_back_by_time() {
        let start = Instant::now();
        let mut flow = Flow::new(limits(), start);
        assert_eq!(flow.allows(0, start), 10_000);
        flow.took(9_000);
        assert_eq!(flow.allows(9_000, start), 0);
        let wait = flow.again(9_000).unwrap();
        assert!(flow.allows(9_000, start + wait) >= LEAST_READ);
        // Never more than a second's worth at once.
        assert_eq!(flow.allows(9_000, start + Duration::from_secs(3600)), 10_000);
    }

    #[test]
    fn a_full_log_waits_for_the_consumer() {
        let start = Instant::now();
        let mut flow = Flow::new(limits(), start);
        assert_eq!(flow.allows(100_000, start), 0);
        assert_eq!(flow.again(100_000), None);
        flow.acknowledge(50_000, 0);
        assert_eq!(flow.allows(100_000, start), 10_000);
        // An older acknowledgement takes nothing back.
        flow.acknowledge(10, 0);
        assert_eq!(flow.acknowledged(), 50_000);
    }
}
