//! The provider: the trait's calls, each handed to the session or to its gateway.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bus_schema::{
    Answer, Capability, Connection, ConnectionTest, EndReport, MessageId, Operator, ProviderName, SessionId,
    TerminalSize, TerminalSnapshot,
};
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;

use super::acts::{self, soft};
use super::core::{Core, lock};
use super::gateway::Gateway;
use super::session::{CAPABILITIES, Session};
use super::trial;
use crate::provider::{
    AgentProvider, Appeared, EventStream, InjectOutcome, MessageDraft, OperatorMessage, Position, ProviderError,
    ProviderHealth, SessionInfo, SpawnRequest,
};
use crate::pty::PtyProvider;

/// How long a call may take in all: several of the gateway's, each with its own deadline.
const ACT_WITHIN: Duration = Duration::from_secs(45);
/// How long a connection that is not set up any more may take to let go.
const LET_GO_WITHIN: Duration = Duration::from_secs(3);

/// What a gateway of protocol 3 cannot do (measured on 2026.4.15).
const OLD_LIMITS: &str = "this gateway's release has no steering (a message waits for the end of the turn), forgets what \
                          waits when it is restarted, takes stop words and /commands for itself (refused here), does \
                          not take up a turn that a restart cut, and cannot fence a conversation that was killed";

/// How the provider is set up on its own node.
#[derive(Clone)]
pub struct OpenClawConfig {
    /// What it keeps: `DATA/openclaw`.
    pub dir: PathBuf,
    /// Gateways that the node's own configuration names; those from afar come beside them.
    pub connections: Vec<OpenClawGateway>,
    /// Holds gateways that the node starts itself ([`PtyConfig::gateways`](crate::pty::PtyConfig::gateways)); without it
    /// none can be started.
    pub holder: Option<Arc<PtyProvider>>,
}

/// A gateway that the node's own configuration names.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenClawGateway {
    /// Where it is.
    pub connection: Connection,
    /// Whether its sessions offer a soft pause, which ends the run and fences the conversation: no gateway has a real
    /// one.
    pub soft_pause: bool,
    /// The only authority that is trusted behind `wss://` and `https://`; the machine's own if absent.
    pub ca: Option<PathBuf>,
}

impl From<Connection> for OpenClawGateway {
    fn from(connection: Connection) -> Self {
        Self { connection, soft_pause: false, ca: None }
    }
}

/// Sessions of OpenClaw gateways.
pub struct OpenClawProvider {
    name: ProviderName,
    core: Arc<Core>,
    own: Vec<OpenClawGateway>,
    /// One change of the connections at a time; those that run.
    running: Mutex<Vec<Running>>,
    terminating: std::sync::Mutex<std::collections::BTreeSet<SessionId>>,
}

struct Running {
    gateway: OpenClawGateway,
    task: tokio::task::JoinHandle<()>,
}

impl OpenClawProvider {
    /// Opens what an earlier node agent left, and connects.
    ///
    /// # Errors
    /// [`ProviderError::Failed`] if the folder or the device key cannot be used.
    pub async fn start(config: OpenClawConfig) -> Result<Arc<Self>, ProviderError> {
        let name = ProviderName::new("openclaw").map_err(|error| ProviderError::Invalid(error.to_string()))?;
        let (dir, holder) = (config.dir, config.holder);
        let core = tokio::task::spawn_blocking(move || Core::open(&dir, holder)).await;
        let core = core.map_err(|error| ProviderError::Failed {
            doing: "opening the openclaw provider".into(),
            source: Some(Box::new(error)),
        })??;
        let (own, running) = (config.connections, Mutex::default());
        let provider = Arc::new(Self { name, core, own, running, terminating: std::sync::Mutex::default() });
        provider.configure(vec![]).await?;
        Ok(provider)
    }

    /// Lets go of every gateway. Its sessions go on there.
    pub async fn shutdown(&self) {
        self.core.cancel.cancel();
        self.core.tasks.close();
        self.core.tasks.wait().await;
    }

    fn info(&self, session: &Session) -> SessionInfo {
        let mut info = session.info(self.core.parent_of(session));
        let gateway = self.core.gateway(&session.birth().connection);
        if gateway.as_ref().is_some_and(|gateway| gateway.quirks().is_old) {
            info.metadata.insert("limits".into(), OLD_LIMITS.into());
        }
        let is_rest = gateway.as_ref().is_some_and(|gateway| gateway.rest().is_some());
        if info.capabilities.is_empty() {
            return info;
        }
        if is_rest {
            info.capabilities = vec![Capability::Inject];
        }
        match soft::unable(gateway.as_deref(), session) {
            None => {
                info.capabilities.extend([Capability::Pause, Capability::Resume]);
                info.metadata.insert("softPause".into(), soft::WHAT_IT_IS.into());
            }
            Some(why) => {
                info.metadata.insert("notCapable".into(), serde_json::json!({ "pause": why, "resume": why }));
            }
        }
        info
    }

    /// Holder of the gateways of this node, for what is no session at a gateway.
    fn held(&self, id: &SessionId) -> Option<&Arc<PtyProvider>> {
        self.core.held.provider().filter(|_| self.core.session(id).is_err())
    }

    /// The session, if it can do this now.
    fn able(&self, id: &SessionId, capability: Capability) -> Result<Arc<Session>, ProviderError> {
        let session = self.core.session(id)?;
        let gateway = self.core.gateway(&session.birth().connection);
        if matches!(capability, Capability::Pause | Capability::Resume)
            && let Some(reason) = soft::unable(gateway.as_deref(), &session)
        {
            return Err(ProviderError::NotCapable { capability, reason: reason.into() });
        }
        session.require(capability.clone())?;
        if capability != Capability::Inject && gateway.is_some_and(|gateway| gateway.rest().is_some()) {
            let reason = "its gateway only speaks the older REST interface, which can read and send and no more".into();
            return Err(ProviderError::NotCapable { capability, reason });
        }
        Ok(session)
    }
}

impl Drop for OpenClawProvider {
    fn drop(&mut self) {
        self.core.cancel.cancel();
    }
}

async fn in_time<T>(doing: &str, call: impl Future<Output = Result<T, ProviderError>>) -> Result<T, ProviderError> {
    let late = |_| Err(ProviderError::Deadline { doing: doing.into(), seconds: ACT_WITHIN.as_secs() });
    timeout(ACT_WITHIN, call).await.unwrap_or_else(late)
}

#[async_trait]
impl AgentProvider for OpenClawProvider {
    fn name(&self) -> ProviderName {
        self.name.clone()
    }

    async fn health(&self) -> ProviderHealth {
        let gateways = self.core.gateways();
        let away = gateways.iter().filter_map(|g| Some(format!("{}: {}", g.connection.name, g.error()?)));
        let away: Vec<_> = away.collect();
        let error = if gateways.is_empty() {
            Some("no gateway is set up; add one on the settings page, or as [[openclaw]] in the node's file".to_owned())
        } else {
            Some(away.join("; ")).filter(|away| !away.is_empty())
        };
        let mut capabilities = CAPABILITIES.to_vec();
        if gateways.iter().any(|gateway| gateway.soft_pause) {
            capabilities.extend([Capability::Pause, Capability::Resume]);
        }
        ProviderHealth { error, capabilities }
    }

    fn watch(&self) -> mpsc::Receiver<Appeared> {
        self.core.watch()
    }

    async fn sessions(&self) -> Result<Vec<SessionInfo>, ProviderError> {
        let mut all: Vec<_> = self.core.all().iter().map(|session| self.info(session)).collect();
        all.extend(self.core.held.sessions().await?);
        Ok(all)
    }

    async fn session(&self, id: &SessionId) -> Result<SessionInfo, ProviderError> {
        if self.held(id).is_some() {
            return self.core.held.session(id).await;
        }
        Ok(self.info(&*self.core.session(id)?))
    }

    async fn recent_messages(&self, id: &SessionId, limit: usize) -> Result<Vec<MessageDraft>, ProviderError> {
        if let Some(held) = self.held(id) {
            return held.recent_messages(id, limit).await;
        }
        Ok(self.core.session(id)?.recent(limit))
    }

    async fn subscribe(&self, id: &SessionId, from: Position) -> Result<EventStream, ProviderError> {
        if let Some(held) = self.held(id) {
            return held.subscribe(id, from).await;
        }
        let (events, feed) = self.core.session(id)?.subscribe(from);
        let cancel = self.core.cancel.clone();
        self.core.tasks.spawn(async move { cancel.run_until_cancelled(feed).await });
        Ok(events)
    }

    async fn acknowledge(&self, id: &SessionId, position: Position) {
        if let Some(held) = self.held(id) {
            held.acknowledge(id, position).await;
        } else if let Ok(session) = self.core.session(id) {
            // Rows that had to wait are looked for by the gateway's own timer.
            let _ = session.acknowledge(position);
        }
    }

    async fn spawn(&self, request: SpawnRequest) -> Result<SessionInfo, ProviderError> {
        if let Ok(session) = self.core.session(&request.session_id) {
            return Ok(self.info(&session));
        }
        if !request.profile.command.is_empty() {
            return self.core.held.start(&self.core, request).await;
        }
        let session = in_time("starting a session", acts::spawn(&self.core, request)).await?;
        Ok(self.info(&session))
    }

    async fn inject(&self, id: &SessionId, message: OperatorMessage) -> Result<InjectOutcome, ProviderError> {
        if let Some(held) = self.held(id) {
            return held.inject(id, message).await;
        }
        let session = self.able(id, Capability::Inject)?;
        in_time("handing a message over", acts::inject(&self.core, &session, message)).await
    }

    async fn injection(&self, id: &SessionId, message: &MessageId) -> Result<Option<InjectOutcome>, ProviderError> {
        if let Some(held) = self.held(id) {
            return held.injection(id, message).await;
        }
        let session = self.core.session(id)?;
        in_time("looking for a message", acts::injection(&self.core, &session, message)).await
    }

    async fn pause(&self, id: &SessionId, by: &Operator) -> Result<(), ProviderError> {
        if let Some(held) = self.held(id) {
            return held.pause(id, by).await;
        }
        let session = self.able(id, Capability::Pause)?;
        in_time("pausing a session", soft::pause(&self.core, &session, by)).await
    }

    async fn resume(&self, id: &SessionId, by: &Operator) -> Result<(), ProviderError> {
        if let Some(held) = self.held(id) {
            return held.resume(id, by).await;
        }
        let session = self.able(id, Capability::Resume)?;
        in_time("resuming a session", soft::resume(&self.core, &session, by)).await
    }

    async fn terminate(&self, id: &SessionId, by: &Operator) -> Result<(), ProviderError> {
        if let Some(held) = self.held(id) {
            return held.terminate(id, by).await;
        }
        let session = self.able(id, Capability::Terminate)?;
        acts::gateway_of(&self.core, &session)?.link().await?;
        if lock(&self.terminating).insert(id.clone()) {
            let (core, by, cancel) = (self.core.clone(), by.clone(), self.core.cancel.clone());
            self.core.tasks.spawn(async move { cancel.run_until_cancelled(acts::leave(core, session, by)).await });
        }
        Ok(())
    }

    async fn kill(&self, id: &SessionId, by: &Operator) -> Result<EndReport, ProviderError> {
        if let Some(held) = self.held(id) {
            return held.kill(id, by).await;
        }
        let session = self.able(id, Capability::Kill)?;
        in_time("killing a session", acts::kill(&self.core, &session, by)).await
    }

    async fn answer(
        &self,
        id: &SessionId,
        request: &MessageId,
        answer: &Answer,
        by: &Operator,
    ) -> Result<(), ProviderError> {
        if let Some(held) = self.held(id) {
            return held.answer(id, request, answer, by).await;
        }
        let session = self.able(id, Capability::Approve)?;
        in_time("answering a request", acts::answer(&self.core, &session, request, answer, by)).await
    }

    async fn configure(&self, connections: Vec<Connection>) -> Result<(), ProviderError> {
        let mut running = self.running.lock().await;
        let from_afar = connections.into_iter().map(OpenClawGateway::from);
        let wanted = self.own.iter().cloned().chain(from_afar).filter(|gateway| gateway.connection.is_active);
        let wanted: Vec<_> = wanted.collect();
        let (stay, go): (Vec<_>, Vec<_>) = running.drain(..).partition(|r| wanted.contains(&r.gateway));
        *running = stay;
        for gone in go {
            if let Some(gateway) = self.core.take_gateway(&gone.gateway.connection.id) {
                gateway.cancel.cancel();
            }
            // It has nothing more to do that would take longer.
            let _ = timeout(LET_GO_WITHIN, gone.task).await;
        }
        for wanted in wanted {
            if running.iter().any(|r| r.gateway.connection.id == wanted.connection.id) {
                continue;
            }
            let gateway = Gateway::new(wanted.clone(), self.core.cancel.child_token());
            self.core.put_gateway(gateway.clone());
            let task = self.core.tasks.spawn(gateway.run(self.core.clone()));
            running.push(Running { gateway: wanted, task });
        }
        Ok(())
    }

    async fn test(&self, connection: Connection) -> Result<ConnectionTest, ProviderError> {
        Ok(trial::test(&self.core, &connection).await)
    }

    async fn terminal_input(&self, id: &SessionId, data: &[u8], by: &Operator) -> Result<(), ProviderError> {
        if let Some(held) = self.held(id) {
            return held.terminal_input(id, data, by).await;
        }
        self.core.session(id)?.require(Capability::Input)
    }

    async fn resize(&self, id: &SessionId, size: TerminalSize) -> Result<(), ProviderError> {
        if let Some(held) = self.held(id) {
            return held.resize(id, size).await;
        }
        self.core.session(id)?.require(Capability::Resize)
    }

    async fn terminal_snapshot(&self, id: &SessionId) -> Result<TerminalSnapshot, ProviderError> {
        if let Some(held) = self.held(id) {
            return held.terminal_snapshot(id).await;
        }
        let session = self.core.session(id)?;
        session.require(Capability::Terminal)?;
        Err(ProviderError::UnknownSession(id.clone()))
    }

    async fn forget(&self, id: &SessionId) -> Result<(), ProviderError> {
        if self.held(id).is_some() {
            return self.core.held.forget(id).await;
        }
        let session = self.core.session(id)?;
        match session.ended_at() {
            Some(at) => self.core.forget(&session, at),
            None => Err(ProviderError::WrongState {
                status: session.status(),
                reason: "only a session that has ended is forgotten".into(),
            }),
        }
    }
}
