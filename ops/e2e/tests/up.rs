//! What a newcomer does: up, look, Ctrl-C, up again. And what a stranger with a NATS client sees.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::BufRead;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use testkit::{Stack, proc, python_with, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

const PROFILES: &str = r#"
[[profile]]
name = "greeter"
protocol = "lines"
command = ["bash", "-c", "echo hello; read line; echo you said $line; sleep 1000"]
"#;

/// Everything that descends from the stack or belongs to one of its sessions.
fn survivors(pids: &[u32]) -> Vec<proc::Stat> {
    proc::all().into_iter().filter(|p| pids.contains(&p.pid) && p.state != 'Z').collect()
}

#[tokio::test]
async fn it_ends_without_a_trace_and_shows_the_old_sessions_again() {
    let mut stack = Stack::start(PROFILES, &[], &[]).unwrap();
    let operator = stack.person("operator").await.unwrap();
    let session = operator.spawn(stack.said("/node").unwrap(), "greeter").await.unwrap();
    let agent = wait_until("it says hello", WITHIN, async || {
        let messages = operator.messages(&session, 0).await.ok()?;
        messages.iter().find(|m| m["content"] == "hello")?;
        operator.session(&session).await.ok()?["metadata"]["pid"].as_u64()
    })
    .await
    .unwrap();
    let up = stack.ready["pid"].as_object().unwrap().values().map(|v| u32::try_from(v.as_u64().unwrap()).unwrap());
    let mut pids: Vec<u32> = up.collect();
    pids.push(u32::try_from(agent).unwrap());
    pids.extend(proc::tree(pids[1]).iter().map(|p| p.pid));
    assert_eq!(survivors(&pids[..4]).len(), 4);
    let url = stack.url().unwrap().to_owned();
    stack.stop().unwrap();
    assert_eq!(survivors(&pids), []);
    assert_eq!(proc::with_env(&format!("MOSAIC_SESSION_ID={session}")), []);
    let port: u16 = url.rsplit(':').next().unwrap().parse().unwrap();
    assert!(std::net::TcpListener::bind(("127.0.0.1", port)).is_ok(), "the port is free");

    stack.run().unwrap();
    let operator = stack.person("operator").await.unwrap();
    let old = operator.session(&session).await.unwrap();
    assert_eq!(old["status"], "killed", "{old}");
    let messages = operator.messages(&session, 0).await.unwrap();
    assert!(messages.iter().any(|m| m["content"] == "hello"), "{messages:?}");
}

#[tokio::test]
async fn agents_go_on_when_asked_to() {
    let mut stack = Stack::start(PROFILES, &["--stop-sessions=false"], &[]).unwrap();
    let operator = stack.person("operator").await.unwrap();
    let session = operator.spawn(stack.said("/node").unwrap(), "greeter").await.unwrap();
    let agent =
        wait_until("it runs", WITHIN, async || operator.session(&session).await.ok()?["metadata"]["pid"].as_u64())
            .await
            .unwrap();
    stack.stop().unwrap();
    assert!(proc::is_alive(u32::try_from(agent).unwrap()));
    stack.run().unwrap();
    let operator = stack.person("operator").await.unwrap();
    let path = format!("/api/mission-control/sessions/{session}/inject");
    let answer = wait_until("it can be spoken to", WITHIN, async || {
        let (status, answer) = operator.post(&path, serde_json::json!({"content": "again"})).await.unwrap();
        if status == 202 { Ok(answer) } else { Err(answer) }
    })
    .await
    .unwrap();
    wait_until("it answers", WITHIN, async || {
        let messages = operator.messages(&session, 0).await.unwrap();
        let operator_message =
            messages.iter().any(|m| m["messageId"] == answer["messageId"] && m["role"] == "operator");
        if operator_message && messages.iter().any(|m| m["content"] == "you said again") {
            Ok(())
        } else {
            Err(messages)
        }
    })
    .await
    .unwrap();
    assert_eq!(operator.session(&session).await.unwrap()["metadata"]["pid"], agent);
    // For whoever ends the stack of this test.
    assert_eq!(operator.act(&session, "kill").await.unwrap().0, 200);
}

#[tokio::test]
async fn a_stranger_with_the_readers_credentials_sees_and_cannot_speak() {
    let python = python_with("nats-py", &["nats-py[nkeys]==2.16.0"]).unwrap();
    let stack = Stack::start(PROFILES, &[], &[]).unwrap();
    let operator = stack.person("operator").await.unwrap();
    let mosaic = std::env::current_exe().unwrap().ancestors().find_map(|d| {
        let program = d.join("mosaic");
        program.is_file().then_some(program)
    });
    let session = operator.spawn(stack.said("/node").unwrap(), "greeter").await.unwrap();
    let own = format!("mosaic.v1.default.local.message.{session}");
    let tries = [
        own.as_str(),
        "mosaic.v1.default.local.command",
        "mosaic.v1.default.local.node",
        "mosaic.v1.default.hub.audit",
        "live.mosaic.v1.default.local.node",
        "$JS.API.STREAM.NAMES",
        "$JS.API.CONSUMER.CREATE.MOSAIC_MESSAGES",
        "anything",
    ];
    let mut reader = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reader.py"))
        .args([stack.said("/natsUrl").unwrap(), stack.said("/creds/reader").unwrap(), "3"])
        .arg(mosaic.unwrap())
        .args(tries)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(reader.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "{\"ready\": true}");
    let inject = format!("/api/mission-control/sessions/{session}/inject");
    operator.post(&inject, serde_json::json!({"content": "hi"})).await.unwrap();
    operator.act(&session, "kill").await.unwrap();
    let told: Vec<Value> = lines.map(|l| serde_json::from_str(&l.unwrap()).unwrap()).collect();
    assert!(reader.wait().unwrap().success());
    for subject in tries {
        assert!(told.iter().any(|t| t["refused"] == subject), "{subject}: {told:?}");
    }
    let saw = |kind: &str, field: &str, value: &str| {
        told.iter().any(|t| {
            t["subject"] == format!("live.mosaic.v1.default.local.{kind}.{session}") && t["decoded"][field] == value
        })
    };
    assert!(saw("message", "content", "hi") && saw("message", "role", "operator"), "{told:?}");
    assert!(saw("message", "content", "you said hi"), "{told:?}");
    assert!(saw("session", "status", "killed"), "{told:?}");
    assert!(told.iter().any(|t| t["subject"] == "live.mosaic.v1.default.hub.audit"), "anybody is a witness");
}
