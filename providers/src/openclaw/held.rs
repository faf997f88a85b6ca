//! Gateways that this node starts itself, from a profile with a command.
//!
//! Such a gateway is a session with a holder, as every terminal session is: in a cgroup of its own, so that nothing its
//! agents left in the background outlives it; it goes on while the node agent is replaced; and it is paused, ended and
//! killed as one. The sessions *at* it are those of the connection that it is named after, as of every other gateway.
//!
//! Laws:
//! 1. What ran at a gateway that this node held, and that has ended, runs no more: the end of its cgroup proves it, so
//!    it is told. Of any other gateway that is away, nothing is told.
//!
//! Files: `gateways/ID/` as the holder has them · `held.json` (which of them is the gateway of which connection).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bus_schema::{SessionId, Timestamp};

use super::acts;
use super::core::{Core, lock};
use super::gateway::Gateway;
use crate::clock;
use crate::provider::{AgentProvider, ProviderError, SessionInfo, SpawnRequest};
use crate::pty::PtyProvider;

/// What kind of agent such a session is, where its profile does not say.
const KIND: &str = "openclaw-gateway";
/// Without it a gateway begins anew under another process, and what was started has ended (measured: 2026.9.6).
const NO_RESPAWN: &str = "OPENCLAW_NO_RESPAWN";

pub(super) struct Held {
    provider: Option<Arc<PtyProvider>>,
    path: PathBuf,
    /// The connection of each.
    of: Mutex<BTreeMap<SessionId, String>>,
}

/// One of them: since when, and until when if it has ended.
struct Life(Timestamp, Option<Timestamp>);

impl Held {
    pub fn open(dir: &Path, provider: Option<Arc<PtyProvider>>) -> Self {
        let path = dir.join("held.json");
        let of = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        Self { provider, path, of: Mutex::new(of) }
    }

    pub fn provider(&self) -> Option<&Arc<PtyProvider>> {
        self.provider.as_ref()
    }

    pub async fn sessions(&self) -> Result<Vec<SessionInfo>, ProviderError> {
        let Some(provider) = &self.provider else { return Ok(vec![]) };
        Ok(provider.sessions().await?.into_iter().map(|info| self.noted(info)).collect())
    }

    pub async fn session(&self, id: &SessionId) -> Result<SessionInfo, ProviderError> {
        let provider = self.provider.as_ref().ok_or_else(|| ProviderError::UnknownSession(id.clone()))?;
        Ok(self.noted(provider.session(id).await?))
    }

    fn noted(&self, mut info: SessionInfo) -> SessionInfo {
        if let Some(connection) = lock(&self.of).get(&info.session_id) {
            info.metadata.insert("gatewayOf".into(), connection.clone().into());
        }
        info
    }

    /// Starts a gateway, as the one that the profile names.
    pub async fn start(&self, core: &Core, mut request: SpawnRequest) -> Result<SessionInfo, ProviderError> {
        let Some(provider) = &self.provider else {
            return Err(ProviderError::Invalid("this node cannot hold a gateway".into()));
        };
        let gateway = acts::choose(core, request.profile.gateway.as_deref())?;
        let id = request.session_id.clone();
        if let Some(other) = self.alive(gateway.id()).await.filter(|other| *other != id) {
            let text = format!("the gateway {} runs already, in session {other}", gateway.connection.name);
            return Err(ProviderError::Invalid(text));
        }
        // On disk before it runs: whose gateway it is must be known when it is found.
        self.change(|of| of.insert(id.clone(), gateway.id().to_owned()))?;
        let profile = &mut request.profile;
        profile.env.entry(NO_RESPAWN.into()).or_insert_with(|| "1".into());
        profile.agent_type.get_or_insert_with(|| KIND.into());
        match provider.spawn(request).await {
            Ok(info) => {
                gateway.hurry();
                Ok(self.noted(info))
            }
            Err(error) => {
                self.change(|of| of.remove(&id))?;
                Err(error)
            }
        }
    }

    pub async fn forget(&self, id: &SessionId) -> Result<(), ProviderError> {
        let provider = self.provider.as_ref().ok_or_else(|| ProviderError::UnknownSession(id.clone()))?;
        provider.forget(id).await?;
        self.change(|of| of.remove(id))
    }

    /// The session that is the gateway of a connection, while it lives.
    pub async fn alive(&self, connection: &str) -> Option<SessionId> {
        let lives = self.lives(connection).await;
        lives.into_iter().find(|(_, life)| life.1.is_none()).map(|(id, _)| id)
    }

    async fn lives(&self, connection: &str) -> Vec<(SessionId, Life)> {
        let Some(provider) = &self.provider else { return vec![] };
        let of: Vec<_> = lock(&self.of).iter().filter(|(_, of)| *of == connection).map(|(id, _)| id.clone()).collect();
        let mut lives = vec![];
        for id in of {
            // One that cannot be asked proves nothing, so it counts as alive; one that is gone, as never been.
            let life = match provider.session(&id).await {
                Ok(info) if info.status.is_terminal() => {
                    Life(info.spawned_at, Some(info.ended_at.unwrap_or_else(clock::now)))
                }
                Ok(info) => Life(info.spawned_at, None),
                Err(ProviderError::UnknownSession(_)) => continue,
                Err(_) => Life(clock::now(), None),
            };
            lives.push((id, life));
        }
        lives
    }

    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<SessionId, String>) -> T) -> Result<(), ProviderError> {
        let mut of = lock(&self.of);
        change(&mut of);
        let fresh = self.path.with_extension("new");
        let written = serde_json::to_vec(&*of).map_err(std::io::Error::from);
        let written = written.and_then(|text| std::fs::write(&fresh, text));
        let written = written.and_then(|()| std::fs::rename(&fresh, &self.path));
        written.map_err(|source| ProviderError::Failed {
            doing: "writing down which gateway is held".into(),
            source: Some(Box::new(source)),
        })
    }
}

impl Core {
    /// Tells what has stopped with a gateway of this node. To be called while the gateway cannot be reached.
    pub async fn settle_what_has_gone(&self, gateway: &Gateway) {
        if gateway.error().is_none() {
            return;
        }
        let lives = self.held.lives(gateway.id()).await;
        let over: Option<Vec<_>> = lives.into_iter().map(|(_, Life(from, to))| Some((from, to?))).collect();
        // One of them lives: it starts, or cannot be reached.
        let Some(over) = over else { return };
        for session in self.living(gateway.id()) {
            session.end_runs_of(&over);
        }
    }
}
