//! Everything at once: several sessions of two runtimes talk and are talked to, while server and node agent are killed
//! in an order that nobody chose.

use std::collections::BTreeMap;
use std::time::Duration;

use bus_schema::{Command, Role, SessionId, encode};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::harness::{Mesh, echo, now};

const ROUNDS: u64 = 14;
const FLOOD: u64 = 2_000;
/// How long a hub waits before it asks again with the same id.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// Sends a command as a hub does that will not give up: the same id, until there is an answer.
async fn insist(mesh: &Mesh, command: &Command) {
    loop {
        let command = Command { issued_at: now(), expires_at: now().plus_millis(30_000), ..command.clone() };
        let payload = encode(&command).unwrap();
        let headers = mesh.sign(&payload);
        match tokio::time::timeout(PATIENCE, mesh.send(payload, headers)).await {
            Ok(Ok(reply)) if reply.refusal.is_none() => return,
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Promise: each message is stored once, in its place; each line of an operator is said once, in its order; and the last
/// snapshot knows of all of it.
#[tokio::test]
async fn whatever_is_killed_nothing_is_lost_or_doubled() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let script = format!("for i in $(seq 1 {FLOOD}); do echo $i; [ $((i % 50)) = 0 ] && sleep 0.1; done; exec cat");
    let terminal = |name: &str, script: &str| {
        format!("[[profile]]\nname = {name:?}\ncommand = [\"bash\", \"-c\", {script:?}]\nprotocol = \"lines\"\n")
    };
    let profiles = echo("flood", &["pace-ms=2", &format!("flood {FLOOD}")])
        + &echo("talk", &[])
        + &terminal("lines", &script)
        + &terminal("cat", "stty -echo; exec cat");
    let mut mesh = Mesh::start(&profiles).await;
    let floods = [mesh.spawn("flood").await, mesh.spawn("lines").await];
    let talkers = [mesh.spawn("talk").await, mesh.spawn("cat").await];
    for round in 0..ROUNDS {
        for id in &talkers {
            insist(&mesh, &mesh.inject_of(id, &format!("line {round}"))).await;
            if dice.random_bool(0.3) {
                mesh.kill_node();
                mesh.start_node();
            }
        }
        let kills = dice.random_range(0..4);
        if kills & 1 == 1 {
            mesh.server.kill9();
            tokio::time::sleep(Duration::from_millis(dice.random_range(0..800))).await;
        }
        if kills & 2 == 2 {
            mesh.kill_node();
            mesh.start_node();
        }
        if kills & 1 == 1 {
            mesh.server.restart().unwrap();
        }
        tokio::time::sleep(Duration::from_millis(dice.random_range(0..500))).await;
    }
    let counts: BTreeMap<&SessionId, u64> =
        floods.iter().map(|id| (id, FLOOD)).chain(talkers.iter().map(|id| (id, 2 * ROUNDS))).collect();
    for (id, count) in counts {
        mesh.wait_for_session(id, "all is in the snapshot", |session| session.last_seq == count).await;
        let messages = mesh.wait_for_messages(id, count).await;
        let seqs: Vec<u64> = messages.iter().map(|message| message.seq).collect();
        assert_eq!(seqs, (1..=count).collect::<Vec<_>>(), "seed {seed}");
        let said = |role: Role| -> Vec<String> {
            messages.iter().filter(|message| message.role == role).map(|message| message.content.clone()).collect()
        };
        if count == FLOOD {
            assert_eq!(said(Role::Agent), (1..=FLOOD).map(|n| n.to_string()).collect::<Vec<_>>(), "seed {seed}");
        } else {
            let lines: Vec<_> = (0..ROUNDS).map(|round| format!("line {round}")).collect();
            assert_eq!(said(Role::Operator), lines, "seed {seed}");
            assert_eq!(said(Role::Agent), lines, "seed {seed}");
        }
    }
    assert!(!mesh.log().contains(" ERROR "), "seed {seed}");
}
