//! Where a hub that starts begins to go through the log: behind the last row that a checkpoint of its own key covers
//! and that bus and store have as it was signed. So a start costs the same, however long the log is.
//!
//! Laws:
//! 1. A checkpoint of another key, also of one that was changed, is none here: then all of it is gone through at once.
//! 2. What lies before it is not taken for whole: it is gone through afterwards ([`follow`](super::follow)).

use std::collections::HashMap;

use bus_schema::{AuditEntry, AuditHash, AuditLine, CheckpointLine, WorkspaceId};

use super::follow::{BATCH, Walk};
use super::{Audit, AuditError};
use crate::bus::{StreamBounds, StreamName};

/// How far back a checkpoint is looked for, in rows and checkpoints. There is one behind every 100 rows. A log that is
/// no longer than this is gone through at once.
const LOOK_BACK: u64 = 1_000;

impl Audit {
    /// Where to begin in the stream as it stands.
    pub(super) async fn begin(&self, bounds: StreamBounds) -> Result<Walk, AuditError> {
        let StreamBounds { created, last, .. } = bounds;
        if last <= LOOK_BACK {
            return Ok(Walk::whole(created));
        }
        let mut reader = self.bus.range(StreamName::Audit, last - LOOK_BACK + 1, last, vec![self.subject()]);
        let mut entries = vec![];
        loop {
            let batch = reader.next_batch(BATCH).await?;
            if batch.is_empty() {
                break;
            }
            let read = batch.iter().map(|m| (m.seq, AuditEntry::from_payload(&m.payload, m.schema.as_deref())));
            // What cannot be read is told by the walk.
            entries.extend(read.filter_map(|(seq, entry)| Some((seq, entry.ok()?))));
        }
        let numbers = rows(&entries).map(|(_, line)| line.row.n);
        let (from, to) = numbers.fold((u64::MAX, 0), |(from, to), n| (from.min(n), to.max(n)));
        let copies = self.store.audit_texts(self.workspace(), from.max(to.saturating_sub(LOOK_BACK)), to).await?;
        let copies = copies.into_iter().collect();
        let is_ours = |line: &CheckpointLine| self.bus.is_signed_here(line);
        Ok(match begin(self.workspace(), &entries, &copies, is_ours) {
            Some((seq, n, hash)) => {
                tracing::info!(
                    row = n,
                    "the audit log is gone through from its last checkpoint, and then what is before it"
                );
                Walk::behind(created, seq, (n, hash))
            }
            None => Walk::whole(created),
        })
    }
}

fn rows(entries: &[(u64, AuditEntry)]) -> impl Iterator<Item = (u64, &AuditLine)> {
    entries.iter().filter_map(|(seq, entry)| match entry {
        AuditEntry::Row(line) => Some((*seq, &**line)),
        AuditEntry::Checkpoint(_) => None,
    })
}

/// Sequence, number and hash of the row to begin behind; none if no checkpoint holds.
fn begin(
    workspace: &WorkspaceId,
    entries: &[(u64, AuditEntry)],
    copies: &HashMap<u64, String>,
    is_ours: impl Fn(&CheckpointLine) -> bool,
) -> Option<(u64, u64, AuditHash)> {
    let rows: HashMap<u64, (u64, &AuditLine)> = rows(entries).map(|(seq, line)| (line.row.n, (seq, line))).collect();
    entries.iter().rev().find_map(|(_, entry)| {
        let AuditEntry::Checkpoint(signed) = entry else { return None };
        let n = signed.checkpoint.checkpoint;
        let (seq, line) = rows.get(&n)?;
        let is_it = signed.checkpoint.workspace == *workspace
            && signed.checkpoint.hash == line.hash.to_string()
            && line.row.hash.as_ref() == Some(&signed.checkpoint.hash)
            && copies.get(&n) == Some(&line.text);
        (is_it && is_ours(signed)).then_some((*seq, n, line.hash))
    })
}

#[cfg(test)]
mod tests {
    use bus_schema::{Checkpoint, GENESIS, Timestamp};

    use super::*;

    fn workspace() -> WorkspaceId {
        WorkspaceId::new("default").unwrap()
    }

    fn log(rows: u64) -> Vec<AuditLine> {
        let (mut lines, mut prev): (Vec<AuditLine>, _) = (vec![], GENESIS);
        for n in 1..=rows {
            let row = serde_json::json!({
                "n": n, "workspace": "default", "timestamp": "2026-11-22T20:00:00Z", "actionId": format!("a{n}"),
                "phase": "outcome", "action": "kill", "user": {"name": "Ada"}, "result": "ok",
            });
            let line = AuditLine::behind(prev, serde_json::from_value(row).unwrap());
            prev = line.hash;
            lines.push(line);
        }
        lines
    }

    fn signed(line: &AuditLine, by: &str) -> AuditEntry {
        let checkpoint = Checkpoint {
            checkpoint: line.row.n,
            workspace: workspace(),
            hash: line.hash.to_string(),
            timestamp: Timestamp::from_millis(0),
            key: by.into(),
            signature: String::new(),
        };
        let made = CheckpointLine::signed(checkpoint, |_| Ok::<_, ()>(String::new())).unwrap();
        AuditEntry::Checkpoint(Box::new(made))
    }

    /// Rows with their sequences, and the checkpoints behind them.
    fn stream(lines: &[AuditLine], checkpoints: &[AuditEntry]) -> Vec<(u64, AuditEntry)> {
        let rows = lines.iter().map(|line| AuditEntry::Row(Box::new(line.clone())));
        (1..).zip(rows.chain(checkpoints.iter().cloned())).collect()
    }

    fn copies(lines: &[AuditLine]) -> HashMap<u64, String> {
        lines.iter().map(|line| (line.row.n, line.text.clone())).collect()
    }

    fn found(entries: &[(u64, AuditEntry)], copies: &HashMap<u64, String>) -> Option<u64> {
        begin(&workspace(), entries, copies, |line| line.checkpoint.key == "ours").map(|(_, n, _)| n)
    }

    #[test]
    fn it_begins_behind_the_last_checkpoint_that_holds() {
        let lines = log(5);
        let (two, four) = (signed(&lines[1], "ours"), signed(&lines[3], "ours"));
        let all = stream(&lines, &[two.clone(), four.clone()]);
        assert_eq!(found(&all, &copies(&lines)), Some(4));
        assert_eq!(found(&stream(&lines, &[]), &copies(&lines)), None, "no checkpoint");
        assert_eq!(found(&stream(&lines, &[signed(&lines[4], "theirs")]), &copies(&lines)), None, "another key");
        assert_eq!(found(&all, &copies(&lines[..3])), Some(2), "a store of yesterday");
        let mut other = copies(&lines);
        other.insert(4, lines[3].text.replace("Ada", "Eve"));
        assert_eq!(found(&all, &other), Some(2), "another one in the store");
        assert_eq!(found(&all[1..], &HashMap::new()), None, "an empty store");
    }

    #[test]
    fn a_row_that_is_not_what_was_signed_is_no_begin() {
        let mut lines = log(4);
        let four = signed(&lines[3], "ours");
        // Changed, with its old hash; and with everything behind it computed anew.
        lines[3].row.user.name = "Eve".into();
        let value = serde_json::to_string(&lines[3].row).unwrap();
        let Ok(AuditEntry::Row(line)) = AuditEntry::from_json(&value) else { unreachable!() };
        lines[3] = *line;
        assert_eq!(found(&stream(&lines, std::slice::from_ref(&four)), &copies(&lines)), None);
        lines[3] = AuditLine::behind(lines[2].hash, lines[3].row.clone());
        assert_eq!(found(&stream(&lines, &[four]), &copies(&lines)), None);
    }
}
