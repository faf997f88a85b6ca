//! Changing a scoped signing key: the key by which the servers know what a user of a workspace may do.
//!
//! ```text
//! rotate ──► new key signs ─┬─ both are in the account: old credentials go on ──► withdraw ──► new key alone
//!   the old seed is gone ───┘  renew: credentials of the same name, by the new key
//! ```
//!
//! Laws:
//! 1. The seed of a key that was changed is gone at once: nobody is signed by it any more. What it signed stays valid
//!    until it is withdrawn, so nobody is cut off by the change.
//! 2. A withdrawn key is not in the account any more: the servers refuse everybody it ever signed, also whom this
//!    folder does not know. Whom it does know is revoked besides, so that connections end.
//! 3. A key is not withdrawn under somebody who has nothing newer, unless that is said.

use std::collections::BTreeSet;
use std::path::PathBuf;

use bus_schema::{BusRole, NodeId, WorkspaceId};

use crate::clock::now_s;
use crate::error::IdentityError;
use crate::files;
use crate::identity::{AccountUpdate, Credentials, HUB_NAME, Identity, READER_NAME, make_pair, seed_path};
use crate::state::{OldKey, Workspace};

/// A scoped signing key of a workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    /// Whom it signs.
    pub role: BusRole,
    /// Its public half.
    pub key: String,
    /// Since when another one signs in its place, in seconds since 1970; none for the one of today.
    pub replaced_at_s: Option<u64>,
    /// Names of those who have nothing newer than what it signed.
    pub holders: BTreeSet<String>,
}

/// A signing key was changed.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// The key before.
    pub old: String,
    /// The key of today.
    pub new: String,
    /// What running servers have to be told before anybody uses what the new key signs.
    pub update: AccountUpdate,
    /// Credentials files of this folder that were made anew.
    pub renewed: Vec<PathBuf>,
}

impl Identity {
    /// Puts a new key in the place of the one that signs users of this role. Credentials files that are kept here are
    /// made anew; the old ones stay valid until [`withdraw_signing_key`](Self::withdraw_signing_key).
    ///
    /// # Errors
    /// [`IdentityError::UnknownWorkspace`], the disk.
    pub fn rotate_signing_key(&mut self, workspace: &WorkspaceId, role: BusRole) -> Result<Rotation, IdentityError> {
        let _lock = self.locked()?;
        let old = self.workspace(workspace)?.signing_key(role).to_owned();
        let new = make_pair(self.dir(), nkeys::KeyPairType::Account)?;
        let found = self.workspace_mut(workspace)?;
        for user in found.users.iter_mut().filter(|user| user.role == role.as_str()) {
            // Whoever was signed before keys were changed at all.
            user.signed_by.get_or_insert_with(|| old.clone());
        }
        found.old_keys.push(OldKey { role: role.as_str().into(), key: old.clone(), replaced_at_s: now_s() });
        found.set_signing_key(role, new.clone());
        self.save()?;
        let jwt = self.write_workspace_account(workspace)?;
        let account = self.workspace(workspace)?.account.clone();
        // Last: a change that is broken off before this leaves a seed that nothing uses.
        files::remove(&seed_path(self.dir(), &old))?;
        let mut renewed = vec![];
        for (name, path) in self.kept_here(workspace, role) {
            let credentials = self.issue_locked(workspace, role, &name)?;
            files::write_private(&path, credentials.text.expose().as_bytes())?;
            renewed.push(path);
        }
        Ok(Rotation { old, new, update: AccountUpdate { account, jwt }, renewed })
    }

    /// New credentials for somebody who has some, signed by the key of today and kept nowhere here. The old ones stay
    /// valid until they are revoked or their key is withdrawn.
    ///
    /// # Errors
    /// [`IdentityError::UnknownUser`] if nobody of this role has the name; as [`issue`](Self::issue).
    pub fn renew(&mut self, workspace: &WorkspaceId, role: BusRole, name: &str) -> Result<Credentials, IdentityError> {
        let _lock = self.locked()?;
        if self.workspace(workspace)?.role_of(name) != Some(role) {
            return Err(IdentityError::UnknownUser { workspace: workspace.clone(), name: name.into() });
        }
        self.issue_locked(workspace, role, name)
    }

    /// The signing keys that the account of a workspace has, those of today first.
    ///
    /// # Errors
    /// [`IdentityError::UnknownWorkspace`].
    pub fn signing_keys(&self, workspace: &WorkspaceId) -> Result<Vec<SigningKey>, IdentityError> {
        let found = self.workspace(workspace)?;
        let today = BusRole::ALL.iter().map(|role| (*role, found.signing_key(*role).to_owned(), None));
        let before =
            found.old_keys.iter().filter_map(|old| Some((old.role()?, old.key.clone(), Some(old.replaced_at_s))));
        let key = |(role, key, replaced_at_s): (BusRole, String, Option<u64>)| {
            let holders = holders(found, role, &key);
            SigningKey { role, key, replaced_at_s, holders }
        };
        Ok(today.chain(before).map(key).collect())
    }

    /// Takes a key that was changed out of the account: whatever it signed is void. `cut_off` says that those who have
    /// nothing newer may be cut off.
    ///
    /// # Errors
    /// [`IdentityError::NotReplaced`] if it is no key that was changed; [`IdentityError::StillHeld`]; the disk.
    pub fn withdraw_signing_key(
        &mut self,
        workspace: &WorkspaceId,
        key: &str,
        cut_off: bool,
    ) -> Result<AccountUpdate, IdentityError> {
        let _lock = self.locked()?;
        let found = self.workspace_mut(workspace)?;
        let at = found.old_keys.iter().position(|old| old.key == key);
        let at = at.ok_or_else(|| IdentityError::NotReplaced { key: key.into() })?;
        let role = found.old_keys.get(at).and_then(OldKey::role);
        let holders = role.map(|role| holders(found, role, key)).unwrap_or_default();
        if !cut_off && !holders.is_empty() {
            return Err(IdentityError::StillHeld { names: holders.into_iter().collect::<Vec<_>>().join(", ") });
        }
        let now = now_s();
        found.old_keys.remove(at);
        let signed = found.users.iter_mut().filter(|user| user.signed_by.as_deref() == Some(key));
        signed.filter(|user| user.revoked_at_s.is_none()).for_each(|user| user.revoked_at_s = Some(now));
        let account = found.account.clone();
        self.save()?;
        let jwt = self.write_workspace_account(workspace)?;
        Ok(AccountUpdate { account, jwt })
    }

    /// Those whose credentials files are kept in this folder: name and file.
    fn kept_here(&self, workspace: &WorkspaceId, role: BusRole) -> Vec<(String, PathBuf)> {
        let named = match role {
            BusRole::Hub => vec![(HUB_NAME.to_owned(), self.hub_creds(workspace))],
            BusRole::Reader => vec![(READER_NAME.to_owned(), self.reader_creds(workspace))],
            BusRole::Node => {
                let nodes = self.users(workspace).into_iter().filter(|(_, role)| *role == BusRole::Node);
                let path = |name: &str| Some(self.node_creds(workspace, &NodeId::new(name).ok()?));
                nodes.filter_map(|(name, _)| path(&name).map(|path| (name, path))).collect()
            }
        };
        named.into_iter().filter(|(_, path)| path.exists()).collect()
    }
}

/// Names of living users of a role who have nothing but what this key signed.
fn holders(workspace: &Workspace, role: BusRole, key: &str) -> BTreeSet<String> {
    let today = workspace.signing_key(role);
    let living = || workspace.users.iter().filter(|user| user.role == role.as_str() && user.revoked_at_s.is_none());
    let by = |user: &crate::state::User| user.signed_by.clone().unwrap_or_else(|| today.to_owned());
    let newer: BTreeSet<&str> = living().filter(|user| by(user) != key).map(|user| user.name.as_str()).collect();
    let held = living().filter(|user| by(user) == key && !newer.contains(user.name.as_str()));
    held.map(|user| user.name.clone()).collect()
}
