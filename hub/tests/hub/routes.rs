//! Every route of the table, by everybody there is.

use hub::policy::{Access, Role as Who};
use hub_store::{Membership, Record, RecordBody, SignIn, User};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::Person;

use crate::support::*;

/// A path of the table with something in the place of its parameters.
fn concrete(path: &str) -> String {
    path.replace("{id}", S1).replace("{name}", "nowhere")
}

async fn token(person: &Person, role: Who, url: String) -> Person {
    let (status, made) = person.post("/api/tokens", json!({"name": "walk", "role": role.as_str()})).await.unwrap();
    assert_eq!(status, 201, "{made}");
    Person::with_token(url, made["token"].as_str().unwrap())
}

/// Somebody who is signed in, with a role in another workspace only, as another hub of this bus would write it.
async fn of_another_workspace(stack: &mut Stack) -> Person {
    let (url, creds) = (stack.nats.url(), stack.nats.identity().identity().journal_creds());
    let bus = testkit::Bus::connect(&url, &creds, "journal").await.unwrap();
    let now = hub::clock::now();
    let id = bus_schema::UserId::new("u_far").unwrap();
    let secret = "far";
    let user = User {
        id: id.clone(),
        email: "far@example.org".into(),
        name: "Far".into(),
        password: String::new(),
        identities: vec![],
    };
    let membership = Membership {
        workspace: bus_schema::WorkspaceId::new("other").unwrap(),
        user: id.clone(),
        role: "admin".into(),
        disabled: false,
    };
    let sign_in = SignIn {
        token_hash: sha256(secret),
        user: id,
        created: now,
        expires: now.plus_millis(3_600_000),
        agent: None,
        address: None,
    };
    for body in [RecordBody::User(user), RecordBody::Membership(membership), RecordBody::SignIn(sign_in)] {
        let record = Record { rev: 1, deleted: false, body };
        let (table, key) = record.place();
        let payload = bus_schema::encode(&record).unwrap();
        let subject = format!("mosaic.hub.v1.record.{table}.{key}");
        bus.client.request(subject, payload.into()).await.unwrap();
    }
    Person::with_cookie(stack.url(), format!("mosaic_session={secret}"))
}

fn sha256(text: &str) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(text).iter().map(|b| format!("{b:02x}")).collect()
}

#[tokio::test]
async fn every_route_asks_for_its_role() {
    let mut stack = Stack::start().await;
    let (nobody, far) = (stack.nobody(), of_another_workspace(&mut stack).await);
    let forged = Person::with_token(stack.url(), format!("mm_{}", "A".repeat(43)));
    let mut people = vec![];
    for role in Who::ALL {
        people.push((role, true, stack.sign_in(role.as_str()).await));
    }
    let admin = people[2].2.clone();
    for role in Who::ALL {
        people.push((role, false, token(&admin, role, stack.url()).await));
    }
    let mut walked = 0;
    for route in hub::api::table() {
        for method in &route.methods {
            let path = concrete(&route.path);
            // A sign-in that fails is not let in either, but that is not this route's guard.
            let free = route.access == Access::Public;
            for (who, person) in [("nobody", &nobody), ("another workspace's", &far), ("a forged token", &forged)] {
                let answer = person.send(method.clone(), &path, Some(&json!({}))).await.unwrap();
                let refused = unguarded(answer).await == (StatusCode::UNAUTHORIZED, "unauthenticated".into());
                assert_eq!(refused, !free, "{who}, {method} {path}");
            }
            let elsewhere = admin.request(method.clone(), &path).header("x-workspace", "other").json(&json!({}));
            let (status, code) = unguarded(elsewhere.send().await.unwrap()).await;
            assert_eq!(code == "unknownWorkspace", !free, "an admin elsewhere, {method} {path}: {status}");
            // Signing out would end the walk; that it needs a sign-in was seen.
            if path == "/api/auth/logout" || (path == "/api/auth/sessions" && *method == Method::DELETE) {
                continue;
            }
            for (role, in_person, person) in &people {
                let answer = person.send(method.clone(), &path, Some(&json!({}))).await.unwrap();
                let (status, code) = unguarded(answer).await;
                let admitted = route.access.admits(Some(*role)) && (*in_person || route.access != Access::InPerson);
                let refused = code == "forbidden" || code == "notInPerson";
                assert_eq!(refused, !admitted, "{role}, in person {in_person}, {method} {path}: {status} {code}");
                assert_ne!(code, "unauthenticated", "{role}, {method} {path}");
                walked += 1;
            }
        }
    }
    assert!(walked > 300, "{walked}");
}

/// Status and code of an answer; of a stream no more than the status.
async fn unguarded(answer: reqwest::Response) -> (StatusCode, String) {
    let status = answer.status();
    if status.is_success() || status.is_redirection() {
        return (status, String::new());
    }
    let body: Value = answer.json().await.unwrap();
    (status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
}
