//! The wire form is fixed: what was written once can be read for ever, and is written the same way today.
//!
//! `golden/NAME.vN.msgpack` is a payload as it went over the bus and `golden/NAME.vN.json` what it says. Files are
//! added, never edited. To add one, put a sample into [`samples`] and run with `MOSAIC_GOLDEN=add`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::PathBuf;

use bus_schema::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

const SESSION: &str = "01JD8Z2V9Q0000000000000000";

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(1_795_380_000_000 + ms)
}

fn session_id() -> SessionId {
    SessionId::new(SESSION).unwrap()
}

fn operator() -> Operator {
    Operator { id: UserId::new("u_ada").unwrap(), name: "Ada Lovelace".into() }
}

fn metadata(json: serde_json::Value) -> Metadata {
    json.as_object().unwrap().clone()
}

fn session() -> Session {
    Session {
        session_id: session_id(),
        parent_session_id: Some(SessionId::new("01JD8Z2V9Q0000000000000001").unwrap()),
        workspace: WorkspaceId::new("default").unwrap(),
        node: NodeId::new("n1").unwrap(),
        provider: ProviderName::new("pty").unwrap(),
        title: Some("Fix the build".into()),
        status: Status::Waiting,
        status_reason: Some("asks for leave".into()),
        status_source: StatusSource::Terminal,
        status_since: at(5_000),
        turn: Some(Turn::Blocked),
        task_id: Some("T-17".into()),
        task_source: TaskSource::MosaicQueue,
        mission_id: Some("M-1".into()),
        agent_type: Some("codex".into()),
        profile: Some("codex".into()),
        spawned_at: at(0),
        started_at: Some(at(900)),
        completed_at: None,
        exit_code: None,
        error: None,
        last_seq: 12,
        last_message_at: Some(at(4_900)),
        attention: Some(Attention::new(AttentionKind::Permission, "run `make`?", at(5_000))),
        capabilities: Capability::ALL.to_vec(),
        stale: false,
        stale_since: None,
        rev: 7,
        metadata: metadata(serde_json::json!({"pid": 4711, "containment": "cgroup"})),
    }
}

/// Checks one type against its golden pair.
fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(name: &str, sample: T) {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let (packed, readable) = (dir.join(format!("{name}.msgpack")), dir.join(format!("{name}.json")));
    let bytes = encode(&sample).unwrap();
    let generic: rmpv::Value = rmpv::decode::read_value(&mut bytes.as_slice()).unwrap();
    let json = serde_json::to_string_pretty(&plain(&generic)).unwrap() + "\n";
    if std::env::var_os("MOSAIC_GOLDEN").is_some_and(|v| v == "add") && !packed.exists() {
        std::fs::write(&packed, &bytes).unwrap();
        std::fs::write(&readable, &json).unwrap();
    }
    let golden = std::fs::read(&packed).unwrap_or_else(|e| panic!("{}: {e}", packed.display()));
    let said = std::fs::read_to_string(&readable).unwrap();
    assert_eq!(decode::<T>(&golden, None).unwrap(), sample, "{name}: an old payload is read as something else");
    assert_eq!(bytes, golden, "{name}: the wire form has changed");
    assert_eq!(json, said, "{name}: the readable form has changed");
}

/// MessagePack as JSON, byte strings as lists of numbers.
fn plain(value: &rmpv::Value) -> serde_json::Value {
    match value {
        rmpv::Value::Binary(bytes) => bytes.to_vec().into(),
        rmpv::Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().into(),
        rmpv::Value::Map(fields) => {
            fields.iter().map(|(k, v)| (k.as_str().unwrap().to_owned(), plain(v))).collect::<Metadata>().into()
        }
        other => serde_json::to_value(other).unwrap(),
    }
}

#[test]
fn samples() {
    check("session.v1", session());
    check(
        "message.v1",
        Message {
            message_id: MessageId::new("01JD8Z2V9Q0000000000000002").unwrap(),
            session_id: session_id(),
            seq: 3,
            role: Role::Operator,
            content: "Please stop after the tests. \u{1F6D1}".into(),
            timestamp: at(1),
            kind: MessageKind::Text,
            metadata: metadata(
                serde_json::json!({"operator": {"id": "u_ada", "name": "Ada"}, "delivery": "delivered"}),
            ),
        },
    );
    check(
        "refusal.v1",
        RefusedCommand {
            refusal_id: "01JD8Z2V9Q0000000000000009".into(),
            workspace: WorkspaceId::new("default").unwrap(),
            node: NodeId::new("n1").unwrap(),
            refused_at: at(3),
            refusal: Refusal::new(RefusalCode::Replayed, "this command has been here before"),
            command_id: Some(CommandId::new("c1").unwrap()),
            action: Some(Action::Kill),
            session_id: Some(session_id()),
            operator: Some(operator()),
            key: Some("VABC".into()),
            request_id: Some("r1".into()),
            untold: 12,
        },
    );
    check(
        "delta.v1",
        Delta {
            message_id: MessageId::new("m1").unwrap(),
            session_id: session_id(),
            role: Role::Agent,
            content: "I will".into(),
            cut: false,
            timestamp: at(2),
            kind: MessageKind::Reasoning,
        },
    );
    check(
        "terminal.v1",
        Terminal {
            session_id: session_id(),
            offset: 1 << 40,
            data: b"\x1b[1mhi\x1b[0m\r\n\xff".to_vec(),
            timestamp: at(3),
            size: Some(TerminalSize { cols: 120, rows: 40 }),
        },
    );
    check(
        "receipt.v1",
        Receipt {
            session_id: session_id(),
            message_id: MessageId::new("01JD8Z2V9Q0000000000000002").unwrap(),
            state: Delivery::Written,
            mode_asked: InjectMode::Queue,
            mode_obtained: Some(InjectMode::Steer),
            reason: Some("unconfirmed: the input line still shows the text".into()),
            timestamp: at(4),
        },
    );
    check(
        "node.v1",
        NodeState {
            workspace: WorkspaceId::new("default").unwrap(),
            node: NodeId::new("n1").unwrap(),
            version: "0.1.0".into(),
            status: NodeStatus::Up,
            host: HostInfo { hostname: "build-7".into(), os: "linux".into(), arch: "x86_64".into(), cpus: 2 },
            boot_id: "b".into(),
            incarnation: "i".into(),
            started_at: at(0),
            timestamp: at(10_000),
            providers: vec![ProviderState {
                name: ProviderName::new("docker").unwrap(),
                healthy: false,
                error: Some("no socket at /var/run/docker.sock: is dockerd running?".into()),
                sessions: 0,
                capabilities: vec![Capability::Pause],
            }],
            profiles: vec![ProfileInfo {
                name: "shell".into(),
                provider: ProviderName::new("pty").unwrap(),
                title: None,
                agent_type: None,
                program: Some("bash".into()),
                protocol: Some("terminal".into()),
            }],
            load: Load {
                sessions: 1,
                outbox_records: 2,
                outbox_bytes: 300,
                dropped: 0,
                load1: 0.5,
                rss_bytes: 9_000_000,
            },
            seal_key: None,
            settings_rev: 0,
            command_keys: vec![],
        },
    );
    check(
        "command.v1",
        Command {
            command_id: CommandId::new("c1").unwrap(),
            workspace: WorkspaceId::new("default").unwrap(),
            node: NodeId::new("n1").unwrap(),
            action: Action::Spawn,
            session_id: None,
            operator: operator(),
            issued_at: at(0),
            expires_at: at(10_000),
            spawn: Some(Spawn {
                session_id: session_id(),
                profile: "codex".into(),
                prompt: Some("fix it".into()),
                title: None,
                parent_session_id: None,
                task_id: None,
                task_source: TaskSource::Internal,
                mission_id: None,
                resumed: None,
            }),
            message_id: Some(MessageId::new("m").unwrap()),
            content: Some("c".into()),
            mode: Some(InjectMode::Interrupt),
            pause_first: true,
            data: Some(vec![3, 255]),
            size: Some(TerminalSize { cols: 80, rows: 24 }),
            answer: None,
        },
    );
    check(
        "reply.v1",
        CommandReply {
            command_id: Some(CommandId::new("c1").unwrap()),
            outcome: Outcome::Refused,
            refusal: Some(Refusal::new(RefusalCode::NotCapable, "this session cannot be paused")),
            session: Some(session()),
            delivery: Some(Delivery::Refused),
            report: Some(EndReport {
                containment: "cgroup".into(),
                steps: vec![EndStep { step: "kill".into(), at: at(1), detail: String::new() }],
                ended: vec![EndedProcess { pid: 4711, name: "codex".into() }],
                survivors: vec![],
            }),
            snapshot: Some(TerminalSnapshot { offset: 9, data: vec![27], size: TerminalSize { cols: 80, rows: 24 } }),
            tested: None,
        },
    );
    check(
        "audit.v1",
        AuditRow {
            n: 1,
            workspace: WorkspaceId::new("default").unwrap(),
            timestamp: at(0),
            action_id: "a1".into(),
            phase: AuditPhase::Outcome,
            action: "inject".into(),
            user: Actor {
                id: Some(UserId::new("u_ada").unwrap()),
                name: "Ada".into(),
                email: Some("ada@example.org".into()),
                role: Some("operator".into()),
            },
            session_id: Some(session_id()),
            node: Some(NodeId::new("n1").unwrap()),
            content: Some("stop".into()),
            result: "ok".into(),
            detail: None,
            request_id: Some("r1".into()),
            metadata: Metadata::new(),
            prev: None,
            hash: None,
        },
    );
}

/// What requests for leave and settings from afar added.
#[test]
fn samples_of_requests_and_settings() {
    let request_id = MessageId::new("01JD8Z2V9Q0000000000000003").unwrap();
    let option = |id: &str, kind| AnswerOption { option_id: id.into(), label: format!("{id} it"), kind };
    check(
        "attention.v1",
        Attention {
            request: Some(Asked {
                request_id: request_id.clone(),
                options: vec![option("accept", OptionKind::AllowOnce), option("decline", OptionKind::RejectOnce)],
                takes_text: true,
            }),
            ..Attention::new(AttentionKind::Permission, "run `make`?", at(5_000))
        },
    );
    check("answer.v1", Answer { option_id: Some("accept".into()), text: Some("but only once".into()) });
    check(
        "settings.v1",
        NodeSettings {
            rev: 3,
            connections: vec![Connection {
                id: "c1".into(),
                name: "office".into(),
                provider: ProviderName::new("openclaw").unwrap(),
                url: "ws://127.0.0.1:18789/".into(),
                token: Secret::new("t"),
                is_active: true,
            }],
        },
    );
    let message = "the gateway answers, and refuses the token".into();
    check("tested.v1", ConnectionTest { verdict: ConnectionVerdict::Unauthorized, message });
}

/// A field that an older writer does not know is absent, and one that a newer writer added is passed over.
#[test]
fn older_and_newer_writers_are_read() {
    let mut fields: rmpv::Value = rmpv::decode::read_value(&mut encode(&session()).unwrap().as_slice()).unwrap();
    let rmpv::Value::Map(map) = &mut fields else { panic!("a map") };
    let required = ["sessionId", "workspace", "node", "provider", "status", "statusSource", "statusSince", "spawnedAt"];
    map.retain(|(k, _)| required.contains(&k.as_str().unwrap()));
    map.push(("mood".into(), rmpv::Value::Array(vec!["calm".into(), 3.into()])));
    let mut bytes = vec![];
    rmpv::encode::write_value(&mut bytes, &fields).unwrap();
    let read: Session = decode(&bytes, None).unwrap();
    assert_eq!((read.last_seq, read.rev, read.task_source), (0, 0, TaskSource::Internal));
}
