//! Operator messages, handed to real programs.

use bus_schema::{Delivery, InjectMode};
use providers::{AgentProvider, InjectOutcome, News, Profile, Protocol};

use crate::harness::watched::message;
use crate::harness::{Session, Stage, ada, profile, script, wait_until};

async fn inject(session: &Session, id: &str, content: &str) -> InjectOutcome {
    session.provider.inject(&session.id, message(id, content, InjectMode::Steer)).await.unwrap()
}

fn tui(stage: &Stage, options: &[&str]) -> Profile {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/fake_tui.py");
    let log = stage.dir.path().join("tui.log");
    let mut command = vec!["python3", script, log.to_str().unwrap()];
    command.extend(options);
    profile(Protocol::Terminal, &command)
}

/// What the program noted: texts that it took, and the like.
fn noted(stage: &Stage) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(stage.dir.path().join("tui.log")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn taken(stage: &Stage) -> Vec<String> {
    noted(stage).iter().filter_map(|note| note["text"].as_str().map(Into::into)).collect()
}

#[tokio::test]
async fn a_program_with_bracketed_paste_gets_the_text_and_then_enter() {
    let stage = Stage::new().await;
    let mut session = stage.spawn(tui(&stage, &["status"])).await;
    let text = "first line\nsecond line \u{1b}[201~\u{7} with traps";
    let outcome = inject(&session, "m-1", text).await;
    assert_eq!((&outcome.state, &outcome.reason), (&Delivery::Taken, &None));
    assert_eq!(taken(&stage), ["first line\nsecond line [201~ with traps"]);
    // The terminal answered in order, or the program would not have told where it stands.
    assert!(noted(&stage)[0]["answers"].as_str().unwrap().starts_with("\u{1b}]7501;?"));
    let receipt = session.until("the receipt", |event| match &event.news {
        News::Receipt { message_id, outcome } => Some((message_id.to_string(), outcome.clone())),
        _ => None,
    });
    assert_eq!(receipt.await, ("m-1".to_owned(), outcome));
    session.message("answer to").await;
    let texts = session.messages().concat();
    assert!(!texts.contains("second line"), "what was injected is told again: {texts}");
}

#[tokio::test]
async fn a_program_that_does_not_tell_is_read_off_its_screen() {
    let stage = Stage::new().await;
    let session = stage.spawn(tui(&stage, &[])).await;
    let outcome = inject(&session, "m-1", "hello there").await;
    assert_eq!((&outcome.state, &outcome.reason), (&Delivery::Written, &None));
    assert_eq!(taken(&stage), ["hello there"]);
}

#[tokio::test]
async fn a_program_that_is_slow_to_begin_is_waited_for() {
    let stage = Stage::new().await;
    let mut slow = tui(&stage, &["hang", "status"]);
    slow.agent_type = Some("codex".into());
    let session = stage.spawn(slow).await;
    let outcome = inject(&session, "m-1", "hello").await;
    assert_eq!(outcome.state, Delivery::Taken, "{outcome:?}");
    assert_eq!(taken(&stage), ["hello"]);
}

#[tokio::test]
async fn nothing_is_pasted_into_a_selection_list() {
    let stage = Stage::new().await;
    let mut session = stage.spawn(tui(&stage, &["status", "blocked"])).await;
    session.until("attention", |event| matches!(event.news, News::Attention(Some(_))).then_some(())).await;
    let outcome = inject(&session, "m-1", "yes").await;
    assert_eq!(outcome.state, Delivery::Refused);
    assert!(outcome.reason.unwrap().contains("waits for a choice"));
    assert_eq!(taken(&stage), Vec::<String>::new());
}

#[tokio::test]
async fn what_cannot_be_confirmed_is_told_so() {
    let stage = Stage::new().await;
    let mut session = stage.spawn(tui(&stage, &["deaf"])).await;
    let first = inject(&session, "m-1", "hello").await;
    assert_eq!(first.state, Delivery::NotKnown);
    let last = session.until("the last word", |event| match &event.news {
        News::Receipt { outcome, .. } => {
            let reason = outcome.reason.clone().unwrap_or_default();
            reason.contains("still stands on the input line").then_some(outcome.clone())
        }
        _ => None,
    });
    assert_eq!(last.await.state, Delivery::NotKnown);
}

async fn a_conversation_in_a_file_is_told_whole(agent_type: &str, environment: &[(&str, String)], option: &str) {
    let stage = Stage::new().await;
    let mut agent = tui(&stage, &[option]);
    agent.agent_type = Some(agent_type.into());
    agent.env.extend(environment.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    let mut session = stage.spawn(agent).await;
    assert_eq!(inject(&session, "m-1", "do it").await.state, Delivery::Written);
    let last = session.until("the last word", |event| match &event.news {
        News::Message(draft) if draft.content == "all done" => Some(draft.clone()),
        _ => None,
    });
    let last = last.await;
    assert!(["rollout", "transcript"].contains(&last.metadata["source"].as_str().unwrap()));
    let told: Vec<String> = session
        .seen
        .iter()
        .filter_map(|event| match &event.news {
            News::Message(draft) => Some(format!("{} {} {}", draft.role, draft.kind, draft.content)),
            News::Receipt { outcome, .. } => Some(outcome.state.to_string()),
            _ => None,
        })
        .collect();
    // Not the screen's version of it, and not the operator's own words again: those prove that it arrived.
    assert_eq!(told, ["written", "taken", "agent toolCall ls", "agent toolResult a.txt", "agent text all done"]);
}

#[tokio::test]
async fn a_conversation_in_a_rollout_file_is_told_whole() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rollout-1.jsonl");
    a_conversation_in_a_file_is_told_whole("codex", &[], &format!("rollout={}", file.display())).await;
}

#[tokio::test]
async fn a_conversation_in_a_transcript_is_told_whole() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("claude");
    let environment = [("CLAUDE_CONFIG_DIR", config.display().to_string())];
    a_conversation_in_a_file_is_told_whole("claude", &environment, &format!("transcript={}", config.display())).await;
}

#[tokio::test]
async fn a_screen_is_held_back_until_the_conversation_that_should_be_there_is_not_found() {
    let stage = Stage::new().await;
    let mut agent = tui(&stage, &["status"]);
    agent.agent_type = Some("claude".into());
    let mut session = stage.spawn(agent).await;
    assert_eq!(inject(&session, "m-1", "hello there").await.state, Delivery::Taken);
    session.message("answer to").await;
    let told = session.messages();
    let first = "its own record of the conversation was not found; messages are taken from its screen";
    assert_eq!(told.first().map(String::as_str), Some(first), "nothing before the session said so: {told:?}");
}

#[tokio::test]
async fn an_interrupt_stops_the_turn_first() {
    let stage = Stage::new().await;
    let mut session = stage.spawn(tui(&stage, &["status"])).await;
    assert_eq!(inject(&session, "m-1", "slow work").await.state, Delivery::Taken);
    let interrupt = message("m-2", "stop that", InjectMode::Interrupt);
    let outcome = stage.provider.inject(&session.id, interrupt).await.unwrap();
    assert_eq!((outcome.state, outcome.mode), (Delivery::Taken, Some(InjectMode::Interrupt)));
    assert!(noted(&stage).iter().any(|note| note["interrupt"] == true));
    assert_eq!(taken(&stage), ["slow work", "stop that"]);
    session.message("answer to").await;
}

#[tokio::test]
async fn a_shell_takes_a_line_and_its_echo_is_not_told() {
    let stage = Stage::new().await;
    let mut shell = profile(Protocol::Terminal, &["bash", "--norc", "--noprofile"]);
    shell.env.insert("PS1".into(), "prompt$ ".into());
    let mut session = stage.spawn(shell).await;
    let outcome = inject(&session, "m-1", "echo $((6 * 7))").await;
    assert_eq!(outcome.state, Delivery::Written, "{outcome:?}");
    let draft = session.message("42").await;
    assert_eq!(draft.content, "42");
    assert_eq!(session.messages(), ["42"]);
}

#[tokio::test]
async fn cat_takes_one_line_and_no_more() {
    let stage = Stage::new().await;
    let mut session = stage.spawn(profile(Protocol::Terminal, &["cat"])).await;
    let outcome = inject(&session, "m-1", "hello cat").await;
    assert_eq!(outcome.state, Delivery::Written, "{outcome:?}");
    session.shows("hello cat\r\nhello cat").await;
    let outcome = inject(&session, "m-2", "two\nlines").await;
    assert_eq!(outcome.state, Delivery::Refused);
    assert!(outcome.reason.unwrap().contains("one line at a time"));
}

#[tokio::test]
async fn json_lines_get_the_operator_with_the_text() {
    let stage = Stage::new().await;
    let run = r#"while IFS= read -r line; do echo "got $line"; done"#;
    let mut session = stage.spawn(script(Protocol::Jsonl, run)).await;
    let text = format!("a \"quoted\"\nline of {}", "x".repeat(20_000));
    assert_eq!(inject(&session, "m-1", &text).await.state, Delivery::Written);
    let draft = session.message("got ").await;
    let line: serde_json::Value = serde_json::from_str(draft.content.strip_prefix("got ").unwrap()).unwrap();
    assert_eq!((line["role"].as_str(), line["content"].as_str()), (Some("operator"), Some(text.as_str())));
    assert_eq!((line["operator"]["id"].as_str(), line["operator"]["name"].as_str()), (Some("u-ada"), Some("Ada")));
}

#[tokio::test]
async fn while_paused_the_text_is_kept_and_read_later() {
    for protocol in [Protocol::Lines, Protocol::Terminal] {
        let stage = Stage::new().await;
        let mut session = match protocol {
            Protocol::Terminal => stage.spawn(tui(&stage, &["status"])).await,
            _ => stage.spawn(script(protocol, "while read x; do echo got $x; done")).await,
        };
        if protocol == Protocol::Terminal {
            session.until("ready", |event| matches!(event.news, News::Turn(Some(_))).then_some(())).await;
        }
        stage.provider.pause(&session.id, &ada()).await.unwrap();
        let outcome = inject(&session, "m-1", "later").await;
        assert_eq!(outcome.state, Delivery::Written);
        assert!(outcome.reason.unwrap().contains("paused"));
        assert_eq!(taken(&stage), Vec::<String>::new());
        stage.provider.resume(&session.id, &ada()).await.unwrap();
        match protocol {
            Protocol::Terminal => {
                wait_until("it is taken", async || if taken(&stage) == ["later"] { Ok(()) } else { Err("".into()) })
                    .await;
                let last = session.until("the receipt", |event| match &event.news {
                    News::Receipt { outcome, .. } if outcome.state == Delivery::Taken => Some(()),
                    _ => None,
                });
                last.await;
            }
            _ => assert_eq!(session.message("got").await.content, "got later"),
        }
    }
}

#[tokio::test]
async fn an_agent_that_does_not_read_is_told_of_and_then_refused() {
    let stage = Stage::new().await;
    let mut session = stage.spawn(script(Protocol::Lines, "echo ready; sleep 1000")).await;
    session.message("ready").await;
    let text = "x".repeat(100_000);
    let all = (0..12).map(|number| {
        let sent = message(&format!("m-{number}"), &text, InjectMode::Queue);
        stage.provider.inject(&session.id, sent)
    });
    let (mut unknown, mut refused) = (0, 0);
    for result in futures::future::join_all(all).await {
        match result {
            Ok(outcome) => {
                assert_eq!(outcome.state, Delivery::NotKnown, "{outcome:?}");
                unknown += 1;
            }
            Err(error) => {
                assert!(error.to_string().contains("does not read its input"), "{error}");
                refused += 1;
            }
        }
    }
    assert_eq!((unknown, refused), (10, 2));
    // Its keys wait, and killing it still works.
    let typed = stage.provider.terminal_input(&session.id, &vec![b'x'; 1024 * 1024], &ada()).await;
    assert!(typed.is_err(), "{typed:?}");
    stage.provider.kill(&session.id, &ada()).await.unwrap();
    session.end().await;
}
