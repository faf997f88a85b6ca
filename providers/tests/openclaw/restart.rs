//! Neither a gateway that dies nor a node agent that is replaced loses or doubles a message.

use std::collections::BTreeSet;

use bus_schema::{InjectMode, Status};
use providers::{AgentProvider, News, Position};
use serde_json::json;
use testkit::wait_until;

use crate::harness::{PATIENCE, Stage, message, script};

#[tokio::test(flavor = "multi_thread")]
async fn openclaw_messages_come_once_over_restarts() {
    let mut stage = Stage::new(json!({})).await;
    let mut session = stage.spawn().await;
    session.inject("first words", InjectMode::Steer).await;
    session.said("first words").await;
    session.status(Status::Waiting).await;
    let steps = json!([{"tool": "session_status", "args": {}}, {"text": "w", "chunks": 200, "delay_ms": 250}]);
    session.inject(&script(&steps), InjectMode::Steer).await;
    session.until("it writes", |e| matches!(e.news, News::Delta(_)).then_some(())).await;

    stage.gateway.kill9();
    let away = async || stage.provider.health().await.error.ok_or(());
    wait_until("the gateway is away", PATIENCE, away).await.unwrap();
    let info = stage.provider.session(&session.id).await.unwrap();
    assert_eq!(info.status, Status::Running, "a gateway that is away changes no status");
    assert!(info.metadata["gatewayAway"].is_string(), "{:?}", info.metadata);

    let gateway = tokio::task::spawn_blocking(move || {
        stage.gateway.run().unwrap();
        stage
    });
    let mut stage = gateway.await.unwrap();
    stage.healthy().await;
    // The gateway takes the turn up again by itself.
    session.status(Status::Waiting).await;
    let info = stage.provider.session(&session.id).await.unwrap();
    assert!(info.metadata.get("gatewayAway").is_none(), "{:?}", info.metadata);
    session.inject("last words", InjectMode::Queue).await;
    session.said("last words").await;

    // Every message once, in the gateway's order.
    let key = info.metadata["gatewayKey"].clone();
    let history = stage.other_client(vec![("chat.history", json!({"sessionKey": key, "limit": 200}))]).await;
    let texts = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => vec![text.clone()],
        list => list.as_array().into_iter().flatten().filter_map(|p| Some(p["text"].as_str()?.to_owned())).collect(),
    };
    let rows = history[0]["messages"].as_array().unwrap();
    let theirs = rows.iter().filter(|row| row["role"] == "assistant").flat_map(|row| texts(&row["content"]));
    let theirs: Vec<_> = theirs.filter(|text| !text.trim().is_empty()).collect();
    let ours =
        session.seen.iter().filter_map(message).filter(|m| m.kind.as_str() == "text" && m.role.as_str() == "agent");
    let ours: Vec<_> = ours.map(|m| m.content.clone()).collect();
    assert_eq!(ours, theirs);
    let ids: Vec<_> = session.seen.iter().filter_map(message).map(|m| m.message_id.clone()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "a message was told twice");

    // Another node agent over the same disk: the same events, and what comes after them.
    let kept = |seen: &[providers::AgentEvent]| {
        seen.iter().filter(|e| !matches!(e.news, News::Delta(_))).cloned().collect::<Vec<_>>()
    };
    session.status(Status::Waiting).await;
    let before = kept(&session.seen);
    stage.reopen().await;
    stage.healthy().await;
    let mut again = stage.watch(&session.id, Position::default()).await;
    again.inject("words after all", InjectMode::Queue).await;
    again.said("words after all").await;
    let after = kept(&again.seen);
    assert_eq!(after[..before.len()], before[..]);
    assert_eq!(stage.provider.sessions().await.unwrap().len(), 1);
    let middle = before[before.len() / 2].position;
    stage.provider.acknowledge(&session.id, middle).await;
    let mut rest = stage.watch(&session.id, middle).await;
    rest.said("words after all").await;
    assert_eq!(kept(&rest.seen)[0], before[before.len() / 2 + 1]);
}
