//! What is obeyed, and what is not.

use std::time::{Duration, Instant};

use async_nats::jetstream;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bus_schema::jetstream::REFUSALS;
use bus_schema::{
    Action, Command, KeySuccession, NodeId, Outcome, RefusalCode, RefusedCommand, Role, Subject, decode, encode, header,
};
use nkeys::KeyPair;
use testkit::wait_until;

use crate::harness::{Mesh, SOON, ada, echo, make_stream, new_session_id, now, sign, workspace};

#[tokio::test]
async fn only_signed_timely_commands_for_this_node_are_carried_out() {
    let mesh = Mesh::start(&echo("talk", &[])).await;
    let id = mesh.spawn("talk").await;
    let refused = async |payload: Vec<u8>, headers| {
        let reply = mesh.send(payload, headers).await.unwrap();
        assert_eq!(reply.outcome, Outcome::Refused);
        reply.refusal.unwrap().code
    };
    let payload = |command: &Command| encode(command).unwrap();
    let good = mesh.inject_of(&id, "must not be said");

    assert_eq!(refused(payload(&good), Default::default()).await, RefusalCode::BadSignature, "unsigned");
    let own = Subject::Command(workspace(), NodeId::new("n1").unwrap());
    let stranger = sign(&KeyPair::new_service(), &own, &payload(&good));
    assert_eq!(refused(payload(&good), stranger).await, RefusalCode::BadSignature, "wrong key");
    let headers = mesh.sign(&payload(&good));
    let altered = payload(&Command { content: Some("something else".into()), ..good.clone() });
    assert_eq!(refused(altered, headers).await, RefusalCode::BadSignature, "altered payload");

    let other = NodeId::new("n2").unwrap();
    let foreign = Command { node: other.clone(), ..good.clone() };
    let headers = sign(&mesh.key, &Subject::Command(workspace(), other.clone()), &payload(&foreign));
    assert_eq!(refused(payload(&foreign), headers).await, RefusalCode::NotForMe, "another node's");
    let headers = sign(&mesh.key, &Subject::Command(workspace(), other), &payload(&good));
    assert_eq!(refused(payload(&good), headers).await, RefusalCode::BadSignature, "signed for another subject");

    let old =
        Command { issued_at: now().plus_millis(-120_000), expires_at: now().plus_millis(-60_000), ..good.clone() };
    assert_eq!(refused(payload(&old), mesh.sign(&payload(&old))).await, RefusalCode::Expired);
    let early = Command { issued_at: now().plus_millis(60_000), expires_at: now().plus_millis(90_000), ..good.clone() };
    assert_eq!(refused(payload(&early), mesh.sign(&payload(&early))).await, RefusalCode::Expired, "from the future");
    for garbage in [&b"\xc1\x00garbage"[..], b"", b"{\"action\": \"kill\"}", &[0xdf, 0xff, 0xff, 0xff, 0xff]] {
        assert_eq!(refused(garbage.to_vec(), mesh.sign(garbage)).await, RefusalCode::Invalid, "{garbage:?}");
        assert_eq!(refused(garbage.to_vec(), Default::default()).await, RefusalCode::BadSignature);
    }
    let incomplete = Command { content: None, ..good.clone() };
    assert_eq!(refused(payload(&incomplete), mesh.sign(&payload(&incomplete))).await, RefusalCode::Invalid);

    // A command that nobody waits for is not carried out either: its answer could be somebody's trick.
    let headers = mesh.sign(&payload(&good));
    mesh.hub.client.publish_with_headers(own.to_string(), headers, payload(&good).into()).await.unwrap();

    // None of all this has done anything. What comes after it, does.
    mesh.must(mesh.inject_of(&id, "may be said")).await;
    let messages = mesh.wait_for_messages(&id, 2).await;
    let said: Vec<_> = messages.iter().map(|message| message.content.as_str()).collect();
    assert_eq!(said, ["may be said", "may be said"]);
}

/// The same command, written anew.
fn again(command: &Command) -> Command {
    let later = command.expires_at.plus_millis(1 + now().millis_since(command.issued_at).cast_signed());
    Command { expires_at: later, ..command.clone() }
}

/// What the node has told of commands that it did not obey.
async fn told(mesh: &Mesh, count: usize) -> Vec<RefusedCommand> {
    wait_until("the refusals are on the bus", SOON, async || {
        let all = mesh.read(&REFUSALS, "mosaic.v1.default.n1.refusal").await;
        let all: Vec<RefusedCommand> = all.iter().map(|payload| decode(payload, None).unwrap()).collect();
        if all.len() >= count { Ok(all) } else { Err(all) }
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_replayed_command_is_refused_also_by_the_next_node_agent_and_told() {
    let mut mesh = Mesh::start(&echo("talk", &[])).await;
    let id = mesh.spawn("talk").await;
    let (inject, look) = (mesh.inject_of(&id, "once"), mesh.command(Action::TerminalSnapshot, Some(id.clone())));
    for command in [&inject, &look] {
        mesh.must(command.clone()).await;
        assert_eq!(mesh.ask(command.clone()).await.unwrap().refusal.unwrap().code, RefusalCode::Replayed);
    }
    mesh.kill_node();
    mesh.start_node();
    mesh.wait_for_node().await;
    for command in [&inject, &look] {
        assert_eq!(mesh.ask(command.clone()).await.unwrap().refusal.unwrap().code, RefusalCode::Replayed);
    }
    mesh.must(mesh.inject_of(&id, "last")).await;
    let messages = mesh.wait_for_messages(&id, 4).await;
    assert_eq!(messages.iter().filter(|m| m.role == Role::Operator && m.content == "once").count(), 1);
    let told = told(&mesh, 4).await;
    assert!(told.iter().all(|refused| refused.refusal.code == RefusalCode::Replayed), "{told:?}");
    let first = &told[0];
    assert_eq!((first.command_id.as_ref(), first.action.as_ref()), (Some(&inject.command_id), Some(&Action::Inject)));
    assert_eq!((first.operator.as_ref().unwrap(), first.key.as_deref()), (&ada(), Some(&*mesh.key.public_key())));
}

#[tokio::test]
async fn what_the_server_delivers_by_a_trick_is_refused_and_told() {
    let mut mesh = Mesh::start(&echo("talk", &[])).await;
    // Another node may name any reply subject: the server sends its acknowledgement there, and so to a service.
    let other = mesh.server.node("n2").await.unwrap();
    let subject = Subject::Message(workspace(), NodeId::new("n2").unwrap(), new_session_id()).to_string();
    let command = Subject::Command(workspace(), NodeId::new("n1").unwrap()).to_string();
    other.client.publish_with_reply(subject, command, "x".into()).await.unwrap();
    let told = told(&mesh, 1).await;
    assert_eq!((&told[0].refusal.code, told[0].key.as_ref()), (&RefusalCode::Invalid, None), "{told:?}");
}

#[tokio::test]
async fn a_flood_of_bad_commands_is_told_in_part_and_counted_whole() {
    let mesh = Mesh::start("").await;
    let bad = encode(&mesh.command(Action::Kill, Some(new_session_id()))).unwrap();
    for _ in 0..100 {
        let reply = mesh.send(bad.clone(), Default::default()).await.unwrap();
        assert_eq!(reply.refusal.unwrap().code, RefusalCode::BadSignature);
    }
    let all = wait_until("all are told or counted", SOON, async || {
        let told = told(&mesh, 1).await;
        let sum: u64 = told.iter().map(|refused| 1 + refused.untold).sum();
        if sum == 100 { Ok(told) } else { Err(sum) }
    });
    assert!(all.await.unwrap().len() < 40);
}

#[tokio::test]
async fn a_refusal_is_told_although_node_and_bus_are_killed() {
    let mut mesh = Mesh::start("").await;
    let bad = encode(&mesh.command(Action::Kill, Some(new_session_id()))).unwrap();
    let pid = mesh.server.pid().unwrap();
    // The stream cannot take it now: it stays on the node's disk.
    jetstream::new(mesh.hub.client.clone()).delete_stream(REFUSALS.name).await.unwrap();
    mesh.send(bad, Default::default()).await.unwrap();
    wait_until("it is on disk", SOON, async || {
        let kept = std::fs::read(mesh.folder.path().join("data/refusals")).unwrap_or_default();
        kept.windows(12).any(|w| w == b"badSignature")
    })
    .await
    .unwrap();
    mesh.kill_node();
    mesh.server.kill9();
    mesh.server.restart().unwrap();
    assert_ne!(mesh.server.pid(), Some(pid));
    let hub = mesh.server.hub().await.unwrap();
    make_stream(&hub, &REFUSALS).await;
    mesh.start_node();
    assert_eq!(told(&mesh, 1).await[0].refusal.code, RefusalCode::BadSignature);
}

#[tokio::test]
async fn a_new_command_key_is_learned_from_the_old_one_and_outlives_it() {
    let mut mesh = Mesh::start("").await;
    let (old, new) = (mesh.key.clone(), KeyPair::new_service());
    let mut statement = KeySuccession {
        old: old.public_key(),
        new: new.public_key(),
        at: now(),
        until: now().plus_millis(1),
        signature: String::new(),
    };
    statement.signature = URL_SAFE_NO_PAD.encode(old.sign(&statement.signed_bytes()).unwrap());
    let by = async |mesh: &Mesh, key: &KeyPair, chain: Option<&KeySuccession>| {
        let payload = encode(&mesh.command(Action::Trust, None)).unwrap();
        let mut headers = sign(key, &Subject::Command(workspace(), NodeId::new("n1").unwrap()), &payload);
        if let Some(chain) = chain {
            headers.insert(header::KEY_CHAIN, chain.to_string());
        }
        mesh.send(payload, headers).await.unwrap().refusal.map(|refusal| refusal.code)
    };
    assert_eq!(by(&mesh, &new, None).await, Some(RefusalCode::BadSignature));
    let forged = KeySuccession { signature: "c2lnbmF0dXJl".into(), ..statement.clone() };
    assert_eq!(by(&mesh, &new, Some(&forged)).await, Some(RefusalCode::BadSignature));
    assert_eq!(by(&mesh, &new, Some(&statement)).await, None);
    assert_eq!(by(&mesh, &new, None).await, None);
    assert_eq!(by(&mesh, &old, None).await, Some(RefusalCode::BadSignature), "its time is over");
    mesh.kill_node();
    mesh.start_node();
    wait_until("the node is back, and tells whom it obeys", SOON, async || {
        let state = mesh.node_state().await.ok_or(vec![])?;
        if state.command_keys == [new.public_key()] { Ok(()) } else { Err(state.command_keys) }
    })
    .await
    .unwrap();
    assert_eq!(by(&mesh, &new, None).await, None);
    assert_eq!(by(&mesh, &old, None).await, Some(RefusalCode::BadSignature), "though it is in the configuration");
}

#[tokio::test]
async fn a_repeated_command_is_carried_out_once_and_answered_the_same() {
    let mut mesh = Mesh::start(&(echo("talk", &[]) + &echo("slow", &["delay-ms=800"]))).await;
    let id = mesh.spawn("talk").await;
    let inject = mesh.inject_of(&id, "once");
    let input = Command { data: Some(b"key".to_vec()), ..mesh.command(Action::Input, Some(id.clone())) };
    let mut first = vec![];
    for command in [&inject, &input] {
        let reply = mesh.must(command.clone()).await;
        assert_eq!(mesh.must(again(command)).await, reply);
        first.push(reply);
    }
    // Two at the same time, of a command that takes its time.
    let slow = mesh.spawn("slow").await;
    let pause = mesh.command(Action::Pause, Some(slow));
    let (one, two) = tokio::join!(mesh.must(pause.clone()), mesh.must(again(&pause)));
    assert_eq!(one, two);

    // Also after the node agent was killed.
    mesh.wait_for_messages(&id, 2).await;
    mesh.kill_node();
    mesh.start_node();
    mesh.wait_for_node().await;
    assert_eq!(mesh.must(again(&inject)).await, first[0]);
    assert_eq!(mesh.must(again(&input)).await, first[1]);
    let snapshot = mesh.must(mesh.command(Action::TerminalSnapshot, Some(id.clone()))).await.snapshot.unwrap();
    assert_eq!(snapshot.data, b"key");
    mesh.must(mesh.inject_of(&id, "last")).await;
    let messages = mesh.wait_for_messages(&id, 4).await;
    assert_eq!(messages.iter().filter(|m| m.role == Role::Operator && m.content == "once").count(), 1);
}

#[tokio::test]
async fn the_same_spawn_is_the_same_session() {
    let mesh = Mesh::start(&echo("talk", &["hello"])).await;
    let spawn = mesh.spawn_of("talk");
    let id = spawn.spawn.clone().unwrap().session_id;
    mesh.must(spawn.clone()).await;
    let again = Command { spawn: spawn.spawn.clone(), ..mesh.command(Action::Spawn, None) };
    assert_eq!(mesh.must(again.clone()).await.session.unwrap().session_id, id);
    mesh.must(mesh.command(Action::Kill, Some(id.clone()))).await;
    let over = Command { spawn: again.spawn, ..mesh.command(Action::Spawn, None) };
    assert!(mesh.must(over).await.session.unwrap().status.is_terminal());
    assert_eq!(mesh.stored().await[&id].len(), 1);
}

#[tokio::test]
async fn a_slow_session_holds_up_no_other() {
    let mesh = Mesh::start(&(echo("quick", &[]) + &echo("slow", &["delay-ms=4000"]))).await;
    let quick = mesh.spawn("quick").await;
    let slow_spawn = mesh.spawn_of("slow");
    let slow = slow_spawn.spawn.clone().unwrap().session_id;
    let slowly = async {
        mesh.must(slow_spawn).await;
        mesh.must(mesh.command(Action::Pause, Some(slow.clone()))).await;
        Instant::now()
    };
    let quickly = async {
        let begun = Instant::now();
        for n in 0..20 {
            mesh.must(mesh.inject_of(&quick, &format!("line {n}"))).await;
        }
        mesh.must(mesh.command(Action::Pause, Some(quick.clone()))).await;
        mesh.must(mesh.command(Action::Kill, Some(quick.clone()))).await;
        (begun.elapsed(), Instant::now())
    };
    let (slow_end, (took, quick_end)) = tokio::join!(slowly, quickly);
    assert!(quick_end < slow_end, "the quick session took {took:?}");
    // A kill goes past a pause that is under way in the same session.
    let resume = mesh.must(mesh.command(Action::Resume, Some(slow.clone())));
    let kill = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        mesh.ask(mesh.command(Action::Kill, Some(slow.clone()))).await.unwrap()
    };
    let begun = Instant::now();
    let (_, killed) = tokio::join!(resume, kill);
    assert_eq!(killed.outcome, Outcome::Done);
    assert!(begun.elapsed() < Duration::from_millis(7_900), "one after the other: {:?}", begun.elapsed());
}

#[tokio::test]
async fn the_node_is_listed_as_a_service() {
    let mesh = Mesh::start("").await;
    for (subject, kind) in [("$SRV.PING", "ping_response"), ("$SRV.INFO.mosaic-node", "info_response")] {
        let answer = mesh.hub.client.request(subject, "".into()).await.unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
        assert!(answer["type"].as_str().unwrap().ends_with(kind), "{answer}");
        assert_eq!(answer["name"], "mosaic-node");
        assert_eq!(answer["metadata"], serde_json::json!({"node": "n1", "workspace": "default"}));
        if kind == "info_response" {
            assert_eq!(answer["endpoints"][0]["subject"], "mosaic.v1.default.n1.command");
            assert_eq!(answer["endpoints"][0]["queue_group"], "n1");
        }
    }
    // A node that is away is told at once.
    let mut mesh = mesh;
    mesh.node().terminate(SOON).unwrap();
    let begun = Instant::now();
    let error = mesh.ask(mesh.command(Action::Pause, Some(new_session_id()))).await.unwrap_err();
    assert!(error.contains("no responders") && begun.elapsed() < Duration::from_secs(2), "{error}");
}
