//! Sessions of a gateway keep the laws that every provider keeps.

use std::sync::Arc;

use async_trait::async_trait;
use bus_schema::{
    Answer, EndReport, InjectMode, MessageId, Operator, ProviderName, SessionId, TerminalSize, TerminalSnapshot,
};
use providers::conformance::{Bench, Reopen, run};
use providers::{
    AgentProvider, Appeared, EventStream, InjectOutcome, MessageDraft, OpenClawProvider, OperatorMessage, Position,
    Profile, ProviderError, ProviderHealth, SessionInfo, SpawnRequest,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::harness::{PATIENCE, Stage, ada, connection, new_message, open, profile, script};

/// Calls of a tool in the flood; each is two messages, and a last word follows.
const CALLS: usize = 6;

/// The provider, with what the node does at a start: the prompt comes as the first message. A gateway's agent says
/// nothing before it is spoken to, so without it there would be no flood.
struct Prompted(Arc<OpenClawProvider>);

#[async_trait]
impl AgentProvider for Prompted {
    fn name(&self) -> ProviderName {
        self.0.name()
    }
    async fn health(&self) -> ProviderHealth {
        self.0.health().await
    }
    fn watch(&self) -> mpsc::Receiver<Appeared> {
        self.0.watch()
    }
    async fn sessions(&self) -> Result<Vec<SessionInfo>, ProviderError> {
        self.0.sessions().await
    }
    async fn session(&self, id: &SessionId) -> Result<SessionInfo, ProviderError> {
        self.0.session(id).await
    }
    async fn recent_messages(&self, id: &SessionId, limit: usize) -> Result<Vec<MessageDraft>, ProviderError> {
        self.0.recent_messages(id, limit).await
    }
    async fn subscribe(&self, id: &SessionId, from: Position) -> Result<EventStream, ProviderError> {
        self.0.subscribe(id, from).await
    }
    async fn acknowledge(&self, id: &SessionId, position: Position) {
        self.0.acknowledge(id, position).await;
    }
    async fn spawn(&self, request: SpawnRequest) -> Result<SessionInfo, ProviderError> {
        let (id, prompt) = (request.session_id.clone(), request.profile.env.get("PROMPT").cloned());
        let info = self.0.spawn(request).await?;
        if let Some(content) = prompt {
            let mode = InjectMode::Steer;
            let message = OperatorMessage { message_id: new_message(), operator: ada(), content, mode };
            self.0.inject(&id, message).await?;
        }
        Ok(info)
    }
    async fn inject(&self, id: &SessionId, message: OperatorMessage) -> Result<InjectOutcome, ProviderError> {
        self.0.inject(id, message).await
    }
    async fn injection(&self, id: &SessionId, message: &MessageId) -> Result<Option<InjectOutcome>, ProviderError> {
        self.0.injection(id, message).await
    }
    async fn pause(&self, id: &SessionId, by: &Operator) -> Result<(), ProviderError> {
        self.0.pause(id, by).await
    }
    async fn resume(&self, id: &SessionId, by: &Operator) -> Result<(), ProviderError> {
        self.0.resume(id, by).await
    }
    async fn terminate(&self, id: &SessionId, by: &Operator) -> Result<(), ProviderError> {
        self.0.terminate(id, by).await
    }
    async fn kill(&self, id: &SessionId, by: &Operator) -> Result<EndReport, ProviderError> {
        self.0.kill(id, by).await
    }
    async fn answer(
        &self,
        id: &SessionId,
        request: &MessageId,
        answer: &Answer,
        by: &Operator,
    ) -> Result<(), ProviderError> {
        self.0.answer(id, request, answer, by).await
    }
    async fn terminal_input(&self, id: &SessionId, data: &[u8], by: &Operator) -> Result<(), ProviderError> {
        self.0.terminal_input(id, data, by).await
    }
    async fn resize(&self, id: &SessionId, size: TerminalSize) -> Result<(), ProviderError> {
        self.0.resize(id, size).await
    }
    async fn terminal_snapshot(&self, id: &SessionId) -> Result<TerminalSnapshot, ProviderError> {
        self.0.terminal_snapshot(id).await
    }
    async fn forget(&self, id: &SessionId) -> Result<(), ProviderError> {
        self.0.forget(id).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openclaw_sessions_conform() {
    let stage = Stage::new(json!({})).await;
    let (dir, url, token) = (stage.dir.path().join("openclaw"), stage.gateway.url(), stage.gateway.token());
    let old = stage.provider.clone();
    let reopen: Reopen = Box::new(move || {
        let (old, dir, claw) = (old.clone(), dir.clone(), connection("claw", &url, token));
        Box::pin(async move {
            old.shutdown().await;
            let provider: Arc<dyn AgentProvider> = Arc::new(Prompted(open(dir, vec![claw]).await));
            provider
        })
    });
    let call = json!({"tool": "session_status", "args": {}});
    let mut steps: Vec<Value> = vec![call; CALLS];
    steps.push(json!({"text": "that is all"}));
    let mut flood = profile();
    flood.env.insert("PROMPT".into(), script(&Value::Array(steps)));
    let talker: Profile = profile();
    let bench = Bench {
        provider: Arc::new(Prompted(stage.provider.clone())),
        talker,
        flood: (flood, 2 * CALLS + 1),
        reopen: Some(reopen),
        deadline: PATIENCE,
    };
    let report = run(&bench).await;
    assert!(report.breaches.is_empty(), "{report}");
    let skipped: Vec<_> = report.not_applicable.iter().map(|(check, _)| *check).collect();
    assert_eq!(skipped, ["a_pause_is_proven_and_told"], "a gateway has no pause; all else applies: {report}");
}
