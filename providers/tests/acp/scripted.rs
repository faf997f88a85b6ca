//! What an agent does seldom, by a scripted one: who asks twice, talks garbage, leaves in the middle.

use bus_schema::{Capability, Delivery, InjectMode, Status, TerminalSize, Turn};
use providers::{AgentProvider, News, ProviderError};

use crate::harness::{ada, process, wait_until};
use crate::stage::{acp_stage, answer, attention, inject, receipt, scripted, status, times, told, touch, turn};

#[tokio::test]
async fn a_turn_is_told_in_whole_messages_and_as_it_grows() {
    let stage = acp_stage().await;
    let go = stage.dir.path().join("go");
    let mut session = stage.spawn(scripted(&[])).await;
    status(&mut session, Status::Waiting).await;
    let prompt = format!("hello there ;; WAIT {} ;; TOOL ;; bye", go.display());
    let (id, outcome) = inject(&session, &prompt, InjectMode::Steer).await;
    assert_eq!(outcome.state, Delivery::Written, "{outcome:?}");
    // The text that is still open is told as far as it goes.
    let delta = session.until("a delta", |event| match &event.news {
        News::Delta(delta) => Some(delta.clone()),
        _ => None,
    });
    assert_eq!(delta.await.content, "waiting");
    assert!(session.provider.session(&session.id).await.unwrap().status == Status::Running);
    touch(&go);
    turn(&mut session, Turn::Idle).await;
    let expected = [
        ("agent", "text", "hello there"),
        ("agent", "text", "waiting"),
        ("agent", "toolCall", "ls -1"),
        ("agent", "toolResult", "README.md"),
        ("agent", "text", "bye"),
    ];
    let told = told(&session);
    let seen: Vec<_> = told.iter().map(|(role, kind, text)| (role.as_str(), kind.as_str(), text.as_str())).collect();
    assert_eq!(seen, expected);
    assert_eq!(receipt(&mut session, &id, Delivery::Taken).await.mode, Some(InjectMode::Steer));
}

#[tokio::test]
async fn a_request_for_leave_is_answered_once() {
    let stage = acp_stage().await;
    let mut session = stage.spawn(scripted(&[])).await;
    inject(&session, "ASK", InjectMode::Steer).await;
    let attention = attention(&mut session).await;
    let asked = attention.request.unwrap();
    assert_eq!((attention.text.as_str(), asked.options.len()), ("touch x", 2));
    assert_eq!(session.provider.session(&session.id).await.unwrap().status, Status::Waiting);
    let refused = answer(&session, &asked.request_id, "maybe").await;
    assert!(matches!(refused, Err(ProviderError::Invalid(_))), "{refused:?}");
    answer(&session, &asked.request_id, "yes").await.unwrap();
    answer(&session, &asked.request_id, "yes").await.unwrap();
    let changed = answer(&session, &asked.request_id, "no").await;
    assert!(matches!(changed, Err(ProviderError::WrongState { .. })), "{changed:?}");
    let decision = session.message("Yes, once").await;
    assert_eq!(decision.metadata["answers"], asked.request_id.as_str());
    assert_eq!(
        (&decision.metadata["optionId"], &decision.metadata["operator"]["name"]),
        (&"yes".into(), &"Ada".into())
    );
    session.message("decided yes").await;
    turn(&mut session, Turn::Idle).await;
    assert_eq!(times(&session, "Yes, once"), 1);
}

#[tokio::test]
async fn of_two_requests_at_once_each_gets_its_own_answer() {
    let stage = acp_stage().await;
    let mut session = stage.spawn(scripted(&[])).await;
    inject(&session, "ASK TWICE", InjectMode::Steer).await;
    let first = attention(&mut session).await;
    session.message("second").await;
    let request = first.request.unwrap().request_id;
    answer(&session, &request, "no").await.unwrap();
    let second = attention(&mut session).await;
    assert_eq!((first.text.as_str(), second.text.as_str()), ("first", "second"));
    answer(&session, &second.request.unwrap().request_id, "yes").await.unwrap();
    session.message("decided q1=no q2=yes").await;
}

#[tokio::test]
async fn an_interrupt_answers_what_is_open_and_begins_anew() {
    let stage = acp_stage().await;
    let mut session = stage.spawn(scripted(&[])).await;
    inject(&session, "ASK ;; never said", InjectMode::Steer).await;
    let request = attention(&mut session).await.request.unwrap().request_id;
    let (id, outcome) = inject(&session, "something else", InjectMode::Interrupt).await;
    assert_eq!((outcome.state, outcome.mode), (Delivery::Written, Some(InjectMode::Interrupt)));
    session.message("not answered any more").await;
    session.message("the turn was interrupted").await;
    session.message("something else").await;
    assert_eq!(receipt(&mut session, &id, Delivery::Taken).await.mode, Some(InjectMode::Interrupt));
    let late = answer(&session, &request, "yes").await;
    assert!(matches!(late, Err(ProviderError::WrongState { .. })), "{late:?}");
    assert_eq!(times(&session, "never said"), 0);
}

#[tokio::test]
async fn words_into_a_running_turn_are_taken_or_wait_and_say_which() {
    let stage = acp_stage().await;
    let mut steered = stage.spawn(scripted(&["--steering"])).await;
    inject(&steered, "HOLD", InjectMode::Steer).await;
    status(&mut steered, Status::Running).await;
    let (_, outcome) = inject(&steered, "to the left", InjectMode::Steer).await;
    assert_eq!((outcome.state, outcome.mode), (Delivery::Taken, Some(InjectMode::Steer)));
    steered.message("heard to the left").await;

    let go = stage.dir.path().join("go");
    let mut queued = stage.spawn(scripted(&[])).await;
    inject(&queued, &format!("WAIT {} ;; first", go.display()), InjectMode::Steer).await;
    status(&mut queued, Status::Running).await;
    let (id, outcome) = inject(&queued, "second", InjectMode::Steer).await;
    assert_eq!((outcome.state, outcome.mode), (Delivery::Written, Some(InjectMode::Queue)));
    assert!(outcome.reason.unwrap().contains("running turn"));
    let (last, _) = inject(&queued, "third", InjectMode::Queue).await;
    touch(&go);
    queued.message("third").await;
    assert_eq!(receipt(&mut queued, &id, Delivery::Taken).await.mode, Some(InjectMode::Queue));
    receipt(&mut queued, &last, Delivery::Taken).await;
    let texts = queued.messages();
    let texts: Vec<_> = texts.iter().filter(|text| ["first", "second", "third"].contains(&text.as_str())).collect();
    assert_eq!(texts, ["first", "second", "third"], "one prompt after the other");
    assert_eq!(times(&queued, "TWO PROMPTS AT ONCE"), 0);
}

#[tokio::test]
async fn garbage_and_what_nobody_knows_changes_nothing() {
    let stage = acp_stage().await;
    let mut session = stage.spawn(scripted(&[])).await;
    inject(&session, "ODD", InjectMode::Steer).await;
    session.message("refused -32601").await;
    turn(&mut session, Turn::Idle).await;
    let garbage = session.messages();
    assert!(garbage.contains(&"npm warn this is no JSON".to_owned()), "{garbage:?}");
    let error = session.seen.iter().find_map(|event| match &event.news {
        News::Message(draft) if draft.metadata.get("stream").is_some_and(|stream| stream == "stderr") => {
            Some(draft.clone())
        }
        _ => None,
    });
    assert_eq!(error.unwrap().content, "scripted agent begins");
    inject(&session, "still there", InjectMode::Steer).await;
    session.message("still there").await;
}

#[tokio::test]
async fn a_failed_turn_is_told_and_not_the_end() {
    let stage = acp_stage().await;
    let mut session = stage.spawn(scripted(&[])).await;
    inject(&session, "FAIL", InjectMode::Steer).await;
    session.message("the turn failed: the model is overloaded").await;
    turn(&mut session, Turn::Error).await;
    assert_eq!(attention(&mut session).await.text, "the model is overloaded");
    inject(&session, "again ;; STOP max_tokens", InjectMode::Steer).await;
    session.message("the turn ended early: max_tokens").await;
    turn(&mut session, Turn::Idle).await;
}

#[tokio::test]
async fn an_agent_that_leaves_in_the_middle_of_a_turn_has_failed() {
    let stage = acp_stage().await;
    let mut session = stage.spawn(scripted(&[])).await;
    inject(&session, "EXIT", InjectMode::Steer).await;
    let end = session.end().await;
    assert_eq!((end.status, end.exit_code), (Status::Failed, Some(0)));
    assert!(end.error.unwrap().contains("in the middle of a turn"));
    assert_eq!(times(&session, "leaving"), 1, "its last words are told: {:?}", session.messages());
}

#[tokio::test]
async fn an_agent_that_cannot_be_talked_to_is_ended_with_the_reason() {
    let stage = acp_stage().await;
    for (flags, reason) in [(["--version", "9"], "version 9"), (["--refuse", ""], "sign in first")] {
        let mut session = stage.spawn(scripted(&flags)).await;
        let end = session.end().await;
        assert_eq!(end.status, Status::Failed);
        assert!(end.error.as_ref().unwrap().contains(reason), "{end:?}");
    }
    let mut mute = stage.spawn(scripted(&[])).await;
    inject(&mute, "MUTE", InjectMode::Steer).await;
    let end = mute.end().await;
    assert!(end.status == Status::Failed && end.error.unwrap().contains("closed its output"));
}

#[tokio::test]
async fn a_polite_end_needs_no_force_and_a_kill_spares_nobody() {
    let stage = acp_stage().await;
    let mut session = stage.spawn(scripted(&[])).await;
    status(&mut session, Status::Waiting).await;
    session.provider.terminate(&session.id, &ada()).await.unwrap();
    let end = session.end().await;
    assert_eq!((end.status, end.exit_code), (Status::Killed, Some(0)), "it left by itself");
    let steps = end.report.unwrap().steps;
    assert!(steps.iter().all(|step| step.step != "term" && step.step != "kill"), "{steps:?}");

    let mut session = stage.spawn(scripted(&[])).await;
    inject(&session, "LOOP", InjectMode::Steer).await;
    status(&mut session, Status::Running).await;
    let busy = || crate::harness::marked(session.id.as_str()).into_iter().filter_map(process).map(|p| p.1).sum::<u64>();
    wait_until("it works", async || if busy() > 20 { Ok(()) } else { Err(busy().to_string()) }).await;
    session.provider.pause(&session.id, &ada()).await.unwrap();
    let frozen = busy();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(busy(), frozen, "a second of standing still costs nothing");
    let report = session.provider.kill(&session.id, &ada()).await.unwrap();
    assert!(report.survivors.is_empty() && report.ended.len() >= 2, "{report:?}");
    assert_eq!(session.end().await.status, Status::Killed);
    assert_eq!(crate::harness::marked(session.id.as_str()), Vec::<i32>::new());
}

#[tokio::test]
async fn a_replaced_node_agent_loses_nothing_and_can_still_answer() {
    let mut stage = acp_stage().await;
    let go = stage.dir.path().join("go");
    let mut session = stage.spawn(scripted(&[])).await;
    let prompt = format!("before ;; WAIT {} ;; between ;; ASK ;; after", go.display());
    inject(&session, &prompt, InjectMode::Steer).await;
    let before = session.message("before").await;
    let (id, mut seen) = (session.id.clone(), vec![before]);
    let from = session.seen.last().unwrap().position;
    drop(session);
    stage.provider.shutdown().await;
    // Nobody is there while the agent goes on and asks.
    touch(&go);
    let log = stage.session_dir(&id).join("log");
    wait_until("it asks", async || {
        let written: u64 = std::fs::read_dir(&log).unwrap().flatten().map(|f| f.metadata().unwrap().len()).sum();
        let text = std::fs::read_dir(&log).unwrap().flatten().map(|f| std::fs::read(f.path()).unwrap());
        let asks =
            text.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).any(|t| t.contains("request_permission"));
        if asks { Ok(()) } else { Err(written.to_string()) }
    })
    .await;
    stage.replace().await;
    let mut session = stage.session(&id, from).await;
    let request = attention(&mut session).await.request.unwrap().request_id;
    stage.replace().await;
    // One node agent later it is still open, and has the same name.
    let mut session = stage.session(&id, from).await;
    let same = attention(&mut session).await.request.unwrap().request_id;
    assert_eq!(same, request);
    answer(&session, &request, "yes").await.unwrap();
    session.message("decided yes").await;
    turn(&mut session, Turn::Idle).await;
    seen.extend(session.seen.iter().filter_map(|event| match &event.news {
        News::Message(draft) if draft.role == bus_schema::Role::Agent => Some(draft.clone()),
        _ => None,
    }));
    let texts: Vec<_> = seen.iter().map(|draft| draft.content.as_str()).collect();
    assert_eq!(texts, ["before", "waiting", "between", "decided yes", "after"]);
}

#[tokio::test]
async fn what_has_no_terminal_says_so() {
    let stage = acp_stage().await;
    let session = stage.spawn(scripted(&[])).await;
    let provider = &session.provider;
    let refusals = [
        provider.terminal_input(&session.id, b"x", &ada()).await.unwrap_err(),
        provider.resize(&session.id, TerminalSize { cols: 80, rows: 24 }).await.unwrap_err(),
        provider.terminal_snapshot(&session.id).await.unwrap_err(),
    ];
    for error in refusals {
        assert!(matches!(&error, ProviderError::NotCapable { reason, .. } if reason.contains("pipes")), "{error}");
    }
    let info = provider.session(&session.id).await.unwrap();
    assert!(info.capabilities.contains(&Capability::Approve) && !info.capabilities.contains(&Capability::Terminal));
}
