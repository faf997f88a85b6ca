//! One mesh per test: a server, a hub's connection with its streams, and a node agent in a process of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command as Program;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::client::Request;
use async_nats::jetstream;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bus_schema::jetstream::{MESSAGES, STATE, STREAMS, StreamSpec, republish_destination, republish_source};
use bus_schema::{
    Action, Command, CommandId, CommandReply, Message, NodeId, NodeState, Operator, Receipt, Session, SessionId, Spawn,
    Subject, Timestamp, UserId, WorkspaceId, decode, encode, header, signed_bytes,
};
use futures::StreamExt;
use nkeys::KeyPair;
use testkit::{Bus, NatsServer, Process, TestIdentity, wait_until};

/// Longest time for anything that should happen soon, on a machine that has other things to do.
pub const SOON: Duration = Duration::from_secs(60);
pub const NODE: &str = "n1";

pub struct Mesh {
    // Ended first: its log is in the folder.
    node: Option<Process>,
    pub server: NatsServer,
    pub hub: Bus,
    pub key: KeyPair,
    pub folder: tempfile::TempDir,
}

impl Drop for Mesh {
    /// Leaves no agent behind, whatever became of the test.
    fn drop(&mut self) {
        self.node = None;
        let has_terminals = std::fs::read_dir(self.folder.path().join("data/pty")).is_ok_and(|dir| dir.count() > 0);
        if has_terminals {
            let _ = self.program(&["stop-sessions"]).output();
        }
    }
}

pub fn workspace() -> WorkspaceId {
    WorkspaceId::new("default").unwrap()
}

pub fn node() -> NodeId {
    NodeId::new(NODE).unwrap()
}

pub fn ada() -> Operator {
    Operator { id: UserId::new("u-ada").unwrap(), name: "Ada".into() }
}

pub fn now() -> Timestamp {
    providers::clock::now()
}

pub fn new_session_id() -> SessionId {
    SessionId::new(ulid::Ulid::new().to_string()).unwrap()
}

/// A profile of the echo provider, as it stands in the configuration.
pub fn echo(name: &str, words: &[&str]) -> String {
    let words: Vec<_> = ["echo"].iter().chain(words).map(|word| format!("{word:?}")).collect();
    format!("[[profile]]\nname = {name:?}\nprovider = \"echo\"\ncommand = [{}]\n", words.join(", "))
}

impl Mesh {
    /// All of it, with a node that has these profiles.
    pub async fn start(profiles: &str) -> Self {
        let mut mesh = Self::without_node(profiles).await;
        mesh.start_node();
        mesh.wait_for_node().await;
        mesh
    }

    pub async fn without_node(profiles: &str) -> Self {
        let mut identity = TestIdentity::new().unwrap();
        let creds = identity.node_creds(NODE).unwrap();
        let server = NatsServer::start_with(identity).unwrap();
        let hub = server.hub().await.unwrap();
        make_streams(&hub).await;
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::new_service();
        let config = format!(
            "[node]\nid = \"{NODE}\"\ndata_dir = {:?}\necho = true\ndetect = false\nlog = \"info,node_agent=debug\"\n\
             [nats]\nurl = {:?}\ncreds = {creds:?}\n[trust]\ncommand_keys = [{:?}]\n{profiles}",
            folder.path().join("data"),
            server.url(),
            key.public_key(),
        );
        std::fs::write(folder.path().join("node.toml"), config).unwrap();
        Self { server, hub, key, folder, node: None }
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("node.toml")
    }

    pub fn program(&self, arguments: &[&str]) -> Program {
        let mut program = Program::new(env!("CARGO_BIN_EXE_mosaic-node"));
        program.args(arguments).arg("--config").arg(self.config());
        program
    }

    pub fn start_node(&mut self) {
        let log = self.folder.path().join("node.log");
        self.node = Some(Process::spawn("mosaic-node", &mut self.program(&["run"]), &log).unwrap());
    }

    pub fn node(&mut self) -> &mut Process {
        self.node.as_mut().unwrap()
    }

    pub fn kill_node(&mut self) {
        self.node().kill9();
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("node.log")).unwrap_or_default()
    }

    /// Waits until the node answers to commands.
    pub async fn wait_for_node(&self) {
        wait_until("the node answers", SOON, async || {
            let reply = self.ask(self.command(Action::Pause, Some(new_session_id()))).await?;
            reply.refusal.map(|_| ()).ok_or("not refused".to_owned())
        })
        .await
        .unwrap();
    }

    pub fn command(&self, action: Action, session_id: Option<SessionId>) -> Command {
        Command {
            command_id: CommandId::new(ulid::Ulid::new().to_string()).unwrap(),
            workspace: workspace(),
            node: node(),
            action,
            session_id,
            operator: ada(),
            issued_at: now(),
            expires_at: now().plus_millis(30_000),
            spawn: None,
            message_id: None,
            content: None,
            mode: None,
            pause_first: false,
            data: None,
            size: None,
            answer: None,
        }
    }

    pub fn sign(&self, payload: &[u8]) -> HeaderMap {
        let subject = Subject::Command(workspace(), node());
        sign(&self.key, &subject, payload)
    }

    /// Sends a payload as it is to the node.
    pub async fn send(&self, payload: Vec<u8>, headers: HeaderMap) -> Result<CommandReply, String> {
        let subject = Subject::Command(workspace(), node()).to_string();
        let request = Request::new().payload(payload.into()).headers(headers).timeout(Some(SOON));
        let answer = self.hub.client.send_request(subject, request).await.map_err(|error| error.to_string())?;
        decode(&answer.payload, None).map_err(|error| error.to_string())
    }

    pub async fn ask(&self, command: Command) -> Result<CommandReply, String> {
        let payload = encode(&command).unwrap();
        let headers = self.sign(&payload);
        self.send(payload, headers).await
    }

    pub async fn must(&self, command: Command) -> CommandReply {
        let reply = self.ask(command.clone()).await.unwrap();
        assert_eq!(reply.command_id.as_ref(), Some(&command.command_id));
        assert!(reply.refusal.is_none(), "{:?}: {:?}", command.action, reply.refusal);
        reply
    }

    pub fn spawn_of(&self, profile: &str) -> Command {
        let spawn = Spawn {
            session_id: new_session_id(),
            profile: profile.into(),
            prompt: None,
            title: None,
            parent_session_id: None,
            task_id: None,
            task_source: Default::default(),
            mission_id: None,
            resumed: None,
        };
        Command { spawn: Some(spawn), ..self.command(Action::Spawn, None) }
    }

    pub async fn spawn(&self, profile: &str) -> SessionId {
        let command = self.spawn_of(profile);
        let id = command.spawn.clone().unwrap().session_id;
        self.must(command).await;
        id
    }

    pub fn inject_of(&self, session: &SessionId, content: &str) -> Command {
        Command {
            message_id: Some(bus_schema::MessageId::new(ulid::Ulid::new().to_string()).unwrap()),
            content: Some(content.into()),
            ..self.command(Action::Inject, Some(session.clone()))
        }
    }

    /// The last payload under a subject of the state stream.
    async fn last<T: serde::de::DeserializeOwned>(&self, subject: Subject) -> Option<T> {
        let stream = jetstream::new(self.hub.client.clone()).get_stream_no_info(STATE.name).await.ok()?;
        let message = stream.direct_get_last_for_subject(subject.to_string()).await.ok()?;
        Some(decode(&message.payload, None).unwrap())
    }

    pub async fn session(&self, id: &SessionId) -> Option<Session> {
        self.last(Subject::Session(workspace(), node(), id.clone())).await
    }

    pub async fn node_state(&self) -> Option<NodeState> {
        self.last(Subject::Node(workspace(), node())).await
    }

    pub async fn wait_for_session(&self, id: &SessionId, what: &str, is_so: impl Fn(&Session) -> bool) -> Session {
        wait_until(what, SOON, async || {
            let session = self.session(id).await;
            session.clone().filter(|session| is_so(session)).ok_or(session)
        })
        .await
        .unwrap()
    }

    /// All messages of the stream, by session, in the order in which they were stored.
    pub async fn stored(&self) -> BTreeMap<SessionId, Vec<Message>> {
        let mut all: BTreeMap<SessionId, Vec<Message>> = BTreeMap::new();
        for message in self.read(&MESSAGES, "mosaic.v1.default.*.message.*").await {
            let message: Message = decode(&message, None).unwrap();
            all.entry(message.session_id.clone()).or_default().push(message);
        }
        all
    }

    pub async fn receipts(&self, session: &SessionId) -> Vec<Receipt> {
        let subject = Subject::Receipt(workspace(), node(), session.clone()).to_string();
        self.read(&MESSAGES, &subject).await.iter().map(|payload| decode(payload, None).unwrap()).collect()
    }

    /// Everything a stream holds under a filter.
    pub async fn read(&self, stream: &StreamSpec, filter: &str) -> Vec<bytes::Bytes> {
        // The server may just have been killed, and our own connection be on its way back.
        wait_until("a stream can be read", SOON, async || {
            self.try_read(stream, filter).await.map_err(|error| error.to_string())
        })
        .await
        .unwrap()
    }

    async fn try_read(&self, stream: &StreamSpec, filter: &str) -> Result<Vec<bytes::Bytes>, async_nats::Error> {
        let context = jetstream::new(self.hub.client.clone());
        let stream = context.get_stream(stream.name).await?;
        let config = jetstream::consumer::pull::Config {
            filter_subject: filter.into(),
            ack_policy: jetstream::consumer::AckPolicy::None,
            inactive_threshold: Duration::from_secs(60),
            ..Default::default()
        };
        let consumer = stream.create_consumer(config).await?;
        let mut left = consumer.cached_info().num_pending;
        let mut payloads = vec![];
        while left > 0 {
            let mut batch = consumer.fetch().max_messages(1_000).messages().await?;
            let before = left;
            while let Some(message) = batch.next().await {
                payloads.push(message?.payload.clone());
                left = left.saturating_sub(1);
            }
            if left == before {
                return Err("the consumer gives nothing more".into());
            }
        }
        Ok(payloads)
    }

    /// Waits until the messages of a session are `1, 2, 3 … count`, each once whatever the order, and gives them.
    pub async fn wait_for_messages(&self, session: &SessionId, count: u64) -> Vec<Message> {
        wait_until("all messages are stored", Duration::from_secs(180), async || {
            let mut messages = self.stored().await.remove(session).unwrap_or_default();
            messages.sort_by_key(|message| message.seq);
            let is_all = messages.last().is_some_and(|last| last.seq >= count) && missing(&messages).is_empty();
            if is_all { Ok(messages) } else { Err((messages.len(), missing(&messages))) }
        })
        .await
        .unwrap()
    }
}

/// The first numbers that are not there, among those before the last one: what was sent again after a kill may be
/// stored behind what came later.
pub fn missing(sorted: &[Message]) -> Vec<u64> {
    let there: BTreeSet<u64> = sorted.iter().map(|message| message.seq).collect();
    let last = there.last().copied().unwrap_or(0);
    (1..last).filter(|seq| !there.contains(seq)).take(5).collect()
}

pub fn sign(key: &KeyPair, subject: &Subject, payload: &[u8]) -> HeaderMap {
    let signature = key.sign(&signed_bytes(subject, payload)).unwrap();
    let mut headers = HeaderMap::new();
    headers.insert(header::KEY, key.public_key());
    headers.insert(header::SIGNATURE, URL_SAFE_NO_PAD.encode(signature));
    headers
}

pub async fn make_streams(hub: &Bus) {
    for spec in STREAMS {
        make_stream(hub, spec).await;
    }
}

pub async fn make_stream(hub: &Bus, spec: &StreamSpec) {
    let context = jetstream::new(hub.client.clone());
    let config = jetstream::stream::Config {
        name: spec.name.into(),
        subjects: spec.subjects(),
        max_messages_per_subject: spec.max_messages_per_subject,
        max_age: Duration::from_secs(spec.max_age_s),
        max_bytes: spec.max_bytes,
        duplicate_window: Duration::from_secs(spec.duplicate_window_s),
        allow_direct: true,
        republish: Some(jetstream::stream::Republish {
            source: republish_source(),
            destination: republish_destination(),
            headers_only: false,
        }),
        ..Default::default()
    };
    context.create_stream(config).await.unwrap();
}
