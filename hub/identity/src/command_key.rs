//! The key that signs commands. Nodes obey nobody else.

use std::path::{Path, PathBuf};

use bus_schema::{Checkpoint, CheckpointLine, KeySuccession, Subject, Timestamp, signed_bytes};
use data_encoding::BASE64URL_NOPAD;
use nkeys::{KeyPair, KeyPairType};

use crate::error::IdentityError;
use crate::files;

/// The hub's command signing key (nkey of type Service, `V…`).
#[derive(Clone)]
pub struct CommandKey(KeyPair);

impl std::fmt::Debug for CommandKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CommandKey({})", self.public_key())
    }
}

impl CommandKey {
    pub(crate) fn generate() -> Self {
        Self(KeyPair::new(KeyPairType::Service))
    }

    pub(crate) fn pair(&self) -> &KeyPair {
        &self.0
    }

    /// Reads the key from its file.
    ///
    /// # Errors
    /// [`IdentityError::Io`]; [`IdentityError::Missing`]; [`IdentityError::Damaged`] if it holds no seed of type
    /// Service.
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        let text = files::read(path)?.ok_or_else(|| IdentityError::Missing { path: path.to_owned() })?;
        let pair = crate::identity::pair_from_seed(text.trim(), path)?;
        if pair.key_pair_type() != KeyPairType::Service {
            let problem = "not the seed of a command key (nkey of type Service, SV…)".into();
            return Err(IdentityError::Damaged { path: path.to_owned(), problem });
        }
        Ok(Self(pair))
    }

    /// The public half, `V…`: goes into the header of each command and into the configuration of each node.
    pub fn public_key(&self) -> String {
        self.0.public_key()
    }

    /// The statement of this key that another one takes its place.
    ///
    /// # Errors
    /// [`IdentityError::Sign`], which a key with its seed does not give.
    pub fn succession(&self, new: &str, at: Timestamp, until: Timestamp) -> Result<KeySuccession, IdentityError> {
        let mut made = KeySuccession { old: self.public_key(), new: new.into(), at, until, signature: String::new() };
        let signature = self.0.sign(&made.signed_bytes());
        let signature = signature.map_err(|e| IdentityError::Sign { what: "succession of keys", source: e.into() })?;
        made.signature = BASE64URL_NOPAD.encode(&signature);
        Ok(made)
    }

    /// Signs a command for the subject it is sent to: the value of the header `Mosaic-Signature`.
    ///
    /// # Errors
    /// [`IdentityError::Sign`], which a key with its seed does not give.
    pub fn sign(&self, subject: &Subject, payload: &[u8]) -> Result<String, IdentityError> {
        let signature = self
            .0
            .sign(&signed_bytes(subject, payload))
            .map_err(|e| IdentityError::Sign { what: "command", source: e.into() })?;
        Ok(BASE64URL_NOPAD.encode(&signature))
    }
}

/// The statements of keys that came before, in the file beside the key: `command.nk` has `command.chain`.
///
/// # Errors
/// [`IdentityError::Io`]; [`IdentityError::Damaged`] if there is something else in it.
pub fn command_chain(key_path: &Path) -> Result<Vec<KeySuccession>, IdentityError> {
    let path = chain_path(key_path);
    let text = files::read(&path)?.unwrap_or_default();
    let damaged =
        |e: bus_schema::SuccessionError| IdentityError::Damaged { path: path.clone(), problem: e.to_string() };
    text.lines().map(|line| line.parse().map_err(damaged)).collect()
}

pub(crate) fn append_chain(key_path: &Path, statement: &KeySuccession) -> Result<(), IdentityError> {
    let chain = command_chain(key_path)?;
    let text: String = chain.iter().chain([statement]).map(|statement| format!("{statement}\n")).collect();
    files::write_private(&chain_path(key_path), text.as_bytes())
}

fn chain_path(key_path: &Path) -> PathBuf {
    key_path.with_extension("chain")
}

impl CommandKey {
    /// Signs a checkpoint of the audit log. Its domain is another than that of commands: neither can stand for the
    /// other.
    ///
    /// # Errors
    /// [`IdentityError::Sign`], which a key with its seed does not give.
    pub fn sign_checkpoint(&self, mut checkpoint: Checkpoint) -> Result<CheckpointLine, IdentityError> {
        checkpoint.key = self.public_key();
        CheckpointLine::signed(checkpoint, |bytes| {
            let signature = self.0.sign(bytes);
            let signature = signature.map_err(|e| IdentityError::Sign { what: "checkpoint", source: e.into() })?;
            Ok(BASE64URL_NOPAD.encode(&signature))
        })
    }
}

/// Whether a checkpoint was signed with the key that it names. Whether that key is to be trusted is another question.
pub fn is_signed_by_its_key(line: &CheckpointLine) -> bool {
    let said = &line.checkpoint;
    let Ok(signature) = BASE64URL_NOPAD.decode(said.signature.as_bytes()) else { return false };
    let key = KeyPair::from_public_key(&said.key).ok().filter(|key| key.key_pair_type() == KeyPairType::Service);
    key.is_some_and(|key| key.verify(&line.signed_bytes(), &signature).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_subject_and_payload_only() {
        let key = CommandKey::generate();
        let subject: Subject = "mosaic.v1.w.n1.command".parse().unwrap();
        let other: Subject = "mosaic.v1.w.n2.command".parse().unwrap();
        let signature = key.sign(&subject, b"payload").unwrap();
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap();
        let public = KeyPair::from_public_key(&key.public_key()).unwrap();
        public.verify(&signed_bytes(&subject, b"payload"), &signature).unwrap();
        assert!(public.verify(&signed_bytes(&other, b"payload"), &signature).is_err());
        assert!(public.verify(&signed_bytes(&subject, b"payloaD"), &signature).is_err());
        assert!(key.public_key().starts_with('V'));
    }
}
