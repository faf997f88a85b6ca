//! The real OpenCode in a terminal: told by its own API, which is also how operators speak with it and answer it.

use std::time::Duration;

use bus_schema::{Capability, InjectMode, MessageId, MessageKind, OptionKind, Status, Turn};
use providers::{AgentEvent, AgentProvider, News, ProviderError};
use serde_json::json;
use testkit::opencode_home;

use crate::agent::Agent;
use crate::harness::signal;
use crate::harness::watched::message;

/// How long it may take to begin on a machine that does other things, too: more than 60 s were seen.
const BEGINS_WITHIN: Duration = Duration::from_secs(240);

async fn opencode(shell: &str) -> Agent {
    let it = Agent::start("opencode", &[], |home, model| opencode_home(home, model, shell)).await;
    // It is slow to begin, and says nothing meanwhile.
    let begun = testkit::wait_until("its API is there", BEGINS_WITHIN, async || {
        let info = it.session.provider.session(&it.session.id).await.map_err(|error| error.to_string())?;
        if info.capabilities.contains(&Capability::Approve) { Ok(()) } else { Err(format!("{info:?}")) }
    });
    begun.await.unwrap();
    it
}

/// Messages told so far: role, kind and text.
fn conversation(it: &Agent) -> Vec<String> {
    let line = |event: &AgentEvent| match &event.news {
        News::Message(draft) => {
            assert_eq!(draft.metadata["source"], json!("api"), "{draft:?}");
            Some(format!("{} {}: {}", draft.role, draft.kind, draft.content.trim()))
        }
        _ => None,
    };
    it.session.seen.iter().filter_map(line).collect()
}

#[tokio::test]
async fn cli_opencode_tells_a_turn_by_its_api_and_shows_it_at_its_terminal() {
    let mut it = opencode("allow").await;
    // Its API listens before its terminal does: the first message is not lost.
    let sent = it.say("m1", "SAY: looking ;; RUN: cat README.md ;; SAY: that was it").await;
    it.says("that was it").await;
    it.until_turn(Turn::Idle).await;
    it.taken(&sent).await;
    let told =
        ["agent text: looking", "agent toolCall: cat README.md", "agent toolResult: hello", "agent text: that was it"];
    assert_eq!(conversation(&it), told.map(str::to_owned), "no line of its screen, nothing twice, in order");
    let status = |event: &AgentEvent| match &event.news {
        News::Status { status, source, .. } => Some(format!("{status} by {source}")),
        _ => None,
    };
    let statuses: Vec<_> = it.session.seen.iter().filter_map(status).collect();
    let turn = ["running by runtime", "waiting by runtime"];
    assert!(statuses.ends_with(&turn.map(str::to_owned)), "{statuses:?}");
    let info = it.session.provider.session(&it.session.id).await.unwrap();
    assert_eq!((info.agent_type.as_deref(), info.status), (Some("opencode"), Status::Waiting));
    assert!(info.capabilities.contains(&Capability::Approve), "{:?}", info.capabilities);
    // Whoever looks at its terminal sees the same conversation.
    it.screen("that was it").await;
    // Its password is told nowhere.
    let files = ["spec.json", "state.json"].map(|file| it.stage.session_dir(&it.session.id).join(file));
    let text: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    assert!(text.contains("--port") && !text.contains("PASSWORD"), "{text}");
}

#[tokio::test]
async fn cli_opencode_is_spoken_to_in_the_middle_of_a_turn_and_what_became_of_it_is_what_the_model_got() {
    let mut it = opencode("allow").await;
    it.say("m1", "RUN: sleep 8 ;; SAY: never said").await;
    it.says("sleep 8").await;
    let steered = it.say("m2", "SAY: steered").await;
    it.says("steered").await;
    assert_eq!(it.taken(&steered).await, Some(InjectMode::Steer), "within the turn, behind the tool");
    let requests = it.asked_of_model();
    let last = requests.last().unwrap();
    assert!(last.contains("[\"tool\",") && last.ends_with("[\"user\",\"SAY: steered\"]]"), "{last}");

    it.say("m3", "SLOW: 20 200").await;
    it.until_turn(Turn::Active).await;
    it.taken(&MessageId::new("m3").unwrap()).await;
    let queued = it.say("m4", "SAY: queued").await;
    it.says("queued").await;
    assert_eq!(it.taken(&queued).await, Some(InjectMode::Queue), "behind the turn");
    let requests = it.asked_of_model();
    let last = requests.last().unwrap();
    assert!(last.contains("word20") && last.ends_with("[\"user\",\"SAY: queued\"]]"), "{last}");
    let told = conversation(&it);
    let at = |text: &str| told.iter().position(|line| line.contains(text));
    assert!(at("word20") < at("agent text: queued"), "{told:?}");

    it.say("m5", "SLOW: 200 200 ;; SAY: never").await;
    it.taken(&MessageId::new("m5").unwrap()).await;
    let instead = message("m6", "SAY: instead", InjectMode::Interrupt);
    it.session.provider.inject(&it.session.id, instead).await.unwrap();
    it.says("instead").await;
    assert_eq!(it.taken(&MessageId::new("m6").unwrap()).await, Some(InjectMode::Interrupt));
    assert!(conversation(&it).contains(&"system status: turn aborted".to_owned()), "{:?}", conversation(&it));
    assert!(!conversation(&it).iter().any(|line| line.starts_with("user")), "what operators said is theirs");
}

#[tokio::test]
async fn cli_opencode_asks_for_leave_and_is_answered_through_the_next_node_agent_and_at_its_terminal() {
    let mut it = opencode("ask").await;
    it.say("m1", "RUN: touch a.txt ;; SAY: one").await;
    let asked = it.asked().await;
    assert_eq!(asked.text, "bash: touch a.txt", "word for word");
    let offered: Vec<_> = asked.options.iter().map(|(id, kind)| (id.as_str(), kind)).collect();
    let kinds = [OptionKind::AllowOnce, OptionKind::AllowAlways, OptionKind::RejectOnce];
    assert_eq!(offered, ["once", "always", "reject"].into_iter().zip(&kinds).collect::<Vec<_>>());
    it.until_turn(Turn::Blocked).await;
    assert!(!it.work("a.txt").exists());

    it.replace().await;
    let refused = it.answer(&asked.request, json!({"optionId": "levitate"})).await.unwrap_err();
    assert!(matches!(&refused, ProviderError::Invalid(text) if text.contains("one of once")), "{refused}");
    it.answer(&asked.request, json!({"optionId": "once"})).await.unwrap();
    let told = it.answered(&asked.request).await;
    assert_eq!((told.content.as_str(), &told.metadata["operator"]["name"]), ("Allow once", &json!("Ada")));
    assert!(!told.metadata.contains_key("confirmed"), "it was seen to be taken: {told:?}");
    it.says("one").await;
    it.until_turn(Turn::Idle).await;
    assert!(it.work("a.txt").exists(), "what leave was given for is done");

    it.say("m2", "RUN: touch b.txt ;; SAY: two").await;
    let asked = it.asked().await;
    it.answer(&asked.request, json!({"text": "use another file"})).await.unwrap();
    assert_eq!(it.answered(&asked.request).await.content, "Reject: use another file");
    it.says("two").await;
    assert!(it.asked_of_model().last().unwrap().contains("use another file"), "the model was told why");

    it.say("m3", "RUN: touch c.txt ;; SAY: three").await;
    let asked = it.asked().await;
    it.screen("Allow once").await;
    it.types(b"\r").await;
    assert_eq!(it.answered(&asked.request).await.content, "answered at the terminal");
    it.says("three").await;
    assert!(it.work("c.txt").exists() && !it.work("b.txt").exists());
    let late = it.answer(&asked.request, json!({"optionId": "reject"})).await;
    assert!(matches!(late, Err(ProviderError::WrongState { .. })), "{late:?}");
}

#[tokio::test]
async fn cli_opencode_tells_each_message_once_though_the_node_agent_is_replaced_in_the_middle_of_turns() {
    let mut it = opencode("allow").await;
    let mut wanted = vec![];
    for number in 1..=4 {
        it.say(&format!("m{number}"), &format!("RUN: echo out{number} ;; SAY: said {number}")).await;
        it.says(&format!("echo out{number}")).await;
        it.replace().await;
        it.says(&format!("said {number}")).await;
        it.until_turn(Turn::Idle).await;
        wanted.push(format!("agent toolCall: echo out{number}"));
        wanted.push(format!("agent toolResult: out{number}"));
        wanted.push(format!("agent text: said {number}"));
    }
    assert_eq!(conversation(&it), wanted);
    let recent = it.session.provider.recent_messages(&it.session.id, 100).await.unwrap();
    let recent: Vec<_> = recent.iter().map(|draft| draft.content.trim().to_owned()).collect();
    assert_eq!(recent.len(), wanted.len(), "{recent:?}");

    // Its holder dies: what was said stays said, once, and the end is told.
    let holder = it.stage.pid(&it.session.id, "holder");
    signal(holder, rustix::process::Signal::KILL);
    let end = it.session.end().await;
    assert_eq!(end.status, Status::Failed);
    assert_eq!(conversation(&it), wanted);
    assert_eq!(conversation(&it).iter().filter(|line| line.ends_with("said 4")).count(), 1);
    let kinds = [MessageKind::ToolCall, MessageKind::ToolResult, MessageKind::Text];
    assert!(it.session.seen.iter().all(|event| !matches!(&event.news, News::Message(d) if !kinds.contains(&d.kind))));
}
