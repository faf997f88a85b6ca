//! An agent in memory that repeats what it is told: a full citizen of the trait, for tests and for trying the mesh
//! out without a runtime.
//!
//! A profile of it has the command `["echo", WORD…]`. Each word is a line the agent begins with
//! (`echo/script.rs` lists them: `"flood 1000"`, `"wait well?"`, `"exit 3"`), or one of the settings
//! `delay-ms=N` (every call takes so long), `pace-ms=N` (the agent rests between two steps) and
//! `cannot=CAPABILITY,…`. What is injected later is a line too.
//!
//! Given a folder, the sessions are also kept there, and go on when the process is started again.

mod script;
mod session;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bus_schema::{
    Capability, Delivery, EndReport, EndStep, MessageId, Operator, ProviderName, SessionId, Status, TerminalSize,
    TerminalSnapshot,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::session::{Birth, Session};
use crate::clock;
use crate::profile::Profile;
use crate::provider::{
    AgentProvider, Appeared, End, EventStream, InjectOutcome, MessageDraft, OperatorMessage, Position, ProviderError,
    ProviderHealth, SessionInfo, SpawnRequest,
};

/// Sessions that appeared and were not looked at yet. Whoever makes one appear waits.
const WATCH_QUEUE: usize = 64;
/// Children on their way into the table; the parent's agent waits.
const CHILD_QUEUE: usize = 16;

/// The echo provider. A clone is the same provider.
#[derive(Clone)]
pub struct Echo {
    inner: Arc<Inner>,
}

struct Inner {
    name: ProviderName,
    folder: Option<PathBuf>,
    sessions: Mutex<BTreeMap<SessionId, Arc<Session>>>,
    watchers: Mutex<Vec<mpsc::Sender<Appeared>>>,
    tasks: TaskTracker,
    cancel: CancellationToken,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

fn failed(doing: &str) -> impl FnOnce(std::io::Error) -> ProviderError {
    let doing = doing.to_owned();
    move |source| ProviderError::Failed { doing, source: Some(Box::new(source)) }
}

impl Echo {
    /// A provider of that name whose sessions live as long as it does.
    pub fn new(name: ProviderName) -> Self {
        Self::with(name, None)
    }

    /// A provider whose sessions are kept in `folder` and go on from where they were.
    ///
    /// # Errors
    /// [`ProviderError::Failed`] if the folder cannot be read or written. Must be called within a tokio runtime.
    pub fn open(name: ProviderName, folder: &Path) -> Result<Self, ProviderError> {
        std::fs::create_dir_all(folder).map_err(failed("making the folder of the echo provider"))?;
        let echo = Self::with(name, Some(folder.to_owned()));
        let files = std::fs::read_dir(folder).map_err(failed("listing the folder of the echo provider"))?;
        for file in files {
            let path = file.map_err(failed("listing the folder of the echo provider"))?.path();
            if path.extension().is_some_and(|extension| extension == "jsonl") {
                match Session::reopen(&path).map_err(failed("reading an echo journal"))? {
                    Some(session) => drop(echo.start(session)),
                    None => std::fs::remove_file(&path).map_err(failed("removing an empty echo journal"))?,
                }
            }
        }
        let known: Vec<_> = lock(&echo.inner.sessions).values().cloned().collect();
        for (parent, (id, title)) in known.iter().flat_map(|s| s.children().into_iter().map(move |child| (s, child))) {
            echo.adopt(&parent.birth, id, title)?;
        }
        Ok(echo)
    }

    fn with(name: ProviderName, folder: Option<PathBuf>) -> Self {
        let inner = Inner {
            name,
            folder,
            sessions: Mutex::default(),
            watchers: Mutex::default(),
            tasks: TaskTracker::new(),
            cancel: CancellationToken::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// A session that appears by itself, as one that a runtime finds would.
    ///
    /// # Errors
    /// As [`AgentProvider::spawn`].
    pub async fn appear(&self, profile: &Profile) -> Result<SessionId, ProviderError> {
        let birth = birth(new_session_id(), profile, None, None)?;
        let session = self.begin(birth)?;
        let session_id = session.birth.session_id.clone();
        let watchers = lock(&self.inner.watchers).clone();
        for watcher in watchers {
            // A watcher that has gone needs nothing told.
            let _ = watcher.send(Appeared { session_id: session_id.clone() }).await;
        }
        Ok(session_id)
    }

    /// Stops all agents where they are and waits until their tasks have ended. Journals stay.
    pub async fn shutdown(&self) {
        self.inner.cancel.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    fn begin(&self, birth: Birth) -> Result<Arc<Session>, ProviderError> {
        let session =
            Session::begin(birth, self.inner.folder.as_deref()).map_err(failed("beginning an echo session"))?;
        Ok(self.start(session))
    }

    fn start(&self, session: Session) -> Arc<Session> {
        let session = Arc::new(session);
        lock(&self.inner.sessions).insert(session.birth.session_id.clone(), session.clone());
        let (children, mut born) = mpsc::channel(CHILD_QUEUE);
        let (agent, cancel) = (session.clone(), self.inner.cancel.clone());
        self.inner.tasks.spawn(async move { agent.live(cancel, children).await });
        let (inner, parent) = (Arc::downgrade(&self.inner), session.clone());
        self.inner.tasks.spawn(async move {
            while let Some((id, title)) = born.recv().await {
                // A slow runtime has told of a child for some time before it has it in its table.
                tokio::time::sleep(Duration::from_millis(parent.birth.delay_ms)).await;
                let Some(inner) = inner.upgrade() else { return };
                if let Err(error) = (Echo { inner }).adopt(&parent.birth, id, title) {
                    tracing::error!(error = %error, "echo child cannot begin");
                }
            }
        });
        session
    }

    /// Begins a child, unless it is there.
    fn adopt(&self, parent: &Birth, session_id: SessionId, title: Option<String>) -> Result<(), ProviderError> {
        if lock(&self.inner.sessions).contains_key(&session_id) {
            return Ok(());
        }
        let birth = Birth {
            session_id,
            parent: Some(parent.session_id.clone()),
            title,
            agent_type: Some("echo".into()),
            profile: None,
            at: clock::now(),
            cannot: parent.cannot.clone(),
            delay_ms: parent.delay_ms,
            pace_ms: parent.pace_ms,
            program: vec![],
        };
        self.begin(birth).map(|_| ())
    }

    async fn find(&self, id: &SessionId) -> Result<Arc<Session>, ProviderError> {
        let found = lock(&self.inner.sessions).get(id).cloned();
        let session = found.ok_or_else(|| ProviderError::UnknownSession(id.clone()))?;
        if session.birth.delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(session.birth.delay_ms)).await;
        }
        Ok(session)
    }
}

/// Reads the words of an echo profile.
fn birth(
    session_id: SessionId,
    profile: &Profile,
    parent: Option<SessionId>,
    title: Option<String>,
) -> Result<Birth, ProviderError> {
    let invalid = |what: String| ProviderError::Invalid(format!("profile {:?}: {what}", profile.name));
    if profile.command.first().is_none_or(|word| word != "echo") {
        return Err(invalid("the command of an echo agent begins with \"echo\"".into()));
    }
    let mut birth = Birth {
        session_id,
        parent,
        title: title.or_else(|| profile.title.clone()),
        agent_type: profile.agent_type.clone().or_else(|| Some("echo".into())),
        profile: Some(profile.name.clone()),
        at: clock::now(),
        cannot: vec![],
        delay_ms: 0,
        pace_ms: 0,
        program: vec![],
    };
    let number = |key: &str, text: &str| {
        text.parse().map_err(|_| invalid(format!("{key} must be a number of milliseconds, not {text:?}")))
    };
    for word in profile.command.iter().skip(1) {
        match word.split_once('=') {
            Some(("delay-ms", text)) => birth.delay_ms = number("delay-ms", text)?,
            Some(("pace-ms", text)) => birth.pace_ms = number("pace-ms", text)?,
            Some(("cannot", text)) => birth.cannot = text.split(',').map(Capability::from).collect(),
            _ => birth.program.push(word.clone()),
        }
    }
    Ok(birth)
}

#[async_trait]
impl AgentProvider for Echo {
    fn name(&self) -> ProviderName {
        self.inner.name.clone()
    }

    async fn health(&self) -> ProviderHealth {
        let can = |c: &&Capability| **c != Capability::Approve;
        ProviderHealth { error: None, capabilities: Capability::ALL.iter().filter(can).cloned().collect() }
    }

    fn watch(&self) -> mpsc::Receiver<Appeared> {
        let (tx, rx) = mpsc::channel(WATCH_QUEUE);
        let mut watchers = lock(&self.inner.watchers);
        watchers.retain(|watcher| !watcher.is_closed());
        watchers.push(tx);
        rx
    }

    async fn sessions(&self) -> Result<Vec<SessionInfo>, ProviderError> {
        Ok(lock(&self.inner.sessions).values().map(|session| session.info()).collect())
    }

    async fn session(&self, id: &SessionId) -> Result<SessionInfo, ProviderError> {
        Ok(self.find(id).await?.info())
    }

    async fn recent_messages(&self, id: &SessionId, limit: usize) -> Result<Vec<MessageDraft>, ProviderError> {
        Ok(self.find(id).await?.recent(limit))
    }

    async fn subscribe(&self, id: &SessionId, from: Position) -> Result<EventStream, ProviderError> {
        let session = self.find(id).await?;
        let (events, feed) = session.subscribe(from);
        let cancel = self.inner.cancel.clone();
        self.inner.tasks.spawn(async move { cancel.run_until_cancelled(session.feed(feed)).await });
        Ok(events)
    }

    async fn acknowledge(&self, id: &SessionId, position: Position) {
        let found = lock(&self.inner.sessions).get(id).cloned();
        if let Some(session) = found {
            session.acknowledge(position);
        }
    }

    async fn spawn(&self, request: SpawnRequest) -> Result<SessionInfo, ProviderError> {
        if let Ok(session) = self.find(&request.session_id).await {
            return Ok(session.info());
        }
        let birth = birth(request.session_id, &request.profile, request.parent_session_id, request.title)?;
        let delay = Duration::from_millis(birth.delay_ms);
        let session = self.begin(birth)?;
        tokio::time::sleep(delay).await;
        Ok(session.info())
    }

    async fn inject(&self, id: &SessionId, message: OperatorMessage) -> Result<InjectOutcome, ProviderError> {
        let session = self.find(id).await?;
        session.require(Capability::Inject)?;
        session.give(&message).map_err(failed("writing to the echo journal"))?;
        Ok(InjectOutcome { state: Delivery::Written, mode: Some(message.mode), reason: None })
    }

    async fn injection(&self, id: &SessionId, message: &MessageId) -> Result<Option<InjectOutcome>, ProviderError> {
        let state = self.find(id).await?.given(message);
        Ok(state.map(|state| InjectOutcome { state, mode: None, reason: None }))
    }

    async fn pause(&self, id: &SessionId, by: &Operator) -> Result<(), ProviderError> {
        let session = self.find(id).await?;
        session.require(Capability::Pause)?;
        session.pause(&by.name).map_err(failed("pausing an echo session"))
    }

    async fn resume(&self, id: &SessionId, by: &Operator) -> Result<(), ProviderError> {
        let session = self.find(id).await?;
        session.require(Capability::Resume)?;
        session.resume(&by.name).map_err(failed("resuming an echo session"))
    }

    async fn terminate(&self, id: &SessionId, by: &Operator) -> Result<(), ProviderError> {
        let session = self.find(id).await?;
        session.require(Capability::Terminate)?;
        session.leave(&by.name).map_err(failed("ending an echo session"))
    }

    async fn kill(&self, id: &SessionId, by: &Operator) -> Result<EndReport, ProviderError> {
        let session = self.find(id).await?;
        session.require(Capability::Kill)?;
        let step = EndStep { step: "kill".into(), at: clock::now(), detail: format!("by {}", by.name) };
        let report = EndReport { containment: "memory".into(), steps: vec![step], ended: vec![], survivors: vec![] };
        let end = End {
            status: Status::Killed,
            reason: format!("killed by {}", by.name),
            exit_code: Some(137),
            error: None,
            report: Some(report.clone()),
        };
        session.end(end).map_err(failed("ending an echo session"))?;
        Ok(report)
    }

    async fn terminal_input(&self, id: &SessionId, data: &[u8], _by: &Operator) -> Result<(), ProviderError> {
        let session = self.find(id).await?;
        session.require(Capability::Input)?;
        session.print(data).map_err(failed("printing in an echo session"))
    }

    async fn resize(&self, id: &SessionId, size: TerminalSize) -> Result<(), ProviderError> {
        let session = self.find(id).await?;
        session.require(Capability::Resize)?;
        session.resize(size);
        Ok(())
    }

    async fn terminal_snapshot(&self, id: &SessionId) -> Result<TerminalSnapshot, ProviderError> {
        let session = self.find(id).await?;
        if !session.capabilities().contains(&Capability::Terminal) {
            session.require(Capability::Terminal)?;
        }
        Ok(session.snapshot())
    }

    async fn forget(&self, id: &SessionId) -> Result<(), ProviderError> {
        let session = self.find(id).await?;
        let status = session.status();
        if !status.is_terminal() {
            return Err(ProviderError::WrongState {
                status,
                reason: "only a session that has ended is forgotten".into(),
            });
        }
        if let Some(folder) = &self.inner.folder {
            let journal = session::journal_path(folder, &session.birth);
            std::fs::remove_file(journal).map_err(failed("removing an echo journal"))?;
        }
        lock(&self.inner.sessions).remove(id);
        Ok(())
    }
}
