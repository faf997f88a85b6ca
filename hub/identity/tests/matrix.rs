//! The whole matrix, asked of a real server with a plain client: every kind of subject × every kind of client × publish
//! and subscribe, against what the contract declares. Made from the list of kinds: a new kind is asked for too.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fmt::Write;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::{self, consumer};
use bus_schema::{BusRole, Kind, NodeId, Permissions, SessionId, Subject, WorkspaceId, jetstream as streams};
use futures::StreamExt;
use hub_identity::ACCOUNT_UPDATE_SUBJECT;
use testkit::{Bus, NatsServer, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const WITHIN: Duration = Duration::from_secs(20);
const SESSION: &str = "01JD8Z2V9Q0000000000000000";

/// Whoever may try.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    Node,
    OtherNode,
    Reader,
    Hub,
    ForeignNode,
    ForeignReader,
    ForeignHub,
    Nobody,
}

const EVERYBODY: [Who; 8] = [
    Who::Node,
    Who::OtherNode,
    Who::Reader,
    Who::Hub,
    Who::ForeignNode,
    Who::ForeignReader,
    Who::ForeignHub,
    Who::Nobody,
];

/// What becomes of an attempt on a subject of node `n1` of the workspace `default`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    /// It arrives.
    Passes,
    /// The server says no.
    Refused,
    /// It goes nowhere: it is another account's subject of the same name.
    Elsewhere,
}

/// The contract's table (section 2), in its own words and not in the code's.
fn declared(who: Who, publishes: bool, live: bool, kind: Kind) -> Outcome {
    use Outcome::{Elsewhere, Passes, Refused};
    let passes = |yes| if yes { Passes } else { Refused };
    match (who, publishes) {
        (Who::Hub, _) => Passes,
        (Who::ForeignHub, _) => Elsewhere,
        (Who::Node, true) => passes(!live && !matches!(kind, Kind::Command | Kind::Audit)),
        (Who::Node, false) => passes(!live && kind == Kind::Command),
        (Who::Reader, false) => passes(live || kind == Kind::Delta),
        (Who::Reader, true) | (Who::OtherNode | Who::ForeignNode | Who::ForeignReader | Who::Nobody, _) => Refused,
    }
}

fn subject(kind: Kind, live: bool) -> String {
    let (w, n) = (WorkspaceId::new("default").unwrap(), NodeId::new("n1").unwrap());
    let s = SessionId::new(SESSION).unwrap();
    let subject = Subject::of(kind, w, n, s);
    if live { subject.live() } else { subject.to_string() }
}

struct Mesh {
    server: NatsServer,
    /// A hub of the workspace that sees and sends everything.
    witness: Bus,
    clients: Vec<(Who, Option<Bus>)>,
}

impl Mesh {
    async fn start() -> Self {
        let mut server = NatsServer::start().unwrap();
        let (second, n1) = (WorkspaceId::new("second").unwrap(), NodeId::new("n1").unwrap());
        let identity = server.identity().identity();
        identity.add_workspace(&second).unwrap();
        identity.add_node(&second, &n1).unwrap();
        let foreign = [
            (Who::ForeignHub, identity.hub_creds(&second), "hub"),
            (Who::ForeignNode, identity.node_creds(&second, &n1), "n1"),
            (Who::ForeignReader, identity.reader_creds(&second), "reader"),
        ];
        let (updates, sys) = (identity.account_updates().unwrap(), identity.sys_creds());
        let sys = Bus::connect(&server.url(), &sys, "sys").await.unwrap();
        for update in updates {
            sys.client.request(ACCOUNT_UPDATE_SUBJECT, update.jwt.into()).await.unwrap();
        }
        let mut clients = vec![
            (Who::Node, Some(server.node("n1").await.unwrap())),
            (Who::OtherNode, Some(server.node("n2").await.unwrap())),
            (Who::Reader, Some(server.reader().await.unwrap())),
            (Who::Hub, Some(server.hub().await.unwrap())),
            (Who::Nobody, None),
        ];
        for (who, creds, name) in foreign {
            clients.push((who, Some(Bus::connect(&server.url(), &creds, name).await.unwrap())));
        }
        let witness = server.hub().await.unwrap();
        Self { server, witness, clients }
    }

    fn client(&self, who: Who) -> Option<&Bus> {
        let found = self.clients.iter().find(|(other, _)| *other == who);
        found.unwrap_or_else(|| panic!("{who:?} is not there")).1.as_ref()
    }

    async fn publish(&self, who: Who, subject: &str) -> Outcome {
        let mut seen = self.witness.client.subscribe(subject.to_owned()).await.unwrap();
        barrier(&self.witness).await;
        let Some(client) = self.client(who) else {
            assert!(told_nobody(&self.server.url(), &format!("PUB {subject} 1\r\nx\r\n")).await);
            barrier(&self.witness).await;
            return if is_next(&mut seen).await { Outcome::Passes } else { Outcome::Refused };
        };
        client.client.publish(subject.to_owned(), "x".into()).await.unwrap();
        client.client.flush().await.unwrap();
        self.outcome(who, client, subject, &mut seen, None).await
    }

    async fn subscribe(&self, who: Who, subject: &str) -> Outcome {
        let Some(client) = self.client(who) else {
            assert!(told_nobody(&self.server.url(), &format!("SUB {subject} 1\r\n")).await);
            return Outcome::Refused;
        };
        let mut seen = client.client.subscribe(subject.to_owned()).await.unwrap();
        client.client.flush().await.unwrap();
        self.outcome(who, client, subject, &mut seen, Some(subject)).await
    }

    /// Waits until it arrives or is refused. A foreign hub is refused nothing: there a round trip on each side tells.
    async fn outcome(
        &self,
        who: Who,
        client: &Bus,
        subject: &str,
        seen: &mut async_nats::Subscriber,
        send: Option<&str>,
    ) -> Outcome {
        if who == Who::ForeignHub {
            barrier(client).await;
            if let Some(subject) = send {
                self.witness.client.publish(subject.to_owned(), "x".into()).await.unwrap();
            }
            barrier(&self.witness).await;
            barrier(client).await;
            return if is_next(seen).await { Outcome::Passes } else { Outcome::Elsewhere };
        }
        wait_until(&format!("{who:?} {subject}"), WITHIN, async || {
            if is_refused(client, subject, send.is_none()) {
                return Ok(Outcome::Refused);
            }
            if let Some(subject) = send {
                self.witness.client.publish(subject.to_owned(), "x".into()).await.unwrap();
            }
            if is_next(seen).await { Ok(Outcome::Passes) } else { Err(client.events()) }
        })
        .await
        .unwrap()
    }
}

/// True if the server has said no to publishing, or else to subscribing, the subject.
fn is_refused(client: &Bus, subject: &str, publishes: bool) -> bool {
    let verb = if publishes { "publish to" } else { "subscription to" };
    let said = format!("permissions violation for {verb} \"{}\"", subject.to_lowercase());
    client.events().iter().any(|event| event.to_lowercase().contains(&said))
}

async fn is_next(seen: &mut async_nats::Subscriber) -> bool {
    matches!(tokio::time::timeout(Duration::from_millis(20), seen.next()).await, Ok(Some(_)))
}

/// Returns when the server has handled everything that this client sent before.
async fn barrier(bus: &Bus) {
    let subject = bus.client.new_inbox();
    let mut own = bus.client.subscribe(subject.clone()).await.unwrap();
    bus.client.publish(subject, "".into()).await.unwrap();
    own.next().await.unwrap();
}

/// Speaks to the server by hand and without credentials; true if that was the end of it.
async fn told_nobody(url: &str, line: &str) -> bool {
    let mut socket = tokio::net::TcpStream::connect(url.strip_prefix("nats://").unwrap()).await.unwrap();
    socket.write_all(format!("CONNECT {{\"verbose\":false}}\r\n{line}PING\r\n").as_bytes()).await.unwrap();
    let mut told = vec![];
    tokio::time::timeout(WITHIN, socket.read_to_end(&mut told)).await.unwrap().unwrap();
    let told = String::from_utf8_lossy(&told).into_owned();
    told.contains("Authorization Violation") && !told.contains("PONG")
}

#[tokio::test]
async fn everybody_may_do_what_is_declared_and_nothing_else() {
    let mesh = Mesh::start().await;
    let (mut wrong, mut tried) = (String::new(), 0);
    for kind in Kind::ALL.iter().copied() {
        for live in [false, true] {
            let subject = subject(kind, live);
            for who in EVERYBODY {
                for publishes in [true, false] {
                    let found = match publishes {
                        true => mesh.publish(who, &subject).await,
                        false => mesh.subscribe(who, &subject).await,
                    };
                    let declared = declared(who, publishes, live, kind);
                    let verb = if publishes { "publishes" } else { "subscribes" };
                    if found != declared {
                        writeln!(wrong, "{who:?} {verb} {subject}: {found:?}, declared is {declared:?}").unwrap();
                    }
                    tried += 1;
                }
            }
        }
    }
    assert_eq!(wrong, "");
    assert_eq!(tried, Kind::ALL.len() * 2 * EVERYBODY.len() * 2);
}

#[test]
fn the_table_of_the_code_is_the_declared_one() {
    let w = WorkspaceId::new("default").unwrap();
    let matches = |filter: &String, subject: &str| {
        let (mut filter, mut subject) = (filter.split('.'), subject.split('.'));
        loop {
            match (filter.next(), subject.next()) {
                (Some(">"), Some(_)) | (None, None) => return true,
                (Some(f), Some(s)) if f == "*" || f == s => {}
                _ => return false,
            }
        }
    };
    for (who, role, name) in [
        (Who::Hub, BusRole::Hub, "hub"),
        (Who::Node, BusRole::Node, "n1"),
        (Who::OtherNode, BusRole::Node, "n2"),
        (Who::Reader, BusRole::Reader, "reader"),
    ] {
        let row = Permissions::of(role, &w, name);
        for (kind, live) in Kind::ALL.iter().flat_map(|kind| [(*kind, false), (*kind, true)]) {
            let subject = subject(kind, live);
            let any = |list: &[String]| list.iter().any(|filter| matches(filter, &subject));
            let publishes = any(&row.publish_allow) && !any(&row.publish_deny);
            assert_eq!(publishes, declared(who, true, live, kind) == Outcome::Passes, "{who:?} publishes {subject}");
            let subscribes = any(&row.subscribe_allow);
            assert_eq!(subscribes, declared(who, false, live, kind) == Outcome::Passes, "{who:?} subscribes {subject}");
        }
    }
}

/// Sends a request to JetStream's own subjects and tells whether the server let it through.
async fn reaches(client: &Bus, subject: &str, payload: &str) -> bool {
    client
        .client
        .publish_with_reply(subject.to_owned(), client.client.new_inbox(), payload.to_owned().into())
        .await
        .unwrap();
    client.client.flush().await.unwrap();
    wait_until("it is refused", WITHIN, async || client.was_refused(subject)).await.is_err()
}

#[tokio::test]
async fn nobody_but_a_hub_makes_the_server_deliver_to_a_command_subject() {
    let mut mesh = Mesh::start().await;
    let context = jetstream::new(mesh.witness.client.clone());
    let spec = &streams::MESSAGES;
    let stream = jetstream::stream::Config {
        name: spec.name.into(),
        subjects: spec.subjects(),
        max_bytes: 1 << 20,
        allow_direct: true,
        ..Default::default()
    };
    let stream = context.create_stream(stream).await.unwrap();
    let command = subject(Kind::Command, false);
    let mut commands = mesh.client(Who::Node).unwrap().client.subscribe(command.clone()).await.unwrap();
    barrier(&mesh.witness).await;

    // A push consumer that delivers what is stored to the command's subject; and a hub's own one, rewritten.
    let push = format!(
        r#"{{"stream_name":"{}","config":{{"deliver_subject":"{command}","ack_policy":"none","name":"evil"}}}}"#,
        spec.name
    );
    let durable = streams::MESSAGES_CONSUMER.durable;
    let config = consumer::pull::Config { durable_name: Some(durable.into()), ..Default::default() };
    stream.create_consumer(config).await.unwrap();
    for who in [Who::Node, Who::OtherNode, Who::Reader, Who::ForeignNode, Who::ForeignReader] {
        let client = mesh.client(who).unwrap();
        for subject in [
            format!("$JS.API.CONSUMER.CREATE.{}", spec.name),
            format!("$JS.API.CONSUMER.CREATE.{}.evil", spec.name),
            format!("$JS.API.CONSUMER.DURABLE.CREATE.{}.{durable}", spec.name),
            format!("$JS.API.CONSUMER.MSG.NEXT.{}.{durable}", spec.name),
            format!("$JS.API.CONSUMER.DELETE.{}.{durable}", spec.name),
            format!("$JS.API.STREAM.INFO.{}", spec.name),
            format!("$JS.API.STREAM.UPDATE.{}", spec.name),
            format!("$JS.API.STREAM.PURGE.{}", spec.name),
            format!("$JS.API.STREAM.MSG.DELETE.{}", spec.name),
            format!("$JS.API.DIRECT.GET.{}", spec.name),
        ] {
            assert!(!reaches(client, &subject, &push).await, "{who:?} {subject}");
        }
    }
    // Another account's hub has a `$JS.API` of its own, and no such stream there.
    let foreign = jetstream::new(mesh.client(Who::ForeignHub).unwrap().client.clone());
    assert!(foreign.get_stream(spec.name).await.is_err());
    let found = context.get_stream(spec.name).await.unwrap();
    assert_eq!(found.cached_info().state.consumer_count, 1);

    // A reader may name no reply subject, since it publishes nothing.
    let reader = mesh.client(Who::Reader).unwrap();
    let own = subject(Kind::Message, false);
    reader.client.publish_with_reply(own.clone(), command.clone(), "x".into()).await.unwrap();
    wait_until("the reader is refused", WITHIN, async || reader.was_refused(&own)).await.unwrap();
    barrier(&mesh.witness).await;
    assert!(!is_next(&mut commands).await);

    // A node may, and the server then sends its acknowledgement there, whoever may publish there: the one way left, and
    // the reason for which nodes obey nothing but signatures. No byte of it is the sender's choice.
    let other = mesh.server.node("n2").await.unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", "evil");
    let theirs = own.replace(".n1.", ".n2.");
    other.client.publish_with_reply_and_headers(theirs, command, headers, "kill".into()).await.unwrap();
    let came = tokio::time::timeout(WITHIN, commands.next()).await.unwrap().unwrap();
    let ack: serde_json::Value = serde_json::from_slice(&came.payload).unwrap();
    assert_eq!(ack["stream"], spec.name);
    assert!(came.headers.is_none() && !String::from_utf8_lossy(&came.payload).contains("kill"), "{ack}");
}
