//! Four eyes: what is asked for by one and done when another agrees, and that there is no way around it.

use bus_schema::*;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Person, wait_until};

use crate::control::{path, post, typed_into, types};
use crate::support::*;

struct Marked {
    stack: Stack,
    node: Node,
    admin: Person,
    operator: Person,
    observer: Person,
    _obeying: tokio::task::JoinSet<()>,
}

/// A session that is marked, beside one that is not; the node does what it is told.
async fn marked(tables: &str) -> Marked {
    let mut stack = Stack::start_configured("", tables).await;
    let node = stack.node("n1").await;
    for id in [S1, S2] {
        node.send_session(&typed_into(&node, id)).await;
    }
    let _obeying = node.obey(done).await;
    let (admin, operator, observer) =
        (stack.sign_in("admin").await, stack.sign_in("operator").await, stack.sign_in("observer").await);
    knows_session(&observer, S1).await;
    knows_session(&observer, S2).await;
    let mark = json!({"fourEyes": true, "reason": "it pays people"});
    assert_eq!(put(&operator, &path(S1, "four-eyes"), mark.clone()).await.0, 403, "an admin's to say");
    let none = put(&admin, &path(S1, "four-eyes"), json!({"fourEyes": true})).await;
    assert_eq!(none.0, 422, "a mark has a reason");
    let (status, said) = put(&admin, &path(S1, "four-eyes"), mark).await;
    assert_eq!((status, &said["fourEyes"], &said["by"]["name"]), (200, &json!(true), &json!("ADMIN")));
    Marked { stack, node, admin, operator, observer, _obeying }
}

async fn put(person: &Person, path: &str, body: Value) -> (u16, Value) {
    let answer = person.send(Method::PUT, path, Some(&body)).await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

/// Asks, is told that it waits, and gives the id.
async fn asked(person: &Person, path: &str, body: Value) -> String {
    let (status, _, said) = post(person, path, body).await;
    assert_eq!((status, &said["approval"]["state"]), (202, &json!("open")), "{path}: {said}");
    said["approval"]["approvalId"].as_str().unwrap().to_owned()
}

fn approve(id: &str) -> String {
    format!("/api/mission-control/approvals/{id}/approve")
}

fn refuse(id: &str) -> String {
    format!("/api/mission-control/approvals/{id}/refuse")
}

impl Marked {
    fn done(&self) -> Vec<String> {
        self.node.commands.lock().unwrap().iter().map(|c| c.action.as_str().to_owned()).collect()
    }

    async fn rows(&self, action: &str) -> Vec<Value> {
        let log = self.observer.get(&format!("/api/mission-control/audit?action={action}")).await.unwrap();
        log["entries"].as_array().unwrap().iter().rev().cloned().collect()
    }
}

#[tokio::test]
async fn what_one_asks_is_done_when_another_agrees_and_both_are_in_the_audit_log() {
    let m = marked("").await;
    let mut events = m.observer.events(&path(S1, "stream")).await.unwrap();
    let inject = json!({"content": "pay nobody", "idempotencyKey": "k"});
    let (status, _, said) = post(&m.operator, &path(S1, "inject"), inject.clone()).await;
    assert_eq!((status, &said["delivery"]), (202, &json!("awaitsApproval")), "{said}");
    let message = said["messageId"].clone();
    let id = said["approval"]["approvalId"].as_str().unwrap().to_owned();
    let again = post(&m.operator, &path(S1, "inject"), inject).await.2;
    assert_eq!(again["approval"]["approvalId"], id.as_str(), "the same is asked for once");
    let seen = events.expect_where("control", |c| c["requests"][0]["approvalId"] == id.as_str()).await.unwrap();
    let request = &seen.data["requests"][0];
    assert_eq!((&request["action"], &request["content"]), (&json!("inject"), &json!("pay nobody")));
    assert_eq!((&request["by"]["name"], &request["state"]), (&json!("OPERATOR"), &json!("open")));
    let listed = m.observer.get("/api/mission-control/approvals").await.unwrap();
    assert_eq!(listed["approvals"][0]["approvalId"], id.as_str());
    assert_eq!(post(&m.observer, &approve(&id), json!({})).await.0, 403);
    assert!(m.done().is_empty(), "nothing is done before");

    let (status, _, said) = post(&m.admin, &approve(&id), json!({})).await;
    assert_eq!((status, &said["approval"]["state"]), (200, &json!("done")), "{said}");
    assert_eq!(said["approval"]["decidedBy"]["name"], "ADMIN");
    let sent = m.node.commands.lock().unwrap().last().unwrap().clone();
    assert_eq!((sent.content.as_deref(), sent.operator.name.as_str()), (Some("pay nobody"), "OPERATOR"));
    assert_eq!(json!(sent.message_id), message);
    let rows = m.rows("inject").await;
    assert_eq!(rows.len(), 2);
    for row in &rows {
        assert_eq!((&row["user"]["name"], &row["content"]), (&json!("OPERATOR"), &json!("pay nobody")));
        assert_eq!(row["metadata"]["approvedBy"]["name"], "ADMIN", "also in the intent: {row}");
        assert_eq!(row["metadata"]["approvalId"], id.as_str());
    }
    events.expect_where("control", |c| c["requests"][0]["state"] == "done").await.unwrap();
    let (status, code, _) = post(&m.admin, &approve(&id), json!({})).await;
    assert_eq!((status, code.as_str()), (409, "decided"), "once");
    assert_eq!(m.done(), ["inject"]);
    let word = |rows: Vec<Value>| rows.iter().map(|r| r["phase"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(word(m.rows("requestApproval").await), ["intent", "outcome"]);

    // Two agree at once: it is done once.
    let id = asked(&m.operator, &path(S1, "terminate"), json!({})).await;
    let other = m.admin.clone();
    let (approve_it, refuse_it) = (approve(&id), refuse(&id));
    let both = tokio::join!(post(&m.admin, &approve_it, json!({})), post(&other, &approve_it, json!({})));
    let mut statuses = [both.0.0, both.1.0];
    statuses.sort_unstable();
    assert_eq!((statuses, m.done()), ([200, 409], vec!["inject".to_owned(), "terminate".to_owned()]));
    assert_eq!(post(&m.operator, &refuse_it, json!({})).await.1, "decided");

    // Refused, with a reason; taken back; and what cannot be done is not asked for.
    let id = asked(&m.operator, &path(S1, "kill"), json!({})).await;
    let said = post(&m.admin, &refuse(&id), json!({"reason": "not on a Friday"})).await.2;
    assert_eq!(
        (&said["approval"]["state"], &said["approval"]["outcome"]),
        (&json!("refused"), &json!("not on a Friday"))
    );
    let id = asked(&m.operator, &path(S1, "kill"), json!({})).await;
    assert_eq!(post(&m.operator, &refuse(&id), json!({})).await.2["approval"]["state"], "withdrawn");
    assert_eq!(post(&m.admin, &approve(&id), json!({})).await.1, "decided");
    let body = json!({"requestId": "m1", "optionId": "yes"});
    assert_eq!(post(&m.operator, &path(S1, "answer"), body).await.1, "wrongState");
    assert_eq!(m.done().len(), 2);
    // Pause is everybody's at once; the other session is as ever.
    assert_eq!(post(&m.operator, &path(S1, "pause"), json!({})).await.0, 200);
    assert_eq!(post(&m.operator, &path(S2, "kill"), json!({})).await.0, 200);
    assert_eq!(post(&m.operator, &approve("nonsense"), json!({})).await.0, 404);
    assert_eq!(post(&m.operator, &approve("%2A"), json!({})).await.0, 404);
}

#[tokio::test]
async fn there_is_no_way_around_the_second_person() {
    let mut m = marked("").await;
    let id = asked(&m.operator, &path(S1, "kill"), json!({})).await;

    // The same person, also with a token, also an admin who asked themselves.
    let token = async |person: &Person, url: String| {
        let made = person.post("/api/tokens", json!({"name": "bot", "role": "operator"})).await.unwrap().1;
        Person::with_token(url, made["token"].as_str().unwrap())
    };
    let (own, others) = (token(&m.operator, m.stack.url()).await, token(&m.admin, m.stack.url()).await);
    assert_eq!(post(&m.operator, &approve(&id), json!({})).await.1, "samePerson");
    assert_eq!(post(&own, &approve(&id), json!({})).await.1, "secondInPerson");
    assert_eq!(post(&others, &approve(&id), json!({})).await.1, "secondInPerson", "no script agrees for a person");
    let by_token = asked(&own, &path(S1, "terminate"), json!({})).await;
    assert_eq!(post(&m.operator, &approve(&by_token), json!({})).await.1, "samePerson", "asked by their own token");
    let refusals = m.rows("refused").await;
    assert!(refusals.iter().any(|r| r["metadata"]["code"] == "samePerson"), "it was tried, and that is written down");

    // Every way to end it or to speak to it: the old routes, its terminal, kill-all.
    assert_eq!(post(&m.admin, &format!("/agents/{S1}/kill"), json!({})).await.0, 202);
    assert_eq!(post(&m.admin, &format!("/agents/{S1}/inject"), json!({"content": "x"})).await.0, 202);
    assert_eq!(types(&m.admin, S1).await.1, "needsSecond");
    let resize = post(&m.admin, &path(S1, "terminal/resize"), json!({"cols": 80, "rows": 24})).await;
    assert_eq!(resize.1, "needsSecond");
    for route in ["/api/mission-control/kill-all", "/agents/kill-all"] {
        let (_, _, said) = post(&m.admin, route, json!({"confirm": "KILL ALL"})).await;
        let of = |id: &str| said["results"].as_array().unwrap().iter().find(|r| r["sessionId"] == id).unwrap().clone();
        assert_eq!(of(S1)["outcome"], "awaitsApproval", "{said}");
        assert_eq!(of(S1)["approvalId"], id.as_str(), "it was asked for already");
        assert_ne!(of(S2)["outcome"], "awaitsApproval");
    }

    // A child of it is marked through it, and what goes on with its conversation too.
    let mut child = typed_into(&m.node, "01JD8Z2V9Q0000000000000003");
    child.parent_session_id = Some(SessionId::new(S1).unwrap());
    m.node.send_session(&child).await;
    knows_session(&m.observer, child.session_id.as_str()).await;
    let of_child = path(child.session_id.as_str(), "kill");
    asked(&m.admin, &of_child, json!({})).await;
    let through = m.observer.get(&path(child.session_id.as_str(), "four-eyes")).await.unwrap();
    assert_eq!((&through["fourEyes"], &through["through"]), (&json!(true), &json!(S1)));
    let off = put(&m.admin, &path(child.session_id.as_str(), "four-eyes"), json!({"fourEyes": false})).await;
    assert_eq!((off.0, &off.1["error"]["code"]), (409, &json!("inherited")));

    // Taking the mark off needs the second person too; until then it stays.
    let (status, said) = put(&m.admin, &path(S1, "four-eyes"), json!({"fourEyes": false})).await;
    assert_eq!((status, &said["approval"]["action"]), (202, &json!("unmark")), "{said}");
    let unmark = said["approval"]["approvalId"].as_str().unwrap().to_owned();
    assert_eq!(post(&m.admin, &approve(&unmark), json!({})).await.1, "samePerson");
    assert_eq!(post(&m.admin, &path(S1, "kill"), json!({})).await.0, 202, "it is still marked");
    let did = m.done();
    assert!(!m.node.commands.lock().unwrap().iter().any(|c| c.session_id.as_ref().is_some_and(|s| s.as_str() == S1)));

    // Also at another hub, at once, and after a restart with a lost store.
    let (_second, there) = m.stack.second_hub().await;
    let there = Person::nobody(there).sign_in("admin@example.org", "adminadmin").await.unwrap();
    knows_session(&there, S1).await;
    assert_eq!(post(&there, &path(S1, "kill"), json!({})).await.0, 202);
    m.stack.stop_hub();
    std::fs::remove_dir_all(m.stack.dir.path().join("hub/store")).unwrap();
    m.stack.start_hub().await;
    let (admin, operator) = (m.admin.at(m.stack.url()), m.operator.at(m.stack.url()));
    knows_session(&operator, S1).await;
    assert_eq!(post(&operator, &path(S1, "kill"), json!({})).await.0, 202);
    assert_eq!(m.done(), did);

    // Whoever asked and may no longer act gets nothing done by it.
    let users = admin.get("/api/users").await.unwrap();
    let user =
        users["users"].as_array().unwrap().iter().find(|u| u["email"] == "operator@example.org").unwrap().clone();
    let of = format!("/api/users/{}", user["userId"].as_str().unwrap());
    let role = |role: &str| json!({"role": role});
    assert!(admin.send(Method::PATCH, &of, Some(&role("observer"))).await.unwrap().status().is_success());
    assert_eq!(post(&admin, &approve(&id), json!({})).await.1, "askerGone");
    assert!(admin.send(Method::PATCH, &of, Some(&role("operator"))).await.unwrap().status().is_success());
    assert_eq!(m.done(), did);

    // The second person agrees: the mark goes, and the session is as every other.
    let operator = m.stack.sign_in("operator").await;
    let said = post(&operator, &approve(&unmark), json!({})).await.2;
    assert_eq!(said["approval"]["state"], "done", "{said}");
    assert_eq!(post(&admin, &path(S1, "kill"), json!({})).await.0, 200);
    let log = admin.get("/api/mission-control/audit?action=unmarkFourEyes").await.unwrap();
    let row = &log["entries"][0];
    assert_eq!((&row["user"]["name"], &row["metadata"]["approvedBy"]["name"]), (&json!("ADMIN"), &json!("OPERATOR")));
}

#[tokio::test]
async fn the_terminal_of_a_marked_session_is_typed_into_with_a_second_persons_leave() {
    let m = marked("").await;
    // Who had control before the mark has it no more.
    assert_eq!(types(&m.operator, S2).await.0, 204);
    let mark = json!({"fourEyes": true, "reason": "later"});
    assert_eq!(put(&m.admin, &path(S2, "four-eyes"), mark).await.0, 200);
    assert_eq!(types(&m.operator, S2).await.1, "needsSecond");

    let id = asked(&m.operator, &path(S1, "terminal/take"), json!({})).await;
    assert_eq!(types(&m.operator, S1).await.1, "needsSecond");
    assert_eq!(post(&m.admin, &approve(&id), json!({})).await.2["approval"]["state"], "done");
    let control = m.observer.get(&path(S1, "control")).await.unwrap()["control"].clone();
    assert_eq!(control["writer"]["name"], "OPERATOR");
    assert_eq!(control["writer"]["approvedBy"]["name"], "ADMIN");
    assert_eq!(control["fourEyes"]["reason"], "it pays people");
    assert_eq!(types(&m.operator, S1).await.0, 204);
    assert_eq!(types(&m.admin, S1).await.1, "held", "the leave is for one");
    // Taking it away is always safe.
    assert_eq!(post(&m.admin, &path(S1, "terminal/release"), json!({})).await.0, 200);
    assert_eq!(types(&m.operator, S1).await.1, "needsSecond");
}

#[tokio::test]
async fn a_request_that_nobody_decides_is_said_to_be_over() {
    let m = marked("[limits]\napproval_s = 2\n").await;
    let mut events = m.operator.events(&path(S1, "stream")).await.unwrap();
    let id = asked(&m.operator, &path(S1, "kill"), json!({})).await;
    let over = events.expect_where("control", |c| c["requests"][0]["state"] == "expired").await.unwrap();
    let request = &over.data["requests"][0];
    assert_eq!(
        (&request["approvalId"], &request["outcome"]),
        (&json!(id), &json!("nobody decided it in time; nothing was done"))
    );
    assert_eq!(post(&m.admin, &approve(&id), json!({})).await.1, "decided");
    wait_until("it is in the audit log", WAIT, async || {
        let rows = m.rows("requestExpired").await;
        if rows.len() == 1 && rows[0]["metadata"]["askedBy"]["name"] == "OPERATOR" { Ok(()) } else { Err(rows) }
    })
    .await
    .unwrap();
    assert!(m.done().is_empty());
}

#[tokio::test]
async fn the_conversation_of_a_marked_session_is_gone_on_with_marked_and_without_words() {
    let m = marked("").await;
    let mut ended = typed_into(&m.node, S1);
    (ended.rev, ended.status) = (2, Status::Completed);
    ended.metadata.insert("conversation".into(), "c1".into());
    m.node.send_session(&ended).await;
    wait_until("its end is known", WAIT, async || m.observer.session(S1).await.unwrap()["status"] == "completed")
        .await
        .unwrap();
    let spawn =
        |prompt: Option<&str>| json!({"node": "n1", "profile": "counter", "resumeSessionId": S1, "prompt": prompt});
    let route = "/api/mission-control/sessions";
    assert_eq!(post(&m.admin, route, spawn(Some("pay me"))).await.1, "needsSecond");
    // The node of this test starts nothing and says so late: the mark is there all the same.
    post(&m.admin, route, spawn(None)).await;
    let started = m.node.commands.lock().unwrap().last().unwrap().clone();
    let new = started.spawn.unwrap().session_id;
    let mut session = typed_into(&m.node, new.as_str());
    session.status = Status::Running;
    m.node.send_session(&session).await;
    knows_session(&m.observer, new.as_str()).await;
    asked(&m.admin, &path(new.as_str(), "kill"), json!({})).await;
}
