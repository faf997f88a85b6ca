//! `mosaic audit`: whatever is done to an audit log is found and named, with the program that people have, and with no
//! hub running.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, stream::Republish};
use bus_schema::*;
use hub_identity::CommandKey;
use serde_json::{Value, json};
use testkit::{NatsServer, Process, wait_until};

const WITHIN: Duration = Duration::from_secs(30);

fn mosaic() -> Command {
    Command::new(env!("CARGO_BIN_EXE_mosaic"))
}

fn row(n: u64) -> AuditRow {
    let row = json!({
        "n": n, "workspace": "default", "timestamp": "2026-11-22T20:40:00.000Z", "actionId": format!("a{n}"),
        "phase": "outcome", "action": "inject", "user": {"id": "u_ada", "name": "Ada"}, "result": "ok",
        "content": "stop \u{1b}[2J", "metadata": {"mode": "steer"},
    });
    serde_json::from_value(row).unwrap()
}

fn checkpoint(key: &CommandKey, line: &AuditLine) -> CheckpointLine {
    let checkpoint = Checkpoint {
        checkpoint: line.row.n,
        workspace: line.row.workspace.clone(),
        hash: line.hash.to_string(),
        timestamp: line.row.timestamp,
        key: String::new(),
        signature: String::new(),
    };
    key.sign_checkpoint(checkpoint).unwrap()
}

/// Rows of a log, and the checkpoint of its last one.
fn log(key: &CommandKey, rows: u64) -> (Vec<AuditLine>, CheckpointLine) {
    let (mut lines, mut last) = (vec![], GENESIS);
    for n in 1..=rows {
        let line = AuditLine::behind(last, row(n));
        last = line.hash;
        lines.push(line);
    }
    let signed = checkpoint(key, lines.last().unwrap());
    (lines, signed)
}

fn write(dir: &Path, name: &str, lines: &[String]) -> PathBuf {
    let path = dir.join(name);
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    lines.iter().for_each(|line| writeln!(file, "{line}").unwrap());
    file.flush().unwrap();
    path
}

fn verify(file: Option<&Path>, arguments: &[&str]) -> Output {
    let mut command = mosaic();
    command.args(["audit", "verify"]).args(file).args(arguments);
    command.output().unwrap()
}

/// Exit code, and what is wrong: `kind from-to`.
fn faults(output: &Output) -> (i32, Vec<String>) {
    let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let told = said["faults"].as_array().unwrap().iter();
    let told = told.map(|f| format!("{} {}-{}", f["kind"].as_str().unwrap(), f["row"], f["to"]));
    (output.status.code().unwrap(), told.collect())
}

fn key(dir: &Path) -> CommandKey {
    let identity = hub_identity::Identity::init(&dir.join("identity"), &WorkspaceId::new("default").unwrap()).unwrap();
    CommandKey::load(&identity.command_key_path()).unwrap()
}

#[test]
fn a_hundred_thousand_rows_are_checked_and_one_that_was_touched_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let key = key(dir.path());
    let (rows, signed) = log(&key, 100_000);
    let mut lines: Vec<String> = rows.iter().map(|line| line.text.clone()).collect();
    lines.push(signed.text.clone());
    let export = write(dir.path(), "export.jsonl", &lines);
    let public = key.public_key();
    let begun = Instant::now();
    let whole = verify(Some(&export), &["--json", "--key", &public]);
    println!("100,000 rows verified in {:.2} s", begun.elapsed().as_secs_f64());
    assert_eq!(faults(&whole), (0, vec![]));
    let said: Value = serde_json::from_slice(&whole.stdout).unwrap();
    assert_eq!((&said["signedTo"], &said["rows"], &said["notes"]), (&json!(100_000), &json!(100_000), &json!([])));

    let mut touched = std::fs::read(&export).unwrap();
    let at = lines[..77_776].iter().map(|line| line.len() + 1).sum::<usize>() + 40;
    touched[at] ^= 1;
    std::fs::write(&export, touched).unwrap();
    let (code, told) = faults(&verify(Some(&export), &["--json", "--key", &public]));
    assert_eq!(code, 1);
    assert!(told.iter().all(|fault| fault.contains("77777")), "{told:?}");
}

#[test]
fn people_are_told_in_words_and_without_control_characters() {
    let dir = tempfile::tempdir().unwrap();
    let key = key(dir.path());
    let (rows, signed) = log(&key, 12);
    let mut lines: Vec<String> = rows.iter().map(|line| line.text.clone()).collect();
    lines.push(signed.text);
    lines.remove(6);
    let export = write(dir.path(), "export.jsonl", &lines);
    let output = verify(Some(&export), &[]);
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("missing: row 7 not there") && text.contains("NOT WHOLE: 1 fault"), "{text}");
    assert!(text.contains("give --key") && !text.contains('\x1b'), "{text}");

    let stranger = hub_identity::Identity::init(&dir.path().join("other"), &WorkspaceId::new("default").unwrap());
    let stranger = stranger.unwrap().command_public_key().to_owned();
    let (code, told) = faults(&verify(Some(&export), &["--json", "--key", &stranger]));
    assert_eq!((code, told), (1, vec!["missing 7-7".into(), "signature 12-12".into()]), "another key is not believed");

    for wrong in [&["--key", "secret"][..], &["--against", "/nowhere"], &["--bus", "--creds", "/nowhere/hub.creds"]] {
        let output = verify(Some(&export), wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {output:?}");
    }
    assert_eq!(verify(Some(Path::new("/nowhere.jsonl")), &[]).status.code(), Some(2));
}

#[tokio::test]
async fn the_bus_and_a_witness_show_what_an_export_hides() {
    let mut server = NatsServer::start().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let key = CommandKey::load(&server.identity().identity().command_key_path()).unwrap();
    let hub = server.hub().await.unwrap();
    let context = jetstream::new(hub.client.clone());
    let config = jetstream::stream::Config {
        name: bus_schema::jetstream::AUDIT.name.into(),
        subjects: bus_schema::jetstream::AUDIT.subjects(),
        republish: Some(Republish {
            source: bus_schema::jetstream::republish_source(),
            destination: bus_schema::jetstream::republish_destination(),
            headers_only: false,
        }),
        ..Default::default()
    };
    context.create_stream(config).await.unwrap();
    let (rows, signed) = log(&key, 30);
    let subject = Subject::Audit(WorkspaceId::new("default").unwrap()).to_string();
    let publish = async |payload: Vec<u8>| {
        context.publish(subject.clone(), payload.into()).await.unwrap().await.unwrap();
    };
    for line in &rows[..20] {
        publish(encode(&line.row).unwrap()).await;
    }

    let seen = dir.path().join("witness.jsonl");
    let mut witness = mosaic();
    let (url, reader) = (server.url(), server.identity().reader_creds());
    witness.args(["audit", "witness", "--url", &url, "--creds"]).arg(&reader).arg(&seen);
    let witness = Process::spawn("mosaic audit witness", &mut witness, &dir.path().join("witness.log")).unwrap();
    wait_until("the witness watches", WITHIN, async || {
        if witness.log().contains("Ctrl-C ends it") { Ok(()) } else { Err(witness.log()) }
    })
    .await
    .unwrap();
    for line in &rows[20..] {
        publish(encode(&line.row).unwrap()).await;
    }
    publish(encode(&signed.checkpoint).unwrap()).await;
    wait_until("it has written all down", WITHIN, async || {
        let lines = std::fs::read_to_string(&seen).unwrap_or_default().lines().count();
        if lines == 11 { Ok(()) } else { Err(lines) }
    })
    .await
    .unwrap();
    drop(witness);

    let creds = server.identity().hub_creds().display().to_string();
    let at = ["--json", "--url", &url, "--creds", &creds];
    let bus = |more: &[&'static str]| [&at[..], more].concat();
    assert_eq!(faults(&verify(None, &bus(&[]))), (0, vec![]), "the bus alone");
    let public = key.public_key();
    let alone = verify(None, &[&at[..], &["--key", &public]].concat());
    assert_eq!(serde_json::from_slice::<Value>(&alone.stdout).unwrap()["signedTo"], 30);

    let mut lines: Vec<String> = rows.iter().map(|line| line.text.clone()).collect();
    let whole = write(dir.path(), "whole.jsonl", &lines);
    assert_eq!(faults(&verify(Some(&whole), &bus(&["--bus"]))), (0, vec![]));
    // The database of yesterday, exported without its checkpoint: in itself without fault.
    let yesterday = write(dir.path(), "yesterday.jsonl", &lines[..25]);
    assert_eq!(faults(&verify(Some(&yesterday), &["--json"])), (0, vec![]));
    assert_eq!(faults(&verify(Some(&yesterday), &bus(&["--bus"]))), (1, vec!["missing 26-30".into()]));
    let seen = seen.display().to_string();
    let against = ["--json", "--against", &seen];
    assert_eq!(faults(&verify(Some(&yesterday), &against)), (1, vec!["missing 26-30".into()]));
    // Written anew from row 28 on.
    let mut last = rows[26].hash;
    for n in 28..=30 {
        let mut forged = row(n);
        forged.user.name = "Eve".into();
        let line = AuditLine::behind(last, forged);
        last = line.hash;
        lines[n as usize - 1] = line.text;
    }
    let forged = write(dir.path(), "forged.jsonl", &lines);
    assert_eq!(faults(&verify(Some(&forged), &["--json"])), (0, vec![]), "nothing in itself shows it");
    let differ: Vec<String> = (28..=30).map(|n| format!("differs {n}-{n}")).collect();
    assert_eq!(faults(&verify(Some(&forged), &against)), (1, differ.clone()));
    assert_eq!(faults(&verify(Some(&forged), &bus(&["--bus"]))), (1, differ));

    let refused = verify(None, &["--url", &url, "--creds", &reader.display().to_string()]);
    assert_eq!(refused.status.code(), Some(2), "a reader cannot read the stream: {refused:?}");
}
