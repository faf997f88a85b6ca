//! An engine, a provider for it, and what its sessions tell. All containers go with the engine.

use std::sync::Arc;

use bus_schema::SessionId;
use providers::{AgentProvider, DockerConfig, DockerProvider, Position, Profile, Protocol, SpawnRequest};
use serde_json::{Value, json};
use testkit::Dockerd;

#[path = "../common/watched.rs"]
#[expect(dead_code, reason = "shared with the tests of terminal sessions, which need more of it")]
mod watched;

pub use watched::{PATIENCE, ada};

/// The session of a container, watched.
pub type Session = watched::Session<DockerProvider>;

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
        Session::watch(&self.provider, id, from).await
    }
}

/// The numbers from 1 on, as a program counts them.
pub fn numbers(to: usize) -> Vec<String> {
    (1..=to).map(|n| n.to_string()).collect()
}
