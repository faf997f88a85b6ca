//! The real Codex in a terminal: its requests for leave, read off its screen and answered from outside.

use bus_schema::{MessageId, MessageKind, OptionKind, Turn};
use providers::ProviderError;
use serde_json::json;
use testkit::codex_home;

use crate::agent::{Agent, is_turn};

async fn codex() -> Agent {
    let set_up = |home: &std::path::Path, model: &str| codex_home(home, model, "on-request", "workspace-write");
    let mut it = Agent::start("codex", &["--no-daemon"], set_up).await;
    it.session.until("it is ready", |event| is_turn(event, &Turn::Idle)).await;
    it
}

/// What makes Codex ask: a command that wants out of its sandbox.
fn escalated(command: &str, why: &str) -> String {
    let call = json!({"cmd": command, "sandbox_permissions": "require_escalated", "justification": why});
    format!("TOOL: exec_command {call}")
}

#[tokio::test]
async fn cli_codex_asks_for_leave_on_its_screen_and_an_operator_presses_the_key_through_the_next_node_agent() {
    let mut it = codex().await;
    let long = format!("touch a.txt  && echo {}", "word ".repeat(40).trim());
    it.say("m1", &format!("{} ;; SAY: that was it", escalated(&long, "May I?"))).await;
    let asked = it.asked().await;
    assert!(asked.text.starts_with("Would you like to run the following command?\n"), "{}", asked.text);
    assert!(asked.text.contains("Reason: May I?"), "{}", asked.text);
    assert!(asked.text.ends_with(&format!("$ {long}")), "word for word: {}", asked.text);
    let offered: Vec<_> = asked.options.iter().map(|(id, kind)| (id.as_str(), kind)).collect();
    assert_eq!((offered[0], offered.last()), (("y", &OptionKind::AllowOnce), Some(&("esc", &OptionKind::RejectOnce))));
    assert!(!it.work("a.txt").exists());

    it.replace().await;
    let refused = it.answer(&asked.request, json!({"optionId": "x"})).await.unwrap_err();
    assert!(matches!(&refused, ProviderError::Invalid(text) if text.contains("one of y")), "{refused}");
    it.answer(&asked.request, json!({"optionId": "y"})).await.unwrap();
    let told = it.answered(&asked.request).await;
    assert_eq!((told.kind.clone(), &told.metadata["source"]), (MessageKind::Permission, &json!("screen")));
    assert!(!told.metadata.contains_key("confirmed"), "the agent went on: {told:?}");
    it.says("that was it").await;
    it.until_turn(Turn::Idle).await;
    assert!(it.work("a.txt").exists(), "what leave was given for is done");
    assert_eq!(it.times("that was it"), 1, "told once, though the node agent was replaced");
    let late = it.answer(&MessageId::new("nobody-asked").unwrap(), json!({"optionId": "y"})).await;
    assert!(matches!(late, Err(ProviderError::WrongState { .. })), "{late:?}");
}

#[tokio::test]
async fn cli_codex_is_told_no_and_for_good_yes_and_what_is_answered_at_its_terminal_is_closed() {
    let mut it = codex().await;
    it.say("m1", &format!("{} ;; SAY: never", escalated("touch a.txt", "One?"))).await;
    let asked = it.asked().await;
    it.answer(&asked.request, json!({"optionId": "esc"})).await.unwrap();
    assert!(!it.answered(&asked.request).await.metadata.contains_key("confirmed"));
    it.until_turn(Turn::Idle).await;
    assert!(!it.work("a.txt").exists());

    it.say("m2", &format!("{} ;; SAY: two", escalated("touch b.txt", "Two?"))).await;
    let asked = it.asked().await;
    assert!(asked.text.ends_with("$ touch b.txt"), "{}", asked.text);
    it.answer(&asked.request, json!({"optionId": "p"})).await.unwrap();
    it.says("two").await;
    assert!(it.work("b.txt").exists());

    it.say("m3", &format!("{} ;; SAY: three", escalated("mkdir c", "Three?"))).await;
    let asked = it.asked().await;
    it.types(b"y").await;
    assert_eq!(it.answered(&asked.request).await.content, "answered at the terminal");
    it.says("three").await;
    let late = it.answer(&asked.request, json!({"optionId": "esc"})).await;
    assert!(matches!(late, Err(ProviderError::WrongState { .. })), "{late:?}");
}
