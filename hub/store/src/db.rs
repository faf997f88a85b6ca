//! Opening, closing, and the two ways to talk to the database: `read` and `write`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use surrealdb::Surreal;
use surrealdb::engine::any::Any;
use surrealdb::engine::local::Db;
use surrealdb::types::{Object, QueryError, Value};
use surrealdb_cnf::ConfigMap;
use surrealdb_engine_local::Datastore;

use crate::config::{StoreConfig, StoreLocation};
use crate::error::StoreError;
use crate::migrations;
use crate::value::Row;

/// How often a write that meets a conflict is tried.
const CONFLICT_TRIES: u32 = 8;
/// Live queries are not used; the engine still wants a channel for them.
const NOTIFICATIONS: usize = 16;
/// Requests that may wait on a remote connection.
const REMOTE_CAPACITY: usize = 256;

/// The hub's store. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    db: Engine,
    deadline: Duration,
    marker: Option<PathBuf>,
}

enum Engine {
    Local(Surreal<Db>, Arc<Datastore>),
    Remote(Surreal<Any>),
}

/// A store that was opened.
pub struct Opened {
    /// The store.
    pub store: Store,
    /// True if its last end was not a [`Store::close`]: its last transaction may be lost, and the tail of every stream
    /// is to be applied again whatever the cursor says.
    pub unclean: bool,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Store {
    /// Opens the store, and brings its tables up to this program's schema.
    ///
    /// # Errors
    /// [`StoreError::Open`] if it cannot be reached or another process has it; [`StoreError::NewerSchema`] if it was
    /// written by a newer program: then nothing was touched.
    pub async fn open(config: &StoreConfig) -> Result<Opened, StoreError> {
        let place = match &config.location {
            StoreLocation::Embedded(path) => path.display().to_string(),
            StoreLocation::Memory => "memory".into(),
            StoreLocation::Remote { url, .. } => url.clone(),
        };
        let open = |source: Failure| StoreError::Open { place: place.clone(), source };
        let (db, marker) = match &config.location {
            StoreLocation::Embedded(path) => {
                std::fs::create_dir_all(path).map_err(|e| open(e.into()))?;
                let url = format!("surrealkv://{}", path.display());
                (embedded(&url, config).await.map_err(open)?, Some(path.with_extension("unclean")))
            }
            StoreLocation::Memory => (embedded("mem://", config).await.map_err(open)?, None),
            StoreLocation::Remote { url, namespace, database, user, password } => {
                let connect = remote(url, namespace, database, user, password.expose());
                let late = |_| open(format!("no answer within {} s", config.deadline.as_secs()).into());
                let db = tokio::time::timeout(config.deadline, connect).await.map_err(late)?.map_err(open)?;
                (Engine::Remote(db), None)
            }
        };
        let unclean = marker.as_deref().is_some_and(Path::exists);
        let store = Store { inner: Arc::new(Inner { db, deadline: config.deadline, marker }) };
        if let Err(error) = migrations::run(&store, &place).await {
            store.shutdown().await;
            return Err(error);
        }
        if let Some(path) = &store.inner.marker {
            std::fs::write(path, b"the store was open; if no hub runs, its last end was not clean\n")
                .map_err(|source| StoreError::Marker { path: path.clone(), source })?;
        }
        Ok(Opened { store, unclean })
    }

    /// Ends the store in an orderly way: the only end after which nothing may be missing. Every other clone must not
    /// be used any more.
    ///
    /// # Errors
    /// [`StoreError::Marker`] if the marker of a running store cannot be removed.
    pub async fn close(self) -> Result<(), StoreError> {
        if !self.shutdown().await {
            return Ok(());
        }
        match &self.inner.marker {
            None => Ok(()),
            Some(path) => {
                std::fs::remove_file(path).map_err(|source| StoreError::Marker { path: path.clone(), source })
            }
        }
    }

    /// True if the engine said that all is on disk.
    async fn shutdown(&self) -> bool {
        match &self.inner.db {
            Engine::Remote(_) => true,
            Engine::Local(_, datastore) => match datastore.shutdown().await {
                Ok(()) => true,
                Err(error) => {
                    tracing::error!(%error, "the store did not shut down cleanly; it is repaired at the next start");
                    false
                }
            },
        }
    }

    /// Asks something; each statement's rows.
    pub(crate) async fn read(&self, doing: &'static str, sql: &str, vars: Row) -> Result<Vec<Vec<Row>>, StoreError> {
        let late = |_| StoreError::Away { doing, seconds: self.inner.deadline.as_secs() };
        let asked = tokio::time::timeout(self.inner.deadline, self.query(sql, vars)).await.map_err(late)?;
        let values = asked.map_err(|error| self.classify(doing, &error))?;
        Ok(values.into_iter().map(rows).collect())
    }

    /// Writes something, in a transaction of its own; tried again on conflict.
    pub(crate) async fn write(&self, doing: &'static str, sql: &str, vars: Row) -> Result<Vec<Vec<Row>>, StoreError> {
        let deadline = tokio::time::Instant::now() + self.inner.deadline;
        let late = |_| StoreError::Away { doing, seconds: self.inner.deadline.as_secs() };
        for attempt in 0..CONFLICT_TRIES {
            match tokio::time::timeout_at(deadline, self.query(sql, vars.clone())).await.map_err(late)? {
                Ok(values) => return Ok(values.into_iter().map(rows).collect()),
                Err(error) if is_conflict(&error) => {
                    let wait = Duration::from_millis(rand::rng().random_range(1..=2 << attempt));
                    tracing::debug!(doing, attempt, "conflict in the store, trying again");
                    tokio::time::sleep(wait).await;
                }
                Err(error) => return Err(self.classify(doing, &error)),
            }
        }
        Err(StoreError::Conflict { doing, tries: CONFLICT_TRIES })
    }

    async fn query(&self, sql: &str, vars: Row) -> Result<Vec<Value>, surrealdb::Error> {
        match &self.inner.db {
            Engine::Local(db, _) => outcome(db.query(sql).bind(vars).await?),
            Engine::Remote(db) => outcome(db.query(sql).bind(vars).await?),
        }
    }

    fn classify(&self, doing: &'static str, error: &surrealdb::Error) -> StoreError {
        if error.is_connection() {
            return StoreError::Away { doing, seconds: self.inner.deadline.as_secs() };
        }
        StoreError::Refused { doing, detail: error.message().chars().take(500).collect() }
    }
}

/// SurrealKV with its memory under control: only a datastore built by hand can be given its settings.
async fn embedded(url: &str, config: &StoreConfig) -> Result<Engine, Failure> {
    let map = ConfigMap::empty()
        .with_key_value("surrealkv_max_memtable_size", config.memtable_bytes.to_string())
        .with_key_value("surrealkv_block_cache_capacity", config.block_cache_bytes.to_string());
    let (notify, notified) = surrealdb::channel::bounded(NOTIFICATIONS);
    let builder = Datastore::builder().with_config(map).with_auth(false).with_notify(notify);
    let datastore = builder.without_maintenance_tasks().build_with_path(url).await?;
    // In this order: a write that lands before the version key makes a new store look like an old one.
    datastore.check_version().await?;
    datastore.bootstrap().await?;
    datastore.start_maintenance_tasks();
    let db = Surreal::<Db>::unstable_from_datastore(datastore.clone(), Some(notified)).await?;
    db.use_ns("mosaic").use_db("mosaic").await?;
    Ok(Engine::Local(db, datastore))
}

async fn remote(
    url: &str,
    namespace: &str,
    database: &str,
    user: &str,
    password: &str,
) -> Result<Surreal<Any>, Failure> {
    let db = surrealdb::engine::any::connect(url).with_capacity(REMOTE_CAPACITY).await?;
    db.signin(surrealdb::opt::auth::Database {
        namespace: namespace.to_owned(),
        database: database.to_owned(),
        username: user.to_owned(),
        password: password.to_owned(),
    })
    .await?;
    db.use_ns(namespace).use_db(database).await?;
    Ok(db)
}

/// Every statement's value, or the error that counts: in a failed transaction every other statement says only that
/// it was not executed.
fn outcome(mut response: surrealdb::IndexedResults) -> Result<Vec<Value>, surrealdb::Error> {
    let mut errors: Vec<_> = response.take_errors().into_iter().collect();
    if !errors.is_empty() {
        errors.sort_by_key(|(index, _)| *index);
        let telling = errors
            .iter()
            .position(|(_, e)| is_conflict(e))
            .or_else(|| errors.iter().position(|(_, e)| !matches!(e.query_details(), Some(QueryError::NotExecuted))));
        return Err(errors.swap_remove(telling.unwrap_or(0)).1);
    }
    (0..response.num_statements()).map(|index| response.take::<Value>(index)).collect()
}

fn is_conflict(error: &surrealdb::Error) -> bool {
    matches!(error.query_details(), Some(QueryError::TransactionConflict)) || error.message().contains("can be retried")
}

fn rows(value: Value) -> Vec<Object> {
    match value {
        Value::Array(items) => items.into_iter().filter_map(object).collect(),
        other => object(other).into_iter().collect(),
    }
}

fn object(value: Value) -> Option<Object> {
    match value {
        Value::Object(object) => Some(object),
        _ => None,
    }
}
