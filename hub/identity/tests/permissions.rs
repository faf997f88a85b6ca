//! Who may do what, asked of a real server: every kind of client × publish and subscribe × every kind of subject.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use async_nats::jetstream;
use async_nats::service::ServiceExt;
use bus_schema::{Kind, NODE_SERVICE, NodeId, SessionId, Subject, WorkspaceId, inbox_prefix, jetstream as streams};
use futures::StreamExt;
use hub_identity::ACCOUNT_UPDATE_SUBJECT;
use testkit::{Bus, NatsServer, wait_until};

const WITHIN: Duration = Duration::from_secs(10);
const SESSION: &str = "01JD8Z2V9Q0000000000000000";

/// The subject of a kind for a node of a workspace.
fn subject(kind: Kind, workspace: &str, node: &str) -> String {
    let (w, n) = (WorkspaceId::new(workspace).unwrap(), NodeId::new(node).unwrap());
    let s = SessionId::new(SESSION).unwrap();
    Subject::of(kind, w, n, s).to_string()
}

fn live(kind: Kind, node: &str) -> String {
    subject(kind, "default", node).parse::<Subject>().unwrap().live()
}

/// Subjects of other protocols that matter to safety.
fn foreign() -> Vec<String> {
    [
        "$JS.API.INFO",
        "$JS.API.STREAM.NAMES",
        "$JS.API.STREAM.CREATE.EVIL",
        "$JS.API.STREAM.INFO.MOSAIC_MESSAGES",
        "$JS.API.CONSUMER.CREATE.MOSAIC_MESSAGES",
        "$JS.API.DIRECT.GET.MOSAIC_MESSAGES",
        "$JS.ACK.MOSAIC_MESSAGES.hub-messages.1.1.1.1.0",
        "$SYS.REQ.CLAIMS.UPDATE",
        "$SRV.PING",
        "_INBOX.abc.def",
        "_INBOX_hub.abc",
        "_INBOX_n2.abc",
        "agents.prompt.x",
        "anything",
    ]
    .map(Into::into)
    .to_vec()
}

/// Publishes and tells whether it arrived; it must either arrive or be refused, else the test fails.
async fn can_publish(witness: &Bus, client: &Bus, subject: &str) -> bool {
    // System requests have no witness in the account, and what goes to `$JS.API` is answered by the server itself.
    let mut seen = witness.client.subscribe(subject.to_owned()).await.unwrap();
    barrier(witness).await;
    client.client.publish(subject.to_owned(), "x".into()).await.unwrap();
    client.client.flush().await.unwrap();
    let what = format!("{subject} arrives or is refused");
    let allowed = wait_until(&what, WITHIN, async || {
        if client.was_refused(subject) {
            return Ok(false);
        }
        match tokio::time::timeout(Duration::from_millis(20), seen.next()).await {
            Ok(Some(_)) => Ok(true),
            _ => Err(client.events()),
        }
    });
    allowed.await.unwrap()
}

/// Subscribes and tells whether what the hub publishes there comes.
async fn can_subscribe(hub: &Bus, client: &Bus, filter: &str, published: &str) -> bool {
    let mut seen = client.client.subscribe(filter.to_owned()).await.unwrap();
    client.client.flush().await.unwrap();
    let what = format!("{filter} yields or is refused");
    let allowed = wait_until(&what, WITHIN, async || {
        if client.was_refused(filter) {
            return Ok(false);
        }
        hub.client.publish(published.to_owned(), "x".into()).await.unwrap();
        match tokio::time::timeout(Duration::from_millis(20), seen.next()).await {
            Ok(Some(_)) => Ok(true),
            _ => Err(client.events()),
        }
    });
    allowed.await.unwrap()
}

/// Returns when the server has handled everything this client sent before. `flush` alone is no round trip.
async fn barrier(bus: &Bus) {
    let subject = bus.client.new_inbox();
    let mut own = bus.client.subscribe(subject.clone()).await.unwrap();
    bus.client.publish(subject, "".into()).await.unwrap();
    own.next().await.unwrap();
}

#[tokio::test]
async fn a_node_publishes_only_as_itself() {
    let mut server = NatsServer::start().unwrap();
    let (hub, node) = (server.hub().await.unwrap(), server.node("n1").await.unwrap());
    for kind in Kind::ALL.iter().copied() {
        let own = !matches!(kind, Kind::Command | Kind::Audit);
        assert_eq!(can_publish(&hub, &node, &subject(kind, "default", "n1")).await, own, "own {kind:?}");
        if kind != Kind::Audit {
            assert!(!can_publish(&hub, &node, &subject(kind, "default", "n2")).await, "another's {kind:?}");
            assert!(!can_publish(&hub, &node, &subject(kind, "other", "n1")).await, "another workspace's {kind:?}");
            assert!(!can_publish(&hub, &node, &live(kind, "n1")).await, "live {kind:?}");
        }
    }
    for subject in foreign() {
        assert!(!can_publish(&hub, &node, &subject).await, "{subject}");
    }
}

#[tokio::test]
async fn a_node_subscribes_only_what_is_for_it() {
    let mut server = NatsServer::start().unwrap();
    let (hub, node) = (server.hub().await.unwrap(), server.node("n1").await.unwrap());
    for kind in Kind::ALL.iter().copied() {
        let (own, other) = (subject(kind, "default", "n1"), subject(kind, "default", "n2"));
        assert_eq!(can_subscribe(&hub, &node, &own, &own).await, kind == Kind::Command, "own {kind:?}");
        if kind != Kind::Audit {
            assert!(!can_subscribe(&hub, &node, &other, &other).await, "another's {kind:?}");
        }
        let live = live(kind, "n1");
        assert!(!can_subscribe(&hub, &node, &live, &live).await, "live {kind:?}");
    }
    for filter in [">", "mosaic.v1.>", "mosaic.v1.default.n1.>", "live.>", "_INBOX.>", "_INBOX_n2.>", "_INBOX_hub.>"] {
        assert!(!can_subscribe(&hub, &node, filter, "mosaic.v1.default.n1.x").await, "{filter}");
    }
    assert!(can_subscribe(&hub, &node, "_INBOX_n1.abc", "_INBOX_n1.abc").await);
    let (discovery, others) = (format!("$SRV.PING.{NODE_SERVICE}"), "$SRV.PING.another-service");
    assert!(can_subscribe(&hub, &node, &discovery, &discovery).await);
    assert!(!can_subscribe(&hub, &node, others, others).await);
}

#[tokio::test]
async fn a_reader_publishes_nothing_at_all() {
    let server = NatsServer::start().unwrap();
    let (hub, reader) = (server.hub().await.unwrap(), server.reader().await.unwrap());
    let mut subjects = foreign();
    subjects.push("_INBOX_reader.abc".into());
    for kind in Kind::ALL.iter().copied() {
        subjects.extend([subject(kind, "default", "n1"), live(kind, "n1")]);
    }
    for subject in subjects {
        assert!(!can_publish(&hub, &reader, &subject).await, "{subject}");
    }
}

#[tokio::test]
async fn a_reader_sees_what_is_live_and_the_deltas() {
    let server = NatsServer::start().unwrap();
    let (hub, reader) = (server.hub().await.unwrap(), server.reader().await.unwrap());
    for kind in Kind::ALL.iter().copied() {
        let (plain, live) = (subject(kind, "default", "n1"), live(kind, "n1"));
        assert!(can_subscribe(&hub, &reader, &live, &live).await, "live {kind:?}");
        // One delta of one node lies within what is allowed; so does the wildcard over all of them.
        assert_eq!(can_subscribe(&hub, &reader, &plain, &plain).await, kind == Kind::Delta, "{kind:?}");
    }
    let delta = subject(Kind::Delta, "default", "n7");
    let filter = Kind::Delta.filter(Some(&WorkspaceId::new("default").unwrap()), None);
    assert!(can_subscribe(&hub, &reader, &filter, &delta).await);
    assert!(can_subscribe(&hub, &reader, "live.mosaic.v1.default.>", &live(Kind::Message, "n1")).await);
    for filter in [
        ">",
        "live.>",
        "live.mosaic.v1.>",
        "mosaic.v1.>",
        "_INBOX.>",
        "_INBOX_hub.>",
        "_INBOX_n1.>",
        "$SRV.PING",
        "$JS.>",
    ] {
        assert!(!can_subscribe(&hub, &reader, filter, &live(Kind::Message, "n1")).await, "{filter}");
    }
}

#[tokio::test]
async fn a_hub_may_do_everything_in_its_workspace() {
    let server = NatsServer::start().unwrap();
    let (hub, witness) = (server.hub().await.unwrap(), server.hub().await.unwrap());
    for kind in Kind::ALL.iter().copied() {
        let subject = subject(kind, "default", "n1");
        assert!(can_publish(&witness, &hub, &subject).await, "{kind:?}");
        assert!(can_subscribe(&witness, &hub, &subject, &subject).await, "{kind:?}");
    }
    assert!(can_subscribe(&witness, &hub, ">", "anything").await);
    let context = jetstream::new(hub.client.clone());
    let info = context.query_account().await.unwrap();
    assert!(info.limits.max_storage.unwrap_or(-1) == -1, "{info:?}");
}

/// Makes the stream of messages as a hub does.
async fn message_stream(hub: &Bus) -> jetstream::stream::Stream {
    let spec = &streams::MESSAGES;
    let config = jetstream::stream::Config {
        name: spec.name.into(),
        subjects: spec.subjects(),
        duplicate_window: Duration::from_secs(spec.duplicate_window_s),
        max_bytes: 1 << 20,
        republish: Some(jetstream::stream::Republish {
            source: streams::republish_source(),
            destination: streams::republish_destination(),
            headers_only: false,
        }),
        ..Default::default()
    };
    jetstream::new(hub.client.clone()).get_or_create_stream(config).await.unwrap()
}

#[tokio::test]
async fn a_node_gets_the_ack_and_a_reader_the_message_once() {
    let mut server = NatsServer::start().unwrap();
    let hub = server.hub().await.unwrap();
    message_stream(&hub).await;
    let (node, reader) = (server.node("n1").await.unwrap(), server.reader().await.unwrap());
    let subject = subject(Kind::Message, "default", "n1");
    let mut seen = reader.client.subscribe("live.mosaic.v1.default.>").await.unwrap();
    wait_until("the reader's subscription is in force", WITHIN, async || {
        hub.client.publish("live.mosaic.v1.default.ready", "".into()).await.unwrap();
        tokio::time::timeout(Duration::from_millis(20), seen.next()).await.is_ok()
    })
    .await
    .unwrap();

    let context = jetstream::new(node.client.clone());
    let publish = || async {
        let message = jetstream::message::PublishMessage::build().payload("hello".into()).message_id("n1-1");
        context.send_publish(subject.clone(), message).await.unwrap().await.unwrap()
    };
    let (first, again) = (publish().await, publish().await);
    assert_eq!((first.sequence, first.duplicate, again.duplicate), (1, false, true));
    let message = wait_until("the message is live", WITHIN, async || {
        let message = seen.next().await?;
        (&*message.payload == b"hello").then_some(message)
    });
    let message = message.await.unwrap();
    assert_eq!(message.subject.as_str(), format!("live.{subject}"));
    assert_eq!(message.headers.unwrap().get("Nats-Sequence").unwrap().as_str(), "1");
    assert!(tokio::time::timeout(Duration::from_millis(100), seen.next()).await.is_err(), "it came twice");
}

#[tokio::test]
async fn a_node_is_found_and_answers_and_nobody_else_can_command_it() {
    let mut server = NatsServer::start().unwrap();
    let hub = server.hub().await.unwrap();
    let node = server.node("n1").await.unwrap();
    let command = subject(Kind::Command, "default", "n1");
    let service = node.client.service_builder().start(NODE_SERVICE, "0.1.0").await.unwrap();
    let mut endpoint = service.endpoint_builder().name("command").queue_group("n1").add(command.clone()).await.unwrap();

    let found = wait_until("the node answers the discovery", WITHIN, async || {
        let subject = format!("$SRV.PING.{NODE_SERVICE}");
        hub.client.request(subject, "".into()).await.map_err(|e| e.to_string())
    });
    let found = String::from_utf8(found.await.unwrap().payload.to_vec()).unwrap();
    assert!(found.contains(NODE_SERVICE), "{found}");
    assert!(hub.client.request("$SRV.INFO", "".into()).await.is_ok());

    let (answer, ()) = tokio::join!(hub.client.request(command.clone(), "pause".into()), async {
        let request = endpoint.next().await.unwrap();
        assert_eq!(&*request.message.payload, b"pause");
        request.respond(Ok("done".into())).await.unwrap();
    });
    assert_eq!(&*answer.unwrap().payload, b"done");
    // One reply to each request, and not to a stranger.
    assert!(!can_publish(&hub, &node, "_INBOX_hub.forged").await);

    let other = server.node("n2").await.unwrap();
    assert!(!can_publish(&hub, &other, &command).await);
    let absent = hub.client.request(subject(Kind::Command, "default", "n3"), "".into()).await.unwrap_err();
    assert_eq!(absent.kind(), async_nats::RequestErrorKind::NoResponders);
}

#[tokio::test]
async fn one_workspace_sees_nothing_of_another() {
    let mut server = NatsServer::start().unwrap();
    let second = WorkspaceId::new("second").unwrap();
    let n1 = NodeId::new("n1").unwrap();
    let identity = server.identity().identity();
    identity.add_workspace(&second).unwrap();
    identity.add_node(&second, &n1).unwrap();
    let (hub_creds, node_creds) = (identity.hub_creds(&second), identity.node_creds(&second, &n1));
    let reader_creds = identity.reader_creds(&second);
    let updates = identity.account_updates().unwrap();
    // A running server is told by the system account.
    let sys = Bus::connect(&server.url(), &server.identity().identity().sys_creds(), "sys").await.unwrap();
    for update in &updates {
        let reply = sys.client.request(ACCOUNT_UPDATE_SUBJECT, update.jwt.clone().into()).await.unwrap();
        let reply = String::from_utf8_lossy(&reply.payload).into_owned();
        assert!(reply.contains("200"), "{reply}");
    }

    let (ours, theirs) = (server.hub().await.unwrap(), Bus::connect(&server.url(), &hub_creds, "hub").await.unwrap());
    message_stream(&ours).await;
    let mut seen = theirs.client.subscribe(">").await.unwrap();
    barrier(&theirs).await;
    let node = server.node("n1").await.unwrap();
    let context = jetstream::new(node.client.clone());
    context.publish(subject(Kind::Message, "default", "n1"), "secret".into()).await.unwrap().await.unwrap();
    barrier(&theirs).await;
    while let Ok(Some(message)) = tokio::time::timeout(Duration::from_millis(50), seen.next()).await {
        assert!(message.subject.starts_with(&*inbox_prefix("hub")), "{}", message.subject);
    }
    let names = jetstream::new(theirs.client.clone()).stream_names().count().await;
    assert_eq!(names, 0, "streams of the other workspace");

    // The second one's own node and reader have the same rights in their own place, and none in the first one's.
    let node = Bus::connect(&server.url(), &node_creds, "n1").await.unwrap();
    assert!(can_publish(&theirs, &node, &subject(Kind::Message, "second", "n1")).await);
    assert!(!can_publish(&theirs, &node, &subject(Kind::Message, "default", "n1")).await);
    let reader = Bus::connect(&server.url(), &reader_creds, "reader").await.unwrap();
    let (own, other) = ("live.mosaic.v1.second.>", "live.mosaic.v1.default.>");
    assert!(can_subscribe(&theirs, &reader, own, "live.mosaic.v1.second.n1.node").await);
    assert!(!can_subscribe(&theirs, &reader, other, "live.mosaic.v1.default.n1.node").await);
}

#[tokio::test]
async fn a_revoked_node_is_cut_off_and_stays_out() {
    let mut server = NatsServer::start().unwrap();
    let (workspace, n1) = (WorkspaceId::new("default").unwrap(), NodeId::new("n1").unwrap());
    let node = server.node("n1").await.unwrap();
    let creds = server.identity().node_creds("n1").unwrap();
    let kept = server.identity().dir().join("kept.creds");
    std::fs::copy(&creds, &kept).unwrap();
    let update = server.identity().identity().revoke(&workspace, "n1").unwrap();
    let sys = Bus::connect(&server.url(), &server.identity().identity().sys_creds(), "sys").await.unwrap();
    sys.client.request(ACCOUNT_UPDATE_SUBJECT, update.jwt.into()).await.unwrap();
    wait_until("the node is cut off", WITHIN, async || {
        let events = node.events();
        if events.iter().any(|event| event.contains("disconnected")) { Ok(()) } else { Err(events) }
    })
    .await
    .unwrap();
    assert!(Bus::connect(&server.url(), &kept, "n1").await.is_err());
    // Also by a server that starts again, which learns it from the folder of accounts.
    server.restart().unwrap();
    assert!(Bus::connect(&server.url(), &kept, "n1").await.is_err());
    server.identity().identity().add_node(&workspace, &n1).unwrap();
    assert!(server.node("n1").await.is_ok());
}

#[tokio::test]
async fn the_journal_is_an_account_of_its_own() {
    let mut server = NatsServer::start().unwrap();
    let creds = server.identity().identity().journal_creds();
    let journal = Bus::connect(&server.url(), &creds, "journal").await.unwrap();
    let context = jetstream::new(journal.client.clone());
    let config =
        jetstream::stream::Config { name: "JOURNAL".into(), subjects: vec!["journal.>".into()], ..Default::default() };
    context.create_stream(config).await.unwrap();
    context.publish("journal.user.1", "x".into()).await.unwrap().await.unwrap();
    let hub = server.hub().await.unwrap();
    assert_eq!(jetstream::new(hub.client.clone()).stream_names().count().await, 0);
}

#[tokio::test]
async fn without_credentials_nobody_gets_in() {
    let server = NatsServer::start().unwrap();
    let error = async_nats::connect(server.url()).await.unwrap_err().to_string();
    assert!(error.to_lowercase().contains("authorization"), "{error}");
    let stranger = testkit::TestIdentity::new().unwrap();
    let Err(error) = Bus::connect(&server.url(), &stranger.hub_creds(), "hub").await else {
        panic!("a hub of another mesh got in");
    };
    assert!(format!("{error:#}").to_lowercase().contains("authorization"), "{error:#}");
}
