//! Operator messages on their way into containers.

use bus_schema::{Capability, Delivery, MessageId};
use providers::{AgentProvider, ProviderError};
use serde_json::json;

use crate::harness::{Stage, ada, with_input};

const ECHO: &str = "while IFS= read -r line; do echo \"heard $line\"; done";

#[tokio::test(flavor = "multi_thread")]
async fn docker_messages_arrive_on_standard_input_once() {
    let mut stage = Stage::new().await;
    let (_, mut session) = stage.launch(ECHO, json!({"dev.mosaic.inject": "stdin"}), with_input()).await;
    let outcome = session.inject("m1", "hello\x1b[31m").await.unwrap();
    assert_eq!(outcome.state, Delivery::Written);
    session.message("heard hello[31m").await;
    session.inject("m1", "hello").await.unwrap();
    stage.replace().await;
    let from = session.seen.last().unwrap().position;
    let mut session = stage.session(&session.id, from).await;
    // The new node agent knows it.
    assert_eq!(session.inject("m1", "hello").await.unwrap().state, Delivery::Written);
    let known = stage.provider.injection(&session.id, &MessageId::new("m1").unwrap()).await.unwrap();
    assert_eq!(known.map(|outcome| outcome.state), Some(Delivery::Written));
    session.inject("m2", "good-bye").await.unwrap();
    session.message("heard good-bye").await;
    assert_eq!(session.messages(), ["heard good-bye"], "nothing was handed over twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_terminals_get_a_line_and_enter() {
    let stage = Stage::new().await;
    let more = json!({"Tty": true, "OpenStdin": true, "HostConfig": {"Init": true}});
    let (_, mut session) = stage.launch(ECHO, json!({}), more).await;
    assert_eq!(session.inject("m1", "hello").await.unwrap().state, Delivery::Written);
    session.message("heard hello").await;
    let long = session.inject("m2", &"x".repeat(5000)).await.unwrap();
    assert_eq!(long.state, Delivery::Refused, "{long:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_json_lines_get_the_operator_too() {
    let stage = Stage::new().await;
    let labels = json!({"dev.mosaic.protocol": "jsonl"});
    let (_, mut session) =
        stage.launch("while IFS= read -r line; do echo \"got: $line\"; done", labels, with_input()).await;
    session.inject("m1", "two\nlines").await.unwrap();
    let draft = session.message("got: ").await;
    let line: serde_json::Value = serde_json::from_str(draft.content.strip_prefix("got: ").unwrap()).unwrap();
    assert_eq!(
        (&line["role"], &line["content"], &line["operator"]["name"]),
        (&json!("operator"), &json!("two\nlines"), &json!("Ada"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_messages_can_go_through_a_command() {
    let stage = Stage::new().await;
    let labels = |argv: &str| json!({"dev.mosaic.inject": "exec", "dev.mosaic.exec-inject": argv});
    let work = "while :; do [ -f /tmp/in ] && cat /tmp/in && break; sleep 0.1; done; sleep 600";
    let takes = r#"["/bin/sh","-c","cat > /tmp/draft && exec busybox mv /tmp/draft /tmp/in"]"#;
    let (_, mut session) = stage.launch(work, labels(takes), json!({})).await;
    assert_eq!(session.inject("m1", "by command").await.unwrap().state, Delivery::Written);
    session.message("by command").await;

    let refuses = r#"["/bin/sh","-c","cat >/dev/null; echo not today >&2; exit 4"]"#;
    let (_, session) = stage.launch("sleep 600", labels(refuses), json!({})).await;
    let outcome = session.inject("m1", "x").await.unwrap();
    assert_eq!(outcome.state, Delivery::Refused);
    let reason = outcome.reason.unwrap();
    assert!(reason.contains("code 4") && reason.contains("not today"), "{reason}");
    // Paused, no command can be run in it; nothing was handed over, so it may be tried again.
    stage.provider.pause(&session.id, &ada()).await.unwrap();
    assert!(matches!(session.inject("m2", "x").await, Err(ProviderError::Unavailable { .. })));
    stage.provider.resume(&session.id, &ada()).await.unwrap();
    assert_eq!(session.inject("m2", "x").await.unwrap().state, Delivery::Refused);

    let (_, session) = stage.launch("sleep 600", labels(r#"["/no/such/program"]"#), json!({})).await;
    assert_eq!(session.inject("m1", "x").await.unwrap().state, Delivery::Refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_agents_without_an_input_refuse_messages_with_the_reason() {
    let stage = Stage::new().await;
    for (labels, more, part) in [
        (json!({"dev.mosaic.inject": "none"}), with_input(), "inject=none"),
        (json!({}), json!({}), "-i"),
        (json!({"dev.mosaic.inject": "stdin"}), json!({"OpenStdin": true, "StdinOnce": true}), "-d -i"),
        (json!({"dev.mosaic.protocol": "acp"}), with_input(), "acp"),
    ] {
        let (_, session) = stage.launch("sleep 600", labels, more).await;
        match session.inject("m1", "x").await {
            Err(ProviderError::NotCapable { capability: Capability::Inject, reason }) => {
                assert!(reason.contains(part), "{part}: {reason}");
            }
            other => panic!("{part}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_an_agent_that_does_not_read_leaves_a_message_unknown() {
    let stage = Stage::new().await;
    let (_, session) = stage.launch("sleep 600", json!({}), with_input()).await;
    let outcome = session.inject("m1", &"x".repeat(4 * 1024 * 1024)).await.unwrap();
    assert_eq!(outcome.state, Delivery::NotKnown, "{outcome:?}");
    // And not given again.
    assert_eq!(session.inject("m1", "x").await.unwrap().state, Delivery::NotKnown);
}
