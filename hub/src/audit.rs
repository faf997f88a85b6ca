//! The audit log: who did what, before it happens and after.
//!
//! Laws:
//! 1. No intent on the bus, no action.
//! 2. Rows are numbered without gap: the bus takes a row only behind the one before it, so that several hubs make one
//!    log.
//! 3. The bus is the log; the store has a copy to page through.
//! 4. Each row carries the hash of the one before it, and the last one is signed every 100 rows, every 5 minutes and at
//!    an orderly end: whoever has the log can check it without us (`ops/docs/audit.md`).
//! 5. No function here, and none of the store, changes or takes away a row.

mod begin;
mod deed;
mod follow;
mod late;
mod refusals;
mod settled;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as Lock, MutexGuard, PoisonError};

use bus_schema::{
    AuditEntry, AuditHash, AuditLine, AuditPhase, AuditRow, Checkpoint, CheckpointLine, GENESIS, Metadata, Subject,
    WorkspaceId, encode,
};
use hub_store::{Store, StoreError};
use tokio::sync::{Mutex, watch};
use ulid::Ulid;

use crate::bus::{Behind, Bus, BusError, StreamName};
use crate::clock;
use crate::metrics::Metrics;
pub use deed::{Deed, DeedResult};
use follow::Walk;
use late::Late;
use refusals::Refusals;
pub use settled::{DISCARD, Decision, Settled};

/// How often a row that met another one is tried.
const TRIES: u32 = 8;
/// A checkpoint is signed behind so many rows.
const CHECKPOINT_ROWS: u64 = 100;

/// The audit log of a workspace.
pub struct Audit {
    bus: Bus,
    store: Store,
    metrics: Arc<Metrics>,
    head: Mutex<Option<Head>>,
    refusals: Lock<Refusals>,
    late: Lock<Late>,
    walk: Mutex<Walk>,
    verified_to: AtomicU64,
    /// True once the store has what the bus had when this hub started, but for what it had lost long ago.
    copied: watch::Sender<bool>,
    settled: Settled,
}

/// The end of the log.
#[derive(Clone, Copy)]
struct Head {
    /// Number of the last row.
    n: u64,
    /// Its hash.
    hash: AuditHash,
    /// Sequence in the stream of the last that stands there, row or not.
    seq: u64,
    /// Rows that no checkpoint covers yet; at least so many.
    open: u64,
}

/// An intent that is on the bus.
#[must_use = "an intent without an outcome is an action nobody knows the end of"]
pub struct Intent {
    deed: Deed,
    action_id: String,
}

impl Intent {
    /// Binds intent and outcome together, and names the deed.
    pub fn action_id(&self) -> &str {
        &self.action_id
    }
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
        let (head, refusals, walk) = (Mutex::new(None), Lock::default(), Mutex::default());
        Arc::new(Self {
            bus,
            store,
            metrics,
            head,
            refusals,
            late: Lock::default(),
            walk,
            verified_to: AtomicU64::new(0),
            copied: watch::Sender::new(false),
            settled: Settled::default(),
        })
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

    /// Writes down what became of it; if the bus is away, once it is back (`concludedAt` then says when it was).
    pub async fn conclude(&self, intent: Intent, result: DeedResult) {
        let Err(error) = self.append(&intent, AuditPhase::Outcome, result.clone()).await else { return };
        let action_id = &intent.action_id;
        tracing::warn!(%error, action_id, "the outcome of an action comes into the audit log once the bus is back");
        let late = result.with("concludedAt", clock::now().to_string());
        if let Some(intent) = self.late().keep(intent, late) {
            self.metrics.outcomes_lost.inc();
            let action_id = intent.action_id;
            tracing::error!(
                action_id,
                "too many wait for the bus: an action stays without an outcome in the audit log"
            );
        }
    }

    /// Writes down the outcomes that came while the bus was away. The log has been gone through to its end before.
    async fn conclude_late(&self) -> Result<(), AuditError> {
        loop {
            let Some((intent, result)) = self.late().next() else { return Ok(()) };
            if let Err(error) = self.append(&intent, AuditPhase::Outcome, result.clone()).await {
                self.late().put_back(intent, result);
                return Err(error);
            }
        }
    }

    fn late(&self) -> MutexGuard<'_, Late> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
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
            prev: None,
            hash: None,
        };
        let subject = Subject::Audit(self.workspace().clone()).to_string();
        let id = format!("{}.{}", row.action_id, row.phase);
        let mut head = self.head.lock().await;
        let mut tries = 0;
        let line = loop {
            let last = match *head {
                Some(last) => last,
                None => self.read_head(&subject).await?,
            };
            row.n = last.n + 1;
            tries += 1;
            let line = AuditLine::behind(last.hash, row.clone());
            let payload = encode(&line.row)?;
            let behind = Behind::own(last.seq);
            match self.bus.publish_behind(StreamName::Audit, subject.clone(), &id, payload, behind, None).await {
                Ok(put) if put.was_there => {
                    // Sent before, and only the answer was lost: it stands where it stands.
                    *head = None;
                    return Ok(());
                }
                Ok(put) => {
                    *head = Some(Head { n: row.n, hash: line.hash, seq: put.seq, open: last.open + 1 });
                    break line;
                }
                Err(BusError::Conflict { .. }) if tries < TRIES => *head = None,
                Err(error) => {
                    // Whether it is stored is not known: the next row reads the head again.
                    *head = None;
                    return Err(error.into());
                }
            }
        };
        if head.is_some_and(|head| head.open >= CHECKPOINT_ROWS)
            && let Err(error) = self.sign(&mut head).await
        {
            tracing::warn!(%error, "a checkpoint of the audit log will come later");
        }
        drop(head);
        self.settled.take(&line.row);
        // The bus has it: a copy that fails now is made by the follower.
        if let Err(error) = self.store.add_audit(&[line], None).await {
            tracing::warn!(%error, "the copy of an audit row will come later");
        }
        Ok(())
    }

    /// At an orderly end nothing stays unwritten or unsigned.
    ///
    /// # Errors
    /// [`AuditError`].
    pub async fn end(&self) -> Result<(), AuditError> {
        if let Err(error) = self.conclude_late().await {
            let actions = self.late().len();
            tracing::error!(%error, actions, "the bus is away: actions stay without an outcome in the audit log");
        }
        self.sign_end().await
    }

    /// Signs the last row, if no checkpoint covers it yet.
    async fn sign_end(&self) -> Result<(), AuditError> {
        let mut head = self.head.lock().await;
        if head.is_none() {
            *head = Some(self.read_head(&self.subject()).await?);
        }
        if head.is_some_and(|head| head.open > 0) { self.sign(&mut head).await.map(drop) } else { Ok(()) }
    }

    /// A checkpoint of the last row, on the bus and at hand; none if there is no row.
    ///
    /// # Errors
    /// [`AuditError`].
    pub async fn checkpoint(&self) -> Result<Option<CheckpointLine>, AuditError> {
        let mut head = self.head.lock().await;
        if head.is_none() {
            *head = Some(self.read_head(&self.subject()).await?);
        }
        self.sign(&mut head).await
    }

    /// What was decided on messages that did not get there.
    pub fn settled(&self) -> &Settled {
        &self.settled
    }

    /// The last row up to which this hub has checked the log since it started: chain whole, and the same in the store.
    pub fn verified_to(&self) -> u64 {
        self.verified_to.load(Ordering::Acquire)
    }

    /// Waits until the newest rows of the bus are in the store, once per start.
    pub async fn wait_copied(&self) {
        // The sender is our own: it does not go away meanwhile.
        let _ = self.copied.subscribe().wait_for(|copied| *copied).await;
    }

    fn subject(&self) -> String {
        Subject::Audit(self.workspace().clone()).to_string()
    }

    async fn sign(&self, head: &mut Option<Head>) -> Result<Option<CheckpointLine>, AuditError> {
        let Some(last) = (*head).filter(|head| head.n > 0) else { return Ok(None) };
        let checkpoint = Checkpoint {
            checkpoint: last.n,
            workspace: self.workspace().clone(),
            hash: last.hash.to_string(),
            timestamp: clock::now(),
            key: String::new(),
            signature: String::new(),
        };
        let line = self.bus.sign_checkpoint(checkpoint)?;
        let (id, payload) = (format!("checkpoint.{}", last.n), encode(&line.checkpoint)?);
        let behind = Behind::own(last.seq);
        match self.bus.publish_behind(StreamName::Audit, self.subject(), &id, payload, behind, None).await {
            // One of the same row may be there already; then its own sequence is told.
            Ok(put) => *head = Some(Head { seq: put.seq.max(last.seq), open: 0, ..last }),
            Err(error) => {
                *head = None;
                return Err(error.into());
            }
        }
        Ok(Some(line))
    }

    /// The last row that can be read, and the sequence to write behind. What is neither a row nor a checkpoint lies
    /// between two of them at most; it is set aside by the follower. Where the bus has lost all, the store knows how
    /// far the log had come: numbers are never given twice.
    async fn read_head(&self, subject: &str) -> Result<Head, AuditError> {
        let last = self.bus.last_of(StreamName::Audit, subject).await?;
        let seq = last.as_ref().map_or(0, |last| last.seq);
        let (mut stored, mut signed) = (last, 0);
        for before in (0..seq).rev() {
            if let Some(stored) = stored {
                match AuditEntry::from_payload(&stored.payload, stored.schema.as_deref()) {
                    Ok(AuditEntry::Row(line)) => {
                        let open = u64::from(signed < line.row.n);
                        return Ok(Head { n: line.row.n, hash: line.hash, seq, open });
                    }
                    Ok(AuditEntry::Checkpoint(line)) => signed = signed.max(line.checkpoint.checkpoint),
                    Err(_) => {}
                }
            }
            stored = self.bus.message_at(StreamName::Audit, before).await?;
        }
        let n = self.store.last_audit(self.workspace()).await?;
        let kept = self.store.audit_texts(self.workspace(), n, n).await?.pop();
        let hash = match kept.and_then(|(_, text)| AuditEntry::from_json(&text).ok()) {
            Some(AuditEntry::Row(line)) => line.hash,
            Some(AuditEntry::Checkpoint(_)) | None => GENESIS,
        };
        Ok(Head { n, hash, seq, open: u64::from(n > 0) })
    }
}
