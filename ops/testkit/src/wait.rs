//! Waiting on conditions.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Pauses between two looks: short at first, since most conditions are met at once.
const PAUSES_MS: [u64; 6] = [1, 2, 5, 10, 20, 50];

/// What a look at a condition gives: what was waited for, or what was there instead.
///
/// `Option` and `bool` say that it is not so yet; `Result` also says, by its error, what was seen.
pub trait Seen {
    /// What is waited for.
    type Value;
    /// It, or what was there instead.
    fn seen(self) -> Result<Self::Value, Option<String>>;
}

impl<T> Seen for Option<T> {
    type Value = T;
    fn seen(self) -> Result<T, Option<String>> {
        self.ok_or(None)
    }
}

impl<T, E: Debug> Seen for Result<T, E> {
    type Value = T;
    fn seen(self) -> Result<T, Option<String>> {
        self.map_err(|seen| Some(format!("{seen:?}")))
    }
}

impl Seen for bool {
    type Value = ();
    fn seen(self) -> Result<(), Option<String>> {
        if self { Ok(()) } else { Err(None) }
    }
}

/// It did not come to be.
#[derive(Debug)]
pub struct WaitError {
    what: String,
    within: Duration,
    last: Option<String>,
}

impl std::fmt::Display for WaitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not within {:?}: {}", self.within, self.what)?;
        match &self.last {
            Some(last) => write!(f, "; seen last: {last}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for WaitError {}

/// Looks until it is so, at most for `within`. A look that itself hangs counts as not so.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// # use std::time::Duration;
/// let mut n = 0;
/// let three = testkit::wait_until("n is three", Duration::from_secs(5), async || {
///     n += 1;
///     if n == 3 { Ok(n) } else { Err(n) }
/// });
/// assert_eq!(three.await.unwrap(), 3);
/// # });
/// ```
///
/// # Errors
/// [`WaitError`], which says what was seen last.
pub async fn wait_until<S: Seen>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> S,
) -> Result<S::Value, WaitError> {
    let end = tokio::time::Instant::now() + within;
    let (mut last, mut pauses) = (None, PAUSES_MS.iter().copied().chain(std::iter::repeat(100)));
    loop {
        match tokio::time::timeout_at(end, look()).await.map(Seen::seen) {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(seen)) => last = seen.or(last),
            Err(_) => last = Some(format!("{}(the last look did not end)", last.map_or(String::new(), |l| l + " "))),
        }
        if tokio::time::Instant::now() >= end {
            return Err(WaitError { what: what.into(), within, last });
        }
        tokio::time::sleep(Duration::from_millis(pauses.next().unwrap_or(100))).await;
    }
}

/// As [`wait_until`], for code that is not async.
///
/// # Errors
/// [`WaitError`], which says what was seen last.
pub fn wait_until_blocking<S: Seen>(
    what: &str,
    within: Duration,
    mut look: impl FnMut() -> S,
) -> Result<S::Value, WaitError> {
    let begun = Instant::now();
    let (mut last, mut pauses) = (None, PAUSES_MS.iter().copied().chain(std::iter::repeat(100)));
    loop {
        match look().seen() {
            Ok(value) => return Ok(value),
            Err(seen) => last = seen.or(last),
        }
        if begun.elapsed() >= within {
            return Err(WaitError { what: what.into(), within, last });
        }
        std::thread::sleep(Duration::from_millis(pauses.next().unwrap_or(100)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn says_what_it_saw_last() {
        let mut n = 0;
        let error = wait_until("n is huge", Duration::from_millis(20), async || {
            n += 1;
            Err::<(), _>(format!("n = {n}"))
        });
        let text = error.await.unwrap_err().to_string();
        assert!(text.contains("n is huge") && text.contains("n = "), "{text}");
    }

    #[tokio::test]
    async fn a_look_that_hangs_does_not_hang_the_test() {
        let error = wait_until("it ends", Duration::from_millis(20), async || std::future::pending::<bool>().await);
        assert!(error.await.unwrap_err().to_string().contains("did not end"));
    }

    #[test]
    fn options_and_bools_serve_as_well() {
        assert_eq!(wait_until_blocking("some", Duration::ZERO, || Some(1)).unwrap(), 1);
        wait_until_blocking("true", Duration::ZERO, || true).unwrap();
        assert!(wait_until_blocking("false", Duration::ZERO, || false).is_err());
    }
}
