//! The hub's promises over HTTP and the bus.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agent_providers;
mod answer;
mod attacks;
mod audit;
mod audit_start;
mod control;
mod deeds;
mod four_eyes;
mod kill_all;
mod limits;
mod nodes;
mod oidc;
mod people;
mod recording;
mod resume;
mod retention;
mod routes;
mod search;
mod support;
mod undelivered;
mod workspaces;

use std::collections::BTreeMap;

use bus_schema::*;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::*;
use testkit::{proc, proc::Signal, wait_until};

#[tokio::test]
async fn the_server_has_no_route_that_the_table_does_not_know() {
    let stack = Stack::start().await;
    let admin = stack.sign_in("admin").await;
    let document = admin.get("/api/openapi.json").await.unwrap();
    let known: Vec<_> = hub::api::table().into_iter().map(|r| r.path).collect();
    for path in document["paths"].as_object().unwrap().keys() {
        assert!(known.contains(path), "{path}");
    }
    for path in ["/api", "/api/mission-control", "/api/mission-control/sessions/x/explode", "/agents/x/y", "/nothing"] {
        let answer = admin.send(Method::GET, path, None).await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
        let body: Value = answer.json().await.unwrap();
        assert!(body["error"]["requestId"].is_string(), "{path}: {body}");
    }
    let answer = admin.send(Method::DELETE, "/api/mission-control/sessions", None).await.unwrap();
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn signing_in_and_out() {
    let stack = Stack::start().await;
    let ada = stack.sign_in("operator").await;
    let me = ada.get("/api/auth/me").await.unwrap();
    assert_eq!((me["role"].as_str(), me["user"]["email"].as_str()), (Some("operator"), Some("operator@example.org")));
    let login = |email: &str, password: &str| json!({"email": email, "password": password});
    let nobody = stack.nobody();
    let wrong = nobody.post("/api/auth/login", login("operator@example.org", "x")).await.unwrap();
    let unknown = nobody.post("/api/auth/login", login("eve@example.org", "x")).await.unwrap();
    assert_eq!((wrong.0, unknown.0), (401, 401));
    assert_eq!(wrong.1["error"]["message"], unknown.1["error"]["message"], "they cannot be told apart");
    let answer = nobody
        .send(Method::POST, "/api/auth/login", Some(&login(" OPERATOR@example.org", "operatoroperator")))
        .await
        .unwrap();
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age="] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert_eq!(ada.send(Method::POST, "/api/auth/logout", None).await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(ada.send(Method::GET, "/api/auth/me", None).await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let admin = stack.sign_in("admin").await;
    let log = admin.get("/api/mission-control/audit?action=signIn").await.unwrap();
    let results: Vec<_> = log["entries"].as_array().unwrap().iter().map(|e| e["result"].as_str().unwrap()).collect();
    assert!(results.iter().filter(|r| **r == "refused").count() == 2, "{results:?}");
    assert!(!log.to_string().contains("operatoroperator"), "no password is written down");
}

#[tokio::test]
async fn messages_and_sessions_reach_the_store_and_the_pages() {
    let mut stack = Stack::start().await;
    let node = stack.node("n1").await;
    let observer = stack.sign_in("observer").await;
    let mut child = node.session(S2, 1, "waiting");
    child.parent_session_id = Some(SessionId::new(S1).unwrap());
    node.send_session(&node.session(S1, 1, "running")).await;
    node.send_session(&child).await;
    node.send_messages(S1, 1..=250).await;
    wait_until("all messages are in the store", WAIT, async || {
        let count = observer.messages(S1, 0).await.unwrap().len();
        if count == 250 { Ok(()) } else { Err(count) }
    })
    .await
    .unwrap();
    let page = observer.get(&format!("/api/mission-control/sessions/{S1}/messages?limit=10&before=100")).await.unwrap();
    let seqs: Vec<_> = page["messages"].as_array().unwrap().iter().map(|m| m["seq"].as_u64().unwrap()).collect();
    assert_eq!((seqs, &page["hasMore"]), ((90..=99).collect(), &json!(true)));
    let list = observer.get("/api/mission-control/sessions?status=waiting&node=n1&provider=pty").await.unwrap();
    assert_eq!(list["sessions"].as_array().unwrap().len(), 1);
    let one = observer.get(&format!("/api/mission-control/sessions/{S1}")).await.unwrap();
    assert_eq!((&one["session"]["lastSeq"], &one["session"]["stale"]), (&json!(250), &Value::Null));
    let tree = observer.get("/api/mission-control/tree").await.unwrap();
    assert_eq!(tree["roots"][0]["session"]["sessionId"], S1);
    assert_eq!(tree["roots"][0]["children"][0]["session"]["sessionId"], S2);
    assert_eq!(observer.get("/agents/tree").await.unwrap(), tree);
    node.send_session(&node.session(S1, 2, "completed")).await;
    wait_until("the end is known", WAIT, async || {
        let list = observer.get("/api/mission-control/sessions").await.unwrap();
        list["sessions"].as_array().unwrap().len() == 1
    })
    .await
    .unwrap();
    wait_until("the ended one is among all", WAIT, async || {
        let all = observer.get("/api/mission-control/sessions?all=true").await.unwrap();
        let ended = observer.get("/api/mission-control/sessions?status=completed").await.unwrap();
        all["sessions"].as_array().unwrap().len() == 2 && ended["sessions"][0]["sessionId"] == S1
    })
    .await
    .unwrap();
    let nodes = observer.get("/api/nodes").await.unwrap();
    assert_eq!((&nodes["nodes"][0]["node"], &nodes["nodes"][0]["online"]), (&json!("n1"), &json!(true)));
}

#[tokio::test]
async fn a_viewer_sees_each_message_once_over_restarts_of_the_hub() {
    let mut stack = Stack::start().await;
    let node = stack.node("n1").await;
    node.send_session(&node.session(S1, 1, "running")).await;
    let person = stack.sign_in("observer").await;
    let mut events = person.events("/api/mission-control/stream?sessions=*").await.unwrap();
    events.expect("ready").await.unwrap();
    let mut seen: BTreeMap<u64, u32> = BTreeMap::new();
    let total = 1_500;
    let mut tasks = tokio::task::JoinSet::new();
    let sender = stack.node("n1").await;
    tasks.spawn(async move { sender.send_messages(S1, 1..=total).await });
    let mut kills = 0;
    let deadline = tokio::time::Instant::now() + WAIT * 4;
    while seen.len() < usize::try_from(total).unwrap() {
        assert!(tokio::time::Instant::now() < deadline, "{} of {total} seen", seen.len());
        match tokio::time::timeout(WAIT, events.next()).await {
            Ok(Some(event)) if event.name == "message" => {
                *seen.entry(event.data["seq"].as_u64().unwrap()).or_default() += 1;
                let last_id = event.id.clone().unwrap();
                if seen.len() > 300 * (kills + 1) && kills < 3 {
                    kills += 1;
                    if kills == 2 {
                        stack.stop_hub()
                    } else {
                        stack.kill9_hub()
                    }
                    stack.start_hub().await;
                    let again = person.at(stack.url());
                    events = again
                        .events(&format!("/api/mission-control/stream?sessions={S1}&cursor={last_id}"))
                        .await
                        .unwrap();
                }
            }
            Ok(Some(event)) => assert_ne!(event.name, "gap", "{event:?}"),
            Ok(None) | Err(_) => panic!("the stream ended at {}", seen.len()),
        }
    }
    assert_eq!(kills, 3);
    assert!(seen.values().all(|n| *n == 1), "doubled: {:?}", seen.iter().filter(|(_, n)| **n > 1).collect::<Vec<_>>());
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

/// Kills the hub again and again in the middle of writing, with a memtable so small that it rotates all the time: only
/// so does the engine lose its last transaction.
async fn nothing_is_lost(memtable_bytes: u64) {
    let mut stack = Stack::start_with(memtable_bytes).await;
    let node = stack.node("n1").await;
    node.send_session(&node.session(S1, 1, "running")).await;
    let sender = stack.node("n1").await;
    let mut tasks = tokio::task::JoinSet::new();
    let total = 6_000;
    tasks.spawn(async move { sender.send_messages(S1, 1..=total).await });
    for round in 1..=3 {
        let person = stack.sign_in("observer").await;
        wait_until("some more are stored", WAIT, async || {
            let one = person.get(&format!("/api/mission-control/sessions/{S1}/messages?limit=1")).await.unwrap();
            let last = one["messages"][0]["seq"].as_u64().unwrap_or(0);
            if last > 1_200 * round { Ok(()) } else { Err(last) }
        })
        .await
        .unwrap();
        stack.kill9_hub();
        stack.start_hub().await;
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let person = stack.sign_in("observer").await;
    let all = wait_until("all are stored", WAIT * 3, async || {
        let all = person.messages(S1, 0).await.unwrap();
        if all.len() as u64 == total { Ok(all) } else { Err(all.len()) }
    })
    .await
    .unwrap();
    for (message, seq) in all.iter().zip(1..) {
        assert_eq!((&message["seq"], &message["content"]), (&json!(seq), &json!(format!("line {seq}"))));
    }
}

#[tokio::test]
async fn nothing_is_lost_when_the_hub_is_killed_with_a_small_memtable() {
    nothing_is_lost(1024 * 1024).await;
}

#[tokio::test]
async fn nothing_is_lost_when_the_hub_is_killed() {
    nothing_is_lost(16 * 1024 * 1024).await;
}

#[tokio::test]
async fn a_lost_store_is_made_again_from_the_bus() {
    let mut stack = Stack::start().await;
    let node = stack.node("n1").await;
    node.send_session(&node.session(S1, 1, "completed")).await;
    node.send_messages(S1, 1..=40).await;
    let admin = stack.sign_in("admin").await;
    let put = admin
        .send(Method::PUT, "/api/mission-control/layout", Some(&json!({"layout": {"panels": [S1]}})))
        .await
        .unwrap();
    assert_eq!(put.status(), StatusCode::OK);
    wait_until("stored", WAIT, async || admin.messages(S1, 0).await.unwrap().len() == 40).await.unwrap();
    let audit = admin.get("/api/mission-control/audit").await.unwrap();
    stack.stop_hub();
    std::fs::remove_dir_all(stack.dir.path().join("hub/store")).unwrap();
    stack.start_hub().await;
    // The cookie of before still holds: sign-ins are in the journal.
    let admin = admin.at(stack.url());
    wait_until("stored again", WAIT, async || {
        let answer = admin.send(Method::GET, &format!("/api/mission-control/sessions/{S1}"), None).await.unwrap();
        answer.status() == StatusCode::OK && admin.messages(S1, 0).await.unwrap().len() == 40
    })
    .await
    .unwrap();
    assert_eq!(admin.get("/api/mission-control/layout").await.unwrap()["layout"], json!({"panels": [S1]}));
    wait_until("the audit log is there again", WAIT, async || {
        let again = admin.get("/api/mission-control/audit").await.unwrap();
        again["entries"] == audit["entries"]
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn what_cannot_be_read_is_set_aside_and_stops_nothing() {
    let mut stack = Stack::start().await;
    let node = stack.node("n1").await;
    let other = stack.node("n2").await;
    let admin = stack.sign_in("admin").await;
    let mut events = admin.events("/api/mission-control/stream?sessions=*").await.unwrap();
    events.expect("ready").await.unwrap();
    node.send_session(&node.session(S1, 1, "running")).await;
    node.send_messages(S1, 1..=2).await;
    for kind in ["message", "receipt", "session"] {
        node.publish_raw(format!("mosaic.v1.default.n1.{kind}.{S1}"), None, b"\xc1 garbage".to_vec()).await;
        node.publish_raw(format!("mosaic.v1.default.n1.{kind}.not-a-session"), None, vec![]).await;
    }
    node.publish_raw("mosaic.v1.default.n1.node".into(), None, vec![0x80]).await;
    // Another node claims to speak for the session.
    let mut lie = Node::message(S1, 3);
    lie.content = "I am n1".into();
    other.publish_raw(other.message_subject(S1), None, encode(&lie).unwrap()).await;
    node.bus.client.flush().await.unwrap();
    other.bus.client.flush().await.unwrap();
    let parked = wait_until("all are set aside", WAIT, async || {
        let parked = admin.get("/api/parked").await.unwrap()["parked"].as_array().unwrap().clone();
        if parked.len() == 8 { Ok(parked) } else { Err(parked.len()) }
    })
    .await
    .unwrap();
    let reasons = parked.iter().map(|p| p["reason"].as_str().unwrap()).collect::<Vec<_>>().join("\n");
    assert!(reasons.contains("belongs to node n1, not to n2"), "{reasons}");
    node.send_messages(S1, 3..=4).await;
    for seq in 1..=4 {
        let event = events.expect("message").await.unwrap();
        assert_eq!(event.data["content"], format!("line {seq}"));
    }
    wait_until("what came behind is stored", WAIT, async || admin.messages(S1, 0).await.unwrap().len() == 4)
        .await
        .unwrap();
    let metrics = admin.send(Method::GET, "/metrics", None).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("mosaic_hub_parked_messages_total{of=\"foreign\"} 1"), "{metrics}");
}

#[tokio::test]
async fn garbage_in_the_hubs_own_streams_stops_nothing() {
    let mut stack = Stack::start().await;
    let admin = stack.sign_in("admin").await;
    let before = admin.get("/api/mission-control/audit").await.unwrap()["entries"][0]["n"].as_u64().unwrap();
    let hub = stack.nats.hub().await.unwrap();
    let (url, creds) = (stack.nats.url(), stack.nats.identity().identity().journal_creds());
    let journal = testkit::Bus::connect(&url, &creds, "journal").await.unwrap();
    for _ in 0..3 {
        hub.client.publish("mosaic.v1.default.hub.audit", "\u{1} garbage".into()).await.unwrap();
    }
    hub.client.publish(format!("mosaic.v1.default.n1.terminal.{S1}"), "garbage".into()).await.unwrap();
    for subject in ["mosaic.hub.v1.record.user.u_x", "mosaic.hub.v1.record.poem"] {
        journal.client.publish(subject, "garbage".into()).await.unwrap();
    }
    hub.client.flush().await.unwrap();
    journal.client.flush().await.unwrap();
    wait_until("all are set aside", WAIT, async || {
        let parked = admin.get("/api/parked").await.unwrap()["parked"].as_array().unwrap().len();
        if parked == 5 { Ok(()) } else { Err(parked) }
    })
    .await
    .unwrap();
    for restart in [false, true] {
        if restart {
            stack.kill9_hub();
            stack.start_hub().await;
        }
        let admin = stack.sign_in("admin").await;
        let put = admin.send(Method::PUT, "/api/mission-control/layout", Some(&json!({"layout": restart}))).await;
        assert_eq!(put.unwrap().status(), StatusCode::OK);
        assert_eq!(admin.get("/api/mission-control/layout").await.unwrap()["layout"], restart);
        let rows = admin.get("/api/mission-control/audit").await.unwrap();
        let numbers: Vec<_> = rows["entries"].as_array().unwrap().iter().map(|r| r["n"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (1..=numbers[0]).rev().collect::<Vec<_>>(), "no gap");
        assert!(numbers[0] > before);
    }
}

#[tokio::test]
async fn an_action_is_audited_before_and_after_and_signed() {
    let mut stack = Stack::start().await;
    let node = stack.node("n1").await;
    node.send_session(&node.session(S1, 1, "running")).await;
    let paused = node.session(S1, 2, "paused");
    let obeying = node.obey(move |command| match command.action {
        Action::Pause => CommandReply { session: Some(paused.clone()), ..done(command) },
        Action::Inject => CommandReply { delivery: Some(Delivery::Delivered), ..done(command) },
        _ => CommandReply::refused(Some(command.command_id.clone()), Refusal::new(RefusalCode::Busy, "too much")),
    });
    let _obeying = obeying.await;
    let operator = stack.sign_in("operator").await;
    let path = |verb: &str| format!("/api/mission-control/sessions/{S1}/{verb}");
    knows_session(&operator, S1).await;
    let (status, body) =
        operator.post(&path("inject"), json!({"content": "stop", "idempotencyKey": "k1"})).await.unwrap();
    assert_eq!((status, &body["delivery"]), (202, &json!("delivered")), "{body}");
    let again = operator.post(&path("inject"), json!({"content": "stop", "idempotencyKey": "k1"})).await.unwrap().1;
    assert_eq!(again["messageId"], body["messageId"], "the same key is the same message");
    let (status, body) = operator.post(&path("pause"), json!({})).await.unwrap();
    assert_eq!((status, &body["session"]["status"]), (200, &json!("paused")), "{body}");
    let now = operator.get(&format!("/api/mission-control/sessions/{S1}")).await.unwrap();
    assert_eq!(now["session"]["status"], "paused", "the answer is known at once");
    let (status, body) = operator.post(&path("resume"), json!({})).await.unwrap();
    assert_eq!(status, 409);
    assert!(body["error"]["message"].as_str().unwrap().contains("it was never paused"), "{body}");
    assert_eq!(operator.post(&path("kill"), json!({})).await.unwrap().0, 503);

    let commands = node.commands.lock().unwrap().clone();
    assert_eq!(commands[0].operator.name, "OPERATOR");
    assert_eq!(commands[0].content.as_deref(), Some("stop"));
    let log = operator.get(&format!("/api/mission-control/audit?session={S1}")).await.unwrap();
    let rows: Vec<_> = log["entries"].as_array().unwrap().iter().rev().collect();
    let told: Vec<_> =
        rows.iter().map(|r| format!("{} {} {}", r["action"], r["phase"], r["result"]).replace('"', "")).collect();
    assert_eq!(
        told,
        [
            "inject intent pending",
            "inject outcome ok",
            "inject intent pending",
            "inject outcome ok",
            "pause intent pending",
            "pause outcome ok",
            "resume intent pending",
            "resume outcome refused",
            "kill intent pending",
            "kill outcome refused",
        ]
    );
    assert_eq!((&rows[0]["content"], &rows[0]["user"]["name"]), (&json!("stop"), &json!("OPERATOR")));
    let all = operator.get("/api/mission-control/audit?limit=500").await.unwrap();
    let numbers: Vec<_> = all["entries"].as_array().unwrap().iter().map(|r| r["n"].as_u64().unwrap()).collect();
    assert!(numbers.windows(2).all(|w| w[0] == w[1] + 1), "no gap: {numbers:?}");
}

#[tokio::test]
async fn who_is_away_is_told_at_once() {
    let mut stack = Stack::start().await;
    let node = stack.node("n1").await;
    node.send_session(&node.session(S1, 1, "running")).await;
    let operator = stack.sign_in("operator").await;
    knows_session(&operator, S1).await;
    let (status, body) = operator.post(&format!("/api/mission-control/sessions/{S1}/kill"), json!({})).await.unwrap();
    assert_eq!((status, &body["error"]["code"]), (503, &json!("nodeAway")), "{body}");
    let (_, body) = operator.post("/api/mission-control/kill-all", json!({"confirm": "KILL ALL"})).await.unwrap();
    assert_eq!(body["results"][0]["outcome"], "pending", "{body}");
    node.state("leaving").await;
    wait_until("the session is stale", WAIT, async || {
        operator.get(&format!("/api/mission-control/sessions/{S1}")).await.unwrap()["session"]["stale"] == true
    })
    .await
    .unwrap();
    stack.nats.kill9();
    wait_until("the bus is away", WAIT, async || {
        let (status, body) =
            operator.post(&format!("/api/mission-control/sessions/{S1}/kill"), json!({})).await.unwrap();
        if status == 503 && body["error"]["code"] == "busAway" { Ok(()) } else { Err(body) }
    })
    .await
    .unwrap();
    assert_eq!(operator.get("/api/mission-control/sessions").await.unwrap()["sessions"].as_array().unwrap().len(), 1);
    assert_eq!(operator.send(Method::GET, "/readyz", None).await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(operator.send(Method::GET, "/healthz", None).await.unwrap().status(), StatusCode::OK);
    stack.nats.restart().unwrap();
    wait_until("ready again", WAIT, async || {
        operator.send(Method::GET, "/readyz", None).await.unwrap().status() == StatusCode::OK
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_bus_that_hangs_is_away_and_no_fault_of_the_hub() {
    let mut stack = Stack::start().await;
    let node = stack.node("n1").await;
    node.send_session(&node.session(S1, 1, "running")).await;
    let operator = stack.sign_in("operator").await;
    knows_session(&operator, S1).await;
    let bus = stack.nats.pid().unwrap();
    assert!(proc::signal(bus, Signal::STOP));
    let inject = format!("/api/mission-control/sessions/{S1}/inject");
    let answers = (0..8).map(|i| operator.post(&inject, json!({"content": format!("message {i}")})));
    let answers = futures::future::join_all(answers).await;
    assert!(proc::signal(bus, Signal::CONT));
    for answer in answers {
        let (status, body) = answer.unwrap();
        let code = body["error"]["code"].as_str().unwrap();
        assert!(status == 503 && ["busAway", "auditAway"].contains(&code), "{status} {body}");
    }
}

#[tokio::test]
async fn bad_input_gets_its_answer() {
    let mut stack = Stack::start().await;
    let node = stack.node("n1").await;
    node.send_session(&node.session(S1, 1, "running")).await;
    let operator = stack.sign_in("operator").await;
    wait_until("the node is known", WAIT, async || {
        operator.get("/api/nodes").await.unwrap()["nodes"].as_array().unwrap().len() == 1
    })
    .await
    .unwrap();
    let inject = format!("/api/mission-control/sessions/{S1}/inject");
    let big = json!({"content": "x".repeat(10 * 1024 * 1024)});
    let long = json!({"content": "x".repeat(256 * 1024 + 1)});
    let spawn = |node: &str| json!({"node": node, "profile": "counter", "title": "a\u{7}b"});
    let unknown = format!("/api/mission-control/sessions/{S2}/inject");
    for (path, body, status, code) in [
        (inject.as_str(), big, 413, "tooLarge"),
        (&inject, long, 413, "tooLarge"),
        (&inject, json!({"content": ""}), 422, "invalid"),
        (&inject, json!({"content": "x", "mode": "shout"}), 422, "invalid"),
        (&inject, json!({"content": 5}), 422, "invalid"),
        (&inject, json!({"content": "x", "idempotencyKey": ""}), 422, "invalid"),
        (&inject, json!({"contents": "x"}), 422, "invalid"),
        (&unknown, json!({"content": "x"}), 404, "notFound"),
        ("/api/mission-control/sessions/nonsense/inject", json!({"content": "x"}), 404, "notFound"),
        ("/api/mission-control/kill-all", json!({"confirm": "kill all"}), 422, "invalid"),
        ("/api/mission-control/sessions", spawn("n1"), 422, "invalid"),
        ("/api/mission-control/sessions", json!({"node": "nowhere", "profile": "counter"}), 422, "invalid"),
        ("/api/mission-control/sessions", json!({"node": "n1", "profile": "counter"}), 503, "nodeAway"),
    ] {
        let (found, answer) = operator.post(path, body).await.unwrap();
        assert_eq!((found, answer["error"]["code"].as_str()), (status, Some(code)), "{path}: {answer}");
        assert!(answer["error"]["message"].as_str().is_some_and(|m| m.len() > 8), "{answer}");
    }
    let raw = operator.request(Method::POST, &inject).header("content-type", "application/json").body("{nonsense");
    assert_eq!(raw.send().await.unwrap().status(), StatusCode::BAD_REQUEST);
    let form = operator.request(Method::POST, &inject).body("content=x").send().await.unwrap();
    assert_eq!(form.status(), StatusCode::BAD_REQUEST);
    for query in ["limit=0", "limit=501", "before=1&after=2"] {
        let path = format!("/api/mission-control/sessions/{S1}/messages?{query}");
        assert_eq!(
            operator.send(Method::GET, &path, None).await.unwrap().status(),
            StatusCode::UNPROCESSABLE_ENTITY,
            "{query}"
        );
    }
    for path in [
        format!("/api/mission-control/sessions/{S1}/messages?limit=x"),
        "/api/mission-control/stream?cursor=nonsense".into(),
    ] {
        assert_eq!(operator.send(Method::GET, &path, None).await.unwrap().status(), StatusCode::BAD_REQUEST, "{path}");
    }
    let other = operator.request(Method::GET, "/api/nodes").header("x-workspace", "other").send().await.unwrap();
    assert_eq!(other.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_terminal_is_streamed_from_an_offset_and_gaps_are_told() {
    let mut stack = Stack::start().await;
    let node = stack.node("n1").await;
    node.send_session(&node.session(S1, 1, "running")).await;
    let observer = stack.sign_in("observer").await;
    let session = SessionId::new(S1).unwrap();
    let subject =
        Subject::Terminal(WorkspaceId::new("default").unwrap(), node.name.clone(), session.clone()).to_string();
    let piece = |offset: u64, data: &[u8]| {
        let size = (offset == 0).then_some(TerminalSize { cols: 80, rows: 24 });
        let timestamp = hub::clock::now();
        encode(&Terminal { session_id: session.clone(), offset, data: data.to_vec(), timestamp, size }).unwrap()
    };
    knows_session(&observer, S1).await;
    node.publish_raw(subject.clone(), None, piece(0, b"hello ")).await;
    node.publish_raw(subject.clone(), None, piece(6, b"world")).await;
    node.bus.client.flush().await.unwrap();
    let mut events = observer.events(&format!("/api/mission-control/sessions/{S1}/terminal")).await.unwrap();
    let first = events.expect("terminal").await.unwrap();
    assert_eq!((first.data["data"].as_str(), &first.data["size"]["cols"]), (Some("aGVsbG8g"), &json!(80)));
    assert_eq!(events.expect("terminal").await.unwrap().data["data"], "d29ybGQ=");
    let id = events.last_id.clone().unwrap();
    assert_eq!(id, "11");
    // A piece that overlaps is cut, one with a hole before it is told.
    node.publish_raw(subject.clone(), None, piece(6, b"world!")).await;
    let cut = events.expect("terminal").await.unwrap();
    assert_eq!((cut.data["offset"].as_u64(), cut.data["data"].as_str()), (Some(11), Some("IQ==")));
    node.publish_raw(subject, None, piece(20, b"later")).await;
    let gap = events.expect("gap").await.unwrap();
    assert_eq!((gap.data["fromOffset"].as_u64(), gap.data["toOffset"].as_u64()), (Some(12), Some(20)));
    assert_eq!(events.expect("terminal").await.unwrap().data["offset"], 20);
    let mut resumed =
        observer.events(&format!("/api/mission-control/stream?sessions={S1}&terminals={S1}:3")).await.unwrap();
    let first = resumed.expect("terminal").await.unwrap();
    assert_eq!((first.data["offset"].as_u64(), first.data["data"].as_str()), (Some(3), Some("bG8g")));
}

#[tokio::test]
async fn a_fresh_stream_begins_with_what_is_there() {
    let mut stack = Stack::start().await;
    let node = stack.node("n1").await;
    node.send_session(&node.session(S1, 1, "running")).await;
    node.send_messages(S1, 1..=30).await;
    let observer = stack.sign_in("observer").await;
    wait_until("stored", WAIT, async || {
        let answer = observer.send(Method::GET, &format!("/api/mission-control/sessions/{S1}"), None).await.unwrap();
        answer.status() == StatusCode::OK && observer.messages(S1, 0).await.unwrap().len() == 30
    })
    .await
    .unwrap();
    let mut events = observer.events(&format!("/api/mission-control/stream?sessions={S1},{S2}&nodes=1")).await.unwrap();
    assert_eq!(events.expect("node").await.unwrap().data["node"], "n1");
    assert_eq!(events.expect("session").await.unwrap().data["sessionId"], S1);
    assert_eq!(events.expect("removed").await.unwrap().data["sessionId"], S2);
    let ready = events.expect("ready").await.unwrap();
    assert_eq!(ready.data["cursor"].as_str(), ready.id.as_deref());
    let mut events = observer.events(&format!("/api/mission-control/sessions/{S1}/stream?after=25")).await.unwrap();
    for seq in 26..=30 {
        assert_eq!(events.expect("message").await.unwrap().data["seq"], seq);
    }
    events.expect("ready").await.unwrap();
    node.send_messages(S1, 31..=31).await;
    assert_eq!(events.expect("message").await.unwrap().data["seq"], 31);
}
