//! Sub-agents hang under the session that started them, and end with it.

use bus_schema::{InjectMode, Status};
use providers::AgentProvider;
use serde_json::json;
use testkit::wait_until;

use crate::harness::{PATIENCE, Stage, ada, script};

#[tokio::test(flavor = "multi_thread")]
async fn openclaw_sessions_end_with_their_children_and_with_proof() {
    let stage = Stage::new(json!({})).await;
    a_kill_ends_parent_and_child_and_fences_them(&stage).await;
    a_session_at_work_that_is_asked_to_end_finishes_its_step(&stage).await;
}

async fn a_kill_ends_parent_and_child_and_fences_them(stage: &Stage) {
    let mut appeared = stage.provider.watch();
    let mut parent = stage.spawn().await;
    let task = script(&json!([{"text": "child", "chunks": 400, "delay_ms": 250}]));
    let steps = json!([{"spawn": task, "label": "kid"}, {"text": "parent", "chunks": 400, "delay_ms": 250}]);
    parent.inject(&script(&steps), InjectMode::Steer).await;
    let child = stage.find("the child is found", |info| info.title.as_deref() == Some("kid")).await;
    assert_eq!(child.parent_session_id.as_ref(), Some(&parent.id));
    let told = tokio::time::timeout(PATIENCE, appeared.recv()).await.unwrap().unwrap();
    assert_eq!(told.session_id, child.session_id);
    let mut child = stage.watch(&child.session_id, Default::default()).await;
    child.status(Status::Running).await;

    let report = stage.provider.kill(&parent.id, &ada()).await.unwrap();
    assert_eq!((report.containment.as_str(), report.survivors.len()), ("gateway", 0), "{report:?}");
    assert_eq!(report.ended.len(), 2, "{report:?}");
    assert!(report.steps.iter().any(|step| step.step == "beyond reach"), "{report:?}");
    assert_eq!(parent.ended().await.status, Status::Killed);
    assert_eq!(child.ended().await.status, Status::Killed);
    assert!(parent.events.recv().await.is_none() && child.events.recv().await.is_none());
    for id in [&parent.id, &child.id] {
        assert_eq!(stage.provider.session(id).await.unwrap().status, Status::Killed);
    }
    // The gateway itself says so, and takes no more for them.
    let rows = stage.other_client(vec![("sessions.list", json!({"archived": true}))]).await;
    let rows = rows[0]["sessions"].as_array().unwrap().clone();
    let key = stage.provider.session(&parent.id).await.unwrap().metadata["gatewayKey"].clone();
    let row = rows.iter().find(|row| row["key"] == key).unwrap();
    assert_eq!((&row["archived"], &row["hasActiveRun"]), (&json!(true), &json!(false)));
    stage.provider.forget(&parent.id).await.unwrap();
    assert!(stage.provider.session(&parent.id).await.is_err());
}

async fn a_session_at_work_that_is_asked_to_end_finishes_its_step(stage: &Stage) {
    let mut session = stage.spawn().await;
    let file = stage.gateway.workspace().join("step");
    let command = format!("sleep 3; touch {}", file.display());
    let steps = json!([{"tool": "exec", "args": {"command": command}}, {"text": "w", "chunks": 400, "delay_ms": 250}]);
    session.inject(&script(&steps), InjectMode::Steer).await;
    session.said("sleep 3").await;
    stage.provider.terminate(&session.id, &ada()).await.unwrap();
    stage.provider.terminate(&session.id, &ada()).await.unwrap();
    assert_eq!(session.ended().await.status, Status::Killed);
    assert!(file.exists(), "the step was not finished");
    let is_quiet = async || {
        let calls = stage.gateway.model_calls().unwrap();
        calls.iter().filter(|call| call["aborted"] == true).count() >= 1
    };
    wait_until("nobody reads from the model any more", PATIENCE, is_quiet).await.unwrap();
}
