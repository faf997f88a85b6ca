//! A release of spring 2026, which speaks protocol 3: found, read, written to and ended, as far as it goes.

use bus_schema::{Delivery, InjectMode, Status};
use providers::AgentProvider;
use serde_json::json;

use crate::harness::{Stage, ada};

#[tokio::test(flavor = "multi_thread")]
async fn openclaw_of_protocol_3_is_understood() {
    // It does not know these settings.
    let stage = Stage::of("2026.4.15", json!({"tools": {"toolSearch": null}})).await;
    let mut session = stage.spawn().await;
    let (id, outcome) = session.inject("hello old one", InjectMode::Steer).await;
    assert!(matches!(outcome.state, Delivery::Written | Delivery::Taken), "{outcome:?}");
    session.said("hello old one").await;
    session.status(Status::Waiting).await;
    assert_eq!(stage.provider.injection(&session.id, &id).await.unwrap().unwrap().state, Delivery::Taken);
    let (_, outcome) = session.inject("/reset", InjectMode::Steer).await;
    assert_eq!(outcome.state, Delivery::Refused, "it would take the text as an order: {outcome:?}");
    stage.provider.kill(&session.id, &ada()).await.unwrap();
    assert_eq!(session.ended().await.status, Status::Killed);
}
