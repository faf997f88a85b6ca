//! An engine that goes away, and comes back.

use bus_schema::Status;
use providers::{AgentProvider, Protocol, ProviderError};
use serde_json::json;
use testkit::Dockerd;

use crate::harness::{Stage, ada, agent, numbers, profile, wait_until, with_input};

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
async fn docker_a_start_that_was_broken_off_is_settled() {
    let mut stage = Stage::new().await;
    let running = stage.spawn(profile(Protocol::Lines, "echo up; sleep 600")).await;
    let (never, missing) = (
        stage.spawn(profile(Protocol::Lines, "sleep 600")).await,
        stage.spawn(profile(Protocol::Lines, "sleep 600")).await,
    );
    let container = |id: &str| format!("mosaic-{}", id.to_ascii_lowercase());
    stage.provider.shutdown().await;
    // As a node agent leaves it that is killed before it knows the container: it runs, is only created, is not there.
    for session in [&running, &never, &missing] {
        let card = stage.config.dir.join("sessions").join(session.id.as_str()).join("card.json");
        let mut kept: serde_json::Value = serde_json::from_slice(&std::fs::read(&card).unwrap()).unwrap();
        kept["container"] = serde_json::Value::Null;
        std::fs::write(&card, kept.to_string()).unwrap();
    }
    let labels = json!({"dev.mosaic.managed": "true", "dev.mosaic.session-id": never.id.as_str()});
    for session in [&never, &missing] {
        let path = format!("/containers/{}?force=1", container(session.id.as_str()));
        stage.engine.ask("DELETE", &path, None).unwrap();
    }
    let created = stage.engine.create("sleep 600", agent(labels), with_input()).unwrap();
    let path = format!("/containers/{created}/rename?name={}", container(never.id.as_str()));
    stage.engine.ask("POST", &path, None).unwrap();
    stage.replace().await;
    let mut again = stage.session(&running.id, Default::default()).await;
    again.message("up").await;
    for session in [&never, &missing] {
        let mut session = stage.session(&session.id, Default::default()).await;
        let end = session.end().await;
        assert_eq!(end.status, Status::Failed);
        assert!(end.reason.contains("while it started the container"), "{}", end.reason);
    }
    assert!(stage.engine.inspect(&created).unwrap().is_none(), "what never ran is taken away");
    assert_eq!(stage.provider.sessions().await.unwrap().len(), 3);
    stage.provider.kill(&running.id, &ada()).await.unwrap();
    again.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_a_program_beside_the_node_ends_sessions_and_keeps_none() {
    let stage = Stage::new().await;
    let mut session = stage.spawn(profile(Protocol::Lines, "echo up; sleep 600")).await;
    session.message("up").await;
    // A second keeper is refused; one beside sees the session, and ends it as whoever asked for it.
    let refused = providers::DockerProvider::start(stage.config.clone()).await;
    assert!(matches!(refused.map(|_| ()), Err(ProviderError::Unavailable { .. })));
    let config = providers::DockerConfig { is_beside: true, ..stage.config.clone() };
    let beside = providers::DockerProvider::start(config).await.unwrap();
    assert_eq!(beside.sessions().await.unwrap().len(), 1);
    beside.terminate(&session.id, &ada()).await.unwrap();
    let end = session.end().await;
    assert_eq!((end.status, end.reason.as_str()), (Status::Killed, "terminated by Ada"));
    wait_until("it is seen beside too", async || {
        let status = beside.session(&session.id).await.unwrap().status;
        if status == Status::Killed { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    beside.shutdown().await;
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
