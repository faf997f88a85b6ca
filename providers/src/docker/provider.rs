//! The provider: its sessions, and what is asked of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bus_schema::{Capability, EndReport, MessageId, Operator, ProviderName, SessionId, TerminalSize, TerminalSnapshot};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::discovery::{attend, discover};
use super::engine::{Engine, Phase, Sockets};
use super::feed::Feed;
use super::files::{Card, Files};
use super::session::{CAPABILITIES, Session};
use super::{ending, handover, start, terminal};
use crate::provider::{
    AgentProvider, Appeared, EventStream, InjectOutcome, MessageDraft, OperatorMessage, Position, ProviderError,
    ProviderHealth, SessionInfo, SpawnRequest,
};
use crate::pty::entry::lock;
use crate::pty::feed::{FEED_CAPACITY, recent, unavailable};
use crate::pty::log::LogError;
use crate::pty::record::EndAction;

/// Sessions that appeared and that a watcher has not heard of. One that is slower finds the rest in its next list.
const WATCH_CAPACITY: usize = 256;
/// How long looking back into a log may take: it is bounded in size.
const RECENT_WITHIN: Duration = Duration::from_secs(20);

/// How long the end of a container that has ended may take to be told.
const TOLD_WITHIN: Duration = Duration::from_secs(5);
/// How long another program may keep the sessions before we give up.
const HELD_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Where the engine is, and where is kept what is known of its containers.
#[derive(Clone, Debug)]
pub struct DockerConfig {
    /// The folder of all sessions: `DATA/docker`.
    pub dir: PathBuf,
    /// The engine's socket. If absent: `DOCKER_HOST`, `/var/run/docker.sock`, or Podman's.
    pub socket: Option<PathBuf>,
    /// The variable `DOCKER_HOST`.
    pub docker_host: Option<String>,
    /// The variable `XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
    /// True in a program beside the node agent: it looks at sessions and ends them, and keeps none.
    pub is_beside: bool,
}

impl DockerConfig {
    /// With an engine that is found by itself, from this program's environment.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        let docker_host = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
        let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        Self { dir: dir.into(), socket: None, docker_host, runtime_dir, is_beside: false }
    }
}

/// Agents in containers.
pub struct DockerProvider {
    name: ProviderName,
    shared: Arc<Shared>,
}

/// What the provider and its tasks have in common.
pub(crate) struct Shared {
    pub engine: Engine,
    pub files: Files,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
    /// One container is looked at for the first time at a time, or it would get two sessions.
    pub finding: tokio::sync::Mutex<()>,
    sessions: Mutex<BTreeMap<SessionId, Arc<Session>>>,
    watchers: Mutex<Vec<mpsc::Sender<Appeared>>>,
    /// The lock on the folder.
    held: Mutex<Option<File>>,
}

impl Shared {
    pub fn get(&self, id: &SessionId) -> Option<Arc<Session>> {
        lock(&self.sessions).get(id).cloned()
    }

    pub fn all(&self) -> Vec<Arc<Session>> {
        lock(&self.sessions).values().cloned().collect()
    }

    /// The session of a container's last life.
    pub fn of_container(&self, container: &str) -> Option<Arc<Session>> {
        let all = self.all().into_iter();
        let own = all.filter(|session| session.container().as_deref() == Some(container));
        own.max_by_key(|session| session.card().generation)
    }

    /// Begins a session, and looks after it.
    pub async fn begin(&self, card: Card) -> Result<Arc<Session>, LogError> {
        let session = self.add(card).await?;
        attend(self, &session);
        Ok(session)
    }

    /// Begins a session.
    pub async fn add(&self, card: Card) -> Result<Arc<Session>, LogError> {
        let (folder, engine) = (self.files.folder(&card.session_id), self.engine.clone());
        let open = move || {
            let write = folder.write(&card);
            write.map_err(|source| LogError::Io { doing: "writing", path: folder.path().into(), source })?;
            Session::open(folder, card, engine)
        };
        let gone = |_| Err(LogError::Corrupt { offset: 0 });
        let session = Arc::new(tokio::task::spawn_blocking(open).await.unwrap_or_else(gone)?);
        lock(&self.sessions).insert(session.id.clone(), Arc::clone(&session));
        Ok(session)
    }

    /// Tells everybody who watches.
    pub fn appeared(&self, id: &SessionId) {
        let mut watchers = lock(&self.watchers);
        watchers.retain(|watcher| !watcher.is_closed());
        for watcher in watchers.iter() {
            if watcher.try_send(Appeared { session_id: id.clone() }).is_err() {
                tracing::debug!(session_id = %id, "a watcher is slow; it finds the session in its next list");
            }
        }
    }
}

impl DockerProvider {
    /// Takes up the sessions in the folder, and looks for containers from now on. The engine need not be there.
    ///
    /// # Errors
    /// [`ProviderError::Unavailable`] if the folder cannot be made or read.
    pub async fn start(config: DockerConfig) -> Result<Arc<Self>, ProviderError> {
        let name = ProviderName::new("docker").map_err(|error| ProviderError::Invalid(error.to_string()))?;
        let unusable = |error: std::io::Error| ProviderError::Unavailable {
            what: "the folder of sessions in containers cannot be used".into(),
            source: Some(Box::new(error)),
        };
        let DockerConfig { dir, socket, docker_host, runtime_dir, is_beside } = config;
        let engine = Engine::new(Sockets { configured: socket, docker_host, runtime_dir });
        let of_sessions = engine.clone();
        let files = Files::open(&dir).map_err(unusable)?;
        let held = if is_beside { None } else { Some(hold(&files).await?) };
        let scan = move || {
            let mut sessions = vec![];
            for (folder, card) in files.cards()? {
                if is_beside {
                    sessions.push(Arc::new(Session::of_another(folder, card, of_sessions.clone())));
                    continue;
                }
                let id = card.session_id.clone();
                match Session::open(folder, card, of_sessions.clone()) {
                    Ok(session) => sessions.push(Arc::new(session)),
                    Err(error) => tracing::warn!(session_id = %id, %error, "session is left alone"),
                }
            }
            Ok::<_, std::io::Error>((files, sessions))
        };
        let scanned = tokio::task::spawn_blocking(scan).await;
        let (files, sessions) = scanned.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(unusable)?;
        let shared = Arc::new(Shared {
            engine,
            files,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            finding: tokio::sync::Mutex::default(),
            sessions: Mutex::new(sessions.iter().map(|session| (session.id.clone(), Arc::clone(session))).collect()),
            watchers: Mutex::default(),
            held: Mutex::new(held),
        });
        if is_beside {
            return Ok(Arc::new(Self { name, shared }));
        }
        for session in sessions.iter().filter(|session| session.exit().is_none()) {
            let (stop, own) = (shared.stop.clone(), Arc::clone(session));
            match (session.container(), session.intent()) {
                (None, _) => {
                    let within = Arc::clone(&shared);
                    shared.tasks.spawn(async move {
                        stop.run_until_cancelled(start::recover(&within, &own)).await;
                    });
                }
                (Some(container), intent) => {
                    attend(&shared, session);
                    // Asked for, and perhaps not done.
                    if intent.is_some() {
                        shared.tasks.spawn(async move {
                            stop.run_until_cancelled(ending::terminate(own, container)).await;
                        });
                    }
                }
            }
        }
        let (stop, own) = (shared.stop.clone(), Arc::clone(&shared));
        shared.tasks.spawn(async move {
            stop.run_until_cancelled(discover(own)).await;
        });
        Ok(Arc::new(Self { name, shared }))
    }

    /// Stops watching. The containers go on.
    pub async fn shutdown(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        for session in self.shared.all() {
            session.record.settle().await;
        }
        drop(lock(&self.shared.held).take());
    }

    fn session(&self, id: &SessionId) -> Result<Arc<Session>, ProviderError> {
        self.shared.get(id).ok_or_else(|| ProviderError::UnknownSession(id.clone()))
    }

    /// Waits for the end of a session that has ended: it is told within moments.
    async fn ended(&self, session: &Session) -> Option<ProviderError> {
        let until = tokio::time::Instant::now() + TOLD_WITHIN;
        loop {
            if let Some(end) = session.exit() {
                return Some(ProviderError::WrongState { status: end.status, reason: end.reason });
            }
            if tokio::time::Instant::now() >= until {
                return None;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

impl Drop for DockerProvider {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

/// Waits until nobody else keeps the sessions: whoever was killed may take a moment to be gone.
async fn hold(files: &Files) -> Result<File, ProviderError> {
    let unusable = |source: Option<std::io::Error>| ProviderError::Unavailable {
        what: "another node agent uses the data folder, and keeps its sessions in containers; end it first".into(),
        source: source.map(|error| Box::new(error) as Box<_>),
    };
    let until = tokio::time::Instant::now() + HELD_WITHIN;
    loop {
        match files.lock() {
            Ok(Some(file)) => return Ok(file),
            Ok(None) if tokio::time::Instant::now() < until => tokio::time::sleep(LOOK_AGAIN).await,
            Ok(None) => return Err(unusable(None)),
            Err(error) => return Err(unusable(Some(error))),
        }
    }
}

#[async_trait]
impl AgentProvider for DockerProvider {
    fn name(&self) -> ProviderName {
        self.name.clone()
    }

    async fn health(&self) -> ProviderHealth {
        let error = self.shared.engine.ping().await.err().map(|error| error.to_string());
        ProviderHealth { error, capabilities: CAPABILITIES.to_vec() }
    }

    fn watch(&self) -> mpsc::Receiver<Appeared> {
        let (sender, receiver) = mpsc::channel(WATCH_CAPACITY);
        lock(&self.shared.watchers).push(sender);
        receiver
    }

    async fn sessions(&self) -> Result<Vec<SessionInfo>, ProviderError> {
        // What is known is known, engine or not.
        Ok(self.shared.all().iter().map(|session| session.info()).collect())
    }

    async fn session(&self, id: &SessionId) -> Result<SessionInfo, ProviderError> {
        self.session(id).map(|session| session.info())
    }

    async fn recent_messages(&self, id: &SessionId, limit: usize) -> Result<Vec<MessageDraft>, ProviderError> {
        let shelf = self.session(id)?.shelf();
        let look = tokio::task::spawn_blocking(move || recent(&shelf, limit));
        match tokio::time::timeout(RECENT_WITHIN, look).await {
            Ok(Ok(found)) => found.map_err(unavailable),
            Ok(Err(_)) => Ok(vec![]),
            Err(_) => Err(ProviderError::Deadline { doing: "looking back".into(), seconds: RECENT_WITHIN.as_secs() }),
        }
    }

    async fn subscribe(&self, id: &SessionId, from: Position) -> Result<EventStream, ProviderError> {
        let session = self.session(id)?;
        let (sender, receiver) = mpsc::channel(FEED_CAPACITY);
        let opened = tokio::task::spawn_blocking(move || Feed::open(session, from, sender)).await;
        let Ok(feed) = opened else { return Ok(receiver) };
        let feed = feed.map_err(unavailable)?;
        let stop = self.shared.stop.clone();
        self.shared.tasks.spawn(async move {
            stop.run_until_cancelled(feed.run()).await;
        });
        Ok(receiver)
    }

    async fn acknowledge(&self, id: &SessionId, position: Position) {
        if let Ok(session) = self.session(id) {
            session.acknowledge(position).await;
        }
    }

    async fn spawn(&self, request: SpawnRequest) -> Result<SessionInfo, ProviderError> {
        let card = start::card(&request)?;
        // The container that is being created is found by events too.
        let session = {
            let _one_at_a_time = self.shared.finding.lock().await;
            if let Some(session) = self.shared.get(&request.session_id) {
                return Ok(session.info());
            }
            self.shared.add(card).await.map_err(unavailable)?
        };
        if let Err(error) = start::start(&session, &request).await {
            lock(&self.shared.sessions).remove(&session.id);
            session.record.settle().await;
            // What stays is ended at the next start.
            let _ = tokio::fs::remove_dir_all(session.folder.path()).await;
            return Err(error);
        }
        attend(&self.shared, &session);
        Ok(session.info())
    }

    async fn inject(&self, id: &SessionId, message: OperatorMessage) -> Result<InjectOutcome, ProviderError> {
        handover::hand_over(&self.session(id)?, message).await
    }

    async fn injection(&self, id: &SessionId, message: &MessageId) -> Result<Option<InjectOutcome>, ProviderError> {
        let session = self.session(id)?;
        let journal = lock(&session.journal);
        Ok(journal.outcome(message))
    }

    async fn pause(&self, id: &SessionId, by: &Operator) -> Result<(), ProviderError> {
        ending::freeze(&*self.session(id)?, by, true).await
    }

    async fn resume(&self, id: &SessionId, by: &Operator) -> Result<(), ProviderError> {
        ending::freeze(&*self.session(id)?, by, false).await
    }

    async fn terminate(&self, id: &SessionId, by: &Operator) -> Result<(), ProviderError> {
        let session = self.session(id)?;
        // What has ended needs no ending.
        if session.exit().is_some() {
            return Ok(());
        }
        if let Some(container) = ending::intend(&session, EndAction::Terminate, by).await? {
            let stop = self.shared.stop.clone();
            self.shared.tasks.spawn(async move {
                stop.run_until_cancelled(ending::terminate(session, container)).await;
            });
        }
        Ok(())
    }

    async fn kill(&self, id: &SessionId, by: &Operator) -> Result<EndReport, ProviderError> {
        let session = self.session(id)?;
        match ending::intend(&session, EndAction::Kill, by).await? {
            Some(container) => ending::kill(&session, &container).await,
            None => match self.ended(&session).await {
                Some(error) => Err(error),
                None => {
                    let reason = "its container has ended".into();
                    Err(ProviderError::WrongState { status: session.info().status, reason })
                }
            },
        }
    }

    async fn terminal_input(&self, id: &SessionId, data: &[u8], _by: &Operator) -> Result<(), ProviderError> {
        let session = self.session(id)?;
        let container = session.must(Capability::Input)?;
        handover::type_in(&session, &container, data).await
    }

    async fn resize(&self, id: &SessionId, size: TerminalSize) -> Result<(), ProviderError> {
        let session = self.session(id)?;
        let container = session.must(Capability::Resize)?;
        terminal::resize(&session, &container, size).await
    }

    async fn terminal_snapshot(&self, id: &SessionId) -> Result<TerminalSnapshot, ProviderError> {
        let session = self.session(id)?;
        if let Some(reason) = session.refusal(&Capability::Terminal) {
            return Err(ProviderError::NotCapable { capability: Capability::Terminal, reason });
        }
        Ok(lock(&session.screen).snapshot())
    }

    async fn forget(&self, id: &SessionId) -> Result<(), ProviderError> {
        let session = self.session(id)?;
        if session.exit_told().await.is_none() {
            let reason = "only what has ended can be forgotten".into();
            return Err(ProviderError::WrongState { status: session.info().status, reason });
        }
        let failed = |error: std::io::Error| ProviderError::Failed {
            doing: "forgetting a session".into(),
            source: Some(Box::new(error)),
        };
        let card = session.card();
        let lives_on = self.shared.of_container(card.container.as_deref().unwrap_or_default());
        let is_last = lives_on.is_none_or(|last| last.id == *id);
        if let Some(container) = card.container.filter(|_| is_last) {
            let found = self.shared.engine.inspect(&container).await?;
            if let Some(found) = found {
                // Only what the mesh made, and only while it does not run: it may have been started again since.
                if card.facts.is_managed && found.phase == Phase::Ended {
                    self.shared.engine.remove(&container, false).await?;
                } else {
                    let (files, run) = (self.shared.files.clone(), card.run);
                    let noted = tokio::task::spawn_blocking(move || files.forget(&container, run)).await;
                    noted.unwrap_or(Ok(())).map_err(failed)?;
                }
            }
        }
        session.record.settle().await;
        tokio::fs::remove_dir_all(session.folder.path()).await.map_err(failed)?;
        lock(&self.shared.sessions).remove(id);
        Ok(())
    }
}
