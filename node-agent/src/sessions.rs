//! All sessions of the node: what is on disk is taken up, what runtimes have is found, what operators start is started,
//! what is over is forgotten in time.
//!
//! ```text
//!  commands ──► Sessions (a handle) ──► Keeper (a task, owns the sessions' tasks)
//!  providers ─► discovery ────────────►   │
//!  sessions ──► children ─────────────►   └─► Task, Task, Task …
//! ```
//!
//! Laws:
//! 1. A session has one task, and a task that fails is started again from what is on disk.
//! 2. The keeper never waits for a session or a provider, so neither can hold up the others.
//! 3. Nothing that has ended is taken up again, and nothing is forgotten that the bus does not have.

mod keeper;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bus_schema::{
    CommandReply, NodeId, Operator, Outcome, ProviderName, RefusalCode, Session, SessionId, Spawn, Verb, WorkspaceId,
};
use providers::{AgentProvider, Profile, Registry, SessionInfo};
use tokio::sync::{Notify, mpsc, oneshot};

pub use self::keeper::{Keeper, OpenError, discover};
use crate::outbox::Files;
use crate::session::ops::{ASK_DEADLINE, answer, not_of_a_session, refusal, refused, within};
use crate::session::state::State;
use crate::session::{Ask, Born, Handle};

/// Requests to the keeper that wait for it; it only starts tasks, so this is never long.
const REQUESTS: usize = 64;

/// What the node may do with sessions.
pub struct Rules {
    /// Its workspace.
    pub workspace: WorkspaceId,
    /// Its name.
    pub node: NodeId,
    /// What it may start.
    pub profiles: BTreeMap<String, Profile>,
    /// How many sessions may live at once.
    pub max_sessions: usize,
    /// How long a session that is over stays.
    pub keep_ended: Duration,
    /// Where the outboxes are.
    pub dir: PathBuf,
    /// Where sessions start whose profile does not say.
    pub default_cwd: Option<PathBuf>,
}

/// All sessions of the node. A clone is the same.
#[derive(Clone)]
pub struct Sessions {
    inner: Arc<Inner>,
}

struct Inner {
    rules: Rules,
    registry: Registry,
    entries: Mutex<BTreeMap<SessionId, Entry>>,
    requests: mpsc::Sender<Request>,
    changed: Notify,
}

enum Entry {
    /// Its task runs.
    Live(ProviderName, Handle),
    /// Its task failed and is started again soon.
    Failed(ProviderName, Box<Session>),
    /// It is over.
    Over(Box<Over>),
}

/// What remains of a session that is over.
struct Over {
    state: State,
    files: Arc<Files>,
}

/// What the keeper is asked for.
enum Request {
    Spawn { spawn: Box<Spawn>, by: Operator, reply: oneshot::Sender<CommandReply> },
    Found(ProviderName, Box<SessionInfo>),
}

impl Entry {
    fn session(&self) -> Session {
        match self {
            Entry::Live(_, handle) => handle.shown.borrow().clone(),
            Entry::Failed(_, session) => (**session).clone(),
            Entry::Over(over) => over.state.session.clone(),
        }
    }

    fn is_alive(&self) -> bool {
        match self {
            Entry::Live(_, handle) => !handle.shown.borrow().status.is_terminal(),
            Entry::Failed(_, session) => !session.status.is_terminal(),
            Entry::Over(_) => false,
        }
    }
}

impl Sessions {
    fn new(rules: Rules, registry: Registry) -> (Self, mpsc::Receiver<Request>) {
        let (requests, receiver) = mpsc::channel(REQUESTS);
        let entries = Mutex::default();
        (Self { inner: Arc::new(Inner { rules, registry, entries, requests, changed: Notify::new() }) }, receiver)
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<SessionId, Entry>> {
        self.inner.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rules they follow.
    pub fn rules(&self) -> &Rules {
        &self.inner.rules
    }

    /// The runtimes they live in.
    pub fn registry(&self) -> &Registry {
        &self.inner.registry
    }

    /// Sessions that have not ended, by provider.
    pub fn alive(&self) -> BTreeMap<ProviderName, u32> {
        let mut counts = BTreeMap::new();
        for entry in self.entries().values().filter(|entry| entry.is_alive()) {
            let (Entry::Live(provider, _) | Entry::Failed(provider, _)) = entry else { continue };
            *counts.entry(provider.clone()).or_default() += 1;
        }
        counts
    }

    /// Returns when sessions came or went.
    pub async fn changed(&self) {
        self.inner.changed.notified().await;
    }

    /// All sessions the node knows, those that are over included.
    pub fn list(&self) -> Vec<Session> {
        self.entries().values().map(Entry::session).collect()
    }

    /// Has a command carried out. The answer comes from the session's task, and in the end always comes: a sender that
    /// is dropped means that the task has failed.
    pub async fn ask(&self, verb: Verb, by: Operator) -> oneshot::Receiver<CommandReply> {
        let (reply, answered) = oneshot::channel();
        let id = match &verb {
            Verb::Spawn(spawn) => spawn.session_id.clone(),
            Verb::Inject { session, .. } => session.clone(),
            Verb::Pause(session) | Verb::Resume(session) | Verb::Terminate(session) | Verb::Kill(session) => {
                session.clone()
            }
            Verb::Input(session, _) | Verb::Resize(session, _) | Verb::TerminalSnapshot(session) => session.clone(),
            Verb::DeliveryState(session, _) | Verb::Answer(session, ..) => session.clone(),
            Verb::Configure(_) | Verb::TestConnection(_) | Verb::Trust => {
                answer(reply, not_of_a_session());
                return answered;
            }
        };
        let found = match self.entries().get(&id) {
            Some(Entry::Live(_, handle)) => Found::Live(handle.asks.clone()),
            Some(Entry::Failed(..)) => Found::Failed,
            Some(Entry::Over(over)) => Found::Over(Box::new(over.state.clone())),
            None => Found::None,
        };
        match found {
            Found::Live(asks) => match asks.try_send(Ask { verb, by, reply }) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(ask)) => {
                    answer(ask.reply, refusal(RefusalCode::Busy, "many commands wait for this session; try again"));
                }
                Err(mpsc::error::TrySendError::Closed(ask)) => {
                    answer(ask.reply, refusal(RefusalCode::Busy, "the session is just changing hands; try again"));
                }
            },
            Found::Failed => {
                let text = "the node cannot look after this session just now; its log says why; try again";
                answer(reply, refusal(RefusalCode::Busy, text));
            }
            Found::Over(state) => answer(reply, self.ask_over(*state, verb).await),
            Found::None => match verb {
                Verb::Spawn(spawn) => self.spawn(spawn, by, reply).await,
                _ => answer(reply, refusal(RefusalCode::UnknownSession, format!("this node has no session {id}"))),
            },
        }
        answered
    }

    /// What can be said of a session that is over.
    async fn ask_over(&self, state: State, verb: Verb) -> CommandReply {
        match verb {
            Verb::Spawn(_) => CommandReply { session: Some(state.session), ..CommandReply::with(None, Outcome::Done) },
            Verb::DeliveryState(_, message) => {
                let delivery = state.delivery(&message).cloned();
                CommandReply { delivery, ..CommandReply::with(None, Outcome::Done) }
            }
            Verb::TerminalSnapshot(id) => {
                let Some(provider) = self.inner.registry.get(state.session.provider.as_str()) else {
                    return refusal(RefusalCode::WrongState, "the session has ended, and its runtime is gone");
                };
                let call = provider.terminal_snapshot(&id);
                match within(ASK_DEADLINE, "asking what the terminal shows", call).await {
                    Ok(snapshot) => {
                        CommandReply { snapshot: Some(snapshot), ..CommandReply::with(None, Outcome::Done) }
                    }
                    Err(error) => refused(&error),
                }
            }
            _ => {
                let text = format!("the session is {}", state.session.status);
                CommandReply { session: Some(state.session), ..refusal(RefusalCode::WrongState, text) }
            }
        }
    }

    async fn spawn(&self, spawn: Spawn, by: Operator, reply: oneshot::Sender<CommandReply>) {
        if let Err(refused) = self.startable(&spawn.profile) {
            answer(reply, *refused);
            return;
        }
        let request = Request::Spawn { spawn: Box::new(spawn), by, reply };
        // The keeper has gone: dropping the request tells the one who waits.
        let _ = self.inner.requests.send(request).await;
    }

    /// The profile and its runtime, or why it cannot be started.
    fn startable(&self, profile: &str) -> Result<(Profile, Arc<dyn AgentProvider>), Box<CommandReply>> {
        let rules = &self.inner.rules;
        let Some(found) = rules.profiles.get(profile) else {
            let names: Vec<_> = rules.profiles.keys().map(String::as_str).collect();
            let known =
                if names.is_empty() { "it has none".to_owned() } else { format!("it has {}", names.join(", ")) };
            let text = format!("this node has no profile {profile:?}; {known}");
            return Err(Box::new(refusal(RefusalCode::UnknownProfile, text)));
        };
        let Some(provider) = self.inner.registry.get(&found.provider) else {
            let text =
                format!("profile {profile:?} needs the provider {:?}, which this node does not have", found.provider);
            return Err(Box::new(refusal(RefusalCode::UnknownProfile, text)));
        };
        let alive: u32 = self.alive().values().sum();
        if usize::try_from(alive).unwrap_or(usize::MAX) >= rules.max_sessions {
            let text = format!("this node has {alive} sessions, and may have {}", rules.max_sessions);
            return Err(Box::new(refusal(RefusalCode::Busy, text)));
        }
        Ok((found.clone(), provider))
    }

    /// Tells of a session that a runtime has. Waits only while the keeper is busy.
    async fn found(&self, provider: &ProviderName, info: SessionInfo) {
        if self.entries().contains_key(&info.session_id) {
            return;
        }
        // The keeper has gone: the next node agent finds the session by itself.
        let _ = self.inner.requests.send(Request::Found(provider.clone(), Box::new(info))).await;
    }
}

enum Found {
    Live(mpsc::Sender<Ask>),
    Failed,
    Over(Box<State>),
    None,
}

/// Sessions that other sessions started and nobody looks after yet. Their parents wait.
pub const CHILD_QUEUE: usize = 64;

/// Makes what is known of a child into what a runtime would tell.
fn born_info(born: &Born, now: bus_schema::Timestamp) -> SessionInfo {
    SessionInfo {
        session_id: born.child.session_id.clone(),
        parent_session_id: Some(born.parent.clone()),
        status: bus_schema::Status::Spawning,
        status_reason: None,
        status_source: bus_schema::StatusSource::Runtime,
        title: born.child.title.clone(),
        agent_type: born.child.agent_type.clone(),
        profile: None,
        spawned_at: now,
        started_at: None,
        ended_at: None,
        capabilities: vec![],
        metadata: Default::default(),
    }
}
