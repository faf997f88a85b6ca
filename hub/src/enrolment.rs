//! Nodes let in and shut out, and the keys they obey.
//!
//! ```text
//! enrol:  audit intent ─► credentials made ─► audit outcome ─► told once, kept nowhere
//! revoke: audit intent ─► credentials void on disk ─► every server told ─► cut off ─► audit outcome
//! ```
//!
//! Laws:
//! 1. It needs the folder of the identity ([`NatsConfig::identity`]); a hub without it does everything else.
//! 2. A node is void when that is on disk, and cut off when the servers know it. Until they do they are told again, over
//!    restarts too: at its start a hub tells them all accounts.
//! 3. A node that does not know the command key of today is told of it, with the proof ([`bus_schema::KeySuccession`]).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bus_schema::{BusRole, IdError, JoinToken, NodeId, Operator, Secret, UserId, WorkspaceId};
use hub_identity::{Identity, IdentityError};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use ulid::Ulid;

use crate::actions::{Actions, Asker};
use crate::audit::{Audit, AuditError, Deed, DeedResult};
use crate::bus::{Bus, BusError, push_accounts};
use crate::config::NatsConfig;
use crate::live::Live;
use crate::metrics::{ActionOf, Metrics};
use crate::supervisor::chain;

/// How often what is left to do is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Pause before a node is told of a key again.
const TELL_AGAIN: Duration = Duration::from_secs(30);

/// Lets nodes in and shuts them out.
pub struct Enrolment {
    workspace: WorkspaceId,
    nats: Arc<NatsConfig>,
    bus: Bus,
    live: Arc<Live>,
    actions: Arc<Actions>,
    audit: Arc<Audit>,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
    /// True while the servers may not know all accounts.
    untold: AtomicBool,
    changed: Notify,
}

/// What it needs of the hub.
pub struct Parts {
    /// The workspace it is for.
    pub workspace: WorkspaceId,
    /// Where the bus and the identity are.
    pub nats: Arc<NatsConfig>,
    /// The bus.
    pub bus: Bus,
    /// What nodes are like now.
    pub live: Arc<Live>,
    /// The way to nodes.
    pub actions: Arc<Actions>,
    /// The audit log.
    pub audit: Arc<Audit>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Owns what outlives its request.
    pub tasks: TaskTracker,
}

/// Something was not done.
#[derive(Debug, thiserror::Error)]
pub enum EnrolmentError {
    /// This hub has no access to the identity.
    #[error(
        "this hub cannot enrol or revoke nodes: give it the identity's folder, `identity = \"DIR\"` under [nats] in its \
         configuration, or use `mosaic node` where that folder is"
    )]
    Off,
    /// What was given cannot be the name of a node.
    #[error("a node cannot have this name: {0}")]
    Name(IdError),
    /// The identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The token cannot be written.
    #[error("the join token cannot be written")]
    Token(#[from] bus_schema::EncodeError),
    /// Its credentials are void, and the servers do not know it yet.
    #[error("node {node} is revoked, and the bus does not know it yet: it is told as soon as it can be reached")]
    Untold {
        /// Which node.
        node: NodeId,
        /// Why not.
        #[source]
        source: BusError,
    },
    /// The intent could not be written: nothing was done.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The task that carried it out is gone: the hub is ending.
    #[error("the hub is ending; whether it was done is not known")]
    Ending,
}

/// A node that was let in.
pub struct Enrolled {
    /// All that it needs.
    pub token: JoinToken,
    /// The same as one text.
    pub text: Secret,
}

impl Enrolment {
    /// With what it needs.
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { workspace, nats, bus, live, actions, audit, metrics, tasks } = parts;
        let (untold, changed) = (AtomicBool::new(true), Notify::new());
        Arc::new(Self { workspace, nats, bus, live, actions, audit, metrics, tasks, untold, changed })
    }

    /// The folder of the identity, if this hub has it.
    pub fn identity_dir(&self) -> Option<PathBuf> {
        self.nats.identity.clone()
    }

    /// Makes credentials for a new node.
    ///
    /// # Errors
    /// [`EnrolmentError`].
    pub async fn enrol(self: &Arc<Self>, asker: Asker, node: &str) -> Result<Enrolled, EnrolmentError> {
        let node = NodeId::new(node).map_err(EnrolmentError::Name)?;
        let dir = self.nats.identity.clone().ok_or(EnrolmentError::Off)?;
        let this = Arc::clone(self);
        let task = self.tasks.spawn(async move {
            let intent = this.audit.intend(deed("enrolNode", &asker, &node)).await?;
            let (workspace, nats) = (this.workspace.clone(), Arc::clone(&this.nats));
            let made = blocking(move || {
                let token = Identity::open(&dir)?.enrol(&workspace, &node, nats.told_to_nodes(), nats.ca_text()?)?;
                let text = token.to_text()?;
                Ok(Enrolled { token, text })
            });
            let made = made.await;
            this.conclude("enrolNode", intent, &made).await;
            made
        });
        task.await.map_err(|_| EnrolmentError::Ending)?
    }

    /// Makes a node's credentials void and cuts it off.
    ///
    /// # Errors
    /// [`EnrolmentError`]; with [`EnrolmentError::Untold`] it is done by half and goes on by itself.
    pub async fn revoke(self: &Arc<Self>, asker: Asker, node: &str) -> Result<(), EnrolmentError> {
        let node = NodeId::new(node).map_err(EnrolmentError::Name)?;
        let dir = self.nats.identity.clone().ok_or(EnrolmentError::Off)?;
        let this = Arc::clone(self);
        let task = self.tasks.spawn(async move {
            let intent = this.audit.intend(deed("revokeNode", &asker, &node)).await?;
            let done = this.shut_out(dir, &node).await;
            this.conclude("revokeNode", intent, &done).await;
            done
        });
        task.await.map_err(|_| EnrolmentError::Ending)?
    }

    async fn shut_out(&self, dir: PathBuf, node: &NodeId) -> Result<(), EnrolmentError> {
        let (workspace, name) = (self.workspace.clone(), node.clone());
        let made = blocking(move || {
            let mut identity = Identity::open(&dir)?;
            if identity.users(&workspace).get(name.as_str()) != Some(&BusRole::Node) {
                return Err(IdentityError::UnknownUser { workspace, name: name.to_string() }.into());
            }
            // From here on it has to be told, whatever becomes of us: the next start tells all accounts.
            Ok((identity.revoke(&workspace, name.as_str())?, identity.sys_creds()))
        });
        let (update, sys_creds) = made.await?;
        if let Err(source) = push_accounts(&self.nats, &sys_creds, &[update]).await {
            self.untold.store(true, Ordering::Release);
            self.changed.notify_one();
            return Err(EnrolmentError::Untold { node: node.clone(), source });
        }
        self.live.part(node);
        Ok(())
    }

    async fn conclude<T>(&self, action: &'static str, intent: crate::audit::Intent, done: &Result<T, EnrolmentError>) {
        let result = match done {
            Ok(_) => DeedResult::ok(),
            Err(error @ EnrolmentError::Untold { .. }) => DeedResult::not("failed", chain(error)),
            Err(error) => DeedResult::not("refused", chain(error)),
        };
        self.metrics.actions.get_or_create(&ActionOf { action, result: result.result }).inc();
        self.audit.conclude(intent, result).await;
    }

    /// Tells servers and nodes what they do not know, until it is stopped.
    ///
    /// # Errors
    /// [`EnrolmentError`]; run again, it goes on.
    pub async fn run(&self, stop: &CancellationToken) -> Result<(), EnrolmentError> {
        let mut told = BTreeMap::new();
        loop {
            if self.untold.load(Ordering::Acquire) && self.bus.is_connected() {
                self.tell_servers().await?;
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.tell_nodes(&mut told) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.changed.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    async fn tell_servers(&self) -> Result<(), EnrolmentError> {
        let Some(dir) = self.nats.identity.clone() else {
            self.untold.store(false, Ordering::Release);
            return Ok(());
        };
        // Before it is read: what is revoked meanwhile counts as untold again.
        self.untold.store(false, Ordering::Release);
        let read = blocking(move || {
            let identity = Identity::open(&dir)?;
            Ok((identity.account_updates()?, identity.sys_creds()))
        });
        let done = match read.await {
            Ok((updates, sys_creds)) => push_accounts(&self.nats, &sys_creds, &updates).await.map_err(|e| chain(&e)),
            Err(error) => Err(chain(&error)),
        };
        match done {
            Ok(()) => tracing::info!("the servers know all accounts"),
            Err(error) => {
                self.untold.store(true, Ordering::Release);
                tracing::warn!(error, "the servers could not be told of all accounts; trying again");
            }
        }
        Ok(())
    }

    /// Tells nodes of the command key of today, with the proof. One that cannot take it is told again later.
    async fn tell_nodes(&self, told: &mut BTreeMap<NodeId, Instant>) {
        if !self.bus.has_key_chain() {
            return;
        }
        let key = self.bus.command_key();
        let due: Vec<NodeId> = {
            let fleet = self.live.fleet();
            let lacks = |keys: &[String]| !keys.is_empty() && !keys.contains(&key);
            let lacking = fleet.nodes().filter(|node| node.online && lacks(&node.state.command_keys));
            lacking.map(|node| node.state.node).collect()
        };
        let now = Instant::now();
        told.retain(|_, at| now.duration_since(*at) < TELL_AGAIN);
        for node in due {
            if told.contains_key(&node) {
                continue;
            }
            told.insert(node.clone(), now);
            let Ok(id) = UserId::new("mosaic-hub") else { return };
            let operator = Operator { id, name: "mosaic-hub".into() };
            match self.actions.send_trust(operator, &Ulid::new().to_string(), node.clone()).await {
                Ok(()) => tracing::info!(%node, "the node knows the new command key"),
                Err(error) => tracing::warn!(%node, error = chain(&error), "a node does not take the new command key"),
            }
        }
    }
}

fn deed(action: &'static str, asker: &Asker, node: &NodeId) -> Deed {
    Deed { node: Some(node.clone()), ..Deed::by(asker, action) }
}

/// Files and their lock: for a thread that may wait.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EnrolmentError> + Send + 'static,
) -> Result<T, EnrolmentError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| EnrolmentError::Ending)?
}
