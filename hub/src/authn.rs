//! Who you are: passwords, sign-ins, cookies.
//!
//! Laws:
//! 1. Passwords are kept as Argon2id hashes; of a cookie's value only its SHA-256 is kept.
//! 2. An unknown email and a wrong password cannot be told apart, neither by the answer nor by the time it takes.
//! 3. A sign-out is on the bus before it is answered: a replay cannot bring the sign-in back.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use argon2::Argon2;
use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bus_schema::{Actor, Operator, Secret, UserId, WorkspaceId};
use hub_store::{Membership, RecordBody, SignIn, Store, StoreError, User};
use rand::TryRngCore;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use ulid::Ulid;

use crate::clock;
use crate::journal::{Journal, JournalError};
use crate::policy::Role;

/// Name of the cookie.
pub const COOKIE: &str = "mosaic_session";
/// How long a sign-in lasts.
const SIGN_IN_MS: i64 = 14 * 24 * 3600 * 1000;
/// How long a checked cookie is believed without looking again, unless a record changes.
const CACHE_FOR: Duration = Duration::from_secs(10);
/// Checked cookies remembered.
const CACHE_MAX: usize = 1_000;
/// Passwords hashed at the same time: each takes 19 MiB and a core.
const HASHES_AT_ONCE: usize = 2;
/// Shortest password that is accepted for a new person.
const PASSWORD_MIN: usize = 8;
/// Longest password that is looked at.
const PASSWORD_MAX: usize = 1_024;

/// Somebody who is signed in, in a workspace.
#[derive(Clone, Debug, PartialEq)]
pub struct Principal {
    /// Who.
    pub user: UserId,
    /// Their name.
    pub name: String,
    /// Their email.
    pub email: String,
    /// Where.
    pub workspace: WorkspaceId,
    /// As what.
    pub role: Role,
    /// Every workspace they belong to, with the role there.
    pub memberships: Vec<Membership>,
}

impl Principal {
    /// As commands and messages name them.
    pub fn operator(&self) -> Operator {
        Operator { id: self.user.clone(), name: self.name.clone() }
    }

    /// As the audit log names them.
    pub fn actor(&self) -> Actor {
        Actor {
            id: Some(self.user.clone()),
            name: self.name.clone(),
            email: Some(self.email.clone()),
            role: Some(self.role.as_str().to_owned()),
        }
    }
}

/// A sign-in that worked.
pub struct SignedIn {
    /// The value for the cookie.
    pub token: Secret,
    /// How long it lasts, in seconds.
    pub max_age_s: i64,
    /// Who it is.
    pub principal: Principal,
}

/// Somebody could not be signed in, or not be recognised.
#[derive(Debug, thiserror::Error)]
pub enum AuthnError {
    /// Email or password is wrong.
    #[error("email or password is wrong")]
    Wrong,
    /// They have no role in this workspace.
    #[error("{0} has no role in this workspace")]
    NoRole(String),
    /// A person cannot be made.
    #[error("{0}")]
    Invalid(String),
    /// Hashing failed.
    #[error("the password cannot be hashed: {0}")]
    Hash(String),
    /// The operating system gave no random numbers.
    #[error("no random numbers")]
    Random,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// A person to make if they are not there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bootstrap {
    email: String,
    name: Option<String>,
    password: String,
    role: String,
}

/// Signs people in and recognises them.
pub struct Authn {
    store: Store,
    journal: Arc<Journal>,
    workspace: WorkspaceId,
    hashing: Semaphore,
    cache: Mutex<Cache>,
    /// Checked against when there is no such email.
    decoy: String,
}

#[derive(Default)]
struct Cache {
    generation: u64,
    known: HashMap<String, (Instant, Principal)>,
}

impl Authn {
    /// For one workspace.
    ///
    /// # Errors
    /// [`AuthnError::Hash`].
    pub fn new(store: Store, journal: Arc<Journal>, workspace: WorkspaceId) -> Result<Self, AuthnError> {
        let decoy = hash(b"nobody has this password")?;
        let hashing = Semaphore::new(HASHES_AT_ONCE);
        Ok(Self { store, journal, workspace, hashing, cache: Mutex::default(), decoy })
    }

    /// Checks email and password and makes a sign-in.
    ///
    /// # Errors
    /// [`AuthnError::Wrong`] for either; the others if something is away.
    pub async fn sign_in(&self, email: &str, password: &str) -> Result<SignedIn, AuthnError> {
        let email = normal(email);
        let found = self.store.user_by_email(&email).await?;
        let against = found.as_ref().map_or_else(|| self.decoy.clone(), |(user, _)| user.password.clone());
        let right = self.verify(password.to_owned(), against).await;
        let user = match found {
            Some((user, _)) if right => user,
            _ => return Err(AuthnError::Wrong),
        };
        let principal = self.principal(user).await?;
        let mut bytes = [0; 32];
        rand::rngs::OsRng.try_fill_bytes(&mut bytes).map_err(|_| AuthnError::Random)?;
        let token = URL_SAFE_NO_PAD.encode(bytes);
        let now = clock::now();
        let sign_in = SignIn {
            token_hash: token_hash(&token),
            user: principal.user.clone(),
            created: now,
            expires: now.plus_millis(SIGN_IN_MS),
        };
        self.journal.put(RecordBody::SignIn(sign_in), false).await?;
        Ok(SignedIn { token: Secret::new(token), max_age_s: SIGN_IN_MS / 1000, principal })
    }

    /// Who has this cookie; none if nobody, or not any more.
    ///
    /// # Errors
    /// [`AuthnError`] if something is away.
    pub async fn recognise(&self, token: &str) -> Result<Option<Principal>, AuthnError> {
        let token_hash = token_hash(token);
        let generation = self.journal.generation();
        if let Some(known) = self.cached(&token_hash, generation) {
            return Ok(Some(known));
        }
        let Some((sign_in, _)) = self.store.sign_in(&token_hash).await? else { return Ok(None) };
        if sign_in.expires <= clock::now() {
            return Ok(None);
        }
        let Some((user, _)) = self.store.user(&sign_in.user).await? else { return Ok(None) };
        let principal = match self.principal(user).await {
            Ok(principal) => principal,
            Err(AuthnError::NoRole(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.generation != generation || cache.known.len() >= CACHE_MAX {
            *cache = Cache { generation, known: HashMap::new() };
        }
        cache.known.insert(token_hash, (Instant::now(), principal.clone()));
        Ok(Some(principal))
    }

    fn cached(&self, token_hash: &str, generation: u64) -> Option<Principal> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, principal) = cache.known.get(token_hash)?;
        (cache.generation == generation && since.elapsed() < CACHE_FOR).then(|| principal.clone())
    }

    /// Ends a sign-in.
    ///
    /// # Errors
    /// [`AuthnError`]: then it has not ended.
    pub async fn sign_out(&self, token: &str) -> Result<(), AuthnError> {
        if let Some((sign_in, _)) = self.store.sign_in(&token_hash(token)).await? {
            self.journal.put(RecordBody::SignIn(sign_in), true).await?;
        }
        Ok(())
    }

    async fn principal(&self, user: User) -> Result<Principal, AuthnError> {
        let memberships = self.store.memberships(&user.id).await?;
        let here = memberships.iter().find(|m| m.workspace == self.workspace).and_then(|m| Role::parse(&m.role));
        let role = here.ok_or_else(|| AuthnError::NoRole(user.email.clone()))?;
        let workspace = self.workspace.clone();
        Ok(Principal { user: user.id, name: user.name, email: user.email, workspace, role, memberships })
    }

    async fn verify(&self, password: String, against: String) -> bool {
        if password.len() > PASSWORD_MAX {
            return false;
        }
        let Ok(_turn) = self.hashing.acquire().await else { return false };
        let check = move || {
            let parsed = PasswordHash::new(&against);
            parsed.is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
        };
        tokio::task::spawn_blocking(check).await.unwrap_or(false)
    }

    /// Makes the people of a file if they are not there, and gives those who are there the role it says.
    ///
    /// # Errors
    /// [`AuthnError::Invalid`] naming what is wrong with the file.
    pub async fn bootstrap(&self, path: &Path) -> Result<(), AuthnError> {
        let invalid = |what: String| AuthnError::Invalid(format!("users file {}: {what}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| invalid(e.to_string()))?;
        let people: Vec<Bootstrap> = serde_json::from_str(&text).map_err(|e| invalid(e.to_string()))?;
        for person in people {
            let role = Role::parse(&person.role).ok_or_else(|| {
                invalid(format!("role {:?} of {} must be admin, operator or observer", person.role, person.email))
            })?;
            self.make(&person.email, person.name.as_deref(), &person.password, role).await?;
        }
        Ok(())
    }

    async fn make(&self, email: &str, name: Option<&str>, password: &str, role: Role) -> Result<(), AuthnError> {
        let email = normal(email);
        let id = match self.store.user_by_email(&email).await? {
            Some((user, _)) => user.id,
            None => {
                if !email.contains('@') || email.len() > 254 || email.chars().any(char::is_whitespace) {
                    return Err(AuthnError::Invalid(format!("{email:?} is not an email address")));
                }
                if password.len() < PASSWORD_MIN {
                    return Err(AuthnError::Invalid(format!("the password of {email} is shorter than {PASSWORD_MIN}")));
                }
                let password = password.as_bytes().to_vec();
                let hashed = tokio::task::spawn_blocking(move || hash(&password)).await;
                let password = hashed.map_err(|e| AuthnError::Hash(e.to_string()))??;
                let id = UserId::new(format!("u_{}", Ulid::new().to_string().to_lowercase()))
                    .map_err(|e| AuthnError::Invalid(e.to_string()))?;
                let name = name.unwrap_or_else(|| email.split('@').next().unwrap_or(&email)).to_owned();
                tracing::info!(user = %id, %role, "making a person");
                self.journal.put(RecordBody::User(User { id: id.clone(), email, name, password }), false).await?;
                id
            }
        };
        let has = self.store.memberships(&id).await?;
        if !has.iter().any(|m| m.workspace == self.workspace && m.role == role.as_str()) {
            let membership = Membership { workspace: self.workspace.clone(), user: id, role: role.as_str().into() };
            self.journal.put(RecordBody::Membership(membership), false).await?;
        }
        Ok(())
    }
}

fn normal(email: &str) -> String {
    email.trim().to_lowercase()
}

fn token_hash(token: &str) -> String {
    Sha256::digest(token.as_bytes()).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn hash(password: &[u8]) -> Result<String, AuthnError> {
    let salt = SaltString::generate(&mut OsRng);
    // Argon2id v19, 19 MiB, 2 passes, 1 lane: the defaults of argon2 0.5, which are OWASP's.
    let hashed = Argon2::default().hash_password(password, &salt);
    hashed.map(|h| h.to_string()).map_err(|e| AuthnError::Hash(e.to_string()))
}

/// The value of our cookie in a `Cookie` header.
pub fn cookie(header: &str) -> Option<&str> {
    let mut pairs = header.split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_found_among_others() {
        assert_eq!(cookie("a=b; mosaic_session=xyz; c=d"), Some("xyz"));
        assert_eq!(cookie("mosaic_session=xyz"), Some("xyz"));
        for none in ["", "mosaic_session=", "xmosaic_session=1", "mosaic_session"] {
            assert_eq!(cookie(none), None, "{none}");
        }
    }

    #[test]
    fn only_hashes_are_kept() {
        let hashed = hash(b"correct horse").unwrap();
        assert!(hashed.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hashed}");
        assert_eq!(token_hash("x").len(), 64);
        assert_ne!(token_hash("x"), token_hash("y"));
    }
}
