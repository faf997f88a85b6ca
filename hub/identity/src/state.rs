//! `identity.json`: what exists. Public keys only.

use std::collections::BTreeMap;
use std::path::Path;

use bus_schema::{BusRole, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::error::IdentityError;
use crate::files;

/// The form of the file that this program writes.
const SCHEMA: u32 = 1;

/// The whole file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State {
    pub schema: u32,
    pub operator: String,
    pub system_account: String,
    pub hub_account: String,
    pub command_key: String,
    /// The workspace whose credentials lie in `creds/` itself.
    pub first_workspace: WorkspaceId,
    pub workspaces: BTreeMap<WorkspaceId, Workspace>,
}

/// One workspace: its account, the scoped signing keys, and whom they have signed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Workspace {
    pub account: String,
    pub hub_key: String,
    pub node_key: String,
    pub reader_key: String,
    /// Keys that signed before, and whose word still counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub old_keys: Vec<OldKey>,
    #[serde(default)]
    pub users: Vec<User>,
}

/// A signing key in whose place another one signs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OldKey {
    pub role: String,
    pub key: String,
    pub replaced_at_s: u64,
}

impl OldKey {
    /// Whom it signed.
    pub fn role(&self) -> Option<BusRole> {
        BusRole::ALL.iter().copied().find(|role| role.as_str() == self.role)
    }
}

/// Somebody who got credentials.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct User {
    pub name: String,
    pub role: String,
    pub public_key: String,
    pub issued_at_s: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at_s: Option<u64>,
    /// The key that signed; absent for those who were signed before keys were ever changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
}

impl Workspace {
    /// Public half of the scoped signing key of a role.
    pub fn signing_key(&self, role: BusRole) -> &str {
        match role {
            BusRole::Hub => &self.hub_key,
            BusRole::Node => &self.node_key,
            BusRole::Reader => &self.reader_key,
        }
    }

    pub fn set_signing_key(&mut self, role: BusRole, key: String) {
        match role {
            BusRole::Hub => self.hub_key = key,
            BusRole::Node => self.node_key = key,
            BusRole::Reader => self.reader_key = key,
        }
    }

    /// Every key whose word counts, with whom it signs: those of today first.
    pub fn signing_keys(&self) -> impl Iterator<Item = (BusRole, &str)> {
        let today = BusRole::ALL.iter().map(|role| (*role, self.signing_key(*role)));
        today.chain(self.old_keys.iter().filter_map(|old| Some((old.role()?, old.key.as_str()))))
    }

    /// Revoked keys, each with the time up to which its credentials are void.
    pub fn revoked(&self) -> impl Iterator<Item = (&str, u64)> {
        self.users.iter().filter_map(|user| Some((user.public_key.as_str(), user.revoked_at_s?)))
    }

    /// What the living owner of a name is.
    pub fn role_of(&self, name: &str) -> Option<BusRole> {
        let user = self.users.iter().find(|user| user.name == name && user.revoked_at_s.is_none())?;
        BusRole::ALL.iter().copied().find(|role| role.as_str() == user.role)
    }
}

impl State {
    pub const SCHEMA: u32 = SCHEMA;

    /// Reads the file; `None` if there is none.
    pub fn load(path: &Path) -> Result<Option<Self>, IdentityError> {
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let Some(text) = files::read(path)? else { return Ok(None) };
        let damaged = |e: serde_json::Error| IdentityError::Damaged { path: path.to_owned(), problem: e.to_string() };
        let Version { schema } = serde_json::from_str(&text).map_err(damaged)?;
        if schema > SCHEMA {
            return Err(IdentityError::NewerSchema { path: path.to_owned(), theirs: schema, ours: SCHEMA });
        }
        serde_json::from_str(&text).map(Some).map_err(damaged)
    }

    /// Writes the file.
    pub fn save(&self, path: &Path) -> Result<(), IdentityError> {
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|e| IdentityError::Damaged { path: path.to_owned(), problem: e.to_string() })?;
        text.push(b'\n');
        files::write_private(path, &text)
    }
}
