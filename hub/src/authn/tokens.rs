//! API tokens: what lets a script in, in the name of a person, with no more than that person may do at that moment.

use std::collections::BTreeSet;

use bus_schema::{Secret, SessionId, Timestamp};
use hub_store::{ApiToken, RecordBody};

use super::{Authn, AuthnError, PREFIX, Principal, hash_of, id_of, new_token};
use crate::clock;
use crate::policy::Role;

/// How long a token lasts if nothing is said, in days.
const DAYS: i64 = 90;
/// How long it may last, in days.
const DAYS_MAX: i64 = 366;
/// Tokens a person may have.
const TOKENS_MAX: usize = 50;
/// Longest name, in characters.
const NAME_MAX: usize = 100;
/// Sessions a token may be bound to.
const SESSIONS_MAX: usize = 200;
/// How exact its last use is kept.
const USED_EVERY_MS: u64 = 3600 * 1000;
const DAY_MS: i64 = 24 * 3600 * 1000;

/// A token to make.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// What it is for.
    pub name: String,
    /// The most it may do; not above its maker.
    pub role: Role,
    /// The only sessions it may touch; all if absent.
    pub sessions: Option<BTreeSet<SessionId>>,
    /// Until when; in 90 days if absent.
    pub expires: Option<Timestamp>,
}

impl Authn {
    /// Makes a token. Its text is known here and now, and never again.
    ///
    /// # Errors
    /// [`AuthnError::Invalid`] says what to ask for instead.
    pub async fn make_token(&self, maker: &Principal, new: NewToken) -> Result<(Secret, ApiToken), AuthnError> {
        let invalid = |text: String| Err(AuthnError::Invalid(text));
        let name = new.name.trim().to_owned();
        if name.is_empty() || name.chars().count() > NAME_MAX || name.chars().any(char::is_control) {
            return invalid(format!("name must have 1 to {NAME_MAX} characters, none of them a control character"));
        }
        if new.role > maker.role {
            return invalid(format!("role {} is above yours, {}", new.role, maker.role));
        }
        let now = clock::now();
        let expires = new.expires.unwrap_or(now.plus_millis(DAYS * DAY_MS));
        if expires <= now || expires > now.plus_millis(DAYS_MAX * DAY_MS) {
            return invalid(format!("expiresAt must lie in the future, by {DAYS_MAX} days at most"));
        }
        if new.sessions.as_ref().is_some_and(|s| s.is_empty() || s.len() > SESSIONS_MAX) {
            return invalid(format!("sessions must name 1 to {SESSIONS_MAX} sessions, or be left out for all"));
        }
        if self.tokens(maker).await?.len() >= TOKENS_MAX {
            return invalid(format!("you have {TOKENS_MAX} tokens; delete one first"));
        }
        let text = format!("{PREFIX}{}", new_token()?);
        let token = ApiToken {
            token_hash: hash_of(&text),
            workspace: self.workspace.clone(),
            user: maker.user.clone(),
            name,
            role: new.role.as_str().into(),
            sessions: new.sessions.map(|ids| ids.into_iter().collect()),
            created: now,
            expires,
            last_used: None,
        };
        self.journal.put(RecordBody::ApiToken(token.clone()), false).await?;
        Ok((Secret::new(text), token))
    }

    /// The tokens of somebody that have not run out, the newest first.
    ///
    /// # Errors
    /// [`AuthnError`].
    pub async fn tokens(&self, whose: &Principal) -> Result<Vec<ApiToken>, AuthnError> {
        let now = clock::now();
        let mut all = self.store.api_tokens(&self.workspace, &whose.user).await?;
        all.retain(|token| token.expires > now);
        all.sort_by_key(|token| std::cmp::Reverse(token.created));
        Ok(all)
    }

    /// Takes a token of somebody away; it lets nobody in from now on. None if there is no such.
    ///
    /// # Errors
    /// [`AuthnError`].
    pub async fn delete_token(&self, whose: &Principal, id: &str) -> Result<Option<ApiToken>, AuthnError> {
        let found = self.tokens(whose).await?.into_iter().find(|token| id_of(&token.token_hash) == id);
        let Some(token) = found else { return Ok(None) };
        let deleted = self.journal.replace(RecordBody::ApiToken(token.clone()), true).await?;
        Ok(deleted.then_some(token))
    }

    /// Notes that a token is in use, once an hour. If that fails it is noted the next time.
    pub(super) async fn note_use(&self, token: &ApiToken) {
        let now = clock::now();
        if token.last_used.is_some_and(|last| now.millis_since(last) < USED_EVERY_MS) {
            return;
        }
        let used = ApiToken { last_used: Some(now), ..token.clone() };
        if let Err(error) = self.journal.replace(RecordBody::ApiToken(used), false).await {
            tracing::debug!(%error, "the last use of a token is not noted yet");
        }
    }
}
