//! Several workspaces in one hub: each sees its own, and nobody else's.

use std::path::PathBuf;

use bus_schema::*;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::{Bus, NatsServer, Person, TestIdentity, wait_until};

use crate::support::*;

const S3: &str = "01JD8Z2V9Q0000000000000003";

/// A hub that does not run yet, with the workspaces `default` and `lab`; and the credentials of a node `n1` in `lab`.
pub fn idle_two() -> (Stack, PathBuf) {
    let mut identity = TestIdentity::new().unwrap();
    let (lab, n1) = (WorkspaceId::new("lab").unwrap(), NodeId::new("n1").unwrap());
    identity.identity().add_workspace(&lab).unwrap();
    identity.identity().add_node(&lab, &n1).unwrap();
    let (hub, node) = (identity.identity().hub_creds(&lab), identity.identity().node_creds(&lab, &n1));
    let mut stack = Stack::idle(NatsServer::start_with(identity).unwrap());
    stack.tables = format!("[[workspaces]]\nname = \"lab\"\ncreds = {hub:?}\n");
    let person = |email: &str, role: &str, workspace: &str| json!({"email": email, "password": "passpass", "role": role, "workspace": workspace});
    stack.people = vec![
        person("both@example.org", "observer", "default"),
        person("both@example.org", "operator", "lab"),
        person("lab@example.org", "admin", "lab"),
    ];
    (stack, node)
}

/// A hub with both, and a node `n1` in each.
async fn two() -> (Stack, Node, Node) {
    two_with("").await
}

/// The same, with further tables.
async fn two_with(tables: &str) -> (Stack, Node, Node) {
    let (mut stack, node) = idle_two();
    stack.tables += tables;
    stack.start_hub().await;
    let ours = stack.node("n1").await;
    let theirs = Bus::connect(&stack.nats.url(), &node, "n1").await.unwrap();
    let theirs = Node::of_workspace(theirs, "n1", "lab").await;
    (stack, ours, theirs)
}

fn ids(list: &Value) -> Vec<&str> {
    list["sessions"].as_array().unwrap().iter().map(|s| s["sessionId"].as_str().unwrap()).collect()
}

async fn status(person: &Person, method: Method, path: &str) -> (StatusCode, Value) {
    let answer = person.send(method, path, Some(&json!({}))).await.unwrap();
    (answer.status(), answer.json().await.unwrap_or_default())
}

/// The list of sessions, once it is of some length.
async fn sessions(person: &Person, count: usize) -> Value {
    wait_until("the sessions are known", WAIT, async || {
        let list = person.get("/api/mission-control/sessions").await.unwrap();
        if ids(&list).len() == count { Ok(list) } else { Err(list) }
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn each_workspace_of_a_hub_sees_its_own_and_nothing_else() {
    let (stack, ours, theirs) = two().await;
    ours.send_session(&ours.session(S1, 1, "running")).await;
    ours.send_messages(S1, 1..=3).await;
    theirs.send_session(&theirs.session(S2, 1, "running")).await;
    theirs.send_messages(S2, 1..=5).await;
    let sign_in = async |who: &str| stack.nobody().sign_in(&format!("{who}@example.org"), "passpass").await.unwrap();
    let (admin, lab, both) = (stack.sign_in("admin").await, sign_in("lab").await, sign_in("both").await);

    // Whoever belongs to one needs not name it.
    assert_eq!((ids(&sessions(&admin, 1).await), ids(&sessions(&lab, 1).await)), (vec![S1], vec![S2]));
    // Whoever belongs to both has to, but for what is theirs everywhere.
    let (code, body) = status(&both, Method::GET, "/api/mission-control/sessions").await;
    assert_eq!((code, &body["error"]["code"]), (StatusCode::BAD_REQUEST, &json!("whichWorkspace")), "{body}");
    assert!(body["error"]["message"].as_str().unwrap().contains("default, lab"), "{body}");
    let me = both.get("/api/auth/me").await.unwrap();
    assert_eq!(
        me["workspaces"],
        json!([{"id": "default", "role": "observer"}, {"id": "lab", "role": "operator"}]),
        "{me}"
    );
    for (name, role, session) in [("default", "observer", S1), ("lab", "operator", S2)] {
        let here = both.in_workspace(name);
        assert_eq!(ids(&here.get("/api/mission-control/sessions").await.unwrap()), [session]);
        assert_eq!(here.get("/api/auth/me").await.unwrap()["role"], role);
    }
    // A role counts where it is held.
    let kill = format!("/api/mission-control/sessions/{S1}/kill");
    assert_eq!(status(&both.in_workspace("default"), Method::POST, &kill).await.0, StatusCode::FORBIDDEN);

    // What is another workspace's is not there, by any route.
    for (method, path) in [
        (Method::GET, format!("/api/mission-control/sessions/{S1}")),
        (Method::GET, format!("/api/mission-control/sessions/{S1}/messages")),
        (Method::GET, format!("/api/mission-control/sessions/{S1}/stream?after=0")),
        (Method::GET, format!("/agents/{S1}/messages")),
        (Method::POST, kill),
    ] {
        for person in [&lab, &both.in_workspace("lab")] {
            assert_eq!(status(person, method.clone(), &path).await.0, StatusCode::NOT_FOUND, "{method} {path}");
        }
    }
    for (person, elsewhere) in [(&lab, "default"), (&admin, "lab"), (&both, "nowhere")] {
        let (code, body) = status(&person.in_workspace(elsewhere), Method::GET, "/api/auth/me").await;
        assert_eq!((code, &body["error"]["code"]), (StatusCode::NOT_FOUND, &json!("unknownWorkspace")), "{elsewhere}");
    }
    // Nor in a stream that names it, with all of its past.
    let mut events = lab.events(&format!("/api/mission-control/stream?sessions={S1}&after=0")).await.unwrap();
    loop {
        let event = events.next().await.unwrap();
        assert!(event.name != "message" && event.name != "session", "{event:?}");
        if event.name == "ready" {
            break;
        }
    }
    // A node of the same name in another workspace does not speak for the session.
    theirs.send_messages(S1, 4..=4).await;
    theirs.send_session(&theirs.session(S1, 9, "completed")).await;
    let parked = wait_until("both are set aside", WAIT, async || {
        let parked = lab.get("/api/parked").await.unwrap()["parked"].as_array().unwrap().clone();
        if parked.len() == 2 { Ok(parked) } else { Err(parked) }
    })
    .await
    .unwrap();
    for one in &parked {
        assert_eq!(one["reason"], format!("session {S1} belongs to another workspace"));
    }
    assert_eq!(admin.get("/api/parked").await.unwrap()["parked"], json!([]));
    assert_eq!(admin.messages(S1, 0).await.unwrap().len(), 3);
    assert_eq!(admin.session(S1).await.unwrap()["status"], "running");
}

#[tokio::test]
async fn what_is_done_in_a_workspace_stays_in_it_over_restarts() {
    let (mut stack, ours, theirs) = two().await;
    ours.send_session(&ours.session(S1, 1, "running")).await;
    theirs.send_session(&theirs.session(S2, 1, "running")).await;
    theirs.send_session(&theirs.session(S3, 1, "running")).await;
    theirs.send_messages(S2, 1..=2).await;
    let sign_in = async |stack: &Stack| stack.nobody().sign_in("lab@example.org", "passpass").await.unwrap();
    let (admin, lab) = (stack.sign_in("admin").await, sign_in(&stack).await);
    sessions(&lab, 2).await;
    stack.knows(&admin, &ours).await;
    stack.knows(&lab, &theirs).await;
    let _ours = ours.obey(done).await;
    let _theirs = theirs.obey(done).await;
    let (code, body) = lab.post("/api/mission-control/kill-all", json!({"confirm": "KILL ALL"})).await.unwrap();
    assert_eq!((code, body["results"].as_array().unwrap().len()), (200, 2), "{body}");
    assert_eq!((ours.commands.lock().unwrap().len(), theirs.commands.lock().unwrap().len()), (0, 2));

    // Each has an audit log of its own, from the first row on.
    let actions = async |person: &Person| {
        let rows = person.get("/api/mission-control/audit").await.unwrap()["entries"].as_array().unwrap().clone();
        assert_eq!(rows.last().unwrap()["n"], 1);
        rows.iter().map(|row| row["action"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert!(actions(&lab).await.iter().any(|action| action == "killAll"));
    assert!(!actions(&admin).await.iter().any(|action| action == "killAll" || action == "kill"));

    // Somebody invited into the second workspace, a token made there: both lead there.
    let (code, made) =
        lab.post("/api/invitations", json!({"email": "new@example.org", "role": "observer"})).await.unwrap();
    assert_eq!(code, 201, "{made}");
    let body = json!({"token": made["token"], "password": "passpass"});
    let accepted = stack.nobody().send(Method::POST, "/api/invitations/accept", Some(&body)).await.unwrap();
    assert_eq!(accepted.status(), StatusCode::NO_CONTENT);
    let new = stack.nobody().sign_in("new@example.org", "passpass").await.unwrap();
    assert_eq!(new.get("/api/auth/me").await.unwrap()["workspace"], "lab");
    assert!(actions(&lab).await.iter().any(|action| action == "acceptInvitation"));
    let (code, made) = lab.post("/api/tokens", json!({"name": "t", "role": "observer"})).await.unwrap();
    assert_eq!(code, 201, "{made}");
    let token = made["token"].as_str().unwrap().to_owned();

    stack.kill9_hub();
    stack.start_hub().await;
    let script = Person::with_token(stack.url(), token);
    let list = sessions(&script, 2).await;
    assert_eq!(ids(&list), [S3, S2]);
    let lab = sign_in(&stack).await;
    assert_eq!(lab.messages(S2, 0).await.unwrap().len(), 2);
    assert_eq!(status(&script.in_workspace("default"), Method::GET, "/api/auth/me").await.0, StatusCode::NOT_FOUND);
}

/// What every answer has, whoever of the hub gave it.
const HEADERS: [(&str, &str); 3] =
    [("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer"), ("x-frame-options", "DENY")];

/// Looks at an answer; its status and code.
async fn looked_at(answer: reqwest::Response) -> (u16, String) {
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let said = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    for (name, value) in HEADERS {
        assert_eq!(said(name), value, "{name} of a {status}: {headers:?}");
    }
    assert!(
        said("content-security-policy").contains("default-src") && !said("cache-control").is_empty(),
        "{headers:?}"
    );
    let body: Value = answer.json().await.unwrap_or_default();
    if status >= 400 && body["error"].is_object() {
        assert_eq!(body["error"]["requestId"], said("x-request-id"), "{status}");
    }
    assert!(!said("x-request-id").is_empty(), "{status}");
    (status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
}

/// How many answers the hub has counted, of a status and route, or in all.
async fn counted(stack: &Stack, labels: &str) -> u64 {
    let text = stack.nobody().send(Method::GET, "/metrics", None).await.unwrap().text().await.unwrap();
    let lines = text.lines().filter(|l| l.starts_with("mosaic_hub_http_answers_total") && l.contains(labels));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

#[tokio::test]
async fn every_answer_carries_the_headers_and_is_counted_also_that_of_the_front() {
    let (stack, ..) = two_with("[limits]\nbody_bytes = 1024\nrequests_per_second = 20\n").await;
    let (nobody, both) = (stack.nobody(), stack.nobody().sign_in("both@example.org", "passpass").await.unwrap());
    let list = "/api/mission-control/sessions";
    let large = json!({"email": "x".repeat(2_000), "password": "y"});
    let kill = format!("/api/mission-control/sessions/{S1}/kill");
    let asked = [
        (nobody.request(Method::GET, "/healthz"), 200, ""),
        (nobody.request(Method::GET, "/nowhere"), 404, "notFound"),
        (nobody.request(Method::GET, "/mission-control/nowhere.js"), 404, "notFound"),
        (nobody.request(Method::DELETE, "/healthz"), 405, "wrongMethod"),
        (nobody.request(Method::POST, "/mission-control"), 405, "wrongMethod"),
        (nobody.request(Method::GET, list), 401, "unauthenticated"),
        (nobody.request(Method::POST, "/api/auth/login").body("{"), 400, "malformed"),
        (nobody.request(Method::POST, "/api/auth/login").json(&json!({})), 422, "invalid"),
        (nobody.request(Method::POST, "/api/auth/login").json(&large), 413, "tooLarge"),
        (both.request(Method::GET, list), 400, "whichWorkspace"),
        (both.in_workspace("nowhere").request(Method::GET, list), 404, "unknownWorkspace"),
        (both.in_workspace("lab").request(Method::GET, "/api/nowhere"), 404, "notFound"),
        (both.in_workspace("lab").request(Method::GET, list), 200, ""),
        (both.in_workspace("default").request(Method::POST, &kill), 403, "forbidden"),
    ];
    let (before, mut count) = (counted(&stack, "").await, 0);
    for (request, status, code) in asked {
        let answer = request.send().await.unwrap();
        let url = answer.url().clone();
        assert_eq!(looked_at(answer).await, (status, code.to_owned()), "{url}");
        count += 1;
    }
    // The first look was answered itself.
    assert_eq!(counted(&stack, "").await, before + count + 1);

    // The id that a caller gives is theirs, also where the front answers.
    let answer = both.request(Method::GET, list).header("x-request-id", "mine").send().await.unwrap();
    assert_eq!(answer.headers()["x-request-id"], "mine");

    // Too much is asked for: the front refuses too, since it looks up who asks.
    let front = "route=\"none\",status=\"429\"";
    wait_until("the front refuses", WAIT, async || {
        let answers = (0..30).map(|_| both.request(Method::GET, list).send());
        for answer in futures::future::join_all(answers).await {
            let (status, code) = looked_at(answer.unwrap()).await;
            assert!(["whichWorkspace", "tooMany"].contains(&code.as_str()), "{status} {code}");
        }
        counted(&stack, front).await > 0
    })
    .await
    .unwrap();
}
