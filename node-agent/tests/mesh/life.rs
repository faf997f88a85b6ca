//! The life of sessions, seen from the bus.

use bus_schema::{Action, Command, Delivery, NodeStatus, Outcome, RefusalCode, Role, Session, Status};
use testkit::wait_until;

use crate::harness::{Mesh, SOON, echo};

#[tokio::test]
async fn a_session_lives_and_its_messages_are_on_the_bus() {
    let mesh = Mesh::start(&echo("talk", &["hello", "wait for me"])).await;
    let id = mesh.spawn("talk").await;
    let asks = |s: &Session| s.attention.as_ref().is_some_and(|a| a.text == "for me");
    let waits = |s: &Session| s.status == Status::Waiting && s.last_seq == 1;
    let session = mesh.wait_for_session(&id, "it waits and asks", |s| waits(s) && asks(s)).await;
    assert_eq!((session.profile.as_deref(), session.provider.as_str()), (Some("talk"), "echo"));
    assert_eq!(session.metadata["spawnedBy"]["name"], "Ada");
    let messages = mesh.wait_for_messages(&id, 1).await;
    assert_eq!((messages[0].content.as_str(), &messages[0].role), ("hello", &Role::Agent));

    let kill = mesh.must(mesh.command(Action::Kill, Some(id.clone()))).await;
    assert_eq!((kill.outcome, kill.session.unwrap().status), (Outcome::Done, Status::Killed));
    assert_eq!(kill.report.unwrap().survivors, []);
    // The kill shows at once; what its event tells comes later.
    let session = mesh.wait_for_session(&id, "it is over", |session| session.exit_code == Some(137)).await;
    assert_eq!((&session.status, session.status_reason.as_deref()), (&Status::Killed, Some("killed by Ada")));
    assert!(session.completed_at.is_some() && session.metadata["endReport"]["survivors"] == serde_json::json!([]));
}

#[tokio::test]
async fn an_operator_message_is_delivered_taken_and_answered() {
    let mesh = Mesh::start(&echo("talk", &[])).await;
    let mut spawn = mesh.spawn_of("talk");
    spawn.spawn.as_mut().unwrap().prompt = Some("begin".into());
    let id = spawn.spawn.clone().unwrap().session_id;
    mesh.must(spawn).await;
    let inject = mesh.inject_of(&id, "hello?");
    let message_id = inject.message_id.clone().unwrap();
    let reply = mesh.must(inject.clone()).await;
    assert_eq!((reply.outcome, reply.delivery), (Outcome::Accepted, Some(Delivery::Delivered)));

    let messages = mesh.wait_for_messages(&id, 4).await;
    let said: Vec<_> = messages.iter().map(|m| (&m.role, m.content.as_str())).collect();
    assert_eq!(said.len(), 4, "{said:?}");
    for expected in
        [(&Role::Operator, "begin"), (&Role::Agent, "begin"), (&Role::Operator, "hello?"), (&Role::Agent, "hello?")]
    {
        assert!(said.contains(&expected), "{expected:?} in {said:?}");
    }
    let operator = messages.iter().find(|m| m.message_id == message_id).unwrap();
    assert_eq!(operator.metadata["operator"], serde_json::json!({"id": "u-ada", "name": "Ada"}));
    assert_eq!(
        (&operator.metadata["delivery"], &operator.metadata["modeAsked"]),
        (&"delivered".into(), &"steer".into())
    );
    let states = wait_until("the message is taken", SOON, async || {
        let receipts = mesh.receipts(&id).await;
        let states: Vec<_> = receipts.into_iter().filter(|r| r.message_id == message_id).map(|r| r.state).collect();
        if states.contains(&Delivery::Taken) { Ok(states) } else { Err(states) }
    });
    let states = states.await.unwrap();
    assert!(states.is_sorted_by_key(Delivery::rank), "{states:?}");
    assert_eq!(states.first(), Some(&Delivery::Delivered));
    // How far it came can be asked for, and of what never came nothing is known.
    let ask = Command { message_id: Some(message_id), ..mesh.command(Action::DeliveryState, Some(id.clone())) };
    assert_eq!(mesh.must(ask).await.delivery, Some(Delivery::Taken));
    let unknown = mesh.inject_of(&id, "").message_id;
    let ask = Command { message_id: unknown, ..mesh.command(Action::DeliveryState, Some(id)) };
    assert_eq!(mesh.must(ask).await.delivery, None);
}

#[tokio::test]
async fn pause_resume_and_terminate_are_proven() {
    let mesh = Mesh::start(&echo("talk", &[])).await;
    let id = mesh.spawn("talk").await;
    let status = async |action| mesh.must(mesh.command(action, Some(id.clone()))).await.session.unwrap().status;
    assert_eq!(status(Action::Pause).await, Status::Paused);
    // What is said to a frozen agent is on disk, and answered when it goes on.
    mesh.must(mesh.inject_of(&id, "later")).await;
    let session = mesh.wait_for_session(&id, "it is paused", |s| s.status == Status::Paused && s.last_seq == 1).await;
    assert_eq!(session.status_reason.as_deref(), Some("paused by Ada"));
    assert_eq!(status(Action::Resume).await, Status::Running);
    mesh.wait_for_messages(&id, 2).await;
    let first = Command { pause_first: true, ..mesh.inject_of(&id, "frozen") };
    assert_eq!(mesh.must(first).await.session.unwrap().status, Status::Paused);
    assert_eq!(status(Action::Resume).await, Status::Running);
    mesh.wait_for_messages(&id, 4).await;
    let reply = mesh.must(mesh.command(Action::Terminate, Some(id.clone()))).await;
    assert_eq!((reply.outcome, reply.session.unwrap().status), (Outcome::Done, Status::Killed));
    // What has ended refuses, and says so.
    for action in [Action::Pause, Action::Kill, Action::Terminate] {
        let refusal = mesh.ask(mesh.command(action, Some(id.clone()))).await.unwrap().refusal.unwrap();
        assert_eq!((refusal.code, refusal.message.as_str()), (RefusalCode::WrongState, "the session is killed"));
    }
}

#[tokio::test]
async fn what_a_session_cannot_do_and_what_is_not_there_is_refused() {
    let mesh = Mesh::start(&echo("shy", &["cannot=pause,inject"])).await;
    let id = mesh.spawn("shy").await;
    let refused = async |command| mesh.ask(command).await.unwrap().refusal.unwrap();
    let refusal = refused(mesh.command(Action::Pause, Some(id.clone()))).await;
    assert_eq!(refusal.code, RefusalCode::NotCapable);
    assert_eq!(refused(mesh.inject_of(&id, "x")).await.code, RefusalCode::NotCapable);
    let refusal = refused(mesh.spawn_of("nobody")).await;
    assert_eq!(refusal.code, RefusalCode::UnknownProfile);
    assert!(refusal.message.contains("shell, shy"), "{refusal}");
    let refusal = refused(mesh.inject_of(&crate::harness::new_session_id(), "x")).await;
    assert_eq!(refusal.code, RefusalCode::UnknownSession);
    assert_eq!(refused(mesh.command(Action::from("levitate"), Some(id))).await.code, RefusalCode::UnknownAction);
}

#[tokio::test]
async fn children_and_sessions_that_appear_are_looked_after() {
    let mesh = Mesh::start(&echo("parent", &["child the kid"])).await;
    let id = mesh.spawn("parent").await;
    let child = wait_until("the child shows", SOON, async || {
        let sessions = mesh.read(&bus_schema::jetstream::STATE, "mosaic.v1.default.*.session.*").await;
        let sessions = sessions.iter().map(|payload| bus_schema::decode::<bus_schema::Session>(payload, None).unwrap());
        sessions.into_iter().find(|session| session.parent_session_id.as_ref() == Some(&id))
    });
    let child = child.await.unwrap();
    assert_eq!((child.title.as_deref(), child.agent_type.as_deref()), (Some("the kid"), Some("echo")));
    mesh.must(mesh.inject_of(&child.session_id, "hello kid")).await;
    mesh.wait_for_messages(&child.session_id, 2).await;
}

/// Promise: a child that its runtime tells of before it has it in its own table is waited for, not called failed.
#[tokio::test]
async fn a_child_may_be_told_of_before_it_is_there() {
    let mesh = Mesh::start(&echo("slow", &["delay-ms=300", "child the kid"])).await;
    let id = mesh.spawn("slow").await;
    wait_until("the child is up", SOON, async || {
        let sessions = mesh.read(&bus_schema::jetstream::STATE, "mosaic.v1.default.*.session.*").await;
        let sessions = sessions.iter().map(|payload| bus_schema::decode::<Session>(payload, None).unwrap());
        let child = sessions.into_iter().find(|session| session.parent_session_id.as_ref() == Some(&id));
        let status = child.map(|child| child.status);
        assert_ne!(status, Some(Status::Failed));
        if status == Some(Status::Running) { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn the_terminal_can_be_typed_into_and_shown() {
    let mesh = Mesh::start(&echo("talk", &["print $ "])).await;
    let id = mesh.spawn("talk").await;
    let input = Command { data: Some(b"ls\r".to_vec()), ..mesh.command(Action::Input, Some(id.clone())) };
    mesh.must(input).await;
    let size = Some(bus_schema::TerminalSize { cols: 100, rows: 30 });
    mesh.must(Command { size, ..mesh.command(Action::Resize, Some(id.clone())) }).await;
    let snapshot = mesh.must(mesh.command(Action::TerminalSnapshot, Some(id.clone()))).await.snapshot.unwrap();
    assert_eq!((snapshot.data.as_slice(), snapshot.size.cols), (&b"$ ls\r"[..], 100));
    let filter = format!("mosaic.v1.default.n1.terminal.{id}");
    let shown = wait_until("the output is on the bus", SOON, async || {
        let pieces = mesh.read(&bus_schema::jetstream::TERMINAL, &filter).await;
        let pieces = pieces.iter().map(|piece| bus_schema::decode::<bus_schema::Terminal>(piece, None).unwrap());
        let text: Vec<u8> = pieces.flat_map(|piece| piece.data).collect();
        if text.len() >= 5 { Ok(text) } else { Err(text) }
    });
    assert_eq!(shown.await.unwrap(), b"$ ls\r");
    // Also of a session that has ended.
    mesh.must(mesh.command(Action::Kill, Some(id.clone()))).await;
    assert!(mesh.must(mesh.command(Action::TerminalSnapshot, Some(id))).await.snapshot.is_some());
}

#[tokio::test]
async fn the_text_so_far_is_shown_and_replaced() {
    use futures::StreamExt;
    let mesh = Mesh::start(&echo("slow", &["pace-ms=150"])).await;
    let mut deltas = mesh.hub.client.subscribe("mosaic.v1.default.n1.delta.*").await.unwrap();
    let id = mesh.spawn("slow").await;
    mesh.must(mesh.inject_of(&id, "spell one two three")).await;
    let delta = tokio::time::timeout(SOON, deltas.next()).await.unwrap().unwrap();
    let delta: bus_schema::Delta = bus_schema::decode(&delta.payload, None).unwrap();
    assert!("one two three".starts_with(&delta.content) && !delta.content.is_empty(), "{delta:?}");
    let messages = mesh.wait_for_messages(&id, 2).await;
    let message = messages.iter().find(|m| m.role == Role::Agent).unwrap();
    assert_eq!((message.content.as_str(), &message.message_id), ("one two three", &delta.message_id));
}

#[tokio::test]
async fn the_node_tells_its_state_and_that_it_leaves() {
    let mut mesh = Mesh::start(&echo("talk", &[])).await;
    let id = mesh.spawn("talk").await;
    let state = wait_until("the node tells of its session", SOON, async || {
        let state = mesh.node_state().await;
        state.clone().filter(|state| state.load.sessions == 1).ok_or(state)
    });
    let state = state.await.unwrap();
    assert_eq!((state.status, state.node.as_str()), (NodeStatus::Up, "n1"));
    let names: Vec<_> = state.providers.iter().map(|p| (p.name.as_str(), p.healthy)).collect();
    assert!(names.contains(&("echo", true)) && names.contains(&("pty", true)), "{names:?}");
    let profiles: Vec<_> = state.profiles.iter().map(|profile| profile.name.as_str()).collect();
    assert_eq!(profiles, ["shell", "talk"]);
    assert!(state.load.rss_bytes > 0 && !state.incarnation.is_empty() && !state.boot_id.is_empty());

    let status = mesh.node().terminate(SOON).unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(mesh.node_state().await.unwrap().status, NodeStatus::Leaving);
    // Its sessions go on: they did not end with it.
    let session = mesh.session(&id).await.unwrap();
    assert_eq!(session.status, Status::Running);
    mesh.start_node();
    mesh.wait_for_node().await;
    mesh.must(mesh.inject_of(&id, "still there?")).await;
    mesh.wait_for_messages(&id, 2).await;
    let again = mesh.wait_for_session(&id, "it tells on", |s| s.last_seq == 2).await;
    assert!(again.rev > session.rev);
}

/// Promise: what is over goes in time, from the disk of the node and from its runtime; what the bus lacks does not.
#[tokio::test]
async fn what_is_over_is_forgotten_when_the_bus_has_it() {
    let mut mesh = Mesh::start(&(echo("talk", &["hello"]) + "[outbox]\nlag_s = 1\n")).await;
    let (over, alive) = (mesh.spawn("talk").await, mesh.spawn("talk").await);
    mesh.must(mesh.command(Action::Kill, Some(over.clone()))).await;
    let data = mesh.folder.path().join("data");
    let (dir, journal) = (data.join("sessions").join(over.as_str()), data.join(format!("echo/{over}.jsonl")));
    wait_until("the bus has it for good", SOON, async || {
        let floor = std::fs::read_to_string(dir.join("outbox/floor")).unwrap_or_default();
        if floor.parse::<u64>().is_ok_and(|floor| floor >= 5) { Ok(()) } else { Err(floor) }
    })
    .await
    .unwrap();
    mesh.node().terminate(SOON).unwrap();
    assert!(dir.exists() && journal.exists(), "it is kept for a day");
    let text = std::fs::read_to_string(mesh.config()).unwrap();
    std::fs::write(mesh.config(), text.replace("[nats]", "keep_ended_s = 0\n[nats]")).unwrap();
    mesh.start_node();
    wait_until("it is forgotten", SOON, async || !dir.exists() && !journal.exists()).await.unwrap();
    mesh.wait_for_node().await;
    let refusal = mesh.ask(mesh.command(Action::Kill, Some(over))).await.unwrap().refusal.unwrap();
    assert_eq!(refusal.code, RefusalCode::UnknownSession);
    mesh.must(mesh.inject_of(&alive, "still there?")).await;
}
