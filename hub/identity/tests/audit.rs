//! The audit log can be checked by an outsider: its form is fixed byte for byte, and whatever is done to it is found
//! and named by row.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use bus_schema::*;
use hub_identity::{CommandKey, is_signed_by_its_key};
use serde_json::json;

/// A key for samples; it signs nothing else.
const SEED: &str = "SVAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4H76SU";

fn key() -> CommandKey {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("command.nk");
    std::fs::write(&path, SEED).unwrap();
    CommandKey::load(&path).unwrap()
}

fn row(n: u64) -> AuditRow {
    let row = json!({
        "n": n, "workspace": "default", "timestamp": "2026-11-22T20:40:00.000Z", "actionId": format!("a{n}"),
        "phase": "outcome", "action": "inject", "user": {"id": "u_ada", "name": "Ada \u{1f600}"}, "result": "ok",
        "content": "stop\n\"now\"\u{7}", "metadata": {"ratio": 0.1, "big": 18_446_744_073_709_551_615_u64, "ü": [1.0, null]},
    });
    serde_json::from_value(row).unwrap()
}

fn checkpoint(line: &AuditLine) -> String {
    let checkpoint = Checkpoint {
        checkpoint: line.row.n,
        workspace: line.row.workspace.clone(),
        hash: line.hash.to_string(),
        timestamp: line.row.timestamp,
        key: String::new(),
        signature: String::new(),
    };
    key().sign_checkpoint(checkpoint).unwrap().text
}

/// A log of `rows` rows with a checkpoint behind every fifth.
fn log(rows: u64) -> Vec<String> {
    let (mut lines, mut last) = (vec![], GENESIS);
    for n in 1..=rows {
        let line = AuditLine::behind(last, row(n));
        last = line.hash;
        lines.push(line.text.clone());
        if n % 5 == 0 {
            lines.push(checkpoint(&line));
        }
    }
    lines
}

fn verifier<'a>() -> Verifier<'a> {
    let trusted = key().public_key();
    Verifier::new(move |line| match (is_signed_by_its_key(line), line.checkpoint.key == trusted) {
        (false, _) => SignatureCheck::Bad,
        (true, true) => SignatureCheck::Trusted,
        (true, false) => SignatureCheck::Unknown,
    })
}

fn read(lines: &[String]) -> Verifier<'static> {
    let mut verifier = verifier();
    for (i, line) in lines.iter().enumerate() {
        match AuditEntry::from_json(line) {
            Ok(entry) => verifier.push(entry),
            Err(error) => verifier.unreadable(&format!("line {}", i + 1), &error.to_string()),
        }
    }
    verifier
}

fn told(report: &AuditReport) -> Vec<String> {
    report.faults.iter().map(|f| format!("{} {}-{}", f.kind, f.row, f.to)).collect()
}

fn faults(lines: &[String]) -> Vec<String> {
    told(&read(lines).finish())
}

/// The place of a row in a log of [`log`].
fn place(n: usize) -> usize {
    n - 1 + (n - 1) / 5
}

#[test]
fn the_form_is_fixed() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/audit-chain.v1.jsonl");
    let lines = log(5).join("\n") + "\n";
    if std::env::var_os("MOSAIC_GOLDEN").is_some_and(|word| word == "add") && !std::path::Path::new(path).exists() {
        std::fs::write(path, &lines).unwrap();
    }
    assert_eq!(lines, std::fs::read_to_string(path).unwrap());
    let report = read(&log(5)).finish();
    assert_eq!((report.faults, report.rows, report.signed_to, report.checkpoints), (vec![], 5, 5, 1));
}

#[test]
fn it_is_the_same_over_the_bus() {
    let line = AuditLine::behind(GENESIS, row(1));
    let payload = encode(&line.row).unwrap();
    let AuditEntry::Row(back) = AuditEntry::from_payload(&payload, None).unwrap() else { unreachable!() };
    assert_eq!(*back, line);
    let AuditEntry::Checkpoint(signed) = AuditEntry::from_json(&checkpoint(&line)).unwrap() else { unreachable!() };
    let payload = encode(&signed.checkpoint).unwrap();
    assert_eq!(AuditEntry::from_payload(&payload, None).unwrap(), AuditEntry::Checkpoint(signed));
}

#[test]
fn any_flipped_byte_is_found_and_named() {
    let lines = log(4);
    let at = place(2);
    for byte in 0..lines[at].len() {
        let mut bytes = lines[at].clone().into_bytes();
        bytes[byte] ^= 1;
        let Ok(text) = String::from_utf8(bytes) else { continue };
        let mut flipped = lines.clone();
        flipped[at] = text;
        let report = read(&flipped).finish();
        assert!(report.faults.iter().any(|f| (f.row..=f.to).contains(&2)), "{}: {:?}", flipped[at], told(&report));
    }
}

#[test]
fn what_was_taken_out_put_in_or_moved_is_found_and_named() {
    let lines = log(12);
    let mut deleted = lines.clone();
    deleted.drain(place(7)..=place(8));
    assert_eq!(faults(&deleted), ["missing 7-8"]);
    let mut moved = lines.clone();
    moved.swap(place(7), place(8));
    assert_eq!(faults(&moved), ["outOfOrder 7-7"]);
    let mut doubled = lines.clone();
    doubled.insert(place(9), lines[place(7)].clone());
    assert_eq!(faults(&doubled), ["outOfOrder 7-7"]);
    // An invented row with a hash that fits it.
    let mut forged = row(7);
    forged.content = Some("it was not me".into());
    let before = AuditEntry::from_json(&lines[place(6)]).unwrap();
    let AuditEntry::Row(before) = before else { unreachable!() };
    let forged = AuditLine::behind(before.hash, forged);
    let mut inserted = lines.clone();
    inserted.insert(place(8), forged.text.clone());
    assert!(faults(&inserted).contains(&"extra 7-7".to_owned()), "{:?}", faults(&inserted));
    let mut replaced = lines.clone();
    replaced[place(7)] = forged.text;
    assert_eq!(faults(&replaced), ["broken 8-8"], "it or the one before it");
}

#[test]
fn a_tail_that_was_cut_off_or_written_anew_is_found_by_checkpoints_and_copies() {
    let lines = log(12);
    let whole = read(&lines);
    // Behind the last checkpoint only another copy knows.
    let cut = &lines[..lines.len() - 2];
    assert_eq!(faults(cut), Vec::<String>::new());
    let mut compared = read(cut);
    compared.compare("the bus", whole.known(), true);
    assert_eq!(told(&compared.finish()), ["missing 11-12"]);
    // Before it the checkpoint tells, as long as it is there.
    let mut torn = lines[..place(8)].to_vec();
    torn.push(lines[place(10) + 1].clone());
    assert_eq!(faults(&torn), ["missing 8-10"]);
    // Computed anew from row 7 on: only what was signed, or another copy, differs.
    let mut anew = lines[..place(7)].to_vec();
    let AuditEntry::Row(before) = AuditEntry::from_json(&lines[place(6)]).unwrap() else { unreachable!() };
    let mut last = before.hash;
    for n in 7..=12 {
        let mut forged = row(n);
        forged.content = Some("nothing happened".into());
        let line = AuditLine::behind(last, forged);
        last = line.hash;
        anew.push(line.text);
    }
    let mut compared = read(&anew);
    compared.compare("a witness", &BTreeMap::from_iter(whole.known().iter().skip(8).map(|(n, h)| (*n, *h))), false);
    assert_eq!(told(&compared.finish()), ["differs 9-9", "differs 10-10", "differs 11-11", "differs 12-12"]);
    anew.push(lines[place(10) + 1].clone());
    assert_eq!(faults(&anew), ["checkpoint 10-10"]);
    // A checkpoint that was altered to fit.
    let last = anew.len() - 1;
    anew[last] = anew[last].replace("\"checkpoint\":10", "\"checkpoint\":11");
    assert_eq!(faults(&anew), ["signature 11-11"]);
}

#[test]
fn rows_of_before_there_were_hashes_are_a_prefix_and_nothing_else() {
    let mut lines: Vec<_> = (1..=3).map(|n| AuditLine::of(row(n)).text).collect();
    let mut last = AuditLine::of(row(3)).hash;
    for n in 4..=6 {
        let line = AuditLine::behind(last, row(n));
        last = line.hash;
        lines.push(line.text);
    }
    let report = read(&lines).finish();
    assert_eq!((told(&report), report.unchained, report.rows), (vec![], 3, 6));
    lines[2] = lines[2].replace("inject", "reject");
    assert_eq!(faults(&lines), ["broken 4-4"], "the last of them is bound by the first that has one");
    lines[4] = AuditLine::of(row(5)).text;
    assert_eq!(faults(&lines)[1..], ["unchained 5-5", "broken 6-6"]);
}

#[test]
fn a_log_of_another_workspace_or_without_its_beginning_is_none() {
    let mut lines = log(6);
    let mut foreign = row(7);
    foreign.workspace = WorkspaceId::new("elsewhere").unwrap();
    let AuditEntry::Row(before) = AuditEntry::from_json(&lines[place(6)]).unwrap() else { unreachable!() };
    lines.push(AuditLine::behind(before.hash, foreign).text);
    assert_eq!(faults(&lines), ["foreign 7-7"]);
    assert_eq!(faults(&log(6)[2..]), ["missing 1-2"]);
}
