//! What is promised while things fail: nothing is lost, nothing doubled, and what must be dropped is told.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bus_schema::{Action, Message, MessageKind, Role, SessionId, Status};
use node_agent::config::Config;
use providers::echo::Echo;
use providers::{Profile, Registry};
use testkit::wait_until;
use tokio_util::sync::CancellationToken;

use crate::harness::{Mesh, SOON, echo, missing};

/// Each `seq` from 1 to the last, exactly once.
fn assert_exactly_once(messages: &[Message]) {
    let seqs: BTreeSet<u64> = messages.iter().map(|message| message.seq).collect();
    assert_eq!(seqs.len(), messages.len(), "some were stored twice");
    assert_eq!(seqs.first().copied(), Some(1));
    assert_eq!(seqs.last().copied(), Some(messages.len() as u64), "some are missing");
}

fn echo_profile(words: &[&str]) -> Profile {
    let command: Vec<&str> = ["echo"].iter().chain(words).copied().collect();
    serde_json::from_value(serde_json::json!({"name": "echo", "provider": "echo", "command": command})).unwrap()
}

/// Promise: whatever is killed, and whenever, every message is stored exactly once, and none is missing.
#[tokio::test]
async fn servers_and_nodes_are_killed_and_every_message_is_stored_once() {
    const COUNT: u64 = 20_000;
    let mut mesh = Mesh::start(&echo("flood", &[&format!("flood {COUNT} 100")])).await;
    let id = mesh.spawn("flood").await;
    let told = async |mesh: &Mesh, at_least: u64| {
        mesh.wait_for_session(&id, "the flood goes on", |session| session.last_seq >= at_least).await;
    };
    told(&mesh, COUNT / 10).await;
    mesh.server.kill9();
    mesh.server.restart().unwrap();
    told(&mesh, COUNT * 3 / 10).await;
    mesh.kill_node();
    mesh.start_node();
    told(&mesh, COUNT * 5 / 10).await;
    mesh.kill_node();
    mesh.server.kill9();
    mesh.start_node();
    mesh.server.restart().unwrap();
    let messages = mesh.wait_for_messages(&id, COUNT).await;
    assert_exactly_once(&messages);
    let said: Vec<String> = messages.iter().map(|m| m.content.trim_end_matches('.').to_owned()).collect();
    assert_eq!(said, (1..=COUNT).map(|n| n.to_string()).collect::<Vec<_>>());
    let session = mesh.wait_for_session(&id, "its last snapshot", |session| session.last_seq == COUNT).await;
    assert_eq!(session.status, Status::Running);
}

/// Promise: a node begins without the bus; what happens meanwhile arrives later.
#[tokio::test]
async fn what_happens_before_the_bus_is_there_arrives() {
    let mut mesh = Mesh::without_node("").await;
    mesh.server.stop().unwrap();
    let config = Config::load(&[mesh.config()], &Default::default()).unwrap();
    let provider = Echo::new(bus_schema::ProviderName::new("echo").unwrap());
    let mut registry = Registry::new();
    registry.register(Arc::new(provider.clone())).unwrap();
    let cancel = CancellationToken::new();
    let node = node_agent::node::run(config, registry, cancel.clone());
    let test = async {
        // One that is there when the node looks for the first time, or is told of: nobody asked for it.
        let first = provider.appear(&echo_profile(&["flood 100"])).await.unwrap();
        wait_until("the node has looked", SOON, async || {
            let dir = mesh.folder.path().join("data/sessions").join(first.as_str());
            dir.exists()
        })
        .await
        .unwrap();
        let second = provider.appear(&echo_profile(&["flood 50"])).await.unwrap();
        mesh.server.restart().unwrap();
        assert_exactly_once(&mesh.wait_for_messages(&first, 100).await);
        assert_exactly_once(&mesh.wait_for_messages(&second, 50).await);
        mesh.wait_for_session(&second, "its snapshot", |session| session.last_seq == 50).await;
        cancel.cancel();
    };
    let (ended, ()) = tokio::join!(node, test);
    ended.unwrap();
    provider.shutdown().await;
}

/// Promise: while the bus is away, a full outbox drops messages and tells so by one message in their place.
#[tokio::test]
async fn what_does_not_fit_while_the_bus_is_away_is_told_by_one_gap() {
    const COUNT: u64 = 8_000;
    let bounds = "[outbox]\nmax_bytes_per_session = 4194304\nmax_bytes = 8388608\n";
    let mut mesh = Mesh::start(&(bounds.to_owned() + &echo("talk", &[]))).await;
    let id = mesh.spawn("talk").await;
    mesh.must(mesh.inject_of(&id, "before")).await;
    mesh.wait_for_messages(&id, 2).await;
    // The flood is on the agent's side already when the bus goes.
    mesh.must(mesh.command(Action::Pause, Some(id.clone()))).await;
    mesh.must(mesh.inject_of(&id, &format!("flood {COUNT} 1000"))).await;
    mesh.must(mesh.inject_of(&id, "the end")).await;
    mesh.wait_for_messages(&id, 4).await;
    mesh.kill_node();
    resume_in_journal(&mesh, &id);
    mesh.server.stop().unwrap();
    mesh.start_node();
    wait_until("messages are dropped", Duration::from_secs(120), async || {
        let dropped = mesh.log().matches("messages are dropped").count();
        // … and the flood is over: nothing was read for a while.
        (dropped > 0 && is_quiet(&mesh, &id)).then_some(())
    })
    .await
    .unwrap();
    // Killed in the middle of a gap, the node goes on counting.
    mesh.kill_node();
    mesh.start_node();
    mesh.server.restart().unwrap();
    let messages = wait_until("the end is stored", Duration::from_secs(120), async || {
        let mut messages = mesh.stored().await.remove(&id).unwrap_or_default();
        messages.sort_by_key(|message| message.seq);
        let has_gap = messages.iter().any(|message| message.metadata.contains_key("gap"));
        if has_gap && missing(&messages).is_empty() { Ok(messages) } else { Err(messages.len()) }
    });
    let messages = messages.await.unwrap();
    assert_exactly_once(&messages);
    let gaps: Vec<_> = messages.iter().filter(|message| message.metadata.contains_key("gap")).collect();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!((&gaps[0].role, &gaps[0].kind), (&Role::System, &MessageKind::Status));
    let gap = &gaps[0].metadata["gap"];
    let agent = messages.iter().filter(|message| message.role == Role::Agent).count() as u64;
    // `before`, the flood and `the end`: said, or in the gap.
    assert_eq!(agent + gap["count"].as_u64().unwrap(), COUNT + 2);
    assert!(gap["bytes"].as_u64().unwrap() >= 1_000 && gap["reason"] == "outboxFull", "{gap}");
    assert!(gap["from"].as_str().unwrap() <= gap["to"].as_str().unwrap());
}

/// Lets a paused echo agent go on, as if somebody had thawed it while no node agent ran.
fn resume_in_journal(mesh: &Mesh, id: &SessionId) {
    use std::io::Write;
    let journal = mesh.folder.path().join("data/echo").join(format!("{id}.jsonl"));
    let text = std::fs::read_to_string(&journal).unwrap();
    let pause = text.lines().rfind(|line| line.contains("\"paused\"")).unwrap();
    let resume = pause.replace("\"paused\"", "\"running\"");
    writeln!(std::fs::File::options().append(true).open(&journal).unwrap(), "{resume}").unwrap();
}

/// True if the agent has said everything.
fn is_quiet(mesh: &Mesh, id: &SessionId) -> bool {
    let journal = mesh.folder.path().join("data/echo").join(format!("{id}.jsonl"));
    let text = std::fs::read_to_string(journal).unwrap_or_default();
    text.contains("\"content\":\"the end\"")
}

/// Promise: while the bus takes records, a full outbox slows the agent down, and nothing is dropped.
#[tokio::test]
async fn an_agent_that_is_too_fast_waits_for_the_bus() {
    const COUNT: u64 = 12_000;
    let bounds = "[outbox]\nmax_bytes_per_session = 4194304\nmax_bytes = 8388608\nlag_s = 1\n";
    let profiles = echo("flood", &[&format!("flood {COUNT} 1000")]) + &echo("talk", &[]);
    let mesh = Mesh::start(&(bounds.to_owned() + &profiles)).await;
    let id = mesh.spawn("flood").await;
    let other = mesh.spawn("talk").await;
    mesh.must(mesh.inject_of(&other, "not slowed")).await;
    mesh.wait_for_messages(&other, 2).await;
    let messages = mesh.wait_for_messages(&id, COUNT).await;
    assert_exactly_once(&messages);
    assert!(messages.iter().all(|message| message.role == Role::Agent));
    assert!(!mesh.log().contains("messages are dropped"));
    let bytes: u64 = outbox_bytes(&mesh, &id);
    assert!(bytes < 5 * 1024 * 1024, "{bytes} bytes on disk");
}

fn outbox_bytes(mesh: &Mesh, id: &SessionId) -> u64 {
    let dir = mesh.folder.path().join("data/sessions").join(id.as_str()).join("outbox");
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

/// Promise: a message that was delivered is handed over once, wherever the node agent is killed.
#[tokio::test]
async fn a_node_killed_while_it_hands_over_does_it_once() {
    const ROUNDS: u64 = 8;
    let mut mesh = Mesh::start(&echo("slow", &["delay-ms=60"])).await;
    let id = mesh.spawn("slow").await;
    for round in 0..ROUNDS {
        mesh.must(mesh.inject_of(&id, &format!("line {round}"))).await;
        // From here on it is delivered. Killed before, while, and after it is handed over.
        tokio::time::sleep(Duration::from_millis(round * 20)).await;
        mesh.kill_node();
        mesh.start_node();
        mesh.wait_for_node().await;
    }
    let messages = mesh.wait_for_messages(&id, 2 * ROUNDS).await;
    assert_exactly_once(&messages);
    for role in [Role::Operator, Role::Agent] {
        let said: Vec<_> = messages.iter().filter(|m| m.role == role).map(|m| m.content.clone()).collect();
        assert_eq!(said, (0..ROUNDS).map(|round| format!("line {round}")).collect::<Vec<_>>());
    }
}

/// Promise: nothing is shown as running that is not.
#[tokio::test]
async fn a_session_that_is_gone_ends_as_failed() {
    let mut mesh = Mesh::start(&echo("talk", &["hello"])).await;
    let (gone, kept) = (mesh.spawn("talk").await, mesh.spawn("talk").await);
    mesh.wait_for_messages(&gone, 1).await;
    mesh.kill_node();
    std::fs::remove_file(mesh.folder.path().join("data/echo").join(format!("{gone}.jsonl"))).unwrap();
    mesh.start_node();
    let session = mesh.wait_for_session(&gone, "it has failed", |s| s.status == Status::Failed).await;
    assert_eq!(session.status_reason.as_deref(), Some("the runtime does not know this session any more"));
    mesh.wait_for_node().await;
    mesh.must(mesh.inject_of(&kept, "still there?")).await;
}

/// Promise: after a restart of the machine a session gets no further messages, only its end.
#[tokio::test]
async fn what_ran_before_the_machine_was_restarted_has_failed() {
    let mut mesh = Mesh::start(&echo("talk", &["hello"])).await;
    let (id, ended) = (mesh.spawn("talk").await, mesh.spawn("talk").await);
    mesh.must(mesh.command(Action::Kill, Some(ended.clone()))).await;
    let before = mesh.wait_for_session(&id, "it talks", |session| session.last_seq == 1).await;
    let killed = mesh.wait_for_session(&ended, "it is killed", |session| session.status == Status::Killed).await;
    mesh.node().terminate(SOON).unwrap();
    let file = mesh.folder.path().join("data/node.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut node: serde_json::Value = serde_json::from_str(&text).unwrap();
    node["bootId"] = "another start".into();
    std::fs::write(&file, node.to_string()).unwrap();
    mesh.start_node();
    let session = mesh.wait_for_session(&id, "it has failed", |session| session.status == Status::Failed).await;
    assert_eq!(session.status_reason.as_deref(), Some("host restarted"));
    assert!(session.rev >= before.rev + 1_000_000 && session.last_seq == 1);
    mesh.wait_for_node().await;
    assert_eq!(mesh.session(&ended).await.unwrap().status, killed.status);
    assert!(mesh.ask(mesh.inject_of(&id, "anybody?")).await.unwrap().refusal.is_some());
    assert_eq!(mesh.stored().await[&id].len(), 1);
}

/// Promise: a server that stands still for a while loses nothing and doubles nothing.
#[tokio::test]
async fn a_server_that_stands_still_is_waited_for() {
    const COUNT: u64 = 3_000;
    let mesh = Mesh::start(&echo("flood", &[&format!("flood {COUNT}"), "pace-ms=1"])).await;
    let id = mesh.spawn("flood").await;
    mesh.wait_for_session(&id, "the flood goes on", |session| session.last_seq > 100).await;
    let pid = mesh.server.pid().unwrap();
    testkit::proc::signal(pid, rustix::process::Signal::STOP);
    // Longer than an acknowledgement may take.
    tokio::time::sleep(Duration::from_secs(7)).await;
    testkit::proc::signal(pid, rustix::process::Signal::CONT);
    assert_exactly_once(&mesh.wait_for_messages(&id, COUNT).await);
}

/// Promise: an agent whose runtime waits until what it told is taken does not wait for ever after the node agent was
/// killed: what is on disk is acknowledged again.
#[tokio::test]
async fn what_is_on_disk_is_acknowledged_again() {
    // More than the echo provider keeps without an acknowledgement.
    const COUNT: u64 = 9_000;
    let mut mesh = Mesh::start(&echo("flood", &[&format!("flood {COUNT}")])).await;
    let id = mesh.spawn("flood").await;
    mesh.wait_for_session(&id, "all is said", |session| session.last_seq == COUNT).await;
    mesh.kill_node();
    mesh.start_node();
    mesh.wait_for_node().await;
    mesh.must(mesh.inject_of(&id, "go on")).await;
    mesh.wait_for_session(&id, "it goes on", |session| session.last_seq == COUNT + 2).await;
}

/// Promise: the last snapshot knows of the last message, also where the node agent was killed between the two.
#[tokio::test]
async fn a_snapshot_that_was_not_written_is_written_after_a_restart() {
    // A second flood within a second of the first: its snapshot is due, and not written.
    let mut mesh = Mesh::start(&echo("talk", &[])).await;
    let id = mesh.spawn("talk").await;
    for round in 1..=5 {
        mesh.must(mesh.inject_of(&id, "one")).await;
        mesh.must(mesh.inject_of(&id, "two")).await;
        mesh.wait_for_messages(&id, 4 * round).await;
        mesh.kill_node();
        mesh.start_node();
        mesh.wait_for_session(&id, "all is in the snapshot", |session| session.last_seq == 4 * round).await;
        mesh.wait_for_node().await;
    }
}

/// Promise: nobody else uses a node's data at the same time.
#[tokio::test]
async fn a_second_node_agent_over_the_same_data_does_not_start() {
    let mesh = Mesh::start("").await;
    let output = mesh.program(&["run"]).output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("another node agent uses the data folder"), "{text}");
}
