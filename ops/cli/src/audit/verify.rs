//! `mosaic audit verify`: reads, checks, compares, and says it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use bus_schema::{AuditEntry, AuditFault, AuditHash, AuditReport, CheckpointLine, SignatureCheck, Verifier};
use clap::Args;
use hub_identity::is_signed_by_its_key;
use serde_json::json;

use super::{Place, bus};
use crate::{complain, escape};

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// An export of the hub (`GET /api/mission-control/audit/export`). Without it the log on the bus is checked.
    file: Option<PathBuf>,
    /// Compare the export with the log on the bus; without an export, the default. Needs the hub's credentials.
    #[arg(long)]
    bus: bool,
    /// Compare with what a witness saw, or with an older export.
    #[arg(long, value_name = "FILE")]
    against: Vec<PathBuf>,
    /// Public key (`V…`) of the hub, as you know it from elsewhere. Without one any key is taken for the hub's.
    #[arg(long, value_name = "KEY")]
    key: Vec<String>,
    /// One line of JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

pub(super) async fn verify(arguments: &Verify) -> anyhow::Result<ExitCode> {
    for key in &arguments.key {
        if !key.starts_with('V') || key.len() != 56 {
            bail!("{key:?} is not a public key of a hub: 56 letters and digits that begin with V");
        }
    }
    let mut verifier = Verifier::new(|line| judge(line, &arguments.key));
    match &arguments.file {
        None => {
            let reading = bus::read(&arguments.place, |entry| match entry {
                Ok(entry) => verifier.push(entry),
                Err((place, reason)) => verifier.unreadable(&place, &reason),
            });
            reading.await?;
        }
        Some(file) => read_file(file, |place, entry| match entry {
            Ok(entry) => verifier.push(entry),
            Err(reason) => verifier.unreadable(place, &reason),
        })?,
    }
    if arguments.bus && arguments.file.is_some() {
        let mut known = BTreeMap::new();
        bus::read(&arguments.place, |entry| collect(&mut known, entry.ok())).await?;
        verifier.compare("the log on the bus", &known, true);
    }
    for path in &arguments.against {
        let mut known = BTreeMap::new();
        let mut unreadable = 0_u64;
        read_file(path, |_, entry| {
            unreadable += u64::from(entry.is_err());
            collect(&mut known, entry.ok());
        })?;
        if unreadable > 0 {
            complain(&format!("{unreadable} lines of {} cannot be read", path.display()));
        }
        if known.is_empty() {
            bail!("{} has no rows to compare with", path.display());
        }
        verifier.compare(&path.display().to_string(), &known, false);
    }
    let report = verifier.finish();
    let notes = notes(&report, arguments);
    let text = if arguments.json { as_json(&report, &notes) } else { for_people(&report, &notes) };
    std::io::stdout().lock().write_all(text.as_bytes()).context("write to stdout")?;
    Ok(if report.faults_total == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn judge(line: &CheckpointLine, keys: &[String]) -> SignatureCheck {
    match (is_signed_by_its_key(line), keys.is_empty(), keys.contains(&line.checkpoint.key)) {
        (true, true, _) => SignatureCheck::Unknown,
        (true, false, true) => SignatureCheck::Trusted,
        (false, ..) | (true, false, false) => SignatureCheck::Bad,
    }
}

/// The first row of each number counts: what was seen first.
fn collect(known: &mut BTreeMap<u64, AuditHash>, entry: Option<AuditEntry>) {
    if let Some(AuditEntry::Row(line)) = entry {
        known.entry(line.row.n).or_insert(line.hash);
    }
}

/// Hands over each line: its place, and what stands there or why it cannot be read.
fn read_file(path: &Path, mut take: impl FnMut(&str, Result<AuditEntry, String>)) -> anyhow::Result<()> {
    let reading = || format!("read {}", path.display());
    let mut file = BufReader::new(File::open(path).with_context(reading)?);
    let (mut line, mut number) = (vec![], 0_u64);
    while file.read_until(b'\n', &mut line).with_context(reading)? > 0 {
        number += 1;
        let text = line.trim_ascii();
        if !text.is_empty() {
            let entry = std::str::from_utf8(text).map_err(|e| e.to_string());
            let entry = entry.and_then(|text| AuditEntry::from_json(text).map_err(|e| e.to_string()));
            take(&format!("line {number}"), entry);
        }
        line.clear();
    }
    Ok(())
}

/// What is not wrong and ought to be known.
fn notes(report: &AuditReport, arguments: &Verify) -> Vec<String> {
    let mut notes = vec![];
    if report.unchained > 0 {
        let (from, to) = (report.first, report.first + report.unchained - 1);
        notes.push(format!("rows {from} to {to} were written by an older version, without hashes: they prove nothing"));
    }
    if report.rows > 0 && report.signed_to < report.last {
        let from = report.signed_to + 1;
        let elsewhere = arguments.bus || !arguments.against.is_empty();
        let hint = if elsewhere { "" } else { "; compare with --bus or --against a witness" };
        notes.push(format!("rows {from} to {} are signed by no checkpoint yet{hint}", report.last));
    }
    if !report.unknown_keys.is_empty() {
        let keys = report.unknown_keys.iter().cloned().collect::<Vec<_>>().join(", ");
        notes.push(format!("signed with {keys}: give --key with the hub's key, as you know it from elsewhere"));
    }
    notes
}

fn sentence(fault: &AuditFault) -> String {
    let AuditFault { row, to, detail, .. } = fault;
    if row == to { format!("row {row} {detail}") } else { format!("rows {row} to {to} {detail}") }
}

fn for_people(report: &AuditReport, notes: &[String]) -> String {
    let mut text = String::new();
    let mut say = |line: String| text.push_str(&format!("{}\n", escape::line(&line)));
    for fault in &report.faults {
        say(format!("{}: {}", fault.kind, sentence(fault)));
    }
    let told = report.faults.len() as u64;
    if report.faults_total > told {
        say(format!("and {} more", report.faults_total - told));
    }
    notes.iter().for_each(|note| say(format!("note: {note}")));
    let workspace = report.workspace.as_ref().map_or("no workspace", |w| w.as_str());
    say(format!(
        "workspace {workspace}: {} rows, {} to {}; {} checkpoints, signed up to row {}",
        report.rows, report.first, report.last, report.checkpoints, report.signed_to
    ));
    say(match report.faults_total {
        0 => "the log is whole".to_owned(),
        1 => "NOT WHOLE: 1 fault".to_owned(),
        n => format!("NOT WHOLE: {n} faults"),
    });
    text
}

fn as_json(report: &AuditReport, notes: &[String]) -> String {
    let fault = |f: &AuditFault| json!({"kind": f.kind.as_str(), "row": f.row, "to": f.to, "detail": sentence(f)});
    let value = json!({
        "whole": report.faults_total == 0,
        "workspace": report.workspace,
        "rows": report.rows,
        "first": report.first,
        "last": report.last,
        "unchained": report.unchained,
        "checkpoints": report.checkpoints,
        "signedTo": report.signed_to,
        "faults": report.faults.iter().map(fault).collect::<Vec<_>>(),
        "faultsTotal": report.faults_total,
        "notes": notes,
    });
    format!("{value}\n")
}
