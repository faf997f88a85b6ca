//! What can go wrong with an identity.

use std::path::PathBuf;

use bus_schema::{BusRole, NodeId, WorkspaceId};

/// An identity could not be made, read or changed. No variant holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The disk did not do it.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What we were doing.
        doing: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// There is no identity here.
    #[error("no identity in {}: make one with `mosaic identity init`", path.display())]
    Missing {
        /// Where one was looked for.
        path: PathBuf,
    },
    /// A file is not what it should be. It is left as it is.
    #[error("{} is damaged: {problem}", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Written by a newer program.
    #[error("{} has schema {theirs}, this program reads up to {ours}: upgrade it", path.display())]
    NewerSchema {
        /// Which file.
        path: PathBuf,
        /// Its schema.
        theirs: u32,
        /// Ours.
        ours: u32,
    },
    /// No such workspace here.
    #[error("unknown workspace {0}")]
    UnknownWorkspace(WorkspaceId),
    /// Somebody else has the name.
    #[error("{name:?} is already the name of a {} in this workspace", role.as_str())]
    NameTaken {
        /// The name.
        name: String,
        /// What its owner is.
        role: BusRole,
    },
    /// The node has credentials already.
    #[error("node {0} is enrolled already; revoke it first, and it gets new credentials")]
    Enrolled(NodeId),
    /// The key signs today, or never did, or is withdrawn.
    #[error("{key} is no signing key in whose place another one signs: see `mosaic identity signing-keys`")]
    NotReplaced {
        /// Which.
        key: String,
    },
    /// Somebody would be cut off.
    #[error(
        "{names} have no credentials but those that this key signed; give them new ones (`mosaic node renew`), or cut them off"
    )]
    StillHeld {
        /// Who.
        names: String,
    },
    /// Nobody has the name.
    #[error("no user {name:?} in workspace {workspace}, or it is revoked already")]
    UnknownUser {
        /// Where.
        workspace: WorkspaceId,
        /// The name.
        name: String,
    },
    /// The name cannot stand in a subject.
    #[error(transparent)]
    BadName(#[from] bus_schema::IdError),
    /// A claim could not be written or signed.
    #[error("cannot sign {what}")]
    Sign {
        /// What was to be signed.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
