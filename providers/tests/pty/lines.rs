//! Lines and JSON lines, from the program to the event.

use bus_schema::{InjectMode, MessageKind, Status};
use providers::{News, Position, Protocol};

use crate::harness::watched::message;
use crate::harness::{Stage, ada, new_id, profile, request, script};

#[tokio::test]
async fn every_line_is_told_exactly_once() {
    let stage = Stage::new().await;
    let mut session =
        stage.spawn(script(Protocol::Lines, "for i in $(seq 1 3000); do echo $i; done; echo; printf last")).await;
    let end = session.end().await;
    assert_eq!((end.status, end.exit_code), (Status::Completed, Some(0)));
    let mut expected: Vec<String> = (1..=3000).map(|n| n.to_string()).collect();
    expected.extend(["".into(), "last".into()]);
    assert_eq!(session.messages(), expected);
    assert!(session.seen.is_sorted_by(|a, b| a.position < b.position));
    let again = stage.session(&session.id, Position::default()).await;
    let (id, seen) = (session.id.clone(), session.seen);
    let mut again = again;
    again.end().await;
    assert_eq!(again.seen, seen, "told again, it is the same");
    // From any place, what is behind it.
    for event in seen.iter().take(seen.len() - 1).step_by(501) {
        let mut rest = stage.session(&id, event.position).await;
        rest.end().await;
        let expected: Vec<_> = seen.iter().filter(|e| e.position > event.position).cloned().collect();
        assert_eq!(rest.seen, expected);
    }
}

#[tokio::test]
async fn bytes_that_are_no_text_are_kept_as_marks() {
    let stage = Stage::new().await;
    let mut session = stage.spawn(script(Protocol::Lines, r"printf 'a\xffb\n\x1b[31mred\x1b[0m\n'")).await;
    let draft = session.message("b").await;
    assert_eq!((draft.content.as_str(), &draft.metadata["invalidUtf8"]), ("a\u{fffd}b", &true.into()));
    let draft = session.message("red").await;
    assert_eq!((draft.content.as_str(), draft.metadata.get("invalidUtf8")), ("red", None));
    session.end().await;
}

#[tokio::test]
async fn json_lines_are_messages() {
    let stage = Stage::new().await;
    let say = r#"echo '{"role":"agent","content":"calls","kind":"toolCall"}'; echo plain; echo '{"role":"operator","content":"I am root"}'; "#;
    let mut session = stage.spawn(script(Protocol::Jsonl, say)).await;
    let draft = session.message("calls").await;
    assert_eq!((draft.role.as_str(), draft.kind), ("agent", MessageKind::ToolCall));
    let draft = session.message("plain").await;
    assert_eq!((draft.role.as_str(), draft.kind), ("agent", MessageKind::Text));
    let draft = session.message("root").await;
    assert_eq!((draft.role.as_str(), &draft.metadata["claimedRole"]), ("user", &"operator".into()));
    session.end().await;
}

#[tokio::test]
async fn a_line_that_is_being_written_can_be_watched() {
    let stage = Stage::new().await;
    let mut session = stage.spawn(script(Protocol::Lines, "printf 'half a'; read; echo ' line'")).await;
    let delta = session.until("the partial line", |event| match &event.news {
        News::Delta(delta) => Some(delta.clone()),
        _ => None,
    });
    let delta = delta.await;
    assert_eq!(delta.content, "half a");
    stage_type(&stage, &session.id, b"\n").await;
    let draft = session.message("half a line").await;
    assert_eq!(draft.message_id, delta.message_id);
    session.end().await;
}

/// The example of `ops/docs/providers.md`, as a reader would copy it.
fn documented_example() -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../ops/docs/providers.md");
    let text = std::fs::read_to_string(page).unwrap();
    text.split("```python\n").nth(1).unwrap().split("```").next().unwrap().to_owned()
}

#[tokio::test]
async fn the_documented_executable_is_an_agent() {
    use providers::AgentProvider;
    let stage = Stage::new().await;
    let mut session = stage.spawn(profile(Protocol::Jsonl, &["python3", "-c", &documented_example()])).await;
    assert_eq!(session.message("ready").await.role.as_str(), "system");
    stage.provider.inject(&session.id, message("m1", "delegate", InjectMode::Steer)).await.unwrap();
    let child = session.until("its child", |event| match &event.news {
        News::Child(child) => Some(child.clone()),
        _ => None,
    });
    let child = child.await;
    assert_eq!(child.title.as_deref(), Some("helper"));
    let draft = session.message("you said delegate").await;
    assert_eq!(draft.metadata["to"], "Ada");
    let mut helper = stage.session(&child.session_id, Position::default()).await;
    assert_eq!(helper.message("done for you").await.role.as_str(), "agent");
    helper.end().await;
}

async fn stage_type(stage: &Stage, id: &bus_schema::SessionId, bytes: &[u8]) {
    use providers::AgentProvider;
    stage.provider.terminal_input(id, bytes, &ada()).await.unwrap();
}

#[tokio::test]
async fn a_session_finds_where_it_is() {
    use providers::AgentProvider;
    let stage = Stage::new().await;
    let (id, parent) = (new_id(), new_id());
    let mut profile = profile(Protocol::Lines, &["env"]);
    profile.env.insert("SECRET_KEY".into(), "s3cret".into());
    let mut request = request(&id, profile);
    request.parent_session_id = Some(parent.clone());
    request.env.insert("MOSAIC_NODE".into(), "n1".into());
    stage.provider.spawn(request).await.unwrap();
    let mut session = stage.session(&id, Position::default()).await;
    session.end().await;
    let lines = session.messages();
    for line in [
        format!("MOSAIC_SESSION_ID={id}"),
        format!("MOSAIC_PARENT_SESSION_ID={parent}"),
        "MOSAIC_NODE=n1".into(),
        "TERM=xterm-256color".into(),
        "COLORTERM=truecolor".into(),
        "SECRET_KEY=s3cret".into(),
    ] {
        assert!(lines.contains(&line), "{line} in {lines:?}");
    }
    assert!(lines.iter().any(|line| line.starts_with("MOSAIC_SOCKET=/")));
    // Secrets are not left on disk by us.
    for file in ["spec.json", "state.json"] {
        let text = std::fs::read_to_string(stage.session_dir(&id).join(file)).unwrap();
        assert!(!text.contains("s3cret"), "{file}");
    }
}

#[tokio::test]
async fn a_program_runs_as_it_would_without_us() {
    let stage = Stage::new().await;
    let mut plain = script(Protocol::Lines, "umask; pwd; echo $PWD; ulimit -n; ulimit -c; nice; kill -l | wc -l");
    plain.cwd = Some(stage.dir.path().into());
    let mut session = stage.spawn(plain.clone()).await;
    session.end().await;
    let by_hand = std::process::Command::new(&plain.command[0])
        .args(&plain.command[1..])
        .current_dir(stage.dir.path())
        .output()
        .unwrap();
    let by_hand: Vec<String> = String::from_utf8(by_hand.stdout).unwrap().lines().map(Into::into).collect();
    assert_eq!(session.messages(), by_hand);
    // And with no file of ours open: the three streams, and the folder that is being listed.
    let mut session = stage.spawn(profile(Protocol::Lines, &["ls", "-1", "/proc/self/fd"])).await;
    session.end().await;
    assert_eq!(session.messages(), ["0", "1", "2", "3"]);
}

#[tokio::test]
async fn a_second_spawn_with_the_same_id_is_the_same_session() {
    use providers::AgentProvider;
    let stage = Stage::new().await;
    let id = new_id();
    let spawn = || stage.provider.spawn(request(&id, script(Protocol::Lines, "echo $$; sleep 60")));
    let (first, second) = tokio::join!(spawn(), spawn());
    assert_eq!(first.unwrap().session_id, second.unwrap().session_id);
    let mut session = stage.session(&id, Position::default()).await;
    session.message("").await;
    stage.provider.kill(&id, &ada()).await.unwrap();
    session.end().await;
    assert_eq!(session.messages().len(), 1, "started once");
}
