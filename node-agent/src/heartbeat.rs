//! Tells the node's state: every ten seconds, on change, on a new connection, and when the node leaves.
//!
//! Law: it is told only while the bus is there. An old state is of no use to anybody.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::Client;
use async_nats::client::Request;
use async_nats::connection::State as Connection;
use bus_schema::{HEARTBEAT_MS, HostInfo, Load, NodeState, NodeStatus, ProviderState, Subject, Timestamp};
use bytes::Bytes;
use providers::{ProviderHealth, clock};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::commands::trust::Trust;
use crate::metrics::Counters;
use crate::publisher::{Backlog, Identity, headers};
use crate::sessions::Sessions;
use crate::settings::Settings;

/// Longest time for one provider to say how it is.
const HEALTH_WITHIN: Duration = Duration::from_secs(3);
/// Changes are told at most so often.
const CHANGE_EVERY: Duration = Duration::from_secs(1);
/// Longest time to hand a state to the client.
const HAND_OVER: Duration = Duration::from_secs(1);
/// Longest wait for the bus to take the last state.
const LAST_WORD: Duration = Duration::from_secs(2);

/// What the heartbeat works with; it can be started again from it.
#[derive(Clone)]
pub struct Heartbeat {
    /// The connection.
    pub client: Client,
    /// Who we are.
    pub identity: Arc<Identity>,
    /// What we look after.
    pub sessions: Sessions,
    /// What is set up from afar.
    pub settings: Arc<Settings>,
    /// Whose commands are obeyed.
    pub trust: Arc<Trust>,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// What waits for the bus.
    pub backlog: Arc<Backlog>,
    /// Of the machine.
    pub boot_id: String,
    /// When the program started.
    pub started_at: Timestamp,
}

impl Heartbeat {
    /// Tells the state until it is cancelled, and then that the node is leaving.
    pub async fn run(self, cancel: CancellationToken) {
        let mut connection = ConnectionWatch::default();
        let mut number = 0u64;
        while !cancel.is_cancelled() {
            number += 1;
            self.tell(number).await;
            let next = Instant::now() + Duration::from_millis(HEARTBEAT_MS);
            let soon = Instant::now() + CHANGE_EVERY;
            tokio::select! {
                () = cancel.cancelled() => break,
                () = tokio::time::sleep_until(next) => {}
                () = self.sessions.changed() => {}
                () = self.settings.changed() => {}
                () = connection.is_new(&self.client) => {}
            }
            cancel.run_until_cancelled(tokio::time::sleep_until(soon)).await;
        }
        self.last_word(number + 1).await;
    }

    fn is_connected(&self) -> bool {
        self.client.connection_state() == Connection::Connected
    }

    fn subject(&self) -> String {
        Subject::Node(self.identity.workspace.clone(), self.identity.node.clone()).to_string()
    }

    fn headers(&self, number: u64) -> async_nats::HeaderMap {
        let Identity { node, incarnation, .. } = &*self.identity;
        headers(format!("{node}-{incarnation}-{}-{number}", self.started_at.as_millis()))
    }

    async fn tell(&self, number: u64) {
        if !self.is_connected() {
            return;
        }
        let Some(payload) = self.payload(NodeStatus::Up).await else { return };
        let sending = self.client.publish_with_headers(self.subject(), self.headers(number), payload);
        if !matches!(timeout(HAND_OVER, sending).await, Ok(Ok(()))) {
            tracing::debug!("the node's state could not be told");
        }
    }

    /// Waits until the bus has it: nothing is sent after it.
    async fn last_word(&self, number: u64) {
        if !self.is_connected() {
            return;
        }
        let Some(payload) = self.payload(NodeStatus::Leaving).await else { return };
        // An inbox of its own: an answer that never comes then costs nothing.
        let request = Request::new().payload(payload).headers(self.headers(number)).inbox(self.client.new_inbox());
        if !matches!(timeout(LAST_WORD, self.client.send_request(self.subject(), request)).await, Ok(Ok(_))) {
            tracing::warn!("the bus did not take the node's last word");
        }
    }

    async fn payload(&self, status: NodeStatus) -> Option<Bytes> {
        let state = self.state(status).await;
        match bus_schema::encode(&state) {
            Ok(payload) => Some(payload.into()),
            Err(error) => {
                tracing::error!(error = %error, "the node's state cannot be written");
                None
            }
        }
    }

    /// The node's state as it is now.
    pub async fn state(&self, status: NodeStatus) -> NodeState {
        let alive = self.sessions.alive();
        let asked = self.sessions.registry().all().map(|(name, provider)| async move {
            let health = timeout(HEALTH_WITHIN, provider.health()).await.unwrap_or_else(|_| ProviderHealth {
                error: Some(format!("it did not answer within {} s", HEALTH_WITHIN.as_secs())),
                capabilities: vec![],
            });
            (name.clone(), health)
        });
        let providers = futures::future::join_all(asked).await.into_iter().map(|(name, health)| ProviderState {
            healthy: health.error.is_none(),
            error: health.error,
            sessions: alive.get(&name).copied().unwrap_or(0),
            capabilities: health.capabilities,
            name,
        });
        let rules = self.sessions.rules();
        NodeState {
            workspace: rules.workspace.clone(),
            node: rules.node.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            status,
            host: host(),
            boot_id: self.boot_id.clone(),
            incarnation: self.identity.incarnation.clone(),
            started_at: self.started_at,
            timestamp: clock::now(),
            providers: providers.collect(),
            profiles: rules.profiles.values().filter_map(providers::Profile::info).collect(),
            load: Load {
                sessions: alive.values().sum(),
                outbox_records: self.backlog.records.load(Ordering::Relaxed),
                outbox_bytes: self.backlog.bytes.load(Ordering::Relaxed),
                dropped: self.counters.dropped_messages.get(),
                load1: load1().unwrap_or(0.0),
                rss_bytes: rss_bytes().unwrap_or(0),
            },
            seal_key: Some(self.settings.public_key()),
            settings_rev: self.settings.rev(),
            command_keys: self.trust.keys(clock::now()),
        }
    }
}

/// Notices new connections.
#[derive(Default)]
struct ConnectionWatch {
    connects: u64,
}

impl ConnectionWatch {
    /// How often it is looked. The client has no way to wait for it.
    const LOOK_EVERY: Duration = Duration::from_millis(500);

    async fn is_new(&mut self, client: &Client) {
        loop {
            let connects = client.statistics().connects.load(Ordering::Relaxed);
            if std::mem::replace(&mut self.connects, connects) != connects {
                return;
            }
            tokio::time::sleep(Self::LOOK_EVERY).await;
        }
    }
}

fn host() -> HostInfo {
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    let cpus = std::thread::available_parallelism().map_or(0, |count| u32::try_from(count.get()).unwrap_or(u32::MAX));
    HostInfo { hostname, os: std::env::consts::OS.into(), arch: std::env::consts::ARCH.into(), cpus }
}

/// Load of the machine over one minute (Linux, proc(5)).
fn load1() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// Resident memory of this process (Linux, proc(5): `VmRSS` in kilobytes).
pub fn rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_tells_of_itself() {
        assert!(rss_bytes().unwrap() > 100_000);
        assert!(load1().unwrap() >= 0.0);
        assert!(host().cpus > 0);
    }
}
