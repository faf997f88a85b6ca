//! The audit log: rows are added and read, never changed. There is no other function here, and the table refuses it.

use std::collections::BTreeMap;

use bus_schema::{AuditLine, AuditRow, WorkspaceId, canonical};
use surrealdb::types::Value;

use crate::db::Store;
use crate::error::StoreError;
use crate::ingest::{Cursor, cursor_row};
use crate::value::{Reader, id_range, id1, id2, list, number, optional, row, text};

/// Largest number a key is counted down from: the largest that JavaScript holds exactly.
const DOWN_FROM: u64 = 9_007_199_254_740_991;
/// How many rows a filtered page looks through at a time.
const SCAN: u64 = 2_000;

/// Which rows of the audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// By this user.
    pub user: Option<String>,
    /// On this session.
    pub session: Option<String>,
    /// This action.
    pub action: Option<String>,
}

impl Store {
    /// Adds rows, and the position behind them. Rows that are there already stay as they are.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_audit(&self, lines: &[AuditLine], cursor: Option<&Cursor>) -> Result<(), StoreError> {
        let head = |(workspace, n): (&WorkspaceId, u64)| {
            Value::Object(row([("id", id1("audit_head", workspace.as_str())), ("n", number(n))]))
        };
        let mut heads = BTreeMap::new();
        for AuditLine { row, .. } in lines {
            let n: &mut u64 = heads.entry(&row.workspace).or_default();
            *n = row.n.max(*n);
        }
        let vars = row([
            ("rows", list(lines.iter().map(audit_row))),
            ("heads", list(heads.into_iter().map(head))),
            ("cursor", cursor_row(cursor)),
        ]);
        let sql = "BEGIN; IF array::len($rows) > 0 { INSERT IGNORE INTO audit $rows RETURN NONE; \
                   INSERT IGNORE INTO audit_head $heads RETURN NONE }; \
                   FOR $h IN $heads { UPDATE $h.id SET n = math::max([n, $h.n]) RETURN NONE }; \
                   IF $cursor != NONE { UPSERT $cursor.id CONTENT $cursor RETURN NONE }; COMMIT;";
        self.write("writing the audit log", sql, vars).await.map(drop)
    }

    /// Rows of a workspace, the newest first, those with `n` below `before`; and whether there are more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn audit(
        &self,
        workspace: &WorkspaceId,
        filter: &AuditFilter,
        before: Option<u64>,
        limit: u64,
    ) -> Result<(Vec<AuditRow>, bool), StoreError> {
        let newest = match before {
            Some(n) => n.saturating_sub(1),
            None => self.last_audit(workspace).await?,
        };
        let (mut entries, mut next) = (Vec::new(), newest);
        let wanted = limit.saturating_add(1);
        // Rows have no gaps, so a page is a range of exact ids: a limit is not pushed into a range.
        let step = if *filter == AuditFilter::default() { wanted } else { SCAN };
        while next > 0 && entries.len() as u64 <= limit {
            let oldest = next.saturating_sub(step.saturating_sub(1)).max(1);
            entries.extend(self.range(workspace, filter, oldest, next).await?);
            next = oldest - 1;
        }
        let has_more = entries.len() as u64 > limit;
        entries.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok((entries, has_more))
    }

    async fn range(
        &self,
        workspace: &WorkspaceId,
        filter: &AuditFilter,
        oldest: u64,
        newest: u64,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let sql = "SELECT entry FROM $range WHERE ($user = NONE OR user_id = $user) \
                   AND ($target = NONE OR target = $target) AND ($action = NONE OR action = $action)";
        let key = |n: u64| vec![text(workspace.as_str()), number(DOWN_FROM.saturating_sub(n))];
        let vars = row([
            ("range", id_range("audit", key(newest), key(oldest))),
            ("user", optional(filter.user.as_deref())),
            ("target", optional(filter.session.as_deref())),
            ("action", optional(filter.action.as_deref())),
        ]);
        let rows = self.read("reading the audit log", sql, vars).await?;
        rows.into_iter().flatten().map(|r| Reader::new("audit", r).document("entry")).collect()
    }

    /// Rows of a workspace with numbers from `from` to `to`, oldest first: number and text, as it stands in the store
    /// and whatever it is. A row that is not there is left out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn audit_texts(
        &self,
        workspace: &WorkspaceId,
        from: u64,
        to: u64,
    ) -> Result<Vec<(u64, String)>, StoreError> {
        let key = |n: u64| vec![text(workspace.as_str()), number(DOWN_FROM.saturating_sub(n))];
        let vars = row([("range", id_range("audit", key(to), key(from)))]);
        let rows = self.read("reading the audit log", "SELECT n, entry FROM $range", vars).await?;
        let mut texts = vec![];
        for found in rows.into_iter().flatten() {
            let entry = match found.get("entry") {
                Some(Value::String(text)) => Some(text.clone()),
                _ => None,
            };
            let mut reader = Reader::new("audit", found);
            // Rows of older versions stand there as objects.
            let entry = match entry {
                Some(text) => text,
                None => canonical(&reader.document("entry")?),
            };
            texts.push((reader.number("n")?, entry));
        }
        texts.reverse();
        Ok(texts)
    }

    /// Number of the last row of a workspace; 0 if there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn last_audit(&self, workspace: &WorkspaceId) -> Result<u64, StoreError> {
        let vars = row([("id", id1("audit_head", workspace.as_str()))]);
        let rows = self.read("reading the head of the audit log", "SELECT n FROM $id", vars).await?;
        match rows.into_iter().flatten().next() {
            Some(found) => Reader::new("audit_head", found).number("n"),
            None => Ok(0),
        }
    }
}

/// The row stands there as the text that was hashed: one more way of writing it would be one too many.
fn audit_row(line: &AuditLine) -> Value {
    let entry = &line.row;
    Value::Object(row([
        ("id", id2("audit", entry.workspace.as_str(), number(DOWN_FROM.saturating_sub(entry.n)))),
        ("n", number(entry.n)),
        ("user_id", optional(entry.user.id.as_ref().map(|u| u.as_str()))),
        ("target", optional(entry.session_id.as_ref().map(|s| s.as_str()))),
        ("action", text(&entry.action)),
        ("entry", text(&line.text)),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{StoreConfig, StoreLocation};

    #[tokio::test]
    async fn the_table_itself_refuses_to_change_or_lose_a_row() {
        let store = Store::open(&StoreConfig::new(StoreLocation::Memory)).await.unwrap().store;
        let entry = serde_json::json!({
            "n": 1, "workspace": "default", "timestamp": "2026-11-22T20:40:00.000Z", "actionId": "a", "phase": "outcome",
            "action": "kill", "user": {"name": "Ada"}, "result": "ok",
        });
        let line = AuditLine::of(serde_json::from_value(entry).unwrap());
        store.add_audit(std::slice::from_ref(&line), None).await.unwrap();
        for sql in [
            "UPDATE audit SET entry = 'nothing happened'",
            "UPDATE audit MERGE { action: 'none' }",
            "DELETE audit",
            "DELETE audit WHERE n = 1",
            "UPSERT audit:['default', 9007199254740990] SET n = 1, action = 'none', entry = 'x'",
        ] {
            let refused = store.write("tampering", sql, row([])).await;
            assert!(refused.is_err(), "{sql}");
        }
        let workspace = line.row.workspace.clone();
        assert_eq!(store.audit_texts(&workspace, 1, 1).await.unwrap(), [(1, line.text)]);
    }
}
