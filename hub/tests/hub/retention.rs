//! What retention takes away, what it leaves, and how both are told.

use super::*;

/// A message of so many days ago.
fn of_days_ago(id: &str, seq: u64, days: i64) -> Message {
    let mut message = Node::message(id, seq);
    message.timestamp = message.timestamp.plus_millis(-days * 24 * 3_600 * 1_000);
    message
}

async fn first_seq(person: &testkit::Person, session: &str, wanted: u64) -> Value {
    wait_until("old messages are gone", WAIT, async || {
        let path = format!("/api/mission-control/sessions/{session}/messages?limit=500");
        let page = person.get(&path).await.unwrap();
        if page["firstSeq"] == wanted { Ok(page) } else { Err(page["firstSeq"].clone()) }
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn old_messages_go_but_for_those_that_are_held_and_it_is_told() {
    let mut stack = Stack::start().await;
    let node = stack.node("n1").await;
    let (admin, observer) = (stack.sign_in("admin").await, stack.sign_in("observer").await);
    for id in [S1, S2] {
        node.send_session(&node.session(id, 1, "running")).await;
        for seq in 1..=40 {
            let message = of_days_ago(id, seq, if seq <= 30 { 20 } else { 2 });
            let (subject, id) = (node.message_subject(id), Some(format!("{id}-{seq}")));
            node.publish_raw(subject, id, encode(&message).unwrap()).await;
        }
    }
    for id in [S1, S2] {
        wait_until("all are in the store", WAIT, async || {
            let messages = admin.messages(id, 0).await.map_err(|e| e.to_string())?.len();
            if messages == 40 { Ok(()) } else { Err(messages.to_string()) }
        })
        .await
        .unwrap();
    }
    assert_eq!(
        admin.get("/api/retention").await.unwrap(),
        json!({"messageDays": 30}),
        "unless somebody says otherwise"
    );
    let hold = format!("/api/mission-control/sessions/{S2}/hold");
    let held = json!({"hold": true, "reason": "case 17"});
    for (person, body, wanted) in [(&observer, &held, 403), (&admin, &json!({"hold": true}), 422), (&admin, &held, 200)]
    {
        let answer = person.send(Method::PUT, &hold, Some(body)).await.unwrap();
        assert_eq!(answer.status().as_u16(), wanted, "{body}");
    }
    assert_eq!(observer.get(&hold).await.unwrap()["reason"], "case 17");
    for (days, wanted) in [(0, 422), (3_651, 422), (10, 200)] {
        let body = json!({"messageDays": days});
        let answer = admin.send(Method::PUT, "/api/retention", Some(&body)).await.unwrap();
        assert_eq!(answer.status().as_u16(), wanted, "{days} days");
    }
    let page = first_seq(&admin, S1, 31).await;
    assert_eq!((page["messages"].as_array().unwrap().len(), &page["hasMore"]), (10, &json!(false)));
    assert_eq!(first_seq(&admin, S2, 1).await["messages"].as_array().unwrap().len(), 40, "held");

    let mut events = admin.events(&format!("/api/mission-control/sessions/{S1}/stream?after=5")).await.unwrap();
    let gap = events.expect("gap").await.unwrap();
    assert_eq!((&gap.data["fromSeq"], &gap.data["toSeq"]), (&json!(6), &json!(30)), "what is gone is told");

    let released = admin.send(Method::PUT, &hold, Some(&json!({"hold": false}))).await.unwrap();
    assert_eq!(released.json::<Value>().await.unwrap(), json!({"hold": false}));
    let shorter = admin.send(Method::PUT, "/api/retention", Some(&json!({"messageDays": 1}))).await.unwrap();
    assert_eq!(shorter.status(), StatusCode::OK);
    for id in [S1, S2] {
        let page = first_seq(&admin, id, 41).await;
        assert_eq!((&page["messages"], &page["hasMore"]), (&json!([]), &json!(false)));
    }
    let log = wait_until("it is in the audit log", WAIT, async || {
        let log = admin.get("/api/mission-control/audit?action=forgetMessages").await.unwrap();
        if log["entries"].as_array().unwrap().len() >= 2 { Ok(log) } else { Err(log) }
    })
    .await
    .unwrap();
    let gone: u64 =
        log["entries"].as_array().unwrap().iter().map(|e| e["metadata"]["messages"].as_u64().unwrap()).sum();
    assert_eq!(gone, 80);
    for action in ["hold", "releaseHold", "setRetention"] {
        let log = admin.get(&format!("/api/mission-control/audit?action={action}")).await.unwrap();
        assert!(log["entries"][0]["user"]["name"] == "ADMIN", "{log}");
    }
    stack.stop_hub();
    stack.start_hub().await;
    let admin = stack.sign_in("admin").await;
    assert_eq!(admin.get("/api/retention").await.unwrap(), json!({"messageDays": 1}), "over a restart");
    assert_eq!(first_seq(&admin, S1, 41).await["messages"], json!([]));
}
