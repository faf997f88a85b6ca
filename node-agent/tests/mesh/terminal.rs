//! Agents in terminals, which outlive the node agent, and how they are put away.

use bus_schema::{Action, Delivery, Outcome, Role, SessionId, Status};
use testkit::{proc, wait_until};

use crate::harness::{Mesh, SOON, echo};

fn pty(name: &str, command: &[&str], protocol: &str) -> String {
    let command: Vec<_> = command.iter().map(|word| format!("{word:?}")).collect();
    format!("[[profile]]\nname = {name:?}\ncommand = [{}]\nprotocol = {protocol:?}\n", command.join(", "))
}

/// The processes of a session, all but its holder.
fn processes(id: &SessionId) -> Vec<proc::Stat> {
    proc::with_env(&format!("MOSAIC_SESSION_ID={id}"))
}

/// Promise: an agent does not notice that the node agent was killed, and no line of it is lost or doubled.
#[tokio::test]
async fn an_agent_outlives_the_node_agent() {
    const COUNT: u64 = 3_000;
    let script = format!("for i in $(seq 1 {COUNT}); do echo line $i; [ $((i % 20)) = 0 ] && sleep 0.02; done; cat");
    let mut mesh = Mesh::start(&pty("counter", &["bash", "-c", &script], "lines")).await;
    let id = mesh.spawn("counter").await;
    for part in [COUNT / 5, COUNT / 2] {
        mesh.wait_for_session(&id, "it counts", |session| session.last_seq >= part).await;
        mesh.kill_node();
        mesh.start_node();
        mesh.wait_for_node().await;
    }
    let messages = mesh.wait_for_messages(&id, COUNT).await;
    let said: Vec<_> = messages.iter().map(|message| message.content.clone()).collect();
    assert_eq!(said, (1..=COUNT).map(|n| format!("line {n}")).collect::<Vec<_>>());
    let inject = mesh.inject_of(&id, "still there?");
    let message_id = inject.message_id.clone().unwrap();
    mesh.must(inject).await;
    let messages = mesh.wait_for_messages(&id, COUNT + 2).await;
    assert!(messages.iter().any(|m| m.role == Role::Agent && m.content == "still there?"));
    wait_until("it is written", SOON, async || {
        mesh.receipts(&id).await.iter().any(|r| r.message_id == message_id && r.state == Delivery::Written)
    })
    .await
    .unwrap();
    let reply = mesh.must(mesh.command(Action::Kill, Some(id.clone()))).await;
    assert_eq!((reply.outcome, reply.report.unwrap().survivors), (Outcome::Done, vec![]));
    wait_until("its processes are gone", SOON, async || processes(&id).is_empty()).await.unwrap();
}

/// The holders of a session, by their arguments.
fn holders(id: &SessionId) -> Vec<u32> {
    let is_holder = |pid: u32| {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments);
        arguments.contains("\0holder\0") && arguments.contains(id.as_str())
    };
    proc::all().into_iter().filter(|p| p.state != 'Z').map(|p| p.pid).filter(|pid| is_holder(*pid)).collect()
}

/// Promise: `stop-sessions` ends all that the node has started, with a node agent beside it and without one, and
/// leaves no process: no holder either that waits to tell the end.
#[tokio::test]
async fn sessions_are_put_away_with_and_without_a_node_agent() {
    let profiles = pty("cat", &["cat"], "lines") + &echo("talk", &[]);
    let mut mesh = Mesh::start(&profiles).await;
    let first = mesh.spawn("cat").await;
    let echo = mesh.spawn("talk").await;
    mesh.wait_for_session(&first, "it runs", |session| session.status == Status::Running).await;
    let output = mesh.program(&["stop-sessions"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "1 sessions ended");
    assert_eq!((processes(&first), holders(&first)), (vec![], vec![]));
    let session = mesh.wait_for_session(&first, "it has ended", |session| session.status.is_terminal()).await;
    assert_eq!(session.status, Status::Killed);
    // Echo agents are the node agent's own, and are not touched while it runs.
    assert_eq!(mesh.session(&echo).await.unwrap().status, Status::Running);

    let second = mesh.spawn("cat").await;
    mesh.wait_for_session(&second, "it runs", |session| session.status == Status::Running).await;
    mesh.node().terminate(SOON).unwrap();
    assert!(!processes(&second).is_empty() && !holders(&second).is_empty(), "it goes on without the node agent");
    let output = mesh.program(&["stop-sessions"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "2 sessions ended");
    assert_eq!((processes(&second), holders(&second)), (vec![], vec![]));
    mesh.start_node();
    for id in [&second, &echo] {
        let session = mesh.wait_for_session(id, "it has ended", |session| session.status.is_terminal()).await;
        assert_eq!(session.status, Status::Killed, "{:?}", session.status_reason);
    }
}

#[tokio::test]
async fn a_program_that_cannot_start_is_a_failed_session() {
    let mesh = Mesh::start(&pty("nothing", &["/no/such/program"], "lines")).await;
    let command = mesh.spawn_of("nothing");
    let id = command.spawn.clone().unwrap().session_id;
    let reply = mesh.ask(command).await.unwrap();
    let session = mesh.wait_for_session(&id, "it has failed", |session| session.status.is_terminal()).await;
    assert_eq!(session.status, Status::Failed, "{reply:?}");
    assert!(session.error.is_some(), "{session:?}");
}

#[tokio::test]
async fn the_users_shell_is_there_to_be_used() {
    let mesh = Mesh::start("").await;
    let id = mesh.spawn("shell").await;
    let input =
        bus_schema::Command { data: Some(b"exit 3\r".to_vec()), ..mesh.command(Action::Input, Some(id.clone())) };
    mesh.must(input).await;
    let session = mesh.wait_for_session(&id, "it has ended", |session| session.exit_code.is_some()).await;
    assert_eq!((session.exit_code, session.title.as_deref()), (Some(3), Some("shell")));
}
