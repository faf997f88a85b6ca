//! Searching what was said: whoever may see the workspace finds it, page by page, and only what is there.

use bus_schema::*;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::{Person, wait_until};

use crate::support::*;

async fn say(node: &Node, id: &str, seq: u64, role: Role, content: &str) {
    let message = Message { role, content: content.to_owned(), ..Node::message(id, seq) };
    node.publish_raw(node.message_subject(id), Some(format!("{id}-{seq}")), encode(&message).unwrap()).await;
}

/// The hits of a page as session and seq, and where to go on.
async fn search(person: &Person, query: &str) -> (Vec<(String, u64)>, Value) {
    let page = person.get(&format!("/api/search?{query}")).await.unwrap();
    let hits = page["hits"].as_array().unwrap().iter();
    let hits = hits.map(|hit| (hit["sessionId"].as_str().unwrap().to_owned(), hit["seq"].as_u64().unwrap())).collect();
    (hits, page)
}

async fn stored(person: &Person, id: &str, count: usize) {
    wait_until("the messages are stored", WAIT, async || {
        let path = format!("/api/mission-control/sessions/{id}");
        let known = person.send(Method::GET, &path, None).await.unwrap().status() == StatusCode::OK;
        known && person.messages(id, 0).await.unwrap().len() == count
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn what_was_said_is_found_with_what_stands_around_it() {
    let mut stack = Stack::start().await;
    let node = stack.node("n1").await;
    node.send_session(&node.session(S1, 1, "running")).await;
    node.send_session(&node.session(S2, 1, "completed")).await;
    say(&node, S1, 1, Role::Agent, "The Sweep\nwaits for ingest").await;
    say(&node, S1, 2, Role::Agent, "nothing of it").await;
    say(&node, S1, 3, Role::Operator, "why does the SWEEP wait?").await;
    say(&node, S2, 1, Role::Agent, "a sweep that ended; it waits no more").await;
    let observer = stack.sign_in("observer").await;
    stored(&observer, S1, 3).await;
    stored(&observer, S2, 1).await;
    let found = |hits: &[(&str, u64)]| hits.iter().map(|(id, seq)| ((*id).to_owned(), *seq)).collect::<Vec<_>>();
    // What runs first, the newest of it first.
    let (hits, page) = search(&observer, "q=sweep").await;
    assert_eq!(hits, found(&[(S1, 3), (S1, 1), (S2, 1)]), "{page}");
    assert_eq!((&page["hasMore"], &page["next"], &page["lookedAt"]), (&json!(false), &Value::Null, &json!(4)));
    let hit = &page["hits"][1];
    assert_eq!(
        (&hit["role"], &hit["kind"], &hit["messageId"]),
        (&json!("agent"), &json!("text"), &json!(format!("{S1}-1")))
    );
    assert_eq!(hit["snippet"], "The Sweep waits for ingest");
    assert!(hit["timestamp"].is_string());
    assert_eq!(search(&observer, "q=ingest%20sweep").await.0, found(&[(S1, 1)]));
    assert_eq!(search(&observer, "q=%22sweep%20wait%22").await.0, found(&[(S1, 3)]));
    assert_eq!(search(&observer, &format!("q=sweep&session={S2}")).await.0, found(&[(S2, 1)]));
    assert_eq!(search(&observer, "q=nowhere").await.0, []);
    // Page by page, nothing twice.
    let (mut all, mut cursor) = (vec![], String::new());
    loop {
        let (hits, page) = search(&observer, &format!("q=sweep&limit=1{cursor}")).await;
        all.extend(hits);
        let Some(next) = page["next"].as_str() else { break };
        assert_eq!(page["hasMore"], true);
        cursor = format!("&cursor={next}");
    }
    assert_eq!(all, found(&[(S1, 3), (S1, 1), (S2, 1)]));
}

#[tokio::test]
async fn a_question_that_is_none_is_refused_and_a_token_of_some_sessions_searches_nothing() {
    let stack = Stack::start().await;
    let operator = stack.sign_in("operator").await;
    let long = "x".repeat(257);
    let many = "a+b+c+d+e+f+g+h+i";
    for (query, status) in [
        ("".to_owned(), 400),
        ("q=".into(), 422),
        ("q=%22%22".into(), 422),
        (format!("q={long}"), 422),
        (format!("q={many}"), 422),
        ("q=a&limit=0".into(), 422),
        ("q=a&limit=201".into(), 422),
        ("q=a&cursor=anywhere".into(), 422),
        ("q=a&session=no%20id".into(), 422),
        ("q=a".into(), 200),
    ] {
        let answer = operator.send(Method::GET, &format!("/api/search?{query}"), None).await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{query}");
    }
    let (status, made) =
        operator.post("/api/tokens", json!({"name": "one", "role": "observer", "sessions": [S1]})).await.unwrap();
    assert_eq!(status, 201, "{made}");
    let bound = Person::with_token(stack.url(), made["token"].as_str().unwrap());
    let answer = bound.send(Method::GET, "/api/search?q=a", None).await.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
}
