//! The older REST form is spoken where somebody really answers so. No release of the gateway does, so this one server
//! is our own; it answers real requests over a real socket.

use std::sync::{Arc, Mutex};

use bus_schema::{Capability, ConnectionVerdict, Delivery, InjectMode, Status};
use providers::{AgentProvider, OpenClawGateway, OpenClawProvider, OperatorMessage, ProviderError};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use testkit::{TestIdentity, wait_until};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::harness::{PATIENCE, ada, connection, new_message, open, open_with};

const TOKEN: &str = "rest-token";
const KEY: &str = "agent:main:main";

async fn answer(tcp: impl AsyncRead + AsyncWrite + Unpin, rows: &Mutex<Vec<Value>>) -> Option<()> {
    let mut tcp = BufReader::new(tcp);
    let mut line = String::new();
    tcp.read_line(&mut line).await.ok()?;
    let request = line.clone();
    let (mut length, mut is_let_in) = (0, false);
    loop {
        line.clear();
        tcp.read_line(&mut line).await.ok()?;
        let header = line.trim().to_lowercase();
        if header.is_empty() {
            break;
        }
        is_let_in |= header == format!("authorization: bearer {TOKEN}");
        length = header.strip_prefix("content-length: ").and_then(|n| n.parse().ok()).unwrap_or(length);
    }
    let mut body = vec![0; length];
    tcp.read_exact(&mut body).await.ok()?;
    let (status, value) = match request.split(' ').take(2).collect::<Vec<_>>().as_slice() {
        _ if !is_let_in => ("401 Unauthorized", json!({})),
        ["GET", "/sessions"] => ("200 OK", json!({"sessions": [{"key": KEY, "status": "idle", "title": "t"}]})),
        ["GET", "/sessions/agent%3Amain%3Amain/history"] => ("200 OK", json!({"messages": *rows.lock().unwrap()})),
        ["POST", "/sessions/agent%3Amain%3Amain/send"] => {
            let sent: Value = serde_json::from_slice(&body).unwrap();
            let mut rows = rows.lock().unwrap();
            for (role, text) in [("user", sent["message"].clone()), ("assistant", json!("heard you"))] {
                let seq = rows.len() + 1;
                let key = if role == "user" {
                    json!(format!("{}:user", sent["idempotencyKey"].as_str().unwrap()))
                } else {
                    json!(null)
                };
                let id = json!({"id": format!("row{seq}"), "seq": seq});
                rows.push(
                    json!({"role": role, "content": text, "idempotencyKey": key, "timestamp": seq, "__openclaw": id}),
                );
            }
            ("200 OK", json!({"ok": true}))
        }
        _ => ("404 Not Found", json!({})),
    };
    let body = value.to_string();
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n", body.len());
    tcp.write_all(format!("{head}connection: close\r\n\r\n{body}").as_bytes()).await.ok()
}

/// A server, behind TLS if it is given what for; where it is.
async fn serve(tls: Option<TlsAcceptor>) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}/", listener.local_addr().unwrap());
    let rows = Arc::new(Mutex::new(vec![]));
    let mut server = JoinSet::new();
    server.spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            match &tls {
                None => answer(tcp, &rows).await,
                // Who does not trust us hangs up.
                Some(tls) => match tls.accept(tcp).await {
                    Ok(tcp) => answer(tcp, &rows).await,
                    Err(_) => None,
                },
            };
        }
    });
    (url, server)
}

#[tokio::test]
async fn the_older_rest_form_is_read_and_written_to_and_no_more() {
    let (url, _server) = serve(None).await;
    let dir = tempfile::tempdir().unwrap();
    let provider = open(dir.path().join("openclaw"), vec![connection("old", &url, TOKEN)]).await;
    let tested = provider.test(connection("x", &url, TOKEN)).await.unwrap();
    assert_eq!(tested.verdict, ConnectionVerdict::Ok, "{}", tested.message);
    assert_eq!(provider.test(connection("x", &url, "no")).await.unwrap().verdict, ConnectionVerdict::NotARuntime);
    it_is_read_and_written_to(&provider).await;
    provider.shutdown().await;
}

/// One authority is trusted where one is named, by the WebSocket that is tried first and by what comes after it.
#[tokio::test]
async fn the_older_rest_form_is_spoken_over_https_with_the_trust_of_the_websocket() {
    let mut identity = TestIdentity::new().unwrap();
    let files = identity.identity().tls(&[]).unwrap();
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&files.cert).unwrap().collect();
    let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = config.with_single_cert(chain.unwrap(), key).unwrap();
    let (url, _server) = serve(Some(TlsAcceptor::from(Arc::new(config)))).await;

    let dir = tempfile::tempdir().unwrap();
    let trusts = |ca| vec![OpenClawGateway { ca, ..connection("old", &url, TOKEN).into() }];
    let provider = open_with(dir.path().join("trusting"), trusts(Some(files.ca)), None).await;
    let tested = provider.test(connection("old", &url, TOKEN)).await.unwrap();
    assert_eq!(tested.verdict, ConnectionVerdict::Ok, "{}", tested.message);
    it_is_read_and_written_to(&provider).await;
    provider.shutdown().await;

    // The machine does not know this authority: nothing is said to such a server, least of all the token.
    let stranger = open_with(dir.path().join("stranger"), trusts(None), None).await;
    let tested = stranger.test(connection("old", &url, TOKEN)).await.unwrap();
    assert_eq!(tested.verdict, ConnectionVerdict::Tls, "{}", tested.message);
    assert!(stranger.sessions().await.unwrap().is_empty());
    stranger.shutdown().await;
}

async fn it_is_read_and_written_to(provider: &OpenClawProvider) {
    let look = async || provider.sessions().await.unwrap().pop();
    let info = wait_until("the session is found", PATIENCE, look).await.unwrap();
    assert_eq!((info.status, info.capabilities), (Status::Waiting, vec![Capability::Inject]));
    let id = info.session_id;
    let killed = provider.kill(&id, &ada()).await.unwrap_err();
    assert!(matches!(killed, ProviderError::NotCapable { .. }), "{killed:?}");
    let message_id = new_message();
    let mode = InjectMode::Steer;
    let message = OperatorMessage { message_id: message_id.clone(), operator: ada(), content: "hello".into(), mode };
    for _ in 0..2 {
        let outcome = provider.inject(&id, message.clone()).await.unwrap();
        assert!(matches!(outcome.state, Delivery::Written | Delivery::Taken), "{outcome:?}");
    }
    let said = async || {
        let all = provider.recent_messages(&id, 10).await.unwrap();
        let all: Vec<_> = all.into_iter().map(|m| (m.role.to_string(), m.content)).collect();
        if all.is_empty() { Err(all) } else { Ok(all) }
    };
    let said = wait_until("the answer is read", PATIENCE, said).await.unwrap();
    assert_eq!(said, [("agent".to_owned(), "heard you".to_owned())], "the operator's words are the node's to tell");
    let taken = async || provider.injection(&id, &message_id).await.unwrap().filter(|o| o.state == Delivery::Taken);
    wait_until("it is taken", PATIENCE, taken).await.unwrap();
}
