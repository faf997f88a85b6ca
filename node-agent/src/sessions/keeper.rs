//! The task that owns the sessions' tasks, and those that find sessions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bus_schema::{CommandReply, Operator, Outcome, ProviderName, RefusalCode, SessionId, Spawn};
use providers::{AgentProvider, ProviderError, Registry, SessionInfo, SpawnRequest, clock};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Entry, Over, Request, Rules, Sessions, born_info};
use crate::outbox::record::RecordKind;
use crate::outbox::{Opened, Outbox, OutboxError};
use crate::publisher::{Live, Outlet, chain};
use crate::session::ops::{ASK_DEADLINE, answer, refusal, within};
use crate::session::recover::{RecoverError, checkpoint, recover};
use crate::session::state::{Home, State};
use crate::session::{Begin, Born, Context, Left, SessionError, Task};

/// How often it is looked at what can be forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// Sessions that are over and kept, however young: each costs some kilobytes of memory, and its files.
const MAX_ENDED: usize = 1_000;
/// Pause before a task that failed is started again.
const RESTART_AFTER: Duration = Duration::from_secs(5);
/// How often a provider is asked for sessions it has not told of, and again after it could not be asked.
const LIST_EVERY: Duration = Duration::from_secs(60);
/// Pause before a provider that could not be asked is asked again.
const LIST_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// The sessions on disk cannot be taken up. The node does not start over something it does not understand.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be read.
    #[error("listing {path:?}")]
    List {
        /// Which folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// An outbox cannot be read.
    #[error("opening the outbox of session {session}")]
    Outbox {
        /// Whose.
        session: SessionId,
        /// Why not.
        #[source]
        source: OutboxError,
    },
    /// A record cannot be understood.
    #[error("reading the outbox of session {session}")]
    Recover {
        /// Whose.
        session: SessionId,
        /// Why not.
        #[source]
        source: RecoverError,
    },
    /// The last word on a session cannot be written.
    #[error("writing to the outbox of session {session}")]
    Write {
        /// Whose.
        session: SessionId,
        /// Why not.
        #[source]
        source: SessionError,
    },
}

/// Owns the sessions' tasks.
pub struct Keeper {
    sessions: Sessions,
    context: Arc<Context>,
    requests: mpsc::Receiver<Request>,
    children: mpsc::Receiver<Born>,
    tasks: JoinSet<Result<Left, SessionError>>,
    running: BTreeMap<Id, (SessionId, ProviderName)>,
    /// Tasks to start again, and when.
    failed: Vec<(Instant, SessionId)>,
    forgets: JoinSet<(SessionId, bool)>,
    cancel: CancellationToken,
}

impl Keeper {
    /// A keeper, and the handle to what it keeps.
    pub fn new(
        rules: Rules,
        registry: Registry,
        context: Arc<Context>,
        children: mpsc::Receiver<Born>,
    ) -> (Self, Sessions) {
        let (sessions, requests) = Sessions::new(rules, registry);
        let keeper = Self {
            sessions: sessions.clone(),
            context,
            requests,
            children,
            tasks: JoinSet::new(),
            running: BTreeMap::new(),
            failed: vec![],
            forgets: JoinSet::new(),
            cancel: CancellationToken::new(),
        };
        (keeper, sessions)
    }

    /// Takes up all sessions that are on disk. `is_after_restart`: the machine was restarted, none of them lives.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&mut self, is_after_restart: bool) -> Result<(), OpenError> {
        let dir = self.sessions.rules().dir.clone();
        let list = |source| OpenError::List { path: dir.clone(), source };
        std::fs::create_dir_all(&dir).map_err(list)?;
        for entry in std::fs::read_dir(&dir).map_err(list)? {
            let name = entry.map_err(list)?.file_name();
            match SessionId::new(name.to_string_lossy()) {
                Ok(id) => self.take_up(&id, is_after_restart)?,
                Err(_) => tracing::warn!(name = %name.to_string_lossy(), "not a session's folder; left alone"),
            }
        }
        Ok(())
    }

    fn outbox_dir(&self, id: &SessionId) -> PathBuf {
        self.sessions.rules().dir.join(id.as_str()).join("outbox")
    }

    fn take_up(&mut self, id: &SessionId, is_after_restart: bool) -> Result<(), OpenError> {
        let outbox = |source| OpenError::Outbox { session: id.clone(), source };
        let opened = Outbox::open(id, &self.outbox_dir(id), self.context.meter.clone()).map_err(outbox)?;
        let Opened { mut outbox, records } = opened;
        let recovered = recover(&records).map_err(|source| OpenError::Recover { session: id.clone(), source })?;
        let Some(mut state) = recovered else {
            // The node agent was killed before anything of the session was written: nobody was told of it.
            drop(outbox);
            let dir = self.sessions.rules().dir.join(id.as_str());
            return remove(&dir).map_err(|source| OpenError::List { path: dir, source });
        };
        let provider = self.sessions.registry().get(state.session.provider.as_str());
        if !state.is_over {
            let lost = if is_after_restart {
                outbox.skip_numbers();
                state.machine_restarted(clock::now());
                true
            } else if provider.is_none() {
                let name = &state.session.provider;
                let reason = format!("this node has no provider {name} any more");
                state.lost(reason, clock::now());
                true
            } else {
                false
            };
            if lost {
                tracing::warn!(session_id = %id, reason = state.session.status_reason, "session lost");
                let write = |source| OpenError::Write { session: id.clone(), source };
                write_end(&mut outbox, &mut state).map_err(write)?;
            }
        }
        match provider {
            Some(provider) if !state.is_over => self.start(provider, state, outbox, Begin::Attach),
            _ => {
                let files = outbox.files().clone();
                files.close();
                let live = Arc::new(Live::new(self.context.terminal_rate));
                self.context.outgoing.open(Outlet { files: files.clone(), live });
                self.sessions.entries().insert(id.clone(), Entry::Over(Box::new(Over { state, files })));
            }
        }
        Ok(())
    }

    fn start(&mut self, provider: Arc<dyn AgentProvider>, state: State, outbox: Outbox, begin: Begin) {
        let (id, name) = (state.session.session_id.clone(), state.session.provider.clone());
        let (task, handle) = Task::new(self.context.clone(), provider, state, outbox);
        let cancel = self.cancel.clone();
        let task = self.tasks.spawn(async move { task.run(begin, cancel).await });
        self.running.insert(task.id(), (id.clone(), name.clone()));
        self.sessions.entries().insert(id, Entry::Live(name, handle));
        self.sessions.inner.changed.notify_one();
    }

    /// Keeps the sessions until it is cancelled, then lets their tasks leave. Sessions go on without it.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut forget = tokio::time::interval(FORGET_EVERY);
        forget.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let again = self.failed.iter().map(|(at, _)| *at).min();
            tokio::select! {
                () = cancel.cancelled() => break,
                Some(request) = self.requests.recv() => self.requested(request),
                Some(born) = self.children.recv() => self.born(born),
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended),
                Some(done) = self.forgets.join_next() => {
                    if let Ok((id, true)) = done {
                        self.forgotten(&id);
                    }
                }
                () = sleep_until(again) => self.start_again(),
                _ = forget.tick() => self.forget(),
            }
        }
        self.cancel.cancel();
        while let Some(ended) = self.tasks.join_next_with_id().await {
            self.ended(ended);
        }
        self.forgets.shutdown().await;
    }

    fn home(&self, provider: ProviderName) -> Home {
        let rules = self.sessions.rules();
        Home { workspace: rules.workspace.clone(), node: rules.node.clone(), provider }
    }

    fn requested(&mut self, request: Request) {
        match request {
            Request::Spawn { spawn, by, reply } => self.spawn(spawn, by, reply),
            Request::Found(provider, info) => self.adopt(provider, *info),
        }
    }

    fn born(&mut self, born: Born) {
        let info = born_info(&born, clock::now());
        self.adopt(born.provider, info);
    }

    fn spawn(&mut self, spawn: Box<Spawn>, by: Operator, reply: oneshot::Sender<CommandReply>) {
        let known = self.sessions.entries().get(&spawn.session_id).map(Entry::session);
        if let Some(session) = known {
            answer(reply, CommandReply { session: Some(session), ..CommandReply::with(None, Outcome::Done) });
            return;
        }
        let (profile, provider) = match self.sessions.startable(&spawn.profile) {
            Ok(startable) => startable,
            Err(refused) => {
                answer(reply, *refused);
                return;
            }
        };
        let rules = self.sessions.rules();
        let mut env = BTreeMap::from([
            ("MOSAIC_NODE".to_owned(), rules.node.to_string()),
            ("MOSAIC_WORKSPACE".to_owned(), rules.workspace.to_string()),
        ]);
        env.extend(spawn.task_id.clone().map(|id| ("MOSAIC_TASK_ID".to_owned(), id)));
        env.extend(spawn.mission_id.clone().map(|id| ("MOSAIC_MISSION_ID".to_owned(), id)));
        let state = State::spawning(self.home(provider.name()), &spawn, &by, clock::now());
        let request = Box::new(SpawnRequest {
            session_id: spawn.session_id.clone(),
            parent_session_id: spawn.parent_session_id.clone(),
            title: spawn.title.clone().or_else(|| profile.title.clone()),
            profile,
            env,
            default_cwd: rules.default_cwd.clone(),
            conversation: spawn.resumed.as_ref().map(|resumed| resumed.conversation.clone()),
        });
        if let Err(error) = request.check() {
            answer(reply, refusal(RefusalCode::Invalid, error.to_string()));
            return;
        }
        match Outbox::open(&spawn.session_id, &self.outbox_dir(&spawn.session_id), self.context.meter.clone()) {
            Ok(Opened { outbox, .. }) => {
                self.start(provider, state, outbox, Begin::Spawn { spawn, by, request, reply })
            }
            Err(error) => {
                tracing::error!(session_id = %spawn.session_id, error = %chain(&error), "no outbox for a new session");
                let text = format!("the node cannot write to its disk: {}", chain(&error));
                let failed = refusal(RefusalCode::ProviderFailed, text);
                answer(reply, CommandReply { outcome: Outcome::Failed, ..failed });
            }
        }
    }

    fn adopt(&mut self, name: ProviderName, info: SessionInfo) {
        let id = info.session_id.clone();
        if self.sessions.entries().contains_key(&id) {
            return;
        }
        let Some(provider) = self.sessions.registry().get(name.as_str()) else { return };
        match Outbox::open(&id, &self.outbox_dir(&id), self.context.meter.clone()) {
            Ok(Opened { outbox, .. }) => {
                tracing::info!(session_id = %id, provider = %name, "session found");
                let state = State::adopted(self.home(name), info);
                self.start(provider, state, outbox, Begin::Adopt);
            }
            // It is found again at the next look.
            Err(error) => tracing::error!(session_id = %id, error = %chain(&error), "no outbox for a session found"),
        }
    }

    fn ended(&mut self, ended: Result<(Id, Result<Left, SessionError>), JoinError>) {
        let task = match &ended {
            Ok((task, _)) => *task,
            Err(error) => error.id(),
        };
        let Some((id, provider)) = self.running.remove(&task) else { return };
        match ended {
            Ok((_, Ok(Left::Over(state, files)))) => {
                tracing::info!(session_id = %id, status = %state.session.status, "session over");
                self.sessions.entries().insert(id, Entry::Over(Box::new(Over { state: *state, files })));
                self.sessions.inner.changed.notify_one();
            }
            Ok((_, Ok(Left::Cancelled))) => {}
            Ok((_, Err(error))) => self.failed(id, provider, &chain(&error)),
            Err(error) => self.failed(id, provider, &error.to_string()),
        }
    }

    fn failed(&mut self, id: SessionId, provider: ProviderName, why: &str) {
        tracing::error!(session_id = %id, error = why, "the session's task failed; it is started again");
        self.context.counters.task_restarts.increment();
        let mut entries = self.sessions.entries();
        if let Some(session) = entries.get(&id).map(Entry::session) {
            entries.insert(id.clone(), Entry::Failed(provider, Box::new(session)));
        }
        drop(entries);
        self.failed.push((Instant::now() + RESTART_AFTER.mul_f64(0.5 + rand::random::<f64>()), id));
    }

    fn start_again(&mut self) {
        let now = Instant::now();
        for (at, id) in std::mem::take(&mut self.failed) {
            if at > now {
                self.failed.push((at, id));
                continue;
            }
            if let Err(error) = self.take_up(&id, false) {
                tracing::error!(session_id = %id, error = %chain(&error), "the session cannot be taken up");
                self.failed.push((now + RESTART_AFTER, id));
            }
        }
    }

    /// Has forgotten what is over, settled, and old enough, or one too many.
    fn forget(&mut self) {
        if !self.forgets.is_empty() {
            return;
        }
        let (now, keep) = (clock::now(), self.sessions.rules().keep_ended);
        let keep_ms = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
        let mut ended: Vec<_> = self
            .sessions
            .entries()
            .iter()
            .filter_map(|(id, entry)| match entry {
                Entry::Over(over) if over.files.is_settled() => {
                    let session = &over.state.session;
                    Some((session.completed_at.unwrap_or(session.spawned_at), id.clone(), session.provider.clone()))
                }
                Entry::Over(_) | Entry::Live(..) | Entry::Failed(..) => None,
            })
            .collect();
        ended.sort_unstable();
        let too_many = ended.len().saturating_sub(MAX_ENDED);
        for (at, (ended_at, id, provider)) in ended.into_iter().enumerate() {
            if at >= too_many && now.millis_since(ended_at) < keep_ms {
                break;
            }
            let provider = self.sessions.registry().get(provider.as_str());
            self.forgets.spawn(async move {
                let Some(provider) = provider else { return (id, true) };
                match within(ASK_DEADLINE, "forgetting a session", provider.forget(&id)).await {
                    Ok(()) | Err(ProviderError::UnknownSession(_)) => (id, true),
                    Err(error) => {
                        tracing::warn!(session_id = %id, error = %chain(&error), "the runtime does not forget a session");
                        (id, false)
                    }
                }
            });
        }
    }

    /// The runtime does not know it any more: its files go too.
    fn forgotten(&mut self, id: &SessionId) {
        self.context.outgoing.close(id);
        let dir = self.sessions.rules().dir.join(id.as_str());
        match remove(&dir) {
            Ok(()) => {
                self.sessions.entries().remove(id);
            }
            Err(error) => tracing::warn!(session_id = %id, error = %error, "a session's files cannot be removed"),
        }
    }
}

fn remove(dir: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The last word on a session that nobody looks after any more.
fn write_end(outbox: &mut Outbox, state: &mut State) -> Result<(), SessionError> {
    outbox.begin_segment(&checkpoint(state)?)?;
    let session = state.snapshot();
    outbox.append(RecordKind::Session, outbox.position(), &bus_schema::encode(&session)?);
    outbox.append(RecordKind::Checkpoint, outbox.position(), &checkpoint(state)?);
    Ok(outbox.commit()?)
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Finds the sessions of one provider: those it tells of, and at times all it has. Runs until it is cancelled.
pub async fn discover(sessions: Sessions, name: ProviderName, cancel: CancellationToken) {
    let Some(provider) = sessions.registry().get(name.as_str()) else { return };
    let look = async {
        loop {
            // Subscribe first, then list: what appears in between is in one of them.
            let mut appeared = provider.watch();
            let mut pause = LIST_EVERY;
            match within(ASK_DEADLINE, "listing sessions", provider.sessions()).await {
                Ok(infos) => {
                    for info in infos {
                        sessions.found(&name, info).await;
                    }
                }
                Err(error) => {
                    tracing::warn!(provider = %name, error = %chain(&error), "sessions cannot be listed");
                    pause = LIST_AGAIN_AFTER;
                }
            }
            let next = Instant::now() + pause;
            while let Ok(Some(new)) = tokio::time::timeout_at(next, appeared.recv()).await {
                match within(ASK_DEADLINE, "looking at a session", provider.session(&new.session_id)).await {
                    Ok(info) => sessions.found(&name, info).await,
                    Err(error) => {
                        tracing::warn!(session_id = %new.session_id, error = %chain(&error), "a session cannot be looked at");
                    }
                }
            }
            // A provider that tells of none ends its channel at once.
            tokio::time::sleep_until(next).await;
        }
    };
    cancel.run_until_cancelled(look).await;
}
