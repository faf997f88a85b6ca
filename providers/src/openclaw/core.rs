//! What all connections share: the sessions by our names and by the gateways', the device key, the tasks.
//!
//! Laws:
//! 1. One gateway conversation has one living session of ours at a time. After its end, the same key is a new session,
//!    and only with what is younger than that end.
//! 2. What was forgotten does not come back by being listed; only by being at work again.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bus_schema::{SessionId, Status, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::gateway::Gateway;
use super::held::Held;
use super::key::DeviceKey;
use super::record::Birth;
use super::session::Session;
use crate::clock;
use crate::provider::{Appeared, End, ProviderError};
use crate::pty::PtyProvider;

/// Sessions that appeared and were not looked at yet. What does not fit is found at the next listing.
const WATCH_QUEUE: usize = 256;
/// Ends that are remembered after the session was forgotten.
const TOMBS_MAX: usize = 2_000;
/// The part of a key before the session id, in sessions that the mesh has started.
const OURS: &str = "mosaic:";

pub(super) struct Core {
    pub dir: PathBuf,
    pub key: DeviceKey,
    pub tasks: TaskTracker,
    pub cancel: CancellationToken,
    /// Gateways that this node started.
    pub held: Held,
    table: Mutex<Table>,
    watchers: Mutex<Vec<mpsc::Sender<Appeared>>>,
    gateways: Mutex<BTreeMap<String, Arc<Gateway>>>,
}

#[derive(Default)]
struct Table {
    by_id: BTreeMap<SessionId, Arc<Session>>,
    /// The last session of (connection, key).
    by_key: HashMap<(String, String), SessionId>,
    tombs: BTreeMap<String, Tomb>,
}

/// The end of a session that was forgotten.
#[derive(Clone, Serialize, Deserialize)]
struct Tomb {
    generation: String,
    ended_at: Timestamp,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(doing: &str) -> impl FnOnce(std::io::Error) -> ProviderError {
    let doing = doing.to_owned();
    move |source| ProviderError::Failed { doing, source: Some(Box::new(source)) }
}

pub(super) fn ended(reason: &str) -> End {
    End { status: Status::Completed, reason: reason.into(), exit_code: None, error: None, report: None }
}

/// The key of a session that the mesh starts: it holds the session's id, so that a start is repeated, not doubled.
pub(super) fn our_key(agent: &str, id: &SessionId) -> String {
    format!("agent:{agent}:{OURS}{}", id.as_str().to_lowercase())
}

impl Core {
    /// Opens the folder of an earlier node agent, or a new one.
    pub fn open(dir: &Path, holder: Option<Arc<PtyProvider>>) -> Result<Arc<Self>, ProviderError> {
        let sessions = dir.join("sessions");
        std::fs::create_dir_all(&sessions).map_err(failed("making the folder of the openclaw provider"))?;
        let key = DeviceKey::open(&dir.join("device.key")).map_err(|error| ProviderError::Failed {
            doing: "opening the device key".into(),
            source: Some(Box::new(error)),
        })?;
        let mut table = Table::default();
        let files = std::fs::read_dir(&sessions).map_err(failed("listing the sessions of gateways"))?;
        for file in files {
            let path = file.map_err(failed("listing the sessions of gateways"))?.path();
            if path.extension().is_none_or(|extension| extension != "jsonl") {
                continue;
            }
            // One that cannot be read is left as it is, and hides no other.
            match Session::open(&path) {
                Ok(Some(session)) => table.insert(session),
                Ok(None) => tracing::warn!(path = %path.display(), "the record of a session holds nothing"),
                Err(error) => tracing::error!(path = %path.display(), %error, "the record of a session is left alone"),
            }
        }
        table.tombs = std::fs::read(dir.join("forgotten.json"))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        Ok(Arc::new(Self {
            dir: dir.to_owned(),
            key,
            tasks: TaskTracker::new(),
            cancel: CancellationToken::new(),
            held: Held::open(dir, holder),
            table: Mutex::new(table),
            watchers: Mutex::default(),
            gateways: Mutex::default(),
        }))
    }

    pub fn all(&self) -> Vec<Arc<Session>> {
        lock(&self.table).by_id.values().cloned().collect()
    }

    /// Living sessions of a connection.
    pub fn living(&self, connection: &str) -> Vec<Arc<Session>> {
        let all = self.all().into_iter();
        all.filter(|s| s.ended_at().is_none() && s.birth().connection == connection).collect()
    }

    pub fn session(&self, id: &SessionId) -> Result<Arc<Session>, ProviderError> {
        lock(&self.table).by_id.get(id).cloned().ok_or_else(|| ProviderError::UnknownSession(id.clone()))
    }

    /// The last session of a key.
    pub fn by_key(&self, connection: &str, key: &str) -> Option<Arc<Session>> {
        let table = lock(&self.table);
        let id = table.by_key.get(&(connection.to_owned(), key.to_owned()))?;
        table.by_id.get(id).cloned()
    }

    /// The parent that a session's gateway names, where we know it.
    pub fn parent_of(&self, session: &Session) -> Option<SessionId> {
        let birth = session.birth();
        let info = session.info(None);
        let key = info.metadata.get("spawnedBy").and_then(Value::as_str)?.to_owned();
        self.by_key(&birth.connection, &key).map(|parent| parent.id.clone())
    }

    pub fn gateways(&self) -> Vec<Arc<Gateway>> {
        lock(&self.gateways).values().cloned().collect()
    }

    pub fn gateway(&self, connection: &str) -> Option<Arc<Gateway>> {
        lock(&self.gateways).get(connection).cloned()
    }

    pub fn put_gateway(&self, gateway: Arc<Gateway>) {
        lock(&self.gateways).insert(gateway.connection.id.clone(), gateway);
    }

    pub fn take_gateway(&self, connection: &str) -> Option<Arc<Gateway>> {
        lock(&self.gateways).remove(connection)
    }

    pub fn watch(&self) -> mpsc::Receiver<Appeared> {
        let (tx, rx) = mpsc::channel(WATCH_QUEUE);
        let mut watchers = lock(&self.watchers);
        watchers.retain(|watcher| !watcher.is_closed());
        watchers.push(tx);
        rx
    }

    fn appeared(&self, id: &SessionId) {
        lock(&self.watchers).retain(|watcher| match watcher.try_send(Appeared { session_id: id.clone() }) {
            Err(mpsc::error::TrySendError::Full(_)) => {
                tracing::warn!(session_id = %id, "nobody takes up sessions that appear; the next listing tells");
                true
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Ok(()) => true,
        });
    }

    /// Takes up a session that the mesh starts, before the gateway knows of it.
    pub fn begin(&self, birth: Birth) -> Result<Arc<Session>, ProviderError> {
        let session = Session::begin(&self.dir.join("sessions"), birth);
        let session = session.map_err(failed("beginning the record of a session"))?;
        lock(&self.table).insert(session.clone());
        Ok(session)
    }

    /// What a gateway says of one of its conversations: finds our session of it, takes up a new one, or ends it.
    /// `None` for one that is of no concern. `is_certain`: a status without a run is to be believed at once.
    pub fn take_row(&self, connection: &str, row: &Value, is_certain: bool) -> Option<Arc<Session>> {
        let text = |key: &str| row.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let (key, generation) = (text("key").or_else(|| text("sessionKey"))?, text("sessionId"));
        let is_archived = row.get("archived").and_then(Value::as_bool) == Some(true);
        let is_active = row.get("hasActiveRun").and_then(Value::as_bool) == Some(true);
        let known = self.by_key(connection, key);
        let mut since = None;
        if let Some(session) = known {
            let had = session.generation();
            let is_other = generation.is_some_and(|g| !had.is_empty() && g != had);
            match session.ended_at() {
                None if session.is_ending() => return Some(session),
                // Our own fence.
                None if is_archived && session.is_soft_paused() => {
                    session.take_row(row, is_certain);
                    return Some(session);
                }
                None if is_archived => {
                    session.end(ended("archived at the gateway"));
                    return Some(session);
                }
                None if is_other => {
                    session.end(ended("the gateway began the conversation anew"));
                }
                None => {
                    session.take_row(row, is_certain);
                    return Some(session);
                }
                // Ended here: only something new is a new session.
                Some(_) if is_archived => return None,
                Some(at) => {
                    let was_archived = session.status() == Status::Completed;
                    if !(is_other || is_active || was_archived) {
                        return None;
                    }
                    since = Some(at);
                }
            }
        } else if is_archived || generation.is_none() {
            return None;
        } else if let Some(tomb) = lock(&self.table).tombs.get(&tomb_name(connection, key)).cloned() {
            if Some(tomb.generation.as_str()) == generation && !is_active {
                return None;
            }
            since = Some(tomb.ended_at);
        }
        self.adopt(connection, key, row, since)
    }

    fn adopt(&self, connection: &str, key: &str, row: &Value, since: Option<Timestamp>) -> Option<Arc<Session>> {
        let text = |key: &str| row.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let spawned_by = text("spawnedBy");
        let parent = spawned_by.and_then(|by| self.by_key(connection, by)).map(|parent| parent.id.clone());
        let at = ["createdAt", "startedAt", "updatedAt"].iter().find_map(|key| row.get(key).and_then(Value::as_i64));
        let at = since.or(at.map(Timestamp::from_millis)).unwrap_or_else(clock::now);
        let birth = Birth {
            session_id: new_session_id(),
            connection: connection.to_owned(),
            key: key.to_owned(),
            agent: key.split(':').nth(1).unwrap_or("main").to_owned(),
            profile: None,
            title: None,
            parent,
            at,
            since,
        };
        let session = match self.begin(birth) {
            Ok(session) => session,
            Err(error) => {
                tracing::error!(key, %error, "a session of a gateway cannot be taken up");
                return None;
            }
        };
        if let Some(by) = spawned_by {
            session.note("spawnedBy", by.into());
        }
        if let Some(gateway) = self.gateway(connection) {
            session.note("gateway", gateway.connection.name.clone().into());
        }
        session.take_row(row, true);
        self.appeared(&session.id);
        Some(session)
    }

    /// A conversation was begun anew under the same key: its next session.
    pub fn begin_anew(&self, before: &Session, row: &Value) -> Option<Arc<Session>> {
        let birth = before.birth();
        before.end(ended("the gateway began the conversation anew"));
        self.adopt(&birth.connection, &birth.key, row, None)
    }

    /// Drops all that is kept of a session.
    pub fn forget(&self, session: &Session, ended_at: Timestamp) -> Result<(), ProviderError> {
        let birth = session.birth();
        let mut table = lock(&self.table);
        let name = (birth.connection.clone(), birth.key.clone());
        if table.by_key.get(&name) == Some(&session.id) {
            table.by_key.remove(&name);
            let tomb = Tomb { generation: session.generation(), ended_at };
            table.tombs.insert(tomb_name(&birth.connection, &birth.key), tomb);
            while table.tombs.len() > TOMBS_MAX {
                let oldest = table.tombs.iter().min_by_key(|(_, tomb)| tomb.ended_at).map(|(name, _)| name.clone());
                table.tombs.remove(&oldest.unwrap_or_default());
            }
            let text =
                serde_json::to_vec(&table.tombs).map_err(|error| failed("forgetting a session")(error.into()))?;
            let fresh = self.dir.join("forgotten.new");
            let written = std::fs::write(&fresh, text);
            let written = written.and_then(|()| std::fs::rename(&fresh, self.dir.join("forgotten.json")));
            written.map_err(failed("forgetting a session"))?;
        }
        self.drop_session(&mut table, session)
    }

    /// Takes back a session that could not be started.
    pub fn withdraw(&self, session: &Session) -> Result<(), ProviderError> {
        let birth = session.birth();
        let mut table = lock(&self.table);
        table.by_key.remove(&(birth.connection, birth.key));
        self.drop_session(&mut table, session)
    }

    fn drop_session(&self, table: &mut Table, session: &Session) -> Result<(), ProviderError> {
        match std::fs::remove_file(session.path()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(failed("removing the record of a session")(error))
            }
            _ => {
                table.by_id.remove(&session.id);
                Ok(())
            }
        }
    }
}

impl Table {
    fn insert(&mut self, session: Arc<Session>) {
        let birth = session.birth();
        let name = (birth.connection, birth.key);
        let is_later = |id: &SessionId| self.by_id.get(id).is_none_or(|other| other.birth().at <= birth.at);
        if self.by_key.get(&name).is_none_or(is_later) {
            self.by_key.insert(name, session.id.clone());
        }
        self.by_id.insert(session.id.clone(), session);
    }
}

fn tomb_name(connection: &str, key: &str) -> String {
    format!("{connection} {key}")
}

fn new_session_id() -> SessionId {
    let mut ulid = ulid::Ulid::new();
    loop {
        match SessionId::new(ulid.to_string()) {
            Ok(id) => return id,
            Err(_) => ulid = ulid::Ulid::new(),
        }
    }
}
