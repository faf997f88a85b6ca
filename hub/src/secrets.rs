//! What the hub keeps for others and must not be read by whoever gets hold of its database or its bus: sealed with
//! AES-256-GCM under keys that are in neither.
//!
//! Laws:
//! 1. Keys are in one file, readable by its owner only: the first seals, all of them open.
//! 2. What is sealed is bound to the place it belongs to: moved to another one it cannot be opened.
//! 3. A key that is gone makes what it sealed unreadable, and breaks nothing else.
//!
//! The file: one key a line, its id and 32 bytes in base64; lines that begin with `#` are for people. Sealed is, in
//! base64: 12 bytes of nonce (random: NIST SP 800-38D section 8.2.2), then the ciphertext with its tag.

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bus_schema::{Secret, WorkspaceId};
use hub_store::Sealed;
use rand::TryRngCore;

/// Length of a nonce in bytes.
const NONCE_LEN: usize = 12;
/// Length of a key in bytes.
const KEY_LEN: usize = 32;
/// What stands at the top of a new file.
const HEAD: &str = "# Keys of mosaic-hub for what it keeps secret: id and 256 bits. The first seals, all of them open.\n\
                    # Keep a copy apart from the database's: without its key what is sealed is lost.\n";

/// The keys, in order.
pub struct SecretKeys {
    keys: Vec<(String, Aes256Gcm)>,
}

/// Something cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// The file system refused.
    #[error("{doing} the key file {path:?}")]
    Io {
        /// What we were doing.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Everybody on the machine can read the keys.
    #[error("the key file {0:?} can be read by everybody: chmod 600 it, and rotate the key")]
    Open(PathBuf),
    /// The file is none of ours.
    #[error("line {line} of the key file {path:?} {what}; bring back the file as it was, or move it away")]
    Form {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// There is no key in it.
    #[error("the key file {0:?} has no key in it; bring back the file as it was, or move it away")]
    Empty(PathBuf),
    /// It was sealed under a key that we do not have.
    #[error("it is sealed under the key {0}, which is not in the key file")]
    NoKey(String),
    /// It was changed, or belongs to another place.
    #[error("it is damaged, or was sealed for another place")]
    Damaged,
    /// The machine gives no randomness.
    #[error("the machine gives no random numbers")]
    Random,
}

impl SecretKeys {
    /// Reads the keys, and makes a file with one if there is none.
    ///
    /// # Errors
    /// [`SecretsError`], but those of opening.
    pub fn open_or_make(path: &Path) -> Result<Self, SecretsError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let (id, line) = new_key()?;
                let text = format!("{HEAD}{line}");
                write(path, &text)?;
                tracing::warn!(path = %path.display(), key = id, "made a new key for what is kept secret; keep a copy of it");
                text
            }
            Err(error) => return Err(io("reading", path)(error)),
        };
        let mode = std::fs::metadata(path).map_err(io("looking at", path))?.permissions().mode();
        if mode & 0o007 != 0 {
            return Err(SecretsError::Open(path.to_owned()));
        }
        let keys = parse(path, &text)?;
        Ok(Self { keys })
    }

    /// Id of the key that seals.
    pub fn first(&self) -> &str {
        self.keys.first().map_or("", |(id, _)| id)
    }

    /// Seals a text for a place.
    ///
    /// # Errors
    /// [`SecretsError::Random`].
    pub fn seal(&self, place: &Place<'_>, text: &Secret) -> Result<Sealed, SecretsError> {
        let (id, cipher) = self.keys.first().ok_or(SecretsError::Random)?;
        let nonce = random::<NONCE_LEN>()?;
        let payload = Payload { msg: text.expose().as_bytes(), aad: &place.bytes() };
        let sealed = cipher.encrypt(Nonce::from_slice(&nonce), payload).map_err(|_| SecretsError::Damaged)?;
        Ok(Sealed { key: id.clone(), text: STANDARD.encode([nonce.as_slice(), &sealed].concat()) })
    }

    /// Opens what was sealed for a place.
    ///
    /// # Errors
    /// [`SecretsError::NoKey`], [`SecretsError::Damaged`].
    pub fn open(&self, place: &Place<'_>, sealed: &Sealed) -> Result<Secret, SecretsError> {
        let found = self.keys.iter().find(|(id, _)| *id == sealed.key);
        let (_, cipher) = found.ok_or_else(|| SecretsError::NoKey(sealed.key.chars().take(80).collect()))?;
        let bytes = STANDARD.decode(&sealed.text).map_err(|_| SecretsError::Damaged)?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN).ok_or(SecretsError::Damaged)?;
        let payload = Payload { msg: sealed, aad: &place.bytes() };
        let text = cipher.decrypt(Nonce::from_slice(nonce), payload).map_err(|_| SecretsError::Damaged)?;
        String::from_utf8(text).map(Secret::new).map_err(|_| SecretsError::Damaged)
    }
}

/// Where a sealed text belongs.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// In which workspace.
    pub workspace: &'a WorkspaceId,
    /// To which record.
    pub record: &'a str,
}

impl Place<'_> {
    /// Neither part can hold a line's end, so no two places are the same bytes.
    fn bytes(&self) -> Vec<u8> {
        format!("mosaic-agent-provider\n{}\n{}", self.workspace, self.record).into_bytes()
    }
}

/// Puts a new key before the others, which stay to open what they sealed: the hub seals anew under it at its next
/// start. Returns its id.
///
/// # Errors
/// [`SecretsError`].
pub fn rotate(path: &Path) -> Result<String, SecretsError> {
    let old = std::fs::read_to_string(path).map_err(io("reading", path))?;
    parse(path, &old)?;
    let (id, line) = new_key()?;
    let kept: String = old.lines().filter(|l| is_key(l)).map(|l| format!("{l}\n")).collect();
    write(path, &format!("{HEAD}{line}{kept}"))?;
    Ok(id)
}

fn is_key(line: &str) -> bool {
    !line.trim().is_empty() && !line.starts_with('#')
}

fn parse(path: &Path, text: &str) -> Result<Vec<(String, Aes256Gcm)>, SecretsError> {
    let mut keys: Vec<(String, Aes256Gcm)> = vec![];
    for (line, content) in (1..).zip(text.lines()).filter(|(_, l)| is_key(l)) {
        let wrong = |what| SecretsError::Form { path: path.to_owned(), line, what };
        let mut words = content.split_whitespace();
        let (Some(id), Some(key), None) = (words.next(), words.next(), words.next()) else {
            return Err(wrong("is not an id and a key"));
        };
        let key = STANDARD.decode(key).map_err(|_| wrong("has a key that is not base64"))?;
        let cipher = Aes256Gcm::new_from_slice(&key).map_err(|_| wrong("has a key that is not 32 bytes long"))?;
        if keys.iter().any(|(known, _)| known == id) {
            return Err(wrong("has the id of a line before"));
        }
        keys.push((id.to_owned(), cipher));
    }
    if keys.is_empty() { Err(SecretsError::Empty(path.to_owned())) } else { Ok(keys) }
}

fn new_key() -> Result<(String, String), SecretsError> {
    let id = random::<4>()?.iter().fold("k-".to_owned(), |id, byte| id + &format!("{byte:02x}"));
    let line = format!("{id} {}\n", STANDARD.encode(random::<KEY_LEN>()?));
    Ok((id, line))
}

fn random<const N: usize>() -> Result<[u8; N], SecretsError> {
    let mut bytes = [0; N];
    rand::rngs::OsRng.try_fill_bytes(&mut bytes).map_err(|_| SecretsError::Random)?;
    Ok(bytes)
}

fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> SecretsError {
    let path = path.to_owned();
    move |source| SecretsError::Io { doing, path, source }
}

/// Writes the file, readable by its owner only, whole or not at all.
fn write(path: &Path, text: &str) -> Result<(), SecretsError> {
    let draft = path.with_extension("key.new");
    // One that was left there may be readable by others, and there may be none.
    drop(std::fs::remove_file(&draft));
    let file = std::fs::File::options().create_new(true).write(true).mode(0o600).open(&draft);
    let mut file = file.map_err(io("making", &draft))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io("writing", &draft))?;
    std::fs::rename(&draft, path).map_err(io("renaming", &draft))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.key");
        (folder, path)
    }

    fn workspace(name: &str) -> WorkspaceId {
        WorkspaceId::new(name).unwrap()
    }

    #[test]
    fn what_is_sealed_is_opened_in_its_place_only() {
        let (_folder, path) = file();
        let keys = SecretKeys::open_or_make(&path).unwrap();
        let (mine, theirs) = (workspace("default"), workspace("other"));
        let place = Place { workspace: &mine, record: "a" };
        let secret = Secret::new("tök3n");
        let sealed = keys.seal(&place, &secret).unwrap();
        assert_eq!(keys.open(&place, &sealed).unwrap(), secret);
        assert_ne!(keys.seal(&place, &secret).unwrap().text, sealed.text, "no nonce twice");
        for other in [Place { workspace: &theirs, record: "a" }, Place { workspace: &mine, record: "b" }] {
            assert!(matches!(keys.open(&other, &sealed), Err(SecretsError::Damaged)), "{other:?}");
        }
        for cut in ["", "AAAA", &sealed.text[4..], "not base64"] {
            let damaged = Sealed { text: cut.into(), ..sealed.clone() };
            assert!(matches!(keys.open(&place, &damaged), Err(SecretsError::Damaged)), "{cut}");
        }
    }

    #[test]
    fn a_new_key_seals_and_the_old_one_still_opens() {
        let (_folder, path) = file();
        let mine = workspace("default");
        let place = Place { workspace: &mine, record: "a" };
        let keys = SecretKeys::open_or_make(&path).unwrap();
        let old = keys.seal(&place, &Secret::new("x")).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let id = rotate(&path).unwrap();
        let rotated = SecretKeys::open_or_make(&path).unwrap();
        assert_eq!(rotated.first(), id);
        assert_eq!(rotated.open(&place, &old).unwrap().expose(), "x");
        let new = rotated.seal(&place, &Secret::new("y")).unwrap();
        assert_eq!(new.key, id);
        assert!(matches!(keys.open(&place, &new), Err(SecretsError::NoKey(named)) if named == id));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_cannot_be_used_is_left_alone_and_its_line_named() {
        let (_folder, path) = file();
        let key = STANDARD.encode([7; 32]);
        for (text, told) in [
            (String::new(), "no key"),
            ("# only words\n".into(), "no key"),
            ("k1\n".into(), "line 1"),
            (format!("k1 {key}\nk2 AAAA\n"), "line 2"),
            (format!("k1 {key}\n\nk1 {key}\n"), "line 3"),
            ("k1 ???\n".into(), "base64"),
        ] {
            write(&path, &text).unwrap();
            let error = SecretKeys::open_or_make(&path).err().unwrap().to_string();
            assert!(error.contains(told) && !error.contains(&key), "{error}");
            assert!(rotate(&path).is_err());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        write(&path, &format!("k1 {key}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        assert!(matches!(SecretKeys::open_or_make(&path), Err(SecretsError::Open(_))));
    }
}
