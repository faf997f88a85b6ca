//! The audit log: who did what, before it happens and after.
//!
//! Laws:
//! 1. No intent on the bus, no action.
//! 2. Rows are numbered without gap: the bus takes a row only behind the one before it, so that several hubs make one
//!    log.
//! 3. The bus is the log; the store has a copy to page through.

mod deed;
mod refusals;

use std::sync::{Arc, Mutex as Lock, PoisonError};
use std::time::Duration;

use bus_schema::{AuditPhase, AuditRow, Metadata, Subject, WorkspaceId, decode, encode};
use hub_store::{Cursor, Store, StoreError};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use crate::bus::{Behind, Bus, BusError, StreamName};
use crate::clock;
use crate::ingest::{plan, set_aside};
use crate::metrics::{Metrics, Of};
pub use deed::{Deed, DeedResult};
use refusals::Refusals;

/// How often a row that met another one is tried.
const TRIES: u32 = 8;
/// How often the bus is asked for rows of other hubs.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);
/// Rows applied at once.
const BATCH: usize = 200;

/// The audit log of a workspace.
pub struct Audit {
    bus: Bus,
    store: Store,
    metrics: Arc<Metrics>,
    head: Mutex<Option<Head>>,
    refusals: Lock<Refusals>,
}

/// The last row: its number, and its sequence in the stream.
#[derive(Clone, Copy)]
struct Head {
    n: u64,
    seq: u64,
}

/// An intent that is on the bus.
#[must_use = "an intent without an outcome is an action nobody knows the end of"]
pub struct Intent {
    deed: Deed,
    action_id: String,
}

/// A row could not be written.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The bus.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The row cannot be written down.
    #[error("a row of the audit log cannot be encoded")]
    Encode(#[from] bus_schema::EncodeError),
}

impl Audit {
    /// The log on the bus and its copy in the store.
    pub fn new(bus: Bus, store: Store, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { bus, store, metrics, head: Mutex::new(None), refusals: Lock::default() })
    }

    fn workspace(&self) -> &WorkspaceId {
        self.bus.workspace()
    }

    /// Writes down what is about to be done.
    ///
    /// # Errors
    /// [`AuditError`]: then it must not be done.
    pub async fn intend(&self, deed: Deed) -> Result<Intent, AuditError> {
        let intent = Intent { deed, action_id: Ulid::new().to_string() };
        let pending = DeedResult { result: "pending", detail: None, metadata: Metadata::new() };
        self.append(&intent, AuditPhase::Intent, pending).await?;
        Ok(intent)
    }

    /// Writes down what became of it. If that cannot be written it is logged: the intent stays without an outcome,
    /// which is how it is.
    pub async fn conclude(&self, intent: Intent, result: DeedResult) {
        if let Err(error) = self.append(&intent, AuditPhase::Outcome, result).await {
            let action_id = intent.action_id;
            tracing::error!(%error, action_id, "cannot write the outcome of an action into the audit log");
        }
    }

    /// Writes down what has happened already and had no intent: a sign-in.
    ///
    /// # Errors
    /// [`AuditError`].
    pub async fn note(&self, deed: Deed, result: DeedResult) -> Result<(), AuditError> {
        let noted = Intent { deed, action_id: Ulid::new().to_string() };
        self.append(&noted, AuditPhase::Outcome, result).await
    }

    /// Writes down that something was refused to somebody. A flood of it is counted, and the count stands in the next
    /// row (`unwritten`). What cannot be written is logged: the refusal stands all the same.
    pub async fn refused(&self, mut deed: Deed, why: impl Into<String>) {
        let who = deed.user.id.as_ref().map_or(deed.user.name.as_str(), |id| id.as_str());
        let admitted = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).admit(who, clock::now());
        let Some(unwritten) = admitted else {
            self.metrics.refusals_unwritten.inc();
            return;
        };
        if unwritten > 0 {
            deed = deed.with("unwritten", unwritten);
        }
        let (action, request_id) = (deed.action, deed.request_id.clone());
        if let Err(error) = self.note(deed, DeedResult::not("refused", why)).await {
            tracing::error!(%error, action, request_id, "cannot write a refusal into the audit log");
        }
    }

    async fn append(&self, intent: &Intent, phase: AuditPhase, result: DeedResult) -> Result<(), AuditError> {
        let deed = &intent.deed;
        let mut metadata = deed.metadata.clone();
        metadata.extend(result.metadata);
        let mut row = AuditRow {
            n: 0,
            workspace: self.workspace().clone(),
            timestamp: clock::now(),
            action_id: intent.action_id.clone(),
            phase,
            action: deed.action.to_owned(),
            user: deed.user.clone(),
            session_id: deed.session_id.clone(),
            node: deed.node.clone(),
            content: deed.content.clone(),
            result: result.result.to_owned(),
            detail: result.detail,
            request_id: Some(deed.request_id.clone()).filter(|id| !id.is_empty()),
            metadata,
        };
        let subject = Subject::Audit(self.workspace().clone()).to_string();
        let id = format!("{}.{}", row.action_id, row.phase);
        let mut head = self.head.lock().await;
        let mut tries = 0;
        loop {
            let last = match *head {
                Some(last) => last,
                None => self.read_head(&subject).await?,
            };
            row.n = last.n + 1;
            tries += 1;
            let payload = encode(&row)?;
            let behind = Behind::own(last.seq);
            match self.bus.publish_behind(StreamName::Audit, subject.clone(), &id, payload, behind, None).await {
                Ok(seq) => {
                    *head = Some(Head { n: row.n, seq });
                    break;
                }
                Err(BusError::Conflict { .. }) if tries < TRIES => *head = None,
                Err(error) => {
                    // Whether it is stored is not known: the next row reads the head again.
                    *head = None;
                    return Err(error.into());
                }
            }
        }
        drop(head);
        // The bus has it: a copy that fails now is made by the follower.
        if let Err(error) = self.store.add_audit(&[row], None).await {
            tracing::warn!(%error, "the copy of an audit row will come later");
        }
        Ok(())
    }

    /// The last row that can be read, and the sequence to write behind. What is not a row of ours lies between two of
    /// them at most; it is set aside by the follower.
    async fn read_head(&self, subject: &str) -> Result<Head, AuditError> {
        let Some(last) = self.bus.last_of(StreamName::Audit, subject).await? else {
            return Ok(Head { n: 0, seq: 0 });
        };
        let (seq, mut stored) = (last.seq, Some(last));
        for before in (0..seq).rev() {
            if let Some(stored) = stored
                && let Ok(row) = decode::<AuditRow>(&stored.payload, stored.schema.as_deref())
            {
                return Ok(Head { n: row.n, seq });
            }
            stored = self.bus.message_at(StreamName::Audit, before).await?;
        }
        Ok(Head { n: 0, seq })
    }

    /// Copies what the store does not have, until it is stopped or something breaks. After an unclean end of the store
    /// it goes back further than the store says.
    ///
    /// # Errors
    /// [`AuditError`].
    pub async fn follow(&self, unclean: bool, stop: &CancellationToken) -> Result<(), AuditError> {
        let bounds = self.bus.bounds(StreamName::Audit).await?;
        let cursor = self.store.cursor(StreamName::Audit.as_str()).await?;
        let position = plan::position(cursor.as_ref(), &bounds);
        let behind = if unclean { position.saturating_sub(plan::REPLAY) } else { position };
        let filter = vec![Subject::Audit(self.workspace().clone()).to_string()];
        let mut reader = self.bus.range(StreamName::Audit, behind + 1, u64::MAX, filter);
        loop {
            let batch = reader.next_batch(BATCH).await?;
            if let Some(last) = batch.last() {
                let seq = last.seq.max(position);
                let cursor = Cursor { stream: StreamName::Audit.as_str().into(), created: bounds.created.clone(), seq };
                let (mut rows, mut parked) = (vec![], vec![]);
                for stored in &batch {
                    match decode::<AuditRow>(&stored.payload, stored.schema.as_deref()) {
                        Ok(row) => rows.push(row),
                        Err(error) => {
                            tracing::error!(%error, seq = stored.seq, "what is in the audit stream is no row of ours");
                            self.metrics.parked.get_or_create(&Of { of: "audit" }).inc();
                            parked.push(set_aside(self.workspace(), StreamName::Audit, stored, &error));
                        }
                    }
                }
                self.store.park(&parked).await?;
                self.store.add_audit(&rows, Some(&cursor)).await?;
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(FOLLOW_EVERY) => {}
            }
        }
    }
}
