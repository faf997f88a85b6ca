//! People, their tokens, their sign-ins; and that what is taken away is gone at once.

use bus_schema::{SessionId, encode};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::{Events, Person, wait_until};

use crate::support::*;

async fn code(person: &Person, method: Method, path: &str, body: Value) -> (u16, String) {
    let answer = person.send(method, path, Some(&body)).await.unwrap();
    let status = answer.status().as_u16();
    let body: Value = answer.json().await.unwrap_or_default();
    (status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
}

async fn id_of(admin: &Person, email: &str) -> String {
    let users = admin.get("/api/users").await.unwrap();
    let found = users["users"].as_array().unwrap().iter().find(|u| u["email"] == email).unwrap().clone();
    found["userId"].as_str().unwrap().to_owned()
}

/// An open stream that has begun.
async fn watching(person: &Person) -> Events {
    let mut events = person.events("/api/mission-control/stream").await.unwrap();
    events.expect("ready").await.unwrap();
    events
}

async fn ends(mut events: Events) {
    while let Some(event) = tokio::time::timeout(WAIT, events.next()).await.unwrap() {
        assert_ne!(event.name, "message");
    }
}

#[tokio::test]
async fn a_token_does_what_it_is_for_and_is_shown_once() {
    let mut stack = Stack::start().await;
    let node = stack.node("n1").await;
    for (n, id) in [S1, S2].into_iter().enumerate() {
        node.send_session(&node.session(id, n as u64 + 1, "running")).await;
    }
    let _obeying = node.obey(done).await;
    let operator = stack.sign_in("operator").await;
    wait_until("both are known", WAIT, async || {
        operator.session(S1).await.is_ok() && operator.session(S2).await.is_ok()
    })
    .await
    .unwrap();

    for (body, told) in [
        (json!({"name": "x", "role": "admin"}), "above yours"),
        (json!({"name": "", "role": "observer"}), "name must"),
        (json!({"name": "x", "role": "boss"}), "role must"),
        (json!({"name": "x", "role": "observer", "sessions": []}), "sessions must"),
        (json!({"name": "x", "role": "observer", "expiresAt": "2020-01-01T00:00:00Z"}), "expiresAt must"),
        (json!({"name": "x", "role": "observer", "expiresAt": "2099-01-01T00:00:00Z"}), "expiresAt must"),
    ] {
        let (status, answer) = operator.post("/api/tokens", body).await.unwrap();
        assert!(status == 422 && answer.to_string().contains(told), "{told}: {answer}");
    }
    let (status, made) = operator.post("/api/tokens", json!({"name": "deploy", "role": "operator"})).await.unwrap();
    let text = made["token"].as_str().unwrap();
    assert!(status == 201 && text.starts_with("mm_") && text.len() == 46, "{status}");
    let script = Person::with_token(stack.url(), text);
    let me = script.get("/api/auth/me").await.unwrap();
    assert_eq!((&me["role"], &me["user"]["email"]), (&json!("operator"), &json!("operator@example.org")));
    let listed = operator.get("/api/tokens").await.unwrap();
    let one = &listed["tokens"][0];
    assert!(!listed.to_string().contains(text), "it is shown once");
    assert!(one["lastUsedAt"].is_string() && one["expiresAt"].is_string(), "{one}");
    assert_eq!(
        code(&script, Method::POST, "/api/tokens", json!({"name": "y", "role": "observer"})).await.1,
        "notInPerson"
    );

    // No browser sends a token by itself: where the request comes from says nothing.
    let path = format!("/api/mission-control/sessions/{S1}/pause");
    let request = script.request(Method::POST, &path).header("sec-fetch-site", "cross-site");
    assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
    let log = operator.get("/api/mission-control/audit?action=pause").await.unwrap();
    assert_eq!(log["entries"][0]["user"]["name"], "OPERATOR by token deploy");

    let body = json!({"name": "one", "role": "operator", "sessions": [S1]});
    let bound = operator.post("/api/tokens", body).await.unwrap().1;
    let bound = Person::with_token(stack.url(), bound["token"].as_str().unwrap());
    assert_eq!(bound.act(S1, "pause").await.unwrap().0, 200);
    bound.get(&format!("/agents/{S1}/messages")).await.unwrap();
    drop(bound.events(&format!("/api/mission-control/stream?sessions={S1}")).await.unwrap());
    for path in [
        format!("/api/mission-control/sessions/{S2}"),
        "/api/mission-control/sessions".into(),
        "/api/mission-control/stream".into(),
        format!("/api/mission-control/stream?sessions={S1},{S2}"),
        format!("/api/mission-control/sessions/{S1}/stream?terminals={S2}"),
        format!("/api/mission-control/sessions/{S1}/stream?nodes=1"),
        format!("/agents/{S2}/messages"),
        "/agents/tree".into(),
        "/api/mission-control/audit".into(),
    ] {
        assert_eq!(code(&bound, Method::GET, &path, json!({})).await, (403, "outOfScope".into()), "{path}");
    }

    let open = watching(&script).await;
    let id = one["tokenId"].as_str().unwrap();
    let observer = stack.sign_in("observer").await;
    let path = format!("/api/tokens/{id}");
    assert_eq!(code(&observer, Method::DELETE, &path, json!({})).await.0, 404, "it is another's");
    assert_eq!(code(&operator, Method::DELETE, &path, json!({})).await.0, 204);
    assert_eq!(code(&script, Method::GET, "/api/auth/me", json!({})).await.0, 401);
    ends(open).await;
    for action in ["createToken", "deleteToken"] {
        let log = operator.get(&format!("/api/mission-control/audit?action={action}")).await.unwrap();
        assert!(log["entries"].as_array().unwrap().iter().any(|e| e["metadata"]["token"] == "deploy"), "{log}");
        assert!(!log.to_string().contains(text), "no token is written down");
    }
}

#[tokio::test]
async fn an_invitation_lets_one_person_in_once() {
    let stack = Stack::start().await;
    let admin = stack.sign_in("admin").await;
    let invite = json!({"email": "Eve@Example.org", "role": "operator"});
    for (body, expected) in [
        (json!({"email": "nonsense", "role": "operator"}), (422, "invalid")),
        (json!({"email": "eve@example.org", "role": "boss"}), (422, "invalid")),
        (json!({"email": "observer@example.org", "role": "operator"}), (409, "alreadyMember")),
    ] {
        let found = code(&admin, Method::POST, "/api/invitations", body).await;
        assert_eq!((found.0, found.1.as_str()), expected);
    }
    let (status, made) = admin.post("/api/invitations", invite.clone()).await.unwrap();
    let token = made["token"].as_str().unwrap();
    assert!(status == 201 && made["link"].as_str().unwrap().ends_with(&format!("/invitation#{token}")), "{made}");
    let open = admin.get("/api/invitations").await.unwrap();
    assert_eq!(open["invitations"][0]["email"], "eve@example.org");
    assert!(!open.to_string().contains(token), "it is shown once");

    let nobody = stack.nobody();
    let accept = |token: &str, password: &str| json!({"token": token, "name": "Eve", "password": password});
    let path = "/api/invitations/accept";
    assert_eq!(code(&nobody, Method::POST, path, accept("wrong", "long enough")).await, (404, "notFound".into()));
    assert_eq!(code(&nobody, Method::POST, path, accept(token, "short")).await, (422, "invalid".into()));
    // Two at once: one gets in.
    let (body, other) = (accept(token, "long enough"), nobody.clone());
    let both = tokio::join!(nobody.send(Method::POST, path, Some(&body)), other.send(Method::POST, path, Some(&body)),);
    let mut statuses = [both.0.unwrap().status().as_u16(), both.1.unwrap().status().as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [204, 404]);
    let eve = nobody.sign_in("eve@example.org", "long enough").await.unwrap();
    assert_eq!(eve.get("/api/auth/me").await.unwrap()["role"], "operator");
    assert_eq!(admin.get("/api/invitations").await.unwrap()["invitations"], json!([]));

    let second = admin.post("/api/invitations", json!({"email": "x@example.org", "role": "admin"})).await.unwrap().1;
    let id = second["invitation"]["invitationId"].as_str().unwrap();
    assert_eq!(code(&admin, Method::DELETE, &format!("/api/invitations/{id}"), json!({})).await.0, 204);
    let token = second["token"].as_str().unwrap();
    assert_eq!(code(&nobody, Method::POST, path, accept(token, "long enough")).await.0, 404, "it was taken back");
    let log = admin.get("/api/mission-control/audit?action=acceptInvitation").await.unwrap();
    let results: Vec<_> = log["entries"].as_array().unwrap().iter().map(|e| e["result"].as_str().unwrap()).collect();
    assert!(results.contains(&"ok") && results.contains(&"refused"), "{results:?}");
    assert!(!log.to_string().contains("long enough"), "no password is written down");
}

#[tokio::test]
async fn a_role_that_changes_changes_at_once_and_there_is_always_an_admin() {
    let stack = Stack::start().await;
    let (admin, operator) = (stack.sign_in("admin").await, stack.sign_in("operator").await);
    let (admin_id, operator_id) =
        (id_of(&admin, "admin@example.org").await, id_of(&admin, "operator@example.org").await);
    let path = format!("/api/users/{operator_id}");
    let open = watching(&operator).await;
    let changed = admin.send(Method::PATCH, &path, Some(&json!({"role": "observer", "name": "Op"}))).await.unwrap();
    let changed: Value = changed.json().await.unwrap();
    assert_eq!((&changed["user"]["role"], &changed["user"]["name"]), (&json!("observer"), &json!("Op")));
    ends(open).await;
    assert_eq!(operator.act(S1, "kill").await.unwrap().0, 403);

    let own = format!("/api/users/{admin_id}");
    for (method, body) in [
        (Method::PATCH, json!({"role": "operator"})),
        (Method::PATCH, json!({"disabled": true})),
        (Method::DELETE, json!({})),
    ] {
        assert_eq!(code(&admin, method, &own, body).await, (409, "lastAdmin".into()));
    }
    // Two admins who demote each other at once: one of them stays.
    assert_eq!(code(&admin, Method::PATCH, &path, json!({"role": "admin"})).await.0, 200);
    let (demote, other) = (json!({"role": "observer"}), operator.clone());
    let both =
        tokio::join!(admin.send(Method::PATCH, &path, Some(&demote)), other.send(Method::PATCH, &own, Some(&demote)),);
    let statuses = [both.0.unwrap().status().as_u16(), both.1.unwrap().status().as_u16()];
    assert_eq!(statuses.iter().filter(|s| **s == 200).count(), 1, "{statuses:?}");
    let left = if statuses[0] == 200 { admin } else { operator.clone() };
    let left = if statuses[0] == 200 { (left, path) } else { (left, own) };
    let (admin, path) = left;

    let person = if path.ends_with(&operator_id) { operator } else { stack.sign_in("admin").await };
    let open = watching(&person).await;
    assert_eq!(code(&admin, Method::PATCH, &path, json!({"disabled": true})).await.0, 200);
    ends(open).await;
    assert_eq!(code(&person, Method::GET, "/api/auth/me", json!({})).await.0, 401);
    let who = if path.ends_with(&operator_id) { "operator" } else { "admin" };
    let login = json!({"email": format!("{who}@example.org"), "password": who.repeat(2)});
    assert_eq!(code(&stack.nobody(), Method::POST, "/api/auth/login", login.clone()).await, (403, "disabled".into()));
    assert_eq!(code(&admin, Method::PATCH, &path, json!({"disabled": false})).await.0, 200);
    assert_eq!(code(&person, Method::GET, "/api/auth/me", json!({})).await.0, 401, "old sign-ins stay ended");
    stack.sign_in(who).await;
    assert_eq!(code(&admin, Method::DELETE, &path, json!({})).await.0, 204);
    assert_eq!(code(&stack.nobody(), Method::POST, "/api/auth/login", login).await, (403, "noRole".into()));
    for action in ["updateUser", "deleteUser"] {
        let log = admin.get(&format!("/api/mission-control/audit?action={action}")).await.unwrap();
        let entries = log["entries"].as_array().unwrap();
        assert!(entries.iter().any(|e| e["phase"] == "intent") && entries.iter().any(|e| e["result"] == "ok"), "{log}");
    }
}

#[tokio::test]
async fn what_was_changed_of_people_outlives_a_restart_and_a_lost_store() {
    let mut stack = Stack::start().await;
    let admin = stack.sign_in("admin").await;
    let token = admin.post("/api/tokens", json!({"name": "kept", "role": "observer"})).await.unwrap().1;
    let gone = admin.post("/api/tokens", json!({"name": "gone", "role": "observer"})).await.unwrap().1;
    let path = format!("/api/tokens/{}", gone["apiToken"]["tokenId"].as_str().unwrap());
    assert_eq!(code(&admin, Method::DELETE, &path, json!({})).await.0, 204);
    let observer = id_of(&admin, "observer@example.org").await;
    let operator = id_of(&admin, "operator@example.org").await;
    assert_eq!(code(&admin, Method::DELETE, &format!("/api/users/{observer}"), json!({})).await.0, 204);
    let patch = json!({"role": "observer"});
    assert_eq!(code(&admin, Method::PATCH, &format!("/api/users/{operator}"), patch).await.0, 200);
    let before = admin.get("/api/users").await.unwrap();
    stack.stop_hub();
    std::fs::remove_dir_all(stack.dir.path().join("hub/store")).unwrap();
    stack.start_hub().await;
    let admin = admin.at(stack.url());
    assert_eq!(admin.get("/api/users").await.unwrap(), before, "the users file does not bring them back");
    let kept = Person::with_token(stack.url(), token["token"].as_str().unwrap());
    assert_eq!(kept.get("/api/auth/me").await.unwrap()["role"], "observer");
    let gone = Person::with_token(stack.url(), gone["token"].as_str().unwrap());
    assert_eq!(code(&gone, Method::GET, "/api/auth/me", json!({})).await.0, 401);
}

#[tokio::test]
async fn a_person_signs_their_other_browsers_out() {
    let stack = Stack::start().await;
    let (one, two) = (stack.sign_in("observer").await, stack.sign_in("observer").await);
    let sessions = one.get("/api/auth/sessions").await.unwrap()["sessions"].as_array().unwrap().clone();
    assert_eq!(sessions.len(), 2);
    let other = sessions.iter().find(|s| s["current"] == false).unwrap();
    assert_eq!(other["address"], "127.0.0.1");
    let open = watching(&two).await;
    let path = format!("/api/auth/sessions/{}", other["sessionId"].as_str().unwrap());
    let operator = stack.sign_in("operator").await;
    assert_eq!(code(&operator, Method::DELETE, &path, json!({})).await.0, 404, "it is another's");
    assert_eq!(code(&one, Method::DELETE, &path, json!({})).await.0, 204);
    ends(open).await;
    assert_eq!(code(&two, Method::GET, "/api/auth/me", json!({})).await.0, 401);

    let two = stack.sign_in("observer").await;
    let open = watching(&two).await;
    let change = |old: &str, new: &str| json!({"old": old, "new": new});
    let path = "/api/auth/password";
    assert_eq!(code(&one, Method::POST, path, change("x", "a better one")).await, (401, "wrongCredentials".into()));
    assert_eq!(code(&one, Method::POST, path, change("observerobserver", "short")).await, (422, "invalid".into()));
    assert_eq!(code(&one, Method::POST, path, change("observerobserver", "a better one")).await.0, 204);
    ends(open).await;
    assert_eq!(code(&two, Method::GET, "/api/auth/me", json!({})).await.0, 401);
    one.get("/api/auth/me").await.unwrap();
    let nobody = stack.nobody();
    assert!(nobody.sign_in("observer@example.org", "observerobserver").await.is_err());
    let two = nobody.sign_in("observer@example.org", "a better one").await.unwrap();
    let (first, second) = (watching(&one).await, watching(&two).await);
    assert_eq!(code(&two, Method::DELETE, "/api/auth/sessions", json!({})).await.0, 204);
    ends(first).await;
    ends(second).await;
    for person in [one, two] {
        assert_eq!(code(&person, Method::GET, "/api/auth/me", json!({})).await.0, 401);
    }
    let admin = stack.sign_in("admin").await;
    let log = admin.get("/api/mission-control/audit?action=changePassword").await.unwrap();
    assert!(log["entries"].as_array().unwrap().len() == 6 && !log.to_string().contains("a better one"), "{log}");
}

#[tokio::test]
async fn a_message_shows_who_sent_it_by_their_own_name() {
    let mut stack = Stack::start().await;
    let node = stack.node("n1").await;
    node.send_session(&node.session(S1, 1, "running")).await;
    let _obeying = node.obey(done).await;
    let operator = stack.sign_in("operator").await;
    wait_until("it is known", WAIT, async || operator.session(S1).await.is_ok()).await.unwrap();
    let made = operator.post("/api/tokens", json!({"name": "bot", "role": "operator"})).await.unwrap().1;
    let script = Person::with_token(stack.url(), made["token"].as_str().unwrap());
    let path = format!("/api/mission-control/sessions/{S1}/inject");
    assert_eq!(script.post(&path, json!({"content": "hello"})).await.unwrap().0, 202);
    let sent = node.commands.lock().unwrap().last().unwrap().clone();
    assert_eq!(sent.operator.name, "OPERATOR");
    assert!(encode(&sent).is_ok() && SessionId::new(S1).is_ok());
}
