//! Commands that nodes did not obey, brought into the audit log: whoever holds a hub's credentials but not its key is
//! seen there.
//!
//! ```text
//! node ─► MOSAIC_REFUSALS ─► this ─► audit row `commandRefused` ─► ack
//! ```
//!
//! Laws:
//! 1. Ack only after the row is on the bus. What is delivered again is looked for in the log first.
//! 2. A node tells a bounded number ([`MOST_OF_A_NODE`] in [`WINDOW`]); what a broken or hostile one tells beyond is
//!    counted and stands in its next row: it cannot fill a log that keeps everything.
//! 3. What a command claims is written down as a claim.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use bus_schema::jetstream::REFUSALS_CONSUMER;
use bus_schema::{Actor, Metadata, NodeId, RefusedCommand, Subject, decode};
use futures::StreamExt;
use hub_store::{AuditFilter, Store, StoreError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::audit::{Audit, AuditError, Deed, DeedResult};
use crate::bus::{Bus, BusError, Stored};
use crate::metrics::{ActionOf, Metrics, Of};

/// The word in the audit log.
const ACTION: &str = "commandRefused";
/// Rows of one node in one window: nodes keep to a third of it.
const MOST_OF_A_NODE: u32 = 30;
/// Length of a window.
const WINDOW: Duration = Duration::from_secs(60);
/// Nodes remembered; the account has no more clients than that.
const MOST_NODES: usize = 10_000;
/// Rows looked through for one that was written before the hub broke off.
const LOOK_BACK: u64 = 1_000;
/// How long the server may be silent before the subscription is made anew.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Brings refusals into the audit log.
pub struct Refusals {
    bus: Bus,
    store: Store,
    audit: Arc<Audit>,
    metrics: Arc<Metrics>,
}

/// It stopped. It is started again.
#[derive(Debug, thiserror::Error)]
pub enum RefusalsError {
    /// The bus.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The subscription broke off.
    #[error("the subscription to refusals broke off: {0}")]
    Broken(String),
}

/// How much each node has told.
#[derive(Default)]
struct Windows(BTreeMap<NodeId, Window>);

struct Window {
    since: Instant,
    rows: u32,
    dropped: u64,
}

impl Windows {
    /// `Some` if there is room for a row of this node: how many of its were dropped since the last one.
    fn room(&mut self, node: &NodeId, now: Instant) -> Option<u64> {
        if self.0.len() >= MOST_NODES && !self.0.contains_key(node) {
            self.0.retain(|_, window| now.duration_since(window.since) < WINDOW);
        }
        let window = self.0.entry(node.clone()).or_insert(Window { since: now, rows: 0, dropped: 0 });
        if now.duration_since(window.since) >= WINDOW {
            (window.since, window.rows) = (now, 0);
        }
        if window.rows >= MOST_OF_A_NODE {
            window.dropped += 1;
            return None;
        }
        window.rows += 1;
        Some(std::mem::take(&mut window.dropped))
    }
}

impl Refusals {
    /// From the bus into this log.
    pub fn new(bus: Bus, store: Store, audit: Arc<Audit>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { bus, store, audit, metrics })
    }

    /// Runs until it is stopped or something breaks.
    ///
    /// # Errors
    /// [`RefusalsError`]; run again, it goes on with what has no ack.
    pub async fn run(&self, stop: &CancellationToken) -> Result<(), RefusalsError> {
        let broken = |error: &dyn std::fmt::Display| RefusalsError::Broken(error.to_string());
        let (consumer, _) = self.bus.consumer(&REFUSALS_CONSUMER, 1).await?;
        let messages = consumer.stream().max_messages_per_batch(50).heartbeat(HEARTBEAT).expires(HEARTBEAT * 4);
        let mut messages = messages.messages().await.map_err(|error| broken(&error))?;
        let mut windows = Windows::default();
        loop {
            let message = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                message = messages.next() => message,
            };
            let message = message.ok_or_else(|| broken(&"it ended"))?.map_err(|error| broken(&error))?;
            self.take(&message, &mut windows).await?;
            message.ack().await.map_err(|error| broken(&error))?;
        }
    }

    async fn take(&self, message: &jetstream::Message, windows: &mut Windows) -> Result<(), RefusalsError> {
        let Some(stored) = Stored::from_consumer(message) else { return Ok(()) };
        let refused = match read(&stored) {
            Ok(refused) => refused,
            Err(problem) => {
                tracing::warn!(seq = stored.seq, problem, "a refusal cannot be read");
                self.metrics.parked.get_or_create(&Of { of: "refusal" }).inc();
                return Ok(());
            }
        };
        let Some(dropped) = windows.room(&refused.node, Instant::now()) else {
            self.metrics.parked.get_or_create(&Of { of: "refusal-flood" }).inc();
            return Ok(());
        };
        let came_before = message.info().is_ok_and(|info| info.delivered > 1);
        if came_before && self.is_written(&refused.refusal_id).await? {
            return Ok(());
        }
        tracing::warn!(node = %refused.node, code = %refused.refusal.code, "a node did not obey a command");
        self.metrics.actions.get_or_create(&ActionOf { action: ACTION, result: "refused" }).inc();
        let result = DeedResult::not("refused", refused.refusal.message.clone());
        Ok(self.audit.note(deed(&refused, dropped), result).await?)
    }

    async fn is_written(&self, refusal_id: &str) -> Result<bool, StoreError> {
        let filter = AuditFilter { action: Some(ACTION.into()), ..AuditFilter::default() };
        let (rows, _) = self.store.audit(self.bus.workspace(), &filter, None, LOOK_BACK).await?;
        Ok(rows.iter().any(|row| row.metadata.get("refusalId").and_then(|id| id.as_str()) == Some(refusal_id)))
    }
}

fn read(stored: &Stored) -> Result<RefusedCommand, String> {
    let subject: Subject = stored.subject.parse().map_err(|error| format!("{error}"))?;
    let refused: RefusedCommand =
        decode(&stored.payload, stored.schema.as_deref()).map_err(|error| error.to_string())?;
    let Subject::Refusal(workspace, node) = subject else { return Err("it is under another subject".into()) };
    if workspace != refused.workspace || node != refused.node {
        return Err("its subject and its payload speak of different nodes".into());
    }
    Ok(refused)
}

/// The row: done by nobody that is known, to the node.
fn deed(refused: &RefusedCommand, dropped: u64) -> Deed {
    let mut metadata = Metadata::new();
    let mut put = |key: &str, value: Option<serde_json::Value>| {
        if let Some(value) = value {
            metadata.insert(key.into(), value);
        }
    };
    put("refusalId", Some(refused.refusal_id.as_str().into()));
    put("reason", Some(refused.refusal.code.as_str().into()));
    put("refusedAt", serde_json::to_value(refused.refused_at).ok());
    put("commandId", refused.command_id.as_ref().map(|id| id.as_str().into()));
    put("claimedAction", refused.action.as_ref().map(|action| action.as_str().into()));
    put("claimedOperator", refused.operator.as_ref().and_then(|operator| serde_json::to_value(operator).ok()));
    put("claimedKey", refused.key.as_deref().map(Into::into));
    put("claimedRequestId", refused.request_id.as_deref().map(Into::into));
    let untold = refused.untold.saturating_add(dropped);
    put("untold", (untold > 0).then(|| untold.into()));
    Deed {
        action: ACTION,
        user: Actor { id: None, name: "unknown sender".into(), email: None, role: None },
        session_id: refused.session_id.clone(),
        node: Some(refused.node.clone()),
        content: None,
        request_id: refused.refusal_id.clone(),
        metadata,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_tells_too_much_costs_a_number() {
        let (mut windows, now) = (Windows::default(), Instant::now());
        let (n1, n2) = (NodeId::new("n1").unwrap(), NodeId::new("n2").unwrap());
        let rows = (0..1_000).filter(|_| windows.room(&n1, now).is_some()).count();
        assert_eq!(rows, MOST_OF_A_NODE as usize);
        assert_eq!(windows.room(&n2, now), Some(0), "another one is not held up");
        assert_eq!(windows.room(&n1, now + WINDOW), Some(1_000 - u64::from(MOST_OF_A_NODE)));
        assert_eq!(windows.room(&n1, now + WINDOW), Some(0));
    }
}
