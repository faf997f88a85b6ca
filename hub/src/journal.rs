//! The hub's own records on the bus: people, roles, sign-ins, layouts, and what is set up for runtimes.
//!
//! Laws:
//! 1. A record is on the bus before it is in the store; both by the same whole-record upsert with a number that grows.
//! 2. Two hubs that write the same record at once: one of them reads again and tries again.
//! 3. What is set up for runtimes has a law more: of all such records of a workspace the one written last has the
//!    largest number, whichever hub wrote it and whatever its clock says. So what holds between records (no name
//!    twice) is checked against all of them, and the largest number tells how new the whole is.
//! 4. At every start, and while running, the whole journal is followed: it is small, the last of each record.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bus_schema::{DecodeError, WorkspaceId, decode, encode};
use hub_store::{AgentProvider, AgentProviderRow, Cursor, Record, RecordBody, Store, StoreError};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use crate::bus::{Behind, Bus, BusError, Stored, StreamName, journal_subject};
use crate::clock;
use crate::ingest::set_aside;
use crate::metrics::{Metrics, Of};

/// How often a write that meets another one is tried.
const TRIES: u32 = 5;
/// How often the journal is asked for what other hubs wrote.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);
/// Records applied at once.
const BATCH: usize = 200;
/// How long a write waits until what other hubs wrote before is applied here.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(5);
/// How often that is looked at.
const CATCH_UP_EVERY: Duration = Duration::from_millis(50);
/// How long a sign-in stays in the journal after its end, so that a replay still knows that it ended.
const SIGN_IN_AFTERLIFE_MS: i64 = 24 * 3600 * 1000;

/// The hub's own records.
pub struct Journal {
    bus: Bus,
    store: Store,
    metrics: Arc<Metrics>,
    /// Grows whenever a record was applied: what was derived from records is to be derived again.
    generation: AtomicU64,
    followed: watch::Sender<bool>,
    /// Records that depend on each other are written one after the other, or they would only meet on the bus.
    one_by_one: Mutex<()>,
}

/// A record could not be written, or not followed.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The bus.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record cannot be written down.
    #[error("a record cannot be encoded")]
    Encode(#[from] bus_schema::EncodeError),
    /// What other hubs wrote is not applied here yet.
    #[error("the store is behind the journal; try again")]
    Behind,
}

impl Journal {
    /// The journal on the bus and its projection in the store.
    pub fn new(bus: Bus, store: Store, metrics: Arc<Metrics>) -> Arc<Self> {
        let (generation, followed, one_by_one) = (AtomicU64::new(0), watch::Sender::new(false), Mutex::default());
        Arc::new(Self { bus, store, metrics, generation, followed, one_by_one })
    }

    /// A number that grows whenever something in the records changed.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// True once all that is in the journal is in the store.
    pub fn is_followed(&self) -> bool {
        *self.followed.borrow()
    }

    /// Waits until all that is in the journal is in the store.
    pub async fn wait_followed(&self) {
        let mut followed = self.followed.subscribe();
        // The sender lives as long as `self`, so this ends only with the value.
        let _ = followed.wait_for(|f| *f).await;
    }

    /// Writes a record: to the bus, then to the store.
    ///
    /// # Errors
    /// [`JournalError`]; without an answer of the bus the record may have been written all the same.
    pub async fn put(&self, body: RecordBody, deleted: bool) -> Result<Record, JournalError> {
        let mut record = Record { rev: 0, deleted, body };
        let (table, key) = record.place();
        let subject = journal_subject(table, &key);
        let mut tries = 0;
        loop {
            let last = self.bus.last_of(StreamName::Journal, &subject).await?;
            let behind = last.as_ref().map_or(0, |stored| stored.seq);
            // It grows also where the last record cannot be read, or the whole journal was lost and begun anew.
            let now = clock::now().as_millis().unsigned_abs();
            record.rev = last.and_then(|stored| read(&stored).ok()).map_or(now, |last| now.max(last.rev + 1));
            let id = format!("{subject}.{}", record.rev);
            let ttl = ttl(&record.body);
            let (payload, behind) = (encode(&record)?, Behind::own(behind));
            let sent = self.bus.publish_behind(StreamName::Journal, subject.clone(), &id, payload, behind, ttl).await;
            tries += 1;
            match sent {
                Ok(_) => break,
                Err(BusError::Conflict { .. }) if tries < TRIES => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.store.apply_records(std::slice::from_ref(&record), None).await?;
        self.generation.fetch_add(1, Ordering::AcqRel);
        Ok(record)
    }

    /// Writes a record of what is set up for runtimes, made by `decide` out of all that there are (true: take it away).
    /// Its number is above every other's, and above `floor`.
    ///
    /// # Errors
    /// What `decide` answers; [`JournalError`] as for [`put`](Self::put).
    pub async fn put_agent_provider<E: From<JournalError>>(
        &self,
        workspace: &WorkspaceId,
        floor: u64,
        decide: impl Fn(&[AgentProviderRow]) -> Result<(AgentProvider, bool), E>,
    ) -> Result<AgentProviderRow, E> {
        let (table, keys) = Record::agent_providers_of(workspace);
        let all = journal_subject(table, &keys);
        let _one = self.one_by_one.lock().await;
        let mut tries = 0;
        loop {
            let last = self.bus.last_among(StreamName::Journal, &all).await.map_err(JournalError::from)?;
            let seq = last.as_ref().map_or(0, |stored| stored.seq);
            // What cannot be read has no number to be above of; the follower sets it aside.
            let last_rev = last.and_then(|stored| read(&stored).ok()).map_or(0, |record| record.rev);
            let known = self.caught_up(workspace, last_rev).await?;
            let top = known.iter().map(|row| row.rev).max().unwrap_or(0).max(last_rev).max(floor);
            let (body, deleted) = decide(&known)?;
            let rev = clock::now().as_millis().unsigned_abs().max(top + 1);
            let record = Record { rev, deleted, body: RecordBody::AgentProvider(body.clone()) };
            let (table, key) = record.place();
            let subject = journal_subject(table, &key);
            let (id, payload) = (format!("{subject}.{rev}"), encode(&record).map_err(JournalError::from)?);
            let behind = Behind { seq, among: Some(all.clone()) };
            tries += 1;
            match self.bus.publish_behind(StreamName::Journal, subject, &id, payload, behind, None).await {
                Ok(_) => {}
                Err(BusError::Conflict { .. }) if tries < TRIES => continue,
                Err(error) => return Err(JournalError::from(error).into()),
            }
            self.store.apply_records(std::slice::from_ref(&record), None).await.map_err(JournalError::from)?;
            self.generation.fetch_add(1, Ordering::AcqRel);
            return Ok(AgentProviderRow { body, rev, deleted });
        }
    }

    /// All records of what is set up for runtimes, once the one with that number is among them.
    async fn caught_up(&self, workspace: &WorkspaceId, rev: u64) -> Result<Vec<AgentProviderRow>, JournalError> {
        let deadline = tokio::time::Instant::now() + CATCH_UP_WITHIN;
        loop {
            let known = self.store.agent_providers(workspace).await?;
            if known.iter().map(|row| row.rev).max().unwrap_or(0) >= rev {
                return Ok(known);
            }
            if tokio::time::Instant::now() > deadline {
                return Err(JournalError::Behind);
            }
            tokio::time::sleep(CATCH_UP_EVERY).await;
        }
    }

    /// Follows the journal until it is stopped or something breaks.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn follow(&self, stop: &CancellationToken) -> Result<(), JournalError> {
        let bounds = self.bus.bounds(StreamName::Journal).await?;
        let mut reader = self.bus.range(StreamName::Journal, bounds.first, u64::MAX, vec![]);
        loop {
            let batch = reader.next_batch(BATCH).await?;
            if let Some(last) = batch.last() {
                let cursor = Cursor {
                    stream: StreamName::Journal.as_str().into(),
                    created: bounds.created.clone(),
                    seq: last.seq,
                };
                let (mut records, mut parked) = (vec![], vec![]);
                for stored in &batch {
                    match read(stored) {
                        Ok(record) => records.push(record),
                        Err(error) => {
                            tracing::error!(%error, subject = stored.subject, "what is in the journal is no record of ours");
                            self.metrics.parked.get_or_create(&Of { of: "journal" }).inc();
                            parked.push(set_aside(self.bus.workspace(), StreamName::Journal, stored, &error));
                        }
                    }
                }
                self.store.park(&parked).await?;
                self.store.apply_records(&records, Some(&cursor)).await?;
                self.generation.fetch_add(1, Ordering::AcqRel);
                continue;
            }
            self.followed.send_replace(true);
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(FOLLOW_EVERY) => {}
            }
        }
    }
}

fn read(stored: &Stored) -> Result<Record, DecodeError> {
    decode(&stored.payload, stored.schema.as_deref())
}

/// How long the bus keeps a record: sign-ins end, all else stays.
fn ttl(body: &RecordBody) -> Option<Duration> {
    match body {
        RecordBody::SignIn(sign_in) => {
            let ends = sign_in.expires.plus_millis(SIGN_IN_AFTERLIFE_MS);
            Some(Duration::from_millis(ends.millis_since(clock::now()).max(1_000)))
        }
        RecordBody::User(_)
        | RecordBody::Membership(_)
        | RecordBody::Layout(_)
        | RecordBody::AgentProvider(_)
        | RecordBody::Retention(_)
        | RecordBody::Hold(_) => None,
    }
}
