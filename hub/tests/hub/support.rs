//! A hub as its users run it: the binary, a real nats-server, and a node played by the test over the bus's contract.

use std::path::PathBuf;
use std::process::Command as Program;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::HeaderMap;
use bus_schema::*;
use futures::StreamExt;
use nkeys::XKey;
use reqwest::StatusCode;
use serde_json::{Value, json};
use testkit::{Bus, NatsServer, Person, Process, wait_until};

pub const WAIT: Duration = Duration::from_secs(30);
pub const S1: &str = "01JD8Z2V9Q0000000000000001";
pub const S2: &str = "01JD8Z2V9Q0000000000000002";

/// Roles with their emails; the password is the role twice.
pub const PEOPLE: [&str; 3] = ["admin", "operator", "observer"];

pub struct Stack {
    pub nats: NatsServer,
    pub hub: Option<Process>,
    pub dir: tempfile::TempDir,
    pub memtable_bytes: u64,
    /// Further lines of `[nats]`.
    pub nats_lines: String,
    /// Further lines of `[hub]`.
    pub hub_lines: String,
    /// Further tables of the configuration.
    pub tables: String,
    /// Further people of the users file.
    pub people: Vec<Value>,
    http: reqwest::Client,
}

impl Stack {
    pub async fn start() -> Self {
        Self::start_with(16 * 1024 * 1024).await
    }

    pub async fn start_with(memtable_bytes: u64) -> Self {
        let mut stack = Self { memtable_bytes, ..Self::idle(NatsServer::start().unwrap()) };
        stack.start_hub().await;
        stack
    }

    /// With further lines of `[hub]` and further tables.
    pub async fn start_configured(hub_lines: &str, tables: &str) -> Self {
        let mut stack = Self::idle(NatsServer::start().unwrap());
        (stack.hub_lines, stack.tables) = (hub_lines.into(), tables.into());
        stack.start_hub().await;
        stack
    }

    /// A hub that may let nodes in.
    pub async fn start_with_identity() -> Self {
        let mut stack = Self::idle(NatsServer::start().unwrap());
        let dir = stack.nats.identity().identity().dir().to_owned();
        stack.nats_lines = format!("identity = {dir:?}\n");
        stack.start_hub().await;
        stack
    }

    /// Everything but a hub that runs.
    pub fn idle(nats: NatsServer) -> Self {
        Self {
            nats,
            hub: None,
            dir: tempfile::tempdir().unwrap(),
            memtable_bytes: 16 * 1024 * 1024,
            nats_lines: String::new(),
            hub_lines: String::new(),
            tables: String::new(),
            people: vec![],
            http: reqwest::Client::new(),
        }
    }

    fn write_config(&mut self) -> PathBuf {
        self.write_config_for("hub")
    }

    fn write_config_for(&mut self, name: &str) -> PathBuf {
        let people = PEOPLE.map(|role| {
            json!({"email": format!("{role}@example.org"), "name": role.to_uppercase(), "password": role.repeat(2),
                   "role": role})
        });
        let people = [&people[..], &self.people[..]].concat();
        std::fs::write(self.dir.path().join("users.json"), serde_json::to_vec(&people).unwrap()).unwrap();
        let url = self.nats.url();
        let identity = self.nats.identity();
        let config = format!(
            "[hub]\nlisten = \"127.0.0.1:0\"\ndata_dir = {name:?}\nbootstrap_users = \"users.json\"\n{}\n\
             [nats]\nurl = \"{url}\"\ncreds = {:?}\njournal_creds = {:?}\ncommand_key = {:?}\n\
             messages_max_bytes = 268435456\nterminal_max_bytes = 268435456\n{}\n\
             [store]\nmemtable_bytes = {}\n{}\n",
            self.hub_lines,
            identity.hub_creds(),
            identity.identity().journal_creds(),
            identity.identity().command_key_path(),
            self.nats_lines,
            self.memtable_bytes,
            self.tables,
        );
        let path = self.dir.path().join(format!("{name}.toml"));
        std::fs::write(&path, config).unwrap();
        path
    }

    pub fn launch_hub(&mut self) {
        let config = self.write_config();
        drop(std::fs::remove_file(self.dir.path().join("hub/listen.json")));
        let mut program = Program::new(env!("CARGO_BIN_EXE_mosaic-hub"));
        program.arg("--config").arg(config).env("MOSAIC_LOG", "info,surrealdb=warn,hub=debug");
        self.hub = Some(Process::spawn("mosaic-hub", &mut program, &self.dir.path().join("hub.log")).unwrap());
    }

    pub async fn start_hub(&mut self) {
        self.launch_hub();
        wait_until("the hub is ready", WAIT, async || {
            let Some(url) = self.url_if_known() else { return Err("no address yet".to_owned()) };
            match self.http.get(format!("{url}/readyz")).send().await {
                Ok(answer) if answer.status() == StatusCode::OK => Ok(()),
                Ok(answer) => Err(answer.text().await.unwrap_or_default()),
                Err(error) => Err(error.to_string()),
            }
        })
        .await
        .unwrap();
    }

    /// A second hub on the same bus, with a store of its own: it ends with the value.
    pub async fn second_hub(&mut self) -> (Process, String) {
        let config = self.write_config_for("hub2");
        let mut program = Program::new(env!("CARGO_BIN_EXE_mosaic-hub"));
        program.arg("--config").arg(config).env("MOSAIC_LOG", "info,surrealdb=warn,hub=debug");
        let process = Process::spawn("mosaic-hub", &mut program, &self.dir.path().join("hub2.log")).unwrap();
        let listen = self.dir.path().join("hub2/listen.json");
        let url = wait_until("the second hub is ready", WAIT, async || {
            let text = std::fs::read(&listen).map_err(|e| e.to_string())?;
            let said: Value = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
            let url = said["url"].as_str().unwrap_or_default().to_owned();
            match self.http.get(format!("{url}/readyz")).send().await {
                Ok(answer) if answer.status() == StatusCode::OK => Ok(url),
                Ok(answer) => Err(answer.text().await.unwrap_or_default()),
                Err(error) => Err(error.to_string()),
            }
        })
        .await
        .unwrap();
        (process, url)
    }

    pub fn kill9_hub(&mut self) {
        self.hub.as_mut().unwrap().kill9();
        self.hub = None;
    }

    pub fn stop_hub(&mut self) {
        let status = self.hub.as_mut().unwrap().terminate(WAIT).unwrap();
        assert!(status.success(), "{status}");
        self.hub = None;
    }

    pub fn url_if_known(&self) -> Option<String> {
        let text = std::fs::read(self.dir.path().join("hub/listen.json")).ok()?;
        Some(serde_json::from_slice::<Value>(&text).ok()?["url"].as_str()?.to_owned())
    }

    pub fn url(&self) -> String {
        self.url_if_known().unwrap()
    }

    pub fn nobody(&self) -> Person {
        Person::nobody(self.url())
    }

    pub async fn sign_in(&self, role: &str) -> Person {
        self.nobody().sign_in(&format!("{role}@example.org"), &role.repeat(2)).await.unwrap()
    }

    pub async fn node(&mut self, name: &str) -> Node {
        Node::of(self.nats.node(name).await.unwrap(), name).await
    }

    /// Waits until the hub knows a node.
    pub async fn knows(&self, person: &Person, node: &Node) {
        wait_until("the node is known", WAIT, async || {
            let nodes = person.get("/api/nodes").await.unwrap();
            nodes["nodes"].as_array().unwrap().iter().any(|n| n["node"] == node.name.as_str() && n["online"] == true)
        })
        .await
        .unwrap();
    }
}

/// Waits until the hub tells a person of a session.
pub async fn knows_session(person: &Person, id: &str) {
    wait_until("the session is known", WAIT, async || person.session(id).await.map(drop).map_err(|e| e.to_string()))
        .await
        .unwrap();
}

/// A node, played by the test.
pub struct Node {
    pub bus: Bus,
    pub workspace: WorkspaceId,
    pub name: NodeId,
    pub commands: Arc<Mutex<Vec<Command>>>,
    /// What is secret comes sealed for this.
    pub key: Arc<XKey>,
    /// What it says of the settings it has.
    pub settings_rev: Arc<AtomicU64>,
}

pub fn done(command: &Command) -> CommandReply {
    CommandReply::with(Some(command.command_id.clone()), Outcome::Done)
}

/// Opens what is sealed for a key: the sender's public key as text, then the box.
pub fn unseal<T: serde::de::DeserializeOwned>(key: &XKey, sealed: &[u8]) -> T {
    let (sender, sealed) = sealed.split_at(56);
    let sender = XKey::from_public_key(std::str::from_utf8(sender).unwrap()).unwrap();
    decode(&key.open(sealed, &sender).unwrap(), None).unwrap()
}

impl Node {
    /// A node with that connection, which tells that it is there.
    pub async fn of(bus: Bus, name: &str) -> Self {
        Self::of_workspace(bus, name, "default").await
    }

    pub async fn of_workspace(bus: Bus, name: &str, workspace: &str) -> Self {
        let (name, key) = (NodeId::new(name).unwrap(), Arc::new(XKey::new()));
        let workspace = WorkspaceId::new(workspace).unwrap();
        let node = Self { bus, workspace, name, commands: Arc::default(), key, settings_rev: Arc::default() };
        node.state("up").await;
        node
    }

    pub async fn publish_raw(&self, subject: String, id: Option<String>, payload: Vec<u8>) {
        let mut headers = HeaderMap::new();
        headers.insert("Content-Type", "application/msgpack");
        if let Some(id) = id {
            headers.insert("Nats-Msg-Id", id.as_str());
        }
        self.bus.client.publish_with_headers(subject, headers, payload.into()).await.unwrap();
    }

    fn workspace(&self) -> WorkspaceId {
        self.workspace.clone()
    }

    pub async fn state(&self, status: &str) {
        self.tell(status, Some(self.key.public_key())).await;
    }

    /// As a node of a version that takes no settings.
    pub async fn state_of_old(&self) {
        self.tell("up", None).await;
    }

    async fn tell(&self, status: &str, seal_key: Option<String>) {
        let now = hub::clock::now();
        let state = json!({
            "workspace": self.workspace, "node": self.name, "version": "0.1.0", "status": status,
            "host": {"hostname": "h", "os": "linux", "arch": "x86_64", "cpus": 2}, "bootId": "b", "incarnation": "i",
            "startedAt": now, "timestamp": now, "profiles": [{"name": "counter", "provider": "pty"}],
            "providers": [{"name": "pty", "healthy": true}, {"name": "openclaw", "healthy": false, "error": "no gateway"}],
            "sealKey": seal_key, "settingsRev": self.settings_rev.load(Ordering::Acquire),
        });
        let subject = Subject::Node(self.workspace(), self.name.clone()).to_string();
        let state: NodeState = serde_json::from_value(state).unwrap();
        self.publish_raw(subject, None, encode(&state).unwrap()).await;
        self.bus.client.flush().await.unwrap();
    }

    pub fn session(&self, id: &str, rev: u64, status: &str) -> Session {
        let now = hub::clock::now();
        serde_json::from_value(json!({
            "sessionId": id, "workspace": self.workspace, "node": self.name, "provider": "pty", "status": status,
            "statusSource": "process", "statusSince": now, "spawnedAt": now, "rev": rev,
            "capabilities": ["inject", "pause", "kill", "terminal"],
            "metadata": {"notCapable": {"resume": "it was never paused"}},
        }))
        .unwrap()
    }

    pub async fn send_session(&self, session: &Session) {
        let subject = Subject::Session(self.workspace(), self.name.clone(), session.session_id.clone()).to_string();
        self.publish_raw(subject, None, encode(session).unwrap()).await;
        self.bus.client.flush().await.unwrap();
    }

    pub fn message(id: &str, seq: u64) -> Message {
        Message {
            message_id: MessageId::new(format!("{id}-{seq}")).unwrap(),
            session_id: SessionId::new(id).unwrap(),
            seq,
            role: Role::Agent,
            content: format!("line {seq}"),
            timestamp: hub::clock::now(),
            kind: MessageKind::Text,
            metadata: Metadata::new(),
        }
    }

    pub fn message_subject(&self, id: &str) -> String {
        Subject::Message(self.workspace(), self.name.clone(), SessionId::new(id).unwrap()).to_string()
    }

    /// Publishes messages with ids, and waits for JetStream's ack of each: what has no ack is sent again.
    pub async fn send_messages(&self, id: &str, seqs: std::ops::RangeInclusive<u64>) {
        for seq in seqs {
            let payload = encode(&Self::message(id, seq)).unwrap();
            loop {
                let mut headers = HeaderMap::new();
                headers.insert("Nats-Msg-Id", format!("{id}-{seq}").as_str());
                let request = async_nats::Request::new().headers(headers).payload(payload.clone().into());
                let request = request.timeout(Some(Duration::from_secs(2)));
                if self.bus.client.send_request(self.message_subject(id), request).await.is_ok() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Answers every command with what `answer` says.
    pub async fn obey(&self, answer: impl Fn(&Command) -> CommandReply + Send + 'static) -> tokio::task::JoinSet<()> {
        let subject = Subject::Command(self.workspace(), self.name.clone()).to_string();
        let mut requests = self.bus.client.subscribe(subject).await.unwrap();
        // Subscribed for certain before the first command: a round trip.
        self.bus.client.flush().await.unwrap();
        let (client, seen) = (self.bus.client.clone(), Arc::clone(&self.commands));
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            while let Some(request) = requests.next().await {
                let command: Command = decode(&request.payload, None).unwrap();
                let reply = encode(&answer(&command)).unwrap();
                seen.lock().unwrap().push(command);
                client.publish(request.reply.unwrap(), reply.into()).await.unwrap();
            }
        });
        tasks
    }
}
