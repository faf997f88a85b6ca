//! A soft pause is what it says, no longer than it is so, and only where the node's configuration offers it.

use bus_schema::{Capability, InjectMode, Role, Status};
use providers::{AgentProvider, News, OperatorMessage, ProviderError};
use serde_json::{Value, json};

use crate::harness::{Stage, Watched, ada, new_message, script};

/// What takes up a run that was cut, as the model sees it.
const GO_ON: &str = "Go on where you left off";

#[tokio::test(flavor = "multi_thread")]
async fn openclaw_sessions_can_be_paused_softly_where_that_is_configured() {
    let mut stage = Stage::new(json!({})).await;
    without_being_configured_it_is_refused(&stage).await;
    stage.soft_pause = true;
    stage.reopen().await;
    stage.healthy().await;
    let mut session = stage.spawn().await;
    let info = stage.provider.session(&session.id).await.unwrap();
    assert!(info.capabilities.contains(&Capability::Pause) && info.capabilities.contains(&Capability::Resume));
    assert!(info.metadata["softPause"].as_str().unwrap().contains("soft pause"), "{:?}", info.metadata);
    a_run_is_ended_with_its_step_and_fenced(&stage, &mut session).await;
    let mut session = another_node_agent_finds_it_paused(&mut stage, &session).await;
    a_resume_goes_on(&stage, &mut session).await;
    what_an_operator_said_meanwhile_says_how_to_go_on(&stage, &mut session).await;
    a_run_that_begins_all_the_same_is_told(&stage, &mut session).await;
}

async fn without_being_configured_it_is_refused(stage: &Stage) {
    let session = stage.spawn().await;
    let info = stage.provider.session(&session.id).await.unwrap();
    assert!(!info.capabilities.contains(&Capability::Pause));
    assert!(info.metadata["notCapable"]["pause"].as_str().unwrap().contains("soft_pause = true"));
    let refused = stage.provider.pause(&session.id, &ada()).await.unwrap_err();
    let is_so = matches!(&refused, ProviderError::NotCapable { reason, .. } if reason.contains("soft_pause = true"));
    assert!(is_so, "{refused:?}");
}

/// What the gateway has of a session.
async fn row(stage: &Stage, session: &Watched, archived: bool) -> Value {
    let key = stage.provider.session(&session.id).await.unwrap().metadata["gatewayKey"].clone();
    let rows = stage.other_client(vec![("sessions.list", json!({ "archived": archived }))]).await;
    let found = rows[0]["sessions"].as_array().unwrap().iter().find(|row| row["key"] == key).cloned();
    found.unwrap_or_else(|| panic!("{key} is not among {rows:#?}"))
}

async fn pause_at_work(stage: &Stage, session: &mut Watched) {
    session.inject(&script(&json!([{"text": "w", "chunks": 400, "delay_ms": 250}])), InjectMode::Steer).await;
    session.until("it writes", |e| matches!(e.news, News::Delta(_)).then_some(())).await;
    stage.provider.pause(&session.id, &ada()).await.unwrap();
    session.status(Status::Paused).await;
}

async fn a_run_is_ended_with_its_step_and_fenced(stage: &Stage, session: &mut Watched) {
    let file = stage.gateway.workspace().join("step");
    let command = format!("sleep 1; touch {}", file.display());
    let steps = json!([{"tool": "exec", "args": {"command": command}}, {"text": "w", "chunks": 400, "delay_ms": 250}]);
    session.inject(&script(&steps), InjectMode::Steer).await;
    session.said("sleep 1").await;
    stage.provider.pause(&session.id, &ada()).await.unwrap();
    assert!(file.exists(), "the step was not finished");
    let reason = session.until("it is paused", |e| match &e.news {
        News::Status { status: Status::Paused, reason, .. } => reason.clone(),
        _ => None,
    });
    let reason = reason.await;
    assert!(reason.starts_with("soft pause by Ada: its run was ended"), "{reason}");
    let row = row(stage, session, true).await;
    assert_eq!((&row["archived"], &row["hasActiveRun"]), (&json!(true), &json!(false)), "{row:#}");
    // A second time changes nothing, and no word goes in.
    stage.provider.pause(&session.id, &ada()).await.unwrap();
    let (message_id, mode) = (new_message(), InjectMode::Steer);
    let message = OperatorMessage { message_id, operator: ada(), content: "too early".into(), mode };
    let held = stage.provider.inject(&session.id, message).await.unwrap_err();
    assert!(matches!(held, ProviderError::WrongState { status: Status::Paused, .. }), "{held:?}");
    assert_eq!(stage.asked("too early"), 0);
}

async fn another_node_agent_finds_it_paused(stage: &mut Stage, session: &Watched) -> Watched {
    stage.reopen().await;
    stage.healthy().await;
    let info = stage.provider.session(&session.id).await.unwrap();
    assert_eq!(info.status, Status::Paused, "{info:?}");
    assert!(info.status_reason.unwrap().starts_with("soft pause"));
    let mut again = stage.watch(&session.id, Default::default()).await;
    again.status(Status::Paused).await;
    again
}

async fn a_resume_goes_on(stage: &Stage, session: &mut Watched) {
    stage.provider.resume(&session.id, &ada()).await.unwrap();
    session.status(Status::Running).await;
    session.said(GO_ON).await;
    session.status(Status::Waiting).await;
    assert_eq!(stage.asked(GO_ON), 1);
    assert_eq!(row(stage, session, false).await["archived"], json!(false));
    let told = session.messages();
    let by_us: Vec<_> = told.iter().filter(|(role, _, text)| *role != Role::Agent && text.contains(GO_ON)).collect();
    assert!(matches!(by_us[..], [(Role::System, ..)]), "{by_us:?}");
    // Resuming what is not paused changes nothing.
    stage.provider.resume(&session.id, &ada()).await.unwrap();
}

async fn what_an_operator_said_meanwhile_says_how_to_go_on(stage: &Stage, session: &mut Watched) {
    pause_at_work(stage, session).await;
    let (message_id, mode) = (new_message(), InjectMode::Steer);
    let message = OperatorMessage { message_id, operator: ada(), content: "turn left at the oak".into(), mode };
    stage.provider.inject(&session.id, message.clone()).await.unwrap_err();
    stage.provider.resume(&session.id, &ada()).await.unwrap();
    // The node hands it over again.
    stage.provider.inject(&session.id, message).await.unwrap();
    session.said("turn left at the oak").await;
    session.status(Status::Waiting).await;
    assert_eq!((stage.asked("turn left at the oak"), stage.asked(GO_ON)), (1, 1));
}

async fn a_run_that_begins_all_the_same_is_told(stage: &Stage, session: &mut Watched) {
    stage.provider.pause(&session.id, &ada()).await.unwrap();
    session.status(Status::Paused).await;
    let key = stage.provider.session(&session.id).await.unwrap().metadata["gatewayKey"].clone();
    let generation = row(stage, session, true).await["sessionId"].clone();
    let restore = json!({"key": key, "archived": false, "expectedSessionId": generation});
    let words = script(&json!([{"text": "v", "chunks": 20, "delay_ms": 250}]));
    let say = json!({"sessionKey": key, "message": words, "idempotencyKey": "theirs-2"});
    stage.other_client(vec![("sessions.patch", restore), ("chat.send", say)]).await;
    let reason = session.until("it runs", |e| match &e.news {
        News::Status { status: Status::Running, reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert!(reason.await.unwrap().starts_with("the soft pause is over"));
    session.status(Status::Waiting).await;
    let told = session.messages();
    let over = told.iter().filter(|(role, _, text)| *role == Role::System && text.contains("soft pause is over"));
    assert_eq!(over.count(), 1, "{told:?}");
}
