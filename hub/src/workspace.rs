//! One workspace of the hub: its bus, its live path, its audit log, and what works for it in the background.
//!
//! Laws:
//! 1. Nothing here holds anything of another workspace. What all share is in [`Common`], and knows whose is what.
//! 2. Whatever reads streams waits for them to be there.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bus_schema::jetstream::{MESSAGES_CONSUMER, STATE_CONSUMER};
use hub_store::Store;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::actions::Actions;
use crate::actions::kill_all::KillAll;
use crate::agent_providers::{AgentProviders, Parts};
use crate::api::{App, Workspaces};
use crate::audit::Audit;
use crate::authn::{self, Authn, Oidc};
use crate::bus::{Bus, BusError, StreamName};
use crate::config::NatsConfig;
use crate::control::Control;
use crate::deeds::Deeds;
use crate::enrolment::{self, Enrolment};
use crate::ingest::Ingest;
use crate::journal::Journal;
use crate::limits::Limits;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::owners::Owners;
use crate::refusals::Refusals;
use crate::retention::Retention;
use crate::secrets::SecretKeys;
use crate::supervisor::{chain, keep_running};

/// What all workspaces of the hub share.
pub struct Common {
    /// The store.
    pub store: Store,
    /// True if its last end was not clean.
    pub unclean: bool,
    /// Largest number of payload bytes in a transaction.
    pub batch_bytes: usize,
    /// The hub's own records.
    pub journal: Arc<Journal>,
    /// The keys that seal.
    pub keys: Arc<SecretKeys>,
    /// Whose a session is.
    pub owners: Arc<Owners>,
    /// Signing in.
    pub authn: authn::Common,
    /// Services that people sign in with.
    pub oidc: Arc<Oidc>,
    /// How much anybody may ask for.
    pub limits: Arc<Limits>,
    /// Scheme and host of the hub as browsers see it.
    pub public_url: Option<String>,
    /// True if the hub itself shakes hands.
    pub tls: bool,
    /// Proxies before the hub that are believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// How long a kill-all waits for nodes that are away.
    pub kill_all_lease: Duration,
    /// People to make if they are not there.
    pub bootstrap_users: Option<PathBuf>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Ends everything.
    pub stop: CancellationToken,
    /// Owns every task.
    pub tasks: TaskTracker,
    /// Each other.
    pub workspaces: Arc<Workspaces>,
    /// Where it is said why the hub cannot go on.
    pub fatal: watch::Sender<Option<String>>,
}

/// A workspace that has not begun.
pub struct Workspace {
    /// What its handlers need.
    pub app: Arc<App>,
    refusals: Arc<Refusals>,
    peopled: watch::Sender<bool>,
}

impl Workspace {
    /// Puts its parts together.
    pub fn new(common: &Common, bus: Bus, nats: Arc<NatsConfig>) -> Self {
        let Common { store, metrics, tasks, journal, .. } = common;
        let workspace = bus.workspace().clone();
        let live = Live::new(bus.clone(), store.clone(), Arc::clone(&common.owners), Arc::clone(metrics));
        let live = Arc::new(live);
        let audit = Audit::new(bus.clone(), store.clone(), Arc::clone(metrics));
        let authn = Arc::new(Authn::new(common.authn.clone(), workspace.clone()));
        let control = Control::new(
            workspace.clone(),
            Arc::clone(journal),
            store.clone(),
            Arc::clone(&audit),
            Arc::clone(&live),
            common.limits.config(),
        );
        let actions = Actions::new(
            bus.clone(),
            store.clone(),
            Arc::clone(&live),
            Arc::clone(&audit),
            Arc::clone(&control),
            Arc::clone(metrics),
            tasks.clone(),
        );
        let kill_all = KillAll::new(Arc::clone(&actions), common.kill_all_lease);
        let agent_providers = AgentProviders::new(Parts {
            workspace: workspace.clone(),
            journal: Arc::clone(journal),
            store: store.clone(),
            live: Arc::clone(&live),
            audit: Arc::clone(&audit),
            actions: Arc::clone(&actions),
            keys: Arc::clone(&common.keys),
            metrics: Arc::clone(metrics),
            tasks: tasks.clone(),
        });
        let enrolment = Enrolment::new(enrolment::Parts {
            workspace,
            nats,
            bus: bus.clone(),
            live: Arc::clone(&live),
            actions: Arc::clone(&actions),
            audit: Arc::clone(&audit),
            metrics: Arc::clone(metrics),
            tasks: tasks.clone(),
        });
        let refusals = Refusals::new(bus.clone(), store.clone(), Arc::clone(&audit), Arc::clone(metrics));
        let retention = Retention::new(bus.clone(), store.clone(), Arc::clone(journal), Arc::clone(&audit));
        let (peopled, people) = watch::channel(common.bootstrap_users.is_none());
        let app = Arc::new(App {
            bus,
            store: store.clone(),
            live,
            journal: Arc::clone(journal),
            audit,
            authn,
            oidc: Arc::clone(&common.oidc),
            limits: Arc::clone(&common.limits),
            public_url: common.public_url.clone(),
            tls: common.tls,
            trusted_proxies: common.trusted_proxies.clone(),
            actions,
            kill_all,
            agent_providers,
            enrolment,
            retention,
            control,
            metrics: Arc::clone(metrics),
            stop: common.stop.clone(),
            tasks: tasks.clone(),
            people,
            workspaces: Arc::clone(&common.workspaces),
        });
        Self { app, refusals, peopled }
    }

    /// Starts what works in the background; tells when its streams are there.
    pub fn start(self, common: &Common) -> watch::Receiver<bool> {
        let Self { app, refusals, peopled } = self;
        let (made, streams) = watch::channel(false);
        let (bus, stop, fatal) = (app.bus.clone(), common.stop.clone(), common.fatal.clone());
        common.tasks.spawn(async move { make_streams(&bus, &stop, &made, &fatal).await });
        let starter = Starter::new(common, streams.clone());
        for (spec, stream, name) in [
            (&MESSAGES_CONSUMER, StreamName::Messages, "ingest-messages"),
            (&STATE_CONSUMER, StreamName::State, "ingest-state"),
        ] {
            let ingest = Arc::new(Ingest {
                bus: app.bus.clone(),
                store: app.store.clone(),
                owners: Arc::clone(&common.owners),
                metrics: Arc::clone(&common.metrics),
                spec,
                stream,
                unclean: AtomicBool::new(common.unclean),
                batch_bytes: common.batch_bytes,
            });
            starter.start(name, move |stop| {
                let ingest = Arc::clone(&ingest);
                async move { ingest.run(&stop).await }
            });
        }
        let live = Arc::clone(&app.live);
        starter.start("live", move |stop| {
            let live = Arc::clone(&live);
            async move { live.run(&stop).await }
        });
        let audit = Arc::clone(&app.audit);
        starter.start("audit", move |stop| {
            let audit = Arc::clone(&audit);
            async move { audit.follow(&stop).await }
        });
        let retention = Arc::clone(&app.retention);
        starter.start("retention", move |stop| {
            let retention = Arc::clone(&retention);
            async move { retention.run(&stop).await }
        });
        let control = Arc::clone(&app.control);
        starter.start("control", move |stop| {
            let control = Arc::clone(&control);
            async move { control.run(&stop).await }
        });
        let agent_providers = Arc::clone(&app.agent_providers);
        starter.start("agent-providers", move |stop| {
            let agent_providers = Arc::clone(&agent_providers);
            async move { agent_providers.run(&stop).await }
        });
        let kill_all = Arc::clone(&app.kill_all);
        starter.start("kill-all", move |stop| {
            let kill_all = Arc::clone(&kill_all);
            async move { kill_all.run(&stop).await }
        });
        starter.start("refusals", move |stop| {
            let refusals = Arc::clone(&refusals);
            async move { refusals.run(&stop).await }
        });
        let deeds =
            Deeds::new(app.bus.clone(), Arc::clone(&app.audit), Arc::clone(&app.metrics), app.enrolment.identity_dir());
        starter.start("deeds", move |stop| {
            let deeds = Arc::clone(&deeds);
            async move { deeds.run(&stop).await }
        });
        let enrolment = Arc::clone(&app.enrolment);
        starter.start("enrolment", move |stop| {
            let enrolment = Arc::clone(&enrolment);
            async move { enrolment.run(&stop).await }
        });
        if let Some(path) = common.bootstrap_users.clone() {
            let (authn, journal, stop) = (Arc::clone(&app.authn), Arc::clone(&app.journal), common.stop.clone());
            common.tasks.spawn(async move { bootstrap(&authn, &journal, &path, &peopled, &stop).await });
        }
        streams
    }
}

/// Starts the tasks that read streams, once those are there.
pub(crate) struct Starter {
    tasks: TaskTracker,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    streams: watch::Receiver<bool>,
}

impl Starter {
    pub(crate) fn new(common: &Common, streams: watch::Receiver<bool>) -> Self {
        let (tasks, metrics, stop) = (common.tasks.clone(), Arc::clone(&common.metrics), common.stop.clone());
        Self { tasks, metrics, stop, streams }
    }

    pub(crate) fn start<E, F>(&self, name: &'static str, run: impl Fn(CancellationToken) -> F + Send + Sync + 'static)
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
            // Nothing that passes by itself: told at once.
            Err(error @ BusError::NoRoom { .. }) if !told => {
                told = true;
                tracing::error!(error = chain(&error), "the hub cannot serve");
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
