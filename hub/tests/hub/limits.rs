//! How much anybody may ask for.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::wait_until;

use crate::support::*;

/// Status, and when to come again.
fn told(answer: &reqwest::Response) -> (u16, Option<u64>) {
    let after = answer.headers().get("retry-after").and_then(|v| v.to_str().ok()?.parse().ok());
    (answer.status().as_u16(), after)
}

#[tokio::test]
async fn a_session_is_told_ten_things_a_minute_by_each_operator() {
    let mut stack = Stack::start().await;
    let node = stack.node("n1").await;
    node.send_session(&node.session(S1, 1, "running")).await;
    let _obeying = node.obey(done).await;
    let (operator, admin) = (stack.sign_in("operator").await, stack.sign_in("admin").await);
    wait_until("it is known", WAIT, async || operator.session(S1).await.is_ok()).await.unwrap();
    let (long, old) = (format!("/api/mission-control/sessions/{S1}/inject"), format!("/agents/{S1}/inject"));
    let mut accepted = 0;
    let refused = loop {
        let path = if accepted % 2 == 0 { &long } else { &old };
        let answer = operator.send(Method::POST, path, Some(&json!({"content": "go on"}))).await.unwrap();
        if answer.status() != StatusCode::ACCEPTED {
            break answer;
        }
        accepted += 1;
        assert!(accepted < 100);
    };
    // On a slow machine one more may have come free meanwhile.
    assert!((10..15).contains(&accepted), "{accepted}");
    let (status, after) = told(&refused);
    assert!(status == 429 && after.is_some_and(|s| (1..=60).contains(&s)), "{status} {after:?}");
    assert_eq!(admin.post(&long, json!({"content": "I may"})).await.unwrap().0, 202);
    let text = stack.nobody().send(Method::GET, "/metrics", None).await.unwrap().text().await.unwrap();
    assert!(text.contains("mosaic_hub_limited_total{of=\"messages to this session\"} 1"), "{text}");
}

#[tokio::test]
async fn guesses_at_a_password_are_slowed_down_and_look_the_same_for_nobody() {
    let stack = Stack::start_configured("", "[limits]\nfailed_sign_ins_per_minute = 3\n").await;
    let nobody = stack.nobody();
    let mut seen = vec![];
    for email in ["operator@example.org", "nobody@example.org"] {
        let guess = json!({"email": email, "password": "guess"});
        let mut answers = vec![];
        let after = loop {
            let answer = nobody.send(Method::POST, "/api/auth/login", Some(&guess)).await.unwrap();
            let (status, after) = (answer.status().as_u16(), answer.headers().get("retry-after").is_some());
            let body: Value = answer.json().await.unwrap();
            answers.push((status, body["error"]["code"].clone()));
            if status == 429 {
                break after;
            }
            assert!(answers.len() < 20, "{answers:?}");
        };
        assert!(after);
        answers.dedup();
        seen.push(answers);
    }
    assert_eq!(seen[0], seen[1], "whether there is such a person is not told");
    let right = json!({"email": "operator@example.org", "password": "operatoroperator"});
    let answer = nobody.send(Method::POST, "/api/auth/login", Some(&right)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS, "also the right one has to wait");
    let admin = stack.sign_in("admin").await;
    let log = admin.get("/api/mission-control/audit?action=signIn").await.unwrap();
    let refused = log["entries"].as_array().unwrap().iter().filter(|e| e["result"] == "refused").count();
    assert!((6..=12).contains(&refused), "every guess that was looked at is written down, no more: {refused}");
}

#[tokio::test]
async fn a_hundred_guesses_at_once_are_no_more_than_one_after_the_other() {
    let tables = "[limits]\nfailed_sign_ins_per_minute = 2\nfailed_sign_ins_per_address = 1000\n";
    let stack = Stack::start_configured("", tables).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..100 {
        let nobody = stack.nobody();
        tasks.spawn(async move {
            let guess = json!({"email": "operator@example.org", "password": format!("guess {n}")});
            nobody.send(Method::POST, "/api/auth/login", Some(&guess)).await.unwrap().status().as_u16()
        });
    }
    let statuses = tasks.join_all().await;
    let looked_at = statuses.iter().filter(|s| **s == 401).count();
    assert!(looked_at <= 8 && statuses.iter().all(|s| [401, 429].contains(s)), "{looked_at}: {statuses:?}");
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_address_counts_for_itself_and_nobody_else_is_believed() {
    let tables = "[limits]\nfailed_sign_ins_per_minute = 1000\nfailed_sign_ins_per_address = 2\n";
    for (trusted, lines) in [(true, "trusted_proxies = [\"127.0.0.1\"]"), (false, "")] {
        let stack = Stack::start_configured(lines, tables).await;
        let nobody = stack.nobody();
        let guess = async |address: &str| {
            let request = nobody.request(Method::POST, "/api/auth/login").header("x-forwarded-for", address);
            let body = json!({"email": "operator@example.org", "password": "x"});
            request.json(&body).send().await.unwrap().status().as_u16()
        };
        let mut tries = 0;
        while guess("192.0.2.1").await == 401 {
            tries += 1;
            assert!(tries < 20);
        }
        // What the client itself put before stands further left.
        assert_eq!(guess("192.0.2.1").await, 429);
        assert_eq!(guess("192.0.2.9, 192.0.2.1").await, 429);
        assert_eq!(guess("192.0.2.2").await, if trusted { 401 } else { 429 }, "trusted {trusted}");
    }
}

#[tokio::test]
async fn too_many_requests_and_streams_are_refused_and_those_of_others_are_not() {
    let tables = "[limits]\nuser_requests_per_second = 4\nstreams_per_user = 2\n";
    let stack = Stack::start_configured("", tables).await;
    let (one, two) = (stack.sign_in("observer").await, stack.sign_in("operator").await);
    let path = "/api/mission-control/stream";
    let mut first = one.events(path).await.unwrap();
    let _second = one.events(path).await.unwrap();
    let third = told(&one.send(Method::GET, path, None).await.unwrap());
    assert!(third.0 == 429 && third.1.is_some(), "{third:?}");
    first.expect("ready").await.unwrap();
    drop(two.events(path).await.unwrap());
    drop(first);
    wait_until("there is room again", WAIT, async || {
        one.send(Method::GET, path, None).await.unwrap().status() == StatusCode::OK
    })
    .await
    .unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..60 {
        let one = one.clone();
        tasks.spawn(async move { told(&one.send(Method::GET, "/api/auth/me", None).await.unwrap()) });
    }
    let answers = tasks.join_all().await;
    assert!(answers.iter().any(|(status, after)| *status == 429 && *after == Some(1)), "{answers:?}");
    two.get("/api/auth/me").await.unwrap();
}
