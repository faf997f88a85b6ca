//! Puts a node agent together: everything that is started, in its order.
//!
//! ```text
//!  data folder → bus (connects in the background) → sessions on disk → publisher · keeper · commands · heartbeat
//! ```

use std::sync::Arc;
use std::time::Duration;

use bus_schema::ProviderName;
use futures::FutureExt;
use providers::{Registry, clock};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::bus::{self, BusError};
use crate::commands::refusals::Refusals;
use crate::commands::trust::Trust;
use crate::commands::{Commands, CommandsError};
use crate::config::Config;
use crate::heartbeat::Heartbeat;
use crate::metrics::Counters;
use crate::node_file::{self, DataDir, DataDirError};
use crate::outbox::Meter;
use crate::publisher::{self, Backlog, Identity, Outgoing, Setup};
use crate::session::Context;
use crate::sessions::{CHILD_QUEUE, Keeper, OpenError, Rules, discover};
use crate::settings::{Settings, SettingsError};
use crate::supervisor::{Kind, Stopped, Supervisor};

/// How long the publisher may go on after the sessions have left.
const PUBLISH_GRACE: Duration = Duration::from_secs(5);
/// How often the counters are logged.
const REPORT_EVERY: Duration = Duration::from_secs(300);

/// The node agent cannot start, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The system does not tell which start of the machine this is.
    #[error("reading the boot id of the machine")]
    BootId(#[source] std::io::Error),
    /// The data folder cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The connection cannot be begun.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The sessions on disk cannot be taken up.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What is set up from afar cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The log of commands cannot be read.
    #[error(transparent)]
    Commands(#[from] CommandsError),
    /// A task failed without which the node agent is of no use.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Runs a node agent until `cancel`, then lets it leave in order. Sessions go on without it.
///
/// # Errors
/// [`NodeError`].
pub async fn run(config: Config, registry: Registry, cancel: CancellationToken) -> Result<(), NodeError> {
    let started_at = clock::now();
    let boot_id = node_file::boot_id().map_err(NodeError::BootId)?;
    let data = DataDir::open(&config.data_dir, &config.node, &config.workspace, &boot_id)?;
    if data.is_after_restart {
        tracing::warn!("the machine was restarted: what ran before does not run any more");
    }
    if config.command_keys.is_empty() {
        tracing::warn!("no key is trusted: this node obeys nobody");
    }
    let counters = Arc::new(Counters::default());
    let identity = Arc::new(Identity {
        workspace: config.workspace.clone(),
        node: config.node.clone(),
        incarnation: data.file.incarnation.clone(),
    });
    let ca = config.ca.as_deref();
    let client = bus::connect(&config.nats_urls, &config.creds, ca, &config.node, counters.clone()).await?;

    let outgoing = Arc::new(Outgoing::default());
    let (children, born) = mpsc::channel(CHILD_QUEUE);
    let context = Arc::new(Context {
        outgoing: outgoing.clone(),
        meter: Meter::new(config.limits),
        counters: counters.clone(),
        children,
        terminal_rate: config.terminal_rate,
    });
    let settings = Settings::open(&config.data_dir, registry.clone())?;
    let names: Vec<ProviderName> = registry.all().map(|(name, _)| name.clone()).collect();
    let rules = Rules {
        workspace: config.workspace.clone(),
        node: config.node.clone(),
        profiles: config.profiles,
        max_sessions: config.max_sessions,
        keep_ended: config.keep_ended,
        dir: config.data_dir.join("sessions"),
        default_cwd: None,
    };
    let (mut keeper, sessions) = Keeper::new(rules, registry, context, born);
    keeper.open(data.is_after_restart)?;
    // Every session has been told of a restart of the machine; from here on it is history.
    data.save()?;

    let trusted = config.data_dir.join("trusted-keys");
    let trust = Trust::open(&trusted, &config.command_keys);
    let trust = Arc::new(trust.map_err(|source| CommandsError::Log { path: trusted, source })?);
    let (workspace, node) = (config.workspace.clone(), config.node.clone());
    let kept = config.data_dir.join("refusals");
    let refusals = Refusals::open(client.clone(), workspace, node, &kept, counters.clone());
    let commands = Commands::new(
        client.clone(),
        sessions.clone(),
        settings.clone(),
        trust.clone(),
        refusals.clone(),
        &config.data_dir,
        counters.clone(),
    )?;
    let backlog = Arc::new(Backlog::default());
    let setup = Setup {
        client: client.clone(),
        identity: identity.clone(),
        outgoing,
        counters: counters.clone(),
        backlog: backlog.clone(),
        lag: config.lag,
    };
    let heartbeat = Heartbeat {
        client,
        identity,
        sessions: sessions.clone(),
        settings: settings.clone(),
        trust,
        counters: counters.clone(),
        backlog,
        boot_id,
        started_at,
    };

    settings.apply_kept().await;

    let mut supervisor = Supervisor::default();
    let again = setup.clone();
    supervisor.add(
        Kind::Publisher,
        Box::new(move |cancel| {
            Some(publisher::run(again.clone(), cancel, PUBLISH_GRACE).map(|ended| Ok(ended?)).boxed())
        }),
    );
    let mut keeper = Some(keeper);
    supervisor.add(Kind::Keeper, Box::new(move |cancel| Some(keeper.take()?.run(cancel).map(Ok).boxed())));
    for name in names {
        let (sessions, kind) = (sessions.clone(), Kind::Discovery(name.to_string()));
        supervisor
            .add(kind, Box::new(move |cancel| Some(discover(sessions.clone(), name.clone(), cancel).map(Ok).boxed())));
    }
    supervisor.add(
        Kind::Commands,
        Box::new(move |cancel| Some(commands.clone().run(cancel).map(|ended| Ok(ended?)).boxed())),
    );
    supervisor.add(Kind::Refusals, Box::new(move |cancel| Some(refusals.clone().run(cancel).map(Ok).boxed())));
    supervisor.add(Kind::Heartbeat, Box::new(move |cancel| Some(heartbeat.clone().run(cancel).map(Ok).boxed())));
    let counted = counters.clone();
    supervisor.add(Kind::Report, Box::new(move |cancel| Some(report(counted.clone(), cancel).map(Ok).boxed())));
    tracing::info!(node = %config.node, workspace = %config.workspace, sessions = sessions.list().len(), "node agent up");
    let result = supervisor.run(cancel, &counters).await;
    log_counters(&counters);
    tracing::info!("node agent has left");
    Ok(result?)
}

/// Logs the counters, at times.
async fn report(counters: Arc<Counters>, cancel: CancellationToken) {
    let work = async {
        loop {
            tokio::time::sleep(REPORT_EVERY).await;
            log_counters(&counters);
        }
    };
    cancel.run_until_cancelled(work).await;
}

fn log_counters(counters: &Counters) {
    let counted: Vec<_> = counters.all().into_iter().filter(|(_, count)| *count > 0).collect();
    let text = counted.iter().map(|(name, count)| format!("{name}={count}")).collect::<Vec<_>>().join(" ");
    tracing::info!(counters = text, "counters since the start");
}
