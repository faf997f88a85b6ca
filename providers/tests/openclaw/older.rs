//! A gateway of protocol 3 works as far as it can, and says where it cannot.
//!
//! Measured on 2026.4.15: its rows keep no id of ours, its list tells of no runs, and what waits in it is in its memory.

use bus_schema::{Delivery, InjectMode, MessageKind, Role, Status};
use providers::{AgentProvider, News};
use serde_json::json;

use crate::harness::{Stage, Watched, message, script};

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
