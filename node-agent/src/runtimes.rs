//! Which runtimes this node has. A further one is set up here, and named in `config::PROVIDERS`.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use bus_schema::{Connection, ProviderName};
use providers::echo::Echo;
use providers::pty::{PtyConfig, PtyProvider};
use providers::{OpenClawConfig, OpenClawProvider, ProviderError, Registry, RegistryError};

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
    /// This program does not know where it is, and so cannot start the holders of terminal sessions.
    #[error("finding our own program")]
    Program(#[source] std::io::Error),
}

/// The runtimes of a node.
pub struct Runtimes {
    /// By name.
    pub registry: Registry,
    pty: Arc<PtyProvider>,
    echo: Option<Echo>,
    openclaw: Option<Arc<OpenClawProvider>>,
}

impl Runtimes {
    /// Sets them up over a node's data folder. Gateways are left alone without `openclaw`.
    ///
    /// # Errors
    /// [`RuntimesError`].
    pub async fn start(
        data_dir: &Path,
        has_echo: bool,
        openclaw: Option<Vec<Connection>>,
    ) -> Result<Self, RuntimesError> {
        let provider = |name| move |source| RuntimesError::Provider { name, source };
        let mut registry = Registry::new();
        // The holders are this very program; `main` gives them their way in.
        let program: OsString = std::env::current_exe().map_err(RuntimesError::Program)?.into();
        let pty = PtyProvider::start(PtyConfig::new(data_dir.join("pty"), [program])).await;
        let pty = pty.map_err(provider("pty"))?;
        registry.register(pty.clone())?;
        let mut echo = None;
        if has_echo {
            let opened = Echo::open(ProviderName::new("echo")?, &data_dir.join("echo")).map_err(provider("echo"))?;
            registry.register(Arc::new(opened.clone()))?;
            echo = Some(opened);
        }
        let openclaw = match openclaw {
            Some(connections) => {
                let config = OpenClawConfig { dir: data_dir.join("openclaw"), connections };
                let started = OpenClawProvider::start(config).await.map_err(provider("openclaw"))?;
                registry.register(started.clone())?;
                Some(started)
            }
            None => None,
        };
        Ok(Self { registry, pty, echo, openclaw })
    }

    /// Lets them go. What their sessions are to outlive them, do.
    pub async fn shutdown(&self) {
        self.pty.shutdown().await;
        if let Some(echo) = &self.echo {
            echo.shutdown().await;
        }
        if let Some(openclaw) = &self.openclaw {
            openclaw.shutdown().await;
        }
    }
}
