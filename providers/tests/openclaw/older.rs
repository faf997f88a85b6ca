//! A gateway of protocol 3 works as far as it can, and says where it cannot.
//!
//! Measured on 2026.4.15: its rows keep no id of ours, its list tells of no runs, and what waits in it is in its memory.

use std::collections::BTreeSet;

use bus_schema::{Delivery, InjectMode, MessageKind, Role, Status, Turn};
use providers::{AgentProvider, News, Position};
use serde_json::json;
use testkit::wait_until;

use crate::harness::{PATIENCE, Stage, Watched, message, script};

/// The last release of protocol 3 that npm gives without a git host.
const OLD: &str = "2026.4.15";

#[tokio::test(flavor = "multi_thread")]
async fn openclaw_of_protocol_3_delivers_every_message_once() {
    let stage = Stage::of(OLD, json!({"tools": {"toolSearch": null}})).await;
    let mut session = stage.spawn().await;
    let info = stage.provider.session(&session.id).await.unwrap();
    assert!(info.metadata["limits"].as_str().unwrap().contains("no steering"), "{:?}", info.metadata);
    a_turn_is_told_in_order_and_its_words_only_once(&mut session).await;
    what_comes_during_a_turn_waits_for_its_end(&stage, &mut session).await;
    a_word_that_it_would_obey_is_refused(&session).await;
}

fn users(session: &Watched) -> usize {
    session.messages().iter().filter(|(role, ..)| *role == Role::User).count()
}

async fn a_turn_is_told_in_order_and_its_words_only_once(session: &mut Watched) {
    let steps = json!([
        {"text": "let me look", "tool": "session_status", "args": {}},
        {"text": "one two three four five six", "chunks": 24, "delay_ms": 250},
    ]);
    let (id, outcome) = session.inject(&script(&steps), InjectMode::Steer).await;
    assert!(matches!(outcome.state, Delivery::Written | Delivery::Taken), "{outcome:?}");
    assert_eq!(session.receipt(&id).await.state, Delivery::Taken);
    let last = session.said("six").await;
    session.status(Status::Waiting).await;
    let told = session.messages();
    let shape: Vec<_> = told.iter().map(|(role, kind, _)| (role.as_str(), kind.as_str())).collect();
    let wanted = [("agent", "text"), ("agent", "toolCall"), ("agent", "toolResult"), ("agent", "text")];
    assert_eq!(shape, wanted, "{told:?}");
    // What was shown while it was written is what was told then, under the same id.
    let deltas = session.seen.iter().filter_map(|event| match &event.news {
        News::Delta(delta) if delta.kind == MessageKind::Text && delta.message_id == last.message_id => {
            Some(delta.content.trim())
        }
        _ => None,
    });
    let deltas: Vec<_> = deltas.collect();
    assert!(!deltas.is_empty() && deltas.iter().all(|text| last.content.starts_with(text)), "{deltas:?}");
}

async fn what_comes_during_a_turn_waits_for_its_end(stage: &Stage, session: &mut Watched) {
    session.inject(&script(&json!([{"text": "w", "chunks": 16, "delay_ms": 250}])), InjectMode::Steer).await;
    session.until("it writes", |e| matches!(e.news, News::Delta(_)).then_some(())).await;
    let mut ids = vec![];
    for _ in 0..2 {
        let (id, outcome) = session.inject("turn left at the oak", InjectMode::Steer).await;
        assert_eq!((outcome.state, outcome.mode), (Delivery::Written, Some(InjectMode::Queue)));
        assert!(outcome.reason.unwrap().contains("begins when that ends"));
        ids.push(id);
    }
    session.said("w15").await;
    // The same words twice are two messages: each arrives, once.
    for id in &ids {
        let receipt = session.receipt(id).await;
        assert_eq!((receipt.state, receipt.mode), (Delivery::Taken, Some(InjectMode::Queue)));
    }
    let echoes = |session: &Watched| {
        let told = session.messages();
        told.iter().filter(|(role, _, text)| *role == Role::Agent && text.contains("turn left at the oak")).count()
    };
    while echoes(session) < 2 {
        session.until("another message", |event| message(event).map(|_| ())).await;
    }
    assert_eq!(stage.asked("turn left at the oak"), 2);
    session.status(Status::Waiting).await;
    assert_eq!(users(session), 0, "the node has told the operator's words: {:?}", session.messages());
}

async fn a_word_that_it_would_obey_is_refused(session: &Watched) {
    for word in ["stop", "/new"] {
        let (_, outcome) = session.inject(word, InjectMode::Steer).await;
        assert_eq!(outcome.state, Delivery::Refused);
        assert!(outcome.reason.unwrap().contains("word it differently"));
    }
}

/// The gateway dies in the middle of a turn, with a message waiting behind it.
#[tokio::test(flavor = "multi_thread")]
async fn openclaw_of_protocol_3_tells_every_message_once_over_a_kill_in_mid_stream() {
    let mut stage = Stage::of(OLD, json!({"tools": {"toolSearch": null}})).await;
    let mut session = stage.spawn().await;
    session.inject("first words", InjectMode::Steer).await;
    session.said("first words").await;
    session.status(Status::Waiting).await;
    let steps = json!([{"tool": "session_status", "args": {}}, {"text": "w", "chunks": 400, "delay_ms": 250}]);
    let (cut, _) = session.inject(&script(&steps), InjectMode::Steer).await;
    assert_eq!(session.receipt(&cut).await.state, Delivery::Taken);
    session
        .until("it writes", |e| matches!(&e.news, News::Delta(d) if d.kind == MessageKind::Text).then_some(()))
        .await;
    let (behind, outcome) = session.inject("behind it", InjectMode::Steer).await;
    assert_eq!((outcome.state, outcome.mode), (Delivery::Written, Some(InjectMode::Queue)));

    stage.gateway.kill9();
    let away = async || stage.provider.health().await.error.ok_or(());
    wait_until("the gateway is away", PATIENCE, away).await.unwrap();
    let info = stage.provider.session(&session.id).await.unwrap();
    assert_eq!(info.status, Status::Running, "a gateway that is away changes no status");
    assert!(info.metadata["gatewayAway"].is_string(), "{:?}", info.metadata);
    let stage = tokio::task::spawn_blocking(move || stage.gateway.run().map(|()| stage)).await.unwrap();
    let mut stage = stage.unwrap();
    stage.healthy().await;

    // It does not take the turn up again: that is told, and nothing is left at work that is not.
    session.until("the turn has failed", |e| matches!(e.news, News::Turn(Some(Turn::Error))).then_some(())).await;
    let outcome = session.receipt_so_far(&behind).await;
    assert_eq!(outcome.state, Delivery::Refused, "{outcome:?}");
    assert!(outcome.reason.unwrap().contains("send it again"));
    let info = stage.provider.session(&session.id).await.unwrap();
    assert_eq!(info.status, Status::Waiting, "{info:?}");
    assert!(info.status_reason.unwrap().contains("restarted in the middle"));
    assert!(info.metadata.get("gatewayAway").is_none(), "{:?}", info.metadata);
    session.inject("last words", InjectMode::Queue).await;
    session.said("last words").await;
    session.status(Status::Waiting).await;
    assert_eq!(stage.asked("behind it"), 0, "what was told as gone was not carried out");

    every_message_once_and_in_the_gateways_order(&stage, &session).await;
    let before = session.seen.iter().filter(|e| !matches!(e.news, News::Delta(_))).cloned().collect::<Vec<_>>();
    stage.reopen().await;
    stage.healthy().await;
    let mut again = stage.watch(&session.id, Position::default()).await;
    again.inject("words after all", InjectMode::Queue).await;
    again.said("words after all").await;
    let after: Vec<_> = again.seen.iter().filter(|e| !matches!(e.news, News::Delta(_))).cloned().collect();
    assert_eq!(after[..before.len()], before[..], "another node agent tells the same");
    assert_eq!(stage.provider.sessions().await.unwrap().len(), 1);
}

async fn every_message_once_and_in_the_gateways_order(stage: &Stage, session: &Watched) {
    let key = stage.provider.session(&session.id).await.unwrap().metadata["gatewayKey"].clone();
    let history = stage.other_client(vec![("chat.history", json!({"sessionKey": key, "limit": 200}))]).await;
    let rows = history[0]["messages"].as_array().unwrap();
    let texts = |row: &serde_json::Value| {
        let parts = row["content"].as_array().cloned().unwrap_or_default();
        parts.iter().filter_map(|p| Some(p["text"].as_str()?.trim().to_owned())).collect::<Vec<_>>()
    };
    let theirs: Vec<_> = rows.iter().filter(|row| row["role"] == "assistant").flat_map(texts).collect();
    let theirs: Vec<_> = theirs.into_iter().filter(|text| !text.is_empty()).collect();
    let told = session.messages();
    let ours = told.iter().filter(|(role, kind, _)| *role == Role::Agent && *kind == MessageKind::Text);
    let ours: Vec<_> = ours.map(|(.., text)| text.clone()).collect();
    assert_eq!(ours, theirs, "{rows:#?}");
    let ids: Vec<_> = session.seen.iter().filter_map(message).map(|m| m.message_id.clone()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "a message was told twice");
    assert_eq!(users(session), 0, "the node has told the operator's words: {told:?}");
}
