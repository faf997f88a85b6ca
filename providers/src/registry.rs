//! All runtimes of a node, by name.
//!
//! Law: a provider that fails or hangs never hides the others. Each is asked on its own, under its own deadline.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bus_schema::ProviderName;

use crate::provider::{AgentProvider, ProviderError, SessionInfo};

/// How long one provider may take to list its sessions, in all.
const LIST_DEADLINE: Duration = Duration::from_secs(5);

/// All runtimes of a node.
#[derive(Clone, Default)]
pub struct Registry {
    providers: BTreeMap<ProviderName, Arc<dyn AgentProvider>>,
}

/// A provider cannot be put into the registry.
#[derive(Debug, thiserror::Error)]
#[error("there is a provider named {0} already")]
pub struct RegistryError(pub ProviderName);

/// The sessions of every provider, or why one could not tell.
#[derive(Debug)]
pub struct Aggregate {
    /// The sessions that could be listed.
    pub sessions: Vec<(ProviderName, SessionInfo)>,
    /// The providers that could not be asked.
    pub failures: Vec<(ProviderName, ProviderError)>,
}

impl Registry {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a provider under its own name.
    ///
    /// # Errors
    /// [`RegistryError`] if the name is taken.
    pub fn register(&mut self, provider: Arc<dyn AgentProvider>) -> Result<(), RegistryError> {
        let name = provider.name();
        if self.providers.contains_key(&name) {
            return Err(RegistryError(name));
        }
        self.providers.insert(name, provider);
        Ok(())
    }

    /// The provider of that name.
    pub fn get(&self, name: &str) -> Option<Arc<dyn AgentProvider>> {
        self.providers.get(name).cloned()
    }

    /// All providers, by name.
    pub fn all(&self) -> impl Iterator<Item = (&ProviderName, &Arc<dyn AgentProvider>)> {
        self.providers.iter()
    }

    /// The sessions of all providers, each asked under its own deadline, all at the same time.
    pub async fn sessions(&self) -> Aggregate {
        let asked = self.providers.iter().map(|(name, provider)| async move {
            let answer = tokio::time::timeout(LIST_DEADLINE, provider.sessions()).await;
            let seconds = LIST_DEADLINE.as_secs();
            let late = |_| Err(ProviderError::Deadline { doing: format!("listing sessions of {name}"), seconds });
            (name.clone(), answer.unwrap_or_else(late))
        });
        let mut all = Aggregate { sessions: vec![], failures: vec![] };
        for (name, answer) in futures::future::join_all(asked).await {
            match answer {
                Ok(sessions) => all.sessions.extend(sessions.into_iter().map(|s| (name.clone(), s))),
                Err(error) => all.failures.push((name, error)),
            }
        }
        all
    }
}
