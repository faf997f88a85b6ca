//! Containers as they come and go, and what their labels say.

use bus_schema::Status;
use providers::{AgentProvider, Position, Protocol, ProviderError};
use serde_json::json;
use testkit::Dockerd;

use crate::harness::{Stage, ada, agent, new_id, profile, request, wait_until, with_input};

#[tokio::test(flavor = "multi_thread")]
async fn docker_containers_are_found_at_the_start_and_as_they_come() {
    let engine = Dockerd::start(false).unwrap();
    let before = engine.launch("echo early; sleep 600", agent(json!({})), with_input()).unwrap();
    let gone = engine.launch("echo gone; exit 3", agent(json!({})), json!({})).unwrap();
    wait_until("it has ended", async || {
        let found = engine.inspect(&gone).unwrap().unwrap();
        if found["State"]["Status"] == "exited" { Ok(()) } else { Err(found["State"].to_string()) }
    })
    .await;
    let stage = Stage::over(engine).await;
    let mut appeared = stage.provider.watch();
    for (container, text) in [(&before, "early"), (&gone, "gone")] {
        let id = stage.id_of(container, 0).await;
        stage.session(&id, Position::default()).await.message(text).await;
    }
    let id = stage.id_of(&gone, 0).await;
    let end = stage.session(&id, Position::default()).await.end().await;
    assert_eq!((end.status, end.exit_code), (Status::Failed, Some(3)));

    let live = stage.engine.launch("echo live; sleep 600", agent(json!({})), with_input()).unwrap();
    let id = stage.id_of(&live, 0).await;
    let mut session = stage.session(&id, Position::default()).await;
    session.message("live").await;
    assert_eq!(session.statuses().last(), Some(&Status::Running));
    wait_until("it was told", async || {
        let new = appeared.recv().await.unwrap().session_id;
        if new == id { Ok(()) } else { Err(new.to_string()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_labels_become_facts() {
    let stage = Stage::new().await;
    let parent = new_id();
    let labels = json!({
        "dev.mosaic.name": "reviewer", "dev.mosaic.kind": "codex", "dev.mosaic.parent-id": parent.as_str(),
        "dev.mosaic.task": "T-1", "dev.mosaic.task-source": "external", "dev.mosaic.mission": "M-1",
        "dev.mosaic.inject": "none",
    });
    let (container, session) = stage.launch("sleep 600", labels, json!({})).await;
    let info = stage.provider.session(&session.id).await.unwrap();
    assert_eq!((info.title.as_deref(), info.agent_type.as_deref()), (Some("reviewer"), Some("codex")));
    assert_eq!(info.parent_session_id, Some(parent));
    for (key, value) in
        [("taskId", "T-1"), ("taskSource", "external"), ("missionId", "M-1"), ("containerId", container.as_str())]
    {
        assert_eq!(info.metadata[key], value, "{key}");
    }
    let why = info.metadata["notCapable"]["inject"].as_str().unwrap();
    assert!(why.contains("none"), "{why}");
    assert_eq!(info.metadata["managed"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_containers_without_our_label_are_never_touched() {
    let stage = Stage::new().await;
    // Everything but the label: a name of ours, the other labels, and `false`.
    let labels =
        json!({"dev.mosaic.agent": "false", "dev.mosaic.managed": "true", "dev.mosaic.session-id": new_id().as_str()});
    let foreign = stage.engine.launch("while read x; do echo $x; done", labels, with_input()).unwrap();
    let (_, mut ours) = stage.launch("echo here; sleep 600", json!({}), with_input()).await;
    ours.message("here").await;
    let sessions = stage.provider.sessions().await.unwrap();
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    stage.provider.kill(&ours.id, &ada()).await.unwrap();
    ours.end().await;
    stage.provider.forget(&ours.id).await.unwrap();
    let found = stage.engine.inspect(&foreign).unwrap().unwrap();
    assert_eq!((&found["State"]["Status"], &found["RestartCount"]), (&json!("running"), &json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_forget_removes_only_what_the_mesh_made() {
    let mut stage = Stage::new().await;
    let (observed, mut session) = stage.launch("exit 0", json!({}), json!({})).await;
    let end = session.end().await;
    assert_eq!((end.status, end.exit_code), (Status::Completed, Some(0)));
    stage.provider.forget(&session.id).await.unwrap();
    assert!(stage.engine.inspect(&observed).unwrap().is_some(), "an observed container stays");

    let mut managed = stage.spawn(profile(Protocol::Lines, "echo hello")).await;
    managed.message("hello").await;
    managed.end().await;
    let container =
        stage.provider.session(&managed.id).await.unwrap().metadata["containerId"].as_str().unwrap().to_owned();
    stage.provider.forget(&managed.id).await.unwrap();
    assert!(stage.engine.inspect(&container).unwrap().is_none(), "a managed one goes");
    assert_eq!(stage.provider.sessions().await.unwrap().len(), 0);

    // A new node agent does not show again what was forgotten, until it lives again.
    stage.replace().await;
    let (_, mut marker) = stage.launch("echo marker; sleep 600", json!({}), json!({})).await;
    marker.message("marker").await;
    assert_eq!(stage.provider.sessions().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_spawn_says_what_is_missing_and_sets_what_was_asked() {
    let stage = Stage::new().await;
    let mut missing = profile(Protocol::Lines, "true");
    missing.image = Some("nowhere.invalid/none:7".into());
    let error = stage.provider.spawn(request(&new_id(), missing)).await.unwrap_err();
    assert!(error.to_string().contains("docker pull nowhere.invalid/none:7"), "{error}");
    let acp = profile(Protocol::Acp, "true");
    assert!(matches!(stage.provider.spawn(request(&new_id(), acp)).await, Err(ProviderError::Invalid(_))));
    assert_eq!(stage.provider.sessions().await.unwrap().len(), 0);

    let (id, parent) = (new_id(), new_id());
    let shared = stage.dir.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    let mut profile = profile(Protocol::Lines, "env; echo written > /shared/file; sleep 600");
    profile.env.insert("COLOUR".into(), "green".into());
    profile.mounts = vec![format!("{}:/shared", shared.display())];
    profile.limits =
        Some(providers::ContainerLimits { memory_bytes: Some(64 * 1024 * 1024), cpus: Some(0.5), pids: Some(50) });
    profile.labels.insert("team".into(), "blue".into());
    let mut asked = request(&id, profile);
    asked.parent_session_id = Some(parent.clone());
    asked.title = Some("painter".into());
    asked.env.insert("MOSAIC_NODE".into(), "n1".into());
    let info = stage.provider.spawn(asked).await.unwrap();
    assert_eq!((info.parent_session_id, info.title.as_deref()), (Some(parent.clone()), Some("painter")));
    let mut session = stage.session(&id, Position::default()).await;
    for line in [
        format!("MOSAIC_SESSION_ID={id}"),
        format!("MOSAIC_PARENT_SESSION_ID={parent}"),
        "MOSAIC_NODE=n1".into(),
        "COLOUR=green".into(),
    ] {
        stage.session(&id, Position::default()).await.message(&line).await;
    }
    wait_until("the mount is written to", async || {
        std::fs::read_to_string(shared.join("file")).map_err(|e| e.to_string())
    })
    .await;
    let container = stage.provider.session(&id).await.unwrap().metadata["containerId"].as_str().unwrap().to_owned();
    let found = stage.engine.inspect(&container).unwrap().unwrap();
    let (host, labels) = (&found["HostConfig"], &found["Config"]["Labels"]);
    assert_eq!(
        (&host["Memory"], &host["NanoCpus"], &host["PidsLimit"]),
        (&json!(67_108_864), &json!(500_000_000), &json!(50))
    );
    assert_eq!((&host["Init"], &labels["team"]), (&json!(true), &json!("blue")));
    assert_eq!(
        (&labels["dev.mosaic.managed"], &labels["dev.mosaic.session-id"]),
        (&json!("true"), &json!(id.as_str()))
    );
    stage.provider.kill(&id, &ada()).await.unwrap();
    session.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_a_restart_is_the_same_session_and_a_new_start_is_another() {
    let stage = Stage::new().await;
    let more = json!({"HostConfig": {"Init": true, "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 1}}});
    let (container, mut session) = stage.launch("echo life; sleep 1; exit 7", json!({}), more).await;
    session.message("life").await;
    session.message("life").await;
    let end = session.end().await;
    assert_eq!((end.status, end.exit_code), (Status::Failed, Some(7)));
    let statuses = session.statuses();
    assert!(statuses.iter().filter(|status| **status == Status::Spawning).count() >= 1, "{statuses:?}");
    assert_eq!(stage.provider.sessions().await.unwrap().len(), 1);
    // An end is final: whoever starts it again starts a new session, without the lines of the old one.
    stage.engine.ask("POST", &format!("/containers/{container}/start"), None).unwrap();
    let next = stage.id_of(&container, 1).await;
    assert_ne!(next, session.id);
    let mut again = stage.session(&next, Position::default()).await;
    again.end().await;
    assert!((1..=2).contains(&again.messages().len()), "{:?}", again.messages());
    assert_eq!(stage.provider.session(&session.id).await.unwrap().status, Status::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_restart_by_hand_is_the_same_session() {
    let stage = Stage::new().await;
    let (container, mut session) = stage.launch("echo life; sleep 600", json!({}), with_input()).await;
    session.message("life").await;
    stage.engine.ask("POST", &format!("/containers/{container}/restart?t=1"), None).unwrap();
    session.message("life").await;
    while session.statuses() != [Status::Running, Status::Spawning, Status::Running] {
        assert!(session.next().await.is_some(), "{:?}", session.seen);
    }
    assert_eq!(stage.provider.sessions().await.unwrap().len(), 1);
}
