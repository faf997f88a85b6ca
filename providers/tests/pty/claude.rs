//! The real Claude Code in a terminal: what its hooks tell, and its requests answered from outside.

use std::time::Duration;

use bus_schema::{Capability, MessageId, MessageKind, Role, Status, StatusSource, Turn};
use providers::{AgentEvent, AgentProvider, MessageDraft, News, ProviderError};
use serde_json::json;
use testkit::claude_home;

use crate::agent::{Agent, answers, is_turn};

/// How long a dialog may take over a key.
const AGAIN: Duration = Duration::from_secs(5);

async fn claude(arguments: &[&str]) -> Agent {
    let arguments: Vec<_> = ["--permission-mode", "default"].iter().chain(arguments).copied().collect();
    let set_up = |home: &std::path::Path, model: &str| claude_home(home, model, None);
    let mut it = Agent::start("claude", &arguments, set_up).await;
    it.session.until("it is ready", |event| is_turn(event, &Turn::Idle)).await;
    it
}

/// Presses a key in its dialog until that has answered the request: a dialog that is just being drawn takes none.
async fn press(it: &mut Agent, key: &[u8], request: &MessageId) -> MessageDraft {
    loop {
        it.types(key).await;
        let until = tokio::time::Instant::now() + AGAIN;
        while let Ok(event) = tokio::time::timeout_at(until, it.session.events.recv()).await {
            let event = event.unwrap();
            it.session.seen.push(event.clone());
            if let Some(draft) = answers(&event, request) {
                return draft;
            }
        }
    }
}

#[tokio::test]
async fn cli_claude_asks_for_leave_and_an_operator_gives_it_to_the_next_node_agent() {
    let mut it = claude(&[]).await;
    let sent = it.say("m1", "RUN: touch a.txt ;; SAY: that was it").await;
    let asked = it.asked().await;
    assert_eq!(asked.text, "Bash: touch a.txt", "word for word");
    assert_eq!(asked.ids(), ["allow", "always", "deny"]);
    assert!(it.statuses().contains(&(Status::Running, StatusSource::Runtime)), "{:?}", it.statuses());
    assert_eq!(it.statuses().last(), Some(&(Status::Waiting, StatusSource::Runtime)));
    it.taken(&sent).await;
    let info = it.session.provider.session(&it.session.id).await.unwrap();
    assert!(info.capabilities.contains(&Capability::Approve), "{info:?}");
    assert!(!it.work("a.txt").exists());
    let message = it.session.seen.iter().find_map(|event| match &event.news {
        News::Message(draft) if draft.message_id == asked.request => Some(draft.clone()),
        _ => None,
    });
    let message = message.unwrap();
    assert_eq!(
        (message.role, message.kind, message.content.as_str()),
        (Role::System, MessageKind::Permission, "Bash: touch a.txt")
    );

    // The node agent is replaced while the request is open.
    it.replace().await;
    let refused = it.answer(&asked.request, json!({"optionId": "levitate"})).await.unwrap_err();
    assert!(
        matches!(&refused, ProviderError::Invalid(text) if text.contains("one of allow, always, deny")),
        "{refused}"
    );
    it.answer(&asked.request, json!({"optionId": "allow"})).await.unwrap();
    it.answer(&asked.request, json!({"optionId": "deny"})).await.unwrap();
    let told = it.answered(&asked.request).await;
    assert_eq!(
        (told.role.clone(), told.kind.clone(), told.content.as_str()),
        (Role::System, MessageKind::Permission, "Yes")
    );
    assert_eq!((&told.metadata["optionId"], &told.metadata["operator"]["name"]), (&json!("allow"), &json!("Ada")));
    assert!(!told.metadata.contains_key("confirmed"), "{told:?}");
    it.says("that was it").await;
    it.until_turn(Turn::Idle).await;
    assert!(it.work("a.txt").exists(), "what leave was given for is done");
    assert!(it.session.seen.iter().any(|event| matches!(event.news, News::Attention(None))));
    it.until_status(Status::Waiting).await;
    // What was typed for the operator is nobody else's message.
    let told = it.session.provider.recent_messages(&it.session.id, 100).await.unwrap();
    assert!(!told.iter().any(|draft| draft.role == Role::User), "{told:?}");
    let late = it.answer(&MessageId::new("nobody-asked").unwrap(), json!({"optionId": "allow"})).await;
    assert!(matches!(late, Err(ProviderError::WrongState { .. })), "{late:?}");
}

#[tokio::test]
async fn cli_claude_is_told_no_in_words() {
    let mut it = claude(&[]).await;
    it.say("m1", "RUN: touch a.txt ;; SAY: understood").await;
    let asked = it.asked().await;
    it.answer(&asked.request, json!({"text": "use another file"})).await.unwrap();
    assert_eq!(it.answered(&asked.request).await.content, "No: use another file");
    it.says("understood").await;
    assert!(!it.work("a.txt").exists());
    assert!(it.asked_of_model().concat().contains("use another file"), "the model was told why");
}

#[tokio::test]
async fn cli_claude_answered_at_its_terminal_asks_nobody_else() {
    let mut it = claude(&[]).await;
    it.say("m1", "RUN: touch a.txt ;; SAY: one ;; RUN: touch b.txt ;; SAY: two").await;
    let asked = it.asked().await;
    assert_eq!(press(&mut it, b"1", &asked.request).await.content, "answered at the terminal");
    let late = it.answer(&asked.request, json!({"optionId": "deny"})).await;
    assert!(matches!(late, Err(ProviderError::WrongState { .. })), "{late:?}");
    // Esc interrupts the turn; no hook tells that it is over.
    let asked = it.asked().await;
    assert_eq!(asked.text, "Bash: touch b.txt");
    assert_eq!(press(&mut it, b"\x1b", &asked.request).await.content, "it asks no longer");
    it.until_turn(Turn::Idle).await;
    assert!(it.work("a.txt").exists() && !it.work("b.txt").exists());
}

#[tokio::test]
async fn cli_claude_with_work_in_the_background_does_not_wait() {
    let mut it = claude(&["--allowedTools", "Bash"]).await;
    it.say("m1", "SPAWN: RUN: sleep 3 && SAY: sub here ;; SAY: sent").await;
    let child = it.session.until("a child is told of", |event| match &event.news {
        News::Child(child) => Some(child.session_id.clone()),
        _ => None,
    });
    let child = child.await;
    let running = |event: &AgentEvent| match &event.news {
        News::Status { status: Status::Running, reason: Some(reason), source: StatusSource::Runtime } => {
            reason.contains("background").then_some(())
        }
        _ => None,
    };
    it.session.until("it runs on behind its turn", running).await;
    // In the end it waits: the notice that its sub-agent is done is a turn of its own.
    let waiting = |event: &AgentEvent| match &event.news {
        News::Status { status: Status::Waiting, source: StatusSource::Runtime, .. } => Some(()),
        _ => None,
    };
    it.session.until("it waits", waiting).await;
    let mut child = it.stage.session(&child, Default::default()).await;
    child.message("sub here").await;
    child.until("its turn is over", |event| is_turn(event, &Turn::Idle)).await;
}
