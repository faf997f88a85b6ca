//! The holder's socket, by hand: versions are agreed on or refused, nonsense hurts nobody, and a client that does not
//! read costs nothing.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use providers::pty::LogLimits;
use providers::{AgentProvider, Protocol};
use serde_json::{Value, json};

use crate::harness::{Stage, ada, script};

fn connect(stage: &Stage, id: &bus_schema::SessionId) -> UnixStream {
    let stream = UnixStream::connect(stage.session_dir(id).join("holder.sock")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn send(stream: &mut UnixStream, message: &Value) {
    let body = rmp_serde::to_vec_named(message).unwrap();
    stream.write_all(&(body.len() as u32).to_be_bytes()).unwrap();
    stream.write_all(&body).unwrap();
}

fn receive(stream: &mut UnixStream) -> Option<Value> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut body = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut body).ok()?;
    Some(rmp_serde::from_slice(&body).unwrap())
}

#[tokio::test]
async fn a_client_of_another_age_is_refused_with_both_ranges() {
    let stage = Stage::new().await;
    let session = stage.spawn(script(Protocol::Lines, "sleep 1000")).await;
    let mut client = connect(&stage, &session.id);
    send(&mut client, &json!({"hello": {"oldest": 7, "newest": 9}}));
    let answer = receive(&mut client).unwrap();
    assert_eq!((&answer["refused"]["oldest"], &answer["refused"]["newest"]), (&json!(1), &json!(1)));
    assert!(answer["refused"]["reason"].as_str().unwrap().contains("7 to 9"), "{answer}");
    assert_eq!(receive(&mut client), None, "the connection ends");
    // A newer one that still speaks ours is fine, and what it adds to a message is ignored.
    let mut client = connect(&stage, &session.id);
    send(&mut client, &json!({"hello": {"oldest": 1, "newest": 9, "mood": "fine"}}));
    assert_eq!(receive(&mut client).unwrap(), json!({"hello": {"version": 1}}));
    send(&mut client, &json!({"call": {"id": 5, "call": "status", "urgent": true}}));
    assert_eq!(receive(&mut client).unwrap()["reply"]["id"], 5);
}

#[tokio::test]
async fn nonsense_ends_the_connection_and_nothing_else() {
    let stage = Stage::new().await;
    let mut session = stage.spawn(script(Protocol::Lines, "while read x; do echo got $x; done")).await;
    let hello = || {
        let mut client = connect(&stage, &session.id);
        send(&mut client, &json!({"hello": {"oldest": 1, "newest": 1}}));
        receive(&mut client).unwrap();
        client
    };
    let mut without_hello = connect(&stage, &session.id);
    send(&mut without_hello, &json!({"call": {"id": 1, "call": "status"}}));
    assert_eq!(receive(&mut without_hello), None);
    let mut too_large = hello();
    too_large.write_all(&u32::MAX.to_be_bytes()).unwrap();
    assert_eq!(receive(&mut too_large), None);
    let mut unknown = hello();
    send(&mut unknown, &json!({"levitate": {}}));
    assert_eq!(receive(&mut unknown), None);
    let mut beyond = hello();
    send(&mut beyond, &json!({"attach": {"from": 1u64 << 50}}));
    let mut half = hello();
    half.write_all(&[0, 0]).unwrap();
    stage.provider.terminal_input(&session.id, b"still here\n", &ada()).await.unwrap();
    session.message("got still here").await;
}

#[tokio::test]
async fn clients_that_do_not_read_cost_nothing() {
    let limits = LogLimits { segment_bytes: 256 * 1024, retained_bytes: 0, ..LogLimits::default() };
    let stage = Stage::limited(limits).await;
    let mut session = stage.spawn(script(Protocol::Lines, "read; seq 1 400000")).await;
    let silent: Vec<UnixStream> = (0..40)
        .map(|_| {
            let mut client = connect(&stage, &session.id);
            send(&mut client, &json!({"hello": {"oldest": 1, "newest": 1}}));
            send(&mut client, &json!({"attach": {"from": 0}}));
            client
        })
        .collect();
    stage.provider.terminal_input(&session.id, b"\n", &ada()).await.unwrap();
    session.message("400000").await;
    let holder = stage.pid(&session.id, "holder");
    let status = std::fs::read_to_string(format!("/proc/{holder}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let resident: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    // Half a megabyte may wait for each at most; the log is ten times that.
    assert!(resident < 64 * 1024, "{resident} KiB at most");
    drop(silent);
}

#[tokio::test]
async fn only_the_user_can_reach_a_session() {
    let stage = Stage::new().await;
    let session = stage.spawn(script(Protocol::Lines, "sleep 1000")).await;
    let dir = stage.session_dir(&session.id);
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for file in ["holder.sock", "agent.sock", "state.json", "spec.json", "log/00000000000000000000.seg"] {
        assert_eq!(mode(&dir.join(file)), 0o600, "{file}");
    }
}
