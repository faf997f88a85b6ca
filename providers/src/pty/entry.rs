//! One session as the provider knows it: its directory, and what its subscribers have learned.

use std::sync::Mutex;
use std::time::Duration;

use bus_schema::{Capability, Metadata, SessionId, Status, StatusSource, Timestamp};
use serde_json::json;
use tokio::sync::watch;

use super::checkpoints::Checkpoints;
use super::files::{ChildState, FileError, SessionDir, Spec, State};
use super::interpret::end_with_parent;
use super::link;
use super::protocol::{Answer, Call};
use super::record::{Exit, Intent};
use super::recovery::{self, Found, RecoveryError};
use crate::profile::Protocol;
use crate::provider::{AgentEvent, News, Position, ProviderError, SessionInfo};

/// What a session can do.
pub(crate) fn capabilities(protocol: Protocol) -> &'static [Capability] {
    match protocol {
        Protocol::Terminal | Protocol::Lines | Protocol::Jsonl => &AT_A_TERMINAL,
        Protocol::Acp => &BEHIND_PIPES,
    }
}

const BEHIND_PIPES: [Capability; 6] = [
    Capability::Inject,
    Capability::Pause,
    Capability::Resume,
    Capability::Terminate,
    Capability::Kill,
    Capability::Approve,
];

/// Why a session cannot do what others can, and what would help.
pub(crate) fn reasons(protocol: Protocol) -> &'static [(Capability, &'static str)] {
    const NO_TERMINAL: &str = "it speaks ACP over pipes and has no terminal";
    match protocol {
        Protocol::Terminal | Protocol::Lines | Protocol::Jsonl => {
            &[(Capability::Approve, "answer its questions at the terminal")]
        }
        Protocol::Acp => {
            &[(Capability::Terminal, NO_TERMINAL), (Capability::Input, NO_TERMINAL), (Capability::Resize, NO_TERMINAL)]
        }
    }
}

const AT_A_TERMINAL: [Capability; 8] = [
    Capability::Inject,
    Capability::Pause,
    Capability::Resume,
    Capability::Terminate,
    Capability::Kill,
    Capability::Terminal,
    Capability::Input,
    Capability::Resize,
];

/// What one can do whose requests can be answered: all of that, and that.
pub(crate) fn answering() -> Vec<Capability> {
    AT_A_TERMINAL.into_iter().chain([Capability::Approve]).collect()
}

/// What a session can do at best.
pub(crate) fn at_best(protocol: Protocol) -> Vec<Capability> {
    match protocol {
        Protocol::Terminal | Protocol::Lines | Protocol::Jsonl => answering(),
        Protocol::Acp => BEHIND_PIPES.to_vec(),
    }
}

/// One session.
pub(crate) struct Entry {
    pub id: SessionId,
    pub dir: SessionDir,
    pub spec: Spec,
    /// Held while the session is being started, so that a second start waits for the first.
    pub starting: tokio::sync::Mutex<()>,
    acknowledged: watch::Sender<Position>,
    pub checkpoints: Checkpoints,
    learned: Mutex<Learned>,
    recovering: tokio::sync::Mutex<()>,
    /// Who wants its end, where the holder could not be told.
    intent: Mutex<Option<Intent>>,
}

/// What the events of the session say.
#[derive(Clone, Default)]
struct Learned {
    at: Position,
    status: Option<(Status, Option<String>, StatusSource)>,
    title: Option<String>,
}

impl Entry {
    /// A session that was or is being started.
    pub fn new(dir: SessionDir, spec: Spec) -> Self {
        let checkpoints = Checkpoints::open(spec.session_id.clone(), dir.checkpoints(), dir.log());
        Self {
            id: spec.session_id.clone(),
            dir,
            spec,
            starting: tokio::sync::Mutex::new(()),
            acknowledged: watch::Sender::new(Position::default()),
            checkpoints,
            learned: Mutex::default(),
            recovering: tokio::sync::Mutex::new(()),
            intent: Mutex::default(),
        }
    }

    /// True while its holder lives.
    pub fn is_held(&self) -> bool {
        self.dir.is_held()
    }

    /// The subscriber has everything up to here. Gives whether that is news.
    pub fn acknowledge(&self, position: Position) -> bool {
        self.acknowledged.send_if_modified(|known| {
            let is_news = position > *known;
            *known = position.max(*known);
            is_news
        })
    }

    /// Tells when more is acknowledged.
    pub fn acknowledged(&self) -> watch::Receiver<Position> {
        self.acknowledged.subscribe()
    }

    /// What the holder is to know of it: the place before which all is acknowledged, and that of the newest checkpoint
    /// before it. The block at whose end a position lies may have told more than is acknowledged, so it is needed again.
    pub fn acknowledgement(&self) -> (u64, u64) {
        let offset = self.acknowledged.borrow().offset;
        (offset, self.checkpoints.before(offset))
    }

    /// Remembers what an event says, if it is newer than what is known.
    pub fn learn(&self, event: &AgentEvent) {
        let mut learned = lock(&self.learned);
        if event.position <= learned.at {
            return;
        }
        learned.at = event.position;
        match &event.news {
            News::Status { status, reason, source } => {
                learned.status = Some((status.clone(), reason.clone(), source.clone()));
            }
            News::Title(title) => learned.title = Some(title.clone()),
            News::Turn(_)
            | News::Attention(_)
            | News::Message(_)
            | News::Delta(_)
            | News::Terminal(_)
            | News::Receipt { .. }
            | News::Child(_)
            | News::Capabilities(_)
            | News::Facts(_)
            | News::Ended(_) => {}
        }
    }

    /// How it ended, if it has.
    pub async fn exit(&self) -> Option<Exit> {
        self.state().await.ok().and_then(|state| state.exit)
    }

    /// How far it is, from its file.
    pub async fn state(&self) -> Result<State, FileError> {
        let dir = self.dir.clone();
        let missing = |_| FileError::Io {
            doing: "reading",
            path: self.dir.path().into(),
            source: std::io::ErrorKind::Interrupted.into(),
        };
        tokio::task::spawn_blocking(move || dir.state()).await.unwrap_or_else(|error| Err(missing(error)))
    }

    /// Remembers who wants its end, for when its holder is found dead.
    pub fn intend(&self, intent: Intent) {
        *lock(&self.intent) = Some(intent);
    }

    /// Brings it to its end if its holder is dead.
    pub async fn recover(&self) -> Result<Found, RecoveryError> {
        let _one_at_a_time = self.recovering.lock().await;
        let intent = lock(&self.intent).clone();
        let (dir, spec) = (self.dir.clone(), self.spec.clone());
        let recovered = tokio::task::spawn_blocking(move || recovery::recover(&dir, &spec, intent));
        // Only a shutdown of the runtime cancels it.
        recovered.await.unwrap_or(Ok(Found::Held))
    }

    /// Asks its holder.
    pub async fn call(&self, call: Call, within: Duration) -> Result<Answer, link::CallError> {
        link::call(self.dir.path(), call, within).await
    }

    /// The session as everybody sees it.
    pub async fn info(&self) -> Result<SessionInfo, ProviderError> {
        match self.state().await {
            Ok(state) => Ok(self.describe(Some(&state))),
            Err(error) if error.is_missing() => Ok(self.describe(None)),
            Err(error) => Err(ProviderError::Unavailable {
                what: format!("session {} cannot be read", self.id),
                source: Some(Box::new(error)),
            }),
        }
    }

    /// The sessions that this one said it started, those that are forgotten left out.
    pub async fn children(&self) -> Vec<SessionInfo> {
        let Ok(state) = self.state().await else { return vec![] };
        let forgotten = self.dir.forgotten();
        let described = |(id, child): (&SessionId, &ChildState)| {
            (!forgotten.join(id.as_str()).exists()).then(|| self.describe_child(&state, id, child))
        };
        state.children.iter().filter_map(described).collect()
    }

    /// Drops a child.
    pub async fn forget_child(&self, child: &SessionId) -> std::io::Result<()> {
        let forgotten = self.dir.forgotten();
        tokio::fs::create_dir_all(&forgotten).await?;
        tokio::fs::write(forgotten.join(child.as_str()), b"").await
    }

    fn describe_child(&self, state: &State, id: &SessionId, child: &ChildState) -> SessionInfo {
        let parent = state.exit.as_ref().map(|exit| end_with_parent(&exit.end));
        let (status, reason, source) = match (child.ended_at, parent, &state.frozen_by) {
            (Some(_), ..) => (Status::Completed, None, StatusSource::Runtime),
            (None, Some(end), _) => (end.status, Some(end.reason), StatusSource::Process),
            (None, None, Some(by)) => (Status::Paused, Some(format!("paused by {}", by.name)), StatusSource::Operator),
            (None, None, None) => (Status::Running, None, StatusSource::Runtime),
        };
        let reasons = capabilities(self.spec.protocol).iter().map(|capability| {
            (capability.as_str().to_owned(), json!(format!("it lives in session {}; act on that", self.id)))
        });
        let mut metadata = Metadata::new();
        metadata.insert("notCapable".into(), reasons.collect::<Metadata>().into());
        SessionInfo {
            session_id: id.clone(),
            parent_session_id: Some(self.id.clone()),
            status,
            status_reason: reason,
            status_source: source,
            title: child.title.clone(),
            agent_type: child.agent_type.clone(),
            profile: None,
            spawned_at: millis(child.since),
            started_at: Some(millis(child.since)),
            ended_at: child.ended_at.or(state.ended_at).map(millis),
            capabilities: vec![],
            metadata,
        }
    }

    fn at_first(&self) -> Status {
        if self.spec.protocol == Protocol::Acp { Status::Spawning } else { Status::Running }
    }

    fn describe(&self, state: Option<&State>) -> SessionInfo {
        let learned = lock(&self.learned).clone();
        let end = state.and_then(|state| state.exit.as_ref()).map(|exit| &exit.end);
        let frozen = state.and_then(|state| state.frozen_by.as_ref());
        let started = state.and_then(|state| state.started_at);
        let (status, reason, source) = match (end, frozen, started) {
            (Some(end), _, _) => (end.status.clone(), Some(end.reason.clone()), StatusSource::Process),
            (None, Some(by), _) => (Status::Paused, Some(format!("paused by {}", by.name)), StatusSource::Operator),
            (None, None, None) => (Status::Spawning, None, StatusSource::Process),
            (None, None, Some(_)) => learned
                .status
                .filter(|(status, ..)| matches!(status, Status::Running | Status::Waiting))
                // Its program runs; whether it can be talked to, its own protocol tells.
                .unwrap_or((self.at_first(), None, StatusSource::Process)),
        };
        let mut metadata = Metadata::new();
        metadata.insert("protocol".into(), self.spec.protocol.as_str().into());
        let answers = state.is_some_and(|state| state.answers);
        let reasons = reasons(self.spec.protocol).iter().filter(|(what, _)| *what != Capability::Approve || !answers);
        let reasons = reasons.map(|(capability, reason)| (capability.as_str().to_owned(), (*reason).into()));
        metadata.insert("notCapable".into(), reasons.collect::<Metadata>().into());
        if let Some(containment) = state.and_then(|state| state.containment.as_ref()) {
            metadata.insert("containment".into(), containment.as_str().into());
        }
        if let Some(child) = state.and_then(|state| state.child) {
            metadata.insert("pid".into(), child.pid.into());
        }
        SessionInfo {
            session_id: self.id.clone(),
            parent_session_id: self.spec.parent_session_id.clone(),
            status,
            status_reason: reason,
            status_source: source,
            title: learned.title.or_else(|| self.spec.title.clone()),
            agent_type: self.spec.agent_type.clone(),
            profile: Some(self.spec.profile.clone()),
            spawned_at: millis(self.spec.spawned_at),
            started_at: started.map(millis),
            ended_at: state.and_then(|state| state.ended_at).map(millis),
            capabilities: match end {
                Some(_) => vec![],
                None if answers => answering(),
                None => capabilities(self.spec.protocol).to_vec(),
            },
            metadata,
        }
    }
}

fn millis(micros: i64) -> Timestamp {
    Timestamp::from_millis(micros.div_euclid(1000))
}

/// A lock that a panic elsewhere does not spoil: what it guards is whole after every statement.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
