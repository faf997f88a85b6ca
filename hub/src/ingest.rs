//! From the bus into the store.
//!
//! ```text
//! start: bounds, position ─► replay what the consumer will not bring ─► consume
//! consume: first message ─► linger ─► one transaction (rows and position) ─► ack each, the last awaited
//! ```
//!
//! Laws:
//! 1. Ack only after the transaction has committed. The same message twice changes nothing.
//! 2. What cannot be read is set aside with its reason and counted; it never stops what is behind it.
//! 3. While the store is away nothing is acked and nothing is taken: the stream waits.

pub mod plan;
pub mod read;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream;
use bus_schema::WorkspaceId;
use bus_schema::jetstream::ConsumerSpec;
use futures::StreamExt;
use hub_store::{
    Cursor, MessageBatch, MessageRow, NodeRow, ParkedRow, ReceiptRow, SessionRow, StateBatch, Store, StoreError,
};
use tokio_util::sync::CancellationToken;

use crate::bus::{Bus, BusError, Stored, StreamBounds, StreamName};
use crate::metrics::{Metrics, Of};
use crate::owners::Owners;
use read::{Said, Unreadable};

/// Most messages of one transaction: beyond 500 nothing is gained (measured).
const BATCH_MESSAGES: usize = 500;
/// Most payload bytes of one transaction: it must fit into a memtable of 16 MiB several times over, and into the
/// smallest one of 1 MiB after the database has written keys around it.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// How long a transaction waits for more once it has one message.
const LINGER: Duration = Duration::from_millis(5);
/// How long the server may be silent before the subscription is made anew.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Pause before a transaction is tried again while the store is away.
const STORE_RETRY: Duration = Duration::from_millis(500);

/// One stream on its way into the store.
pub struct Ingest {
    /// The bus.
    pub bus: Bus,
    /// The store.
    pub store: Store,
    /// Whose sessions are whose.
    pub owners: Arc<Owners>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The stream and its consumer.
    pub spec: &'static ConsumerSpec,
    /// Which stream that is.
    pub stream: StreamName,
    /// True until an unclean end has been repaired.
    pub unclean: AtomicBool,
    /// Largest number of payload bytes in a transaction; less than [`BATCH_BYTES`] for a small memtable.
    pub batch_bytes: usize,
}

/// Ingestion stopped. It is started again.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The bus.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The subscription broke off.
    #[error("the subscription to {stream} broke off: {detail}")]
    Broken {
        /// Which stream.
        stream: &'static str,
        /// The client's words.
        detail: String,
    },
}

/// Largest number of payload bytes in one transaction for a memtable of that size.
pub fn batch_bytes(memtable_bytes: u64) -> usize {
    usize::try_from(memtable_bytes / 4).unwrap_or(BATCH_BYTES).min(BATCH_BYTES)
}

impl Ingest {
    /// Runs until it is stopped or something breaks.
    ///
    /// # Errors
    /// [`IngestError`]; run again, it goes on where the store is.
    pub async fn run(&self, stop: &CancellationToken) -> Result<(), IngestError> {
        let bounds = self.bus.bounds(self.stream).await?;
        let cursor = self.store.cursor(Some(self.bus.workspace()), self.stream.as_str()).await?;
        let position = plan::position(cursor.as_ref(), &bounds);
        let (consumer, delivered) = self.bus.consumer(self.spec, position + 1).await?;
        let unclean = self.unclean.load(Ordering::Acquire);
        if let Some(range) = plan::replay(cursor.as_ref(), &bounds, delivered, unclean) {
            tracing::info!(stream = self.stream.as_str(), from = range.start(), to = range.end(), "applying again");
            self.replay(range, position, &bounds, stop).await?;
        }
        self.unclean.store(false, Ordering::Release);
        if stop.is_cancelled() {
            return Ok(());
        }
        self.consume(consumer, position.max(delivered), &bounds, stop).await
    }

    async fn replay(
        &self,
        range: std::ops::RangeInclusive<u64>,
        mut position: u64,
        bounds: &StreamBounds,
        stop: &CancellationToken,
    ) -> Result<(), IngestError> {
        let mut reader = self.bus.range(self.stream, *range.start(), *range.end(), vec![]);
        loop {
            let batch = reader.next_batch(BATCH_MESSAGES).await?;
            if batch.is_empty() {
                return Ok(());
            }
            for part in parts(&batch, self.batch_bytes) {
                position = self.write(part, position, bounds, stop).await?;
            }
            if stop.is_cancelled() {
                return Ok(());
            }
        }
    }

    async fn consume(
        &self,
        consumer: jetstream::consumer::PullConsumer,
        mut position: u64,
        bounds: &StreamBounds,
        stop: &CancellationToken,
    ) -> Result<(), IngestError> {
        let broken = |detail: String| IngestError::Broken { stream: self.stream.as_str(), detail };
        let messages = consumer
            .stream()
            .max_messages_per_batch(BATCH_MESSAGES * 2)
            .heartbeat(HEARTBEAT)
            .expires(HEARTBEAT * 4)
            .messages()
            .await;
        let mut messages = messages.map_err(|e| broken(e.to_string()))?;
        loop {
            let first = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                first = messages.next() => first,
            };
            let first = first.ok_or_else(|| broken("it ended".into()))?.map_err(|e| broken(e.to_string()))?;
            let mut bytes = first.payload.len();
            let mut batch = vec![first];
            let mut failure = None;
            let until = tokio::time::Instant::now() + LINGER;
            while batch.len() < BATCH_MESSAGES && bytes < self.batch_bytes {
                match tokio::time::timeout_at(until, messages.next()).await {
                    Ok(Some(Ok(message))) => {
                        bytes += message.payload.len();
                        batch.push(message);
                    }
                    Ok(Some(Err(e))) => {
                        failure = Some(e.to_string());
                        break;
                    }
                    Ok(None) | Err(_) => break,
                }
            }
            let stored = self.readable(&batch);
            for part in parts(&stored, self.batch_bytes) {
                position = self.write(part, position, bounds, stop).await?;
            }
            ack(&batch).await;
            if let Some(detail) = failure {
                return Err(broken(detail));
            }
        }
    }

    fn readable(&self, batch: &[jetstream::Message]) -> Vec<Stored> {
        let again = batch.iter().filter(|m| m.info().is_ok_and(|i| i.delivered > 1)).count();
        self.metrics.redelivered.inc_by(again as u64);
        batch.iter().filter_map(Stored::from_consumer).collect()
    }

    /// Writes messages in one transaction, and again while the store is away. A row that the database refuses is
    /// found by halving and set aside. Returns the position behind them: never back, and never over a message of
    /// these that is not written yet.
    async fn write(
        &self,
        messages: &[Stored],
        mut position: u64,
        bounds: &StreamBounds,
        stop: &CancellationToken,
    ) -> Result<u64, IngestError> {
        let mut work = vec![(messages, None)];
        while let Some((part, refused)) = work.pop() {
            let begun = std::time::Instant::now();
            let seq = part.iter().map(|m| m.seq).max().unwrap_or(0).max(position);
            let cursor = Cursor {
                workspace: Some(self.bus.workspace().clone()),
                stream: self.stream.as_str().to_owned(),
                created: bounds.created.clone(),
                seq,
            };
            match self.apply(part, refused.as_deref(), &cursor).await {
                Ok(()) => {
                    position = seq;
                    self.metrics.commit_seconds.observe(begun.elapsed().as_secs_f64());
                    self.metrics.batch_messages.observe(part.len() as f64);
                }
                Err(error) if error.is_passing() => {
                    tracing::warn!(%error, "the store is away; what came over the bus waits there");
                    tokio::select! {
                        () = stop.cancelled() => return Err(error.into()),
                        () = tokio::time::sleep(STORE_RETRY) => work.push((part, refused)),
                    }
                }
                Err(error) if part.len() > 1 => {
                    tracing::warn!(%error, messages = part.len(), "the store refused a batch; trying its halves");
                    let (first, second) = part.split_at(part.len() / 2);
                    work.push((second, None));
                    work.push((first, None));
                }
                Err(error) if refused.is_none() => work.push((part, Some(error.to_string()))),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(position)
    }

    /// One transaction. `refused` tells that the one message in it is to be set aside for that reason.
    async fn apply(&self, messages: &[Stored], refused: Option<&str>, cursor: &Cursor) -> Result<(), StoreError> {
        let read = messages.iter().map(|stored| match refused {
            Some(reason) => (stored, Err(Unreadable::Refused(reason.to_owned()))),
            None => (stored, read::read(stored)),
        });
        let read: Vec<_> = read.collect();
        let claims = read.iter().filter_map(|(_, said)| said.as_ref().ok().and_then(Said::claim));
        let owners = self.owners.claim(self.bus.workspace(), claims).await?;
        let (mut to_messages, mut to_state) = (MessageBatch::default(), StateBatch::default());
        let mut parked = vec![];
        for (stored, said) in read {
            let said = said.and_then(|said| match said.claim().map(|(s, n)| (s, n, owners.get(s))) {
                Some((session, _, Some(owner))) if owner.workspace != *self.bus.workspace() => {
                    Err(Unreadable::Elsewhere(session.clone()))
                }
                Some((session, node, Some(owner))) if owner.node != *node => {
                    let (session, owner) = (session.clone(), owner.node.clone());
                    Err(Unreadable::Foreign { session, owner, node: node.clone() })
                }
                _ => Ok(said),
            });
            match said {
                Ok(Said::Message(node, message)) => to_messages.messages.push(MessageRow {
                    workspace: self.bus.workspace().clone(),
                    node,
                    stream_seq: stored.seq,
                    message,
                }),
                Ok(Said::Receipt(_, receipt)) => to_messages.receipts.push(ReceiptRow { receipt }),
                Ok(Said::Session(session)) => to_state.sessions.push(SessionRow { session: *session }),
                Ok(Said::Node(state)) => to_state.nodes.push(NodeRow { state: *state, seen: stored.at }),
                Err(reason) => parked.push((stored, reason)),
            }
        }
        for (stored, reason) in &parked {
            self.metrics.parked.get_or_create(&Of { of: reason.word() }).inc();
            tracing::warn!(stream = self.stream.as_str(), seq = stored.seq, %reason, "set aside what cannot be read");
        }
        let workspace = self.bus.workspace();
        let parked = parked.into_iter().map(|(stored, reason)| set_aside(workspace, self.stream, stored, &reason));
        let parked = parked.collect();
        match self.stream {
            StreamName::Messages => {
                (to_messages.parked, to_messages.cursor) = (parked, Some(cursor.clone()));
                self.store.apply_messages(&to_messages).await?;
            }
            StreamName::State
            | StreamName::Terminal
            | StreamName::Refusals
            | StreamName::Audit
            | StreamName::Journal => {
                (to_state.parked, to_state.cursor) = (parked, Some(cursor.clone()));
                self.store.apply_state(&to_state).await?;
            }
        }
        self.metrics.ingested.get_or_create(&Of { of: self.spec.durable }).inc_by(messages.len() as u64);
        Ok(())
    }
}

/// The row of a message that cannot be read.
pub fn set_aside(
    workspace: &WorkspaceId,
    stream: StreamName,
    stored: &Stored,
    reason: &dyn std::fmt::Display,
) -> ParkedRow {
    ParkedRow {
        workspace: workspace.clone(),
        stream: stream.as_str().to_owned(),
        seq: stored.seq,
        subject: stored.subject.clone(),
        reason: reason.to_string(),
        size: stored.payload.len() as u64,
        payload: stored.payload.to_vec(),
        at: stored.at,
    }
}

/// Cuts a batch so that no part has more than so many bytes, or only one message.
fn parts(messages: &[Stored], bytes: usize) -> impl Iterator<Item = &[Stored]> {
    let mut rest = messages;
    std::iter::from_fn(move || {
        let mut sum = 0;
        let fits = rest.iter().take_while(|m| {
            sum += m.payload.len();
            sum <= bytes
        });
        let count = fits.count().max(1).min(rest.len());
        let (part, behind) = rest.split_at(count);
        rest = behind;
        (!part.is_empty()).then_some(part)
    })
}

/// Acks each; the last is awaited, so that little is delivered again after a crash of the server.
async fn ack(batch: &[jetstream::Message]) {
    let Some((last, others)) = batch.split_last() else { return };
    for message in others {
        if message.ack().await.is_err() {
            return; // The connection is gone: all of it is delivered again, and changes nothing.
        }
    }
    if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(5), last.double_ack()).await {
        tracing::debug!(%error, "an ack was not confirmed; the message will come again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_keep_order_and_bounds() {
        let stored = |len: usize| Stored {
            seq: 1,
            subject: String::new(),
            schema: None,
            payload: vec![0; len].into(),
            at: bus_schema::Timestamp::from_millis(0),
        };
        let sizes = [3, 3, 3, 20, 1, 9, 1];
        let messages: Vec<_> = sizes.map(stored).into_iter().collect();
        let cut: Vec<Vec<usize>> = parts(&messages, 10).map(|p| p.iter().map(|m| m.payload.len()).collect()).collect();
        assert_eq!(cut, [vec![3, 3, 3], vec![20], vec![1, 9], vec![1]]);
        assert_eq!(parts(&[], 10).count(), 0);
    }
}
