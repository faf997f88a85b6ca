//! What containers write, told once and in order.

use bus_schema::{MessageKind, Status};
use providers::{AgentProvider, Position, Protocol};
use serde_json::json;

use crate::harness::{Stage, numbers, profile, wait_until, with_input};

#[tokio::test(flavor = "multi_thread")]
async fn docker_both_streams_are_told_with_their_names() {
    let stage = Stage::new().await;
    let (_, mut session) = stage.launch("echo out; echo err >&2; printf last; exit 0", json!({}), json!({})).await;
    let end = session.end().await;
    assert_eq!((end.status, end.exit_code), (Status::Completed, Some(0)));
    let mut texts = session.messages();
    texts.sort();
    assert_eq!(texts, ["err", "last", "out"]);
    let mut again = stage.session(&session.id, Position::default()).await;
    let err = again.message("err").await;
    assert_eq!(err.metadata["stream"], "stderr");
    again.end().await;
    assert_eq!(again.seen, session.seen, "told again, it is the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_terminals_are_told_line_by_line() {
    let stage = Stage::new().await;
    let (_, mut session) =
        stage.launch("echo one; echo two >&2; test -t 1 && echo tty", json!({}), json!({"Tty": true})).await;
    session.end().await;
    assert_eq!(session.messages(), ["one", "two", "tty"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_a_line_of_40000_characters_is_one_message() {
    let stage = Stage::new().await;
    for more in [json!({}), json!({"Tty": true})] {
        let script = "head -c 40000 /dev/zero | tr '\\0' 7; echo; echo next";
        let (_, mut session) = stage.launch(script, json!({}), more).await;
        session.end().await;
        assert_eq!(session.messages(), ["7".repeat(40_000), "next".into()]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_json_lines_are_messages() {
    let stage = Stage::new().await;
    let script = r#"echo '{"role":"agent","content":"calls","kind":"toolCall"}'; echo plain"#;
    let (_, mut session) = stage.launch(script, json!({"dev.mosaic.protocol": "jsonl"}), json!({})).await;
    assert_eq!(session.message("calls").await.kind, MessageKind::ToolCall);
    assert_eq!(session.message("plain").await.kind, MessageKind::Text);
    session.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_a_new_node_agent_goes_on_where_the_old_one_was() {
    let mut stage = Stage::new().await;
    let script =
        "i=0; while [ $i -lt 6000 ]; do i=$((i+1)); echo $i; [ $((i % 100)) = 0 ] && sleep 0.05; done; sleep 600";
    let mut session = stage.spawn(profile(Protocol::Lines, script)).await;
    let (mut texts, mut restarts) = (vec![], 0);
    while texts.len() < 6000 {
        session.message("").await;
        texts.extend(session.messages().pop());
        if texts.len() % 1500 == 0 && restarts < 3 {
            restarts += 1;
            let from = session.seen.last().unwrap().position;
            stage.replace().await;
            session = stage.session(&session.id, from).await;
        }
    }
    assert_eq!(texts, numbers(6000));
    assert_eq!(restarts, 3);
    // From the beginning, as far as it is kept, it is the same.
    let mut again = stage.session(&session.id, Position::default()).await;
    again.message("6000").await;
    assert_eq!(again.messages(), numbers(6000));
    assert_eq!(again.statuses().last(), Some(&Status::Running));
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_a_log_that_cannot_be_read_is_said_once_and_the_rest_works() {
    let stage = Stage::new().await;
    let more = json!({"OpenStdin": true, "HostConfig": {"Init": true, "LogConfig": {"Type": "none"}}});
    let (_, mut session) = stage.launch("sleep 600", json!({}), more).await;
    session.message("output of this container cannot be read").await;
    stage.provider.kill(&session.id, &crate::harness::ada()).await.unwrap();
    let end = session.end().await;
    assert_eq!((end.status, session.messages().len()), (Status::Killed, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_a_silent_subscriber_does_not_stop_another() {
    let stage = Stage::new().await;
    let (_, silent) = stage.launch("seq 1 20000; sleep 600", json!({}), with_input()).await;
    let (_, mut other) = stage.launch("seq 1 20000", json!({}), json!({})).await;
    other.end().await;
    assert_eq!(other.messages(), numbers(20_000));
    let mut silent = silent;
    silent.message("20000").await;
    assert_eq!(silent.messages(), numbers(20_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_a_log_that_was_rotated_away_is_a_gap_that_is_told() {
    let mut stage = Stage::new().await;
    let shared = stage.dir.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    let more = json!({"HostConfig": {
        "Init": true,
        "Binds": [format!("{}:/shared", shared.display())],
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "50k", "max-file": "1"}},
    }});
    let script = "echo first; while ! test -f /shared/go; do sleep 0.1; done; seq 1 5000; sleep 600";
    let (container, mut session) = stage.launch(script, json!({}), more).await;
    session.message("first").await;
    stage.provider.shutdown().await;
    std::fs::write(shared.join("go"), "").unwrap();
    // All of it, by the engine: one that rotates while it is read from loses lines by itself.
    let tail = format!("/containers/{container}/logs?stdout=1&tail=1");
    wait_until("all is written", async || {
        let last = stage.engine.ask("GET", &tail, None).unwrap();
        if last.contains("5000") { Ok(()) } else { Err(last) }
    })
    .await;
    stage.replace().await;
    let mut session = stage.session(&session.id, session.seen.last().unwrap().position).await;
    session.message("5000").await;
    let texts = session.messages();
    assert!(texts[0].contains("output of this container is missing here"), "{}", texts[0]);
    assert_eq!(texts.iter().filter(|text| text.contains("missing here")).count(), 1);
    // What is left is the end of it, without another hole.
    let left: Vec<usize> = texts[1..].iter().map(|text| text.parse().unwrap()).collect();
    assert_eq!(left, (left[0]..=5000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_our_log_is_bounded_while_nobody_reads_and_nothing_is_lost() {
    let stage = Stage::new().await;
    let script = "i=0; while [ $i -lt 300 ]; do i=$((i+1)); head -c 80000 /dev/zero | tr '\\0' a; echo $i; done";
    let (container, mut session) = stage.launch(script, json!({}), json!({})).await;
    wait_until("it has written all", async || {
        let state = stage.engine.inspect(&container).unwrap().unwrap()["State"].clone();
        if state["Status"] == "exited" { Ok(()) } else { Err(state.to_string()) }
    })
    .await;
    // 24 MB were written, and the log waits at its bound.
    let log = stage.config.dir.join("sessions").join(session.id.as_str()).join("log");
    let size = || std::fs::read_dir(&log).unwrap().flatten().map(|file| file.metadata().unwrap().len()).sum::<u64>();
    let bound = 16 * 1024 * 1024;
    wait_until("it is at its bound", async || if size() >= bound { Ok(()) } else { Err(size().to_string()) }).await;
    assert!(size() < bound + 2 * 1024 * 1024, "{}", size());
    session.end().await;
    let ends: Vec<String> = session.messages().iter().map(|text| text.trim_start_matches('a').to_owned()).collect();
    assert_eq!(ends, numbers(300));
    assert!(size() < bound, "what was acknowledged is deleted: {}", size());
}
