//! What the embedded SurrealDB reaches by itself: the same rows in the same batches as ingestion writes, with nothing
//! around them. The baseline of `cargo xtask bench`.
//!
//! usage: `alone MESSAGES BATCH FOLDER`; prints messages per second, a number and no more.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for one number")]

use surrealdb::Surreal;
use surrealdb::engine::local::Db;
use surrealdb::types::{Array, Object, RecordId, RecordIdKey, SurrealValue, Value};
use surrealdb_cnf::ConfigMap;
use surrealdb_engine_local::Datastore;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(10 << 20).build().unwrap();
    runtime.block_on(run());
}

async fn run() {
    let arguments: Vec<String> = std::env::args().collect();
    let (messages, batch): (u64, u64) = (arguments[1].parse().unwrap(), arguments[2].parse().unwrap());
    let map = ConfigMap::empty()
        .with_key_value("surrealkv_max_memtable_size", (16 * 1024 * 1024).to_string())
        .with_key_value("surrealkv_block_cache_capacity", (64 * 1024 * 1024).to_string());
    let (notify, notified) = surrealdb::channel::bounded(16);
    let builder = Datastore::builder().with_config(map).with_auth(false).with_notify(notify);
    let url = format!("surrealkv://{}", arguments[3]);
    let datastore = builder.without_maintenance_tasks().build_with_path(&url).await.unwrap();
    datastore.check_version().await.unwrap();
    datastore.bootstrap().await.unwrap();
    datastore.start_maintenance_tasks();
    let db = Surreal::<Db>::unstable_from_datastore(datastore.clone(), Some(notified)).await.unwrap();
    db.use_ns("mosaic").use_db("mosaic").await.unwrap();
    db.query("DEFINE TABLE message SCHEMALESS TYPE NORMAL").await.unwrap().check().unwrap();
    let begun = std::time::Instant::now();
    for first in (1..=messages).step_by(usize::try_from(batch).unwrap()) {
        let rows: Vec<Value> = (first..(first + batch).min(messages + 1)).map(row).collect();
        let mut vars = Object::new();
        vars.insert("rows", Value::Array(Array::from(rows)));
        db.query("INSERT IGNORE INTO message $rows RETURN NONE").bind(vars).await.unwrap().check().unwrap();
    }
    println!("{:.0}", messages as f64 / begun.elapsed().as_secs_f64());
    drop(db);
    datastore.shutdown().await.unwrap();
}

/// A message of about 300 bytes, as `apply_messages` would write it.
fn row(seq: u64) -> Value {
    let seq = i64::try_from(seq).unwrap();
    let key = Array::from(vec![Value::String("01JD8Z2V9Q0000000000000001".into()), seq.into_value()]);
    let mut row = Object::new();
    row.insert("id", Value::RecordId(RecordId::new("message", RecordIdKey::Array(key))));
    row.insert("messageId", format!("01JD8Z2V9Q0000000000000001-{seq}"));
    row.insert("role", "agent".to_owned());
    row.insert("kind", "text".to_owned());
    row.insert("content", format!("{seq:>200}"));
    row.insert("at", 1_795_380_000_000_i64);
    row.insert("stream_seq", seq);
    Value::Object(row)
}
