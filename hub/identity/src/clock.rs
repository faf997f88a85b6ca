//! The one place of this crate that asks for the time.

/// Seconds since 1970, as JWTs count.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn now_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
