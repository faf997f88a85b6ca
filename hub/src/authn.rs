//! Who you are: passwords, sign-ins, cookies, tokens.
//!
//! Laws:
//! 1. Passwords are kept as Argon2id hashes; of the value of a cookie, a token or an invitation only its SHA-256 is
//!    kept. Its id is the first half of that.
//! 2. An unknown email and a wrong password cannot be told apart, neither by the answer nor by the time it takes.
//! 3. A sign-out is on the bus before it is answered: a replay cannot bring the sign-in back.
//! 4. What somebody may do is looked at again whenever a record of people changes; an open stream ends with it.

mod oidc;
mod password;
mod people;
mod sign_ins;
mod tokens;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bus_schema::{Actor, Operator, Secret, SessionId, Timestamp, UserId, WorkspaceId};
use hub_store::{ApiToken, Membership, SignIn, Store, StoreError, User};
use rand::TryRngCore;
use sha2::{Digest, Sha256};

use crate::clock;
use crate::journal::{Journal, JournalError};
use crate::limits::{Limited, Limits};
use crate::policy::Role;
pub use oidc::{Begun, Oidc, OidcConfig, OidcError};
use password::Passwords;
pub use people::{Change, Member};
pub use sign_ins::From;
pub use tokens::NewToken;

/// Name of the cookie.
pub const COOKIE: &str = "mosaic_session";
/// Its name behind https: a browser takes it from this very host only, for all of it, and over TLS only.
pub const SECURE_COOKIE: &str = "__Host-mosaic_session";
/// How every token of a script begins.
pub const PREFIX: &str = "mm_";
/// How long a checked token is believed without looking again, unless a record changes.
const CACHE_FOR: Duration = Duration::from_secs(10);
/// Checked tokens remembered.
const CACHE_MAX: usize = 1_000;

/// What somebody showed to be recognised.
#[derive(Clone, Debug, PartialEq)]
pub enum Via {
    /// The cookie of a browser that signed in.
    SignIn {
        /// Hash of its value.
        token_hash: String,
        /// Until when.
        expires: Timestamp,
    },
    /// A script's token.
    Token {
        /// Hash of it.
        token_hash: String,
        /// Until when.
        expires: Timestamp,
        /// What it is for.
        name: String,
        /// The only sessions it may touch; all if absent.
        sessions: Option<BTreeSet<SessionId>>,
    },
}

impl Via {
    fn sign_in(sign_in: &SignIn) -> Self {
        Via::SignIn { token_hash: sign_in.token_hash.clone(), expires: sign_in.expires }
    }

    fn token(token: &ApiToken) -> Self {
        Via::Token {
            token_hash: token.token_hash.clone(),
            expires: token.expires,
            name: token.name.clone(),
            sessions: token.sessions.as_ref().map(|ids| ids.iter().cloned().collect()),
        }
    }

    /// Hash of what was shown.
    pub fn token_hash(&self) -> &str {
        match self {
            Via::SignIn { token_hash, .. } | Via::Token { token_hash, .. } => token_hash,
        }
    }

    /// Until when it is good.
    pub fn expires(&self) -> Timestamp {
        match self {
            Via::SignIn { expires, .. } | Via::Token { expires, .. } => *expires,
        }
    }

    /// True for a person at a browser.
    pub fn in_person(&self) -> bool {
        matches!(self, Via::SignIn { .. })
    }
}

/// What a request shows of who it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shown<'a> {
    /// The value of the cookie.
    Cookie(&'a str),
    /// What stands behind `Bearer`.
    Bearer(&'a str),
}

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
    /// How they were recognised.
    pub via: Via,
}

impl Principal {
    /// As commands and messages name them.
    pub fn operator(&self) -> Operator {
        Operator { id: self.user.clone(), name: self.name.clone() }
    }

    /// Whether they may see and touch that session: a token may be bound to some.
    pub fn may_touch(&self, session: &SessionId) -> bool {
        self.only().is_none_or(|ids| ids.contains(session))
    }

    /// The only sessions they may touch; all if absent.
    pub fn only(&self) -> Option<&BTreeSet<SessionId>> {
        match &self.via {
            Via::Token { sessions, .. } => sessions.as_ref(),
            Via::SignIn { .. } => None,
        }
    }

    /// As the audit log names them.
    pub fn actor(&self) -> Actor {
        let name = match &self.via {
            Via::SignIn { .. } => self.name.clone(),
            Via::Token { name, .. } => format!("{} by token {name}", self.name),
        };
        Actor {
            id: Some(self.user.clone()),
            name,
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
    /// An admin keeps them out.
    #[error("{0} is kept out of this workspace by an admin")]
    Disabled(String),
    /// What was asked for cannot be made.
    #[error("{0}")]
    Invalid(String),
    /// Nobody of that id has a role in this workspace.
    #[error("there is nobody {0} in this workspace")]
    NoPerson(String),
    /// Somebody of that email has a role in this workspace already.
    #[error("{0} has a role in this workspace already; change it there")]
    Member(String),
    /// Without them nobody could configure anything.
    #[error("this is the last admin of the workspace; make somebody else an admin first")]
    LastAdmin,
    /// There is no such invitation, or not any more.
    #[error("this invitation is not good, or not any more; ask for a new one")]
    NoInvitation,
    /// The service they sign in with.
    #[error(transparent)]
    Oidc(#[from] OidcError),
    /// Too much was tried.
    #[error(transparent)]
    Limited(#[from] Limited),
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

impl AuthnError {
    /// True where it was looked at and refused; false where something is away or broken.
    pub fn is_refusal(&self) -> bool {
        !matches!(
            self,
            AuthnError::Hash(_)
                | AuthnError::Random
                | AuthnError::Store(_)
                | AuthnError::Journal(_)
                | AuthnError::Oidc(OidcError::Away(_))
        )
    }
}

/// Signs people in and recognises them, in one of the workspaces of the hub.
pub struct Authn {
    workspace: WorkspaceId,
    common: Common,
    cache: Mutex<Cache>,
}

/// What signing in has in common in all workspaces.
#[derive(Clone)]
pub struct Common {
    store: Store,
    journal: Arc<Journal>,
    limits: Arc<Limits>,
    passwords: Arc<Passwords>,
    served: Arc<[WorkspaceId]>,
}

impl Common {
    /// For the workspaces that the hub serves.
    ///
    /// # Errors
    /// [`AuthnError::Hash`].
    pub fn new(
        store: Store,
        journal: Arc<Journal>,
        limits: Arc<Limits>,
        served: Vec<WorkspaceId>,
    ) -> Result<Self, AuthnError> {
        Ok(Self { store, journal, limits, passwords: Passwords::new()?.into(), served: served.into() })
    }
}

impl std::ops::Deref for Authn {
    type Target = Common;

    fn deref(&self) -> &Common {
        &self.common
    }
}

#[derive(Default)]
struct Cache {
    generation: u64,
    known: HashMap<String, (Instant, Principal)>,
}

impl Authn {
    /// For one workspace.
    pub fn new(common: Common, workspace: WorkspaceId) -> Self {
        Self { common, workspace, cache: Mutex::default() }
    }

    /// The workspaces of this hub that somebody who shows this may ask for; none if it is nobody.
    ///
    /// # Errors
    /// [`AuthnError`] if something is away.
    pub async fn workspaces_of(&self, shown: Shown<'_>) -> Result<Vec<WorkspaceId>, AuthnError> {
        let mut all = match shown {
            Shown::Cookie(value) => match self.store.sign_in(&hash_of(value)).await? {
                Some((sign_in, _)) => {
                    let memberships = self.store.memberships(&sign_in.user).await?;
                    memberships.into_iter().filter(|m| !m.disabled).map(|m| m.workspace).collect()
                }
                None => vec![],
            },
            Shown::Bearer(value) => {
                let token = self.store.api_token(&hash_of(value)).await?;
                token.into_iter().map(|token| token.workspace).collect()
            }
        };
        all.retain(|workspace| self.served.contains(workspace));
        Ok(all)
    }

    /// Who shows this; none if nobody, or not any more.
    ///
    /// # Errors
    /// [`AuthnError`] if something is away.
    pub async fn recognise(&self, shown: Shown<'_>) -> Result<Option<Principal>, AuthnError> {
        match shown {
            Shown::Cookie(value) => self.known(&hash_of(value), false).await,
            Shown::Bearer(value) if value.starts_with(PREFIX) => self.known(&hash_of(value), true).await,
            Shown::Bearer(_) => Ok(None),
        }
    }

    /// Whether somebody is still who they were, and may still do the same.
    ///
    /// # Errors
    /// [`AuthnError`] if something is away.
    pub async fn is_still(&self, principal: &Principal) -> Result<bool, AuthnError> {
        let now = self.known(principal.via.token_hash(), !principal.via.in_person()).await?;
        Ok(now.is_some_and(|now| now.role == principal.role))
    }

    async fn known(&self, token_hash: &str, script: bool) -> Result<Option<Principal>, AuthnError> {
        let generation = self.journal.generation();
        if let Some(known) = self.cached(token_hash, generation) {
            return Ok(Some(known).filter(|p| p.via.in_person() != script && p.via.expires() > clock::now()));
        }
        let (user, via, at_most) = if script {
            let Some(token) = self.store.api_token(token_hash).await? else { return Ok(None) };
            if token.workspace != self.workspace {
                return Ok(None);
            }
            (token.user.clone(), Via::token(&token), Some(token))
        } else {
            let Some((sign_in, _)) = self.store.sign_in(token_hash).await? else { return Ok(None) };
            (sign_in.user.clone(), Via::sign_in(&sign_in), None)
        };
        if via.expires() <= clock::now() {
            return Ok(None);
        }
        let Some((user, _)) = self.store.user(&user).await? else { return Ok(None) };
        let mut principal = match self.principal(user, via).await {
            Ok(principal) => principal,
            Err(AuthnError::NoRole(_) | AuthnError::Disabled(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        if let Some(token) = at_most {
            let Some(role) = Role::parse(&token.role) else { return Ok(None) };
            principal.role = principal.role.min(role);
            self.note_use(&token).await;
        }
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.generation != generation || cache.known.len() >= CACHE_MAX {
            *cache = Cache { generation, known: HashMap::new() };
        }
        cache.known.insert(token_hash.to_owned(), (Instant::now(), principal.clone()));
        Ok(Some(principal))
    }

    fn cached(&self, token_hash: &str, generation: u64) -> Option<Principal> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, principal) = cache.known.get(token_hash)?;
        (cache.generation == generation && since.elapsed() < CACHE_FOR).then(|| principal.clone())
    }

    async fn principal(&self, user: User, via: Via) -> Result<Principal, AuthnError> {
        let memberships = self.store.memberships(&user.id).await?;
        Self::principal_in(&self.workspace, memberships, user, via)
    }

    fn principal_in(
        workspace: &WorkspaceId,
        memberships: Vec<Membership>,
        user: User,
        via: Via,
    ) -> Result<Principal, AuthnError> {
        let here = memberships.iter().find(|m| m.workspace == *workspace);
        let role = here.and_then(|m| Role::parse(&m.role)).ok_or_else(|| AuthnError::NoRole(user.email.clone()))?;
        if here.is_some_and(|m| m.disabled) {
            return Err(AuthnError::Disabled(user.email));
        }
        let workspace = workspace.clone();
        Ok(Principal { user: user.id, name: user.name, email: user.email, workspace, role, memberships, via })
    }

    /// Somebody who signs in, in this workspace, or else in the first of the hub's where they have a role.
    async fn principal_anywhere(&self, user: User, via: Via) -> Result<Principal, AuthnError> {
        let memberships = self.store.memberships(&user.id).await?;
        let is_let_in = |w: &&WorkspaceId| memberships.iter().any(|m| m.workspace == **w && !m.disabled);
        let workspace = Some(&self.workspace).filter(is_let_in).or_else(|| self.served.iter().find(is_let_in));
        let workspace = workspace.unwrap_or(&self.workspace).clone();
        Self::principal_in(&workspace, memberships, user, via)
    }
}

fn normal(email: &str) -> String {
    email.trim().to_lowercase()
}

/// SHA-256 in hex: for what is random, a hash as good as a slow one.
fn hash_of(token: &str) -> String {
    Sha256::digest(token.as_bytes()).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// The id of what is kept under a hash: half of it, which lets nobody in and meets no other.
pub fn id_of(token_hash: &str) -> &str {
    token_hash.get(..32).unwrap_or(token_hash)
}

/// 256 random bits, as text.
fn new_token() -> Result<String, AuthnError> {
    let mut bytes = [0; 32];
    rand::rngs::OsRng.try_fill_bytes(&mut bytes).map_err(|_| AuthnError::Random)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// The value of a cookie in a `Cookie` header.
pub fn cookie<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = header.split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_found_among_others() {
        assert_eq!(cookie("a=b; mosaic_session=xyz; c=d", COOKIE), Some("xyz"));
        assert_eq!(cookie("mosaic_session=xyz", COOKIE), Some("xyz"));
        assert_eq!(cookie("mosaic_session=xyz", SECURE_COOKIE), None);
        for none in ["", "mosaic_session=", "xmosaic_session=1", "mosaic_session"] {
            assert_eq!(cookie(none, COOKIE), None, "{none}");
        }
    }

    #[test]
    fn tokens_are_kept_as_hashes() {
        let token = new_token().unwrap();
        assert_eq!((token.len(), hash_of(&token).len(), id_of(&hash_of(&token)).len()), (43, 64, 32));
        assert_ne!(new_token().unwrap(), token);
    }
}
