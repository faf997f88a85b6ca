//! The program as people and scripts use it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use async_nats::jetstream;
use bus_schema::jetstream as streams;
use bus_schema::{Delta, JoinToken, Message, SessionId, Subject, encode};
use serde_json::{Value, json};
use testkit::{Bus, NatsServer, Process, proc, wait_until};

const WITHIN: Duration = Duration::from_secs(20);
const SESSION: &str = "01JD8Z2V9Q0000000000ABCDEF";
const OTHER: &str = "01JD8Z2V9Q0000000000GHJKMN";

fn mosaic() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mosaic"));
    for name in ["MOSAIC_WORKSPACE", "MOSAIC_IDENTITY", "MOSAIC_NATS_URL", "MOSAIC_NATS_CREDS", "MOSAIC_NATS_CA"] {
        command.env_remove(name);
    }
    command
}

fn run(arguments: &[&str]) -> Output {
    mosaic().args(arguments).output().unwrap()
}

fn decode(payload: &[u8]) -> Output {
    let mut child =
        mosaic().arg("decode").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may stop reading before the end of what is too large.
    let _ = child.stdin.take().unwrap().write_all(payload);
    child.wait_with_output().unwrap()
}

/// Byte strings are base64 here; the golden files have their own form for them.
fn take_bytes(wanted: &mut Value, said: &Value) {
    for (key, value) in wanted.as_object_mut().into_iter().flatten() {
        if key == "data" {
            assert!(said[key].is_string(), "{said}");
            *value = said[key].clone();
        } else {
            take_bytes(value, &said[key]);
        }
    }
}

#[test]
fn decode_says_what_each_golden_payload_says() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bus-schema/tests/golden");
    let mut seen = 0;
    for entry in fs::read_dir(golden).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "msgpack") {
            let output = decode(&fs::read(&path).unwrap());
            assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
            let text = String::from_utf8(output.stdout).unwrap();
            assert_eq!(text.matches('\n').count(), 1);
            let said: Value = serde_json::from_str(&text).unwrap();
            let json = fs::read_to_string(path.with_extension("json")).unwrap();
            let mut wanted: Value = serde_json::from_str(&json).unwrap();
            take_bytes(&mut wanted, &said);
            assert_eq!(said, wanted, "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 8, "only {seen} golden files");
}

#[test]
fn decode_never_fails() {
    for payload in [&b""[..], b"\xc1", b"plain text", b"\x81\xa1a", &vec![0; 3 << 20]] {
        let output = decode(payload);
        assert!(output.status.success(), "{output:?}");
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(said["undecodable"]["reason"].is_string(), "{said}");
    }
}

#[test]
fn decode_starts_fast_enough_to_run_once_per_message() {
    let payload = encode(&json!({"content": "x"})).unwrap();
    // The best of many: the machine may be busy, the program is not slower for that.
    let best = (0..20)
        .map(|_| {
            let begun = Instant::now();
            decode(&payload);
            begun.elapsed()
        })
        .min()
        .unwrap();
    assert!(best < Duration::from_millis(50), "{best:?}");
}

#[test]
fn an_identity_is_made_and_extended_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let identity = dir.path().join("identity");
    let identity = identity.to_str().unwrap();
    let output = run(&["identity", "init", "--dir", identity, "--json"]);
    assert!(output.status.success(), "{output:?}");
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(summary["commandKey"].as_str().unwrap().starts_with('V'), "{summary}");
    for key in ["hub", "journal", "reader", "sys"] {
        assert!(Path::new(summary["creds"][key].as_str().unwrap()).is_file(), "{key}");
    }
    assert_eq!(run(&["identity", "init", "--dir", identity, "--json"]).stdout, output.stdout);

    let output = run(&["identity", "add-node", "--dir", identity, "n1"]);
    let path = String::from_utf8(output.stdout).unwrap();
    assert!(path.trim_end().ends_with("node-n1.creds") && Path::new(path.trim_end()).is_file(), "{path}");
    let output = run(&["identity", "add-reader", "--dir", identity, "ada"]);
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("-----BEGIN NATS USER JWT-----"));
    let output = run(&["identity", "server-config", "--dir", identity, "--store", "js", "--listen", "127.0.0.1:-1"]);
    assert!(String::from_utf8(output.stdout).unwrap().contains("resolver: { type: full"));

    let output = run(&["identity", "add-node", "--dir", identity, "hub"]);
    assert!(!output.status.success() && String::from_utf8(output.stderr).unwrap().contains("reserved"));
    let output = run(&["identity", "add-node", "--dir", "/nowhere", "n1"]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("no identity in /nowhere"));
}

#[tokio::test]
async fn a_node_is_let_in_and_shut_out_by_hand() {
    let mut server = NatsServer::start().unwrap();
    let (dir, url) = (server.identity().identity().dir().to_owned(), server.url());
    let (dir, creds) = (dir.to_str().unwrap(), dir.join("n9.creds"));
    let enroll = ["node", "enroll", "n9", "--dir", dir, "--url", &url, "--creds", creds.to_str().unwrap()];
    let line = run(&enroll);
    assert!(line.status.success(), "{}", String::from_utf8_lossy(&line.stderr));
    let line = String::from_utf8(line.stdout).unwrap();
    let token = JoinToken::parse(line.strip_prefix("mosaic-node join ").unwrap()).unwrap();
    assert_eq!((token.node.as_str(), &*token.nats, token.ca), ("n9", &[url.clone()][..], None));
    assert_eq!(fs::read_to_string(&creds).unwrap(), token.creds.expose());
    let again = run(&["node", "enroll", "n9", "--dir", dir]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("enrolled already"));
    let node = Bus::connect(&url, &creds, "n9").await.unwrap();
    let revoked = run(&["node", "revoke", "n9", "--dir", dir, "--url", &url]);
    assert!(revoked.status.success(), "{}", String::from_utf8_lossy(&revoked.stderr));
    wait_until("it is cut off", WITHIN, async || {
        let events = node.events();
        if events.iter().any(|event| event.contains("disconnected")) { Ok(()) } else { Err(events) }
    })
    .await
    .unwrap();
    assert!(Bus::connect(&url, &creds, "n9").await.is_err());
    for wrong in [["node", "revoke", "n9", "--dir", dir], ["node", "revoke", "reader", "--dir", dir]] {
        assert!(!run(&wrong).status.success());
    }
    // All of it waits to be in the audit log.
    let mut deeds: Vec<_> = deeds(dir).into_iter().map(|deed| (text(&deed, "action"), text(&deed, "result"))).collect();
    deeds.sort();
    let deed = |action: &str, result: &str| (action.to_owned(), result.to_owned());
    assert_eq!(deeds, [deed("enrolNode", "failed"), deed("enrolNode", "ok"), deed("revokeNode", "ok")]);

    // A workspace made while the server runs, told by hand.
    assert!(run(&["identity", "add-workspace", "--dir", dir, "--workspace", "second"]).status.success());
    let second = std::path::Path::new(dir).join("creds/second/hub.creds");
    assert!(run(&["identity", "push", "--dir", dir, "--url", &url]).status.success());
    assert!(Bus::connect(&url, &second, "hub").await.is_ok());
}

/// What was written down at an identity, in no order.
fn deeds(dir: &str) -> Vec<Value> {
    let files = fs::read_dir(Path::new(dir).join("deeds")).unwrap().flatten().map(|entry| entry.path());
    let deeds = files.filter(|path| path.extension().is_some_and(|e| e == "json"));
    deeds.map(|path| serde_json::from_slice(&fs::read(path).unwrap()).unwrap()).collect()
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_signing_key_is_changed_by_hand_and_withdrawn_when_everybody_has_something_newer() {
    let mut server = NatsServer::start().unwrap();
    let (dir, url) = (server.identity().identity().dir().to_owned(), server.url());
    let (dir, old, new) = (dir.to_str().unwrap(), dir.join("old.creds"), dir.join("new.creds"));
    let say = |arguments: &[&str]| {
        let output = run(&[arguments, &["--dir", dir]].concat());
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let done = |arguments: &[&str]| {
        let (is_done, text) = say(arguments);
        assert!(is_done, "{text}");
        text
    };
    done(&["node", "enroll", "n9", "--url", &url, "--creds", old.to_str().unwrap()]);
    let told = done(&["identity", "rotate-signing-key", "--role", "node", "--url", &url]);
    let keys = done(&["identity", "signing-keys"]);
    let replaced = keys.lines().find(|line| line.contains("replaced")).unwrap();
    let key = replaced.split(' ').next().unwrap();
    assert!(replaced.ends_with("n9") && told.contains(key), "{keys}\n{told}");
    assert!(Bus::connect(&url, &old, "n9").await.is_ok(), "the overlap");
    let (is_done, refused) = say(&["identity", "withdraw-signing-key", key, "--url", &url]);
    assert!(!is_done && refused.contains("n9") && refused.contains("mosaic node renew"), "{refused}");
    done(&["node", "renew", "n9", "--creds", new.to_str().unwrap()]);
    assert!(Bus::connect(&url, &new, "n9").await.is_ok());
    done(&["identity", "withdraw-signing-key", key, "--url", &url]);
    assert!(Bus::connect(&url, &old, "n9").await.is_err(), "withdrawn");
    assert!(Bus::connect(&url, &new, "n9").await.is_ok());
    let results = deeds(dir).into_iter().map(|deed| format!("{} {}", text(&deed, "action"), text(&deed, "result")));
    let results: std::collections::BTreeSet<_> = results.collect();
    let wanted =
        ["enrolNode ok", "renewNode ok", "rotateSigningKey ok", "withdrawSigningKey failed", "withdrawSigningKey ok"];
    assert_eq!(results.iter().map(String::as_str).collect::<Vec<_>>(), wanted);
    let all: String = deeds(dir).iter().map(Value::to_string).collect();
    let mut words = all.split(|c: char| !c.is_ascii_alphanumeric());
    // A seed is `S` and 57 more.
    assert!(!all.contains("SEED") && !words.any(|word| word.len() > 56 && word.starts_with('S')), "no secret: {all}");
}

fn message(session: &str, seq: u64, content: &str) -> Message {
    serde_json::from_value(json!({
        "messageId": format!("m{seq}"), "sessionId": session, "seq": seq, "role": "agent", "content": content,
        "timestamp": "2026-11-22T20:05:00.123Z",
    }))
    .unwrap()
}

/// Makes the stream of messages as a hub does, and publishes until the programs under test are subscribed.
async fn with_stream(server: &mut NatsServer) -> testkit::Bus {
    let hub = server.hub().await.unwrap();
    let config = jetstream::stream::Config {
        name: streams::MESSAGES.name.into(),
        subjects: streams::MESSAGES.subjects(),
        republish: Some(jetstream::stream::Republish {
            source: streams::republish_source(),
            destination: streams::republish_destination(),
            headers_only: false,
        }),
        ..Default::default()
    };
    jetstream::new(hub.client.clone()).create_stream(config).await.unwrap();
    server.node("n1").await.unwrap()
}

fn subject(kind: &str, session: &str) -> String {
    let session = SessionId::new(session).unwrap();
    let (w, n) = ("default".parse().unwrap(), "n1".parse().unwrap());
    match kind {
        "message" => Subject::Message(w, n, session),
        _ => Subject::Delta(w, n, session),
    }
    .to_string()
}

fn tail(server: &mut NatsServer, arguments: &[&str], log: &str) -> Process {
    let creds = server.identity().reader_creds();
    let log = server.identity().dir().join(log);
    let mut command = mosaic();
    command.args(["tail", "--url", &server.url(), "--creds"]).arg(creds).args(arguments);
    Process::spawn("mosaic tail", &mut command, &log).unwrap()
}

#[tokio::test]
async fn tail_shows_what_the_mesh_says_as_it_is_said() {
    let mut server = NatsServer::start().unwrap();
    let node = with_stream(&mut server).await;
    let people = tail(&mut server, &["--session", SESSION], "people");
    let scripts = tail(&mut server, &["--json"], "scripts");
    let context = jetstream::new(node.client.clone());

    let mut seq = 0;
    wait_until("both are subscribed", WITHIN, async || {
        seq += 1;
        let payload = encode(&message(SESSION, seq, "are you there")).unwrap();
        context.publish(subject("message", SESSION), payload.into()).await.unwrap().await.unwrap();
        let delta: Delta = serde_json::from_value(json!({
            "messageId": "d", "sessionId": SESSION, "role": "agent", "content": "part", "timestamp": "2026-11-22T20:05:00Z",
        }))
        .unwrap();
        node.client.publish(subject("delta", SESSION), encode(&delta).unwrap().into()).await.unwrap();
        let (people, scripts) = (people.log(), scripts.log());
        let ready = people.contains("are you there") && scripts.contains("are you there") && scripts.contains("part");
        if ready { Ok(()) } else { Err((people, scripts)) }
    })
    .await
    .unwrap();
    for (session, content) in [(OTHER, "not for you"), (SESSION, "\x1b[2Jlast\nline")] {
        let payload = encode(&message(session, 1000, content)).unwrap();
        context.publish(subject("message", session), payload.into()).await.unwrap().await.unwrap();
    }
    wait_until("the last message is shown", WITHIN, async || {
        let (people, scripts) = (people.log(), scripts.log());
        if people.contains("last") && scripts.contains("last") { Ok(()) } else { Err((people, scripts)) }
    })
    .await
    .unwrap();

    let text = people.log();
    assert!(!text.contains("not for you") && !text.contains("part"), "{text}");
    assert!(text.contains("n1       ABCDEF agent     are you there") && text.contains(r"\u{1b}[2Jlast"), "{text}");
    assert!(!text.contains('\x1b'), "{text:?}");
    let text = scripts.log();
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let last = lines.last().unwrap();
    assert_eq!(last["payload"]["content"], "\x1b[2Jlast\nline");
    assert_eq!(last["subject"], format!("live.{}", subject("message", SESSION)));
    assert!(last["sequence"].as_u64().is_some_and(|n| n > 1), "{last}");
}

#[tokio::test]
async fn tail_with_the_wrong_credentials_says_so() {
    let mut server = NatsServer::start().unwrap();
    let mut other = tail(&mut server, &["--workspace", "elsewhere"], "other");
    wait_until("it ends", WITHIN, async || other.exited().ok_or_else(|| other.log())).await.unwrap();
    assert!(other.log().contains("not a reader's of this workspace"), "{}", other.log());
    let output = run(&["tail", "--creds", "/nowhere/reader.creds"]);
    assert!(!output.status.success() && String::from_utf8(output.stderr).unwrap().contains("--creds FILE"));
    assert!(!proc::is_alive(other.pid()));
}
