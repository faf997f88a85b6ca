//! People of a workspace: their roles, invitations, passwords.
//!
//! Laws:
//! 1. A workspace always has an admin who can sign in: whatever takes the last one away is refused, also of two hubs
//!    at once.
//! 2. An invitation lets one person in, once. It never changes the password of somebody who has a role anywhere.
//! 3. There is one person for an email: its id is made from it.

use std::collections::HashMap;
use std::path::Path;

use bus_schema::{Secret, UserId, WorkspaceId};
use hub_store::{Invitation, Membership, MembershipRow, RecordBody, User};
use serde::Deserialize;

use super::sign_ins::From;
use super::{Authn, AuthnError, Principal, SignedIn, hash_of, id_of, new_token, normal};
use crate::clock;
use crate::policy::Role;

/// How long an invitation lasts.
const INVITATION_MS: i64 = 7 * 24 * 3600 * 1000;
/// Invitations that may be open.
const INVITATIONS_MAX: usize = 200;
/// Longest name, in characters.
const NAME_MAX: usize = 100;

/// A person to make if they are not there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bootstrap {
    email: String,
    name: Option<String>,
    password: String,
    role: String,
    /// Where they have it; in the first workspace of the hub if absent.
    workspace: Option<WorkspaceId>,
}

/// A person in this workspace.
#[derive(Clone, Debug)]
pub struct Member {
    /// Who.
    pub user: User,
    /// As what.
    pub role: Role,
    /// True while an admin keeps them out.
    pub disabled: bool,
}

/// What is to change of a person; what is absent stays.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Another name.
    pub name: Option<String>,
    /// Another role.
    pub role: Option<Role>,
    /// Keep them out, or let them in again.
    pub disabled: Option<bool>,
}

impl Authn {
    /// Everybody with a role in this workspace, by email.
    ///
    /// # Errors
    /// [`AuthnError`].
    pub async fn members(&self) -> Result<Vec<Member>, AuthnError> {
        let mut roles: HashMap<UserId, Membership> = HashMap::new();
        for row in self.store.members(&self.workspace).await?.into_iter().filter(|row| !row.deleted) {
            roles.insert(row.body.user.clone(), row.body);
        }
        let ids: Vec<_> = roles.keys().cloned().collect();
        let users = self.store.users(&ids).await?;
        let mut all: Vec<_> = users
            .into_iter()
            .filter_map(|user| {
                let membership = roles.get(&user.id)?;
                Some(Member { role: Role::parse(&membership.role)?, disabled: membership.disabled, user })
            })
            .collect();
        all.sort_by(|a, b| a.user.email.cmp(&b.user.email));
        Ok(all)
    }

    /// Somebody with a role in this workspace.
    ///
    /// # Errors
    /// [`AuthnError::NoPerson`].
    pub async fn member(&self, id: &UserId) -> Result<Member, AuthnError> {
        let found = self.members().await?.into_iter().find(|member| member.user.id == *id);
        found.ok_or_else(|| AuthnError::NoPerson(id.to_string()))
    }

    /// Changes a person. Who is kept out is signed out as well.
    ///
    /// # Errors
    /// [`AuthnError::NoPerson`], [`AuthnError::LastAdmin`], [`AuthnError::Invalid`].
    pub async fn change(&self, id: &UserId, change: Change) -> Result<Member, AuthnError> {
        let member = self.member(id).await?;
        let name = change.name.as_deref().map(named).transpose()?;
        if change.role.is_some() || change.disabled.is_some() {
            self.put_role(id, |now| {
                let now = now.ok_or_else(|| AuthnError::NoPerson(id.to_string()))?;
                let role = change.role.map_or_else(|| now.role.clone(), |role| role.as_str().to_owned());
                let disabled = change.disabled.unwrap_or(now.disabled);
                Ok((Membership { role, disabled, ..now.clone() }, false))
            })
            .await?;
            if change.disabled == Some(true) {
                self.end_sign_ins(id, None).await?;
            }
        }
        if let Some(name) = name
            && name != member.user.name
        {
            self.journal.put(RecordBody::User(User { name, ..member.user }), false).await?;
        }
        self.member(id).await
    }

    /// Ends somebody's membership, with their sign-ins and tokens; who they were.
    ///
    /// # Errors
    /// [`AuthnError::NoPerson`], [`AuthnError::LastAdmin`].
    pub async fn remove(&self, id: &UserId) -> Result<Member, AuthnError> {
        let member = self.member(id).await?;
        self.put_role(id, |now| {
            let now = now.ok_or_else(|| AuthnError::NoPerson(id.to_string()))?;
            Ok((now.clone(), true))
        })
        .await?;
        self.end_sign_ins(id, None).await?;
        for token in self.store.api_tokens(&self.workspace, id).await? {
            self.journal.replace(RecordBody::ApiToken(token), true).await?;
        }
        Ok(member)
    }

    /// Writes a role, seen against all of the workspace.
    pub(super) async fn put_role(
        &self,
        id: &UserId,
        decide: impl Fn(Option<&Membership>) -> Result<(Membership, bool), AuthnError>,
    ) -> Result<(), AuthnError> {
        let written = self.journal.put_membership(&self.workspace, |all: &[MembershipRow]| {
            let now = all.iter().find(|row| !row.deleted && row.body.user == *id).map(|row| &row.body);
            let (next, deleted) = decide(now)?;
            let admin = |m: &Membership| m.role == Role::Admin.as_str() && !m.disabled;
            let others = all.iter().any(|row| !row.deleted && row.body.user != *id && admin(&row.body));
            if now.is_some_and(admin) && (deleted || !admin(&next)) && !others {
                return Err(AuthnError::LastAdmin);
            }
            Ok((next, deleted))
        });
        written.await.map(drop)
    }

    /// Invites somebody. The token is known here and now, and never again.
    ///
    /// # Errors
    /// [`AuthnError::Invalid`], [`AuthnError::Member`] if they have a role already.
    pub async fn invite(&self, by: &Principal, email: &str, role: Role) -> Result<(Secret, Invitation), AuthnError> {
        let email = address(email)?;
        if self.members().await?.iter().any(|member| member.user.email == email) {
            return Err(AuthnError::Member(email));
        }
        let open = self.invitations().await?;
        if open.len() >= INVITATIONS_MAX {
            return Err(AuthnError::Invalid(format!("{INVITATIONS_MAX} invitations are open; delete one first")));
        }
        let (token, now) = (new_token()?, clock::now());
        let invitation = Invitation {
            token_hash: hash_of(&token),
            workspace: self.workspace.clone(),
            email,
            role: role.as_str().into(),
            by: by.user.clone(),
            created: now,
            expires: now.plus_millis(INVITATION_MS),
        };
        self.journal.put(RecordBody::Invitation(invitation.clone()), false).await?;
        Ok((Secret::new(token), invitation))
    }

    /// The open invitations, the newest first.
    ///
    /// # Errors
    /// [`AuthnError`].
    pub async fn invitations(&self) -> Result<Vec<Invitation>, AuthnError> {
        let now = clock::now();
        let mut all = self.store.invitations(&self.workspace).await?;
        all.retain(|invitation| invitation.expires > now);
        all.sort_by_key(|invitation| std::cmp::Reverse(invitation.created));
        Ok(all)
    }

    /// Takes an invitation back; none if there is no such.
    ///
    /// # Errors
    /// [`AuthnError`].
    pub async fn delete_invitation(&self, id: &str) -> Result<Option<Invitation>, AuthnError> {
        let found = self.invitations().await?.into_iter().find(|i| id_of(&i.token_hash) == id);
        let Some(invitation) = found else { return Ok(None) };
        let deleted = self.journal.replace(RecordBody::Invitation(invitation.clone()), true).await?;
        Ok(deleted.then_some(invitation))
    }

    /// The invitation of a token, into whichever workspace of this hub: it is accepted there.
    ///
    /// # Errors
    /// [`AuthnError::NoInvitation`] if there is none, or not any more.
    pub async fn invitation(&self, token: &str, from: &From) -> Result<Invitation, AuthnError> {
        self.limits.sign_in(None, from.address)?;
        let found = self.store.invitation(&hash_of(token)).await?;
        let found = found.filter(|i| self.served.contains(&i.workspace) && i.expires > clock::now());
        if found.is_none() {
            self.limits.sign_in_failed(None, from.address);
        }
        found.ok_or(AuthnError::NoInvitation)
    }

    /// Lets the invited person in and signs them in.
    ///
    /// # Errors
    /// [`AuthnError::NoInvitation`] if it was used meanwhile; [`AuthnError::Wrong`] if they have a password here
    /// already and it is another; [`AuthnError::Invalid`].
    pub async fn accept(
        &self,
        invitation: Invitation,
        name: Option<&str>,
        password: &str,
        from: &From,
    ) -> Result<SignedIn, AuthnError> {
        let name = name.map(named).transpose()?;
        let known = self.store.user_by_email(&invitation.email).await?.map(|(user, _)| user);
        let user = match known {
            Some(user) if !self.store.memberships(&user.id).await?.is_empty() => {
                self.check(&user.email, password, from).await?
            }
            known => {
                let password = self.passwords.take(password).await?;
                let known = known.map_or_else(|| new_user(&invitation.email), Ok)?;
                User { password, name: name.unwrap_or(known.name), ..known }
            }
        };
        // From here on it is used, whatever becomes of the rest.
        if !self.journal.replace(RecordBody::Invitation(invitation.clone()), true).await? {
            return Err(AuthnError::NoInvitation);
        }
        self.journal.put(RecordBody::User(user.clone()), false).await?;
        self.put_role(&user.id, |now| match now {
            Some(now) => Ok((now.clone(), false)),
            None => Ok((self.role_of(&user.id, &invitation.role), false)),
        })
        .await?;
        self.signed_in(user, from).await
    }

    pub(super) fn role_of(&self, user: &UserId, role: &str) -> Membership {
        Membership { workspace: self.workspace.clone(), user: user.clone(), role: role.to_owned(), disabled: false }
    }

    /// Changes somebody's password. Every other sign-in of theirs ends; their tokens stay.
    ///
    /// # Errors
    /// [`AuthnError::Wrong`] if the old one is another, [`AuthnError::Invalid`] if the new one is none.
    pub async fn change_password(
        &self,
        who: &Principal,
        old: &str,
        new: &str,
        from: &From,
    ) -> Result<usize, AuthnError> {
        let user = self.check(&who.email, old, from).await?;
        let password = self.passwords.take(new).await?;
        self.journal.put(RecordBody::User(User { password, ..user }), false).await?;
        self.end_sign_ins(&who.user, Some(who.via.token_hash())).await
    }

    /// Makes the people of a file who never had a role here. What became of the others since stays.
    ///
    /// # Errors
    /// [`AuthnError::Invalid`] naming what is wrong with the file.
    pub async fn bootstrap(&self, path: &Path) -> Result<(), AuthnError> {
        let invalid = |what: String| AuthnError::Invalid(format!("users file {}: {what}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| invalid(e.to_string()))?;
        let people: Vec<Bootstrap> = serde_json::from_str(&text).map_err(|e| invalid(e.to_string()))?;
        for person in people {
            let workspace = person.workspace.as_ref().unwrap_or(&self.served[0]);
            if *workspace != self.workspace {
                if !self.served.contains(workspace) {
                    return Err(invalid(format!("{} is in workspace {workspace}, not served here", person.email)));
                }
                continue;
            }
            let role = Role::parse(&person.role).ok_or_else(|| {
                invalid(format!("role {:?} of {} must be admin, operator or observer", person.role, person.email))
            })?;
            self.make(&person, role).await?;
        }
        Ok(())
    }

    async fn make(&self, person: &Bootstrap, role: Role) -> Result<(), AuthnError> {
        let email = address(&person.email)?;
        let id = match self.store.user_by_email(&email).await? {
            Some((user, _)) => user.id,
            None => {
                let password = self.passwords.take(&person.password).await;
                let password = password.map_err(|error| match error {
                    AuthnError::Invalid(text) => AuthnError::Invalid(format!("{email}: {text}")),
                    other => other,
                })?;
                let mut user = new_user(&email)?;
                user.name = person.name.clone().unwrap_or(user.name);
                tracing::info!(user = %user.id, %role, "making a person");
                let id = user.id.clone();
                self.journal.create(RecordBody::User(User { password, ..user })).await?;
                id
            }
        };
        if !self.store.members(&self.workspace).await?.iter().any(|row| row.body.user == id) {
            self.put_role(&id, |now| Ok((now.cloned().unwrap_or_else(|| self.role_of(&id, role.as_str())), false)))
                .await?;
        }
        Ok(())
    }
}

/// Somebody new with that email, without a password.
pub(super) fn new_user(email: &str) -> Result<User, AuthnError> {
    let hash = hash_of(email);
    let id = UserId::new(format!("u_{}", id_of(&hash))).map_err(|e| AuthnError::Invalid(e.to_string()))?;
    let name = named(email.split('@').next().unwrap_or(email)).unwrap_or_else(|_| "somebody".into());
    Ok(User { id, email: email.to_owned(), name, password: String::new(), identities: vec![] })
}

/// An email address in its normal form.
pub(super) fn address(email: &str) -> Result<String, AuthnError> {
    let email = normal(email);
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | '"' | ',');
    let parts = email.split_once('@').filter(|(name, host)| !name.is_empty() && !host.is_empty());
    if parts.is_none_or(|(_, host)| host.contains('@')) || email.len() > 254 || email.contains(odd) {
        return Err(AuthnError::Invalid(format!("{email:?} is not an email address")));
    }
    Ok(email)
}

/// A name that can be shown.
pub(super) fn named(name: &str) -> Result<String, AuthnError> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > NAME_MAX || name.chars().any(char::is_control) {
        let text = format!("a name has 1 to {NAME_MAX} characters, none of them a control character");
        return Err(AuthnError::Invalid(text));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_email_makes_one_person() {
        let (one, two) =
            (new_user(&address(" Ada@Example.org ").unwrap()).unwrap(), new_user("ada@example.org").unwrap());
        assert_eq!(one, two);
        assert_eq!((one.name.as_str(), one.password.as_str()), ("ada", ""));
        for bad in ["", "ada", "@x", "a@", "a@b@c", "a b@c", "a\n@c", "<a@c>"] {
            assert!(address(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "  ", "a\u{7}", &"x".repeat(101)] {
            assert!(named(bad).is_err(), "{bad:?}");
        }
    }
}
