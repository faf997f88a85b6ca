//! Whose a session is: that of the workspace and the node that spoke for it first. What others say of it is not
//! believed. One for all workspaces of a hub.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bus_schema::{NodeId, SessionId, WorkspaceId};
use hub_store::{Store, StoreError};

/// Sessions remembered; beyond it all are forgotten, and asked of the store again.
const CAPACITY: usize = 50_000;

/// Whose a session is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its workspace.
    pub workspace: WorkspaceId,
    /// Its node there.
    pub node: NodeId,
}

impl Owner {
    /// Whether it is that node of that workspace.
    pub fn is(&self, workspace: &WorkspaceId, node: &NodeId) -> bool {
        self.workspace == *workspace && self.node == *node
    }
}

/// Owners of sessions.
pub struct Owners {
    store: Store,
    known: Mutex<HashMap<SessionId, Owner>>,
}

impl Owners {
    /// Owners as the store knows them.
    pub fn new(store: Store) -> Self {
        Self { store, known: Mutex::default() }
    }

    /// The owner of each of these sessions, which nodes of a workspace claim. Whoever claims one that nobody owns
    /// becomes its owner, the first in order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn claim(
        &self,
        workspace: &WorkspaceId,
        claims: impl Iterator<Item = (&SessionId, &NodeId)> + Clone,
    ) -> Result<HashMap<SessionId, Owner>, StoreError> {
        let unknown = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let mut unknown: Vec<_> = claims.clone().map(|(s, _)| s).filter(|s| !known.contains_key(*s)).collect();
            unknown.sort();
            unknown.dedup();
            unknown.into_iter().cloned().collect::<Vec<_>>()
        };
        let stored = if unknown.is_empty() { HashMap::new() } else { self.store.owners(&unknown).await? };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() > CAPACITY {
            known.clear();
        }
        for (session, (workspace, node)) in stored {
            known.entry(session).or_insert(Owner { workspace, node });
        }
        let mut owners = HashMap::new();
        for (session, node) in claims {
            let mine = || Owner { workspace: workspace.clone(), node: node.clone() };
            let owner = known.entry(session.clone()).or_insert_with(mine);
            owners.insert(session.clone(), owner.clone());
        }
        Ok(owners)
    }
}
