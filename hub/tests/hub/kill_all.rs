//! Kill-all and nodes that are away: they carry it out when they are back, but not after its lease.

use bus_schema::*;
use serde_json::{Value, json};
use testkit::{Person, wait_until};

use super::support::*;

async fn knows_session(person: &Person) {
    wait_until("the session is known", WAIT, async || person.session(S1).await.map(drop).map_err(|e| e.to_string()))
        .await
        .unwrap();
}

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

/// Obeys, and tells the end of a session with its proof.
fn killed(session: &Session) -> impl Fn(&Command) -> CommandReply + Send + 'static + use<> {
    let session = Session { status: Status::Killed, rev: session.rev + 1, ..session.clone() };
    let ended = vec![EndedProcess { pid: 7, name: "agent".into() }];
    let report = EndReport { containment: "cgroup".into(), steps: vec![], ended, survivors: vec![] };
    move |command| CommandReply { session: Some(session.clone()), report: Some(report.clone()), ..done(command) }
}

#[tokio::test]
async fn a_node_that_was_away_carries_a_kill_all_out_on_its_return_also_after_a_death_of_the_hub() {
    let mut stack = Stack::start().await;
    let node = stack.node("n1").await;
    let session = node.session(S1, 1, "running");
    node.send_session(&session).await;
    let operator = stack.sign_in("operator").await;
    knows_session(&operator).await;
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
    knows_session(&operator).await;
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
