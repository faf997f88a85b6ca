//! Passwords: hashing, checking, and what is accepted as one.

use argon2::Argon2;
use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use tokio::sync::Semaphore;

use super::AuthnError;

/// Passwords hashed at the same time: each takes 19 MiB and a core.
const HASHES_AT_ONCE: usize = 2;
/// Shortest password that is accepted.
const PASSWORD_MIN: usize = 8;
/// Longest password that is looked at, in bytes.
const PASSWORD_MAX: usize = 1_024;

/// Checks passwords, a few at a time.
pub(super) struct Passwords {
    hashing: Semaphore,
    /// Checked against where there is none.
    decoy: String,
}

impl Passwords {
    pub(super) fn new() -> Result<Self, AuthnError> {
        Ok(Self { hashing: Semaphore::new(HASHES_AT_ONCE), decoy: hash(b"nobody has this password")? })
    }

    /// Whether it is the password of that hash; without a hash it takes the same time. `may` is asked when its turn
    /// has come.
    pub(super) async fn verify(
        &self,
        password: &str,
        against: Option<&str>,
        may: impl FnOnce() -> Result<(), AuthnError> + Send,
    ) -> Result<bool, AuthnError> {
        let password = if password.len() > PASSWORD_MAX { String::new() } else { password.to_owned() };
        let against = against.filter(|hash| !hash.is_empty());
        let (known, hash) = (against.is_some(), against.unwrap_or(&self.decoy).to_owned());
        let Ok(_turn) = self.hashing.acquire().await else { return Ok(false) };
        may()?;
        let check = move || {
            let parsed = PasswordHash::new(&hash);
            parsed.is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
        };
        Ok(tokio::task::spawn_blocking(check).await.unwrap_or(false) && known)
    }

    /// The hash of a new password.
    pub(super) async fn take(&self, password: &str) -> Result<String, AuthnError> {
        if password.chars().count() < PASSWORD_MIN || password.len() > PASSWORD_MAX {
            let text = format!("a password has at least {PASSWORD_MIN} characters and at most {PASSWORD_MAX} bytes");
            return Err(AuthnError::Invalid(text));
        }
        let password = password.as_bytes().to_vec();
        let Ok(_turn) = self.hashing.acquire().await else { return Err(AuthnError::Hash("the hub is ending".into())) };
        tokio::task::spawn_blocking(move || hash(&password)).await.map_err(|e| AuthnError::Hash(e.to_string()))?
    }
}

fn hash(password: &[u8]) -> Result<String, AuthnError> {
    let salt = SaltString::generate(&mut OsRng);
    // Argon2id v19, 19 MiB, 2 passes, 1 lane: the defaults of argon2 0.5, which are OWASP's.
    let hashed = Argon2::default().hash_password(password, &salt);
    hashed.map(|h| h.to_string()).map_err(|e| AuthnError::Hash(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_hashes_are_kept_and_who_has_none_has_no_password() {
        let passwords = Passwords::new().unwrap();
        let hashed = passwords.take("correct horse").await.unwrap();
        assert!(hashed.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hashed}");
        assert!(passwords.verify("correct horse", Some(&hashed), || Ok(())).await.unwrap());
        assert!(!passwords.verify("correct", Some(&hashed), || Ok(())).await.unwrap());
        for none in [None, Some("")] {
            assert!(!passwords.verify("nobody has this password", none, || Ok(())).await.unwrap());
        }
        for bad in ["short", &"x".repeat(PASSWORD_MAX + 1)] {
            assert!(matches!(passwords.take(bad).await, Err(AuthnError::Invalid(_))));
        }
    }
}
