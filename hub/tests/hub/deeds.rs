//! What is done by hand at the folder of the identity, and a bus that has no room.

use bus_schema::*;
use hub_identity::{Deed, Identity};
use reqwest::StatusCode;
use serde_json::Value;
use testkit::{NatsServer, Person, wait_until};

use crate::support::*;

async fn rows(person: &Person, action: &str) -> Vec<Value> {
    let log = person.get(&format!("/api/mission-control/audit?action={action}")).await.unwrap();
    log["entries"].as_array().unwrap().clone()
}

fn deed(action: &str, n: usize, result: &str) -> Deed {
    let mut deed = Deed::new(&WorkspaceId::new("default").unwrap(), action, "ada");
    deed.node = Some(NodeId::new(format!("n{n}")).unwrap());
    deed.result = result.into();
    deed
}

#[tokio::test]
async fn what_is_done_at_the_identity_is_in_the_audit_log_once_over_kills() {
    let mut stack = Stack::start_with_identity().await;
    let dir = stack.nats.identity().identity().dir().to_owned();
    let identity = Identity::open(&dir).unwrap();
    let deeds: Vec<_> = (0..6).map(|n| deed("enrolNode", n, "ok")).collect();
    for (n, deed) in deeds.iter().enumerate() {
        identity.keep_deed(deed).unwrap();
        if n == 3 {
            stack.kill9_hub();
            stack.start_hub().await;
        }
    }
    let admin = stack.sign_in("admin").await;
    let waits = || {
        std::fs::read_dir(dir.join("deeds"))
            .unwrap()
            .flatten()
            .any(|e| e.path().extension().is_some_and(|e| e == "json"))
    };
    wait_until("all are taken", WAIT, async || !waits()).await.unwrap();
    // Those that a hub wrote down before it broke off: found in the log, and not written again.
    for deed in &deeds[..2] {
        identity.keep_deed(deed).unwrap();
    }
    let mut broken = deed("revokeNode", 7, "pending");
    broken.at = broken.at.plus_millis(-600_000);
    identity.keep_deed(&broken).unwrap();
    let failed = Deed { detail: Some("the servers do not know it".into()), ..deed("revokeNode", 8, "failed") };
    identity.keep_deed(&failed).unwrap();
    // Of another workspace, under way, and nothing that anybody knows.
    let other = Deed { workspace: WorkspaceId::new("other").unwrap(), ..deed("enrolNode", 9, "ok") };
    let (under_way, strange) = (deed("enrolNode", 10, "pending"), deed("signIn", 11, "ok"));
    for deed in [&other, &under_way, &strange] {
        identity.keep_deed(deed).unwrap();
    }
    let is_there = |deed: &Deed, end: &str| dir.join("deeds").join(format!("{}.{end}", deed.id)).exists();
    wait_until("the others are judged", WAIT, async || {
        let gone = [&deeds[0], &deeds[1], &broken, &failed, &strange].iter().all(|deed| !is_there(deed, "json"));
        gone && is_there(&strange, "unread")
    })
    .await
    .unwrap();
    assert!(is_there(&other, "json") && is_there(&under_way, "json"));

    let rows_of = async |action| rows(&admin, action).await;
    let enrolled = wait_until("the rows are there", WAIT, async || {
        let rows = rows_of("enrolNode").await;
        if rows.len() >= 6 { Ok(rows) } else { Err(rows) }
    })
    .await
    .unwrap();
    let ids: std::collections::BTreeSet<_> = enrolled.iter().map(|row| row["metadata"]["deedId"].to_string()).collect();
    assert_eq!((enrolled.len(), ids.len()), (6, 6), "each once: {enrolled:?}");
    let row = enrolled.iter().find(|row| row["node"] == "n0").unwrap();
    assert_eq!(
        (row["result"].as_str(), row["user"]["name"].as_str()),
        (Some("ok"), Some("ada at the identity")),
        "{row}"
    );
    assert!(row["user"]["id"].is_null(), "nobody is named who may not have done it: {row}");
    let revoked = rows_of("revokeNode").await;
    let result = |node: &str| revoked.iter().find(|row| row["node"] == node).map(|row| row["result"].clone());
    assert_eq!((result("n7"), result("n8")), (Some("unknown".into()), Some("failed".into())), "{revoked:?}");
    assert_eq!(rows_of("signIn").await.iter().filter(|row| row["metadata"]["deedId"].is_string()).count(), 0);
}

#[tokio::test]
async fn a_bus_without_room_is_named_with_what_to_do_and_with_room_the_hub_is_ready() {
    let mut nats = NatsServer::start().unwrap();
    nats.set_room(Some("600MB"));
    nats.restart().unwrap();
    let mut stack = Stack::idle(nats);
    stack.launch_hub();
    let http = reqwest::Client::new();
    wait_until("it says what it waits for", WAIT, async || {
        let Some(url) = stack.url_if_known() else { return Err("no address yet".to_owned()) };
        let answer = http.get(format!("{url}/readyz")).send().await.map_err(|error| error.to_string())?;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let told: Value = answer.json().await.unwrap_or_default();
        let first = told["waiting"][0].as_str().unwrap_or_default().to_owned();
        let says_all = ["has no room for the stream", "max_file_store", "Free disk space", "messages_max_bytes"];
        if says_all.iter().all(|part| first.contains(part)) { Ok(()) } else { Err(told.to_string()) }
    })
    .await
    .unwrap();
    let log = std::fs::read_to_string(stack.dir.path().join("hub.log")).unwrap();
    assert!(log.contains("ERROR") && log.contains("has no room for the stream"), "{log}");
    stack.nats.set_room(None);
    stack.nats.restart().unwrap();
    wait_until("it is ready", WAIT, async || {
        let answer = http.get(format!("{}/readyz", stack.url())).send().await.map_err(|error| error.to_string())?;
        if answer.status() == StatusCode::OK { Ok(()) } else { Err(answer.text().await.unwrap_or_default()) }
    })
    .await
    .unwrap();
}
