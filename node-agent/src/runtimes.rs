//! Which runtimes this node has. A further one is set up here, and named in `config::PROVIDERS`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bus_schema::ProviderName;
use providers::echo::Echo;
use providers::pty::{PtyConfig, PtyProvider};
use providers::{
    DockerConfig, DockerProvider, OpenClawConfig, OpenClawGateway, OpenClawProvider, ProviderError, Registry,
    RegistryError,
};

/// Whether and where this node looks for containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Docker {
    /// Containers are looked for. An engine need not be there: it may come.
    pub is_enabled: bool,
    /// The engine's socket, where it is not to be found by itself.
    pub socket: Option<PathBuf>,
    /// This program stands beside the node agent, which keeps the sessions.
    pub is_beside: bool,
}

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
    /// Those whose sessions have holders: terminals, agents that speak ACP, gateways of the node's own.
    held: Vec<Arc<PtyProvider>>,
    docker: Option<Arc<DockerProvider>>,
    echo: Option<Echo>,
    openclaw: Option<Arc<OpenClawProvider>>,
}

impl Runtimes {
    /// Sets them up over a node's data folder. Without `openclaw` no gateway is connected to, and `openclaw` is but the
    /// gateways that the node holds.
    ///
    /// # Errors
    /// [`RuntimesError`].
    pub async fn start(
        data_dir: &Path,
        has_echo: bool,
        docker: &Docker,
        openclaw: Option<Vec<OpenClawGateway>>,
    ) -> Result<Self, RuntimesError> {
        let provider = |name| move |source| RuntimesError::Provider { name, source };
        let mut registry = Registry::new();
        // The holders are this very program; `main` gives them their way in.
        let program: OsString = std::env::current_exe().map_err(RuntimesError::Program)?.into();
        let configs = [
            PtyConfig::new(data_dir.join("pty"), [program.clone()]),
            PtyConfig::acp(data_dir.join("acp"), [program.clone()]),
        ];
        let mut held = vec![];
        for config in configs {
            let name = config.name;
            let started = PtyProvider::start(config).await.map_err(provider(name))?;
            registry.register(started.clone())?;
            held.push(started);
        }
        let mut containers = None;
        if docker.is_enabled {
            let mut config = DockerConfig::new(data_dir.join("docker"));
            (config.socket, config.is_beside) = (docker.socket.clone(), docker.is_beside);
            let started = DockerProvider::start(config).await.map_err(provider("docker"))?;
            registry.register(started.clone())?;
            containers = Some(started);
        }
        let mut echo = None;
        if has_echo {
            let opened = Echo::open(ProviderName::new("echo")?, &data_dir.join("echo")).map_err(provider("echo"))?;
            registry.register(Arc::new(opened.clone()))?;
            echo = Some(opened);
        }
        let dir = data_dir.join("openclaw");
        let holder = PtyProvider::start(PtyConfig::gateways(dir.join("gateways"), [program])).await;
        let holder = holder.map_err(provider("openclaw"))?;
        held.push(holder.clone());
        let openclaw = match openclaw {
            Some(connections) => {
                let config = OpenClawConfig { dir, connections, holder: Some(holder) };
                let started = OpenClawProvider::start(config).await.map_err(provider("openclaw"))?;
                registry.register(started.clone())?;
                Some(started)
            }
            None => {
                registry.register(holder)?;
                None
            }
        };
        Ok(Self { registry, held, docker: containers, echo, openclaw })
    }

    /// Sends home what only waits to tell the end of a session.
    ///
    /// # Errors
    /// [`ProviderError::Deadline`] if something stays.
    pub async fn dismiss_ended(&self) -> Result<(), ProviderError> {
        for provider in &self.held {
            provider.dismiss_ended().await?;
        }
        Ok(())
    }

    /// Lets them go. What their sessions are to outlive them, do.
    pub async fn shutdown(&self) {
        for provider in &self.held {
            provider.shutdown().await;
        }
        if let Some(docker) = &self.docker {
            docker.shutdown().await;
        }
        if let Some(echo) = &self.echo {
            echo.shutdown().await;
        }
        if let Some(openclaw) = &self.openclaw {
            openclaw.shutdown().await;
        }
    }
}
