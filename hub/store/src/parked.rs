//! Reading what could not be read.

use bus_schema::WorkspaceId;
use surrealdb::types::Value;

use crate::db::Store;
use crate::error::StoreError;
use crate::ingest::ParkedRow;
use crate::value::{Reader, number, row, text};

impl Store {
    /// Payloads of a workspace that could not be decoded, the newest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn parked(&self, workspace: &WorkspaceId, limit: u64) -> Result<Vec<ParkedRow>, StoreError> {
        let sql = "SELECT * OMIT id FROM parked WHERE workspace = $w ORDER BY at DESC LIMIT $limit";
        let vars = row([("w", text(workspace.as_str())), ("limit", number(limit))]);
        let rows = self.read("reading parked payloads", sql, vars).await?;
        let parked = rows.into_iter().flatten().map(|mut r| {
            let payload = match r.remove("payload") {
                Some(Value::Bytes(bytes)) => bytes.to_vec(),
                _ => vec![],
            };
            let mut reader = Reader::new("parked", r);
            Ok(ParkedRow {
                workspace: workspace.clone(),
                stream: reader.text("stream")?,
                seq: reader.number("seq")?,
                subject: reader.text("subject")?,
                reason: reader.text("reason")?,
                size: reader.number("size")?,
                payload,
                at: reader.time("at")?,
            })
        });
        parked.collect()
    }
}
