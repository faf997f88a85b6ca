//! Kill-all over three hosts, one of which is cut off: nothing lives on where it can be reached, and what cannot be
//! reached is killed when it comes back. And a hub that is killed in the middle of it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use futures::StreamExt;
use serde_json::{Value, json};
use testkit::{Mesh, Networks, Person, Stack, wait_until};

const WITHIN: Duration = Duration::from_secs(120);
const HOSTS: usize = 3;
/// Sessions of each kind on each host.
const OF_EACH: usize = 5;
/// Kinds of agents, and how many processes each consists of that must not live on.
const KINDS: [(&str, usize); 4] = [("plain", 1), ("stubborn", 1), ("forked", 2), ("setsid", 3)];

/// Agents that do not want to go. Each process of theirs carries the mark in its arguments, also the one that has left
/// its terminal, its session, its parent and its environment.
fn profiles(mark: &str) -> String {
    let sleep = |name: &str| format!("exec -a {mark}-{name} sleep 100000");
    let scripts = [
        ("plain", sleep("plain")),
        ("stubborn", format!("trap '' TERM HUP INT; {}", sleep("stubborn"))),
        ("forked", format!("( ( trap '' TERM HUP; {} ) & ) & {}", sleep("grandchild"), sleep("parent"))),
        (
            "setsid",
            format!(
                "setsid bash -c \"trap '' TERM HUP; {}\" & env -i PATH=\"$PATH\" setsid -f bash -c '{}' & {}",
                sleep("setsid"),
                sleep("bare"),
                sleep("parent")
            ),
        ),
    ];
    let profile = |(name, script): (&str, String)| {
        format!("[[profile]]\nname = {name:?}\nprotocol = \"lines\"\ncommand = [\"bash\", \"-c\", {script:?}]\n")
    };
    scripts.map(profile).concat()
}

/// How many processes carry the mark in their arguments.
fn alive(mark: &str) -> usize {
    let carries = |entry: &std::fs::DirEntry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        // The node agent, its holders and shells have it in what they are to run: only the name counts.
        line.split(|b| *b == 0).next().is_some_and(|name| name.starts_with(mark.as_bytes()))
    };
    std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).filter(|entry| carries(entry)).count()
}

async fn start_sessions(operator: &Person, node: &str) -> Vec<String> {
    let profiles = KINDS.iter().flat_map(|(kind, _)| std::iter::repeat_n(*kind, OF_EACH));
    let spawn = profiles.map(|kind| async move { operator.spawn(node, kind).await.unwrap() });
    futures::stream::iter(spawn.collect::<Vec<_>>()).buffer_unordered(4).collect().await
}

fn outcomes(receipt: &Value, sessions: &[String]) -> Vec<String> {
    let results = receipt["results"].as_array().unwrap();
    let of = |id: &String| results.iter().find(|r| r["sessionId"] == id.as_str()).unwrap()["outcome"].to_string();
    sessions.iter().map(of).collect()
}

#[tokio::test]
async fn kill_all_reaches_every_process_of_three_hosts_also_of_one_that_was_cut_off() {
    let networks = match Networks::new(HOSTS).unwrap() {
        Ok(networks) => networks,
        Err(reason) => return println!("SKIPPED: no network namespaces: {reason}"),
    };
    let mut mesh = Mesh::start(&networks.address(), "", "").unwrap();
    let operator = mesh.person("operator").await.unwrap();
    let names: Vec<String> = (1..=HOSTS).map(|n| format!("n{n}")).collect();
    let marks: Vec<String> = names.iter().map(|name| format!("mm{}{name}", std::process::id())).collect();
    for (host, name) in names.iter().enumerate() {
        mesh.add_node(name, &profiles(&marks[host]), &networks.on(host)).unwrap();
    }
    for name in &names {
        mesh.knows(&operator, name).await.unwrap();
    }
    let started = names.iter().map(|name| start_sessions(&operator, name));
    let sessions: Vec<Vec<String>> = futures::future::join_all(started).await;
    let of_host: usize = KINDS.iter().map(|(_, processes)| processes * OF_EACH).sum();
    let all_alive = || marks.iter().map(|mark| alive(mark)).collect::<Vec<_>>();
    wait_until("every process is there", WITHIN, async || {
        let alive = all_alive();
        if alive == [of_host; HOSTS] { Ok(()) } else { Err(alive) }
    })
    .await
    .unwrap();

    networks.cut(2).unwrap();
    let asked = Instant::now();
    let body = json!({"confirm": "KILL ALL"});
    let (status, receipt) = operator.post("/api/mission-control/kill-all", body).await.unwrap();
    let answered = asked.elapsed();
    assert_eq!(status, 200, "{receipt}");
    assert_eq!(receipt["results"].as_array().unwrap().len(), HOSTS * KINDS.len() * OF_EACH);
    for reached in &sessions[..2] {
        assert!(outcomes(&receipt, reached).iter().all(|o| o == "\"killed\""), "{receipt}");
    }
    assert!(outcomes(&receipt, &sessions[2]).iter().all(|o| o == "\"pending\""), "{receipt}");
    let is_proven = |r: &Value| r["outcome"] != "killed" || r["report"]["survivors"] == json!([]);
    assert!(receipt["results"].as_array().unwrap().iter().all(is_proven), "{receipt}");
    assert_eq!(receipt["state"], "pending");
    assert_eq!(all_alive(), [0, 0, of_host], "nothing lives on where it was reached");

    networks.mend(2).unwrap();
    let mended = Instant::now();
    let path = format!("/api/mission-control/kill-all/{}", receipt["receiptId"].as_str().unwrap());
    let complete = wait_until("the third carries it out", WITHIN, async || {
        let receipt = operator.get(&path).await.map_err(|e| e.to_string())?;
        if receipt["state"] == "complete" { Ok(receipt) } else { Err(receipt["results"].to_string()) }
    })
    .await
    .unwrap();
    println!(
        "kill-all of {} sessions, {} processes: answered after {answered:.1?}, complete {:.1?} after the return",
        HOSTS * KINDS.len() * OF_EACH,
        HOSTS * of_host,
        mended.elapsed()
    );
    assert!(complete["results"].as_array().unwrap().iter().all(|r| r["outcome"] == "killed"), "{complete}");
    assert!(complete["results"].as_array().unwrap().iter().all(is_proven), "{complete}");
    assert_eq!(all_alive(), [0; HOSTS], "nothing lives on anywhere");
    wait_until("the audit log has the completion", WITHIN, async || {
        let log = operator.get("/api/mission-control/audit?action=killAllCompleted").await.unwrap();
        let rows = log["entries"].as_array().unwrap().clone();
        let is_it = |row: &Value| row["metadata"]["killAll"] == receipt["receiptId"] && row["result"] == "ok";
        if rows.len() == 1 && rows.iter().all(is_it) { Ok(()) } else { Err(log) }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_hub_killed_in_the_middle_of_a_kill_all_leaves_nothing_alive_and_no_session_out() {
    let mark = format!("mmhub{}", std::process::id());
    let stack = Stack::start(&profiles(&mark), &[], &[]).unwrap();
    let (operator, node) = (stack.person("operator").await.unwrap(), stack.said("/node").unwrap());
    let sessions = [start_sessions(&operator, node).await, start_sessions(&operator, node).await].concat();
    let all = 2 * KINDS.iter().map(|(_, processes)| processes * OF_EACH).sum::<usize>();
    wait_until("every process is there", WITHIN, async || {
        let alive = alive(&mark);
        if alive == all { Ok(()) } else { Err(alive) }
    })
    .await
    .unwrap();

    let mut asking = tokio::task::JoinSet::new();
    let asker = operator.clone();
    asking
        .spawn(async move { drop(asker.post("/api/mission-control/kill-all", json!({"confirm": "KILL ALL"})).await) });
    wait_until("the first of them is gone", WITHIN, async || alive(&mark) < all).await.unwrap();
    let left = alive(&mark);
    stack.kill9("hub").unwrap();
    asking.join_all().await;
    let receipt = wait_until("the hub after it carries it out", WITHIN, async || {
        let told = operator.get("/api/mission-control/kill-all").await.map_err(|e| e.to_string())?;
        let receipt = &told["receipts"][0];
        if receipt["state"] == "complete" { Ok(receipt.clone()) } else { Err(told.to_string()) }
    })
    .await
    .unwrap();
    println!("{} sessions, {all} processes, of which {left} lived when the hub was killed", sessions.len());
    assert_eq!(receipt["results"].as_array().unwrap().len(), sessions.len(), "{receipt}");
    assert!(outcomes(&receipt, &sessions).iter().all(|o| o == "\"killed\""), "{receipt}");
    assert_eq!(alive(&mark), 0, "nothing lives on");
}
