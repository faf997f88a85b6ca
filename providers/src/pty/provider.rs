//! The provider: starts holders, finds those of an earlier node agent, and asks them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bus_schema::{
    Capability, EndReport, MessageId, Operator, ProviderName, SessionId, Status, TerminalSize, TerminalSnapshot,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::entry::{Entry, at_best, lock, reasons};
use super::feed::{FEED_CAPACITY, Feed, Shelf, recent, unavailable};
use super::files::{ContainmentChoice, FileError, SessionDir};
use super::link::CallError;
use super::log::LogLimits;
use super::protocol::{Answer, Call, FaultKind};
use super::record::{EndAction, Intent};
use super::recovery::Found;
use crate::clock;
use crate::profile::Protocol;
use crate::provider::{
    AgentProvider, Appeared, EventStream, InjectOutcome, MessageDraft, OperatorMessage, Position, ProviderError,
    ProviderHealth, SessionInfo, SpawnRequest,
};

/// How long a call may take that the holder answers at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long a freeze or thaw may take: the keeper's own bound and the way.
const FREEZE_WITHIN: Duration = Duration::from_secs(8);
/// How long handing over may take: the injector tells something after 8 s.
const INJECT_WITHIN: Duration = Duration::from_secs(12);
/// How long an answer may take: the holder tells after 6 s whether it saw the agent go on.
const CONFIRM_WITHIN: Duration = Duration::from_secs(10);
/// How long a kill may take: to freeze, to kill, to kill what the first process left, each 5 s, and the way.
const KILL_WITHIN: Duration = Duration::from_secs(25);
/// How long a holder that has nothing more to do may take to leave.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);
/// Between two looks whether it has.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long looking back into a log may take: it is bounded in size.
const RECENT_WITHIN: Duration = Duration::from_secs(20);

/// How sessions with holders are run.
#[derive(Clone, Debug)]
pub struct PtyConfig {
    /// The provider's name: `pty`, or `acp` for agents behind pipes.
    pub name: &'static str,
    /// The directory of all sessions: `DATA/pty`, `DATA/acp`.
    pub dir: PathBuf,
    /// A program that calls [`dispatch`](super::dispatch), with arguments before `holder DIR` if it needs any.
    pub program: Vec<OsString>,
    /// How much of a session's log is kept, and how fast it may grow.
    pub limits: LogLimits,
    /// How the processes of a session are held together.
    pub containment: ContainmentChoice,
}

impl PtyConfig {
    /// Agents in terminals, with the usual limits.
    pub fn new(dir: impl Into<PathBuf>, program: impl IntoIterator<Item = OsString>) -> Self {
        let (program, containment) = (program.into_iter().collect(), ContainmentChoice::default());
        Self { name: "pty", dir: dir.into(), program, limits: LogLimits::default(), containment }
    }

    /// Agents that speak the Agent Client Protocol (version 1) over pipes, with the usual limits.
    pub fn acp(dir: impl Into<PathBuf>, program: impl IntoIterator<Item = OsString>) -> Self {
        Self { name: "acp", ..Self::new(dir, program) }
    }

    /// Gateways of OpenClaw that the node starts itself, with the usual limits.
    pub fn gateways(dir: impl Into<PathBuf>, program: impl IntoIterator<Item = OsString>) -> Self {
        Self { name: "openclaw", ..Self::new(dir, program) }
    }

    /// What its sessions speak, where that is one thing: it decides what they can do.
    fn protocol(&self) -> Protocol {
        if self.name == "acp" { Protocol::Acp } else { Protocol::Terminal }
    }
}

/// Agents in pseudo-terminals, or behind pipes ([`PtyConfig::acp`]), each with a holder of its own.
pub struct PtyProvider {
    pub(super) config: PtyConfig,
    pub(super) name: ProviderName,
    sessions: Mutex<BTreeMap<SessionId, Slot>>,
    /// Holders that we started and have to collect, recoveries, subscriptions.
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

/// A session's directory.
#[derive(Clone)]
enum Slot {
    Known(Arc<Entry>),
    /// It is there and must not be touched; why.
    Unreadable(Arc<FileError>),
}

impl PtyProvider {
    /// Finds the sessions in the directory, and goes on with them.
    ///
    /// # Errors
    /// [`ProviderError::Unavailable`] if the directory cannot be made or read.
    pub async fn start(mut config: PtyConfig) -> Result<Arc<Self>, ProviderError> {
        let unavailable = |error: FileError| ProviderError::Unavailable {
            what: "the directory of terminal sessions cannot be used".into(),
            source: Some(Box::new(error)),
        };
        let name = ProviderName::new(config.name).map_err(|error| ProviderError::Invalid(error.to_string()))?;
        let dir = config.dir.clone();
        let found = tokio::task::spawn_blocking(move || scan(&dir)).await;
        let (dir, slots) = found.unwrap_or_else(|_| Ok((config.dir.clone(), BTreeMap::new()))).map_err(unavailable)?;
        config.dir = dir;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let provider = Arc::new(Self { config, name, sessions: Mutex::new(slots.clone()), tasks, stop });
        for (id, slot) in slots {
            match slot {
                Slot::Known(entry) => provider.recover_behind(entry),
                Slot::Unreadable(error) => tracing::warn!(session_id = %id, %error, "session is left alone"),
            }
        }
        Ok(provider)
    }

    /// Stops watching. The sessions go on, in the care of their holders.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Sends the holders of sessions that have ended home: what they wait to tell is in their files. For whoever puts
    /// everything away.
    ///
    /// # Errors
    /// [`ProviderError::Deadline`] if one of them stays.
    pub async fn dismiss_ended(&self) -> Result<(), ProviderError> {
        let dismiss = self.entries().into_iter().map(|entry| async move {
            if entry.is_held() && entry.exit().await.is_some() { holder_gone(&entry).await } else { Ok(()) }
        });
        futures::future::join_all(dismiss).await.into_iter().collect()
    }

    /// Brings a session to its end if its holder is dead, without anybody waiting for it.
    fn recover_behind(&self, entry: Arc<Entry>) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let recover = async {
                if entry.exit().await.is_none()
                    && let Err(error) = entry.recover().await
                {
                    tracing::error!(session_id = %entry.id, %error, "a session could not be brought to its end");
                }
            };
            stop.run_until_cancelled(recover).await;
        });
    }

    /// A session of its own.
    fn entry(&self, id: &SessionId) -> Result<Arc<Entry>, ProviderError> {
        match lock(&self.sessions).get(id) {
            Some(Slot::Known(entry)) => Ok(Arc::clone(entry)),
            Some(Slot::Unreadable(error)) => {
                Err(ProviderError::Unavailable { what: format!("session {id} is left alone: {error}"), source: None })
            }
            None => Err(ProviderError::UnknownSession(id.clone())),
        }
    }

    fn entries(&self) -> Vec<Arc<Entry>> {
        let known = |slot: &Slot| match slot {
            Slot::Known(entry) => Some(Arc::clone(entry)),
            Slot::Unreadable(_) => None,
        };
        lock(&self.sessions).values().filter_map(known).collect()
    }

    /// The session that said it started the one with this id, and what is known of that.
    async fn parent_of(&self, id: &SessionId) -> Option<(Arc<Entry>, SessionInfo)> {
        // Few are asked for, and the files know.
        for entry in self.entries() {
            if let Some(info) = entry.children().await.into_iter().find(|info| info.session_id == *id) {
                return Some((entry, info));
            }
        }
        None
    }

    /// The session, if it can be acted on: one that lives in another cannot.
    async fn target(&self, id: &SessionId, capability: Capability) -> Result<Arc<Entry>, ProviderError> {
        // Whether its requests can be answered, it tells itself.
        let is_never = |no: &Capability| *no == capability && capability != Capability::Approve;
        match self.entry(id) {
            Ok(entry) => match reasons(entry.spec.protocol).iter().find(|(no, _)| is_never(no)) {
                Some((_, reason)) => Err(ProviderError::NotCapable { capability, reason: (*reason).into() }),
                None => Ok(entry),
            },
            Err(ProviderError::UnknownSession(_)) => match self.parent_of(id).await {
                Some((parent, _)) => Err(ProviderError::NotCapable {
                    capability,
                    reason: format!("it lives in session {}; act on that", parent.id),
                }),
                None => Err(ProviderError::UnknownSession(id.clone())),
            },
            Err(other) => Err(other),
        }
    }

    /// Asks a session's holder. If that is dead, the session is brought to its end first, and the answer is that it has
    /// ended.
    async fn call(&self, entry: &Entry, doing: &str, call: Call, within: Duration) -> Result<Answer, ProviderError> {
        let error = match entry.call(call, within).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        match error {
            CallError::Fault(fault) => Err(match fault.kind {
                FaultKind::WrongState => {
                    let status = fault.status.unwrap_or(Status::Running);
                    ProviderError::WrongState { status, reason: fault.reason }
                }
                FaultKind::Invalid | FaultKind::UnknownCall => ProviderError::Invalid(fault.reason),
                FaultKind::NotReading | FaultKind::Failed => {
                    ProviderError::Failed { doing: format!("{doing}: {}", fault.reason), source: None }
                }
            }),
            CallError::Deadline(seconds) => Err(ProviderError::Deadline { doing: doing.into(), seconds }),
            CallError::Protocol(_) if error.is_gone() => match entry.recover().await {
                Ok(Found::Ended(exit)) => {
                    Err(ProviderError::WrongState { status: exit.end.status, reason: exit.end.reason })
                }
                Ok(Found::Held) => Err(unreachable_holder(doing, Some(error))),
                Err(error) => Err(unreachable_holder(doing, Some(error))),
            },
            CallError::Protocol(_) => Err(unreachable_holder(doing, Some(error))),
        }
    }

    async fn done(
        &self,
        id: &SessionId,
        (capability, doing): (Capability, &str),
        call: Call,
        within: Duration,
    ) -> Result<(), ProviderError> {
        let entry = self.target(id, capability).await?;
        self.call(&entry, doing, call, within).await.map(|_| ())
    }

    /// Kills a session whose holder does not answer: the holder first, then all that is left.
    async fn kill_holder(&self, entry: &Entry, by: &Operator) -> Result<EndReport, ProviderError> {
        tracing::warn!(session_id = %entry.id, "holder does not answer a kill; it is killed too");
        // Known before anybody can find it dead.
        entry.intend(Intent { action: EndAction::Kill, by: by.clone(), at: clock::now_micros() });
        if let Ok(state) = entry.state().await {
            state.holder.signal(rustix::process::Signal::KILL);
        }
        let until = tokio::time::Instant::now() + LEAVE_WITHIN;
        loop {
            match entry.recover().await {
                Ok(Found::Ended(exit)) => {
                    let gone = || ProviderError::WrongState {
                        status: exit.end.status.clone(),
                        reason: exit.end.reason.clone(),
                    };
                    return exit.end.report.clone().ok_or_else(gone);
                }
                Ok(Found::Held) if tokio::time::Instant::now() < until => tokio::time::sleep(LOOK_AGAIN).await,
                Ok(Found::Held) => return Err(unreachable_holder("killing", None::<CallError>)),
                Err(error) => return Err(unreachable_holder("killing", Some(error))),
            }
        }
    }
}

impl Drop for PtyProvider {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Asks the holder of a session that has ended to leave, and waits until it is gone.
async fn holder_gone(entry: &Entry) -> Result<(), ProviderError> {
    // One that cannot be asked is leaving, or will be found to stay.
    let _ = entry.call(Call::Leave, ANSWER_WITHIN).await;
    let until = tokio::time::Instant::now() + LEAVE_WITHIN;
    while entry.is_held() {
        if tokio::time::Instant::now() >= until {
            let (doing, seconds) = ("waiting for the session's holder to end".into(), LEAVE_WITHIN.as_secs());
            return Err(ProviderError::Deadline { doing, seconds });
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

async fn forget_child(parent: &Entry, info: SessionInfo) -> Result<(), ProviderError> {
    if !info.status.is_terminal() {
        let reason = "only what has ended can be forgotten".into();
        return Err(ProviderError::WrongState { status: info.status, reason });
    }
    parent
        .forget_child(&info.session_id)
        .await
        .map_err(|error| ProviderError::Failed { doing: "forgetting a session".into(), source: Some(Box::new(error)) })
}

fn unreachable_holder<E>(doing: &str, source: Option<E>) -> ProviderError
where
    E: std::error::Error + Send + Sync + 'static,
{
    let what = format!("{doing}: the session's holder cannot be reached");
    ProviderError::Unavailable { what, source: source.map(|error| Box::new(error) as Box<_>) }
}

/// All sessions in the directory, which is made if it is not there, and its full path.
fn scan(dir: &Path) -> Result<(PathBuf, BTreeMap<SessionId, Slot>), FileError> {
    let all = SessionDir::new(dir);
    all.create()?;
    let io = |doing| move |source| FileError::Io { doing, path: dir.into(), source };
    let full = std::fs::canonicalize(dir).map_err(io("resolving"))?;
    let mut slots = BTreeMap::new();
    for path in std::fs::read_dir(&full).map_err(io("reading"))?.flatten().map(|entry| entry.path()) {
        let Some(id) = path.file_name().and_then(|name| SessionId::new(name.to_str()?).ok()) else { continue };
        let dir = SessionDir::new(&path);
        let slot = match dir.spec().and_then(|spec| match dir.state() {
            Err(error) if !error.is_missing() => Err(error),
            Ok(_) | Err(_) => Ok(spec),
        }) {
            Ok(spec) => Slot::Known(Arc::new(Entry::new(dir, spec))),
            // Nothing was started: the first thing written is what is to be.
            Err(error) if error.is_missing() => continue,
            Err(error) => Slot::Unreadable(Arc::new(error)),
        };
        slots.insert(id, slot);
    }
    Ok((full, slots))
}

#[async_trait]
impl AgentProvider for PtyProvider {
    fn name(&self) -> ProviderName {
        self.name.clone()
    }

    async fn health(&self) -> ProviderHealth {
        let problem = |error: std::io::Error| format!("{} cannot be used: {error}", self.config.dir.display());
        let error = tokio::fs::metadata(&self.config.dir).await.err().map(problem);
        ProviderHealth { error, capabilities: at_best(self.config.protocol()) }
    }

    fn watch(&self) -> mpsc::Receiver<Appeared> {
        // Sessions are started, they do not appear. The sender lives as long as the receiver may wait.
        let (sender, receiver) = mpsc::channel(1);
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = sender.closed() => {}
            }
        });
        receiver
    }

    async fn sessions(&self) -> Result<Vec<SessionInfo>, ProviderError> {
        let entries = self.entries();
        let infos = entries.iter().map(|entry| async {
            let children = entry.children().await;
            entry.info().await.into_iter().chain(children)
        });
        Ok(futures::future::join_all(infos).await.into_iter().flatten().collect())
    }

    async fn session(&self, id: &SessionId) -> Result<SessionInfo, ProviderError> {
        match self.entry(id) {
            Ok(entry) => entry.info().await,
            Err(error) => self.parent_of(id).await.map(|(_, info)| info).ok_or(error),
        }
    }

    async fn recent_messages(&self, id: &SessionId, limit: usize) -> Result<Vec<MessageDraft>, ProviderError> {
        let entry = match self.entry(id) {
            Ok(entry) => entry,
            // What a child has said is told from its parent's log, by subscription.
            Err(error) => return self.parent_of(id).await.map(|_| vec![]).ok_or(error),
        };
        let look = tokio::task::spawn_blocking(move || recent(&Shelf::of(&entry), limit));
        match tokio::time::timeout(RECENT_WITHIN, look).await {
            Ok(Ok(found)) => found.map_err(unavailable),
            Ok(Err(_)) => Ok(vec![]),
            Err(_) => {
                let (doing, seconds) = ("looking back".into(), RECENT_WITHIN.as_secs());
                Err(ProviderError::Deadline { doing, seconds })
            }
        }
    }

    async fn subscribe(&self, id: &SessionId, from: Position) -> Result<EventStream, ProviderError> {
        let (entry, child) = match self.entry(id) {
            Ok(entry) => (entry, None),
            Err(error) => (self.parent_of(id).await.ok_or(error)?.0, Some(id.clone())),
        };
        // Until its start is over there is no log.
        drop(entry.starting.lock().await);
        if entry.exit().await.is_none() && !entry.is_held() {
            entry.recover().await.map_err(|error| unreachable_holder("subscribing", Some(error)))?;
        }
        let (sender, receiver) = mpsc::channel(FEED_CAPACITY);
        let opened = tokio::task::spawn_blocking(move || match child {
            Some(child) => Feed::open_child(entry, &child, from, sender),
            None => Feed::open(entry, from, sender),
        });
        let opened = opened.await;
        let Ok(feed) = opened else { return Ok(receiver) };
        let feed = feed.map_err(unavailable)?;
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            stop.run_until_cancelled(feed.run()).await;
        });
        Ok(receiver)
    }

    async fn acknowledge(&self, id: &SessionId, position: Position) {
        // The subscription passes it on.
        if let Ok(entry) = self.entry(id) {
            entry.acknowledge(position);
        }
    }

    async fn spawn(&self, request: SpawnRequest) -> Result<SessionInfo, ProviderError> {
        let path = self.config.dir.join(request.session_id.as_str());
        let fresh = {
            let mut sessions = lock(&self.sessions);
            match sessions.get(&request.session_id) {
                Some(_) => None,
                None => {
                    let spec = self.spec(&request, &path)?;
                    let entry = Arc::new(Entry::new(SessionDir::new(&path), spec));
                    sessions.insert(request.session_id.clone(), Slot::Known(Arc::clone(&entry)));
                    // Nobody else knows it yet, so this cannot fail.
                    Some(entry)
                }
            }
        };
        let Some(entry) = fresh else {
            let entry = self.entry(&request.session_id)?;
            drop(entry.starting.lock().await);
            return entry.info().await;
        };
        let starting = entry.starting.lock().await;
        let started = self.start_holder(&entry, &request).await;
        drop(starting);
        if let Err(error) = started {
            lock(&self.sessions).remove(&request.session_id);
            // What little there may be is killed and taken away; what cannot be is found at the next start.
            let _ = entry.recover().await;
            let _ = tokio::fs::remove_dir_all(entry.dir.path()).await;
            return Err(error);
        }
        entry.info().await
    }

    async fn inject(&self, id: &SessionId, message: OperatorMessage) -> Result<InjectOutcome, ProviderError> {
        let entry = self.target(id, Capability::Inject).await?;
        let OperatorMessage { message_id, operator, content, mode } = message;
        let call = Call::Inject { message_id, operator, content, mode };
        match self.call(&entry, "handing over a message", call, INJECT_WITHIN).await? {
            Answer::Injection(Some(outcome)) => Ok(outcome),
            _ => Err(unreachable_holder("handing over a message", None::<CallError>)),
        }
    }

    async fn injection(&self, id: &SessionId, message: &MessageId) -> Result<Option<InjectOutcome>, ProviderError> {
        let entry = match self.entry(id) {
            Ok(entry) => entry,
            Err(error) => return self.parent_of(id).await.map(|_| None).ok_or(error),
        };
        let call = Call::Injection { message_id: message.clone() };
        if let Ok(Answer::Injection(outcome)) = entry.call(call, ANSWER_WITHIN).await {
            return Ok(outcome);
        }
        // The holder is gone; the log knows.
        let message = message.clone();
        let look = tokio::task::spawn_blocking(move || super::feed::injection(&entry, &message)).await;
        look.unwrap_or(Ok(None)).map_err(unavailable)
    }

    async fn answer(
        &self,
        id: &SessionId,
        request: &MessageId,
        answer: &bus_schema::Answer,
        by: &Operator,
    ) -> Result<(), ProviderError> {
        let entry = self.target(id, Capability::Approve).await?;
        if !entry.info().await?.capabilities.contains(&Capability::Approve) && entry.exit().await.is_none() {
            let reason = "answer its questions at the terminal".into();
            return Err(ProviderError::NotCapable { capability: Capability::Approve, reason });
        }
        let call = Call::Answer { request: request.clone(), answer: answer.clone(), by: by.clone() };
        self.call(&entry, "answering", call, CONFIRM_WITHIN).await.map(|_| ())
    }

    async fn pause(&self, id: &SessionId, by: &Operator) -> Result<(), ProviderError> {
        self.done(id, (Capability::Pause, "pausing"), Call::Freeze { by: by.clone() }, FREEZE_WITHIN).await
    }

    async fn resume(&self, id: &SessionId, by: &Operator) -> Result<(), ProviderError> {
        self.done(id, (Capability::Resume, "resuming"), Call::Thaw { by: by.clone() }, FREEZE_WITHIN).await
    }

    async fn terminate(&self, id: &SessionId, by: &Operator) -> Result<(), ProviderError> {
        match self
            .done(id, (Capability::Terminate, "terminating"), Call::Terminate { by: by.clone() }, ANSWER_WITHIN)
            .await
        {
            // What has ended needs no ending.
            Err(ProviderError::WrongState { status, .. }) if status.is_terminal() => Ok(()),
            other => other,
        }
    }

    async fn kill(&self, id: &SessionId, by: &Operator) -> Result<EndReport, ProviderError> {
        let entry = self.target(id, Capability::Kill).await?;
        match self.call(&entry, "killing", Call::Kill { by: by.clone() }, KILL_WITHIN).await {
            Ok(Answer::Killed(report)) => Ok(report),
            Ok(_) | Err(ProviderError::Deadline { .. } | ProviderError::Unavailable { .. }) => {
                self.kill_holder(&entry, by).await
            }
            Err(error) => Err(error),
        }
    }

    async fn terminal_input(&self, id: &SessionId, data: &[u8], by: &Operator) -> Result<(), ProviderError> {
        self.done(id, (Capability::Input, "typing"), Call::Input { data: data.to_vec(), by: by.clone() }, ANSWER_WITHIN)
            .await
    }

    async fn resize(&self, id: &SessionId, size: TerminalSize) -> Result<(), ProviderError> {
        self.done(id, (Capability::Resize, "resizing"), Call::Resize { size }, ANSWER_WITHIN).await
    }

    async fn terminal_snapshot(&self, id: &SessionId) -> Result<TerminalSnapshot, ProviderError> {
        let entry = self.target(id, Capability::Terminal).await?;
        match self.call(&entry, "looking at the terminal", Call::Snapshot, ANSWER_WITHIN).await? {
            Answer::Snapshot(snapshot) => Ok(snapshot),
            _ => Err(unreachable_holder("looking at the terminal", None::<CallError>)),
        }
    }

    async fn forget(&self, id: &SessionId) -> Result<(), ProviderError> {
        let entry = match self.entry(id) {
            Ok(entry) => entry,
            Err(error) => {
                let (parent, info) = self.parent_of(id).await.ok_or(error)?;
                return forget_child(&parent, info).await;
            }
        };
        if entry.exit().await.is_none() {
            let status = entry.info().await?.status;
            return Err(ProviderError::WrongState { status, reason: "only what has ended can be forgotten".into() });
        }
        holder_gone(&entry).await?;
        tokio::fs::remove_dir_all(entry.dir.path()).await.map_err(|error| ProviderError::Failed {
            doing: "removing the session's directory".into(),
            source: Some(Box::new(error)),
        })?;
        lock(&self.sessions).remove(id);
        Ok(())
    }
}
