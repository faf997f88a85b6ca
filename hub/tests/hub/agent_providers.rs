//! Runtimes that are set up from afar: kept sealed, brought to their node, tried there.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command as Program;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use bus_schema::*;
use hub_store::{Record, RecordBody};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::{Person, Process, wait_until};

use crate::support::*;

const TOKEN: &str = "tok-9d1f4c7be2a84417-never-seen";
const PATH: &str = "/api/agent-providers";

type Received = Arc<Mutex<Vec<NodeSettings>>>;

fn new(name: &str, node: &str) -> Value {
    json!({"name": name, "provider": "openclaw", "node": node, "gatewayUrl": "ws://127.0.0.1:18789/",
           "credentials": TOKEN, "isActive": true})
}

/// Takes settings as a node does, and answers trials with what was tried.
async fn obedient(node: &Node) -> (Received, tokio::task::JoinSet<()>) {
    let (received, key) = (Received::default(), Arc::clone(&node.key));
    let kept = Arc::clone(&received);
    let tasks = node.obey(move |command| {
        let data = command.data.as_deref().unwrap_or_default();
        match command.action {
            Action::Configure => kept.lock().unwrap().push(unseal(&key, data)),
            Action::TestConnection => {
                let tried: Connection = unseal(&key, data);
                let known = tried.token.expose() == TOKEN;
                let verdict = if known { ConnectionVerdict::Ok } else { ConnectionVerdict::Unauthorized };
                let message = format!("{} answers at {}", tried.name, tried.url);
                return CommandReply { tested: Some(ConnectionTest { verdict, message }), ..done(command) };
            }
            _ => {}
        }
        done(command)
    });
    (received, tasks.await)
}

async fn next(received: &Received, behind: u64) -> NodeSettings {
    wait_until("newer settings come", WAIT, async || {
        let all = received.lock().unwrap();
        match all.iter().rev().find(|s| s.rev > behind) {
            Some(found) => Ok(found.clone()),
            None => Err(all.iter().map(|s| s.rev).collect::<Vec<_>>()),
        }
    })
    .await
    .unwrap()
}

async fn tells(node: &Node, rev: u64) {
    node.settings_rev.store(rev, Ordering::Release);
    node.state("up").await;
}

async fn one(person: &Person, id: &str) -> Value {
    let all = person.get(PATH).await.unwrap();
    all["agentProviders"].as_array().unwrap().iter().find(|p| p["id"] == id).cloned().unwrap_or(Value::Null)
}

async fn patch(person: &Person, id: &str, body: Value) -> (u16, Value) {
    let answer = person.send(Method::PATCH, &format!("{PATH}/{id}"), Some(&body)).await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// Every file below a folder that has these bytes in it, and how many files there were.
fn files_with(folder: &Path, bytes: &[u8]) -> (Vec<String>, usize) {
    let (mut found, mut count) = (vec![], 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let (more, counted) = files_with(&path, bytes);
            found.extend(more);
            count += counted;
        } else if let Ok(content) = std::fs::read(&path) {
            count += 1;
            if content.windows(bytes.len()).any(|window| window == bytes) {
                found.push(path.display().to_string());
            }
        }
    }
    (found, count)
}

/// Looks for the token on every disk of the stack, as it is and in the forms it might have been written in.
fn nowhere_on_disk(stack: &Stack) {
    let middle = &STANDARD_NO_PAD.encode(TOKEN)[..16];
    let hex = TOKEN.bytes().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    for form in [TOKEN, middle, &hex] {
        for folder in [stack.dir.path(), &stack.nats.store_dir()] {
            let (found, count) = files_with(folder, form.as_bytes());
            assert!(found.is_empty(), "{form} in {found:?}");
            assert!(count > 3, "{} has but {count} files", folder.display());
        }
    }
    // The search finds what is there: the name lies in both.
    assert!(!files_with(&stack.dir.path().join("hub/store"), b"office").0.is_empty());
    assert!(!files_with(&stack.nats.store_dir(), b"office").0.is_empty());
}

#[tokio::test]
async fn what_is_set_up_reaches_its_node_and_the_token_nothing_else() {
    let mut stack = Stack::start().await;
    let node = stack.node("n1").await;
    let (admin, observer) = (stack.sign_in("admin").await, stack.sign_in("observer").await);
    stack.knows(&admin, &node).await;
    let (received, _obeying) = obedient(&node).await;
    let mut events = admin.events("/api/mission-control/stream?sessions=*&nodes=1").await.unwrap();
    events.expect("ready").await.unwrap();
    let mut seen = String::new();

    let (status, made) = admin.post(PATH, new("office", "n1")).await.unwrap();
    assert_eq!(status, 201, "{made}");
    seen += &made.to_string();
    let made = &made["agentProvider"];
    let (id, rev) = (made["id"].as_str().unwrap(), made["rev"].as_u64().unwrap());
    assert_eq!((&made["hasCredentials"], &made["credentialsState"]), (&json!(true), &json!("kept")));
    let settings = next(&received, 0).await;
    assert_eq!((settings.rev, settings.connections.len()), (rev, 1));
    let connection = &settings.connections[0];
    assert_eq!((connection.id.as_str(), connection.token.expose()), (id, TOKEN));
    let before = one(&observer, id).await;
    assert_eq!(before["delivery"], "pending", "it has answered, and has not said that it has it: {before}");
    tells(&node, rev).await;
    wait_until("it is applied", WAIT, async || one(&observer, id).await["delivery"] == "applied").await.unwrap();
    assert_eq!(one(&observer, id).await["health"], json!({"healthy": false, "error": "no gateway"}));

    // A change, and the same again for a node that has lost everything.
    let (status, changed) = patch(&admin, id, json!({"gatewayUrl": "wss://gateway.example.org/"})).await;
    assert_eq!(status, 200, "{changed}");
    seen += &changed.to_string();
    let newer = next(&received, rev).await;
    assert_eq!(newer.rev, changed["agentProvider"]["rev"].as_u64().unwrap());
    assert_eq!(
        (newer.connections[0].url.as_str(), newer.connections[0].token.expose()),
        ("wss://gateway.example.org/", TOKEN)
    );
    tells(&node, newer.rev).await;
    wait_until("it is applied", WAIT, async || one(&observer, id).await["delivery"] == "applied").await.unwrap();
    received.lock().unwrap().clear();
    tells(&node, 0).await;
    assert_eq!(next(&received, 0).await, newer);
    tells(&node, newer.rev).await;

    // The hub is killed; what comes after it is newer still. What is not used is not sent.
    stack.kill9_hub();
    stack.start_hub().await;
    let admin = admin.at(stack.url());
    stack.knows(&admin, &node).await;
    let (status, off) = patch(&admin, id, json!({"isActive": false})).await;
    assert_eq!(status, 200, "{off}");
    let without = next(&received, newer.rev).await;
    assert_eq!(without, NodeSettings { rev: off["agentProvider"]["rev"].as_u64().unwrap(), connections: vec![] });
    let (_, on) = patch(&admin, id, json!({"isActive": true})).await;
    let again = next(&received, without.rev).await;
    assert_eq!(again.connections[0].token.expose(), TOKEN, "{on}");
    let deleted = admin.send(Method::DELETE, &format!("{PATH}/{id}"), None).await.unwrap();
    assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
    assert_eq!(next(&received, again.rev).await.connections, []);
    assert_eq!(one(&admin, id).await, Value::Null);
    let deleted = admin.send(Method::DELETE, &format!("{PATH}/{id}"), None).await.unwrap();
    assert_eq!(deleted.status(), StatusCode::NOT_FOUND);

    let log = admin.get("/api/mission-control/audit?limit=500").await.unwrap();
    let rows: Vec<_> = log["entries"].as_array().unwrap().iter().rev().collect();
    let told = rows.iter().filter(|r| r["phase"] == "outcome" && r["metadata"]["agentProviderId"] == id);
    let told: Vec<_> = told
        .map(|r| format!("{} {} {}", r["action"], r["metadata"]["credentials"], r["result"]).replace('"', ""))
        .collect();
    let update = "updateAgentProvider unchanged ok";
    assert_eq!(told, ["createAgentProvider set ok", update, update, update, "deleteAgentProvider unchanged ok"]);
    seen += &log.to_string();
    while let Ok(Some(event)) = tokio::time::timeout(std::time::Duration::from_millis(200), events.next()).await {
        seen += &event.data.to_string();
    }
    seen += &admin.get("/api/nodes").await.unwrap().to_string();
    assert!(!seen.contains(TOKEN) && !seen.contains(&URL_SAFE_NO_PAD.encode(TOKEN)));
    admin.post(PATH, new("office", "n1")).await.unwrap();
    nowhere_on_disk(&stack);
    stack.stop_hub();
    nowhere_on_disk(&stack);
}

#[tokio::test]
async fn a_move_takes_it_from_one_node_and_gives_it_to_the_other() {
    let mut stack = Stack::start().await;
    let (left, right) = (stack.node("n1").await, stack.node("n2").await);
    let admin = stack.sign_in("admin").await;
    stack.knows(&admin, &left).await;
    stack.knows(&admin, &right).await;
    let (at_left, _obeying) = obedient(&left).await;
    let (at_right, _obeying_too) = obedient(&right).await;
    let made = admin.post(PATH, new("office", "n1")).await.unwrap().1;
    let id = made["agentProvider"]["id"].as_str().unwrap().to_owned();
    let first = next(&at_left, 0).await;
    assert_eq!(first.connections.len(), 1);
    let (status, moved) = patch(&admin, &id, json!({"node": "n2"})).await;
    assert_eq!((status, &moved["agentProvider"]["node"]), (200, &json!("n2")), "{moved}");
    assert_eq!(next(&at_left, first.rev).await.connections, []);
    assert_eq!(next(&at_right, 0).await.connections[0].token.expose(), TOKEN);
}

#[tokio::test]
async fn no_name_is_given_twice_and_what_is_wrong_is_said() {
    let mut stack = Stack::start().await;
    let node = stack.node("n1").await;
    let (admin, operator) = (stack.sign_in("admin").await, stack.sign_in("operator").await);
    stack.knows(&admin, &node).await;
    let same = futures::future::join_all((0..6).map(|_| admin.post(PATH, new("office", "n1")))).await;
    let mut statuses: Vec<_> = same.into_iter().map(|answer| answer.unwrap().0).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409]);
    let others = futures::future::join_all((0..6).map(|n| admin.post(PATH, new(&format!("n{n}"), "n1")))).await;
    let revs: BTreeMap<_, _> = others
        .into_iter()
        .map(|answer| answer.unwrap().1)
        .map(|a| (a["agentProvider"]["rev"].as_u64().unwrap(), a["agentProvider"]["id"].as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(revs.len(), 6, "no number twice");
    let (status, answer) = patch(&admin, &revs[revs.keys().next().unwrap()], json!({"name": "office"})).await;
    assert_eq!((status, &answer["error"]["code"]), (409, &json!("nameTaken")), "{answer}");
    for (field, value, part) in [
        ("node", json!("n9"), "known are: n1"),
        ("provider", json!("acp"), "it has: pty, openclaw"),
        ("gatewayUrl", json!("ws://u:hidden-pw@x/"), "user or password"),
        ("gatewayUrl", json!("ws://x/?token=hidden-pw"), "secret in its query"),
        ("gatewayUrl", json!("gopher://x/"), "http, https, ws or wss"),
        ("name", json!(""), "1 to 80"),
        ("credentials", json!("x".repeat(5000)), "4096"),
        ("credentials", json!({"token": "x"}), "invalid type"),
        ("colour", json!("red"), "colour"),
    ] {
        let mut body = new("another", "n1");
        body[field] = value;
        let (status, answer) = admin.post(PATH, body).await.unwrap();
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(status == 422 && message.contains(part) && !message.contains("hidden-pw"), "{field}: {answer}");
    }
    assert_eq!(operator.get(PATH).await.unwrap()["agentProviders"].as_array().unwrap().len(), 7);
    let log = std::fs::read_to_string(stack.dir.path().join("hub.log")).unwrap();
    assert!(!log.contains("hidden-pw") && !log.contains(TOKEN));
}

#[tokio::test]
async fn a_trial_tells_the_nodes_verdict_and_keeps_nothing() {
    let mut stack = Stack::start().await;
    let node = stack.node("n1").await;
    let admin = stack.sign_in("admin").await;
    stack.knows(&admin, &node).await;
    let (_received, obeying) = obedient(&node).await;
    let trial = format!("{PATH}/test");
    let (status, told) = admin.post(&trial, new("office", "n1")).await.unwrap();
    let answers = |at: &str| format!("office answers at {at}");
    assert_eq!((status, told), (200, json!({"verdict": "ok", "message": answers("ws://127.0.0.1:18789/")})));
    assert_eq!(admin.get(PATH).await.unwrap()["agentProviders"], json!([]), "nothing is kept");
    let made = admin.post(PATH, new("office", "n1")).await.unwrap().1;
    let id = made["agentProvider"]["id"].as_str().unwrap();
    let (_, told) = admin.post(&format!("{PATH}/{id}/test"), json!({})).await.unwrap();
    assert_eq!(told["verdict"], "ok", "with the token that is kept");
    let (_, told) = admin.post(&trial, json!({"id": id, "gatewayUrl": "ws://y/"})).await.unwrap();
    assert_eq!(told, json!({"verdict": "ok", "message": answers("ws://y/")}));
    let (_, told) = admin.post(&trial, json!({"id": id, "credentials": "wrong"})).await.unwrap();
    assert_eq!(told["verdict"], "unauthorized");
    assert_eq!(one(&admin, id).await["gatewayUrl"], "ws://127.0.0.1:18789/", "nothing has changed");
    let log = admin.get("/api/mission-control/audit?action=testAgentProvider").await.unwrap();
    let outcomes = log["entries"].as_array().unwrap().iter().filter(|e| e["phase"] == "outcome");
    let verdicts: Vec<_> = outcomes.map(|e| e["metadata"]["verdict"].clone()).collect();
    assert_eq!(verdicts, ["unauthorized", "ok", "ok", "ok"]);
    assert!(!log.to_string().contains(TOKEN));

    drop(obeying);
    assert_eq!(admin.post(&trial, json!({"id": "nobody"})).await.unwrap().0, 404);
    assert_eq!(admin.post(&trial, json!({"node": "n1"})).await.unwrap().0, 422);
    node.state("leaving").await;
    wait_until("a node that is away is told so", WAIT, async || {
        let (status, answer) = admin.post(&trial, json!({"id": id})).await.unwrap();
        if status == 503 && answer["error"]["code"] == "nodeAway" { Ok(()) } else { Err(answer) }
    })
    .await
    .unwrap();
    node.state_of_old().await;
    wait_until("a node that is too old is told so", WAIT, async || {
        let (status, answer) = admin.post(&trial, json!({"id": id})).await.unwrap();
        if status == 409 && answer["error"]["code"] == "nodeTooOld" { Ok(()) } else { Err(answer) }
    })
    .await
    .unwrap();
    assert_eq!(one(&admin, id).await["delivery"], "upgrade");
}

#[tokio::test]
async fn two_hubs_give_no_name_twice_and_no_number_that_is_not_above_all_before() {
    let mut stack = Stack::start().await;
    let node = stack.node("n1").await;
    let admin = stack.sign_in("admin").await;
    stack.knows(&admin, &node).await;
    let text = std::fs::read_to_string(stack.dir.path().join("hub.toml")).unwrap();
    let second = text.replace("data_dir = \"hub\"", "data_dir = \"hub2\"\nsecret_key = \"hub/secret.key\"");
    assert_ne!(second, text);
    std::fs::write(stack.dir.path().join("hub2.toml"), second).unwrap();
    let mut program = Program::new(env!("CARGO_BIN_EXE_mosaic-hub"));
    program.arg("--config").arg(stack.dir.path().join("hub2.toml"));
    let _hub = Process::spawn("mosaic-hub", &mut program, &stack.dir.path().join("hub2.log")).unwrap();
    let other = wait_until("the second hub knows the node", WAIT, async || {
        let told = std::fs::read(stack.dir.path().join("hub2/listen.json")).map_err(|e| e.to_string())?;
        let told: Value = serde_json::from_slice(&told).map_err(|e| e.to_string())?;
        let person = admin.at(told["url"].as_str().unwrap_or_default());
        let nodes = person.get("/api/nodes").await.map_err(|e| e.to_string())?;
        if nodes["nodes"][0]["online"] == true { Ok(person) } else { Err(nodes.to_string()) }
    })
    .await
    .unwrap();

    let both = [&admin, &other];
    let made = futures::future::join_all((0..8).map(|n| both[n % 2].post(PATH, new("office", "n1")))).await;
    let mut statuses: Vec<_> = made.into_iter().map(|answer| answer.unwrap().0).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409, 409, 409]);
    let mut last = 0;
    for n in 0..6 {
        let (status, made) = both[n % 2].post(PATH, new(&format!("n{n}"), "n1")).await.unwrap();
        let rev = made["agentProvider"]["rev"].as_u64().unwrap_or(0);
        assert!(status == 201 && rev > last, "{made}");
        last = rev;
    }
    wait_until("both know the same", WAIT, async || {
        let (one, two) = (admin.get(PATH).await.unwrap(), other.get(PATH).await.unwrap());
        if one == two && one["agentProviders"].as_array().unwrap().len() == 7 { Ok(()) } else { Err((one, two)) }
    })
    .await
    .unwrap();
}

/// The key that the last record of an agent provider is sealed under, as it stands on the bus.
async fn key_on_the_bus(stack: &mut Stack, id: &str) -> String {
    let (url, creds) = (stack.nats.url(), stack.nats.identity().identity().journal_creds());
    let journal = testkit::Bus::connect(&url, &creds, "journal").await.unwrap();
    let subject = format!("$JS.API.DIRECT.GET.MOSAIC_JOURNAL.mosaic.hub.v1.record.agent_provider.default.{id}");
    let found = journal.client.request(subject, "".into()).await.unwrap();
    let record: Record = decode(&found.payload, None).unwrap();
    let body = if let RecordBody::AgentProvider(body) = record.body { Some(body) } else { None };
    body.unwrap().sealed.unwrap().key
}

#[tokio::test]
async fn a_rotated_key_seals_anew_and_a_lost_one_breaks_nothing() {
    let mut stack = Stack::start().await;
    let node = stack.node("n1").await;
    let admin = stack.sign_in("admin").await;
    stack.knows(&admin, &node).await;
    let (received, _obeying) = obedient(&node).await;
    let made = admin.post(PATH, new("office", "n1")).await.unwrap().1;
    let id = made["agentProvider"]["id"].as_str().unwrap().to_owned();
    let first = next(&received, 0).await;
    let file = stack.dir.path().join("hub/secret.key");
    let old = key_on_the_bus(&mut stack, &id).await;

    stack.stop_hub();
    let mut program = Program::new(env!("CARGO_BIN_EXE_mosaic-hub"));
    let rotated = program.arg("--config").arg(stack.dir.path().join("hub.toml")).arg("rotate-secret-key").output();
    let rotated = rotated.unwrap();
    let told = String::from_utf8(rotated.stdout).unwrap();
    assert!(rotated.status.success() && told.contains("now seals"), "{told}");
    stack.start_hub().await;
    let admin = admin.at(stack.url());
    let second = next(&received, first.rev).await;
    assert_eq!(second.connections, first.connections, "the same, under another number");
    let new_key = key_on_the_bus(&mut stack, &id).await;
    assert!(new_key != old && told.contains(&new_key));
    let log = admin.get("/api/mission-control/audit?action=resealAgentProvider").await.unwrap();
    let row = &log["entries"][0];
    assert_eq!((&row["result"], &row["metadata"]["toKey"]), (&json!("ok"), &json!(new_key)), "{log}");

    // The old key is not needed any more.
    stack.stop_hub();
    let text = std::fs::read_to_string(&file).unwrap();
    let kept: String = text.lines().filter(|l| !l.starts_with(&old)).map(|l| format!("{l}\n")).collect();
    assert_ne!(kept, text);
    std::fs::write(&file, &kept).unwrap();
    stack.start_hub().await;
    let admin = admin.at(stack.url());
    assert_eq!(one(&admin, &id).await["credentialsState"], "kept");

    // The file is lost: all but the token goes on.
    stack.stop_hub();
    std::fs::remove_file(&file).unwrap();
    // What the hub before sent may still be on its way.
    let lost_at = hub::clock::now();
    stack.start_hub().await;
    let admin = admin.at(stack.url());
    let lost = one(&admin, &id).await;
    assert_eq!((&lost["hasCredentials"], &lost["credentialsState"]), (&json!(false), &json!("unreadable")), "{lost}");
    let (status, answer) = admin.post(&format!("{PATH}/{id}/test"), json!({})).await.unwrap();
    assert_eq!((status, &answer["error"]["code"]), (409, &json!("credentialsUnreadable")), "{answer}");
    tells(&node, 0).await;
    let failed = wait_until("it is said why it is not sent", WAIT, async || {
        let found = one(&admin, &id).await;
        if found["delivery"] == "failed" { Ok(found) } else { Err(found) }
    })
    .await
    .unwrap();
    let detail = failed["deliveryDetail"].as_str().unwrap();
    assert!(detail.contains(&new_key) && detail.contains("enter them anew"), "{detail}");
    let sent = |command: &&Command| command.action == Action::Configure && command.issued_at >= lost_at;
    let sent = node.commands.lock().unwrap().iter().filter(sent).count();
    assert_eq!(sent, 0, "the node keeps what it has");
    let (status, mended) = patch(&admin, &id, json!({"credentials": "tok-2"})).await;
    assert_eq!((status, &mended["agentProvider"]["credentialsState"]), (200, &json!("kept")), "{mended}");
    assert_eq!(next(&received, second.rev).await.connections[0].token.expose(), "tok-2");
    let (_, none) = patch(&admin, &id, json!({"credentials": ""})).await;
    assert_eq!(none["agentProvider"]["credentialsState"], "none");
}
