//! Who we are to a gateway: an ed25519 key of the node's own, made once and kept in a file that nobody else can read.
//!
//! Why always signed: releases of spring 2026 take the scopes away from a connection without a device, newer ones
//! contest the exception for loopback (measured on 2026.3.13, 2026.4.15 and 2026.9.6).

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256};

/// The key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file system refused.
    #[error("{doing} {path:?}")]
    Io {
        /// What we were doing.
        doing: &'static str,
        /// With which file.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It is no key.
    #[error("{path:?} holds no device key (32 bytes in base64); move it away and a new one is made")]
    NotAKey {
        /// Which file.
        path: std::path::PathBuf,
    },
    /// The system gives no random bytes.
    #[error("making a device key")]
    Random(#[source] std::io::Error),
}

/// The node's key.
pub(super) struct DeviceKey {
    key: SigningKey,
}

/// What is signed at a handshake: the parts of the `v2` text, which every release so far understands.
pub(super) struct Signed<'a> {
    pub client_id: &'a str,
    pub client_mode: &'a str,
    pub role: &'a str,
    pub scopes: &'a [&'a str],
    pub signed_at_ms: i64,
    pub token: &'a str,
    pub nonce: &'a str,
}

impl DeviceKey {
    /// Reads the key, or makes one.
    pub fn open(path: &Path) -> Result<Self, KeyError> {
        let io = |doing| {
            let path = path.to_owned();
            move |source| KeyError::Io { doing, path, source }
        };
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let bytes = URL_SAFE_NO_PAD.decode(text.trim()).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
                let bytes = bytes.ok_or_else(|| KeyError::NotAKey { path: path.to_owned() })?;
                Ok(Self { key: SigningKey::from_bytes(&bytes) })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let mut seed = [0; 32];
                let flags = rustix::rand::GetRandomFlags::empty();
                let mut at = 0;
                while let Some(rest) = seed.get_mut(at..).filter(|rest| !rest.is_empty()) {
                    at += rustix::rand::getrandom(rest, flags).map_err(|error| KeyError::Random(error.into()))?;
                }
                let fresh = path.with_extension("new");
                let mut options = std::fs::OpenOptions::new();
                options.write(true).create(true).truncate(true).mode(0o600);
                let mut file = options.open(&fresh).map_err(io("creating"))?;
                file.write_all(URL_SAFE_NO_PAD.encode(seed).as_bytes()).map_err(io("writing"))?;
                file.sync_all().map_err(io("writing"))?;
                std::fs::rename(&fresh, path).map_err(io("renaming to"))?;
                Ok(Self { key: SigningKey::from_bytes(&seed) })
            }
            Err(error) => Err(io("reading")(error)),
        }
    }

    /// The device's id: SHA-256 of the public key, in hex.
    pub fn id(&self) -> String {
        data_encoding::HEXLOWER.encode(&Sha256::digest(self.key.verifying_key().as_bytes()))
    }

    /// The public key as the handshake wants it.
    pub fn public(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.key.verifying_key().as_bytes())
    }

    /// The signature over the `v2` text.
    pub fn sign(&self, signed: &Signed<'_>) -> String {
        let Signed { client_id, client_mode, role, scopes, signed_at_ms, token, nonce } = signed;
        let (id, scopes) = (self.id(), scopes.join(","));
        let text = format!("v2|{id}|{client_id}|{client_mode}|{role}|{scopes}|{signed_at_ms}|{token}|{nonce}");
        URL_SAFE_NO_PAD.encode(self.key.sign(text.as_bytes()).to_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn is_made_once_and_readable_by_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("device.key");
        let (first, again) = (DeviceKey::open(&path).unwrap(), DeviceKey::open(&path).unwrap());
        assert_eq!((first.id(), first.public()), (again.id(), again.public()));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(first.id().len(), 64);
        std::fs::write(&path, "nonsense").unwrap();
        assert!(DeviceKey::open(&path).err().unwrap().to_string().contains("no device key"));
    }
}
