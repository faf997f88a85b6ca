//! The connection to the bus: how it is made, kept and watched. What goes over it is the publisher's and the commands'.
//!
//! Laws:
//! 1. A node starts without the bus and waits for it, for ever, with jitter, so that a fleet does not come back at once.
//! 2. The credentials file is read at every connection: a new one counts without a restart.
//! 3. With a certificate authority nothing goes over the bus in plain, and no other authority is trusted.
//! 4. Every event of the client is counted and logged; credentials are in none of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Auth, AuthError, Client, ConnectOptions, Event, ServerAddr};
use bus_schema::{NodeId, inbox_prefix};
use nkeys::KeyPair;

use crate::metrics::Counters;

/// A server that went silent is noticed after two of these.
const PING_INTERVAL: Duration = Duration::from_secs(12);
/// Longest time for one attempt to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest pause between two attempts.
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(8);
/// Commands of one subscription that wait to be read. Beyond that the client drops them, and the hub asks again.
const SUBSCRIPTION_CAPACITY: usize = 4_096;

/// The connection cannot even be begun.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// A server's address is not one.
    #[error("{url:?} is not the address of a NATS server")]
    Address {
        /// The address.
        url: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The client refused its options.
    #[error("making the client of the bus")]
    Connect(#[from] async_nats::ConnectError),
    /// The credentials cannot be used.
    #[error("credentials file {path:?}: {problem}")]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is wrong with it. Nothing of its content.
        problem: String,
    },
}

/// Connects in the background and returns at once.
///
/// # Errors
/// [`BusError`] for what no waiting can cure.
pub async fn connect(
    urls: &[String],
    creds: &Path,
    ca: Option<&Path>,
    node: &NodeId,
    counters: Arc<Counters>,
) -> Result<Client, BusError> {
    // Several are built in, and the client asks for the one of the process; whoever came first has chosen.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut servers = vec![];
    for url in urls {
        let address = |source| BusError::Address { url: url.clone(), source };
        servers.push(url.parse::<ServerAddr>().map_err(address)?);
    }
    let path = creds.to_owned();
    let options = ConnectOptions::with_auth_callback(move |nonce| {
        let path = path.clone();
        async move { sign(&path, &nonce).await.map_err(AuthError::new) }
    });
    let options = options
        .name(format!("mosaic-node {node}"))
        .custom_inbox_prefix(inbox_prefix(node.as_str()))
        .retry_on_initial_connect()
        .ping_interval(PING_INTERVAL)
        .connection_timeout(CONNECT_TIMEOUT)
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        .reconnect_delay_callback(reconnect_delay)
        .event_callback(move |event| {
            note(&event, &counters);
            std::future::ready(())
        });
    let options = match ca {
        // Never in plain then, whatever a server offers.
        Some(ca) => options.add_root_certificates(ca.to_owned()).require_tls(true),
        None => options,
    };
    Ok(options.connect(servers).await?)
}

fn reconnect_delay(attempts: usize) -> Duration {
    let pause = Duration::from_millis(50).saturating_mul(1 << attempts.min(10)).min(MAX_RECONNECT_DELAY);
    // The first attempt is made at once.
    if attempts == 0 { Duration::ZERO } else { pause.mul_f64(0.5 + rand::random::<f64>() / 2.0) }
}

fn note(event: &Event, counters: &Counters) {
    match event {
        Event::Connected => {
            counters.bus_connects.increment();
            tracing::info!("bus connected");
        }
        Event::Disconnected => {
            counters.bus_disconnects.increment();
            tracing::warn!("bus disconnected");
        }
        Event::SlowConsumer(sid) => {
            counters.bus_slow_consumers.increment();
            tracing::warn!(sid, "messages from the bus were dropped: they were not read in time");
        }
        Event::ServerError(error) => {
            counters.bus_errors.increment();
            tracing::warn!(error = %error, "the bus refused something");
        }
        Event::ClientError(error) => {
            counters.bus_errors.increment();
            tracing::warn!(error = %error, "the client of the bus failed");
        }
        Event::LameDuckMode => tracing::info!("the bus server is about to leave"),
        Event::Draining | Event::Closed => tracing::debug!(event = %event, "the client of the bus is ending"),
    }
}

async fn sign(path: &Path, nonce: &[u8]) -> Result<Auth, BusError> {
    let bad = |problem: String| BusError::Credentials { path: path.to_owned(), problem };
    let text = tokio::fs::read_to_string(path).await.map_err(|error| bad(error.to_string()))?;
    let (jwt, key) = credentials(&text).map_err(bad)?;
    let mut auth = Auth::new();
    auth.signature = Some(key.sign(nonce).map_err(|error| bad(error.to_string()))?);
    auth.jwt = Some(jwt);
    Ok(auth)
}

/// Checks a credentials file.
///
/// # Errors
/// [`BusError::Credentials`] if it cannot be read or holds no credentials.
pub fn check_credentials(path: &Path) -> Result<(), BusError> {
    let bad = |problem: String| BusError::Credentials { path: path.to_owned(), problem };
    let text = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
    credentials(&text).map(|_| ()).map_err(bad)
}

/// The JWT and the key of a credentials file: two blocks, each between a line that says what begins and one that says
/// that it ends (`nsc` writes them so).
fn credentials(text: &str) -> Result<(String, KeyPair), String> {
    let block = |what: &str| {
        let mut lines = text.lines().map(str::trim).skip_while(|line| !line.contains(&format!("BEGIN {what}")));
        lines.nth(1).map(str::to_owned).ok_or_else(|| format!("there is no {what} in it"))
    };
    let (jwt, seed) = (block("NATS USER JWT")?, block("USER NKEY SEED")?);
    let key = KeyPair::from_seed(&seed).map_err(|_| "its key is not an nkey seed".to_owned())?;
    Ok((jwt, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_and_never_shown() {
        let key = KeyPair::new_user();
        let seed = key.seed().unwrap();
        let text = format!(
            "-----BEGIN NATS USER JWT-----\neyJ.a.b\n------END NATS USER JWT------\n\nIMPORTANT\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        let (jwt, read) = credentials(&text).unwrap();
        assert_eq!((jwt.as_str(), read.public_key()), ("eyJ.a.b", key.public_key()));
        for broken in [text.replace("USER NKEY", "X"), text.replace("NATS USER", "X"), text.replace(&seed, "SUABC")] {
            let problem = credentials(&broken).map(|_| ()).unwrap_err();
            assert!(!problem.contains("eyJ") && !problem.contains("SU"), "{problem}");
        }
    }

    #[test]
    fn attempts_become_rarer_and_none_is_too_late() {
        assert_eq!(reconnect_delay(0), Duration::ZERO);
        for attempts in 1..100 {
            let delay = reconnect_delay(attempts);
            assert!(delay <= MAX_RECONNECT_DELAY && delay >= Duration::from_millis(50), "{attempts}: {delay:?}");
        }
    }
}
