//! How sessions end.

use bus_schema::Status;
use providers::{AgentProvider, End, Position, Protocol, ProviderError};

use crate::harness::{Stage, ada, new_id, process, profile, request, script, wait_until};

async fn end_of(stage: &Stage, run: &str) -> End {
    let mut session = stage.spawn(script(Protocol::Lines, run)).await;
    session.end().await
}

#[tokio::test]
async fn exit_codes_and_signals_decide() {
    let stage = Stage::new().await;
    for (run, status, code) in [
        ("exit 0", Status::Completed, 0),
        ("exit 7", Status::Failed, 7),
        ("kill -TERM $$", Status::Failed, 143),
        ("kill -KILL $$", Status::Failed, 137),
        ("kill -SEGV $$", Status::Failed, 139),
    ] {
        let end = end_of(&stage, run).await;
        assert_eq!((&end.status, end.exit_code), (&status, Some(code)), "{run}: {end:?}");
        assert_eq!(end.error.is_some(), status == Status::Failed);
    }
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let stage = Stage::new().await;
    let script = stage.dir.path().join("script");
    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    let plain = stage.dir.path().join("plain");
    std::fs::write(&plain, "not a program").unwrap();
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    for (program, cwd, error) in [
        ("no-such-program-here".to_owned(), None, "was not found in PATH"),
        ("/no/such/program".to_owned(), None, "is not there"),
        (text(&script), None, "the interpreter that it names is not there"),
        (text(&plain), None, "not executable"),
        ("true".to_owned(), Some("/no/such/folder"), "/no/such/folder cannot be entered"),
    ] {
        let mut profile = profile(Protocol::Lines, &[&program]);
        profile.cwd = cwd.map(Into::into);
        let mut session = stage.spawn(profile).await;
        let end = session.end().await;
        assert_eq!((&end.status, end.reason.as_str()), (&Status::Failed, "could not be started"), "{end:?}");
        assert!(end.error.as_deref().unwrap_or_default().contains(error), "{end:?}");
        let info = stage.provider.session(&session.id).await.unwrap();
        assert_eq!((info.status, info.capabilities), (Status::Failed, vec![]));
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_before_anything_starts() {
    let stage = Stage::new().await;
    let mut wrong = profile(Protocol::Lines, &["true"]);
    wrong.provider = "docker".into();
    for profile in [wrong, profile(Protocol::Lines, &[])] {
        let result = stage.provider.spawn(request(&new_id(), profile)).await;
        assert!(matches!(result, Err(ProviderError::Invalid(_))), "{result:?}");
    }
    assert_eq!(stage.provider.sessions().await.unwrap(), []);
}

#[tokio::test]
async fn a_program_that_leaves_when_asked_is_asked_only_once() {
    let stage = Stage::new().await;
    let mut session = stage
        .spawn(script(Protocol::Lines, "trap 'echo bye; exit 3' INT; echo ready; while :; do sleep 0.05; done"))
        .await;
    session.message("ready").await;
    stage.provider.terminate(&session.id, &ada()).await.unwrap();
    stage.provider.terminate(&session.id, &ada()).await.unwrap();
    let end = session.end().await;
    assert!(session.messages().contains(&"bye".to_owned()), "{:?}", session.messages());
    assert_eq!((&end.status, end.exit_code), (&Status::Killed, Some(3)), "{end:?}");
    assert!(end.reason.contains("Ada"), "{end:?}");
    let steps: Vec<String> = end.report.unwrap().steps.into_iter().map(|step| step.step).collect();
    assert_eq!(steps[..2], ["thaw", "leave"]);
    assert!(!steps.contains(&"term".to_owned()), "{steps:?}");
    // What has ended needs no ending.
    stage.provider.terminate(&session.id, &ada()).await.unwrap();
}

#[tokio::test]
async fn a_program_that_does_not_leave_is_killed_in_the_end() {
    let stage = Stage::new().await;
    let mut stubborn = script(Protocol::Lines, "trap '' INT TERM HUP; echo ready; while :; do sleep 0.05; done");
    stubborn.stop.grace_ms = 200;
    let mut session = stage.spawn(stubborn).await;
    session.message("ready").await;
    stage.provider.terminate(&session.id, &ada()).await.unwrap();
    let end = session.end().await;
    assert_eq!((&end.status, end.exit_code), (&Status::Killed, Some(137)));
    let report = end.report.unwrap();
    let steps: Vec<&str> = report.steps.iter().map(|step| step.step.as_str()).collect();
    assert_eq!(steps, ["thaw", "leave", "term", "freeze", "kill"]);
    assert_eq!(report.survivors, []);
}

#[tokio::test]
async fn a_kill_breaks_into_a_termination() {
    let stage = Stage::new().await;
    let mut stubborn = script(Protocol::Lines, "trap '' INT TERM; echo ready; while :; do sleep 0.05; done");
    stubborn.stop.grace_ms = 600_000;
    let mut session = stage.spawn(stubborn).await;
    session.message("ready").await;
    stage.provider.terminate(&session.id, &ada()).await.unwrap();
    let report = stage.provider.kill(&session.id, &ada()).await.unwrap();
    assert_eq!(report.survivors, []);
    assert_eq!(session.end().await.status, Status::Killed);
}

#[tokio::test]
async fn a_holder_leaves_when_the_end_is_acknowledged() {
    let stage = Stage::new().await;
    let mut session = stage.spawn(script(Protocol::Lines, "echo one; read x")).await;
    session.message("one").await;
    let holder = stage.pid(&session.id, "holder");
    stage.provider.terminal_input(&session.id, b"\n", &ada()).await.unwrap();
    session.end().await;
    let gone = async || process(holder).map_or(Ok(()), |state| Err(format!("{state:?}")));
    let left = tokio::time::timeout(std::time::Duration::from_secs(20), wait_until("the holder leaves", gone)).await;
    assert!(left.is_ok(), "the holder stays although nobody needs it");
    assert!(!stage.session_dir(&session.id).join("holder.sock").exists());
    // The files tell the rest.
    let mut again = stage.session(&session.id, Position::default()).await;
    again.end().await;
    assert_eq!(again.seen, session.seen);
}

#[tokio::test]
async fn what_has_ended_can_be_looked_at_and_then_forgotten() {
    let stage = Stage::new().await;
    let mut session = stage.spawn(script(Protocol::Lines, "echo one; sleep 60")).await;
    session.message("one").await;
    let pid = stage.pid(&session.id, "child");
    assert!(matches!(stage.provider.forget(&session.id).await, Err(ProviderError::WrongState { .. })));
    stage.provider.kill(&session.id, &ada()).await.unwrap();
    session.end().await;
    assert_eq!(process(pid), None);
    let recent = stage.provider.recent_messages(&session.id, 10).await.unwrap();
    assert_eq!(recent.iter().map(|draft| draft.content.as_str()).collect::<Vec<_>>(), ["one"]);
    assert!(matches!(stage.provider.pause(&session.id, &ada()).await, Err(ProviderError::WrongState { .. })));
    stage.provider.forget(&session.id).await.unwrap();
    assert!(!stage.session_dir(&session.id).exists());
    let gone = stage.provider.subscribe(&session.id, Position::default()).await;
    assert!(matches!(gone, Err(ProviderError::UnknownSession(_))));
}
