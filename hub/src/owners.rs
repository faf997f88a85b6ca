//! Which node a session belongs to: the one that spoke for it first. What another node says of it is not believed.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bus_schema::{NodeId, SessionId};
use hub_store::{Store, StoreError};

/// Sessions remembered; beyond it all are forgotten, and asked of the store again.
const CAPACITY: usize = 50_000;

/// Owners of sessions.
pub struct Owners {
    store: Store,
    known: Mutex<HashMap<SessionId, NodeId>>,
}

impl Owners {
    /// Owners as the store knows them.
    pub fn new(store: Store) -> Self {
        Self { store, known: Mutex::default() }
    }

    /// The owner of each of these sessions. Whoever claims one that nobody owns becomes its owner, the first in order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn claim(
        &self,
        claims: impl Iterator<Item = (&SessionId, &NodeId)> + Clone,
    ) -> Result<HashMap<SessionId, NodeId>, StoreError> {
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
        for (session, node) in stored {
            known.entry(session).or_insert(node);
        }
        let mut owners = HashMap::new();
        for (session, node) in claims {
            let owner = known.entry(session.clone()).or_insert_with(|| node.clone());
            owners.insert(session.clone(), owner.clone());
        }
        Ok(owners)
    }
}
