//! Pause and kill reach everything that a session started, whatever it did to get away; by both containments.

use std::time::{Duration, Instant};

use bus_schema::{Capability, Status};
use providers::{AgentProvider, News, Protocol};

use crate::harness::{PATIENCE, Session, Stage, ada, marked, process, script, wait_until};

/// Works in the leader, in a session of its own, without the hang-up signal, in a double fork, and with a clean
/// environment in a session of its own.
const TREE: &str = r#"
work() { while :; do :; done; }
export -f work
bash --norc -c 'echo pid $$; work' &
setsid bash --norc -c 'echo pid $$; work' &
nohup bash --norc -c 'echo pid $$ >/dev/tty; work' >/dev/null 2>&1 &
( ( setsid bash --norc -c 'trap "" TERM INT HUP; echo pid $$; work' & ) & )
( setsid env -i bash --norc -c 'echo pid $$; while :; do :; done' & )
echo pid $$
echo ready
work
"#;
const PROCESSES: usize = 6;

async fn tree(stage: &Stage) -> (Session, Vec<i32>) {
    let mut session = stage.spawn(script(Protocol::Lines, TREE)).await;
    let mut pids = vec![];
    while pids.len() < PROCESSES {
        let pid = session.until("a process", |event| match &event.news {
            News::Message(draft) => draft.content.strip_prefix("pid ").map(|pid| pid.parse::<i32>().unwrap()),
            _ => None,
        });
        pids.push(pid.await);
    }
    (session, pids)
}

fn ticks(pids: &[i32]) -> u64 {
    pids.iter().map(|pid| process(*pid).map_or(0, |(_, ticks)| ticks)).sum()
}

async fn pause_stops_everything(stage: Stage, containment: &str) {
    let (session, pids) = tree(&stage).await;
    let info = stage.provider.session(&session.id).await.unwrap();
    assert_eq!(info.metadata["containment"], containment);
    let before = ticks(&pids);
    wait_until("all of them work", async || {
        let now = ticks(&pids);
        if now > before + 5 { Ok(()) } else { Err(format!("{now} ticks")) }
    })
    .await;

    stage.provider.pause(&session.id, &ada()).await.unwrap();
    let info = stage.provider.session(&session.id).await.unwrap();
    assert_eq!((info.status, info.status_reason.as_deref()), (Status::Paused, Some("paused by Ada")));
    let frozen = ticks(&pids);
    // Long enough for 600 ticks of six processes on free processors.
    let watched = Instant::now();
    while watched.elapsed() < Duration::from_millis(1200) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(ticks(&pids), frozen, "a paused session used the processor");
    }
    // Pausing what is paused changes nothing; then everything goes on.
    stage.provider.pause(&session.id, &ada()).await.unwrap();
    stage.provider.resume(&session.id, &ada()).await.unwrap();
    for pid in &pids {
        let stood = process(*pid).unwrap().1;
        wait_until("each goes on", async || {
            let now = process(*pid).map_or(0, |(_, ticks)| ticks);
            if now > stood { Ok(()) } else { Err(format!("{now} ticks, state {:?}", process(*pid))) }
        })
        .await;
    }
    kill_leaves_nothing(&stage, session, &pids).await;
}

async fn kill_leaves_nothing(stage: &Stage, mut session: Session, pids: &[i32]) {
    let report = stage.provider.kill(&session.id, &ada()).await.unwrap();
    assert_eq!(report.survivors, []);
    for pid in pids {
        assert_eq!(process(*pid), None, "{pid} lives after the kill");
        assert!(report.ended.iter().any(|ended| ended.pid == *pid), "{pid} is not in {:?}", report.ended);
    }
    assert_eq!(marked(session.id.as_str()), Vec::<i32>::new());
    let end = session.end().await;
    assert_eq!((end.status, end.report), (Status::Killed, Some(report)));
}

#[tokio::test]
async fn a_pause_stops_everything_in_a_cgroup() {
    pause_stops_everything(Stage::new().await, "cgroup").await;
}

#[tokio::test]
async fn a_pause_stops_everything_in_a_process_tree() {
    pause_stops_everything(Stage::tree().await, "processTree").await;
}

async fn kill_works_on_what_is_frozen(stage: Stage) {
    let (session, pids) = tree(&stage).await;
    stage.provider.pause(&session.id, &ada()).await.unwrap();
    let began = Instant::now();
    kill_leaves_nothing(&stage, session, &pids).await;
    assert!(began.elapsed() < PATIENCE);
}

#[tokio::test]
async fn a_frozen_cgroup_can_be_killed() {
    kill_works_on_what_is_frozen(Stage::new().await).await;
}

#[tokio::test]
async fn a_frozen_process_tree_can_be_killed() {
    kill_works_on_what_is_frozen(Stage::tree().await).await;
}

async fn what_is_left_behind_is_killed(stage: Stage) {
    let run = "( setsid bash --norc -c 'echo pid $$; exec sleep 1000' & ) ; read -t 30 x; exit 0";
    let mut session = stage.spawn(script(Protocol::Lines, run)).await;
    let left = session.until("the daemon", |event| match &event.news {
        News::Message(draft) => draft.content.strip_prefix("pid ").map(|pid| pid.parse::<i32>().unwrap()),
        _ => None,
    });
    let left = left.await;
    stage.provider.terminal_input(&session.id, b"\n", &ada()).await.unwrap();
    let end = session.end().await;
    assert_eq!((end.status, end.exit_code), (Status::Completed, Some(0)), "a clean exit stays one");
    assert_eq!(process(left), None);
    let report = end.report.unwrap();
    assert!(report.ended.iter().any(|process| process.pid == left), "{report:?}");
}

#[tokio::test]
async fn what_is_left_in_a_cgroup_is_killed() {
    what_is_left_behind_is_killed(Stage::new().await).await;
}

#[tokio::test]
async fn what_is_left_of_a_process_tree_is_killed() {
    what_is_left_behind_is_killed(Stage::tree().await).await;
}

#[tokio::test]
async fn a_paused_session_is_thawed_to_be_terminated() {
    let stage = Stage::new().await;
    let mut session =
        stage.spawn(script(Protocol::Lines, "trap 'exit 4' INT; echo ready; while :; do sleep 0.05; done")).await;
    session.message("ready").await;
    stage.provider.pause(&session.id, &ada()).await.unwrap();
    stage.provider.terminate(&session.id, &ada()).await.unwrap();
    let end = session.end().await;
    assert_eq!((end.status, end.exit_code), (Status::Killed, Some(4)));
}

#[tokio::test]
async fn a_process_that_only_says_it_belongs_to_a_session_is_killed_with_it() {
    // Marked, and neither child nor in the cgroup: as if it had moved itself elsewhere.
    let stage = Stage::new().await;
    let mut session = stage.spawn(script(Protocol::Lines, "echo ready; sleep 1000")).await;
    session.message("ready").await;
    let mut stray =
        std::process::Command::new("sleep").arg("1000").env("MOSAIC_SESSION_ID", session.id.as_str()).spawn().unwrap();
    let report = stage.provider.kill(&session.id, &ada()).await.unwrap();
    assert_eq!(report.survivors, []);
    stray.wait().unwrap();
    session.end().await;
}

#[tokio::test]
async fn a_session_says_what_it_can_do() {
    let stage = Stage::new().await;
    let session = stage.spawn(script(Protocol::Lines, "sleep 1000")).await;
    let info = stage.provider.session(&session.id).await.unwrap();
    assert!(info.capabilities.contains(&Capability::Kill) && !info.capabilities.contains(&Capability::Approve));
    assert!(info.metadata["notCapable"]["approve"].is_string());
    stage.provider.kill(&session.id, &ada()).await.unwrap();
    let info = stage.provider.session(&session.id).await.unwrap();
    assert_eq!((info.status, info.capabilities), (Status::Killed, vec![]));
    let again = stage.provider.kill(&session.id, &ada()).await;
    assert!(matches!(again, Err(providers::ProviderError::WrongState { .. })), "{again:?}");
}
