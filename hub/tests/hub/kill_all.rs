//! Kill-all and nodes that are away: they carry it out when they are back, but not after its lease.

use std::collections::BTreeSet;

use bus_schema::*;
use futures::StreamExt;
use serde_json::{Value, json};
use testkit::{Person, wait_until};
use tokio::task::JoinSet;

use super::support::*;

async fn kill_all(person: &Person) -> (String, Value) {
    let (status, receipt) = person.post("/api/mission-control/kill-all", json!({"confirm": "KILL ALL"})).await.unwrap();
    assert_eq!(status, 200, "{receipt}");
    (format!("/api/mission-control/kill-all/{}", receipt["receiptId"].as_str().unwrap()), receipt)
}

async fn complete(person: &Person, path: &str) -> Value {
    wait_until("the receipt is complete", WAIT, async || {
        let receipt = person.get(path).await.map_err(|e| e.to_string())?;
        if receipt["state"] == "complete" { Ok(receipt) } else { Err(receipt.to_string()) }
    })
    .await
    .unwrap()
}

/// Obeys, and tells the end of a session (such as this one) with its proof.
fn killed(session: &Session) -> impl Fn(&Command) -> CommandReply + Send + 'static + use<> {
    let session = Session { status: Status::Killed, rev: session.rev + 1, ..session.clone() };
    let ended = vec![EndedProcess { pid: 7, name: "agent".into() }];
    let report = EndReport { containment: "cgroup".into(), steps: vec![], ended, survivors: vec![] };
    move |command| {
        let session = Session { session_id: command.session_id.clone().unwrap(), ..session.clone() };
        CommandReply { session: Some(session), report: Some(report.clone()), ..done(command) }
    }
}

#[tokio::test]
async fn a_node_that_was_away_carries_a_kill_all_out_on_its_return_also_after_a_death_of_the_hub() {
    let mut stack = Stack::start().await;
    let node = stack.node("n1").await;
    let session = node.session(S1, 1, "running");
    node.send_session(&session).await;
    let operator = stack.sign_in("operator").await;
    knows_session(&operator, S1).await;
    let (path, receipt) = kill_all(&operator).await;
    assert_eq!((&receipt["state"], &receipt["results"][0]["outcome"]), (&json!("pending"), &json!("pending")));

    stack.kill9_hub();
    stack.start_hub().await;
    let operator = operator.at(stack.url());
    wait_until("the hub after it has the receipt", WAIT, async || {
        let receipt = operator.get(&path).await.map_err(|e| e.to_string())?;
        if receipt["results"][0]["outcome"] == "pending" { Ok(()) } else { Err(receipt.to_string()) }
    })
    .await
    .unwrap();
    let _tasks = node.obey(killed(&session)).await;
    node.state("up").await;
    let receipt = complete(&operator, &path).await;
    assert_eq!(receipt["results"][0]["outcome"], "killed", "{receipt}");
    assert_eq!(receipt["results"][0]["report"]["ended"][0]["pid"], 7, "{receipt}");
    let commands = node.commands.lock().unwrap().clone();
    assert_eq!((commands[0].action.clone(), commands[0].operator.name.as_str()), (Action::Kill, "OPERATOR"));
    assert_eq!(commands.len(), 1);
    wait_until("the completion is written down", WAIT, async || {
        let log = operator.get("/api/mission-control/audit?action=killAllCompleted").await.unwrap();
        if log["entries"][0]["user"]["name"] == "OPERATOR" { Ok(()) } else { Err(log) }
    })
    .await
    .unwrap();
    let all = operator.get("/api/mission-control/kill-all").await.unwrap();
    assert_eq!(all["receipts"][0], receipt);
}

#[tokio::test]
async fn a_kill_all_is_not_carried_out_after_its_lease_and_that_is_said() {
    let mut stack = Stack::start_configured("kill_all_lease_s = 2", "").await;
    let node = stack.node("n1").await;
    let session = node.session(S1, 1, "running");
    node.send_session(&session).await;
    let operator = stack.sign_in("operator").await;
    knows_session(&operator, S1).await;
    let (path, _) = kill_all(&operator).await;
    let receipt = complete(&operator, &path).await;
    assert_eq!(receipt["results"][0]["outcome"], "expired", "{receipt}");
    let log = operator.get("/api/mission-control/audit?action=kill").await.unwrap();
    assert_eq!((&log["entries"][0]["result"], &log["entries"][0]["sessionId"]), (&json!("expired"), &json!(S1)));

    // It is back, and is told nothing but what is asked of it now.
    let _tasks = node.obey(done).await;
    node.state("up").await;
    assert_eq!(operator.act(S1, "pause").await.unwrap().0, 200);
    let commands = node.commands.lock().unwrap().clone();
    assert_eq!(commands.iter().map(|c| c.action.clone()).collect::<Vec<_>>(), [Action::Pause]);
    assert_eq!(operator.get(&path).await.unwrap()["results"][0]["outcome"], "expired");
}

/// Asks for a kill-all whose answer nobody waits for: its hub is going to die.
fn ask_for_kill_all(person: &Person) -> JoinSet<()> {
    let (person, mut asking) = (person.clone(), JoinSet::new());
    let body = json!({"confirm": "KILL ALL"});
    asking.spawn(async move { drop(person.post("/api/mission-control/kill-all", body).await) });
    asking
}

/// The receipt of the one kill-all there was, once it is complete.
async fn the_receipt(person: &Person) -> Value {
    wait_until("its receipt is complete", WAIT, async || {
        let all = person.get("/api/mission-control/kill-all").await.map_err(|e| e.to_string())?;
        let receipt = &all["receipts"][0];
        if receipt["state"] == "complete" { Ok(receipt.clone()) } else { Err(all.to_string()) }
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_hub_that_dies_in_the_middle_of_a_kill_all_leaves_no_session_out() {
    let mut stack = Stack::start().await;
    let (near, far) = (stack.node("n1").await, stack.node("n2").await);
    // More than are killed at once: some are not begun when the hub dies.
    let of_far: BTreeSet<String> = (100..140).map(|n| format!("01JD8Z2V9Q{n:016}")).collect();
    for id in &of_far {
        far.send_session(&far.session(id, 1, "running")).await;
    }
    near.send_session(&near.session(S1, 1, "running")).await;
    let operator = stack.sign_in("operator").await;
    wait_until("the sessions are known", WAIT, async || {
        let known = operator.get("/api/mission-control/sessions").await.unwrap();
        known["sessions"].as_array().unwrap().len() == 1 + of_far.len()
    })
    .await
    .unwrap();
    let _obeying = near.obey(killed(&near.session(S1, 1, "running"))).await;
    let command = Subject::Command(far.workspace.clone(), far.name.clone()).to_string();
    let mut unanswered = far.bus.client.subscribe(command).await.unwrap();
    far.bus.client.flush().await.unwrap();
    let asking = ask_for_kill_all(&operator);
    let mut begun = 0;
    while tokio::time::timeout(WAIT, unanswered.next()).await.unwrap().is_some() {
        begun += 1;
        if begun == 32 {
            break;
        }
    }
    wait_until("one of them is known to be killed", WAIT, async || {
        let log = operator.get("/api/mission-control/audit?action=kill&limit=500").await.unwrap();
        log["entries"].as_array().unwrap().iter().any(|row| row["result"] == "ok")
    })
    .await
    .unwrap();
    stack.kill9_hub();
    asking.join_all().await;
    drop(unanswered);

    let _obeying_too = far.obey(killed(&far.session(S1, 1, "running"))).await;
    stack.start_hub().await;
    let operator = operator.at(stack.url());
    far.state("up").await;
    near.state("up").await;
    let receipt = the_receipt(&operator).await;
    let results = receipt["results"].as_array().unwrap();
    assert_eq!(results.len(), 1 + of_far.len(), "{receipt}");
    assert!(results.iter().all(|r| r["outcome"] == "killed" && r["report"]["ended"][0]["pid"] == 7), "{receipt}");
    assert_eq!(receipt["by"]["name"], "OPERATOR");
    assert_eq!(near.commands.lock().unwrap().len(), 1, "what was known to be killed is not killed again");
    let commands = far.commands.lock().unwrap().clone();
    let told: BTreeSet<String> = commands.iter().map(|c| c.session_id.as_ref().unwrap().to_string()).collect();
    assert_eq!((told, commands.len()), (of_far.clone(), of_far.len()), "each once");
    wait_until("both are written down", WAIT, async || {
        let log = operator.get("/api/mission-control/audit?limit=500").await.unwrap();
        let rows = log["entries"].as_array().unwrap().clone();
        let has = |action: &str, result: &str| {
            let is_it = |row: &&Value| row["action"] == action && row["metadata"]["killAll"] == receipt["receiptId"];
            rows.iter().find(is_it).is_some_and(|row| row["result"] == result && row["user"]["name"] == "OPERATOR")
        };
        if has("killAllResumed", "unknown") && has("killAllCompleted", "ok") { Ok(()) } else { Err(log) }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_kill_all_that_broke_off_is_not_carried_on_after_its_lease() {
    let mut stack = Stack::start_configured("kill_all_lease_s = 1", "").await;
    let node = stack.node("n1").await;
    node.send_session(&node.session(S1, 1, "running")).await;
    let operator = stack.sign_in("operator").await;
    knows_session(&operator, S1).await;
    let command = Subject::Command(node.workspace.clone(), node.name.clone()).to_string();
    let mut unanswered = node.bus.client.subscribe(command).await.unwrap();
    node.bus.client.flush().await.unwrap();
    let asking = ask_for_kill_all(&operator);
    tokio::time::timeout(WAIT, unanswered.next()).await.unwrap().unwrap();
    stack.kill9_hub();
    asking.join_all().await;
    drop(unanswered);
    let over = hub::clock::now().plus_millis(1_000);
    wait_until("the lease is over", WAIT, async || hub::clock::now() > over).await.unwrap();

    let _obeying = node.obey(done).await;
    stack.start_hub().await;
    let operator = operator.at(stack.url());
    node.state("up").await;
    let receipt = the_receipt(&operator).await;
    assert_eq!(receipt["results"][0]["outcome"], "expired", "{receipt}");
    assert_eq!(node.commands.lock().unwrap().len(), 0);
    assert_eq!(operator.session(S1).await.unwrap()["status"], "running");
}
