//! What is said to an agent of a gateway arrives once and as text, and what it says is told once and in order.

use bus_schema::{Answer, Attention, Delivery, InjectMode, MessageKind, Role, Status};
use providers::{AgentProvider, News, ProviderError};
use serde_json::json;
use testkit::wait_until;

use crate::harness::{PATIENCE, Stage, ada, connection, message, script};
use crate::requests::{a_plugin_asks_for_leave, questions_are_answered_by_an_option_and_in_words};

#[tokio::test(flavor = "multi_thread")]
async fn openclaw_sessions_are_told_and_spoken_to() {
    let stage =
        Stage::new(json!({"tools": {"exec": {"host": "gateway", "security": "allowlist", "ask": "on-miss"}}})).await;
    questions_are_answered_by_an_option_and_in_words(&stage).await;
    a_plugin_asks_for_leave(&stage).await;
    a_turn_with_a_tool_is_told_in_order(&stage).await;
    a_request_for_leave_is_answered_once(&stage).await;
    a_message_steers_a_turn_under_way(&stage).await;
    the_word_stop_is_a_word(&stage).await;
    an_interrupt_begins_another_turn(&stage).await;
    what_others_do_at_the_gateway_is_told(&stage).await;
    a_connection_is_changed_without_a_restart(&stage).await;
}

/// Also: text while it is written, by the id of its message; the operator's words only once.
async fn a_turn_with_a_tool_is_told_in_order(stage: &Stage) {
    let mut session = stage.spawn().await;
    let steps = json!([
        {"text": "let me look", "tool": "session_status", "args": {}},
        {"text": "one two three four five six", "chunks": 24, "delay_ms": 250},
    ]);
    let (id, outcome) = session.inject(&script(&steps), InjectMode::Steer).await;
    assert!(matches!(outcome.state, Delivery::Written | Delivery::Taken), "{outcome:?}");
    assert_eq!(session.receipt(&id).await.state, Delivery::Taken);
    let last = session.said("six").await;
    session.status(Status::Waiting).await;
    let shape: Vec<_> =
        session.messages().into_iter().map(|(role, kind, text)| (role, kind, text.len() > 200)).collect();
    assert_eq!(
        shape.iter().map(|(role, kind, _)| (role.as_str(), kind.as_str())).collect::<Vec<_>>(),
        [("agent", "text"), ("agent", "toolCall"), ("agent", "toolResult"), ("agent", "text")],
        "{:?}",
        session.messages()
    );
    let deltas = session.seen.iter().filter_map(|event| match &event.news {
        News::Delta(delta) if delta.kind == MessageKind::Text && delta.message_id == last.message_id => {
            Some(&delta.content)
        }
        _ => None,
    });
    let deltas: Vec<_> = deltas.collect();
    assert!(!deltas.is_empty() && deltas.iter().all(|text| last.content.starts_with(text.trim())), "{deltas:?}");
    let statuses = session.seen.iter().filter_map(|event| match &event.news {
        News::Status { status, .. } => Some(status.clone()),
        _ => None,
    });
    assert_eq!(statuses.collect::<Vec<_>>(), [Status::Waiting, Status::Running, Status::Waiting]);
    let asked = stage.provider.injection(&session.id, &id).await.unwrap().unwrap();
    assert_eq!(asked.state, Delivery::Taken);
}

async fn a_request_for_leave_is_answered_once(stage: &Stage) {
    let mut session = stage.spawn().await;
    let file = stage.gateway.workspace().join("allowed");
    let steps = json!([{"tool": "exec", "args": {"command": format!("touch {}", file.display())}}, {"text": "did it"}]);
    session.inject(&script(&steps), InjectMode::Steer).await;
    let attention: Attention = session
        .until("somebody is needed", |event| match &event.news {
            News::Attention(attention) => attention.clone(),
            _ => None,
        })
        .await;
    let request = attention.request.unwrap();
    assert!(attention.text.contains("touch"), "{}", attention.text);
    let asking = session.seen.iter().filter_map(message).find(|m| m.message_id == request.request_id).unwrap();
    assert_eq!((&asking.role, &asking.kind), (&Role::System, &MessageKind::Permission));
    assert!(!file.exists(), "it ran without leave");
    let answer = |option: &str| Answer { option_id: Some(option.into()), text: None };
    let provider = &stage.provider;
    let wrong = provider.answer(&session.id, &request.request_id, &answer("perhaps"), &ada()).await.unwrap_err();
    assert!(matches!(wrong, ProviderError::Invalid(_)), "{wrong:?}");
    for _ in 0..2 {
        provider.answer(&session.id, &request.request_id, &answer("allow-once"), &ada()).await.unwrap();
    }
    let late = provider.answer(&session.id, &request.request_id, &answer("deny"), &ada()).await.unwrap_err();
    assert!(matches!(late, ProviderError::WrongState { .. }), "{late:?}");
    let answered = session.until("the answer", |event| {
        message(event).filter(|m| m.metadata.get("answers") == Some(&request.request_id.as_str().into())).cloned()
    });
    let answered = answered.await;
    assert_eq!(answered.metadata["optionId"], "allow-once");
    assert_eq!(answered.metadata["operator"]["name"], "Ada");
    session.until("nobody is needed", |e| matches!(e.news, News::Attention(None)).then_some(())).await;
    session.said("did it").await;
    assert!(file.exists());
    let answers = session.seen.iter().filter_map(message).filter(|m| m.metadata.contains_key("answers")).count();
    assert_eq!(answers, 1);
}

/// Model-side proof: the words come to the model within the turn that was under way.
async fn a_message_steers_a_turn_under_way(stage: &Stage) {
    let mut session = stage.spawn().await;
    let steps = json!([
        {"text": "w", "chunks": 12, "delay_ms": 250, "tool": "session_status", "args": {}},
        {"text": "never said, for the next words come first"},
    ]);
    session.inject(&script(&steps), InjectMode::Steer).await;
    session.status(Status::Running).await;
    session.until("it writes", |e| matches!(e.news, News::Delta(_)).then_some(())).await;
    let (id, outcome) = session.inject("turn left at the oak", InjectMode::Steer).await;
    assert_eq!(outcome.state, Delivery::Written, "{outcome:?}");
    let receipt = session.receipt(&id).await;
    assert_eq!((receipt.state, receipt.mode), (Delivery::Taken, Some(InjectMode::Steer)));
    session.said("turn left at the oak").await;
    assert_eq!(stage.asked("turn left at the oak"), 1);
    let users = session.messages().into_iter().filter(|(role, ..)| *role == Role::User).count();
    assert_eq!(users, 0, "the node has told the operator's words: {:?}", session.messages());
}

async fn the_word_stop_is_a_word(stage: &Stage) {
    let mut session = stage.spawn().await;
    let steps = json!([{"text": "w", "chunks": 16, "delay_ms": 200}]);
    session.inject(&script(&steps), InjectMode::Steer).await;
    session.until("it writes", |e| matches!(e.news, News::Delta(_)).then_some(())).await;
    let (id, _) = session.inject("stop", InjectMode::Queue).await;
    session.said("w15").await;
    session.said("stop").await;
    assert_eq!(stage.provider.injection(&session.id, &id).await.unwrap().unwrap().state, Delivery::Taken);
    let (_, outcome) = session.inject("/status", InjectMode::Steer).await;
    assert!(matches!(outcome.state, Delivery::Written | Delivery::Taken), "{outcome:?}");
    session.said("/status").await;
}

async fn an_interrupt_begins_another_turn(stage: &Stage) {
    let mut session = stage.spawn().await;
    session.inject(&script(&json!([{"text": "w", "chunks": 240, "delay_ms": 250}])), InjectMode::Steer).await;
    session.until("it writes", |e| matches!(e.news, News::Delta(_)).then_some(())).await;
    let (id, _) = session.inject("something else now", InjectMode::Interrupt).await;
    let receipt = session.receipt(&id).await;
    assert_eq!((receipt.state, receipt.mode), (Delivery::Taken, Some(InjectMode::Interrupt)));
    session.said("something else now").await;
    session.status(Status::Waiting).await;
    assert!(session.messages().iter().all(|(_, _, text)| !text.contains("w239")));
    let aborted = async || {
        let calls = stage.gateway.model_calls().unwrap();
        calls.iter().any(|call| call["aborted"] == true)
    };
    wait_until("the model is hung up on", PATIENCE, aborted).await.unwrap();
}

/// A conversation that somebody else began is found, and its end there is its end here.
async fn what_others_do_at_the_gateway_is_told(stage: &Stage) {
    let key = "agent:main:somebody-else";
    let begin = json!({"agentId": "main", "key": key, "label": "theirs"});
    let say = json!({"sessionKey": key, "message": "hello from afar", "idempotencyKey": "theirs-1"});
    stage.other_client(vec![("sessions.create", begin), ("chat.send", say)]).await;
    let found = stage.find("their session is found", |info| info.title.as_deref() == Some("theirs")).await;
    let mut session = stage.watch(&found.session_id, Default::default()).await;
    session.said("hello from afar").await;
    assert!(session.messages().contains(&(Role::User, MessageKind::Text, "hello from afar".into())));
    stage.other_client(vec![("sessions.reset", json!({ "key": key }))]).await;
    assert_eq!(session.ended().await.status, Status::Completed);
    let is_next = |info: &providers::SessionInfo| {
        info.session_id != found.session_id && info.metadata["gatewayKey"] == key && info.ended_at.is_none()
    };
    let next = stage.find("the session after the reset", is_next).await;
    let mut session = stage.watch(&next.session_id, Default::default()).await;
    stage.other_client(vec![("sessions.delete", json!({ "key": key }))]).await;
    assert_eq!(session.ended().await.status, Status::Completed);
}

async fn a_connection_is_changed_without_a_restart(stage: &Stage) {
    let dir = tempfile::tempdir().unwrap();
    let provider = crate::harness::open(dir.path().join("openclaw"), vec![]).await;
    assert!(provider.health().await.error.unwrap().contains("no gateway is set up"));
    let (url, token) = (stage.gateway.url(), stage.gateway.token());
    let healthy = async || provider.health().await.error.map_or(Ok(()), Err);
    provider.configure(vec![connection("one", &url, "wrong")]).await.unwrap();
    let refused = async || provider.health().await.error.filter(|error| error.contains("token")).ok_or(());
    let error = wait_until("a wrong token is told", PATIENCE, refused).await.unwrap();
    assert!(!error.contains(token) && !error.contains("wrong-"), "{error}");
    provider.configure(vec![connection("one", &url, token)]).await.unwrap();
    wait_until("the right token lets in", PATIENCE, healthy).await.unwrap();
    let count = async || provider.sessions().await.unwrap().len();
    wait_until("sessions are found", PATIENCE, async || count().await > 0).await.unwrap();
    let some = provider.sessions().await.unwrap().into_iter().find(|info| info.ended_at.is_none()).unwrap();
    provider.configure(vec![]).await.unwrap();
    let gone = provider.kill(&some.session_id, &ada()).await.unwrap_err();
    assert!(matches!(gone, ProviderError::Unavailable { .. }), "{gone:?}");
    let still = provider.session(&some.session_id).await.unwrap();
    assert_eq!(still.status, some.status);
    assert!(still.metadata["gatewayAway"].as_str().unwrap().contains("not set up"), "{:?}", still.metadata);
    provider.shutdown().await;
}
