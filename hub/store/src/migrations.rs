//! Tables, brought up step by step.
//!
//! Laws: numbered, forward only, each safe to run twice; a store with a higher number than ours is not touched.

use crate::db::Store;
use crate::error::StoreError;
use crate::value::{Reader, Row, id1, number, row};

/// Every step, in order. The last number is this program's schema.
const STEPS: &[(i64, &str)] = &[
    (1, include_str!("migrations/0001-first.surql")),
    (2, include_str!("migrations/0002-agent-providers.surql")),
    (3, include_str!("migrations/0003-people.surql")),
    (4, include_str!("migrations/0004-retention.surql")),
    (5, include_str!("migrations/0005-control.surql")),
];

/// Brings the store at `place` up to this program's schema.
pub(crate) async fn run(store: &Store, place: &str) -> Result<(), StoreError> {
    let define = "DEFINE TABLE IF NOT EXISTS migration SCHEMAFULL TYPE NORMAL; \
                  DEFINE FIELD IF NOT EXISTS version ON migration TYPE int;";
    store.write("defining the table of migrations", define, Row::new()).await?;
    let sql = "SELECT version FROM migration ORDER BY version";
    let rows = store.read("reading the schema of the store", sql, Row::new()).await?;
    let mut theirs = 0;
    for row in rows.into_iter().flatten() {
        theirs = theirs.max(i64::try_from(Reader::new("migration", row).number("version")?).unwrap_or(i64::MAX));
    }
    let ours = STEPS.last().map_or(0, |(version, _)| *version);
    if theirs > ours {
        return Err(StoreError::NewerSchema { place: place.to_owned(), theirs, ours });
    }
    for (version, sql) in STEPS.iter().filter(|(version, _)| *version > theirs) {
        tracing::info!(version, "bringing the store to a newer schema");
        store.write("changing the tables of the store", sql, Row::new()).await?;
        let vars = row([("row", id1("migration", &version.to_string())), ("v", number(version.unsigned_abs()))]);
        store.write("noting the schema of the store", "UPSERT $row SET version = $v RETURN NONE", vars).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{StoreConfig, StoreLocation};

    #[tokio::test]
    async fn every_step_may_be_taken_twice_and_changes_no_row() {
        let store = Store::open(&StoreConfig::new(StoreLocation::Memory)).await.unwrap().store;
        let kept = "CREATE agent_provider:['default', 'a'] SET workspace = 'default', record = { id: 'a' }, \
                    rev = 3, deleted = false";
        store.write("keeping a row", kept, Row::new()).await.unwrap();
        let steps: Vec<u64> = STEPS.iter().map(|(version, _)| version.unsigned_abs()).collect();
        let last = format!("DELETE migration:`{}`", steps.last().unwrap());
        for forgotten in [last.as_str(), "DELETE migration"] {
            store.write("forgetting steps", forgotten, Row::new()).await.unwrap();
            run(&store, "memory").await.unwrap();
            let read = "SELECT version FROM migration ORDER BY version; SELECT rev FROM agent_provider";
            let found = store.read("looking", read, Row::new()).await.unwrap();
            let versions = |row: &Row| Reader::new("migration", row.clone()).number("version").unwrap();
            assert_eq!(found[0].iter().map(versions).collect::<Vec<_>>(), steps, "{forgotten}");
            assert_eq!(Reader::new("agent_provider", found[1][0].clone()).number("rev").unwrap(), 3);
        }
    }
}
