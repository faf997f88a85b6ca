//! Which keys' commands are obeyed: those of the configuration, and those that took the place of one of them.
//!
//! ```text
//! [trust] command_keys ─┬─► obeyed
//!  statements of old ───┘      a key that named another one: only until its statement says
//! ```
//!
//! Laws:
//! 1. A key is learned by a statement ([`KeySuccession`]) of a key that is obeyed now, as far as this node knows; so a
//!    node that was away while a key was changed still learns the new one.
//! 2. The first statement of a key counts. Another one of the same key is refused: a stolen old key appoints nobody.
//! 3. What was learned is on disk (`trusted-keys`) before it counts.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bus_schema::{KeySuccession, Timestamp};
use nkeys::{KeyPair, KeyPairType};

/// Longest time for which two keys count.
const MAX_OVERLAP_MS: u64 = 400 * 24 * 3_600_000;

/// Which keys' commands are obeyed.
pub struct Trust {
    path: PathBuf,
    roots: Vec<String>,
    learned: Mutex<Vec<KeySuccession>>,
}

/// A statement is not believed.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// It is none.
    #[error("the chain of keys cannot be read: {0}")]
    Form(#[from] bus_schema::SuccessionError),
    /// It is not proven, or contradicts what was learned before.
    #[error("the chain of keys is not believed: {0}")]
    Unproven(&'static str),
    /// The disk.
    #[error("what was learned of keys cannot be kept")]
    Disk(#[from] std::io::Error),
}

impl Trust {
    /// Trust in `roots`, and in what was learned before and is kept at `path`. What cannot be read there is left out,
    /// and said so: the next command tells it again.
    ///
    /// # Errors
    /// If the file is there and cannot be read.
    pub fn open(path: &Path, roots: &[String]) -> std::io::Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            read => read?,
        };
        let mut learned = vec![];
        for line in text.lines() {
            match line.parse::<KeySuccession>() {
                Ok(statement) if is_signed(&statement) => learned.push(statement),
                Ok(_) | Err(_) => tracing::error!(path = %path.display(), "a line of the trusted keys is damaged"),
            }
        }
        Ok(Self { path: path.to_owned(), roots: roots.to_vec(), learned: Mutex::new(learned) })
    }

    fn learned(&self) -> MutexGuard<'_, Vec<KeySuccession>> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys that count now.
    pub fn keys(&self, now: Timestamp) -> Vec<String> {
        keys(&self.roots, &self.learned(), now)
    }

    /// A key to check signatures with, if it counts now.
    pub fn key(&self, public: &str, now: Timestamp) -> Option<KeyPair> {
        if !self.keys(now).iter().any(|key| key == public) {
            return None;
        }
        KeyPair::from_public_key(public).ok()
    }

    /// Takes in a chain of statements; true if something was learned.
    ///
    /// # Errors
    /// [`TrustError`]: nothing was learned.
    pub fn learn(&self, chain: &str, now: Timestamp) -> Result<bool, TrustError> {
        let chain = KeySuccession::parse_chain(chain)?;
        let mut learned = self.learned();
        let mut known = learned.clone();
        for statement in chain {
            if known.contains(&statement) {
                continue;
            }
            if !keys(&self.roots, &known, now).contains(&statement.old) {
                // It may be about keys before those that we were given.
                continue;
            }
            if known.iter().any(|other| other.old == statement.old) {
                return Err(TrustError::Unproven("the key has named another one before"));
            }
            check(&statement, now)?;
            known.push(statement);
        }
        if known.len() == learned.len() {
            return Ok(false);
        }
        let text: String = known.iter().map(|statement| format!("{statement}\n")).collect();
        let new = self.path.with_extension("new");
        std::fs::write(&new, text)?;
        std::fs::File::open(&new)?.sync_all()?;
        std::fs::rename(&new, &self.path)?;
        *learned = known;
        Ok(true)
    }
}

/// The keys that count, by roots and statements.
fn keys(roots: &[String], learned: &[KeySuccession], now: Timestamp) -> Vec<String> {
    let mut all: Vec<&str> = roots.iter().map(String::as_str).collect();
    let mut at = 0;
    while let Some(key) = all.get(at).copied() {
        at += 1;
        let next = learned.iter().filter(|s| s.old == key && !all.contains(&s.new.as_str())).map(|s| s.new.as_str());
        let next: Vec<_> = next.collect();
        all.extend(next);
    }
    let is_over = |key: &str| learned.iter().any(|s| s.old == key && now > s.until);
    all.retain(|key| !is_over(key));
    all.into_iter().map(str::to_owned).collect()
}

fn check(statement: &KeySuccession, now: Timestamp) -> Result<(), TrustError> {
    let KeySuccession { new, at, until, .. } = statement;
    let is_service =
        |key: &str| KeyPair::from_public_key(key).is_ok_and(|key| matches!(key.key_pair_type(), KeyPairType::Service));
    if !is_service(new) {
        return Err(TrustError::Unproven("what it names is no command key"));
    }
    if until < at || until.millis_since(*at) > MAX_OVERLAP_MS {
        return Err(TrustError::Unproven("its times make no sense"));
    }
    if *at > now.plus_millis(super::verify::CLOCK_SKEW_MS) {
        return Err(TrustError::Unproven("it comes from the future: the clocks differ too much"));
    }
    if !is_signed(statement) {
        return Err(TrustError::Unproven("its signature is wrong"));
    }
    Ok(())
}

fn is_signed(statement: &KeySuccession) -> bool {
    let signature = URL_SAFE_NO_PAD.decode(&statement.signature);
    let key = KeyPair::from_public_key(&statement.old);
    matches!((signature, key), (Ok(signature), Ok(key)) if key.verify(&statement.signed_bytes(), &signature).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(NOW + ms)
    }

    fn statement(old: &KeyPair, new: &KeyPair) -> KeySuccession {
        let (old_key, new_key) = (old.public_key(), new.public_key());
        let signature = String::new();
        let mut made = KeySuccession { old: old_key, new: new_key, at: at(0), until: at(1_000), signature };
        made.signature = URL_SAFE_NO_PAD.encode(old.sign(&made.signed_bytes()).unwrap());
        made
    }

    struct Case {
        folder: tempfile::TempDir,
        keys: [KeyPair; 4],
    }

    impl Case {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap(), keys: std::array::from_fn(|_| KeyPair::new_service()) }
        }

        fn trust(&self) -> Trust {
            Trust::open(&self.folder.path().join("trusted-keys"), &[self.keys[0].public_key()]).unwrap()
        }

        fn counts(&self, trust: &Trust, now: i64) -> Vec<usize> {
            (0..4).filter(|n| trust.key(&self.keys[*n].public_key(), at(now)).is_some()).collect()
        }
    }

    #[test]
    fn both_keys_count_for_a_time_and_then_the_new_one() {
        let case = Case::new();
        let [a, b, ..] = &case.keys;
        let trust = case.trust();
        assert_eq!(case.counts(&trust, 0), [0]);
        let chain = statement(a, b).to_string();
        assert!(trust.learn(&chain, at(10)).unwrap());
        assert!(!trust.learn(&chain, at(10)).unwrap(), "it is known");
        assert_eq!(case.counts(&trust, 1_000), [0, 1]);
        assert_eq!(case.counts(&trust, 1_001), [1]);
        assert_eq!(case.counts(&case.trust(), 1_001), [1], "also after a restart");
    }

    #[test]
    fn a_node_that_was_away_for_two_changes_learns_both() {
        let case = Case::new();
        let [a, b, c, _] = &case.keys;
        let chain = KeySuccession::chain_text(&[statement(a, b), statement(b, c)]);
        let trust = case.trust();
        assert!(trust.learn(&chain, at(900)).unwrap());
        assert_eq!(case.counts(&trust, 900), [0, 1, 2]);
        // One that joined between them skips what it does not know.
        let later = Trust::open(&case.folder.path().join("other"), &[b.public_key()]).unwrap();
        assert!(later.learn(&chain, at(900)).unwrap());
        assert_eq!(case.counts(&later, 2_000), [2]);
    }

    #[test]
    fn a_node_that_comes_back_after_the_overlap_learns_the_new_key_too() {
        let case = Case::new();
        let [a, b, ..] = &case.keys;
        let trust = case.trust();
        assert!(trust.learn(&statement(a, b).to_string(), at(50_000_000)).unwrap());
        assert_eq!(case.counts(&trust, 50_000_000), [1]);
    }

    #[test]
    fn nobody_else_appoints_a_key() {
        let case = Case::new();
        let [a, b, c, stranger] = &case.keys;
        let trust = case.trust();
        let forged = KeySuccession { signature: statement(stranger, c).signature, ..statement(a, c) };
        assert!(trust.learn(&forged.to_string(), at(0)).is_err());
        let longer = KeySuccession { until: at(2_000), ..statement(a, c) };
        assert!(trust.learn(&longer.to_string(), at(0)).is_err(), "the times are signed");
        assert!(!trust.learn(&statement(stranger, c).to_string(), at(0)).unwrap());
        assert!(trust.learn(&statement(a, b).to_string(), at(-60_000)).is_err(), "from the future");
        assert!(trust.learn("nonsense", at(0)).is_err());
        assert_eq!(case.counts(&trust, 0), [0]);
        // The old key, stolen: it has spoken already.
        trust.learn(&statement(a, b).to_string(), at(0)).unwrap();
        assert!(trust.learn(&statement(a, stranger).to_string(), at(0)).is_err());
        assert!(!trust.learn(&statement(a, stranger).to_string(), at(5_000)).unwrap());
        assert_eq!(case.counts(&trust, 500), [0, 1]);
    }

    #[test]
    fn a_damaged_line_is_not_believed() {
        let case = Case::new();
        let [a, b, ..] = &case.keys;
        case.trust().learn(&statement(a, b).to_string(), at(0)).unwrap();
        let path = case.folder.path().join("trusted-keys");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{}\n{text}", text.trim().replace("v1.", "v1.V"))).unwrap();
        assert_eq!(case.counts(&case.trust(), 500), [0, 1]);
    }
}
