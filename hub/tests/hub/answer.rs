//! What an agent asks is answered from afar.

use bus_schema::*;
use serde_json::{Value, json};
use testkit::wait_until;

use crate::support::*;

fn asking(node: &Node, rev: u64, request: &str) -> Session {
    let mut session = node.session(S1, rev, "waiting");
    session.capabilities.push(Capability::Approve);
    session.attention = serde_json::from_value(json!({
        "kind": "permission", "text": "May I run `rm -r build`?", "since": hub::clock::now(),
        "request": {"requestId": request, "takesText": true, "options": [
            {"optionId": "yes", "label": "Yes, once", "kind": "allowOnce"},
            {"optionId": "no", "label": "No", "kind": "rejectOnce"},
        ]},
    }))
    .unwrap();
    session
}

#[tokio::test]
async fn an_answer_reaches_the_node_and_is_written_down_word_for_word() {
    let mut stack = Stack::start().await;
    let node = stack.node("n1").await;
    node.send_session(&asking(&node, 1, "m1")).await;
    let answered = node.session(S1, 2, "running");
    let obeying = node.obey(move |command| match &command.answer {
        Some(answer) if answer.text.as_deref() == Some("too late") => CommandReply::refused(
            Some(command.command_id.clone()),
            Refusal::new(RefusalCode::WrongState, "it was answered by somebody else"),
        ),
        _ => CommandReply { session: Some(answered.clone()), ..done(command) },
    });
    let _obeying = obeying.await;
    let (operator, observer) = (stack.sign_in("operator").await, stack.sign_in("observer").await);
    let path = format!("/api/mission-control/sessions/{S1}/answer");
    wait_until("the request is known", WAIT, async || {
        let session = observer.get(&format!("/api/mission-control/sessions/{S1}")).await;
        session.is_ok_and(|s| s["session"]["attention"]["request"]["options"][1]["label"] == "No")
    })
    .await
    .unwrap();

    assert_eq!(observer.post(&path, json!({"requestId": "m1", "optionId": "yes"})).await.unwrap().0, 403);
    let long = "x".repeat(256 * 1024 + 1);
    for (body, status, code) in [
        (json!({"requestId": "m1"}), 422, "invalid"),
        (json!({"requestId": "m1", "text": ""}), 422, "invalid"),
        (json!({"requestId": "m1", "optionId": ""}), 422, "invalid"),
        (json!({"requestId": "m 1", "optionId": "yes"}), 422, "invalid"),
        (json!({"optionId": "yes"}), 422, "invalid"),
        (json!({"requestId": "m1", "optionId": "maybe"}), 422, "invalid"),
        (json!({"requestId": "m1", "text": long}), 413, "tooLarge"),
        (json!({"requestId": "m1", "text": "too late"}), 409, "wrongState"),
    ] {
        let (found, answer) = operator.post(&path, body).await.unwrap();
        assert_eq!((found, answer["error"]["code"].as_str()), (status, Some(code)), "{answer}");
    }
    let body = json!({"requestId": "m1", "optionId": "no", "text": "keep the build"});
    let (status, answer) = operator.post(&path, body.clone()).await.unwrap();
    assert_eq!((status, &answer["session"]["status"]), (200, &json!("running")), "{answer}");
    let (status, answer) = operator.post(&path, body).await.unwrap();
    assert_eq!((status, &answer["error"]["code"]), (409, &json!("notCapable")), "what went on cannot be answered");

    let sent = node.commands.lock().unwrap().last().unwrap().clone();
    assert_eq!((sent.action.as_str(), sent.message_id.as_ref().map(|m| m.as_str())), ("answer", Some("m1")));
    let given = Answer { option_id: Some("no".into()), text: Some("keep the build".into()) };
    assert_eq!((sent.answer, sent.operator.name.as_str()), (Some(given), "OPERATOR"));
    let log = operator.get("/api/mission-control/audit?action=answer").await.unwrap();
    let rows: Vec<&Value> = log["entries"].as_array().unwrap().iter().rev().collect();
    let told: Vec<_> = rows.iter().map(|r| format!("{} {}", r["phase"], r["result"]).replace('"', "")).collect();
    let refused = ["intent pending", "outcome refused"];
    let ok = ["intent pending", "outcome ok"];
    assert_eq!(told, [refused, refused, ok, refused].concat());
    let row = rows[4];
    assert_eq!((&row["content"], &row["user"]["name"]), (&json!("keep the build"), &json!("OPERATOR")));
    assert_eq!(
        row["metadata"],
        json!({"requestId": "m1", "optionId": "no", "option": "No", "asked": "May I run `rm -r build`?"})
    );
}

#[tokio::test]
async fn who_asks_nothing_is_not_answered() {
    let mut stack = Stack::start().await;
    let node = stack.node("n1").await;
    let mut session = node.session(S1, 1, "running");
    session.capabilities.push(Capability::Approve);
    node.send_session(&session).await;
    let operator = stack.sign_in("operator").await;
    knows_session(&operator, S1).await;
    let path = |id: &str| format!("/api/mission-control/sessions/{id}/answer");
    let body = json!({"requestId": "m1", "optionId": "yes"});
    let (status, answer) = operator.post(&path(S1), body.clone()).await.unwrap();
    assert_eq!((status, &answer["error"]["code"]), (409, &json!("wrongState")), "{answer}");
    assert_eq!(operator.post(&path(S2), body).await.unwrap().0, 404);
}
