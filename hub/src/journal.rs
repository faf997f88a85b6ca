//! The hub's own records on the bus: people, roles, sign-ins, tokens, invitations, layouts, and what is set up for
//! runtimes.
//!
//! Laws:
//! 1. A record is on the bus before it is in the store; both by the same whole-record upsert with a number that grows.
//! 2. Two hubs that write the same record at once: one of them reads again and tries again.
//! 3. What is set up for runtimes, and roles, have a law more: of all such records of a workspace the one written last
//!    has the largest number, whichever hub wrote it and whatever its clock says. So what holds between records (no
//!    name twice, always an admin) is checked against all of them, and the largest number tells how new the whole is.
//! 4. At every start, and while running, the whole journal is followed: it is small, the last of each record.

use std::sync::Arc;
use std::time::Duration;

use bus_schema::{DecodeError, Timestamp, WorkspaceId, decode, encode};
use hub_store::{
    AgentProvider, AgentProviderRow, ApiToken, Cursor, Invitation, Membership, MembershipRow, Record, RecordBody,
    SignIn, Store, StoreError, Writer,
};
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
/// How long a sign-in, a token, an invitation stays in the journal after its end, so that a replay still knows it.
const AFTERLIFE_MS: i64 = 24 * 3600 * 1000;

/// The hub's own records.
pub struct Journal {
    bus: Bus,
    store: Store,
    metrics: Arc<Metrics>,
    /// Grows whenever a record was applied: what was derived from records is to be derived again.
    generation: watch::Sender<u64>,
    /// Grows with what may change who somebody is or what they may do.
    people: watch::Sender<u64>,
    /// Grows with what concerns control: who writes on terminals, what needs a second.
    control: watch::Sender<u64>,
    followed: watch::Sender<bool>,
    /// Records that depend on each other are written one after the other, or they would only meet on the bus.
    one_by_one: Mutex<()>,
}

/// What became of a record that is written on a condition.
#[derive(Debug)]
pub enum Put {
    /// It stands there now.
    Written(Record),
    /// The last one was not as wanted, and stays.
    Kept(Option<Record>),
}

impl Put {
    /// True if it stands there now.
    pub fn is_written(&self) -> bool {
        matches!(self, Put::Written(_))
    }
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
        let (generation, people, control) = (watch::Sender::new(0), watch::Sender::new(0), watch::Sender::new(0));
        let (followed, one_by_one) = (watch::Sender::new(false), Mutex::default());
        Arc::new(Self { bus, store, metrics, generation, people, control, followed, one_by_one })
    }

    /// A number that grows whenever something in the records changed.
    pub fn generation(&self) -> u64 {
        *self.generation.borrow()
    }

    /// Tells when somebody may have become somebody else: another role, kept out, signed out.
    pub fn people(&self) -> watch::Receiver<u64> {
        self.people.subscribe()
    }

    /// Tells when somebody began or ceased to write on a terminal, a mark changed, or a request.
    pub fn control(&self) -> watch::Receiver<u64> {
        self.control.subscribe()
    }

    fn applied(&self, records: &[Record]) {
        self.generation.send_modify(|n| *n += 1);
        let controls =
            |r: &Record| matches!(r.body, RecordBody::Writer(_) | RecordBody::FourEyes(_) | RecordBody::Approval(_));
        if records.iter().any(controls) {
            self.control.send_modify(|n| *n += 1);
        }
        if records.iter().any(|r| match r.body {
            RecordBody::User(_) | RecordBody::Membership(_) => true,
            RecordBody::SignIn(_) | RecordBody::ApiToken(_) => r.deleted,
            RecordBody::Layout(_)
            | RecordBody::AgentProvider(_)
            | RecordBody::Invitation(_)
            | RecordBody::Retention(_)
            | RecordBody::Hold(_)
            | RecordBody::Writer(_)
            | RecordBody::FourEyes(_)
            | RecordBody::Approval(_) => false,
        }) {
            self.people.send_modify(|n| *n += 1);
        }
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
        match self.put_if(body, deleted, |_| true).await? {
            Put::Written(record) => Ok(record),
            Put::Kept(_) => Err(JournalError::Behind),
        }
    }

    /// Writes a record that is not there yet, or not any more; false if it is.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn create(&self, body: RecordBody) -> Result<bool, JournalError> {
        Ok(self.put_if(body, false, |last| last.is_none_or(|r| r.deleted)).await?.is_written())
    }

    /// Writes a record that is there, and not taken away; false if it is not. Of two that take the same away, one is
    /// answered true.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn replace(&self, body: RecordBody, deleted: bool) -> Result<bool, JournalError> {
        Ok(self.put_if(body, deleted, |last| last.is_some_and(|r| !r.deleted)).await?.is_written())
    }

    /// The last record of a place, asked of the bus itself: what other hubs wrote a moment ago is in it.
    ///
    /// # Errors
    /// [`JournalError::Bus`]; a record that cannot be read counts as none.
    pub async fn current(&self, (table, key): (&'static str, String)) -> Result<Option<Record>, JournalError> {
        let last = self.bus.last_among(StreamName::Journal, &journal_subject(table, &key)).await?;
        Ok(last.and_then(|stored| read(&stored).ok()).filter(|record| !record.deleted))
    }

    /// Writes a record if the last of it on the bus is as wanted: compare and set, over all hubs.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn put_if(
        &self,
        body: RecordBody,
        deleted: bool,
        wanted: impl Fn(Option<&Record>) -> bool,
    ) -> Result<Put, JournalError> {
        let mut record = Record { rev: 0, deleted, body };
        let (table, key) = record.place();
        let subject = journal_subject(table, &key);
        let mut tries = 0;
        loop {
            let last = self.bus.last_of(StreamName::Journal, &subject).await?;
            let behind = last.as_ref().map_or(0, |stored| stored.seq);
            let last = last.and_then(|stored| read(&stored).ok());
            if !wanted(last.as_ref()) {
                return Ok(Put::Kept(last));
            }
            // It grows also where the last record cannot be read, or the whole journal was lost and begun anew.
            let now = clock::now().as_millis().unsigned_abs();
            record.rev = last.map_or(now, |last| now.max(last.rev + 1));
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
        self.applied(std::slice::from_ref(&record));
        Ok(Put::Written(record))
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
        self.put_among(workspace, floor, decide).await
    }

    /// Writes a role in a workspace, made by `decide` out of all that there are (true: take it away).
    ///
    /// # Errors
    /// What `decide` answers; [`JournalError`] as for [`put`](Self::put).
    pub async fn put_membership<E: From<JournalError>>(
        &self,
        workspace: &WorkspaceId,
        decide: impl Fn(&[MembershipRow]) -> Result<(Membership, bool), E>,
    ) -> Result<MembershipRow, E> {
        self.put_among(workspace, 0, decide).await
    }

    async fn put_among<R: Among, E: From<JournalError>>(
        &self,
        workspace: &WorkspaceId,
        floor: u64,
        decide: impl Fn(&[R]) -> Result<(R::Body, bool), E>,
    ) -> Result<R, E> {
        let (table, keys) = R::places(workspace);
        let all = journal_subject(table, &keys);
        let _one = self.one_by_one.lock().await;
        let mut tries = 0;
        loop {
            let last = self.bus.last_among(StreamName::Journal, &all).await.map_err(JournalError::from)?;
            let seq = last.as_ref().map_or(0, |stored| stored.seq);
            // What cannot be read has no number to be above of; the follower sets it aside.
            let last_rev = last.and_then(|stored| read(&stored).ok()).map_or(0, |record| record.rev);
            let known = self.caught_up::<R>(workspace, last_rev).await?;
            let top = known.iter().map(Among::rev).max().unwrap_or(0).max(last_rev).max(floor);
            let (body, deleted) = decide(&known)?;
            let rev = clock::now().as_millis().unsigned_abs().max(top + 1);
            let record = Record { rev, deleted, body: R::record(body.clone()) };
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
            self.applied(std::slice::from_ref(&record));
            return Ok(R::row(body, rev, deleted));
        }
    }

    /// All records of a kind in a workspace, once the one with that number is among them.
    async fn caught_up<R: Among>(&self, workspace: &WorkspaceId, rev: u64) -> Result<Vec<R>, JournalError> {
        let deadline = tokio::time::Instant::now() + CATCH_UP_WITHIN;
        loop {
            let known = R::all(&self.store, workspace).await?;
            if known.iter().map(Among::rev).max().unwrap_or(0) >= rev {
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
                    workspace: None,
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
                self.applied(&records);
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
        RecordBody::SignIn(SignIn { expires, .. })
        | RecordBody::ApiToken(ApiToken { expires, .. })
        | RecordBody::Invitation(Invitation { expires, .. }) => Some(afterlife(*expires)),
        RecordBody::Writer(Writer { until: ends, .. }) => Some(afterlife(*ends)),
        RecordBody::Approval(approval) => Some(afterlife(approval.expires)),
        RecordBody::User(_)
        | RecordBody::Membership(_)
        | RecordBody::Layout(_)
        | RecordBody::AgentProvider(_)
        | RecordBody::Retention(_)
        | RecordBody::Hold(_)
        | RecordBody::FourEyes(_) => None,
    }
}

/// From now until some time after an end.
fn afterlife(end: Timestamp) -> Duration {
    Duration::from_millis(end.plus_millis(AFTERLIFE_MS).millis_since(clock::now()).max(1_000))
}

/// Records that depend on each other within a workspace.
trait Among: Sized + Send + Sync {
    /// What such a record says.
    type Body: Clone + Send;
    /// Their places, as a filter of keys.
    fn places(workspace: &WorkspaceId) -> (&'static str, String);
    /// All of them, with those that were taken away.
    fn all(store: &Store, workspace: &WorkspaceId) -> impl Future<Output = Result<Vec<Self>, StoreError>> + Send;
    fn rev(&self) -> u64;
    fn record(body: Self::Body) -> RecordBody;
    fn row(body: Self::Body, rev: u64, deleted: bool) -> Self;
}

impl Among for AgentProviderRow {
    type Body = AgentProvider;

    fn places(workspace: &WorkspaceId) -> (&'static str, String) {
        Record::agent_providers_of(workspace)
    }

    fn all(store: &Store, workspace: &WorkspaceId) -> impl Future<Output = Result<Vec<Self>, StoreError>> + Send {
        store.agent_providers(workspace)
    }

    fn rev(&self) -> u64 {
        self.rev
    }

    fn record(body: AgentProvider) -> RecordBody {
        RecordBody::AgentProvider(body)
    }

    fn row(body: AgentProvider, rev: u64, deleted: bool) -> Self {
        Self { body, rev, deleted }
    }
}

impl Among for MembershipRow {
    type Body = Membership;

    fn places(workspace: &WorkspaceId) -> (&'static str, String) {
        Record::memberships_of(workspace)
    }

    fn all(store: &Store, workspace: &WorkspaceId) -> impl Future<Output = Result<Vec<Self>, StoreError>> + Send {
        store.members(workspace)
    }

    fn rev(&self) -> u64 {
        self.rev
    }

    fn record(body: Membership) -> RecordBody {
        RecordBody::Membership(body)
    }

    fn row(body: Membership, rev: u64, deleted: bool) -> Self {
        Self { body, rev, deleted }
    }
}
