//! What a data folder says of itself: whose it is, and whether it is still what it was.
//!
//! Law: the incarnation is part of every message id. It changes when the machine was restarted, because records that
//! the bus has may be gone from the disk then, and their numbers be given again.

use std::path::{Path, PathBuf};

use bus_schema::{NodeId, WorkspaceId};
use serde::{Deserialize, Serialize};

/// The schema this program writes.
const SCHEMA: u32 = 1;

/// The file `node.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeFile {
    schema: u32,
    /// Whose data it is.
    pub node: NodeId,
    /// In which workspace.
    pub workspace: WorkspaceId,
    /// See the law.
    pub incarnation: String,
    /// Of the machine, when it was last used.
    pub boot_id: String,
}

/// A data folder, held by this process alone.
#[derive(Debug)]
pub struct DataDir {
    /// Where it is.
    pub path: PathBuf,
    /// What it says of itself.
    pub file: NodeFile,
    /// True if the machine was restarted since it was last used: what ran then does not run any more.
    pub is_after_restart: bool,
    /// Held as long as this is; nobody else uses the folder meanwhile.
    _lock: std::fs::File,
}

/// A data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// The file system refused.
    #[error("{doing} {path:?}")]
    Io {
        /// What we were doing.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Another node agent uses it.
    #[error("another node agent uses the data folder {0:?}; stop it, or give this one a folder of its own")]
    InUse(PathBuf),
    /// It is another node's.
    #[error("the data folder {path:?} belongs to node {theirs} of workspace {workspace}; give this one its own")]
    Foreign {
        /// Which folder.
        path: PathBuf,
        /// Whose it is.
        theirs: NodeId,
        /// Where that belongs.
        workspace: WorkspaceId,
    },
    /// Written by a newer program.
    #[error("{path:?} has schema {theirs}, this program reads up to {SCHEMA}: start the newer one again")]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its schema.
        theirs: u32,
    },
    /// It cannot be understood.
    #[error("{path:?} cannot be read; it was left as it is")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
}

fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> DataDirError {
    let path = path.to_owned();
    move |source| DataDirError::Io { doing, path, source }
}

/// Identifies this start of the machine.
///
/// # Errors
/// If the system does not tell.
pub fn boot_id() -> std::io::Result<String> {
    // Linux, random(4): a random number made at every start of the kernel.
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// True if a node agent uses this data folder now.
pub fn is_in_use(path: &Path) -> bool {
    let lock = std::fs::File::options().append(true).open(path.join("lock"));
    lock.is_ok_and(|lock| lock.try_lock().is_err())
}

impl DataDir {
    /// Opens the data folder of a node, made if it is not there.
    ///
    /// # Errors
    /// [`DataDirError`]; nothing has been changed then.
    pub fn open(path: &Path, node: &NodeId, workspace: &WorkspaceId, boot_id: &str) -> Result<Self, DataDirError> {
        std::fs::create_dir_all(path).map_err(io("making the data folder", path))?;
        let lock = path.join("lock");
        let lock_file = std::fs::File::options().create(true).append(true).open(&lock).map_err(io("opening", &lock))?;
        if lock_file.try_lock().is_err() {
            return Err(DataDirError::InUse(path.to_owned()));
        }
        let name = path.join("node.json");
        let old = match std::fs::read(&name) {
            Ok(bytes) => Some(read(&name, &bytes)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(io("reading", &name)(error)),
        };
        if let Some(old) = &old
            && (old.node != *node || old.workspace != *workspace)
        {
            let (theirs, workspace) = (old.node.clone(), old.workspace.clone());
            return Err(DataDirError::Foreign { path: path.to_owned(), theirs, workspace });
        }
        let is_after_restart = old.as_ref().is_some_and(|old| old.boot_id != boot_id);
        let file = match old {
            Some(old) if !is_after_restart => old,
            _ => NodeFile {
                schema: SCHEMA,
                node: node.clone(),
                workspace: workspace.clone(),
                incarnation: ulid::Ulid::new().to_string(),
                boot_id: boot_id.to_owned(),
            },
        };
        Ok(Self { path: path.to_owned(), file, is_after_restart, _lock: lock_file })
    }

    /// Writes `node.json`: after this the machine's restart is forgotten. Called when every session was told of it.
    ///
    /// # Errors
    /// [`DataDirError::Io`].
    pub fn save(&self) -> Result<(), DataDirError> {
        let (name, new) = (self.path.join("node.json"), self.path.join("node.json.new"));
        let text = serde_json::to_vec_pretty(&self.file).map_err(std::io::Error::other).map_err(io("writing", &new))?;
        let write = || {
            let file = std::fs::File::create(&new)?;
            std::io::Write::write_all(&mut &file, &text)?;
            file.sync_all()?;
            std::fs::rename(&new, &name)
        };
        write().map_err(io("writing", &name))
    }
}

fn read(path: &Path, bytes: &[u8]) -> Result<NodeFile, DataDirError> {
    #[derive(Deserialize)]
    struct Schema {
        schema: u32,
    }
    let damaged = |source| DataDirError::Damaged { path: path.to_owned(), source };
    let Schema { schema } = serde_json::from_slice(bytes).map_err(damaged)?;
    if schema > SCHEMA {
        return Err(DataDirError::Newer { path: path.to_owned(), theirs: schema });
    }
    serde_json::from_slice(bytes).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path, node: &str, boot_id: &str) -> Result<DataDir, DataDirError> {
        DataDir::open(path, &NodeId::new(node).unwrap(), &WorkspaceId::new("w").unwrap(), boot_id)
    }

    #[test]
    fn the_incarnation_stays_until_the_machine_is_restarted() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path(), "n1", "boot1").unwrap();
        assert!(!first.is_after_restart);
        first.save().unwrap();
        let incarnation = first.file.incarnation.clone();
        drop(first);
        let second = open(folder.path(), "n1", "boot1").unwrap();
        assert_eq!((second.file.incarnation.clone(), second.is_after_restart), (incarnation.clone(), false));
        drop(second);
        let third = open(folder.path(), "n1", "boot2").unwrap();
        assert!(third.is_after_restart && third.file.incarnation != incarnation);
        drop(third);
        // Not saved: whoever comes next is told of the restart as well.
        assert!(open(folder.path(), "n1", "boot2").unwrap().is_after_restart);
    }

    #[test]
    fn a_folder_has_one_user_and_one_owner() {
        let folder = tempfile::tempdir().unwrap();
        let held = open(folder.path(), "n1", "boot1").unwrap();
        held.save().unwrap();
        assert!(matches!(open(folder.path(), "n1", "boot1"), Err(DataDirError::InUse(_))));
        assert!(is_in_use(folder.path()));
        drop(held);
        assert!(!is_in_use(folder.path()));
        assert!(matches!(open(folder.path(), "n2", "boot1"), Err(DataDirError::Foreign { .. })));
        let path = folder.path().join("node.json");
        std::fs::write(&path, r#"{"schema": 2, "unheardOf": true}"#).unwrap();
        assert!(matches!(open(folder.path(), "n1", "boot1"), Err(DataDirError::Newer { theirs: 2, .. })));
        std::fs::write(&path, "{").unwrap();
        assert!(matches!(open(folder.path(), "n1", "boot1"), Err(DataDirError::Damaged { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"{");
    }
}
