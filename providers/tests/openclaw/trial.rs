//! A connection that does not work says why, each reason in its own word, and never the token.

use bus_schema::{ConnectionTest, ConnectionVerdict as Verdict};
use futures::{SinkExt, StreamExt};
use providers::AgentProvider;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Stage, connection, open};

const TOKEN: &str = "a-secret-that-nobody-sees";

async fn verdict(url: &str) -> Verdict {
    trial(url).await.verdict
}

async fn trial(url: &str) -> ConnectionTest {
    let dir = tempfile::tempdir().unwrap();
    let provider = open(dir.path().join("openclaw"), vec![]).await;
    let tested = provider.test(connection("x", url, TOKEN)).await.unwrap();
    assert!(!tested.message.is_empty() && !tested.message.contains(TOKEN), "{}", tested.message);
    provider.shutdown().await;
    tested
}

/// Answers every connection with these bytes; where it listens.
async fn answers(bytes: &'static [u8]) -> (u16, tokio::task::JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let mut asked = [0; 1024];
            // Whoever has gone needs no answer.
            let _ = tcp.read(&mut asked).await;
            let _ = tcp.write_all(bytes).await;
        }
    });
    (port, tasks)
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let port = testkit::free_port().unwrap();
    assert_eq!(verdict(&format!("ws://127.0.0.1:{port}/")).await, Verdict::Unreachable);
}

#[tokio::test]
async fn a_web_server_is_not_a_gateway() {
    let page = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi";
    let (port, _tasks) = answers(page).await;
    assert_eq!(verdict(&format!("ws://127.0.0.1:{port}/")).await, Verdict::NotARuntime);
}

#[tokio::test]
async fn plain_text_where_tls_is_wanted_is_a_matter_of_tls() {
    let (port, _tasks) = answers(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(verdict(&format!("wss://127.0.0.1:{port}/")).await, Verdict::Tls);
}

#[tokio::test]
async fn tls_where_plain_text_is_wanted_is_a_matter_of_tls() {
    // What a TLS server says to a plain request: a fatal alert, "unexpected message".
    let (port, _tasks) = answers(&[21, 3, 3, 0, 2, 2, 10]).await;
    assert_eq!(verdict(&format!("ws://127.0.0.1:{port}/")).await, Verdict::Tls);
}

/// A gateway as far as the introduction, which it answers so.
async fn introduced(answer: Value) -> (u16, tokio::task::JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut socket) = tokio_tungstenite::accept_async(tcp).await else { continue };
            let challenge = json!({"type": "event", "event": "connect.challenge", "payload": {"nonce": "n", "ts": 1}});
            for frame in [challenge, answer.clone()] {
                // Whoever has gone needs no answer.
                let _ = socket.send(Message::text(frame.to_string())).await;
                let _ = socket.next().await;
            }
        }
    });
    (port, tasks)
}

/// The answer to an introduction, and the verdict and a word of the sentence that it leads to.
async fn is_judged(answer: Value, wanted: Verdict, word: &str) {
    let (port, _tasks) = introduced(answer).await;
    let tested = trial(&format!("ws://127.0.0.1:{port}/")).await;
    assert_eq!(tested.verdict, wanted, "{}", tested.message);
    assert!(tested.message.contains(word), "{word:?} is not in {:?}", tested.message);
}

fn hello(protocol: u64, scopes: Value) -> Value {
    let payload = json!({"type": "hello-ok", "protocol": protocol, "auth": {"scopes": scopes}});
    json!({"type": "res", "id": "0", "ok": true, "payload": payload})
}

fn refusal(code: &str, details: Value) -> Value {
    let error = json!({"code": code, "message": "no", "details": details});
    json!({"type": "res", "id": "0", "ok": false, "error": error})
}

#[tokio::test]
async fn a_gateway_that_grants_nothing_is_forbidden_and_says_who_grants() {
    is_judged(hello(4, json!([])), Verdict::Forbidden, "openclaw devices approve").await;
    is_judged(hello(4, json!(["operator.read"])), Verdict::Forbidden, "operator.write").await;
    let pairing = refusal("NOT_PAIRED", json!({"code": "PAIRING_REQUIRED"}));
    is_judged(pairing, Verdict::Forbidden, "openclaw devices approve").await;
}

#[tokio::test]
async fn a_gateway_of_another_version_says_which_of_the_two_is_to_be_updated() {
    let newer = refusal("INVALID_REQUEST", json!({"code": "PROTOCOL_MISMATCH", "expectedProtocol": 5}));
    is_judged(newer, Verdict::Version, "update this node agent").await;
    let older = refusal("INVALID_REQUEST", json!({"code": "PROTOCOL_MISMATCH", "expectedProtocol": 2}));
    is_judged(older, Verdict::Version, "update OpenClaw").await;
    is_judged(hello(5, json!(["operator.read"])), Verdict::Version, "update this node agent").await;
}

#[tokio::test]
async fn a_wrong_token_and_a_missing_one_are_different_sentences() {
    let wrong = refusal("INVALID_REQUEST", json!({"code": "AUTH_TOKEN_MISMATCH"}));
    is_judged(wrong, Verdict::Unauthorized, "the token is wrong").await;
    let missing = refusal("NOT_PAIRED", json!({"code": "DEVICE_IDENTITY_REQUIRED"}));
    is_judged(missing, Verdict::Unauthorized, "it wants a token").await;
}

#[tokio::test]
async fn a_gateway_that_starts_is_to_be_tried_again() {
    let starting = refusal("UNAVAILABLE", json!({"reason": "startup-sidecars"}));
    is_judged(starting, Verdict::Unreachable, "try again").await;
}

#[tokio::test]
async fn no_address_is_no_connection() {
    assert_eq!(verdict("gateway").await, Verdict::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn openclaw_connections_are_tried() {
    let stage = Stage::new(json!({})).await;
    let (provider, url) = (&stage.provider, stage.gateway.url());
    let good = provider.test(connection("x", &url, stage.gateway.token())).await.unwrap();
    assert_eq!(good.verdict, Verdict::Ok, "{}", good.message);
    assert!(good.message.contains("2026.9.6"), "{}", good.message);
    for token in [TOKEN, ""] {
        let bad = provider.test(connection("x", &url, token)).await.unwrap();
        assert_eq!(bad.verdict, Verdict::Unauthorized, "{}", bad.message);
        assert!(token.is_empty() || !bad.message.contains(token), "{}", bad.message);
    }
    let tls = provider.test(connection("x", &url.replace("ws:", "wss:"), TOKEN)).await.unwrap();
    assert_eq!(tls.verdict, Verdict::Tls, "{}", tls.message);
}
