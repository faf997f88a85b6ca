//! One writer at a time on a terminal, over any number of hubs; and everybody sees who.

use bus_schema::*;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Person, wait_until};

use crate::support::*;

/// A session with a terminal that can be typed into.
pub fn typed_into(node: &Node, id: &str) -> Session {
    let mut session = node.session(id, 1, "running");
    session.capabilities.extend([
        Capability::Input,
        Capability::Resize,
        Capability::Terminate,
        Capability::Approve,
        Capability::Resume,
    ]);
    session
}

pub fn path(id: &str, what: &str) -> String {
    format!("/api/mission-control/sessions/{id}/{what}")
}

/// Status, code of the error, and what was said.
pub async fn post(person: &Person, path: &str, body: Value) -> (u16, String, Value) {
    let (status, answer) = person.post(path, body).await.unwrap();
    let status: u16 = status.to_string().parse().unwrap();
    (status, answer["error"]["code"].as_str().unwrap_or_default().to_owned(), answer)
}

pub async fn types(person: &Person, id: &str) -> (u16, String, Value) {
    // A 204 has no body.
    let body = json!({"data": "eA=="});
    let answer = person.send(Method::POST, &path(id, "terminal/input"), Some(&body)).await.unwrap();
    let status = answer.status().as_u16();
    let body: Value = answer.json().await.unwrap_or_default();
    (status, body["error"]["code"].as_str().unwrap_or_default().to_owned(), body)
}

async fn writer(person: &Person, id: &str) -> Value {
    person.get(&path(id, "control")).await.unwrap()["control"]["writer"].clone()
}

#[tokio::test]
async fn one_writes_at_a_time_and_everybody_sees_who() {
    let mut stack = Stack::start().await;
    let node = stack.node("n1").await;
    node.send_session(&typed_into(&node, S1)).await;
    let _obeying = node.obey(done).await;
    let (admin, operator, observer) =
        (stack.sign_in("admin").await, stack.sign_in("operator").await, stack.sign_in("observer").await);
    knows_session(&observer, S1).await;
    let mut events = observer.events(&path(S1, "stream")).await.unwrap();
    events.expect("ready").await.unwrap();

    assert_eq!(types(&operator, S1).await.0, 204, "who types first has control");
    let seen = events.expect_where("control", |c| c["writer"]["name"] == "OPERATOR").await.unwrap();
    assert_eq!(seen.data["sessionId"], S1);
    let one = observer.get(&format!("/api/mission-control/sessions/{S1}")).await.unwrap();
    assert_eq!(one["control"]["writer"]["name"], "OPERATOR");
    assert_eq!(types(&operator, S1).await.0, 204);

    let (status, code, answer) = types(&admin, S1).await;
    assert_eq!((status, code.as_str()), (409, "held"));
    assert!(answer["error"]["message"].as_str().unwrap().starts_with("OPERATOR has control"), "{answer}");
    let resized = post(&admin, &path(S1, "terminal/resize"), json!({"cols": 80, "rows": 24})).await;
    assert_eq!((resized.0, resized.1.as_str()), (409, "held"));
    let given = post(&admin, &path(S1, "terminal/release"), json!({})).await;
    assert_eq!((given.0, given.1.as_str()), (409, "notYours"));
    for route in ["terminal/take", "terminal/release", "terminal/input"] {
        assert_eq!(post(&observer, &path(S1, route), json!({"data": "eA=="})).await.0, 403, "{route}");
    }
    // A script of the same person is another writer: their keys would mix.
    let token = operator.post("/api/tokens", json!({"name": "bot", "role": "operator"})).await.unwrap().1;
    let script = Person::with_token(stack.url(), token["token"].as_str().unwrap());
    assert_eq!(types(&script, S1).await.1, "held");
    let typed = |node: &Node| node.commands.lock().unwrap().iter().map(|c| c.operator.name.clone()).collect::<Vec<_>>();
    assert_eq!(typed(&node), ["OPERATOR", "OPERATOR"], "what was refused never came to the node");

    let (status, _, taken) = post(&admin, &path(S1, "terminal/take"), json!({})).await;
    assert_eq!((status, &taken["control"]["writer"]["name"]), (200, &json!("ADMIN")), "{taken}");
    events.expect_where("control", |c| c["writer"]["name"] == "ADMIN").await.unwrap();
    assert_eq!(types(&operator, S1).await.1, "held", "it is taken at once");
    assert_eq!(types(&admin, S1).await.0, 204);

    // Who comes later is told before all else; who comes back too, also that there is nothing any more.
    let mut late = observer.events("/api/mission-control/stream?sessions=*").await.unwrap();
    let told = late.expect("controls").await.unwrap();
    assert_eq!(told.data["controls"][0]["writer"]["name"], "ADMIN");
    let cursor = late.expect("ready").await.unwrap().id.unwrap();
    drop(late);
    assert_eq!(post(&admin, &path(S1, "terminal/release"), json!({})).await.0, 200);
    events.expect_where("control", |c| c["writer"].is_null()).await.unwrap();
    let again = format!("/api/mission-control/stream?sessions=*&cursor={cursor}");
    let told = observer.events(&again).await.unwrap().expect("controls").await.unwrap();
    assert_eq!(told.data, json!({"controls": []}));
    let resized = post(&operator, &path(S1, "terminal/resize"), json!({"cols": 80, "rows": 24})).await;
    assert_eq!(resized.0, 204, "nobody had it: {}", resized.2);

    let log = observer.get(&format!("/api/mission-control/audit?session={S1}&action=takeControl")).await.unwrap();
    let rows: Vec<_> = log["entries"].as_array().unwrap().iter().rev().filter(|r| r["result"] == "ok").collect();
    let told: Vec<_> = rows.iter().map(|r| (r["user"]["name"].as_str().unwrap(), &r["metadata"]["by"])).collect();
    assert_eq!(
        told,
        [("OPERATOR", &json!("typing")), ("ADMIN", &json!("asking")), ("OPERATOR", &json!("typing"))],
        "{log}"
    );
    assert_eq!(rows[1]["metadata"]["from"], "OPERATOR");
    let log = observer.get("/api/mission-control/audit?action=releaseControl").await.unwrap();
    assert_eq!(log["entries"][0]["metadata"]["of"], "ADMIN");
    let log = observer.get("/api/mission-control/audit?action=input").await.unwrap();
    let refused = log["entries"].as_array().unwrap().iter().filter(|r| r["result"] == "refused").count();
    assert_eq!(refused, 3, "what was refused is written down: {log}");
}

#[tokio::test]
async fn who_goes_or_falls_silent_has_control_no_more() {
    let mut stack = Stack::start_configured("", "[limits]\ncontrol_s = 20\n").await;
    let node = stack.node("n1").await;
    for id in [S1, S2] {
        node.send_session(&typed_into(&node, id)).await;
    }
    let _obeying = node.obey(done).await;
    let (admin, operator) = (stack.sign_in("admin").await, stack.sign_in("operator").await);
    knows_session(&operator, S2).await;
    let (open, other) = (
        operator.events("/api/mission-control/stream").await.unwrap(),
        operator.events(&path(S1, "terminal")).await.unwrap(),
    );
    assert_eq!(types(&operator, S1).await.0, 204);
    drop(open);
    assert_eq!(types(&admin, S1).await.1, "held", "one stream is still open");
    drop(other);
    wait_until("it is given back", WAIT, async || {
        let now = writer(&admin, S1).await;
        if now.is_null() { Ok(()) } else { Err(now) }
    })
    .await
    .unwrap();
    let log = admin.get("/api/mission-control/audit?action=releaseControl").await.unwrap();
    let row = &log["entries"][0];
    assert_eq!(
        (&row["metadata"]["why"], &row["metadata"]["of"]),
        (&json!("disconnected"), &json!("OPERATOR")),
        "{log}"
    );

    // A script has no stream; its time is over after its last key.
    assert_eq!(types(&operator, S2).await.0, 204);
    let until: Timestamp = serde_json::from_value(writer(&admin, S2).await["until"].clone()).unwrap();
    let mut events = admin.events(&path(S2, "stream")).await.unwrap();
    events.expect_where("control", |c| c["writer"].is_null()).await.unwrap();
    assert!(hub::clock::now() >= until);
    assert_eq!(types(&admin, S2).await.0, 204);
}

#[tokio::test]
async fn two_hubs_know_of_each_other_who_writes() {
    let mut stack = Stack::start().await;
    let node = stack.node("n1").await;
    node.send_session(&typed_into(&node, S1)).await;
    let _obeying = node.obey(done).await;
    let (_second, there) = stack.second_hub().await;
    let here = stack.sign_in("operator").await;
    let there = Person::nobody(there).sign_in("admin@example.org", "adminadmin").await.unwrap();
    knows_session(&here, S1).await;
    knows_session(&there, S1).await;
    let mut events = here.events(&path(S1, "stream")).await.unwrap();
    for _ in 0..3 {
        assert_eq!(types(&here, S1).await.0, 204);
        assert_eq!(types(&there, S1).await.1, "held", "at once, whatever the other store has seen");
        assert_eq!(post(&there, &path(S1, "terminal/take"), json!({})).await.0, 200);
        assert_eq!(types(&here, S1).await.1, "held");
        events.expect_where("control", |c| c["writer"]["name"] == "ADMIN").await.unwrap();
        assert_eq!(post(&there, &path(S1, "terminal/release"), json!({})).await.0, 200);
    }
    // Both at once, while it is nobody's: one of them.
    let (one, other) = tokio::join!(types(&here, S1), types(&there, S1));
    let mut statuses = [one.0, other.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [204, 409], "{} {}", one.2, other.2);
}
