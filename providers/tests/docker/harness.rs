//! An engine, a provider for it, and what its sessions tell. All containers go with the engine.

use std::sync::Arc;
use std::time::Duration;

use bus_schema::{InjectMode, MessageId, Operator, SessionId, Status, UserId};
use providers::{
    AgentEvent, AgentProvider, DockerConfig, DockerProvider, End, EventStream, InjectOutcome, MessageDraft, News,
    OperatorMessage, Position, Profile, Protocol, ProviderError, SpawnRequest,
};
use serde_json::{Value, json};
use testkit::Dockerd;

/// How long anything may take that a test waits for. Long, because the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Who does things in tests.
pub fn ada() -> Operator {
    Operator { id: UserId::new("u-ada").unwrap(), name: "Ada".into() }
}

pub fn new_id() -> SessionId {
    SessionId::new(ulid::Ulid::new().to_string()).unwrap()
}

/// The label of an agent, and others.
pub fn agent(more: Value) -> Value {
    let mut labels = json!({"dev.mosaic.agent": "true"});
    labels.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    labels
}

/// What `docker run -d -i` asks for, with an init.
pub fn with_input() -> Value {
    json!({"OpenStdin": true, "HostConfig": {"Init": true}})
}

pub fn profile(protocol: Protocol, script: &str) -> Profile {
    let mut profile = Profile::new("test", ["/bin/sh", "-c", script]);
    (profile.provider, profile.protocol) = ("docker".into(), protocol);
    profile.image = Some(testkit::docker::IMAGE.into());
    profile
}

pub fn request(id: &SessionId, profile: Profile) -> SpawnRequest {
    SpawnRequest {
        session_id: id.clone(),
        profile,
        parent_session_id: None,
        title: None,
        env: Default::default(),
        default_cwd: None,
        conversation: None,
    }
}

/// Waits until `probe` gives something, and shows what was last seen if it does not.
pub async fn wait_until<T>(what: &str, probe: impl AsyncFnMut() -> Result<T, String>) -> T {
    testkit::wait_until(what, PATIENCE, probe).await.unwrap()
}

/// An engine and a provider.
pub struct Stage {
    pub provider: Arc<DockerProvider>,
    pub config: DockerConfig,
    pub dir: tempfile::TempDir,
    pub engine: Dockerd,
}

impl Stage {
    pub async fn new() -> Self {
        Self::over(Dockerd::start(false).unwrap()).await
    }

    pub async fn over(engine: Dockerd) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = DockerConfig::new(dir.path().join("docker"));
        config.socket = Some(engine.socket());
        let provider = DockerProvider::start(config.clone()).await.unwrap();
        Self { provider, config, dir, engine }
    }

    /// A new node agent in the place of the old one.
    pub async fn replace(&mut self) {
        self.provider.shutdown().await;
        self.provider = DockerProvider::start(self.config.clone()).await.unwrap();
    }

    pub async fn spawn(&self, profile: Profile) -> Session {
        let id = new_id();
        self.provider.spawn(request(&id, profile)).await.unwrap();
        self.session(&id, Position::default()).await
    }

    /// Starts a container by hand, and watches its session from the beginning.
    pub async fn launch(&self, script: &str, labels: Value, more: Value) -> (String, Session) {
        let container = self.engine.launch(script, agent(labels), more).unwrap();
        let id = self.id_of(&container, 0).await;
        (container, self.session(&id, Position::default()).await)
    }

    /// The session of a container, once it was found; the one that is not among the first `known`.
    pub async fn id_of(&self, container: &str, known: usize) -> SessionId {
        wait_until("the container is found", async || {
            let mut all = self.provider.sessions().await.unwrap();
            all.retain(|info| info.metadata.get("containerId") == Some(&container.into()));
            all.sort_by_key(|info| info.spawned_at);
            match all.get(known) {
                Some(info) => Ok(info.session_id.clone()),
                None => Err(format!("{} sessions of it", all.len())),
            }
        })
        .await
    }

    /// Watches a session from a place.
    pub async fn session(&self, id: &SessionId, from: Position) -> Session {
        let events = self.provider.subscribe(id, from).await.unwrap();
        Session { id: id.clone(), events, provider: Arc::clone(&self.provider), seen: vec![] }
    }
}

/// A session, watched.
pub struct Session {
    pub id: SessionId,
    pub events: EventStream,
    pub provider: Arc<DockerProvider>,
    pub seen: Vec<AgentEvent>,
}

impl Session {
    /// The next event.
    pub async fn next(&mut self) -> Option<AgentEvent> {
        let seen = self.seen.len();
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
        let event = event.unwrap_or_else(|_| panic!("no event behind {seen}, last: {:?}", self.seen.last()))?;
        self.provider.acknowledge(&self.id, event.position).await;
        self.seen.push(event.clone());
        Some(event)
    }

    /// Waits for an event.
    pub async fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(&AgentEvent) -> Option<T>) -> T {
        loop {
            let Some(event) = self.next().await else {
                panic!("{what}: the events ended first; seen {:?}", self.seen);
            };
            if let Some(found) = wanted(&event) {
                return found;
            }
        }
    }

    /// Waits for a message that contains this.
    pub async fn message(&mut self, text: &str) -> MessageDraft {
        self.until(text, |event| match &event.news {
            News::Message(draft) if draft.content.contains(text) => Some(draft.clone()),
            _ => None,
        })
        .await
    }

    /// Waits for a status, and gives the reason.
    pub async fn status(&mut self, wanted: Status) -> Option<String> {
        self.until(wanted.as_str(), |event| match &event.news {
            News::Status { status, reason, .. } if *status == wanted => Some(reason.clone()),
            _ => None,
        })
        .await
    }

    /// Waits for the end.
    pub async fn end(&mut self) -> End {
        let end = self.until("the end", |event| match &event.news {
            News::Ended(end) => Some(end.clone()),
            _ => None,
        });
        let end = end.await;
        assert_eq!(self.next().await, None, "an event behind the end");
        end
    }

    /// The texts of all messages so far.
    pub fn messages(&self) -> Vec<String> {
        let text = |event: &AgentEvent| match &event.news {
            News::Message(draft) => Some(draft.content.clone()),
            _ => None,
        };
        self.seen.iter().filter_map(text).collect()
    }

    /// All statuses so far.
    pub fn statuses(&self) -> Vec<Status> {
        let status = |event: &AgentEvent| match &event.news {
            News::Status { status, .. } => Some(status.clone()),
            News::Ended(end) => Some(end.status.clone()),
            _ => None,
        };
        self.seen.iter().filter_map(status).collect()
    }

    pub async fn inject(&self, id: &str, text: &str) -> Result<InjectOutcome, ProviderError> {
        let message = OperatorMessage {
            message_id: MessageId::new(id).unwrap(),
            operator: ada(),
            content: text.into(),
            mode: InjectMode::Queue,
        };
        self.provider.inject(&self.id, message).await
    }
}

/// The numbers from 1 on, as a program counts them.
pub fn numbers(to: usize) -> Vec<String> {
    (1..=to).map(|n| n.to_string()).collect()
}
