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
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result};
use bus_schema::jetstream::{MESSAGES_CONSUMER, STATE_CONSUMER};
use hub_store::{Opened, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::actions::Actions;
use crate::agent_providers::{AgentProviders, Parts};
use crate::api::{self, App};
use crate::audit::Audit;
use crate::authn::{Authn, Oidc};
use crate::bus::{Bus, BusError, StreamName};
use crate::config::Config;
use crate::enrolment::{self, Enrolment};
use crate::ingest::{Ingest, batch_bytes};
use crate::journal::Journal;
use crate::limits::Limits;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::owners::Owners;
use crate::refusals::Refusals;
use crate::retention::Retention;
use crate::secrets::SecretKeys;
use crate::server::Server;
use crate::supervisor::{chain, keep_running};
use crate::tls;

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
    let keys = SecretKeys::open_or_make(&config.secret_key)?;
    let metrics = Arc::new(Metrics::new());
    let bus = Bus::connect(&config.nats, config.workspace.clone(), &metrics).await?;
    let tasks = TaskTracker::new();
    let owners = Arc::new(Owners::new(store.clone()));
    let live = Arc::new(Live::new(bus.clone(), store.clone(), Arc::clone(&owners), Arc::clone(&metrics)));
    let journal = Journal::new(bus.clone(), store.clone(), Arc::clone(&metrics));
    let audit = Audit::new(bus.clone(), store.clone(), Arc::clone(&metrics));
    let limits = Limits::new(config.limits.clone(), Arc::clone(&metrics));
    let authn = Authn::new(store.clone(), Arc::clone(&journal), config.workspace.clone(), Arc::clone(&limits))?;
    let authn = Arc::new(authn);
    let actions = Actions::new(
        bus.clone(),
        store.clone(),
        Arc::clone(&live),
        Arc::clone(&audit),
        Arc::clone(&metrics),
        tasks.clone(),
    );
    let agent_providers = AgentProviders::new(Parts {
        workspace: config.workspace.clone(),
        journal: Arc::clone(&journal),
        store: store.clone(),
        live: Arc::clone(&live),
        audit: Arc::clone(&audit),
        actions: Arc::clone(&actions),
        keys,
        metrics: Arc::clone(&metrics),
        tasks: tasks.clone(),
    });
    let enrolment = Enrolment::new(enrolment::Parts {
        workspace: config.workspace.clone(),
        nats: Arc::clone(&config.nats),
        bus: bus.clone(),
        live: Arc::clone(&live),
        actions: Arc::clone(&actions),
        audit: Arc::clone(&audit),
        metrics: Arc::clone(&metrics),
        tasks: tasks.clone(),
    });
    let refusals = Refusals::new(bus.clone(), store.clone(), Arc::clone(&audit), Arc::clone(&metrics));
    let retention = Retention::new(bus.clone(), store.clone(), Arc::clone(&journal), Arc::clone(&audit));
    let (peopled, people) = watch::channel(config.bootstrap_users.is_none());
    let app = Arc::new(App {
        bus: bus.clone(),
        store: store.clone(),
        live: Arc::clone(&live),
        journal: Arc::clone(&journal),
        audit: Arc::clone(&audit),
        authn: Arc::clone(&authn),
        oidc: Oidc::new(config.oidc.clone(), config.public_url.clone())?,
        limits: Arc::clone(&limits),
        public_url: config.public_url.clone(),
        trusted_proxies: config.trusted_proxies.clone(),
        actions,
        agent_providers: Arc::clone(&agent_providers),
        enrolment: Arc::clone(&enrolment),
        retention: Arc::clone(&retention),
        metrics: Arc::clone(&metrics),
        stop: stop.clone(),
        tasks: tasks.clone(),
        people,
    });

    // Everything that reads streams waits for them to be there.
    let (made, streams) = watch::channel(false);
    let (fatal, mut fatally) = watch::channel(None::<String>);
    let (bus_ref, stop_ref) = (bus.clone(), stop.clone());
    tasks.spawn(async move { make_streams(&bus_ref, &stop_ref, &made, &fatal).await });
    let starter = Starter { tasks: tasks.clone(), metrics: Arc::clone(&metrics), stop: stop.clone(), streams };
    for (spec, stream, name) in [
        (&MESSAGES_CONSUMER, StreamName::Messages, "ingest-messages"),
        (&STATE_CONSUMER, StreamName::State, "ingest-state"),
    ] {
        let ingest = Arc::new(Ingest {
            bus: bus.clone(),
            store: store.clone(),
            owners: Arc::clone(&owners),
            metrics: Arc::clone(&metrics),
            spec,
            stream,
            unclean: AtomicBool::new(unclean),
            batch_bytes: batch_bytes(config.store.memtable_bytes),
        });
        starter.start(name, move |stop| {
            let ingest = Arc::clone(&ingest);
            async move { ingest.run(&stop).await }
        });
    }
    starter.start("live", move |stop| {
        let live = Arc::clone(&live);
        async move { live.run(&stop).await }
    });
    let following = Arc::clone(&journal);
    starter.start("journal", move |stop| {
        let journal = Arc::clone(&following);
        async move { journal.follow(&stop).await }
    });
    let following = Arc::clone(&audit);
    starter.start("audit", move |stop| {
        let audit = Arc::clone(&following);
        async move { audit.follow(&stop).await }
    });
    starter.start("retention", move |stop| {
        let retention = Arc::clone(&retention);
        async move { retention.run(&stop).await }
    });
    starter.start("agent-providers", move |stop| {
        let agent_providers = Arc::clone(&agent_providers);
        async move { agent_providers.run(&stop).await }
    });
    starter.start("refusals", move |stop| {
        let refusals = Arc::clone(&refusals);
        async move { refusals.run(&stop).await }
    });
    starter.start("enrolment", move |stop| {
        let enrolment = Arc::clone(&enrolment);
        async move { enrolment.run(&stop).await }
    });
    if let Some(path) = config.bootstrap_users.clone() {
        let (authn, journal, stop) = (Arc::clone(&authn), Arc::clone(&journal), stop.clone());
        tasks.spawn(async move { bootstrap(&authn, &journal, &path, &peopled, &stop).await });
    }

    let address = listener.local_addr()?;
    announce(&config.data_dir, address, config.tls.is_some())?;
    let server = Server {
        router: api::router(Arc::clone(&app)),
        tls: config.tls.as_ref().map(|(cert, key)| tls::acceptor(cert, key)).transpose()?,
        limits,
        metrics: Arc::clone(&metrics),
        trusted_proxies: config.trusted_proxies.clone(),
    };
    let mut server = tokio::task::JoinSet::from_iter([server.serve(listener, stop.clone())]);
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "mosaic-hub serves");

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
    if let Err(error) = audit.sign_end().await {
        tracing::warn!(error = chain(&error), "the end of the audit log stays unsigned until the next start");
    }
    bus.close().await;
    outcome
}

/// Starts the tasks that read streams, once those are there.
struct Starter {
    tasks: TaskTracker,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    streams: watch::Receiver<bool>,
}

impl Starter {
    fn start<E, F>(&self, name: &'static str, run: impl Fn(CancellationToken) -> F + Send + Sync + 'static)
    where
        E: std::error::Error,
        F: Future<Output = Result<(), E>> + Send + 'static,
    {
        let (metrics, stop, mut streams) = (Arc::clone(&self.metrics), self.stop.clone(), self.streams.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = streams.wait_for(|made| *made) => {}
            }
            keep_running(name, metrics, stop, run).await;
        });
    }
}

async fn make_streams(
    bus: &Bus,
    stop: &CancellationToken,
    made: &watch::Sender<bool>,
    fatal: &watch::Sender<Option<String>>,
) {
    /// How often it is tried while the bus is away.
    const EVERY: Duration = Duration::from_millis(250);
    /// A start within this time is ordinary.
    const QUIET: Duration = Duration::from_secs(2);
    let (begun, mut told) = (std::time::Instant::now(), false);
    loop {
        match bus.ensure_streams().await {
            Ok(()) => break,
            Err(error @ BusError::TooOld { .. }) => {
                fatal.send_replace(Some(error.to_string()));
                return;
            }
            Err(error) if !told && begun.elapsed() > QUIET => {
                told = true;
                tracing::warn!(error = chain(&error), "waiting for the bus");
            }
            Err(error) => tracing::debug!(error = chain(&error), "waiting for the bus"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
    made.send_replace(true);
    stop.cancelled().await;
}

async fn bootstrap(
    authn: &Authn,
    journal: &Journal,
    path: &Path,
    done: &watch::Sender<bool>,
    stop: &CancellationToken,
) {
    tokio::select! {
        () = stop.cancelled() => return,
        () = journal.wait_followed() => {}
    }
    loop {
        match authn.bootstrap(path).await {
            Ok(()) => {
                done.send_replace(true);
                return;
            }
            Err(error) => tracing::error!(error = chain(&error), "cannot make the people of the users file"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(5)) => {}
        }
    }
}

/// Tells others on this machine where the hub listens.
fn announce(data_dir: &Path, address: SocketAddr, secure: bool) -> Result<()> {
    let scheme = if secure { "https" } else { "http" };
    let (path, draft) = (data_dir.join("listen.json"), data_dir.join("listen.json.new"));
    let text = serde_json::json!({ "url": format!("{scheme}://{address}"), "pid": std::process::id() }).to_string();
    std::fs::write(&draft, text).and_then(|()| std::fs::rename(&draft, &path))?;
    Ok(())
}
