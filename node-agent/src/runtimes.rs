//! Which runtimes this node has. A further one is registered here, and named in `config::PROVIDERS`.

use std::sync::Arc;

use bus_schema::ProviderName;
use providers::echo::Echo;
use providers::{ProviderError, Registry, RegistryError};

use crate::config::Config;

/// The runtimes cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum RuntimesError {
    /// One of them cannot begin.
    #[error("setting up the provider {name}")]
    Provider {
        /// Which.
        name: &'static str,
        /// Why not.
        #[source]
        source: ProviderError,
    },
    /// There are two of one name.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A name is none.
    #[error(transparent)]
    Name(#[from] bus_schema::IdError),
}

/// Sets up the runtimes of a node.
///
/// # Errors
/// [`RuntimesError`].
pub fn registry(config: &Config) -> Result<Registry, RuntimesError> {
    let mut registry = Registry::new();
    if config.has_echo {
        let folder = config.data_dir.join("echo");
        let echo = Echo::open(ProviderName::new("echo")?, &folder);
        registry.register(Arc::new(echo.map_err(|source| RuntimesError::Provider { name: "echo", source })?))?;
    }
    Ok(registry)
}
