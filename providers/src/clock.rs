//! The one place that asks for the time. Everything that decides gets it as an argument.

use bus_schema::Timestamp;

/// The time now.
pub fn now() -> Timestamp {
    Timestamp::from_millis(now_micros() / 1000)
}

/// The time now, in microseconds since 1970-01-01T00:00:00Z.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn now_micros() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
