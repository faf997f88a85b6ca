//! What operators set up for this node's runtimes from afar: opened here, kept here, given to the providers.
//!
//! ```text
//! hub ── configure (sealed for this node) ──► open ─► keep on disk, still sealed ─► providers
//! ```
//!
//! Laws:
//! 1. On disk settings are what came over the bus: sealed. The key that opens them is a file of its own, readable by
//!    nobody else, and never leaves the node.
//! 2. An older number changes nothing. What was taken over holds until something newer comes, also without any hub.
//! 3. No token is in a log, an error or an answer.
//!
//! Sealed is: the sender's public curve key as text (56 characters), then an nkeys `xkv1` box to ours.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bus_schema::{CommandReply, Connection, NodeSettings, Outcome, RefusalCode};
use nkeys::XKey;
use providers::Registry;
use serde::de::DeserializeOwned;
use tokio::sync::{Mutex, Notify};

use crate::publisher::chain;
use crate::session::ops::{refusal, refused, within};

/// Length of a public key in text (nkeys: 35 bytes in base 32).
const KEY_LEN: usize = 56;
/// How long one provider may take to take over its connections.
const CONFIGURE_WITHIN: Duration = Duration::from_secs(5);
/// How long a trial may take: shorter than what the hub waits.
const TEST_WITHIN: Duration = Duration::from_secs(10);

/// What is set up from afar.
pub struct Settings {
    key: XKey,
    kept: PathBuf,
    registry: Registry,
    rev: AtomicU64,
    /// One change at a time.
    changing: Mutex<()>,
    changed: Notify,
}

/// What is set up from afar cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file system refused.
    #[error("{doing} {path:?}")]
    Io {
        /// What we were doing.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The key file holds no key.
    #[error("{path:?} holds no curve key (nkeys seed, SX…); move it away, and the hub seals anew for the next one")]
    Key {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: nkeys::error::Error,
    },
    /// It is not sealed for this node, or damaged.
    #[error("it is not sealed for this node, or damaged")]
    Sealed,
    /// What was sealed is nothing that this version knows.
    #[error("what was sealed cannot be read")]
    Unreadable(#[from] bus_schema::DecodeError),
}

impl Settings {
    /// Opens what is kept in the data folder, and makes a key if there is none.
    ///
    /// # Errors
    /// [`SettingsError`] if the key cannot be read or made.
    pub fn open(data_dir: &Path, registry: Registry) -> Result<Arc<Self>, SettingsError> {
        let key = key(&data_dir.join("seal.key"))?;
        let kept = data_dir.join("settings.sealed");
        let (rev, changing, changed) = (AtomicU64::new(0), Mutex::default(), Notify::new());
        Ok(Arc::new(Self { key, kept, registry, rev, changing, changed }))
    }

    /// Gives the providers what is kept. What cannot be read is left as it is and said so: the hub sends again.
    pub async fn apply_kept(&self) {
        let sealed = match std::fs::read(&self.kept) {
            Ok(sealed) => sealed,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => {
                tracing::error!(%error, path = %self.kept.display(), "the settings cannot be read");
                return;
            }
        };
        match self.unseal::<NodeSettings>(&sealed) {
            Ok(settings) => self.apply(settings).await,
            Err(error) => tracing::error!(error = %chain(&error), "the settings that are kept cannot be used"),
        }
    }

    /// Our public key.
    pub fn public_key(&self) -> String {
        self.key.public_key()
    }

    /// Number of the settings that hold; 0 for none.
    pub fn rev(&self) -> u64 {
        self.rev.load(Ordering::Acquire)
    }

    /// Returns when other settings hold.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Takes settings over: on disk first, then at the providers.
    pub async fn configure(&self, sealed: &[u8]) -> CommandReply {
        let _one = self.changing.lock().await;
        let settings = match self.unseal::<NodeSettings>(sealed) {
            Ok(settings) => settings,
            Err(error) => return refusal(RefusalCode::Invalid, chain(&error)),
        };
        if settings.rev <= self.rev() {
            return CommandReply::with(None, Outcome::Done);
        }
        if let Err(error) = write(&self.kept, sealed) {
            let text = format!("the node cannot write to its disk: {}", chain(&error));
            return CommandReply { outcome: Outcome::Failed, ..refusal(RefusalCode::ProviderFailed, text) };
        }
        self.apply(settings).await;
        CommandReply::with(None, Outcome::Done)
    }

    /// Tries a connection.
    pub async fn test(&self, sealed: &[u8]) -> CommandReply {
        let connection = match self.unseal::<Connection>(sealed) {
            Ok(connection) => connection,
            Err(error) => return refusal(RefusalCode::Invalid, chain(&error)),
        };
        let Some(provider) = self.registry.get(connection.provider.as_str()) else {
            let text = format!("this node has no provider {}", connection.provider);
            return refusal(RefusalCode::Invalid, text);
        };
        match within(TEST_WITHIN, "trying the connection", provider.test(connection)).await {
            Ok(tested) => CommandReply { tested: Some(tested), ..CommandReply::with(None, Outcome::Done) },
            Err(error) => refused(&error),
        }
    }

    async fn apply(&self, settings: NodeSettings) {
        let mut by_provider: BTreeMap<_, Vec<Connection>> = BTreeMap::new();
        for connection in settings.connections {
            by_provider.entry(connection.provider.clone()).or_default().push(connection);
        }
        for (name, provider) in self.registry.all() {
            let mine = by_provider.remove(name).unwrap_or_default();
            let count = mine.len();
            match within(CONFIGURE_WITHIN, "taking over connections", provider.configure(mine)).await {
                Ok(()) => tracing::info!(provider = %name, connections = count, rev = settings.rev, "settings hold"),
                Err(error) => tracing::error!(provider = %name, error = %chain(&error), "settings are not taken"),
            }
        }
        for name in by_provider.keys() {
            tracing::warn!(provider = %name, "settings for a provider that this node does not have");
        }
        self.rev.store(settings.rev, Ordering::Release);
        self.changed.notify_one();
    }

    fn unseal<T: DeserializeOwned>(&self, sealed: &[u8]) -> Result<T, SettingsError> {
        let (sender, sealed) = sealed.split_at_checked(KEY_LEN).ok_or(SettingsError::Sealed)?;
        let sender = std::str::from_utf8(sender).map_err(|_| SettingsError::Sealed)?;
        let sender = XKey::from_public_key(sender).map_err(|_| SettingsError::Sealed)?;
        let opened = self.key.open(sealed, &sender).map_err(|_| SettingsError::Sealed)?;
        Ok(bus_schema::decode(&opened, None)?)
    }
}

fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> SettingsError {
    let path = path.to_owned();
    move |source| SettingsError::Io { doing, path, source }
}

fn key(path: &Path) -> Result<XKey, SettingsError> {
    let wrong = |source| SettingsError::Key { path: path.to_owned(), source };
    match std::fs::read_to_string(path) {
        Ok(seed) => XKey::from_seed(seed.trim()).map_err(wrong),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = XKey::new();
            write(path, key.seed().map_err(wrong)?.as_bytes())?;
            Ok(key)
        }
        Err(error) => Err(io("reading", path)(error)),
    }
}

/// Writes a file that nobody else may read, whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> Result<(), SettingsError> {
    let draft = path.with_extension("new");
    let mut options = std::fs::File::options();
    options.create(true).write(true).truncate(true).mode(0o600);
    let mut file = options.open(&draft).map_err(io("making", &draft))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io("writing", &draft))?;
    std::fs::rename(&draft, path).map_err(io("renaming", &draft))
}

#[cfg(test)]
mod tests {
    use bus_schema::{ProviderName, Secret};

    use super::*;

    fn sealed_for(settings: &Settings, what: &impl serde::Serialize) -> Vec<u8> {
        let (sender, to) = (XKey::new(), XKey::from_public_key(&settings.public_key()).unwrap());
        let boxed = sender.seal(&bus_schema::encode(what).unwrap(), &to).unwrap();
        [sender.public_key().as_bytes(), &boxed].concat()
    }

    fn some(rev: u64) -> NodeSettings {
        let connection = Connection {
            id: "c1".into(),
            name: "office".into(),
            provider: ProviderName::new("openclaw").unwrap(),
            url: "ws://127.0.0.1:1/".into(),
            token: Secret::new("s3cr3t"),
            is_active: true,
        };
        NodeSettings { rev, connections: vec![connection] }
    }

    #[tokio::test]
    async fn settings_hold_over_a_restart_and_lie_on_disk_sealed() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::open(folder.path(), Registry::new()).unwrap();
        assert_eq!(settings.configure(&sealed_for(&settings, &some(3))).await.outcome, Outcome::Done);
        assert_eq!(settings.configure(&sealed_for(&settings, &some(2))).await.outcome, Outcome::Done);
        assert_eq!(settings.rev(), 3, "an older number changes nothing");
        for name in ["settings.sealed", "seal.key"] {
            let bytes = std::fs::read(folder.path().join(name)).unwrap();
            assert!(!bytes.windows(6).any(|w| w == b"s3cr3t"), "{name}");
            let mode = std::os::unix::fs::PermissionsExt::mode(
                &std::fs::metadata(folder.path().join(name)).unwrap().permissions(),
            );
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let again = Settings::open(folder.path(), Registry::new()).unwrap();
        assert_eq!((again.public_key(), again.rev()), (settings.public_key(), 0));
        again.apply_kept().await;
        assert_eq!(again.rev(), 3);
    }

    #[tokio::test]
    async fn what_is_sealed_for_somebody_else_is_refused() {
        let (mine, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let settings = Settings::open(mine.path(), Registry::new()).unwrap();
        let other = Settings::open(theirs.path(), Registry::new()).unwrap();
        for wrong in [sealed_for(&other, &some(1)), b"short".to_vec(), vec![0xff; 200]] {
            let reply = settings.configure(&wrong).await;
            assert_eq!(reply.refusal.unwrap().code, RefusalCode::Invalid);
        }
        assert_eq!(settings.rev(), 0);
    }

    #[test]
    fn a_key_that_is_none_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("seal.key"), "nonsense").unwrap();
        let opened = Settings::open(folder.path(), Registry::new());
        assert!(matches!(opened, Err(SettingsError::Key { .. })));
        assert_eq!(std::fs::read(folder.path().join("seal.key")).unwrap(), b"nonsense");
    }
}
