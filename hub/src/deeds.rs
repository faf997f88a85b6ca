//! What was done by hand at the folder of the identity, brought into the audit log.
//!
//! ```text
//! mosaic node …: deeds/ID.json ─► this: in the log on the bus? ─► audit row ─► the file goes
//! ```
//!
//! Laws:
//! 1. Each deed is in the log once, over kills and with several hubs: who writes holds the folder's lock, and looks
//!    through the log on the bus first.
//! 2. Who did it is what the deed claims: whoever may write in that folder is the identity itself.
//! 3. What is no deed, or one that this version does not know, is set aside and told.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bus_schema::{Actor, AuditEntry, Subject};
use hub_identity::{IdentityError, WaitingDeeds, waiting_deeds};
use tokio_util::sync::CancellationToken;

use crate::audit::{Audit, AuditError, Deed, DeedResult};
use crate::bus::{Bus, BusError, StreamName};
use crate::clock;
use crate::metrics::{Metrics, Of};

/// How often the folder is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How far back a deed is looked for in the log, in rows and checkpoints: only one that a hub wrote and then broke off
/// is there.
const LOOK_BACK: u64 = 20_000;
/// Rows read at once.
const BATCH: usize = 500;
/// What can be done at the folder, in the words of the audit log.
const ACTIONS: [&str; 7] =
    ["enrolNode", "revokeNode", "renewNode", "addReader", "rotateCommandKey", "rotateSigningKey", "withdrawSigningKey"];

/// Brings deeds into the audit log.
pub struct Deeds {
    bus: Bus,
    audit: Arc<Audit>,
    metrics: Arc<Metrics>,
    dir: Option<PathBuf>,
}

/// It stopped. It is started again.
#[derive(Debug, thiserror::Error)]
pub enum DeedsError {
    /// The folder.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The bus.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The hub is ending.
    #[error("the hub is ending")]
    Ending,
}

impl Deeds {
    /// From this folder, if the hub has one, into this log.
    pub fn new(bus: Bus, audit: Arc<Audit>, metrics: Arc<Metrics>, dir: Option<PathBuf>) -> Arc<Self> {
        Arc::new(Self { bus, audit, metrics, dir })
    }

    /// Runs until it is stopped or something breaks.
    ///
    /// # Errors
    /// [`DeedsError`]; run again, it goes on.
    pub async fn run(&self, stop: &CancellationToken) -> Result<(), DeedsError> {
        loop {
            if let Some(dir) = self.dir.clone() {
                let (workspace, now) = (self.bus.workspace().clone(), clock::now());
                let looked = tokio::task::spawn_blocking(move || waiting_deeds(&dir, &workspace, now)).await;
                if let Some(waiting) = looked.map_err(|_| DeedsError::Ending)?? {
                    self.take(&waiting).await?;
                    continue;
                }
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    async fn take(&self, waiting: &WaitingDeeds) -> Result<(), DeedsError> {
        let written = self.written().await?;
        for (path, deed) in &waiting.deeds {
            let known = deed.as_ref().and_then(|deed| Some((deed, ACTIONS.iter().find(|word| **word == deed.action)?)));
            let Some((deed, action)) = known else {
                tracing::error!(path = %path.display(), "what lies among the deeds of the identity is none; set aside");
                self.metrics.parked.get_or_create(&Of { of: "deed" }).inc();
                waiting.set_aside(path)?;
                continue;
            };
            if !written.contains(&deed.id) {
                self.write(deed, action).await?;
            }
            waiting.settle(path)?;
        }
        Ok(())
    }

    async fn write(&self, deed: &hub_identity::Deed, action: &'static str) -> Result<(), DeedsError> {
        let user = Actor { id: None, name: format!("{} at the identity", deed.by), email: None, role: None };
        let mut row = Deed { node: deed.node.clone(), ..Deed::new(action, user, "") };
        for (key, value) in &deed.facts {
            row = row.with(key, value.as_str());
        }
        row = row.with("deedId", deed.id.as_str()).with("at", deed.at.to_string());
        let result = match deed.result.as_str() {
            "ok" => DeedResult::ok(),
            "pending" => DeedResult::not("unknown", "it was broken off"),
            _ => DeedResult::not("failed", deed.detail.clone().unwrap_or_default()),
        };
        Ok(self.audit.note(row, result).await?)
    }

    /// The deeds that are in the log on the bus.
    async fn written(&self) -> Result<HashSet<String>, DeedsError> {
        let bounds = self.bus.bounds(StreamName::Audit).await?;
        let from = bounds.first.max(bounds.last.saturating_sub(LOOK_BACK));
        let subject = Subject::Audit(self.bus.workspace().clone()).to_string();
        let mut reader = self.bus.range(StreamName::Audit, from, bounds.last, vec![subject]);
        let mut found = HashSet::new();
        loop {
            let batch = reader.next_batch(BATCH).await?;
            if batch.is_empty() {
                return Ok(found);
            }
            for stored in batch {
                if let Ok(AuditEntry::Row(line)) = AuditEntry::from_payload(&stored.payload, stored.schema.as_deref()) {
                    let id = line.row.metadata.get("deedId").and_then(|id| id.as_str());
                    found.extend(id.map(str::to_owned));
                }
            }
        }
    }
}
