//! Sign-ins of browsers: made, listed, ended. Every sign-in has a token of its own, made here: what a browser brought
//! along before is never taken over.

use std::net::IpAddr;

use bus_schema::{Secret, UserId};
use hub_store::{RecordBody, SignIn, User};

use super::{Authn, AuthnError, Principal, SignedIn, hash_of, new_token};
use crate::clock;

/// How long a sign-in lasts.
const SIGN_IN_MS: i64 = 14 * 24 * 3600 * 1000;
/// How much of what a browser says of itself is kept, in characters.
const AGENT_MAX: usize = 200;

/// Where a request comes from.
#[derive(Clone, Debug, Default)]
pub struct From {
    /// Its address.
    pub address: Option<IpAddr>,
    /// What the browser says it is.
    pub agent: Option<String>,
}

impl Authn {
    /// Checks email and password and makes a sign-in.
    ///
    /// # Errors
    /// [`AuthnError::Wrong`] for either, [`AuthnError::Limited`] after too many of them; the others if something is
    /// away.
    pub async fn sign_in(&self, email: &str, password: &str, from: &From) -> Result<SignedIn, AuthnError> {
        let user = self.check(&super::normal(email), password, from).await?;
        self.signed_in(user, from).await
    }

    /// Whose email and password that is.
    pub(super) async fn check(&self, email: &str, password: &str, from: &From) -> Result<User, AuthnError> {
        self.limits.sign_in(Some(email), from.address)?;
        let found = self.store.user_by_email(email).await?.map(|(user, _)| user);
        let against = found.as_ref().map(|user| user.password.as_str());
        // Asked again when its turn has come: many guesses at once are no more than one after the other.
        let may = || Ok(self.limits.sign_in(Some(email), from.address)?);
        let right = self.passwords.verify(password, against, may).await?;
        match found {
            Some(user) if right => Ok(user),
            Some(_) | None => {
                self.limits.sign_in_failed(Some(email), from.address);
                Err(AuthnError::Wrong)
            }
        }
    }

    /// Makes a sign-in of somebody who has proven who they are.
    pub(super) async fn signed_in(&self, user: User, from: &From) -> Result<SignedIn, AuthnError> {
        let token = new_token()?;
        let now = clock::now();
        let sign_in = SignIn {
            token_hash: hash_of(&token),
            user: user.id.clone(),
            created: now,
            expires: now.plus_millis(SIGN_IN_MS),
            agent: from.agent.as_ref().map(|text| text.chars().take(AGENT_MAX).collect()),
            address: from.address.map(|address| address.to_string()),
        };
        let principal = self.principal_anywhere(user, super::Via::sign_in(&sign_in)).await?;
        self.journal.put(RecordBody::SignIn(sign_in), false).await?;
        Ok(SignedIn { token: Secret::new(token), max_age_s: SIGN_IN_MS / 1000, principal })
    }

    /// The sign-ins of somebody that have not run out, the newest first.
    ///
    /// # Errors
    /// [`AuthnError`].
    pub async fn sign_ins(&self, user: &UserId) -> Result<Vec<SignIn>, AuthnError> {
        let now = clock::now();
        let mut all = self.store.sign_ins(user).await?;
        all.retain(|sign_in| sign_in.expires > now);
        all.sort_by_key(|sign_in| std::cmp::Reverse(sign_in.created));
        Ok(all)
    }

    /// Ends the sign-in this request came with.
    ///
    /// # Errors
    /// [`AuthnError`]: then it has not ended.
    pub async fn sign_out(&self, principal: &Principal) -> Result<(), AuthnError> {
        if let Some((sign_in, _)) = self.store.sign_in(principal.via.token_hash()).await? {
            self.journal.replace(RecordBody::SignIn(sign_in), true).await?;
        }
        Ok(())
    }

    /// Ends a sign-in of somebody; false if there is no such.
    ///
    /// # Errors
    /// [`AuthnError`].
    pub async fn end_sign_in(&self, user: &UserId, id: &str) -> Result<bool, AuthnError> {
        let found = self.sign_ins(user).await?.into_iter().find(|s| super::id_of(&s.token_hash) == id);
        match found {
            Some(sign_in) => Ok(self.journal.replace(RecordBody::SignIn(sign_in), true).await?),
            None => Ok(false),
        }
    }

    /// Ends every sign-in of somebody, but for the one with that hash; how many there were.
    ///
    /// # Errors
    /// [`AuthnError`]: then some may not have ended.
    pub async fn end_sign_ins(&self, user: &UserId, but: Option<&str>) -> Result<usize, AuthnError> {
        let mut ended = 0;
        for sign_in in self.sign_ins(user).await?.into_iter().filter(|s| but != Some(s.token_hash.as_str())) {
            ended += usize::from(self.journal.replace(RecordBody::SignIn(sign_in), true).await?);
        }
        Ok(ended)
    }
}
