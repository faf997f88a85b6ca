//! The life of the hub: open, connect, serve, drain, close.
//!
//! ```text
//! store ─► HTTP bound ─► bus (for ever, in the background) ─► streams ─► journal ─► people ─► ready
//! first signal: stop taking, end streams, wait for actions and transactions, close bus and store
//! second signal: end at once (the store repairs itself at the next start)
//! ```

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use hub_store::{Opened, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api;
use crate::authn::{self, Oidc};
use crate::bus::{Bus, OwnAccount};
use crate::config::Config;
use crate::ingest::batch_bytes;
use crate::journal::Journal;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::owners::Owners;
use crate::secrets::SecretKeys;
use crate::server::Server;
use crate::supervisor::chain;
use crate::tls;
use crate::workspace::{Common, Starter, Workspace};

/// How long an orderly end may take.
const GRACE: Duration = Duration::from_secs(15);

/// Runs the hub until `stop`.
///
/// # Errors
/// What keeps it from starting: the store, the address, the credentials, a server that is too old.
pub async fn run(config: Config, stop: CancellationToken) -> Result<()> {
    std::fs::create_dir_all(&config.data_dir).with_context(|| format!("cannot make {}", config.data_dir.display()))?;
    let listener = tokio::net::TcpListener::bind(config.listen).await;
    let listener = listener.with_context(|| format!("cannot listen on {}: is another hub running?", config.listen))?;
    let Opened { store, unclean } = Store::open(&config.store).await?;
    if unclean {
        tracing::warn!("the last end of the store was not clean; the tail of every stream is applied again");
    }
    let ran = serve(&config, listener, store.clone(), unclean, stop).await;
    store.close().await?;
    ran
}

async fn serve(
    config: &Config,
    listener: tokio::net::TcpListener,
    store: Store,
    unclean: bool,
    stop: CancellationToken,
) -> Result<()> {
    let (first, nats) = config.workspaces.first().context("no workspace to serve")?;
    let keys = Arc::new(SecretKeys::open_or_make(&config.secret_key)?);
    let metrics = Arc::new(Metrics::new());
    let own = OwnAccount::connect(nats, &metrics).await?;
    let mut buses = vec![];
    for (id, nats) in &config.workspaces {
        buses.push((Bus::connect(nats, id.clone(), &own, &metrics).await?, Arc::clone(nats)));
    }
    let tasks = TaskTracker::new();
    let own_records = buses.first().map(|(bus, _)| bus.clone()).context("no workspace to serve")?;
    let journal = Journal::new(own_records, store.clone(), Arc::clone(&metrics));
    let limits = Limits::new(config.limits.clone(), Arc::clone(&metrics));
    let served = config.workspaces.iter().map(|(id, _)| id.clone()).collect();
    let authn = authn::Common::new(store.clone(), Arc::clone(&journal), Arc::clone(&limits), served)?;
    let (fatal, mut fatally) = watch::channel(None::<String>);
    let common = Common {
        owners: Arc::new(Owners::new(store.clone())),
        store,
        unclean,
        batch_bytes: batch_bytes(config.store.memtable_bytes),
        journal: Arc::clone(&journal),
        keys,
        authn,
        oidc: Arc::new(Oidc::new(config.oidc.clone(), config.public_url.clone())?),
        limits: Arc::clone(&limits),
        public_url: config.public_url.clone(),
        tls: config.tls.is_some(),
        trusted_proxies: config.trusted_proxies.clone(),
        kill_all_lease: config.kill_all_lease,
        bootstrap_users: config.bootstrap_users.clone(),
        metrics: Arc::clone(&metrics),
        stop: stop.clone(),
        tasks: tasks.clone(),
        workspaces: Arc::default(),
        fatal,
    };
    let workspaces = buses.into_iter().map(|(bus, nats)| Workspace::new(&common, bus, nats));
    let workspaces: Vec<_> = workspaces.collect();
    let apps: Vec<_> = workspaces.iter().map(|workspace| Arc::clone(&workspace.app)).collect();
    // It tells them of each other, so it is there before they begin.
    let router = api::router(&apps);
    let mut streams = vec![];
    for workspace in workspaces {
        streams.push(workspace.start(&common));
    }
    let following = Arc::clone(&journal);
    let starter = Starter::new(&common, streams.swap_remove(0));
    starter.start("journal", move |stop| {
        let journal = Arc::clone(&following);
        async move { journal.follow(&stop).await }
    });

    let address = listener.local_addr()?;
    announce(&config.data_dir, address, config.tls.is_some())?;
    let server = Server {
        router,
        tls: config.tls.as_ref().map(|(cert, key)| tls::acceptor(cert, key)).transpose()?,
        limits,
        metrics: Arc::clone(&metrics),
        trusted_proxies: config.trusted_proxies.clone(),
    };
    let mut server = tokio::task::JoinSet::from_iter([server.serve(listener, stop.clone())]);
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), workspace = %first, of = apps.len(), "mosaic-hub serves");

    let mut outcome = Ok(());
    tokio::select! {
        () = stop.cancelled() => {}
        Ok(reason) = fatally.wait_for(Option::is_some) => {
            outcome = Err(anyhow::anyhow!(reason.clone().unwrap_or_default()));
        }
        ended = server.join_next() => {
            outcome = ended.map_or(Ok(()), |joined| Ok(joined?));
        }
    }
    stop.cancel();
    tracing::info!("ending: waiting for what is under way");
    tasks.close();
    let drained = tokio::time::timeout(GRACE, async {
        tasks.wait().await;
        while server.join_next().await.is_some() {}
    });
    if drained.await.is_err() {
        tracing::warn!(open = tasks.len(), grace_s = GRACE.as_secs(), "the grace period ran out");
    }
    for app in &apps {
        if let Err(error) = app.audit.end().await {
            let workspace = app.bus.workspace();
            tracing::warn!(%workspace, error = chain(&error), "the end of the audit log stays unsigned until the next start");
        }
    }
    for app in &apps {
        app.bus.close().await;
    }
    outcome
}

/// Tells others on this machine where the hub listens.
fn announce(data_dir: &Path, address: SocketAddr, secure: bool) -> Result<()> {
    let scheme = if secure { "https" } else { "http" };
    let (path, draft) = (data_dir.join("listen.json"), data_dir.join("listen.json.new"));
    let text = serde_json::json!({ "url": format!("{scheme}://{address}"), "pid": std::process::id() }).to_string();
    std::fs::write(&draft, text).and_then(|()| std::fs::rename(&draft, &path))?;
    Ok(())
}
