//! How much anybody may ask for: rates, counts, sizes. What is refused is counted by the limit that refused it.
//!
//! Laws:
//! 1. Whoever is refused is told when to come again.
//! 2. Only failed sign-ins count against an account or an address: who knows the password is not slowed down by a
//!    number of sign-ins, only by others' guesses.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bus_schema::{SessionId, UserId};
use governor::clock::Clock;
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::config::LimitsConfig;
use crate::metrics::{Metrics, Of};

/// Keys a rate remembers before it forgets those that are free again.
const KEYS_MAX: usize = 10_000;
/// How many seconds' worth of requests may come at once.
const BURST_S: u32 = 5;

/// Too much was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many {of}; try again in {retry_after_s} s")]
pub struct Limited {
    /// Which limit: `sign-ins`, `requests`, …
    pub of: &'static str,
    /// When to come again, in seconds, at least one.
    pub retry_after_s: u64,
}

/// Every limit that counts over time.
pub struct Limits {
    config: LimitsConfig,
    metrics: Arc<Metrics>,
    all: DefaultDirectRateLimiter,
    users: DefaultKeyedRateLimiter<UserId>,
    injects: DefaultKeyedRateLimiter<(UserId, SessionId)>,
    accounts: Guesses,
    addresses: Guesses,
    streams: Mutex<HashMap<UserId, u32>>,
}

/// Failed attempts by key. A key that failed too often is shut until its rate allows one more.
struct Guesses {
    failures: DefaultKeyedRateLimiter<String>,
    shut: Mutex<HashMap<String, Instant>>,
}

impl Guesses {
    fn new(per_minute: NonZeroU32) -> Self {
        Self { failures: RateLimiter::keyed(Quota::per_minute(per_minute)), shut: Mutex::default() }
    }

    fn open(&self, key: &str) -> Result<(), Duration> {
        let now = Instant::now();
        let shut = self.shut.lock().unwrap_or_else(PoisonError::into_inner);
        match shut.get(key) {
            Some(until) if *until > now => Err(*until - now),
            Some(_) | None => Ok(()),
        }
    }

    fn failed(&self, key: &str) {
        let key = key.to_owned();
        let left = rate(&self.failures, &key);
        let mut shut = self.shut.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if shut.len() >= KEYS_MAX {
            shut.retain(|_, until| *until > now);
        }
        match left {
            Ok(()) => {}
            Err(wait) => drop(shut.insert(key, now + wait)),
        }
    }
}

fn rate<K: Clone + Eq + Hash>(limiter: &DefaultKeyedRateLimiter<K>, key: &K) -> Result<(), Duration> {
    if limiter.len() >= KEYS_MAX {
        limiter.retain_recent();
    }
    limiter.check_key(key).map_err(|not| not.wait_time_from(limiter.clock().now()))
}

fn with_burst(per_second: NonZeroU32) -> Quota {
    Quota::per_second(per_second).allow_burst(per_second.saturating_mul(NonZeroU32::MIN.saturating_add(BURST_S - 1)))
}

/// An open stream; gives its place back when it is dropped.
pub struct StreamPlace {
    limits: Arc<Limits>,
    user: UserId,
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let mut streams = self.limits.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = streams.get_mut(&self.user) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                streams.remove(&self.user);
            }
        }
    }
}

impl Limits {
    /// With these numbers.
    pub fn new(config: LimitsConfig, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            all: RateLimiter::direct(with_burst(config.requests_per_second)),
            users: RateLimiter::keyed(with_burst(config.user_requests_per_second)),
            injects: RateLimiter::keyed(Quota::per_minute(config.inject_per_minute)),
            accounts: Guesses::new(config.failed_sign_ins_per_minute),
            addresses: Guesses::new(config.failed_sign_ins_per_address),
            streams: Mutex::default(),
            config,
            metrics,
        })
    }

    /// The numbers.
    pub fn config(&self) -> &LimitsConfig {
        &self.config
    }

    /// Counts what some limit refused.
    pub fn count(&self, of: &'static str) {
        self.metrics.limited.get_or_create(&Of { of }).inc();
    }

    fn limited(&self, of: &'static str, wait: Duration) -> Limited {
        self.count(of);
        Limited { of, retry_after_s: wait.as_secs().saturating_add(1) }
    }

    /// A request, whoever asks.
    ///
    /// # Errors
    /// [`Limited`].
    pub fn request(&self) -> Result<(), Limited> {
        let clock = self.all.clock();
        self.all.check().map_err(|not| self.limited("requests", not.wait_time_from(clock.now())))
    }

    /// A request of somebody known.
    ///
    /// # Errors
    /// [`Limited`].
    pub fn request_of(&self, user: &UserId) -> Result<(), Limited> {
        rate(&self.users, user).map_err(|wait| self.limited("requests of yours", wait))
    }

    /// A message of an operator to a session.
    ///
    /// # Errors
    /// [`Limited`].
    pub fn inject(&self, user: &UserId, session: &SessionId) -> Result<(), Limited> {
        rate(&self.injects, &(user.clone(), session.clone()))
            .map_err(|wait| self.limited("messages to this session", wait))
    }

    /// Whether a sign-in may be tried: with an account, or with something that names none. The answer is the same
    /// whether there is such an account or not.
    ///
    /// # Errors
    /// [`Limited`].
    pub fn sign_in(&self, account: Option<&str>, address: Option<IpAddr>) -> Result<(), Limited> {
        let account = account.map_or(Ok(()), |account| self.accounts.open(account));
        let address = address.map_or(Ok(()), |address| self.addresses.open(&network(address)));
        account.and(address).map_err(|wait| self.limited("failed sign-ins", wait))
    }

    /// A sign-in that failed.
    pub fn sign_in_failed(&self, account: Option<&str>, address: Option<IpAddr>) {
        if let Some(account) = account {
            self.accounts.failed(account);
        }
        if let Some(address) = address {
            self.addresses.failed(&network(address));
        }
    }

    /// A place for one more stream of somebody.
    ///
    /// # Errors
    /// [`Limited`].
    pub fn stream(self: &Arc<Self>, user: &UserId) -> Result<StreamPlace, Limited> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let open = streams.entry(user.clone()).or_default();
        if *open >= self.config.streams_per_user {
            drop(streams);
            return Err(self.limited("open streams", Duration::from_secs(4)));
        }
        *open += 1;
        Ok(StreamPlace { limits: Arc::clone(self), user: user.clone() })
    }
}

/// Whoever has an IPv6 address has a whole /64 of them.
pub fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(change: impl FnOnce(&mut LimitsConfig)) -> Arc<Limits> {
        let mut config = LimitsConfig::default();
        change(&mut config);
        Limits::new(config, Arc::new(Metrics::new()))
    }

    #[test]
    fn ten_messages_a_minute_to_each_session_by_each_operator() {
        let limits = limits(|_| {});
        let (ada, eve) = (UserId::new("ada").unwrap(), UserId::new("eve").unwrap());
        let session = |n| SessionId::new(format!("01JD8Z2V9Q000000000000000{n}")).unwrap();
        for _ in 0..10 {
            limits.inject(&ada, &session(1)).unwrap();
        }
        let refused = limits.inject(&ada, &session(1)).unwrap_err();
        assert!((1..=60).contains(&refused.retry_after_s), "{refused}");
        limits.inject(&ada, &session(2)).unwrap();
        limits.inject(&eve, &session(1)).unwrap();
    }

    #[test]
    fn only_failures_shut_an_account_and_a_network() {
        let limits = limits(|c| {
            c.failed_sign_ins_per_minute = NonZeroU32::new(2).unwrap();
            c.failed_sign_ins_per_address = NonZeroU32::new(6).unwrap();
        });
        let from = |last: u8| Some(IpAddr::from([192, 0, 2, last]));
        for _ in 0..50 {
            limits.sign_in(Some("ada"), from(1)).unwrap();
        }
        for _ in 0..3 {
            limits.sign_in_failed(Some("ada"), from(1));
        }
        assert!(limits.sign_in(Some("ada"), from(2)).is_err(), "from wherever");
        limits.sign_in(Some("eve"), from(1)).unwrap();
        for n in 0..10 {
            limits.sign_in_failed(Some(&format!("guess{n}")), from(1));
        }
        assert!(limits.sign_in(Some("eve"), from(1)).is_err());
        limits.sign_in(Some("eve"), from(2)).unwrap();
        let text = |a: &str| network(a.parse().unwrap());
        assert_eq!(text("2001:db8:1:2:3::4"), text("2001:db8:1:2:9::9"));
        assert_eq!((text("::ffff:192.0.2.1"), text("192.0.2.1")), ("192.0.2.1".into(), "192.0.2.1".into()));
    }

    #[test]
    fn a_stream_that_ends_makes_room_for_another() {
        let limits = limits(|c| c.streams_per_user = 2);
        let ada = UserId::new("ada").unwrap();
        let (one, _two) = (limits.stream(&ada).unwrap(), limits.stream(&ada).unwrap());
        assert!(limits.stream(&ada).is_err());
        limits.stream(&UserId::new("eve").unwrap()).unwrap();
        drop(one);
        limits.stream(&ada).unwrap();
    }
}
