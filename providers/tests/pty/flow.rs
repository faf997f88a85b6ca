//! An agent that floods, consumers that do not read: the agent waits, the disk is bounded, and nobody else notices.

use std::path::Path;
use std::time::{Duration, Instant};

use providers::pty::LogLimits;
use providers::{AgentProvider, News, Protocol};

use crate::harness::{Session, Stage, ada, process, profile, script, wait_until};

const KIB: u64 = 1024;

fn small() -> LogLimits {
    LogLimits {
        unacknowledged_bytes: 1024 * KIB,
        bytes_per_second: 64 * 1024 * KIB,
        retained_bytes: 256 * KIB,
        segment_bytes: 128 * KIB,
    }
}

fn log_bytes(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir.join("log")).unwrap().flatten();
    files.map(|file| file.metadata().map_or(0, |metadata| metadata.len())).sum()
}

/// Waits until the agent writes no more, and returns how large its log is.
async fn until_it_waits(stage: &Stage, session: &Session) -> u64 {
    let (dir, pid) = (stage.session_dir(&session.id), stage.pid(&session.id, "child"));
    let mut last = (0, 0, Instant::now());
    wait_until("the agent waits", async || {
        let now = (log_bytes(&dir), process(pid).map_or(0, |(_, ticks)| ticks));
        if now != (last.0, last.1) || now.0 == 0 {
            last = (now.0, now.1, Instant::now());
        }
        if last.2.elapsed() > Duration::from_millis(600) { Ok(now.0) } else { Err(format!("{now:?}")) }
    })
    .await
}

async fn a_flood_waits_for_its_consumer(protocol: Protocol) {
    let stage = Stage::limited(small()).await;
    let mut session = stage.spawn(profile(protocol, &["seq", "1", "100000000"])).await;
    session.acknowledges = false;
    let full = until_it_waits(&stage, &session).await;
    assert!(full < 1400 * KIB, "{full} bytes of log");
    // Another session is not slowed down.
    let mut other = stage.spawn(script(Protocol::Lines, "seq 1 20000")).await;
    other.end().await;
    assert_eq!(other.messages().len(), 20_000);
    assert_eq!(until_it_waits(&stage, &session).await, full, "it went on although nobody acknowledged");

    // Read and acknowledged, it goes on; nothing is lost on the way, and the disk stays bounded.
    session.acknowledges = true;
    let (mut next, mut largest) = (1u64, 0);
    let mut text = String::new();
    while next < 250_000 {
        let Some(event) = session.next().await else { panic!("it ended at {next}") };
        session.seen.clear();
        if let News::Message(draft) = event.news {
            text = draft.content;
            for line in text.lines() {
                assert_eq!(line, next.to_string());
                next += 1;
            }
            if next % 1000 == 0 {
                largest = largest.max(log_bytes(&stage.session_dir(&session.id)));
            }
        }
    }
    assert!(largest < 2048 * KIB, "{largest} bytes of log, last {text}");
    stage.provider.kill(&session.id, &ada()).await.unwrap();
}

#[tokio::test]
async fn a_flood_of_lines_waits_for_its_consumer() {
    a_flood_waits_for_its_consumer(Protocol::Lines).await;
}

#[tokio::test]
async fn a_flood_on_a_terminal_waits_for_its_consumer() {
    a_flood_waits_for_its_consumer(Protocol::Terminal).await;
}

#[tokio::test]
async fn a_flood_can_be_killed_while_it_waits() {
    let stage = Stage::limited(small()).await;
    let mut session = stage.spawn(profile(Protocol::Lines, &["yes"])).await;
    session.acknowledges = false;
    until_it_waits(&stage, &session).await;
    let report = stage.provider.kill(&session.id, &ada()).await.unwrap();
    assert_eq!(report.survivors, []);
    // The end comes behind all that was written.
    session.acknowledges = true;
    session.end().await;
}

#[tokio::test]
async fn a_disk_that_takes_nothing_stops_the_agent_and_loses_nothing() {
    let stage = Stage::limited(LogLimits { unacknowledged_bytes: 64 * 1024 * KIB, ..small() }).await;
    let mut session = stage.spawn(script(Protocol::Lines, "echo ready; read x; seq 1 100000")).await;
    session.message("ready").await;
    // The next segment cannot be begun: as on a disk that is full.
    let (log, away) = (stage.session_dir(&session.id).join("log"), stage.session_dir(&session.id).join("away"));
    std::fs::rename(&log, &away).unwrap();
    stage.provider.terminal_input(&session.id, b"\n", &ada()).await.unwrap();
    let (pid, mut last) = (stage.pid(&session.id, "child"), (0, Instant::now()));
    wait_until("the agent waits", async || {
        let ticks = process(pid).map_or(0, |(_, ticks)| ticks);
        if ticks != last.0 {
            last = (ticks, Instant::now());
        }
        if last.1.elapsed() > Duration::from_millis(600) { Ok(()) } else { Err(format!("{ticks} ticks")) }
    })
    .await;
    assert!(process(pid).is_some(), "the agent has ended, so its output was taken from it");
    std::fs::rename(&away, &log).unwrap();
    session.end().await;
    let mut expected: Vec<String> = (1..=100_000).map(|n| n.to_string()).collect();
    expected.insert(0, "ready".into());
    assert!(session.messages() == expected, "{} lines", session.messages().len());
}

#[tokio::test]
async fn the_rate_is_bounded() {
    let limits = LogLimits { bytes_per_second: 100 * KIB, ..LogLimits::default() };
    let stage = Stage::limited(limits).await;
    let began = Instant::now();
    let session = stage.spawn(profile(Protocol::Lines, &["yes"])).await;
    let dir = stage.session_dir(&session.id);
    let bytes = wait_until("some output", async || {
        let bytes = log_bytes(&dir);
        if bytes > 300 * KIB { Ok(bytes) } else { Err(bytes.to_string()) }
    })
    .await;
    // A second's worth at once, then by the clock.
    let most = 100.0 * (1.5 + began.elapsed().as_secs_f64()) * 1024.0 * 1.1;
    assert!((bytes as f64) < most, "{bytes} bytes after {:?}", began.elapsed());
    assert!(began.elapsed() > Duration::from_millis(1500));
    stage.provider.kill(&session.id, &ada()).await.unwrap();
}

#[tokio::test]
async fn a_subscriber_that_comes_late_is_told_what_is_gone() {
    let limits = LogLimits { unacknowledged_bytes: 64 * 1024 * KIB, ..small() };
    let stage = Stage::limited(limits).await;
    let mut session = stage.spawn(script(Protocol::Lines, "seq 1 300000; read; seq 300001 300003")).await;
    session.message("300000").await;
    let dir = stage.session_dir(&session.id);
    wait_until("the beginning is deleted", async || {
        let bytes = log_bytes(&dir);
        if bytes < 600 * KIB { Ok(()) } else { Err(bytes.to_string()) }
    })
    .await;
    let mut late = stage.session(&session.id, providers::Position::default()).await;
    let first = late.until("a message", |event| match &event.news {
        News::Message(draft) => Some(draft.clone()),
        _ => None,
    });
    let first = first.await;
    assert_eq!(first.role.as_str(), "system");
    assert!(first.metadata["firstOffset"].as_u64().unwrap() > 0);
    stage.provider.terminal_input(&session.id, b"\n", &ada()).await.unwrap();
    late.end().await;
    session.end().await;
    // From there on everything, under the same names as it was told before.
    let (early, late): (Vec<_>, Vec<_>) = (messages(&session), messages(&late));
    assert!(late.len() > 1000);
    assert_eq!(late[1..], early[early.len() - (late.len() - 1)..]);
    // And looking back reaches as far as it is asked to.
    let recent = stage.provider.recent_messages(&session.id, 5000).await.unwrap();
    assert_eq!((recent.len(), recent[4999].content.as_str()), (5000, "300003"));
    assert_eq!(recent[0].content, "295004");
}

fn messages(session: &Session) -> Vec<(providers::Position, String, String)> {
    let message = |event: &providers::AgentEvent| match &event.news {
        News::Message(draft) => Some((event.position, draft.message_id.to_string(), draft.content.clone())),
        _ => None,
    };
    session.seen.iter().filter_map(message).collect()
}
