//! Nodes let in and shut out, and what they tell of commands that they did not obey.

use bus_schema::*;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Bus, Person, wait_until};

use crate::support::*;

async fn audit(person: &Person, action: &str) -> Vec<Value> {
    let log = person.get(&format!("/api/mission-control/audit?action={action}")).await.unwrap();
    log["entries"].as_array().unwrap().clone()
}

async fn delete(person: &Person, path: &str) -> (u16, Value) {
    let answer = person.send(Method::DELETE, path, None).await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap_or_default())
}

#[tokio::test]
async fn a_hub_without_the_identity_says_how_to_give_it() {
    let stack = Stack::start().await;
    let admin = stack.sign_in("admin").await;
    let (status, told) = admin.post("/api/nodes", json!({"node": "n9"})).await.unwrap();
    assert_eq!((status, told["error"]["code"].as_str()), (409, Some("enrolmentOff")), "{told}");
    assert!(told["error"]["message"].as_str().unwrap().contains("identity = "), "{told}");
    assert_eq!(delete(&admin, "/api/nodes/n9").await.0, 409);
}

#[tokio::test]
async fn a_node_is_let_in_once_and_cut_off_within_seconds_and_stays_out() {
    let mut stack = Stack::start_with_identity().await;
    let (admin, url) = (stack.sign_in("admin").await, stack.nats.url());
    let (status, told) = admin.post("/api/nodes", json!({"node": "n9"})).await.unwrap();
    assert_eq!(status, 201, "{told}");
    let token = JoinToken::parse(told["token"].as_str().unwrap()).unwrap();
    assert_eq!((token.node.as_str(), token.nats[0].as_str()), ("n9", url.as_str()));
    assert_eq!(token.command_keys, [stack.nats.identity().identity().command_public_key()]);
    assert_eq!(told["join"], format!("mosaic-node join {}", told["token"].as_str().unwrap()));
    let creds = stack.dir.path().join("n9.creds");
    std::fs::write(&creds, told["credentials"].as_str().unwrap()).unwrap();
    for (body, status, code) in [
        (json!({"node": "n9"}), 409, "enrolledAlready"),
        (json!({"node": "reader"}), 409, "nameTaken"),
        (json!({"node": "hub"}), 422, "invalid"),
        (json!({"node": "a b"}), 422, "invalid"),
    ] {
        let (found, told) = admin.post("/api/nodes", body).await.unwrap();
        assert_eq!((found, told["error"]["code"].as_str()), (status, Some(code)), "{told}");
    }

    // It is there, with a session.
    let bus = Bus::connect(&url, &creds, "n9").await.unwrap();
    let node = Node::of(bus, "n9").await;
    node.send_session(&node.session(S1, 1, "running")).await;
    stack.knows(&admin, &node).await;
    let stale = async || admin.session(S1).await.ok().map(|session| session["stale"] == true);
    wait_until("its session is known", WAIT, async || stale().await.filter(|stale| !stale)).await.unwrap();

    assert_eq!(delete(&admin, "/api/nodes/n9").await.0, 204);
    wait_until("it is cut off", WAIT, async || {
        let events = node.bus.events();
        if events.iter().any(|event| event.contains("disconnected")) { Ok(()) } else { Err(events) }
    })
    .await
    .unwrap();
    assert!(Bus::connect(&url, &creds, "n9").await.is_err(), "it comes back");
    assert_eq!(stale().await, Some(true), "at once, and not when it has been silent for long");
    stack.nats.restart().unwrap();
    assert!(Bus::connect(&url, &creds, "n9").await.is_err(), "it comes back to a server that was started again");
    wait_until("the hub is back on the bus, and knows no such node", WAIT, async || {
        let found = delete(&admin, "/api/nodes/n9").await.0;
        if found == 404 { Ok(()) } else { Err(found) }
    })
    .await
    .unwrap();
    assert_eq!(delete(&admin, "/api/nodes/reader").await.0, 404, "a reader is no node");

    // Let in anew it has other credentials.
    wait_until("the hub is back on the bus", WAIT, async || {
        let (status, told) = admin.post("/api/nodes", json!({"node": "n9"})).await.unwrap();
        if status == 201 { Ok(()) } else { Err(told) }
    })
    .await
    .unwrap();
    for (action, results) in [("revokeNode", ["ok", "refused"]), ("enrolNode", ["ok", "refused"])] {
        let rows = audit(&admin, action).await;
        for result in results {
            assert!(
                rows.iter().any(|row| row["result"] == result && row["node"] == "n9"),
                "{action} {result}: {rows:?}"
            );
        }
    }
    let all = admin.get("/api/mission-control/audit?limit=500").await.unwrap().to_string();
    assert!(!all.contains("NKEY SEED") && !all.contains(told["token"].as_str().unwrap()), "no secret is written down");
}

#[tokio::test]
async fn what_is_revoked_while_the_bus_is_away_is_cut_off_when_it_is_back() {
    let mut stack = Stack::start_with_identity().await;
    let (admin, url) = (stack.sign_in("admin").await, stack.nats.url());
    let (_, told) = admin.post("/api/nodes", json!({"node": "n9"})).await.unwrap();
    let creds = stack.dir.path().join("n9.creds");
    std::fs::write(&creds, told["credentials"].as_str().unwrap()).unwrap();
    // Revoked at the folder by somebody who could not tell the servers: the next start of a hub does.
    let workspace = WorkspaceId::new("default").unwrap();
    stack.kill9_hub();
    stack.nats.identity().identity().revoke(&workspace, "n9").unwrap();
    stack.start_hub().await;
    wait_until("it is shut out", WAIT, async || Bus::connect(&url, &creds, "n9").await.is_err()).await.unwrap();
}

fn refused(node: &Node, n: u64) -> RefusedCommand {
    RefusedCommand {
        refusal_id: format!("r{n}"),
        workspace: WorkspaceId::new("default").unwrap(),
        node: node.name.clone(),
        refused_at: hub::clock::now(),
        refusal: Refusal::new(RefusalCode::BadSignature, "the command is not signed"),
        command_id: Some(CommandId::new(format!("c{n}")).unwrap()),
        action: Some(Action::Kill),
        session_id: Some(SessionId::new(S1).unwrap()),
        operator: Some(Operator { id: UserId::new("u1").unwrap(), name: "Ada".into() }),
        key: Some("VABC".into()),
        request_id: None,
        untold: 0,
    }
}

#[tokio::test]
async fn what_nodes_did_not_obey_is_in_the_audit_log_once_each_over_kills_and_bounded() {
    let mut stack = Stack::start().await;
    let node = stack.node("n1").await;
    let admin = stack.sign_in("admin").await;
    let subject = Subject::Refusal(WorkspaceId::new("default").unwrap(), node.name.clone()).to_string();
    let tell = async |refused: &RefusedCommand| {
        node.publish_raw(subject.clone(), Some(refused.refusal_id.clone()), encode(refused).unwrap()).await;
        node.bus.client.flush().await.unwrap();
    };
    for n in 0..10 {
        tell(&refused(&node, n)).await;
        if n == 5 {
            stack.kill9_hub();
            stack.start_hub().await;
        }
    }
    // What another node would say of this one, and what is nothing at all.
    let foreign = RefusedCommand { node: NodeId::new("n2").unwrap(), ..refused(&node, 90) };
    node.publish_raw(subject.clone(), Some("r90".into()), encode(&foreign).unwrap()).await;
    node.publish_raw(subject.clone(), Some("r91".into()), b"\xc1".to_vec()).await;
    let admin = admin.at(stack.url());
    let rows = wait_until("all are in the log", WAIT, async || {
        let rows = audit(&admin, "commandRefused").await;
        if rows.len() >= 10 { Ok(rows) } else { Err(rows) }
    })
    .await
    .unwrap();
    let ids: std::collections::BTreeSet<_> =
        rows.iter().map(|row| row["metadata"]["commandId"].as_str().unwrap().to_owned()).collect();
    assert_eq!((rows.len(), ids.len()), (10, 10), "{rows:?}");
    let row = &rows[0];
    assert_eq!((row["result"].as_str(), row["node"].as_str()), (Some("refused"), Some("n1")), "{row}");
    assert_eq!((row["sessionId"].as_str(), row["detail"].as_str()), (Some(S1), Some("the command is not signed")));
    assert_eq!(row["metadata"]["reason"], "badSignature");
    assert_eq!(row["metadata"]["claimedOperator"]["name"], "Ada");
    assert!(row["user"]["id"].is_null(), "nobody is named who may not have done it: {row}");

    for n in 100..400 {
        tell(&refused(&node, n)).await;
    }
    let metric = "mosaic_hub_parked_messages_total{of=\"refusal-flood\"} ";
    wait_until("the flood is over", WAIT, async || {
        let text = admin.send(Method::GET, "/metrics", None).await.unwrap().text().await.unwrap();
        let count = text.lines().find_map(|l| l.strip_prefix(metric)).and_then(|n| n.parse::<u64>().ok());
        if count.is_some_and(|count| count >= 240) { Ok(()) } else { Err(count) }
    })
    .await
    .unwrap();
    assert!(audit(&admin, "commandRefused").await.len() <= 60);
}

/// One request by hand over TLS; the answer, or why there was none.
async fn ask_over_tls(address: &str, ca: &std::path::Path) -> Result<String, String> {
    use rustls::pki_types::pem::PemObject;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let socket = tokio::net::TcpStream::connect(address).await.map_err(|e| e.to_string())?;
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let mut stream = connector.connect(name, socket).await.map_err(|e| e.to_string())?;
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await.map_err(|e| e.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(|e| e.to_string())?;
    Ok(answer)
}

#[tokio::test]
async fn a_hub_with_a_certificate_on_a_bus_with_certificates_speaks_to_nobody_in_plain() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let nats = testkit::NatsServer::start_tls().unwrap();
    let mut stack = Stack::idle(nats);
    let made = stack.nats.identity().identity().tls_files().unwrap();
    stack.nats_lines = format!("ca = {:?}\n", made.ca);
    stack.hub_lines = format!("tls = {{ cert = {:?}, key = {:?} }}\n", made.cert, made.key);
    stack.launch_hub();
    let url = wait_until("the hub listens", WAIT, async || stack.url_if_known()).await.unwrap();
    let address = url.strip_prefix("https://").unwrap();
    let answer = wait_until("it answers", WAIT, async || ask_over_tls(address, &made.ca).await).await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"), "{answer}");
    wait_until("it is on the bus", WAIT, async || {
        let log = std::fs::read_to_string(stack.dir.path().join("hub.log")).unwrap_or_default();
        if log.contains("connected to the bus") { Ok(()) } else { Err(log) }
    })
    .await
    .unwrap();
    let mut other = testkit::TestIdentity::new().unwrap();
    let stranger = other.identity().tls(&[]).unwrap();
    assert!(ask_over_tls(address, &stranger.ca).await.is_err(), "another authority");
    let mut plain = tokio::net::TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await.unwrap();
    let mut told = vec![];
    let _ = plain.read_to_end(&mut told).await;
    assert!(!String::from_utf8_lossy(&told).contains("HTTP/1"), "{told:?}");

    // With the wrong authority it does not get onto the bus, and says so.
    stack.stop_hub();
    stack.nats_lines = format!("ca = {:?}\n", stranger.ca);
    std::fs::remove_file(stack.dir.path().join("hub.log")).unwrap();
    stack.launch_hub();
    wait_until("it says that it waits for the bus", WAIT, async || {
        let log = std::fs::read_to_string(stack.dir.path().join("hub.log")).unwrap_or_default();
        if log.contains("waiting for the bus") && !log.contains("connected to the bus") { Ok(()) } else { Err(log) }
    })
    .await
    .unwrap();
}
