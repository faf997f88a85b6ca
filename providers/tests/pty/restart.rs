//! Node agents come and go; holders and their sessions stay. Holders die; their sessions end, and nothing is left.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use bus_schema::{Delivery, InjectMode, MessageId, Status};
use providers::{AgentProvider, News, OperatorMessage, Position, Protocol, ProviderError};
use rustix::process::Signal;

use crate::harness::{Stage, ada, host_program, marked, new_id, process, request, script, signal, wait_until};

/// Lines at a pace, so that a restart falls among them.
const COUNT: &str = "for i in $(seq 1 400); do echo $i; sleep 0.005; done";

fn numbers(count: u32) -> Vec<String> {
    (1..=count).map(|n| n.to_string()).collect()
}

#[tokio::test]
async fn a_new_node_agent_goes_on_where_the_old_one_was() {
    let mut stage = Stage::new().await;
    let mut session = stage.spawn(script(Protocol::Lines, COUNT)).await;
    let (mut all, mut restarts) = (vec![], 0);
    let pid = stage.pid(&session.id, "child");
    loop {
        let position = session.seen.last().map_or(Position::default(), |event| event.position);
        all.append(&mut session.seen);
        if matches!(all.last().map(|event| &event.news), Some(News::Ended(_))) {
            break;
        }
        stage.replace().await;
        session = stage.session(&session.id, position).await;
        restarts += 1;
        for _ in 0..40 {
            if session.next().await.is_none() {
                break;
            }
        }
        if process(pid).is_some() {
            assert_eq!(stage.pid(&session.id, "child"), pid, "the same child");
        }
    }
    assert!(restarts > 5, "{restarts} restarts");
    assert!(all.is_sorted_by(|a, b| a.position < b.position), "every event once, in order");
    let lines: Vec<String> = all
        .iter()
        .filter_map(|event| match &event.news {
            News::Message(draft) => Some(draft.content.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(lines, numbers(400));
}

#[tokio::test]
async fn a_killed_node_agent_leaves_its_sessions_running() {
    let stage = Stage::new().await;
    let id = new_id();
    let mut host = Command::new(host_program())
        .args(["run", stage.config.dir.to_str().unwrap(), id.as_str(), "--", "bash", "--norc", "-c", COUNT])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = vec![];
    let mut position = Position::default();
    for line in BufReader::new(host.stdout.take().unwrap()).lines().take(50) {
        let line: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        position = serde_json::from_value(line["position"].clone()).unwrap();
        told.push(line["content"].as_str().unwrap().to_owned());
    }
    host.kill().unwrap();
    host.wait().unwrap();
    let pid = stage.pid(&id, "child");
    assert!(process(pid).is_some(), "the agent died with the node agent");

    let mut stage = stage;
    stage.replace().await;
    assert_eq!(stage.pid(&id, "child"), pid);
    let mut session = stage.session(&id, position).await;
    let end = session.end().await;
    assert_eq!(end.status, Status::Completed);
    told.extend(session.messages());
    assert_eq!(told, numbers(400));
}

#[tokio::test]
async fn a_message_is_not_handed_over_again_after_a_restart() {
    let mut stage = Stage::new().await;
    let mut session = stage.spawn(script(Protocol::Lines, "while read line; do echo got $line; done")).await;
    let message = OperatorMessage {
        message_id: MessageId::new("m-1").unwrap(),
        operator: ada(),
        content: "hello".into(),
        mode: InjectMode::Queue,
    };
    let id = session.id.clone();
    assert_eq!(stage.provider.injection(&id, &message.message_id).await.unwrap(), None);
    let outcome = stage.provider.inject(&id, message.clone()).await.unwrap();
    assert_eq!((&outcome.state, &outcome.mode), (&Delivery::Written, &Some(InjectMode::Queue)));
    session.message("got hello").await;
    stage.replace().await;
    let known = stage.provider.injection(&id, &message.message_id).await.unwrap();
    assert_eq!(known, Some(outcome.clone()));
    assert_eq!(stage.provider.inject(&id, message.clone()).await.unwrap(), outcome);
    stage.provider.terminal_input(&id, b"last\n", &ada()).await.unwrap();
    session.message("got last").await;
    assert_eq!(session.messages(), ["got hello", "got last"]);
    stage.provider.kill(&id, &ada()).await.unwrap();
    session.end().await;
    // After the end the log still tells.
    stage.replace().await;
    assert_eq!(stage.provider.injection(&id, &message.message_id).await.unwrap(), Some(outcome));
    let told = session.seen.iter().filter(|event| matches!(event.news, News::Receipt { .. })).count();
    assert_eq!(told, 1);
}

async fn a_dead_holder_ends_its_session(mut stage: Stage, watched: bool) {
    // Both shrug off the hang-up before anybody is told that they are there.
    let run = "trap '' HUP; ( setsid bash --norc -c 'trap \"\" TERM; echo ready; exec sleep 1000' & ); while :; do sleep 1; done";
    let mut session = stage.spawn(script(Protocol::Lines, run)).await;
    session.message("ready").await;
    let (id, holder, child) = (session.id.clone(), stage.pid(&session.id, "holder"), stage.pid(&session.id, "child"));
    let position = session.seen.last().unwrap().position;
    if !watched {
        // Nobody looks when it happens.
        stage.provider.shutdown().await;
    }
    signal(holder, Signal::KILL);
    wait_until("the holder is gone", async || process(holder).map_or(Ok(()), |p| Err(format!("{p:?}")))).await;
    if !watched {
        stage.replace().await;
        session = stage.session(&id, position).await;
    }
    let end = session.end().await;
    assert_eq!((&end.status, end.reason.as_str()), (&Status::Failed, "its holder died"));
    assert!(end.error.as_ref().unwrap().contains(&holder.to_string()), "{end:?}");
    assert!(!end.report.unwrap().ended.is_empty());
    assert_eq!(process(child), None);
    assert_eq!(marked(id.as_str()), Vec::<i32>::new());
    // It is an ended session like any other.
    assert_eq!(stage.provider.session(&id).await.unwrap().status, Status::Failed);
    let pause = stage.provider.pause(&id, &ada()).await;
    assert!(matches!(pause, Err(ProviderError::WrongState { .. })), "{pause:?}");
    stage.provider.forget(&id).await.unwrap();
}

#[tokio::test]
async fn a_holder_that_dies_while_watched_ends_its_session() {
    a_dead_holder_ends_its_session(Stage::new().await, true).await;
}

#[tokio::test]
async fn a_holder_that_died_unwatched_ends_its_session_at_the_next_start() {
    a_dead_holder_ends_its_session(Stage::new().await, false).await;
}

#[tokio::test]
async fn without_a_cgroup_what_a_dead_holder_leaves_is_found_too() {
    a_dead_holder_ends_its_session(Stage::tree().await, true).await;
}

#[tokio::test]
async fn a_holder_that_hangs_holds_nobody_else_up_and_is_killed_with_its_session() {
    let stage = Stage::new().await;
    let mut hung = stage.spawn(script(Protocol::Lines, "echo ready; sleep 1000")).await;
    hung.message("ready").await;
    let holder = stage.pid(&hung.id, "holder");
    signal(holder, Signal::STOP);
    let by = ada();
    let kill = stage.provider.kill(&hung.id, &by);
    let other = async {
        let mut other = stage.spawn(script(Protocol::Lines, "echo fine")).await;
        assert_eq!(other.end().await.status, Status::Completed);
        stage.provider.sessions().await.unwrap().len()
    };
    let (killed, sessions) = tokio::join!(kill, other);
    assert_eq!(sessions, 2);
    assert_eq!(killed.unwrap().survivors, []);
    assert_eq!(process(holder), None);
    assert_eq!(hung.end().await.status, Status::Killed);
}

#[tokio::test]
async fn a_torn_tail_is_cut_off() {
    let mut stage = Stage::new().await;
    let mut session = stage.spawn(script(Protocol::Lines, "echo whole; sleep 1000")).await;
    session.message("whole").await;
    let (id, holder) = (session.id.clone(), stage.pid(&session.id, "holder"));
    stage.provider.shutdown().await;
    signal(holder, Signal::KILL);
    wait_until("the holder is gone", async || process(holder).map_or(Ok(()), |p| Err(format!("{p:?}")))).await;
    // As if the machine had stopped in the middle of a block.
    let segment = stage.session_dir(&id).join("log/00000000000000000000.seg");
    let mut log = std::fs::read(&segment).unwrap();
    log.extend_from_slice(&[9, 0, 0, 0, 1, 2, 3, 4, b'o', 7, 7]);
    std::fs::write(&segment, log).unwrap();
    stage.replace().await;
    let mut session = stage.session(&id, Position::default()).await;
    assert_eq!(session.end().await.status, Status::Failed);
    assert_eq!(session.messages(), ["whole"]);
}

#[tokio::test]
async fn an_end_that_a_crash_took_from_the_log_is_told_behind_what_was_seen() {
    let mut stage = Stage::new().await;
    let mut session = stage.spawn(script(Protocol::Lines, "echo one; sleep 1000")).await;
    session.message("one").await;
    let (id, holder) = (session.id.clone(), stage.pid(&session.id, "holder"));
    stage.provider.shutdown().await;
    signal(holder, Signal::KILL);
    wait_until("the holder is gone", async || process(holder).map_or(Ok(()), |p| Err(format!("{p:?}")))).await;
    stage.replace().await;
    // The subscriber has seen more than is left.
    let far = Position { offset: 1 << 40, index: 3 };
    let mut session = stage.session(&id, far).await;
    assert_eq!(session.end().await.status, Status::Failed);
    assert!(session.seen[0].position > far);
}

#[tokio::test]
async fn a_session_of_a_newer_version_is_left_alone() {
    let mut stage = Stage::new().await;
    let mut session = stage.spawn(script(Protocol::Lines, "echo one")).await;
    session.end().await;
    let path = stage.session_dir(&session.id).join("state.json");
    let text = std::fs::read_to_string(&path).unwrap().replace("\"schema\": 1", "\"schema\": 7");
    std::fs::write(&path, &text).unwrap();
    stage.replace().await;
    let error = stage.provider.session(&session.id).await.unwrap_err();
    let ProviderError::Unavailable { what, .. } = &error else { panic!("{error:?}") };
    assert!(what.contains("schema 7") && what.contains("up to 1"), "{what}");
    assert_eq!(stage.provider.sessions().await.unwrap(), []);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "untouched");
    // And nothing is started in its place.
    let spawned = stage.provider.spawn(request(&session.id, script(Protocol::Lines, "true"))).await;
    assert!(matches!(spawned, Err(ProviderError::Unavailable { .. })), "{spawned:?}");
}
