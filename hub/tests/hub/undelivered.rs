//! Operator messages that did not get there: nobody knows, or their time was up. They are offered again, and given up
//! only with somebody's name to it.

use bus_schema::*;
use serde_json::{Value, json};
use testkit::{Person, wait_until};

use super::support::*;

async fn send_receipt(node: &Node, message: &str, state: Delivery) {
    let receipt = Receipt {
        session_id: SessionId::new(S1).unwrap(),
        message_id: MessageId::new(message).unwrap(),
        state: state.clone(),
        mode_asked: InjectMode::Steer,
        mode_obtained: None,
        reason: None,
        timestamp: hub::clock::now(),
    };
    let (workspace, session) = (WorkspaceId::new("default").unwrap(), SessionId::new(S1).unwrap());
    let subject = Subject::Receipt(workspace, node.name.clone(), session).to_string();
    let id = format!("{message}.{state}.{}", receipt.timestamp);
    node.publish_raw(subject, Some(id), encode(&receipt).unwrap()).await;
}

async fn send_said(node: &Node, seq: u64, id: &str) {
    let said = Message {
        message_id: MessageId::new(id).unwrap(),
        role: Role::Operator,
        content: format!("do {id}"),
        ..Node::message(S1, seq)
    };
    node.publish_raw(node.message_subject(S1), Some(id.into()), encode(&said).unwrap()).await;
    send_receipt(node, id, Delivery::Delivered).await;
}

/// The metadata of a message, once it is as it should be.
async fn metadata(person: &Person, id: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    wait_until(id, WAIT, async || {
        let all = person.messages(S1, 0).await.map_err(|e| e.to_string())?;
        let found = all.iter().find(|m| m["messageId"] == id).map(|m| m["metadata"].clone());
        found.filter(|found| is_it(found)).ok_or(format!("{all:?}"))
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn what_did_not_get_there_is_offered_again_and_given_up_only_by_name() {
    let mut stack = Stack::start().await;
    let node = stack.node("n1").await;
    node.send_session(&node.session(S1, 1, "running")).await;
    for (seq, id) in [(1, "lost"), (2, "late"), (3, "fine")] {
        send_said(&node, seq, id).await;
    }
    send_receipt(&node, "lost", Delivery::NotKnown).await;
    send_receipt(&node, "late", Delivery::Expired).await;
    send_receipt(&node, "fine", Delivery::Written).await;
    let operator = stack.sign_in("operator").await;
    for (id, state) in [("lost", "unknown"), ("late", "expired"), ("fine", "written")] {
        let found = metadata(&operator, id, |m| m["delivery"] == state).await;
        assert_eq!(found.get("settled"), None, "it is offered: {found}");
    }
    let inject = format!("/api/mission-control/sessions/{S1}/inject");
    let discard = |id: &str| format!("/api/mission-control/sessions/{S1}/messages/{id}/discard");
    let of_no_use = |status: u16| assert_eq!(status, 409, "what arrived is not to be settled");
    of_no_use(operator.post(&discard("fine"), json!({})).await.unwrap().0);
    of_no_use(operator.post(&inject, json!({"content": "x", "retryOf": "fine"})).await.unwrap().0);
    assert_eq!(operator.post(&discard("nothing"), json!({})).await.unwrap().0, 404);

    let answer = |command: &Command| CommandReply { delivery: Some(Delivery::Delivered), ..done(command) };
    let _tasks = node.obey(answer).await;
    let body = json!({"content": "do lost", "retryOf": "lost"});
    let (status, sent) = operator.post(&inject, body.clone()).await.unwrap();
    assert_eq!(status, 202, "{sent}");
    let (_, again) = operator.post(&inject, body).await.unwrap();
    assert_eq!(again["messageId"], sent["messageId"], "once, however often the button is pressed");
    assert_eq!(operator.post(&discard("late"), json!({})).await.unwrap().0, 204);

    for restart in [false, true] {
        if restart {
            stack.kill9_hub();
            stack.start_hub().await;
        }
        let operator = operator.at(stack.url());
        let lost = metadata(&operator, "lost", |m| m["settled"]["how"] == "sentAgain").await;
        assert_eq!((&lost["settled"]["messageId"], &lost["settled"]["by"]), (&sent["messageId"], &json!("OPERATOR")));
        let late = metadata(&operator, "late", |m| m["settled"]["how"] == "discarded").await;
        assert_eq!((&late["settled"]["by"], &late["delivery"]), (&json!("OPERATOR"), &json!("expired")));
        of_no_use(operator.post(&inject, json!({"content": "x", "retryOf": "late"})).await.unwrap().0);
        let log = operator.get("/api/mission-control/audit?action=discardMessage").await.unwrap();
        let row = &log["entries"][0];
        assert_eq!((&row["user"]["name"], &row["metadata"]["messageId"]), (&json!("OPERATOR"), &json!("late")));
    }
    let known = metadata(&operator.at(stack.url()), "lost", |m| m["delivery"] == "unknown").await;
    send_receipt(&node, "lost", Delivery::Written).await;
    let known_now = metadata(&operator.at(stack.url()), "lost", |m| m["delivery"] == "written").await;
    assert_eq!(known["settled"], known_now["settled"], "what is known in the end is told, whatever was decided");
}
