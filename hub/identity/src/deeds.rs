//! What was done at the folder of an identity, for the audit log: the command line has no way to the log, and a hub
//! has.
//!
//! ```text
//! command line: deeds/ID.json (pending) ─► it is done ─► deeds/ID.json (what became of it)
//! hub: under the lock: is it in the log? ─► row ─► the file goes
//! ```
//!
//! Laws:
//! 1. No deed on disk, nothing is done.
//! 2. A deed leaves the folder only when it is in the log. Who brings it there holds the lock, and looks first whether
//!    it is there already.
//! 3. Whoever may write in the folder is the identity: a deed says who they claim to be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bus_schema::{NodeId, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::clock::now_s;
use crate::error::IdentityError;
use crate::files;
use crate::identity::Identity;

/// A deed that is pending for so long was broken off: nobody knows how it ended.
pub const BROKEN_OFF_AFTER_S: u64 = 120;
/// Deeds that are taken at one time; the rest the next time.
const MOST: usize = 100;
/// Largest file of a deed.
const MOST_BYTES: u64 = 16 * 1024;

/// Something that was done at the folder of an identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deed {
    /// Its own, for ever.
    pub id: String,
    /// The workspace.
    pub workspace: WorkspaceId,
    /// What, in the word of the audit log: `enrolNode`, `revokeNode`, …
    pub action: String,
    /// On which node, if on one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// Who says that they did it: a user of that machine.
    pub by: String,
    /// When it began.
    pub at: Timestamp,
    /// `pending`, then `ok` or `failed`.
    pub result: String,
    /// Why not, in a few words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Further facts; never a secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
}

/// Deeds that are to be brought into the log. Nobody else brings them there as long as this lives.
pub struct WaitingDeeds {
    _lock: files::Lock,
    /// Each with its file; `None` for a file that is no deed.
    pub deeds: Vec<(PathBuf, Option<Deed>)>,
}

impl Deed {
    /// About to be done now.
    pub fn new(workspace: &WorkspaceId, action: &str, by: impl Into<String>) -> Self {
        let at = Timestamp::from_millis(i64::try_from(now_s().saturating_mul(1_000)).unwrap_or(i64::MAX));
        // Names sort by time; the rest is chance.
        let id = format!("{:012x}{:016x}", now_s(), rand::random::<u64>());
        let (by, result) = (by.into(), "pending".into());
        let (workspace, action) = (workspace.clone(), action.into());
        Self { id, workspace, action, node: None, by, at, result, detail: None, facts: BTreeMap::new() }
    }

    /// On a node.
    pub fn on(mut self, node: &NodeId) -> Self {
        self.node = Some(node.clone());
        self
    }

    /// With a further fact.
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.facts.insert(key.into(), value.into());
        self
    }

    /// True if it may still be under way.
    pub fn is_under_way(&self, now: Timestamp) -> bool {
        self.result == "pending" && now.millis_since(self.at) < BROKEN_OFF_AFTER_S.saturating_mul(1_000)
    }
}

impl Identity {
    /// Keeps a deed, or what became of it.
    ///
    /// # Errors
    /// The disk: then it must not be done.
    pub fn keep_deed(&self, deed: &Deed) -> Result<(), IdentityError> {
        let path = folder(self.dir()).join(format!("{}.json", deed.id));
        let text = serde_json::to_vec(deed)
            .map_err(|e| IdentityError::Damaged { path: path.clone(), problem: e.to_string() })?;
        files::write_private(&path, &text)
    }
}

/// The deeds of a workspace that are over and not in the log, the oldest first; `None` if there are none, or somebody
/// else is bringing them there.
///
/// # Errors
/// The disk.
pub fn waiting_deeds(
    dir: &Path,
    workspace: &WorkspaceId,
    now: Timestamp,
) -> Result<Option<WaitingDeeds>, IdentityError> {
    if names(&folder(dir))?.is_empty() {
        return Ok(None);
    }
    let Some(lock) = files::try_lock(&folder(dir).join("lock"))? else { return Ok(None) };
    let mut deeds = vec![];
    // Read again: what was there before the lock may be in the log by now.
    for path in names(&folder(dir))? {
        if deeds.len() >= MOST {
            break;
        }
        let is_small = std::fs::metadata(&path).is_ok_and(|about| about.len() <= MOST_BYTES);
        let text = if is_small { files::read(&path)?.unwrap_or_default() } else { String::new() };
        match serde_json::from_str::<Deed>(&text).ok() {
            Some(deed) if deed.workspace != *workspace || deed.is_under_way(now) => {}
            deed => deeds.push((path, deed)),
        }
    }
    Ok((!deeds.is_empty()).then_some(WaitingDeeds { _lock: lock, deeds }))
}

impl WaitingDeeds {
    /// It is in the log: its file goes.
    ///
    /// # Errors
    /// The disk. It is looked for in the log the next time.
    pub fn settle(&self, path: &Path) -> Result<(), IdentityError> {
        files::remove(path)
    }

    /// It is no deed: it is kept under another name, and not looked at again.
    ///
    /// # Errors
    /// The disk.
    pub fn set_aside(&self, path: &Path) -> Result<(), IdentityError> {
        files::rename(path, &path.with_extension("unread"))
    }
}

fn folder(dir: &Path) -> PathBuf {
    dir.join("deeds")
}

/// The files of deeds, in order.
fn names(folder: &Path) -> Result<Vec<PathBuf>, IdentityError> {
    let mut names = files::list(folder)?;
    names.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deed_waits_until_it_is_over_and_goes_when_it_is_settled() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, other) = (WorkspaceId::new("default").unwrap(), WorkspaceId::new("other").unwrap());
        let identity = Identity::init(dir.path(), &ours).unwrap();
        let mut deed = Deed::new(&ours, "enrolNode", "ada").on(&NodeId::new("n1").unwrap());
        let waiting = |workspace: &WorkspaceId, now| waiting_deeds(dir.path(), workspace, now).unwrap();
        assert!(waiting(&ours, deed.at).is_none());
        identity.keep_deed(&deed).unwrap();
        assert!(waiting(&ours, deed.at).is_none(), "it is under way");
        let late = deed.at.plus_millis(200_000);
        assert_eq!(waiting(&ours, late).unwrap().deeds[0].1, Some(deed.clone()), "it was broken off");
        deed.result = "ok".into();
        identity.keep_deed(&deed).unwrap();
        assert!(waiting(&other, late).is_none(), "another hub's");
        std::fs::write(dir.path().join("deeds/zzz.json"), "no deed").unwrap();
        let found = waiting(&ours, deed.at).unwrap();
        assert_eq!(found.deeds.iter().map(|(_, deed)| deed.clone()).collect::<Vec<_>>(), [Some(deed.clone()), None]);
        assert!(waiting(&ours, deed.at).is_none(), "one at a time");
        found.settle(&found.deeds[0].0).unwrap();
        found.set_aside(&found.deeds[1].0).unwrap();
        drop(found);
        assert!(waiting(&ours, deed.at).is_none());
    }
}
