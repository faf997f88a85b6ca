//! A runtime set up from afar, through the real hub to the real node and back over every kill.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::{Person, Stack, wait_until};

const WITHIN: Duration = Duration::from_secs(60);
const TOKEN: &str = "tok-5b0e77a1-never-seen";
const PATH: &str = "/api/agent-providers";

async fn applied(person: &Person, id: &str) -> Value {
    wait_until("the node has it", WITHIN, async || {
        // The hub may be starting again.
        let all = person.get(PATH).await.map_err(|e| json!(e.to_string()))?;
        let found = all["agentProviders"].as_array().and_then(|all| all.iter().find(|p| p["id"] == id)).cloned();
        match found {
            Some(found) if found["delivery"] == "applied" => Ok(found),
            other => Err(other.unwrap_or(all)),
        }
    })
    .await
    .unwrap()
}

async fn settings_rev(person: &Person) -> u64 {
    let nodes = person.get("/api/nodes").await.unwrap();
    nodes["nodes"][0]["settingsRev"].as_u64().unwrap_or(0)
}

fn holds(path: &Path, bytes: &[u8]) -> Vec<String> {
    if path.is_dir() {
        let entries = std::fs::read_dir(path).unwrap();
        return entries.flat_map(|entry| holds(&entry.unwrap().path(), bytes)).collect();
    }
    // A socket has no content.
    let content = std::fs::read(path).unwrap_or_default();
    let found = content.windows(bytes.len()).any(|window| window == bytes);
    if found { vec![path.display().to_string()] } else { vec![] }
}

#[tokio::test]
async fn settings_reach_the_node_survive_every_kill_and_show_no_token() {
    let mut stack = Stack::start("", &[], &[]).unwrap();
    let admin = stack.person("admin").await.unwrap();
    let node = stack.said("/node").unwrap().to_owned();
    let body = json!({"name": "office", "provider": "pty", "node": node, "gatewayUrl": "ws://127.0.0.1:9/",
                      "credentials": TOKEN});
    let (status, made) = admin.post(PATH, body).await.unwrap();
    assert_eq!(status, 201, "{made}");
    let id = made["agentProvider"]["id"].as_str().unwrap();
    let first = applied(&admin, id).await;
    assert_eq!(first["health"]["healthy"], true, "{first}");
    let rev = settings_rev(&admin).await;
    assert_eq!(rev, first["rev"].as_u64().unwrap());

    // A runtime without a gateway refuses a trial, in words.
    let (status, told) = admin.post(&format!("{PATH}/{id}/test"), json!({})).await.unwrap();
    assert!((409..=422).contains(&status) && told["error"]["message"].is_string(), "{status} {told}");

    stack.kill9("node").unwrap();
    wait_until("the node that was started again tells the number it has", WITHIN, async || {
        let found = settings_rev(&admin).await;
        if found == rev { Ok(()) } else { Err(found) }
    })
    .await
    .unwrap();
    stack.kill9("hub").unwrap();
    applied(&admin, id).await;
    let change = admin.send(Method::PATCH, &format!("{PATH}/{id}"), Some(&json!({"isActive": false}))).await.unwrap();
    assert_eq!(change.status(), StatusCode::OK);
    let off = applied(&admin, id).await;
    assert!(off["rev"].as_u64().unwrap() > rev, "{off}");
    let gone = admin.send(Method::DELETE, &format!("{PATH}/{id}"), None).await.unwrap();
    assert_eq!(gone.status(), StatusCode::NO_CONTENT);
    wait_until("the node knows that it is gone", WITHIN, async || {
        let found = settings_rev(&admin).await;
        if found > off["rev"].as_u64().unwrap() { Ok(()) } else { Err(found) }
    })
    .await
    .unwrap();

    let log = stack.log();
    assert!(!log.contains(TOKEN));
    stack.stop().unwrap();
    assert_eq!(holds(&stack.data(), TOKEN.as_bytes()), Vec::<String>::new());
    assert!(!holds(&stack.data(), b"office").is_empty(), "the search finds what is there");
}
