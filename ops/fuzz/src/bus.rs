//! What comes from the bus.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bus_schema::{
    AuditEntry, Command, CommandReply, Delta, KeySuccession, Kind, Message, NodeId, NodeState, Receipt, RefusedCommand,
    Session, SignatureCheck, Subject, Terminal, Timestamp, Verifier, WorkspaceId, canonical, decode, encode,
    signed_bytes,
};
use hub_identity::is_signed_by_its_key;
use nkeys::{KeyPair, KeyPairType};
use node_agent::commands::trust::Trust;
use node_agent::commands::verify::{self, Signed};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The seed of a key that exists for these targets only.
const SEED: [u8; 32] = [7; 32];

/// A payload of any kind: `kind bytes…`. What can be read is written and read again as the same; the written form is
/// stable from then on.
pub fn payload(data: &[u8]) {
    let [kind, bytes @ ..] = data else { return };
    match kind % 12 {
        0 => round_trip::<NodeState>(bytes),
        1 => round_trip::<Session>(bytes),
        2 => round_trip::<Message>(bytes),
        3 => round_trip::<Delta>(bytes),
        4 => round_trip::<Terminal>(bytes),
        5 => {
            round_trip::<Command>(bytes);
            if let Ok(command) = decode::<Command>(bytes, None) {
                // What is asked for, or a refusal: nothing else.
                let _ = command.verb();
            }
        }
        6 => round_trip::<CommandReply>(bytes),
        7 => round_trip::<Receipt>(bytes),
        8 => round_trip::<RefusedCommand>(bytes),
        9 => round_trip::<bus_schema::AuditRow>(bytes),
        10 => round_trip::<bus_schema::Checkpoint>(bytes),
        _ => {
            let text = String::from_utf8_lossy(bytes);
            let (schema, payload) = text.split_once('\n').unwrap_or((&text, ""));
            // Any header: refused by name, or read.
            let _ = decode::<Message>(payload.as_bytes(), Some(schema));
        }
    }
}

fn round_trip<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let Ok(value) = decode::<T>(bytes, None) else { return };
    // What is too large once its defaults are written out is refused by the writer.
    let Ok(written) = encode(&value) else { return };
    let again = decode::<T>(&written, None);
    assert!(again.is_ok(), "what was read and written can be read: {:?}", again.err());
    let Ok(again) = again else { return };
    assert_eq!(encode(&again).ok(), Some(written), "the written form is stable");
}

/// A subject. What can be read is written as it came, and no filter lets it through that is not its own.
pub fn subject(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(subject) = text.parse::<Subject>() {
        assert_eq!(subject.to_string(), text, "a subject is written as it came");
        assert_eq!(Subject::parse_live(&subject.live()).ok().as_ref(), Some(&subject));
        assert!(!text.contains(['*', '>', ' ']), "a subject is no filter");
        let filter = subject.kind().filter(Some(subject.workspace()), subject.node());
        let tokens = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
        let (ours, theirs) = (tokens(text), tokens(&filter));
        assert_eq!(ours.len(), theirs.len(), "its own filter has its form");
        assert!(theirs.iter().zip(&ours).all(|(filter, token)| filter == "*" || filter == token));
        assert_eq!(subject.session().is_some(), subject.kind().has_session());
        assert!(Kind::ALL.contains(&subject.kind()));
    }
    if let Ok(subject) = Subject::parse_live(text) {
        assert_eq!(subject.live(), text);
    }
}

/// A command as it came: `mode at:u16 by payload…`. Only bytes that the hub's key signed, for this node, in time, are
/// obeyed; and none of them once a byte is another.
pub fn command(data: &[u8]) {
    let [mode, low, high, by, payload @ ..] = data else { return };
    let Ok(key) = KeyPair::new_from_raw(KeyPairType::Service, SEED) else { return };
    let public = key.public_key();
    let (Ok(workspace), Ok(node)) = (WorkspaceId::new("default"), NodeId::new("n1")) else { return };
    let Ok(trust) = Trust::open(std::path::Path::new("/nonexistent/trusted-keys"), std::slice::from_ref(&public))
    else {
        return;
    };
    let verifier = verify::Verifier::new(workspace, node);
    let subject = verifier.subject();
    let Ok(signature) = key.sign(&signed_bytes(&subject, payload)) else { return };
    let signature = URL_SAFE_NO_PAD.encode(signature);
    let said = decode::<Command>(payload, None).ok();
    let now = said.as_ref().map_or(Timestamp::from_millis(0), |command| command.issued_at);
    let at = usize::from(u16::from_le_bytes([*low, *high]));
    match mode % 4 {
        // Signed as it is: obeyed if it is one for us.
        0 => {
            let signed = Signed { key: Some(&public), signature: Some(&signature), schema: None };
            if let Ok(obeyed) = verifier.verify(&trust, signed, payload, now) {
                assert_eq!(Some(obeyed), said, "what is obeyed is what was signed");
            }
        }
        // One byte of the payload is another.
        1 => {
            let mut other = payload.to_vec();
            let length = other.len().max(1);
            let Some(byte) = other.get_mut(at % length) else { return };
            *byte ^= (*by).max(1);
            let signed = Signed { key: Some(&public), signature: Some(&signature), schema: None };
            assert!(verifier.verify(&trust, signed, &other, now).is_err(), "a changed command is not obeyed");
        }
        // One character of the signature is another.
        2 => {
            let mut other = signature.clone().into_bytes();
            let length = other.len().max(1);
            let Some(byte) = other.get_mut(at % length) else { return };
            *byte = byte.wrapping_add((*by).max(1));
            let Ok(other) = String::from_utf8(other) else { return };
            let signed = Signed { key: Some(&public), signature: Some(&other), schema: None };
            assert!(verifier.verify(&trust, signed, payload, now).is_err(), "a changed signature is not obeyed");
        }
        // Headers of somebody else.
        _ => {
            let text = String::from_utf8_lossy(payload);
            let mut lines = text.split('\n');
            let signed = Signed { key: lines.next(), signature: lines.next(), schema: lines.next() };
            let rest = lines.next().unwrap_or_default();
            assert!(verifier.verify(&trust, signed, rest.as_bytes(), now).is_err(), "nobody signed this");
        }
    }
}

/// A chain of statements by which a key takes another's place: whatever it says, nobody's key is learned that the
/// trusted one did not name.
pub fn succession(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(chain) = KeySuccession::parse_chain(text) {
        let written = KeySuccession::chain_text(&chain);
        assert_eq!(KeySuccession::parse_chain(&written), Ok(chain.clone()), "a chain comes back as it was");
        for statement in &chain {
            assert!(KeySuccession::leading_to(&chain, &statement.new).len() <= bus_schema::MAX_CHAIN);
        }
    }
    let Ok(key) = KeyPair::new_from_raw(KeyPairType::Service, SEED) else { return };
    let root = key.public_key();
    let path = std::env::temp_dir().join(format!("mosaic-fuzz-trust-{}", std::process::id()));
    let Ok(trust) = Trust::open(&path, std::slice::from_ref(&root)) else { return };
    let now = Timestamp::from_millis(1_800_000_000_000);
    assert!(!trust.learn(text, now).unwrap_or(false), "nothing that the key did not sign is learned");
    assert_eq!(trust.keys(now), [root]);
}

/// A line of an export of the audit log, or several, or a payload of the audit stream. A row that was read is written
/// as it was hashed; a verifier never fails, and lets nothing pass that was changed.
pub fn audit(data: &[u8]) {
    if let Ok(entry) = AuditEntry::from_payload(data, None) {
        stable(&entry);
    }
    let mut verifier =
        Verifier::new(|line| if is_signed_by_its_key(line) { SignatureCheck::Unknown } else { SignatureCheck::Bad });
    let mut other = Verifier::new(|_| SignatureCheck::Trusted);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut rows = 0;
    for (n, line) in text.lines().enumerate().take(256) {
        match AuditEntry::from_json(line) {
            Ok(entry) => {
                stable(&entry);
                rows += u64::from(matches!(entry, AuditEntry::Row(_)));
                if n % 3 != 0 {
                    other.push(entry.clone());
                }
                verifier.push(entry);
            }
            Err(error) => verifier.unreadable(&format!("line {n}"), &error.to_string()),
        }
    }
    let known = other.known().clone();
    verifier.compare("another copy", &known, data.len().is_multiple_of(2));
    let report = verifier.finish();
    let _ = other.finish();
    assert_eq!(report.rows, rows, "every row is counted");
    assert!(report.faults.len() as u64 <= report.faults_total);
    assert!(report.signed_to <= report.last, "nothing is signed beyond the last row");
}

fn stable(entry: &AuditEntry) {
    let said = |entry: &AuditEntry| match entry {
        AuditEntry::Row(line) => (line.text.clone(), Some(line.hash), line.row.n),
        AuditEntry::Checkpoint(line) => (line.text.clone(), None, line.checkpoint.checkpoint),
    };
    let (text, hash, n) = said(entry);
    let again = AuditEntry::from_json(&text).as_ref().ok().map(said);
    assert_eq!(again, Some((text, hash, n)), "a line of an export is read as what was written");
}

/// Canonical JSON (RFC 8785): its form is stable, and it says the same as what it was made of. Stable for what a row of
/// the audit log may hold: other numbers than whole ones are read by `serde_json` up to the last bit but one, and no
/// row has them.
pub fn canonical_json(data: &[u8]) {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(data) else { return };
    let text = canonical(&value);
    let again = serde_json::from_str::<serde_json::Value>(&text);
    assert!(again.is_ok(), "canonical JSON is JSON: {text}");
    let Ok(again) = again else { return };
    if !is_whole(&value) {
        return;
    }
    assert_eq!(canonical(&again), text, "the canonical form is stable");
    assert!(!text.contains(['\n', '\r']), "one line");
    assert!(alike(&value, &again), "it says the same");
}

/// True if every number in it is a whole one that a double holds.
fn is_whole(value: &serde_json::Value) -> bool {
    use serde_json::Value;
    const MOST: u64 = 1 << 53;
    match value {
        Value::Number(n) => n.as_i64().is_some_and(|n| n.unsigned_abs() <= MOST),
        Value::Array(all) => all.iter().all(is_whole),
        Value::Object(all) => all.values().all(is_whole),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

/// The same value, numbers as doubles: so RFC 8785 has it.
fn alike(a: &serde_json::Value, b: &serde_json::Value) -> bool {
    use serde_json::Value;
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| alike(a, b)))
        }
        (a, b) => a == b,
    }
}
