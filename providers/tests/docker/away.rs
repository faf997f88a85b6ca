//! An engine that goes away, and comes back.

use bus_schema::Status;
use providers::{AgentProvider, ProviderError};
use serde_json::json;
use testkit::Dockerd;

use crate::harness::{Stage, ada, numbers, wait_until, with_input};

#[tokio::test(flavor = "multi_thread")]
async fn docker_an_engine_that_is_killed_in_the_middle_loses_no_line() {
    let mut stage = Stage::over(Dockerd::start(true).unwrap()).await;
    let script =
        "i=0; while [ $i -lt 5000 ]; do i=$((i+1)); echo $i; [ $((i % 50)) = 0 ] && sleep 0.05; done; sleep 600";
    let (_, mut session) = stage.launch(script, json!({}), with_input()).await;
    session.message("300").await;
    stage.engine.kill9();
    wait_until("it is missed", async || stage.provider.health().await.error.map(|_| ()).ok_or("healthy".into())).await;
    let error = stage.provider.health().await.error.unwrap();
    assert!(error.contains("start it") || error.contains("is it running"), "{error}");
    // The session stays what it was, and what cannot be done now is said.
    assert_eq!(stage.provider.session(&session.id).await.unwrap().status, Status::Running);
    let refused = stage.provider.pause(&session.id, &ada()).await;
    assert!(matches!(refused, Err(ProviderError::Unavailable { .. })), "{refused:?}");
    stage.engine.run().unwrap();
    session.message("1500").await;
    stage.engine.stop().unwrap();
    stage.engine.run().unwrap();
    session.message("5000").await;
    assert_eq!(session.messages(), numbers(5000));
    assert_eq!(session.statuses(), [Status::Running]);
    assert_eq!(stage.provider.health().await.error, None);
    stage.provider.kill(&session.id, &ada()).await.unwrap();
    session.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_containers_that_an_engine_takes_with_it_have_ended() {
    let mut stage = Stage::new().await;
    let (_, mut session) = stage.launch("echo up; sleep 600", json!({}), with_input()).await;
    session.message("up").await;
    stage.engine.stop().unwrap();
    stage.engine.run().unwrap();
    let end = session.end().await;
    assert_eq!((end.status, end.exit_code), (Status::Failed, Some(143)));
    // New ones are found again.
    let (_, mut next) = stage.launch("echo next; sleep 600", json!({}), with_input()).await;
    next.message("next").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_what_happens_while_nobody_looks_is_found_out() {
    let mut stage = Stage::new().await;
    let (_, session) = stage.launch("echo up; sleep 1; echo down; exit 4", json!({}), with_input()).await;
    let (gone, other) = stage.launch("echo up; sleep 600", json!({}), with_input()).await;
    stage.provider.shutdown().await;
    stage.engine.ask("DELETE", &format!("/containers/{gone}?force=1"), None).unwrap();
    wait_until("it has ended", async || {
        let all = stage.engine.ask("GET", "/containers/json", None).unwrap();
        if all.trim() == "[]" { Ok(()) } else { Err(all) }
    })
    .await;
    stage.replace().await;
    let mut session = stage.session(&session.id, Default::default()).await;
    let end = session.end().await;
    assert_eq!((end.status, end.exit_code), (Status::Failed, Some(4)));
    assert_eq!(session.messages(), ["up", "down"]);
    let mut other = stage.session(&other.id, Default::default()).await;
    let end = other.end().await;
    assert_eq!((end.status, end.exit_code), (Status::Failed, None));
    assert!(end.reason.contains("removed"), "{}", end.reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_a_node_without_an_engine_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = providers::DockerConfig::new(dir.path().join("docker"));
    config.socket = Some(dir.path().join("no.sock"));
    let provider = providers::DockerProvider::start(config).await.unwrap();
    let error = provider.health().await.error.unwrap();
    assert!(error.contains("systemctl start docker") && error.contains("no.sock"), "{error}");
    assert!(provider.sessions().await.unwrap().is_empty());
    provider.shutdown().await;
}
