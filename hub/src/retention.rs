//! How long messages are kept: a number of days per workspace, and sessions that are held whatever their age.
//!
//! ```text
//! every hour, and on change ─► the stream's own age ─► sessions one by one, 1,000 messages at a time ─► told in the audit log
//! ```
//!
//! Laws:
//! 1. The audit log is never touched, neither here nor on the bus.
//! 2. A session that is held keeps its messages, until somebody who may lets it go; both are in the audit log.
//! 3. The bus keeps messages no longer than the store does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bus_schema::{SessionId, Timestamp};
use hub_store::{Hold, RecordBody, RetentionPolicy, Store, StoreError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::actions::Asker;
use crate::audit::{Audit, AuditError, Deed, DeedResult};
use crate::bus::{Bus, BusError};
use crate::clock;
use crate::journal::{Journal, JournalError};

/// Days that messages are kept, where nobody has said otherwise (R15).
pub const DEFAULT_DAYS: u64 = 30;
/// Fewest and most days.
pub const DAYS: std::ops::RangeInclusive<u64> = 1..=3_650;
/// Longest reason of a hold, in bytes.
pub const REASON_MAX: usize = 1_024;
/// How often old messages are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(3_600);
/// Pause between two transactions, so that ingestion goes on.
const BREATH: Duration = Duration::from_millis(20);
const DAY_MS: i64 = 24 * 3_600 * 1_000;

/// Keeps messages as long as it should, and no longer.
pub struct Retention {
    bus: Bus,
    store: Store,
    journal: Arc<Journal>,
    audit: Arc<Audit>,
    changed: Notify,
}

/// Retention could not be changed, or old messages not be taken away.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// What was asked is not possible.
    #[error("{0}")]
    Invalid(String),
    /// The bus.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The audit log cannot be written: nothing was changed.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

impl Retention {
    /// Of one workspace.
    pub fn new(bus: Bus, store: Store, journal: Arc<Journal>, audit: Arc<Audit>) -> Arc<Self> {
        Arc::new(Self { bus, store, journal, audit, changed: Notify::new() })
    }

    /// How many days messages are kept.
    ///
    /// # Errors
    /// [`RetentionError::Store`].
    pub async fn days(&self) -> Result<u64, RetentionError> {
        Ok(self.store.retention_days(self.bus.workspace()).await?.unwrap_or(DEFAULT_DAYS))
    }

    /// Keeps messages so many days from now on.
    ///
    /// # Errors
    /// [`RetentionError::Invalid`] outside of [`DAYS`]; the others if something is away.
    pub async fn keep(&self, asker: &Asker, days: u64) -> Result<(), RetentionError> {
        if !DAYS.contains(&days) {
            let text = format!("messageDays must be {} to {}", DAYS.start(), DAYS.end());
            return Err(RetentionError::Invalid(text));
        }
        let before = self.days().await?;
        let deed = Deed::by(asker, "setRetention").with("messageDays", days).with("before", before);
        let intent = self.audit.intend(deed).await?;
        let policy = RetentionPolicy { workspace: self.bus.workspace().clone(), message_days: days };
        let put = self.journal.put(RecordBody::Retention(policy), false).await;
        self.audit.conclude(intent, DeedResult::of(&put)).await;
        put?;
        self.changed.notify_one();
        Ok(())
    }

    /// Holds a session, or lets it go.
    ///
    /// # Errors
    /// [`RetentionError::Invalid`] for a reason that is too long, or for none; the others if something is away.
    pub async fn hold(
        &self,
        asker: &Asker,
        session: SessionId,
        on: bool,
        reason: String,
    ) -> Result<Hold, RetentionError> {
        if reason.len() > REASON_MAX || (on && reason.trim().is_empty()) {
            return Err(RetentionError::Invalid(format!("a hold needs a reason, of at most {REASON_MAX} bytes")));
        }
        let action = if on { "hold" } else { "releaseHold" };
        let deed = Deed::by(asker, action).on_session(session.clone()).with("reason", reason.as_str());
        let intent = self.audit.intend(deed).await?;
        let workspace = self.bus.workspace().clone();
        let (by, since) = (asker.principal.operator(), clock::now());
        let hold = Hold { workspace, session_id: session, reason, by, since };
        let put = self.journal.put(RecordBody::Hold(hold.clone()), !on).await;
        self.audit.conclude(intent, DeedResult::of(&put)).await;
        put?;
        Ok(hold)
    }

    /// The hold on a session, if there is one.
    ///
    /// # Errors
    /// [`RetentionError::Store`].
    pub async fn held(&self, session: &SessionId) -> Result<Option<Hold>, RetentionError> {
        Ok(self.store.hold(self.bus.workspace(), session).await?)
    }

    /// Takes away what is too old, until it is stopped or something breaks.
    ///
    /// # Errors
    /// [`RetentionError`].
    pub async fn run(&self, stop: &CancellationToken) -> Result<(), RetentionError> {
        // Holds and days are in the journal: what is not known yet must not be lost.
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = self.journal.wait_followed() => {}
        }
        loop {
            let days = self.days().await?;
            self.bus.keep_messages(days).await?;
            let before = clock::now().plus_millis(-DAY_MS.saturating_mul(i64::try_from(days).unwrap_or(i64::MAX)));
            self.sweep(before, days, stop).await?;
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.changed.notified() => {}
                () = tokio::time::sleep(SWEEP_EVERY) => {}
            }
        }
    }

    async fn sweep(&self, before: Timestamp, days: u64, stop: &CancellationToken) -> Result<(), RetentionError> {
        let workspace = self.bus.workspace();
        let (mut gone, mut touched) = (0_u64, BTreeSet::new());
        for session in self.store.sessions_with_messages(workspace, before).await? {
            // Asked anew before each batch: a hold counts from the moment it is set.
            while !stop.is_cancelled() && self.store.hold(workspace, &session).await?.is_none() {
                let forgotten = self.store.forget_messages(&session, before).await?;
                if forgotten == 0 {
                    break;
                }
                gone += forgotten;
                touched.insert(session.clone());
                tokio::time::sleep(BREATH).await;
            }
        }
        if gone > 0 {
            tracing::info!(messages = gone, sessions = touched.len(), %before, "messages were forgotten");
            let deed = Deed::by_hub("forgetMessages")
                .with("messages", gone)
                .with("sessions", touched.len())
                .with("before", before.to_string())
                .with("messageDays", days);
            self.audit.note(deed, DeedResult::ok()).await?;
        }
        Ok(())
    }
}
