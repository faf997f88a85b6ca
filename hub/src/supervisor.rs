//! Owns every background task of the hub.
//!
//! | task | on error | on cancel |
//! |---|---|---|
//! | `streams` makes and checks the streams | again with backoff; a server that is too old stops the hub | abort |
//! | `ingest-messages`, `ingest-state` | again with backoff | wait: the transaction in work ends |
//! | `journal`, `audit` follow the bus | again with backoff | wait |
//! | `agent-providers` brings settings to nodes | again with backoff | abort: what was sent may be sent again |
//! | `kill-all` kills on nodes that come back | again with backoff | abort: the audit log has what is pending |
//! | `refusals` writes what nodes did not obey into the audit log | again with backoff | wait |
//! | `enrolment` tells servers of accounts, and nodes of keys | again with backoff | abort: it is told again |
//! | `live` | again with backoff; viewers resume | wait |
//! | `http` | stops the hub | drain within the grace period |
//! | viewers, terminals, actions | end by themselves | viewers end at once, actions are waited for |

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tokio_util::sync::CancellationToken;

use crate::metrics::{Metrics, Of};

/// First pause after an error.
const BACKOFF_FIRST_MS: u64 = 100;
/// Longest pause after an error.
const BACKOFF_LAST_MS: u64 = 5_000;
/// A task that ran for so long begins with the first pause again.
const HEALTHY: Duration = Duration::from_secs(30);

/// Runs a task until it is stopped; again with backoff after an error.
pub async fn keep_running<E, F>(
    name: &'static str,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    run: impl Fn(CancellationToken) -> F,
) where
    E: std::error::Error,
    F: Future<Output = Result<(), E>>,
{
    let mut pause_ms = BACKOFF_FIRST_MS;
    loop {
        let begun = std::time::Instant::now();
        match run(stop.clone()).await {
            Ok(()) if stop.is_cancelled() => return,
            Ok(()) => tracing::info!(task = name, "ended; starting it again"),
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(task = name, error, "stopped; starting it again");
            }
        }
        metrics.restarts.get_or_create(&Of { of: name }).inc();
        if begun.elapsed() > HEALTHY {
            pause_ms = BACKOFF_FIRST_MS;
        }
        let jittered = rand::rng().random_range(pause_ms / 2..=pause_ms);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(jittered)) => {}
        }
        pause_ms = (pause_ms * 2).min(BACKOFF_LAST_MS);
    }
}

/// An error with all of its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
