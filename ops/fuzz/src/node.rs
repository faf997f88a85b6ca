//! What a node agent reads from its disk, from whoever sets it up, and from the hub under a seal.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bus_schema::{JoinToken, NodeSettings, Outcome, decode, encode};
use futures::executor::block_on;
use nkeys::XKey;
use node_agent::config::Config;
use node_agent::outbox::record::{self, Parsed};
use node_agent::settings::Settings;
use providers::Registry;

/// A join token as text, or the inside of one: what can be read comes back as it was, and an error shows nothing of it.
pub fn join(data: &[u8]) {
    use base64::Engine;
    let inside = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode([&[1], data].concat());
    for text in [String::from_utf8_lossy(data).into_owned(), inside] {
        match JoinToken::parse(&text) {
            Ok(token) => {
                let Ok(written) = token.to_text() else { return };
                if written.expose().len() <= 64 * 1024 {
                    assert_eq!(JoinToken::parse(written.expose()).ok(), Some(token), "a token comes back as it was");
                }
            }
            Err(error) => {
                let (shown, said) = (error.to_string(), text.trim());
                // Our own words are no token, and are shown whatever came.
                let is_ours = JoinToken::parse("").is_err_and(|ours| ours.to_string().contains(said));
                assert!(said.len() < 12 || is_ours || !shown.contains(said), "an error shows nothing of a token");
            }
        }
    }
}

/// A segment of an outbox: whole records come back byte for byte, and no flipped bit is a record.
pub fn outbox(data: &[u8]) {
    let mut rest = data;
    while let Parsed::Whole(found, length) = record::parse(rest) {
        let mut written = vec![];
        record::write(&mut written, found.number, found.kind, found.position, &found.body);
        assert_eq!(rest.get(..length), Some(written.as_slice()), "a record is written as it was read");
        let mut flipped = written;
        let at = data.len() % flipped.len().max(1);
        if let Some(byte) = flipped.get_mut(at) {
            *byte ^= 1;
        }
        assert!(!matches!(record::parse(&flipped), Parsed::Whole(other, _) if other == found), "damage is noticed");
        rest = rest.get(length..).unwrap_or_default();
    }
    // The same body, written by us: the body of a record may be anything.
    let mut written = vec![];
    let position = providers::Position { offset: 7, index: 3 };
    record::write(&mut written, 1, record::RecordKind::Mark, position, data);
    let Parsed::Whole(found, length) = record::parse(&written) else {
        assert!(data.len() > record::MAX_BODY_BYTES, "what was written can be read");
        return;
    };
    assert_eq!((found.body.as_ref(), length), (data, written.len()));
}

/// Settings that came sealed: `mode bytes…`. What nobody sealed for this node is not opened; what was sealed is read or
/// refused.
pub fn sealed(data: &[u8]) {
    static NODE: OnceLock<Option<(tempfile::TempDir, Arc<Settings>)>> = OnceLock::new();
    let node = NODE.get_or_init(|| {
        let dir = tempfile::tempdir().ok()?;
        let settings = Settings::open(dir.path(), Registry::new()).ok()?;
        Some((dir, settings))
    });
    let (Some((_, node)), [mode, bytes @ ..]) = (node, data) else { return };
    if mode % 2 == 0 {
        let reply = block_on(node.test(bytes));
        assert_ne!(reply.outcome, Outcome::Done, "nobody sealed this");
        return;
    }
    let (sender, Ok(receiver)) = (XKey::new(), XKey::from_public_key(&node.public_key())) else { return };
    let Ok(box_) = sender.seal(bytes, &receiver) else { return };
    let mut sealed = sender.public_key().into_bytes();
    sealed.extend(box_);
    let _ = block_on(node.test(&sealed));
    if let Ok(settings) = decode::<NodeSettings>(bytes, None)
        && let Ok(written) = encode(&settings)
    {
        assert_eq!(decode::<NodeSettings>(&written, None).ok(), Some(settings), "settings come back as they were");
    }
    if let Some(last) = sealed.last_mut() {
        *last ^= 1;
    }
    assert_ne!(block_on(node.test(&sealed)).outcome, Outcome::Done, "a broken seal is noticed");
}

/// A node's configuration: everything that is wrong is told, nothing is guessed.
pub fn config(data: &[u8]) {
    static DIR: OnceLock<Option<tempfile::TempDir>> = OnceLock::new();
    let Some(dir) = DIR.get_or_init(|| tempfile::tempdir().ok()) else { return };
    let path = dir.path().join("node.toml");
    if std::fs::write(&path, data).is_err() {
        return;
    }
    match Config::load(&[path], &BTreeMap::new()) {
        Ok(_) => {}
        Err(error) => assert!(!error.0.is_empty(), "an error says what is wrong"),
    }
}
