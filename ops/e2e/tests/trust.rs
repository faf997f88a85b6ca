//! Who is obeyed, and who gets in: the real programs, and somebody with a NATS client who means no good.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use async_nats::{HeaderMap, Request};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bus_schema::{
    Command as Order, CommandReply, NodeId, RefusalCode, Subject, WorkspaceId, decode, encode, header, signed_bytes,
};
use futures::StreamExt;
use nkeys::KeyPair;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::{Bus, Person, Process, Stack, wait_until};

const WITHIN: Duration = Duration::from_secs(60);
const PROFILES: &str = "[[profile]]\nname = \"cat\"\nprotocol = \"lines\"\ncommand = [\"cat\"]\n";

fn command_subject(node: &str) -> Subject {
    Subject::Command(WorkspaceId::new("default").unwrap(), NodeId::new(node).unwrap())
}

/// A program of the stack.
fn program(name: &str) -> PathBuf {
    let folders = std::env::current_exe().unwrap();
    folders.ancestors().map(|folder| folder.join(name)).find(|path| path.is_file()).unwrap()
}

fn signed(key: &KeyPair, subject: &Subject, payload: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::KEY, key.public_key());
    headers.insert(header::SIGNATURE, URL_SAFE_NO_PAD.encode(key.sign(&signed_bytes(subject, payload)).unwrap()));
    headers
}

/// Sends something to the node as the thief can: with the hub's credentials.
async fn try_it(thief: &Bus, payload: Vec<u8>, headers: HeaderMap) -> Option<RefusalCode> {
    let request = Request::new().payload(payload.into()).headers(headers).timeout(Some(WITHIN));
    let answer = thief.client.send_request(command_subject("local").to_string(), request).await.unwrap();
    let reply: CommandReply = decode(&answer.payload, None).unwrap();
    reply.refusal.map(|refusal| refusal.code)
}

async fn operator_messages(person: &Person, session: &str) -> Vec<String> {
    let all = person.messages(session, 0).await.unwrap();
    let said = all.iter().filter(|m| m["role"] == "operator").map(|m| m["content"].as_str().unwrap().to_owned());
    said.collect()
}

#[tokio::test]
async fn a_thief_of_the_hubs_credentials_commands_nothing_and_is_seen() {
    let stack = Stack::start(PROFILES, &[], &[]).unwrap();
    let admin = stack.person("admin").await.unwrap();
    let session = admin.spawn("local", "cat").await.unwrap();
    let creds = PathBuf::from(stack.said("/creds/hub").unwrap());
    let thief = Bus::connect(stack.said("/natsUrl").unwrap(), &creds, "hub").await.unwrap();

    // With those credentials the thief overhears a command that the hub sends.
    let mut overheard = thief.client.subscribe(command_subject("local").to_string()).await.unwrap();
    // A round trip: the subscription holds.
    thief.client.request("$SRV.PING.mosaic-node", "".into()).await.unwrap();
    let inject = format!("/api/mission-control/sessions/{session}/inject");
    assert_eq!(admin.post(&inject, json!({"content": "once"})).await.unwrap().0, 202);
    let heard = tokio::time::timeout(WITHIN, overheard.next()).await.unwrap().unwrap();
    let (payload, headers) = (heard.payload.to_vec(), heard.headers.unwrap());
    let order: Order = decode(&payload, None).unwrap();
    assert_eq!(order.content.as_deref(), Some("once"));
    let with_id = |id: &str| Order { command_id: bus_schema::CommandId::new(id).unwrap(), ..order.clone() };

    assert_eq!(try_it(&thief, payload.clone(), headers.clone()).await, Some(RefusalCode::Replayed), "replayed");
    let altered = encode(&Order { content: Some("rm -rf".into()), ..with_id("altered") }).unwrap();
    assert_eq!(try_it(&thief, altered, headers.clone()).await, Some(RefusalCode::BadSignature), "altered");
    let someone = bus_schema::Operator { name: "Somebody else".into(), ..order.operator.clone() };
    let blamed = encode(&Order { operator: someone, ..with_id("blamed") }).unwrap();
    assert_eq!(try_it(&thief, blamed, headers).await, Some(RefusalCode::BadSignature), "for another operator");
    let own = encode(&with_id("own-key")).unwrap();
    let theirs = signed(&KeyPair::new_service(), &command_subject("local"), &own);
    assert_eq!(try_it(&thief, own, theirs).await, Some(RefusalCode::BadSignature), "signed by another key");

    // What the hub itself once signed: for another node, and an hour ago.
    let seed = std::fs::read_to_string(stack.data().join("identity/command.nk")).unwrap();
    let key = KeyPair::from_seed(seed.trim()).unwrap();
    let elsewhere = encode(&Order { node: NodeId::new("n2").unwrap(), ..with_id("re-addressed") }).unwrap();
    let headers = signed(&key, &command_subject("n2"), &elsewhere);
    assert_eq!(try_it(&thief, elsewhere, headers).await, Some(RefusalCode::NotForMe), "re-addressed");
    let (issued_at, expires_at) = (order.issued_at.plus_millis(-3_600_000), order.expires_at.plus_millis(-3_600_000));
    let old = encode(&Order { issued_at, expires_at, ..with_id("an-hour-old") }).unwrap();
    let headers = signed(&key, &command_subject("local"), &old);
    assert_eq!(try_it(&thief, old, headers).await, Some(RefusalCode::Expired), "an hour old");

    let wanted = [
        (order.command_id.as_str(), "replayed"),
        ("altered", "badSignature"),
        ("blamed", "badSignature"),
        ("own-key", "badSignature"),
        ("re-addressed", "notForMe"),
        ("an-hour-old", "expired"),
    ];
    wait_until("each is in the audit log", WITHIN, async || {
        let log = admin.get("/api/mission-control/audit?action=commandRefused&limit=100").await.unwrap();
        let rows = log["entries"].as_array().unwrap().clone();
        let has = |id: &str, reason: &str| {
            rows.iter().any(|row| {
                let said = &row["metadata"];
                said["commandId"] == id
                    && said["reason"] == reason
                    && row["node"] == "local"
                    && row["result"] == "refused"
            })
        };
        if wanted.iter().all(|(id, reason)| has(id, reason)) { Ok(()) } else { Err(rows) }
    })
    .await
    .unwrap();
    assert_eq!(operator_messages(&admin, &session).await, ["once"]);
}

#[tokio::test]
async fn a_node_is_let_in_with_one_line_and_shut_out_within_seconds() {
    let stack = Stack::start("", &[], &[]).unwrap();
    let admin = stack.person("admin").await.unwrap();
    let (status, told) = admin.post("/api/nodes", json!({"node": "far"})).await.unwrap();
    assert_eq!(status, 201, "{told}");
    let (config, data) = (stack.dir().join("far"), stack.dir().join("far-data"));
    let join = |token: &str| {
        let mut join = Command::new(program("mosaic-node"));
        join.args(["join", "-", "--dir"]).arg(&config).arg("--data").arg(&data);
        let mut join = join.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        join.stdin.take().unwrap().write_all(token.as_bytes()).unwrap();
        join.wait_with_output().unwrap()
    };
    let token = told["token"].as_str().unwrap();
    let joined = join(token);
    assert!(joined.status.success(), "{}", String::from_utf8_lossy(&joined.stderr));
    assert!(String::from_utf8_lossy(&joined.stdout).contains("mosaic-node --config"));
    assert!(!join(token).status.success(), "nothing is written over");

    let mut far = Command::new(program("mosaic-node"));
    let mut far =
        Process::spawn("far", far.arg("--config").arg(config.join("node.toml")), &stack.dir().join("far.log")).unwrap();
    let online = async || {
        let nodes = admin.get("/api/nodes").await.unwrap();
        nodes["nodes"].as_array().unwrap().iter().find(|n| n["node"] == "far").map(|n| n["online"] == true)
    };
    wait_until("it is there", WITHIN, async || online().await.filter(|online| *online)).await.unwrap();
    let session = admin.spawn("far", "shell").await.unwrap();
    wait_until("its session is known", WITHIN, async || {
        let session = admin.session(&session).await.map_err(|e| e.to_string())?;
        if session["stale"] == true { Err(session.to_string()) } else { Ok(()) }
    })
    .await
    .unwrap();

    let answer = admin.send(Method::DELETE, "/api/nodes/far", None).await.unwrap();
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert_eq!(online().await, Some(false), "at once");
    assert_eq!(admin.session(&session).await.unwrap()["stale"], true);
    wait_until("it is refused when it comes back", WITHIN, async || {
        let log = far.log().to_lowercase();
        if log.contains("bus disconnected") && log.contains("authorization violation") { Ok(()) } else { Err(log) }
    })
    .await
    .unwrap();
    assert_eq!(online().await, Some(false));
    far.terminate(WITHIN).unwrap();
    let mut end = Command::new(program("mosaic-node"));
    assert!(end.arg("stop-sessions").arg("--config").arg(config.join("node.toml")).output().unwrap().status.success());
}

#[tokio::test]
async fn a_new_command_key_takes_over_and_the_old_one_is_of_no_use() {
    let stack = Stack::start(PROFILES, &[], &[]).unwrap();
    let admin = stack.person("admin").await.unwrap();
    let session = admin.spawn("local", "cat").await.unwrap();
    let identity = stack.data().join("identity");
    let old = KeyPair::from_seed(std::fs::read_to_string(identity.join("command.nk")).unwrap().trim()).unwrap();
    let mut rotate = Command::new(program("mosaic"));
    let rotated = rotate.args(["identity", "rotate-command-key", "--overlap-h", "0", "--dir"]).arg(&identity).output();
    assert!(rotated.unwrap().status.success());
    // A node that is away while the key is changed, and comes back when the hub has the new one already.
    stack.kill9("hub").unwrap();
    stack.kill9("node").unwrap();
    let keys = async || -> Result<Value, Value> {
        let nodes = admin.get("/api/nodes").await.map_err(|e| json!(e.to_string()))?;
        Ok(nodes["nodes"][0]["commandKeys"].clone())
    };
    wait_until("the node obeys the new key only", WITHIN, async || {
        let keys = keys().await?;
        let is_new = keys.as_array().is_some_and(|keys| keys.len() == 1) && keys[0] != old.public_key();
        if is_new { Ok(()) } else { Err(keys) }
    })
    .await
    .unwrap();
    let inject = format!("/api/mission-control/sessions/{session}/inject");
    wait_until("it obeys the hub", WITHIN, async || {
        let (status, told) = admin.post(&inject, json!({"content": "hi"})).await.map_err(|e| json!(e.to_string()))?;
        if status == 202 { Ok(()) } else { Err(told) }
    })
    .await
    .unwrap();
    let creds = PathBuf::from(stack.said("/creds/hub").unwrap());
    let thief = Bus::connect(stack.said("/natsUrl").unwrap(), &creds, "hub").await.unwrap();
    let payload = b"whatever".to_vec();
    let headers = signed(&old, &command_subject("local"), &payload);
    assert_eq!(try_it(&thief, payload, headers).await, Some(RefusalCode::BadSignature));
}

#[tokio::test]
async fn with_tls_everything_works_and_nothing_goes_in_plain() {
    let mut stack = Stack::start(PROFILES, &["--tls"], &[]).unwrap();
    let admin = stack.person("admin").await.unwrap();
    let page = stack.url().unwrap().to_owned();
    assert!(page.starts_with("https://"), "{page}");
    assert!(Person::nobody(&page).get("/healthz").await.is_err(), "without the authority");
    let body =
        json!({"email": stack.said("/admin/email").unwrap(), "password": stack.said("/admin/password").unwrap()});
    let answer = stack.nobody().unwrap().send(Method::POST, "/api/auth/login", Some(&body)).await.unwrap();
    let cookie = answer.headers()["set-cookie"].to_str().unwrap();
    assert!(cookie.starts_with("__Host-mosaic_session=") && cookie.contains("; Secure"), "not over another link");
    let session = admin.spawn("local", "cat").await.unwrap();
    let inject = format!("/api/mission-control/sessions/{session}/inject");
    assert_eq!(admin.post(&inject, json!({"content": "hi"})).await.unwrap().0, 202);
    wait_until("it answers", WITHIN, async || {
        let all = admin.messages(&session, 0).await.unwrap();
        if all.iter().any(|m| m["role"] == "agent" && m["content"] == "hi") { Ok(()) } else { Err(all) }
    })
    .await
    .unwrap();
    let (url, ca) = (stack.said("/natsUrl").unwrap().to_owned(), PathBuf::from(stack.said("/ca").unwrap()));
    assert!(url.starts_with("tls://"));
    let creds = PathBuf::from(stack.said("/creds/reader").unwrap());
    assert!(Bus::connect_tls(&url, &creds, "reader", Some(&ca)).await.is_ok());
    let plain = url.replace("tls://", "nats://");
    assert!(Bus::connect(&plain, &creds, "reader").await.is_err(), "without an authority");
    // A node that joins gets the authority with its token; and one is shut out over TLS too.
    let (status, told) = admin.post("/api/nodes", json!({"node": "far"})).await.unwrap();
    assert_eq!((status, told["ca"].as_str()), (201, Some(&*std::fs::read_to_string(&ca).unwrap())), "{told}");
    let answer = admin.send(Method::DELETE, "/api/nodes/far", None).await.unwrap();
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    stack.stop().unwrap();
}
