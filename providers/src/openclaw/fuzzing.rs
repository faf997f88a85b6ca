//! What a gateway tells, for the fuzz targets of `ops/fuzz`. See [`crate::fuzzing`].

use bus_schema::{Connection, ProviderName, Secret};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::core::Core;
use super::gateway::Gateway;
use super::link::{self, Endpoint, Event, read_hello};
use super::rows;

/// A gateway's address, its welcome, its frames and its rows: one JSON value a line. Whatever it says, every session
/// that it leads to is one that can be told, and is the same when its record is read again.
pub fn gateway(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(endpoint) = Endpoint::parse(text)
    {
        assert!(Endpoint::parse(&endpoint.http()).is_ok(), "an address that was read can be read again");
    }
    let lines = data.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let lines: Vec<Value> = lines.take(64).collect();
    if lines.is_empty() {
        return;
    }
    let Ok(endpoint) = Endpoint::parse("ws://127.0.0.1:1/") else { return };
    let mut before = None;
    for line in &lines {
        let _ = (read_hello(&endpoint, line), link::answer(line.clone()));
        let seq = line.get("seq").and_then(Value::as_u64);
        let _ = before.zip(seq).map(|(before, seq)| link::follows(before, seq));
        before = seq.or(before);
    }
    let parts = rows::parts(&lines);
    let again = rows::parts(&lines);
    assert_eq!(parts, again, "the same rows give the same messages");
    let Ok(provider) = ProviderName::new("openclaw") else { return };
    let connection = Connection {
        id: "c1".into(),
        name: "office".into(),
        provider,
        url: "ws://127.0.0.1:1/".into(),
        token: Secret::new(String::new()),
        is_active: true,
    };
    let Some(dir) = Scratch::new() else { return };
    let Ok(core) = Core::open(&dir.0, None) else { return };
    let gateway = Gateway::new(connection.into(), CancellationToken::new());
    for line in &lines {
        let name = line.get("event").and_then(Value::as_str).unwrap_or_default().to_owned();
        super::gateway::take_event(&gateway, &core, &Event { name, payload: line["payload"].clone() });
    }
    for session in core.all() {
        let taken = session.take_parts(parts.clone());
        drop(taken);
        let info = session.info(None);
        let Ok(Some(read)) = super::session::Session::open(&session.path()) else {
            assert!(session.status().is_terminal(), "the record of a living session can be read");
            continue;
        };
        assert_eq!(read.info(None).title, info.title, "a record that is read again says the same");
        assert_eq!(read.status(), session.status());
    }
}

/// A folder of our own in memory, gone with us.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new() -> Option<Self> {
        let base = std::path::Path::new("/dev/shm");
        let base = if base.is_dir() { base.to_owned() } else { std::env::temp_dir() };
        let dir = base.join(format!("mosaic-fuzz-{}", std::process::id()));
        // What an earlier process of this number left behind.
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).ok()?;
        Some(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Then it is cleared by whoever comes next.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
