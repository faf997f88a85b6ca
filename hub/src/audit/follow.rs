//! Going through the log as it stands on the bus: at every start, and then as it grows.
//!
//! ```text
//! row 1 ──── 2. what is past, in pauses ────► a checkpoint that holds ──── 1. at once ────► the end, as it grows
//! ```
//!
//! Laws:
//! 1. Every row is checked against the one before it, and against its copy in the store. A copy that is not there is
//!    made. A copy that differs stays as it is, since it is evidence; it is told.
//! 2. A start waits for no more than what lies behind the last checkpoint that holds ([`begin`](super::begin)). What
//!    lies before it is gone through behind that, at every start, and nothing is left out. Where no checkpoint holds,
//!    as with a store of yesterday, all of it is gone through at once.
//! 3. What is wrong is told once per start, with its row: in the hub's own log, as a metric, and in the audit log.
//! 4. `verified_to` does not go past the first row that is wrong, nor past one that is still to be gone through.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bus_schema::{AuditEntry, AuditFault, AuditHash, AuditLine, ChainCheck, FaultKind};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Audit, AuditError, Deed, DeedResult};
use crate::bus::{RangeReader, Stored, StreamName};
use crate::ingest::set_aside;
use crate::metrics::Of;

/// How often the bus is asked for new rows.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);
/// Rows gone through at once.
pub(super) const BATCH: usize = 500;
/// Pause between two batches of what is past: whoever waits for the hub goes first.
const PAST_PAUSE: Duration = Duration::from_millis(50);
/// A checkpoint is signed at least so often, if there are new rows.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(300);

/// How far the log has been gone through.
#[derive(Default)]
pub(super) struct Walk {
    /// Which stream it is: another time is another stream.
    created: String,
    recent: Part,
    /// What lies before the begin of the recent part, until it is done.
    past: Option<Past>,
}

struct Past {
    part: Part,
    /// The row behind which the recent part begins.
    joint: (u64, AuditHash),
}

/// A part of the log, from its begin on.
#[derive(Default)]
struct Part {
    /// Last sequence gone through.
    seq: u64,
    /// Where it ends; none: it grows.
    to: Option<u64>,
    chain: ChainCheck,
    /// The first that was wrong.
    fault: Option<AuditFault>,
    /// The last row before that.
    verified: u64,
    /// Rows whose copies had to be made.
    healed: u64,
    /// True once the end was reached.
    whole: bool,
}

impl Walk {
    /// From the first row on.
    pub(super) fn whole(created: String) -> Self {
        Self { created, ..Self::default() }
    }

    /// From behind a row at once, which has that sequence; then what is before it.
    pub(super) fn behind(created: String, seq: u64, joint: (u64, AuditHash)) -> Self {
        let (n, hash) = joint;
        let recent = Part { seq, chain: ChainCheck::behind(n, hash), verified: n, ..Part::default() };
        let past = Past { part: Part { to: Some(seq), ..Part::default() }, joint };
        Self { created, recent, past: Some(past) }
    }

    fn verified(&self) -> u64 {
        self.past.as_ref().map_or(&self.recent, |past| &past.part).verified
    }
}

impl Audit {
    /// Goes through the log until it is stopped or something breaks; run again, it goes on.
    ///
    /// # Errors
    /// [`AuditError`].
    pub async fn follow(&self, stop: &CancellationToken) -> Result<(), AuditError> {
        let mut walk = self.walk.lock().await;
        let bounds = self.bus.bounds(StreamName::Audit).await?;
        // Copies up to here are those of earlier runs: one that is not there was lost.
        let had = self.store.last_audit(self.workspace()).await?;
        if walk.created != bounds.created {
            *walk = self.begin(bounds).await?;
        }
        let reader = |part: &Part| {
            self.bus.range(StreamName::Audit, part.seq + 1, part.to.unwrap_or(u64::MAX), vec![self.subject()])
        };
        let mut recent = reader(&walk.recent);
        let mut past = walk.past.as_ref().map(|past| reader(&past.part));
        let mut sign_at = Instant::now() + CHECKPOINT_EVERY;
        loop {
            if self.step(&mut walk.recent, &mut recent, had).await? {
                self.verified_to.store(walk.verified(), Ordering::Release);
                continue;
            }
            if !walk.recent.whole {
                walk.recent.whole = true;
                self.copied.send_replace(true);
                self.tell(&walk.recent).await?;
                self.tell_lost(&walk.recent, had).await?;
            }
            self.conclude_late().await?;
            if Instant::now() >= sign_at {
                sign_at = Instant::now() + CHECKPOINT_EVERY;
                self.sign_end().await?;
            }
            let pause = match (&mut walk.past, &mut past) {
                (Some(past), Some(reader)) => {
                    if !self.step(&mut past.part, reader, had).await? {
                        self.join(&mut walk).await?;
                    }
                    PAST_PAUSE
                }
                _ => FOLLOW_EVERY,
            };
            self.verified_to.store(walk.verified(), Ordering::Release);
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Goes one batch on; false at the end.
    async fn step(&self, part: &mut Part, reader: &mut RangeReader, had: u64) -> Result<bool, AuditError> {
        let batch = reader.next_batch(BATCH).await?;
        let Some(last) = batch.last() else { return Ok(false) };
        self.take(part, &batch, had).await?;
        part.seq = last.seq;
        Ok(true)
    }

    async fn take(&self, part: &mut Part, batch: &[Stored], had: u64) -> Result<(), AuditError> {
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
            self.late().take(&line.row);
            if let Some(fault) = part.chain.next(&line) {
                self.found(part, fault);
            }
            match copies.get(&n) {
                Some(text) if *text == line.text => {}
                Some(_) => {
                    let detail = "is another one in the store".to_owned();
                    self.found(part, AuditFault { kind: FaultKind::Differs, row: n, to: n, detail });
                }
                None => {
                    part.healed += u64::from(n <= had);
                    missing.push(line);
                }
            }
            if part.fault.is_none() {
                part.verified = n;
            }
        }
        if !missing.is_empty() {
            self.store.add_audit(&missing, None).await?;
        }
        Ok(())
    }

    fn found(&self, part: &mut Part, fault: AuditFault) {
        let of = match fault.kind {
            FaultKind::Missing => "missing",
            FaultKind::Differs => "differs",
            FaultKind::Altered => "altered",
            _ => "broken",
        };
        self.metrics.audit_faults.get_or_create(&Of { of }).inc();
        tracing::error!(row = fault.row, to = fault.to, kind = %fault.kind, detail = fault.detail,
            "the audit log is not whole: mosaic audit verify tells more");
        part.fault.get_or_insert(fault);
    }

    /// What is past is done: from here on there is one part.
    async fn join(&self, walk: &mut Walk) -> Result<(), AuditError> {
        let Some(Past { part, joint: (n, hash) }) = &mut walk.past else { return Ok(()) };
        if part.fault.is_none() && part.chain.last() != Some((*n, *hash)) {
            let detail = "is not what it was when the hub started".to_owned();
            self.found(part, AuditFault { kind: FaultKind::Broken, row: *n, to: *n, detail });
        }
        self.tell(part).await?;
        let Some(Past { part, .. }) = walk.past.take() else { return Ok(()) };
        if let Some(fault) = part.fault {
            walk.recent.verified = part.verified;
            walk.recent.fault.get_or_insert(fault);
        }
        Ok(())
    }

    /// The end of a part was reached: what was found on the way.
    async fn tell(&self, part: &Part) -> Result<(), AuditError> {
        let last = part.chain.last().map_or(0, |(n, _)| n);
        tracing::info!(
            to = last,
            verified_to = part.verified,
            past = part.to.is_some(),
            "the audit log was gone through"
        );
        if part.healed > 0 {
            tracing::warn!(rows = part.healed, "the store had lost rows of the audit log; they are back from the bus");
            let deed = Deed::by_hub("auditHealed").with("rows", part.healed);
            self.note(deed, DeedResult::ok()).await?;
        }
        if let Some(fault) = &part.fault {
            let detail = format!("row {} {}", fault.row, fault.detail);
            let deed = Deed::by_hub("auditFault").with("row", fault.row).with("kind", fault.kind.as_str());
            self.note(deed, DeedResult::not("failed", detail)).await?;
        }
        Ok(())
    }

    /// The store has rows that the bus has no more.
    async fn tell_lost(&self, recent: &Part, had: u64) -> Result<(), AuditError> {
        let last = recent.chain.last().map_or(0, |(n, _)| n);
        if had > last {
            tracing::error!(in_store = had, on_bus = last, "the bus has lost rows of the audit log that the store has");
            let deed = Deed::by_hub("auditFault").with("row", last + 1).with("kind", FaultKind::Missing.as_str());
            self.note(deed, DeedResult::not("failed", format!("the bus ends at row {last}, the store at {had}")))
                .await?;
        }
        Ok(())
    }
}
