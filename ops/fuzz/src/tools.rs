//! What the tools show of the bus, the cursors of the hub's live streams, and the folder of identities.

use std::path::PathBuf;
use std::sync::OnceLock;

use bus_schema::{Kind, NodeId, SessionId, Subject, WorkspaceId};
use hub_identity::Identity;

use crate::escape::is_unsafe;
use crate::place::Place;
use crate::render::Renderer;

/// Why a payload of a few bytes cannot be read is longer than the payload: at most this.
const REASON_BYTES: usize = 160;

/// `mosaic decode`: one line of JSON whatever comes, with nothing in it that a terminal obeys.
pub fn decode(data: &[u8]) {
    let line = crate::decode::line(data);
    assert!(!line.chars().any(is_unsafe), "nothing that a terminal obeys");
    // Numbers that no double holds, and depths that its reader refuses, are JSON all the same.
    if let Err(error) = serde_json::from_str::<serde_json::Value>(&line) {
        let text = error.to_string();
        assert!(text.contains("out of range") || text.contains("recursion"), "JSON: {error}: {line}");
    }
    assert!(line.len() <= (64 + data.len() * 16).max(REASON_BYTES), "its size is bounded by that of the payload");
}

/// `mosaic tail`: `kind payload…`. Lines for people, with nothing in them that a terminal obeys.
pub fn tail(data: &[u8]) {
    let [kind, payload @ ..] = data else { return };
    let ids = (WorkspaceId::new("default"), NodeId::new("n1"), SessionId::new("01JD8Z2V9Q0000000000000000"));
    let (Ok(w), Ok(n), Ok(s)) = ids else { return };
    let subject = Subject::of(Kind::ALL[usize::from(*kind) % Kind::ALL.len()], w, n, s);
    let mut renderer = Renderer::new(false);
    for text in [Some(renderer.line(&subject, payload)), renderer.node_change(&subject, payload)] {
        let text = text.unwrap_or_default();
        assert!(!text.chars().any(|c| c != '\n' && is_unsafe(c)), "nothing that a terminal obeys: {text:?}");
        assert!(text.lines().count() <= 42, "a message is bounded in lines");
    }
}

/// A viewer's place in a live stream, as `Last-Event-ID` has it: what can be read comes back as the same place.
pub fn cursor(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<Place>() {
        Ok(place) => assert_eq!(place.to_string().parse(), Ok(place), "a place comes back"),
        Err(error) => assert!(error.to_string().len() < 1000, "an error is no longer than it must be"),
    }
    let _ = Place::epoch_of(text, text);
    // A terminal's own: an offset.
    let _ = text.parse::<u64>();
}

/// A folder of identities with a file that is not ours: `which bytes…`. It is refused by name, or serves as it is; it
/// is never written over when it is opened.
pub fn identity(data: &[u8]) {
    static MADE: OnceLock<Option<(tempfile::TempDir, WorkspaceId)>> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let dir = tempfile::tempdir().ok()?;
        let workspace = WorkspaceId::new("default").ok()?;
        Identity::init(dir.path(), &workspace).ok()?;
        Some((dir, workspace))
    });
    let (Some((dir, workspace)), [which, bytes @ ..]) = (made, data) else { return };
    let Ok(whole) = Identity::open(dir.path()) else { return };
    let files: [PathBuf; 4] = [
        dir.path().join("identity.json"),
        whole.command_key_path(),
        whole.command_key_path().with_extension("chain"),
        whole.hub_creds(workspace),
    ];
    let Some(path) = files.get(usize::from(which % 4)) else { return };
    let before = std::fs::read(path).ok();
    if std::fs::write(path, bytes).is_err() {
        return;
    }
    let opened = Identity::open(dir.path());
    if let Ok(opened) = &opened {
        let _ = (opened.account_updates(), opened.users(workspace), opened.tls_files());
    }
    let _ = (
        hub_identity::CommandKey::load(&whole.command_key_path()),
        hub_identity::command_chain(&whole.command_key_path()),
    );
    assert_eq!(std::fs::read(path).ok().as_deref(), Some(bytes), "a file that is not ours is not written over");
    let _ = match before {
        Some(before) => std::fs::write(path, before),
        None => std::fs::remove_file(path),
    };
}
