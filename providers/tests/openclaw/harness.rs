//! A gateway, a provider connected to it, and what its sessions tell.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bus_schema::{
    Connection, InjectMode, MessageId, MessageKind, Operator, ProviderName, Role, Secret, SessionId, Status, UserId,
};
use providers::{
    AgentEvent, AgentProvider, End, EventStream, InjectOutcome, MessageDraft, News, OpenClawConfig, OpenClawGateway,
    OpenClawProvider, OperatorMessage, Position, Profile, PtyProvider, SessionInfo, SpawnRequest,
};
use serde_json::{Value, json};
use testkit::{OpenClaw, wait_until};

/// How long anything may take that a test waits for. Long: the machine may be busy, and the very first turn of an older
/// release compiles for a minute.
pub const PATIENCE: Duration = Duration::from_secs(300);

pub fn ada() -> Operator {
    Operator { id: UserId::new("u-ada").unwrap(), name: "Ada".into() }
}

pub fn new_id() -> SessionId {
    SessionId::new(ulid::Ulid::new().to_string()).unwrap()
}

pub fn new_message() -> MessageId {
    MessageId::new(ulid::Ulid::new().to_string()).unwrap()
}

pub fn connection(id: &str, url: &str, token: &str) -> Connection {
    Connection {
        id: id.into(),
        name: id.into(),
        provider: ProviderName::new("openclaw").unwrap(),
        url: url.into(),
        token: Secret::new(token),
        is_active: true,
    }
}

pub fn profile() -> Profile {
    Profile { provider: "openclaw".into(), ..Profile::new("claw", [] as [&str; 0]) }
}

/// A prompt that scripts its own turn.
pub fn script(steps: &Value) -> String {
    format!("FAKE:{}", json!({ "steps": steps }))
}

pub async fn open(dir: PathBuf, connections: Vec<Connection>) -> Arc<OpenClawProvider> {
    open_with(dir, connections.into_iter().map(Into::into).collect(), None).await
}

pub async fn open_with(
    dir: PathBuf,
    connections: Vec<OpenClawGateway>,
    holder: Option<Arc<PtyProvider>>,
) -> Arc<OpenClawProvider> {
    OpenClawProvider::start(OpenClawConfig { dir, connections, holder }).await.unwrap()
}

/// A gateway and a provider.
pub struct Stage {
    pub gateway: OpenClaw,
    pub dir: tempfile::TempDir,
    pub provider: Arc<OpenClawProvider>,
    pub soft_pause: bool,
}

impl Stage {
    pub async fn new(merge: Value) -> Self {
        Self::of("2026.9.6", merge).await
    }

    pub async fn of(version: &'static str, merge: Value) -> Self {
        let gateway =
            tokio::task::spawn_blocking(move || OpenClaw::start_with(version, &merge)).await.unwrap().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let claw = connection("claw", &gateway.url(), gateway.token());
        let provider = open(dir.path().join("openclaw"), vec![claw]).await;
        let stage = Self { gateway, dir, provider, soft_pause: false };
        stage.healthy().await;
        stage
    }

    pub async fn healthy(&self) {
        let healthy =
            wait_until("the gateway is connected", PATIENCE, async || match self.provider.health().await.error {
                None => Ok(()),
                Some(error) => Err(error),
            });
        healthy.await.unwrap();
    }

    fn claw(&self) -> OpenClawGateway {
        connection("claw", &self.gateway.url(), self.gateway.token()).into()
    }

    /// A new provider over what the old one left.
    pub async fn reopen(&mut self) {
        self.provider.shutdown().await;
        let claw = OpenClawGateway { soft_pause: self.soft_pause, ..self.claw() };
        self.provider = open_with(self.dir.path().join("openclaw"), vec![claw], None).await;
    }

    pub async fn spawn(&self) -> Watched {
        let id = new_id();
        let request = SpawnRequest {
            session_id: id.clone(),
            profile: profile(),
            parent_session_id: None,
            title: Some("a test".into()),
            env: Default::default(),
            default_cwd: None,
            conversation: None,
        };
        let info = self.provider.spawn(request.clone()).await.unwrap();
        assert_eq!((info.session_id, info.status), (id.clone(), Status::Waiting));
        assert_eq!(self.provider.spawn(request).await.unwrap().session_id, id, "a repeated start is the same session");
        self.watch(&id, Position::default()).await
    }

    pub async fn watch(&self, id: &SessionId, from: Position) -> Watched {
        let events = self.provider.subscribe(id, from).await.unwrap();
        Watched { id: id.clone(), provider: self.provider.clone(), events, seen: vec![] }
    }

    /// The session with this title or label, once it is there.
    pub async fn find(&self, what: &str, is_it: impl Fn(&SessionInfo) -> bool) -> SessionInfo {
        wait_until(what, PATIENCE, async || {
            let all = self.provider.sessions().await.unwrap();
            let titles: Vec<_> = all.iter().map(|info| info.title.clone()).collect();
            all.into_iter().find(|info| is_it(info)).ok_or(titles)
        })
        .await
        .unwrap()
    }

    /// How often the model was asked something that holds this.
    pub fn asked(&self, text: &str) -> usize {
        let calls = self.gateway.model_calls().unwrap();
        calls.iter().filter(|call| call["lastUser"].as_str().unwrap_or_default().contains(text)).count()
    }

    /// A call of our own to the gateway, past the provider: what another client of it does.
    pub async fn other_client(&self, calls: Vec<(&'static str, Value)>) -> Vec<Value> {
        crate::harness::other_client(&self.gateway.url(), self.gateway.token(), calls).await
    }
}

/// Connects as another device, and calls.
pub async fn other_client(url: &str, token: &str, calls: Vec<(&'static str, Value)>) -> Vec<Value> {
    use futures::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message;
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let challenge = loop {
        if let Some(Ok(Message::Text(text))) = socket.next().await {
            let frame: Value = serde_json::from_str(&text).unwrap();
            break frame["payload"].clone();
        }
    };
    let scopes = ["operator.read", "operator.write", "operator.admin", "operator.approvals"];
    let connect = json!({
        "minProtocol": 3, "maxProtocol": 4, "role": "operator", "caps": [],
        "client": {"id": "gateway-client", "mode": "backend", "version": "0", "platform": "linux"},
        "scopes": scopes, "auth": {"token": token}, "device": device(&scopes.join(","), token, &challenge),
    });
    let mut answers = vec![];
    for (n, (method, params)) in std::iter::once(("connect", connect)).chain(calls).enumerate() {
        let id = n.to_string();
        let frame = json!({"type": "req", "id": id, "method": method, "params": params}).to_string();
        socket.send(Message::text(frame)).await.unwrap();
        loop {
            let Some(Ok(Message::Text(text))) = socket.next().await else { continue };
            let frame: Value = serde_json::from_str(&text).unwrap();
            if frame["type"] == "res" && frame["id"] == id.as_str() {
                assert_eq!(frame["ok"], true, "{method}: {frame}");
                answers.push(frame["payload"].clone());
                break;
            }
        }
    }
    answers.split_off(1)
}

/// Without a signed device, releases of protocol 3 grant nothing.
fn device(scopes: &str, token: &str, challenge: &Value) -> Value {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
    use ed25519_dalek::{Signer, SigningKey};
    use sha2::{Digest, Sha256};
    let key = SigningKey::from_bytes(&[7; 32]);
    let public = key.verifying_key().to_bytes();
    let id = data_encoding::HEXLOWER.encode(&Sha256::digest(public));
    let (nonce, at) = (challenge["nonce"].as_str().unwrap(), &challenge["ts"]);
    let text = format!("v2|{id}|gateway-client|backend|operator|{scopes}|{at}|{token}|{nonce}");
    let signature = BASE64.encode(key.sign(text.as_bytes()).to_bytes());
    json!({"id": id, "publicKey": BASE64.encode(public), "signature": signature, "signedAt": at, "nonce": nonce})
}

/// A session, watched.
pub struct Watched {
    pub id: SessionId,
    pub provider: Arc<OpenClawProvider>,
    pub events: EventStream,
    pub seen: Vec<AgentEvent>,
}

impl Watched {
    pub async fn inject(&self, text: &str, mode: InjectMode) -> (MessageId, InjectOutcome) {
        let id = new_message();
        let message = OperatorMessage { message_id: id.clone(), operator: ada(), content: text.into(), mode };
        let outcome = self.provider.inject(&self.id, message).await.unwrap();
        (id, outcome)
    }

    /// Reads until something is found.
    pub async fn until<T>(&mut self, what: &str, mut find: impl FnMut(&AgentEvent) -> Option<T>) -> T {
        loop {
            let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
            let tail = || self.seen.iter().rev().take(8).rev().map(|e| &e.news).collect::<Vec<_>>();
            let event = event.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}, last: {:#?}", tail()));
            let event = event.unwrap_or_else(|| panic!("{what}: the events ended, last: {:#?}", tail()));
            let found = find(&event);
            self.seen.push(event);
            if let Some(found) = found {
                return found;
            }
        }
    }

    pub async fn said(&mut self, text: &str) -> MessageDraft {
        let what = format!("{text:?} is said");
        self.until(&what, |event| message(event).filter(|m| m.role == Role::Agent && m.content.contains(text)).cloned())
            .await
    }

    pub async fn status(&mut self, wanted: Status) {
        let what = format!("it is {wanted}");
        self.until(&what, |e| matches!(&e.news, News::Status { status, .. } if *status == wanted).then_some(())).await;
    }

    pub async fn ended(&mut self) -> End {
        let end = self.until("the end", |event| match &event.news {
            News::Ended(end) => Some(end.clone()),
            _ => None,
        });
        end.await
    }

    pub async fn receipt(&mut self, id: &MessageId) -> InjectOutcome {
        let receipt = self.until("the receipt", |event| match &event.news {
            News::Receipt { message_id, outcome } if message_id == id => Some(outcome.clone()),
            _ => None,
        });
        receipt.await
    }

    /// The same, also if it has been read already.
    pub async fn receipt_so_far(&mut self, id: &MessageId) -> InjectOutcome {
        let told = self.seen.iter().rev().find_map(|event| match &event.news {
            News::Receipt { message_id, outcome } if message_id == id => Some(outcome.clone()),
            _ => None,
        });
        match told {
            Some(outcome) => outcome,
            None => self.receipt(id).await,
        }
    }

    /// Role, kind and text of all messages so far.
    pub fn messages(&self) -> Vec<(Role, MessageKind, String)> {
        let all = self.seen.iter().filter_map(message);
        all.map(|m| (m.role.clone(), m.kind.clone(), m.content.trim().to_owned())).collect()
    }
}

pub fn message(event: &AgentEvent) -> Option<&MessageDraft> {
    match &event.news {
        News::Message(draft) => Some(draft),
        _ => None,
    }
}
