//! Going through the log as it stands on the bus: from its first row at every start, and then as it grows.
//!
//! Laws:
//! 1. Every row is checked against the one before it, and against its copy in the store. A copy that is not there is
//!    made: a store of yesterday is complete again when the hub is ready. A copy that differs stays as it is, since it
//!    is evidence; it is told.
//! 2. What is wrong is told once per start, with its row: in the hub's own log, as a metric, and in the audit log.
//! 3. `verified_to` does not go past the first row that is wrong.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bus_schema::{AuditEntry, AuditFault, AuditLine, ChainCheck, FaultKind};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Audit, AuditError, Deed, DeedResult};
use crate::bus::{Stored, StreamName};
use crate::ingest::set_aside;
use crate::metrics::Of;

/// How often the bus is asked for new rows.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);
/// Rows gone through at once.
const BATCH: usize = 500;
/// A checkpoint is signed at least so often, if there are new rows.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(300);

/// How far the log has been gone through.
#[derive(Default)]
pub(super) struct Walk {
    /// Which stream it is: another time is another stream.
    created: String,
    /// Last sequence gone through.
    seq: u64,
    chain: ChainCheck,
    /// The first that was wrong.
    fault: Option<AuditFault>,
    /// Rows whose copies had to be made.
    healed: u64,
    /// True once the end was reached.
    whole: bool,
}

impl Audit {
    /// Goes through the log until it is stopped or something breaks; run again, it goes on.
    ///
    /// # Errors
    /// [`AuditError`].
    pub async fn follow(&self, stop: &CancellationToken) -> Result<(), AuditError> {
        let mut walk = self.walk.lock().await;
        let bounds = self.bus.bounds(StreamName::Audit).await?;
        if walk.created != bounds.created {
            *walk = Walk { created: bounds.created.clone(), ..Walk::default() };
        }
        // Copies up to here are those of earlier runs: one that is not there was lost.
        let had = self.store.last_audit(self.workspace()).await?;
        let mut reader = self.bus.range(StreamName::Audit, walk.seq + 1, u64::MAX, vec![self.subject()]);
        let mut sign_at = Instant::now() + CHECKPOINT_EVERY;
        loop {
            let batch = reader.next_batch(BATCH).await?;
            if let Some(last) = batch.last() {
                let seq = last.seq;
                self.take(&mut walk, &batch, had).await?;
                walk.seq = seq;
                continue;
            }
            if !walk.whole {
                walk.whole = true;
                self.tell(&walk, had).await?;
            }
            if Instant::now() >= sign_at {
                sign_at = Instant::now() + CHECKPOINT_EVERY;
                self.sign_end().await?;
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(FOLLOW_EVERY) => {}
            }
        }
    }

    async fn take(&self, walk: &mut Walk, batch: &[Stored], had: u64) -> Result<(), AuditError> {
        let (mut lines, mut parked): (Vec<AuditLine>, _) = (vec![], vec![]);
        for stored in batch {
            match AuditEntry::from_payload(&stored.payload, stored.schema.as_deref()) {
                Ok(AuditEntry::Row(line)) => lines.push(*line),
                Ok(AuditEntry::Checkpoint(_)) => {}
                Err(error) => {
                    tracing::error!(%error, seq = stored.seq, "what is in the audit stream is no row of ours");
                    self.metrics.parked.get_or_create(&Of { of: "audit" }).inc();
                    parked.push(set_aside(self.workspace(), StreamName::Audit, stored, &error));
                }
            }
        }
        self.store.park(&parked).await?;
        let numbers = || lines.iter().map(|line| line.row.n);
        let (Some(from), Some(to)) = (numbers().min(), numbers().max()) else { return Ok(()) };
        let copies = self.store.audit_texts(self.workspace(), from, to.min(from + 2 * BATCH as u64)).await?;
        let copies: HashMap<u64, String> = copies.into_iter().collect();
        let mut missing = vec![];
        for line in lines {
            let n = line.row.n;
            self.settled.take(&line.row);
            if let Some(fault) = walk.chain.next(&line) {
                self.found(walk, fault);
            }
            match copies.get(&n) {
                Some(text) if *text == line.text => {}
                Some(_) => {
                    let detail = "is another one in the store".to_owned();
                    self.found(walk, AuditFault { kind: FaultKind::Differs, row: n, to: n, detail });
                }
                None => {
                    walk.healed += u64::from(n <= had);
                    missing.push(line);
                }
            }
            if walk.fault.is_none() {
                self.verified_to.store(n, Ordering::Release);
            }
        }
        if !missing.is_empty() {
            self.store.add_audit(&missing, None).await?;
        }
        Ok(())
    }

    fn found(&self, walk: &mut Walk, fault: AuditFault) {
        let of = match fault.kind {
            FaultKind::Missing => "missing",
            FaultKind::Differs => "differs",
            FaultKind::Altered => "altered",
            _ => "broken",
        };
        self.metrics.audit_faults.get_or_create(&Of { of }).inc();
        tracing::error!(row = fault.row, to = fault.to, kind = %fault.kind, detail = fault.detail,
            "the audit log is not whole: mosaic audit verify tells more");
        walk.fault.get_or_insert(fault);
    }

    /// The end was reached for the first time: what was found on the way.
    async fn tell(&self, walk: &Walk, had: u64) -> Result<(), AuditError> {
        let last = walk.chain.last().map_or(0, |(n, _)| n);
        tracing::info!(rows = last, verified_to = self.verified_to(), "the audit log was gone through");
        if walk.healed > 0 {
            tracing::warn!(rows = walk.healed, "the store had lost rows of the audit log; they are back from the bus");
            let deed = Deed::by_hub("auditHealed").with("rows", walk.healed);
            self.note(deed, DeedResult::ok()).await?;
        }
        if let Some(fault) = &walk.fault {
            let detail = format!("row {} {}", fault.row, fault.detail);
            let deed = Deed::by_hub("auditFault").with("row", fault.row).with("kind", fault.kind.as_str());
            self.note(deed, DeedResult::not("failed", detail)).await?;
        }
        if had > last {
            tracing::error!(in_store = had, on_bus = last, "the bus has lost rows of the audit log that the store has");
            let deed = Deed::by_hub("auditFault").with("row", last + 1).with("kind", FaultKind::Missing.as_str());
            self.note(deed, DeedResult::not("failed", format!("the bus ends at row {last}, the store at {had}")))
                .await?;
        }
        Ok(())
    }
}
