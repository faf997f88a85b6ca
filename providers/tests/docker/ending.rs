//! Pause, stop and kill, proven.

use bus_schema::{Capability, Status};
use providers::{AgentProvider, News, Protocol, ProviderError};
use serde_json::json;

use crate::harness::{Stage, ada, agent, profile, with_input};

fn state(stage: &Stage, container: &str) -> serde_json::Value {
    stage.engine.inspect(container).unwrap().unwrap()["State"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_a_pause_is_proven_whoever_made_it() {
    let stage = Stage::new().await;
    let (container, mut session) =
        stage.launch("while :; do echo tick; sleep 0.05; done", json!({}), with_input()).await;
    session.message("tick").await;
    stage.provider.pause(&session.id, &ada()).await.unwrap();
    assert_eq!(state(&stage, &container)["Paused"], true);
    let info = stage.provider.session(&session.id).await.unwrap();
    assert_eq!((info.status, info.status_reason.as_deref()), (Status::Paused, Some("paused by Ada")));
    assert_eq!(session.status(Status::Paused).await.as_deref(), Some("paused by Ada"));
    stage.provider.resume(&session.id, &ada()).await.unwrap();
    assert_eq!(state(&stage, &container)["Paused"], false);
    session.status(Status::Running).await;
    // By somebody else.
    stage.engine.ask("POST", &format!("/containers/{container}/pause"), None).unwrap();
    assert_eq!(session.status(Status::Paused).await.as_deref(), Some("paused at the container engine"));
    stage.engine.ask("POST", &format!("/containers/{container}/unpause"), None).unwrap();
    session.status(Status::Running).await;
    session.message("tick").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_a_first_process_that_ignores_signals_is_ended_after_its_time() {
    let stage = Stage::new().await;
    // Without an init, a shell as first process does not hear SIGTERM.
    let labels = json!({"dev.mosaic.stop-timeout": "1"});
    let (container, mut session) =
        stage.launch("trap '' TERM; echo up; while :; do sleep 1; done", labels, json!({})).await;
    session.message("up").await;
    stage.provider.terminate(&session.id, &ada()).await.unwrap();
    let end = session.end().await;
    assert_eq!((end.status, end.exit_code, end.reason.as_str()), (Status::Killed, Some(137), "terminated by Ada"));
    assert_eq!(state(&stage, &container)["Running"], false);
    // What has ended needs no ending.
    stage.provider.terminate(&session.id, &ada()).await.unwrap();
    assert!(matches!(stage.provider.pause(&session.id, &ada()).await, Err(ProviderError::WrongState { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_a_paused_container_is_asked_to_end_too() {
    let stage = Stage::new().await;
    let script = "trap 'echo leaving; exit 0' TERM; echo up; while :; do sleep 0.1; done";
    let (_, mut session) = stage.launch(script, json!({}), with_input()).await;
    session.message("up").await;
    stage.provider.pause(&session.id, &ada()).await.unwrap();
    stage.provider.terminate(&session.id, &ada()).await.unwrap();
    let end = session.end().await;
    // It ended in order, and because an operator wanted it.
    assert_eq!((end.status, end.exit_code), (Status::Killed, Some(0)));
    assert!(session.messages().contains(&"leaving".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_a_programs_own_way_to_leave_comes_first() {
    let stage = Stage::new().await;
    let script = "trap 'echo interrupted; exit 5' INT; echo up; while :; do sleep 0.1; done";
    let mut session = stage.spawn(profile(Protocol::Lines, script)).await;
    session.message("up").await;
    stage.provider.terminate(&session.id, &ada()).await.unwrap();
    let end = session.end().await;
    assert_eq!((end.status, end.exit_code), (Status::Killed, Some(5)));
    assert!(session.messages().contains(&"interrupted".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_a_kill_takes_every_process_and_names_them() {
    let stage = Stage::new().await;
    let script = "trap '' TERM INT HUP; sleep 601 & sleep 602 & echo up; wait";
    let more = json!({"HostConfig": {"Init": true, "RestartPolicy": {"Name": "always"}}});
    let (container, mut session) = stage.launch(script, json!({}), more).await;
    session.message("up").await;
    stage.provider.pause(&session.id, &ada()).await.unwrap();
    let report = stage.provider.kill(&session.id, &ada()).await.unwrap();
    assert_eq!((report.containment.as_str(), report.survivors.len()), ("container", 0));
    assert!(report.ended.len() >= 4, "{report:?}");
    assert!(report.ended.iter().filter(|process| process.name == "sleep").count() == 2, "{report:?}");
    for process in &report.ended {
        assert!(!std::path::Path::new(&format!("/proc/{}", process.pid)).exists(), "{process:?} lives");
    }
    let end = session.end().await;
    assert_eq!((end.status, end.exit_code, end.report), (Status::Killed, Some(137), Some(report)));
    // Its restart policy does not bring it back.
    assert_eq!(state(&stage, &container)["Running"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_running_out_of_memory_is_said() {
    let stage = Stage::new().await;
    let more = json!({"HostConfig": {"Memory": 16 * 1024 * 1024, "MemorySwap": 16 * 1024 * 1024}});
    let (_, mut session) = stage.launch("echo up; exec tail /dev/zero", json!({}), more).await;
    let end = session.end().await;
    assert_eq!((end.status, end.exit_code), (Status::Failed, Some(137)));
    assert!(end.reason.contains("out of memory"), "{}", end.reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_a_container_that_removes_itself_tells_how_it_ended() {
    let stage = Stage::new().await;
    let more = json!({"OpenStdin": true, "HostConfig": {"AutoRemove": true, "Init": true}});
    let (_, mut session) = stage.launch("echo up; read x; echo bye; exit 9", json!({}), more).await;
    session.message("up").await;
    session.inject("m1", "go").await.unwrap();
    let end = session.end().await;
    assert_eq!((end.status, end.exit_code), (Status::Failed, Some(9)));
    assert_eq!(session.messages().last().map(String::as_str), Some("bye"));
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_what_a_container_cannot_do_is_refused_with_a_reason() {
    let stage = Stage::new().await;
    let (_, session) = stage.launch("sleep 600", json!({}), with_input()).await;
    let size = bus_schema::TerminalSize { cols: 80, rows: 24 };
    for (capability, refused) in [
        (Capability::Resize, stage.provider.resize(&session.id, size).await.err()),
        (Capability::Input, stage.provider.terminal_input(&session.id, b"x", &ada()).await.err()),
        (Capability::Terminal, stage.provider.terminal_snapshot(&session.id).await.err()),
    ] {
        let Some(ProviderError::NotCapable { capability: told, reason }) = refused else { panic!("{capability:?}") };
        assert_eq!(told, capability);
        let info = stage.provider.session(&session.id).await.unwrap();
        assert_eq!(info.metadata["notCapable"][capability.as_str()], reason);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_a_created_container_waits_until_it_is_started() {
    let stage = Stage::new().await;
    let container = stage.engine.create("echo up; sleep 600", agent(json!({})), with_input()).unwrap();
    let id = stage.id_of(&container, 0).await;
    let mut session = stage.session(&id, Default::default()).await;
    session.status(Status::Spawning).await;
    stage.engine.ask("POST", &format!("/containers/{container}/start"), None).unwrap();
    session.message("up").await;
    let told = session.seen.iter().any(|event| matches!(event.news, News::Status { status: Status::Running, .. }));
    assert!(told);
}
