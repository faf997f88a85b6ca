//! How the runtimes of nodes are reached, set up from afar: kept sealed, tried, and brought to their nodes.
//!
//! ```text
//! check ─► audit intent ─► seal ─► journal ─► audit outcome ─► delivery: opened, sealed for the node, sent
//! ```
//!
//! Laws:
//! 1. A token comes in and never goes out, but sealed for its node: not in an answer, a log, the audit log or an event.
//! 2. What is kept is sealed under a key of [`secrets`](crate::secrets); what cannot be opened any more is told so,
//!    and keeps nothing else from working.
//! 3. What was begun is carried to its end, also if whoever asked for it has gone.

mod check;
mod delivery;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bus_schema::{
    Action, CommandReply, Connection, ConnectionTest, Metadata, NodeId, Operator, ProviderName, Secret, Timestamp,
    WorkspaceId,
};
use hub_store::{AgentProvider, AgentProviderRow, Store, StoreError};
use nkeys::XKey;
use serde::Serialize;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use ulid::Ulid;

use crate::actions::{ActionError, Actions, Asker};
use crate::audit::{Audit, AuditError, Deed, DeedResult};
use crate::clock;
use crate::journal::{Journal, JournalError};
use crate::live::Live;
use crate::metrics::{ActionOf, Metrics};
use crate::secrets::{Place, SecretKeys, SecretsError};
use delivery::Attempt;
pub use delivery::{Delivery, DeliveryState};

/// Most that a workspace may have, so that those of one node fit into one message of the bus.
const MOST: usize = 100;
/// Id of a connection that is tried before it is kept.
const TRIAL: &str = "trial";

/// What is set up for runtimes.
pub struct AgentProviders {
    workspace: WorkspaceId,
    journal: Arc<Journal>,
    store: Store,
    live: Arc<Live>,
    audit: Arc<Audit>,
    actions: Arc<Actions>,
    keys: Arc<SecretKeys>,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
    changed: Notify,
    attempts: Mutex<BTreeMap<NodeId, Attempt>>,
}

/// What it needs of the hub.
pub struct Parts {
    /// The workspace it is for.
    pub workspace: WorkspaceId,
    /// The hub's own records.
    pub journal: Arc<Journal>,
    /// The store.
    pub store: Store,
    /// What nodes are like now.
    pub live: Arc<Live>,
    /// The audit log.
    pub audit: Arc<Audit>,
    /// The way to nodes.
    pub actions: Arc<Actions>,
    /// The keys that seal.
    pub keys: Arc<SecretKeys>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Owns what outlives its request.
    pub tasks: TaskTracker,
}

/// Something was not done.
#[derive(Debug, thiserror::Error)]
pub enum AgentProviderError {
    /// There is none with this id.
    #[error("there is no agent provider {0}")]
    NotFound(String),
    /// Another one has that name.
    #[error("there is an agent provider named {0:?} already")]
    Taken(String),
    /// There is no room.
    #[error("there are {MOST} agent providers already; delete one first")]
    TooMany,
    /// What was given is not valid.
    #[error("{0}")]
    Invalid(String),
    /// The node cannot take anything sealed.
    #[error("node {0} is too old to be set up from afar; upgrade mosaic-node there")]
    NodeTooOld(NodeId),
    /// The key with which the node is sealed for is none.
    #[error("what is secret cannot be sealed for node {node}")]
    Seal {
        /// Which node.
        node: NodeId,
        /// Why not.
        #[source]
        source: nkeys::error::Error,
    },
    /// What is kept secret cannot be opened or sealed.
    #[error("the credentials of {name:?} cannot be read: {source}; enter them anew, or bring the key file back")]
    Secrets {
        /// Of which agent provider.
        name: String,
        /// Why not.
        source: SecretsError,
    },
    /// What is sent cannot be written down.
    #[error("settings cannot be encoded")]
    Encode(#[from] bus_schema::EncodeError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The intent could not be written: nothing was done.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The node did not do it.
    #[error(transparent)]
    Action(#[from] ActionError),
    /// The task that carried it out is gone: the hub is ending.
    #[error("the hub is ending; whether it was done is not known")]
    Ending,
}

/// What is given of an agent provider; what is absent stays as it is.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// For people; unique in its workspace.
    pub name: Option<String>,
    /// The runtime.
    pub provider: Option<String>,
    /// The node that runs it.
    pub node: Option<String>,
    /// Where it is.
    pub gateway_url: Option<String>,
    /// What lets us in; an empty text takes it away.
    pub credentials: Option<Secret>,
    /// False: it is kept and not used.
    pub is_active: Option<bool>,
}

/// An agent provider as the API tells it: never with its credentials.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentProviderView {
    /// For ever.
    pub id: String,
    /// For people; unique in its workspace.
    pub name: String,
    /// The runtime.
    pub provider: ProviderName,
    /// The node that runs it.
    pub node: NodeId,
    /// Where it is.
    pub gateway_url: String,
    /// False: it is kept and not used.
    pub is_active: bool,
    /// True if there are credentials that can be used.
    pub has_credentials: bool,
    /// `none`, `kept`, or `unreadable`: there were some, and the hub has lost the key to them.
    pub credentials_state: &'static str,
    /// Since when it is kept.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
    /// Grows with every change.
    pub rev: u64,
    /// Whether its node has it.
    pub delivery: DeliveryState,
    /// Why its node does not have it, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery_detail: Option<String>,
    /// How the runtime is on its node; absent while the node is away or does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

/// How a runtime is on a node.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// False if it cannot be used now.
    pub healthy: bool,
    /// What is wrong and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl AgentProviders {
    /// Nothing is brought to nodes before [`run`](Self::run).
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { workspace, journal, store, live, audit, actions, keys, metrics, tasks } = parts;
        let (changed, attempts) = (Notify::new(), Mutex::default());
        Arc::new(Self { workspace, journal, store, live, audit, actions, keys, metrics, tasks, changed, attempts })
    }

    /// All there are, by name.
    ///
    /// # Errors
    /// [`AgentProviderError::Store`].
    pub async fn list(&self) -> Result<Vec<AgentProviderView>, AgentProviderError> {
        let rows = self.store.agent_providers(&self.workspace).await?;
        let mut all: Vec<_> = rows.iter().filter(|r| !r.deleted).map(|row| self.view(row, &rows)).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Makes one.
    ///
    /// # Errors
    /// [`AgentProviderError`].
    pub async fn create(self: &Arc<Self>, asker: Asker, new: Changes) -> Result<AgentProviderView, AgentProviderError> {
        let now = clock::now();
        let draft = check::complete(&self.live.fleet(), &new)?;
        let body = AgentProvider {
            id: Ulid::new().to_string(),
            workspace: self.workspace.clone(),
            name: draft.name,
            provider: draft.provider,
            nodes: vec![draft.node.clone()],
            node: draft.node,
            gateway_url: draft.gateway_url,
            is_active: new.is_active.unwrap_or(true),
            sealed: None,
            created_at: now,
            updated_at: now,
        };
        let body = AgentProvider { sealed: self.seal(&body, new.credentials.as_ref())?, ..body };
        let decide = move |all: &[AgentProviderRow]| {
            if all.iter().filter(|row| !row.deleted).count() >= MOST {
                return Err(AgentProviderError::TooMany);
            }
            unique(all, &body)?;
            Ok((body.clone(), false))
        };
        let this = Arc::clone(self);
        self.carry_out(async move {
            let first = decide(&this.store.agent_providers(&this.workspace).await?)?.0;
            let deed = deed("createAgentProvider", &asker, &first, new.credentials.as_ref());
            this.write(deed, decide).await
        })
        .await
    }

    /// Changes one.
    ///
    /// # Errors
    /// [`AgentProviderError`].
    pub async fn update(
        self: &Arc<Self>,
        asker: Asker,
        id: String,
        changes: Changes,
    ) -> Result<AgentProviderView, AgentProviderError> {
        let this = Arc::clone(self);
        self.carry_out(async move {
            let before = this.find(&id).await?;
            // What does not change is not checked again: its node may have gone since.
            let draft = check::merged(&this.live.fleet(), &changes, &before.body)?;
            let credentials = changes.credentials.clone();
            let sealed = match &credentials {
                Some(_) => Some(this.seal(&before.body, credentials.as_ref())?),
                None => None,
            };
            let change = move |all: &[AgentProviderRow]| {
                let known = all.iter().find(|row| row.body.id == id && !row.deleted);
                let mut body = known.ok_or_else(|| AgentProviderError::NotFound(id.clone()))?.body.clone();
                check::apply(&draft, &changes, &mut body);
                if let Some(sealed) = &sealed {
                    body.sealed.clone_from(sealed);
                }
                body.updated_at = clock::now();
                unique(all, &body)?;
                Ok((body, false))
            };
            let first = change(&this.store.agent_providers(&this.workspace).await?)?.0;
            let deed = deed("updateAgentProvider", &asker, &first, credentials.as_ref());
            this.write(deed, change).await
        })
        .await
    }

    /// Takes one away, here and on its node.
    ///
    /// # Errors
    /// [`AgentProviderError`].
    pub async fn delete(self: &Arc<Self>, asker: Asker, id: String) -> Result<(), AgentProviderError> {
        let this = Arc::clone(self);
        self.carry_out(async move {
            let before = this.find(&id).await?;
            let deed = deed("deleteAgentProvider", &asker, &before.body, None);
            let take_away = |all: &[AgentProviderRow]| {
                let known = all.iter().find(|row| row.body.id == id && !row.deleted);
                let mut body = known.ok_or_else(|| AgentProviderError::NotFound(id.clone()))?.body.clone();
                (body.sealed, body.name, body.gateway_url) = (None, String::new(), String::new());
                (body.is_active, body.updated_at) = (false, clock::now());
                Ok((body, true))
            };
            this.write(deed, take_away).await.map(drop)
        })
        .await
    }

    /// Has a node try a connection: one that is kept, with changes to it, or a new one.
    ///
    /// # Errors
    /// [`AgentProviderError`].
    pub async fn test(
        self: &Arc<Self>,
        asker: Asker,
        id: Option<String>,
        changes: Changes,
    ) -> Result<ConnectionTest, AgentProviderError> {
        let this = Arc::clone(self);
        self.carry_out(async move {
            let kept = match &id {
                Some(id) => Some(this.find(id).await?.body),
                None => None,
            };
            let draft = match &kept {
                Some(body) => check::merged(&this.live.fleet(), &changes, body)?,
                None => check::complete_but_for_the_name(&this.live.fleet(), &changes)?,
            };
            let token = match (&changes.credentials, &kept) {
                (Some(given), _) => given.clone(),
                (None, Some(body)) => this.open(body)?,
                (None, None) => Secret::default(),
            };
            let connection = Connection {
                id: id.unwrap_or_else(|| TRIAL.into()),
                name: draft.name,
                provider: draft.provider,
                url: draft.gateway_url,
                token,
                is_active: true,
            };
            let mut deed = Deed::by(&asker, "testAgentProvider");
            deed.node = Some(draft.node.clone());
            deed.metadata = describe(&connection.id, &connection.name, &connection.provider, &connection.url);
            let intent = this.audit.intend(deed).await?;
            let tested = this.try_on(&asker, &draft.node, &connection).await;
            let mut result = match &tested {
                Ok(_) => DeedResult::ok(),
                Err(error) => DeedResult::not("failed", error.to_string()),
            };
            if let Ok(tested) = &tested {
                result.metadata.insert("verdict".into(), tested.verdict.as_str().into());
            }
            this.count("testAgentProvider", result.result);
            this.audit.conclude(intent, result).await;
            tested
        })
        .await
    }

    async fn try_on(
        &self,
        asker: &Asker,
        node: &NodeId,
        connection: &Connection,
    ) -> Result<ConnectionTest, AgentProviderError> {
        let view = self.live.fleet().node(node);
        let key = match view.filter(|view| view.online) {
            Some(view) => view.state.seal_key.ok_or_else(|| AgentProviderError::NodeTooOld(node.clone()))?,
            None => return Err(ActionError::Command(crate::bus::CommandError::NodeAway(node.clone())).into()),
        };
        let sealed = seal_for(node, &key, connection)?;
        let (operator, action) = (asker.principal.operator(), Action::TestConnection);
        let reply = self.actions.send_sealed(operator, &asker.request_id, node.clone(), action, sealed).await?;
        reply.tested.ok_or_else(|| AgentProviderError::NodeTooOld(node.clone()))
    }

    async fn find(&self, id: &str) -> Result<AgentProviderRow, AgentProviderError> {
        let all = self.store.agent_providers(&self.workspace).await?;
        let found = all.into_iter().find(|row| row.body.id == id && !row.deleted);
        found.ok_or_else(|| AgentProviderError::NotFound(id.chars().take(80).collect()))
    }

    /// Intent, record, outcome.
    async fn write(
        &self,
        deed: Deed,
        decide: impl Fn(&[AgentProviderRow]) -> Result<(AgentProvider, bool), AgentProviderError>,
    ) -> Result<AgentProviderView, AgentProviderError> {
        let action = deed.action;
        let intent = self.audit.intend(deed).await?;
        let written = self.journal.put_agent_provider(&self.workspace, self.newest_on_nodes(), decide).await;
        let result = match &written {
            Ok(_) => DeedResult::ok(),
            Err(AgentProviderError::Journal(error)) => DeedResult::not("unknown", error.to_string()),
            Err(error) => DeedResult::not("refused", error.to_string()),
        };
        self.count(action, result.result);
        self.audit.conclude(intent, result).await;
        let row = written?;
        self.changed.notify_one();
        let all = self.store.agent_providers(&self.workspace).await?;
        Ok(self.view(&row, &all))
    }

    /// The largest number that a node has: after a journal was lost it may be above all of ours.
    fn newest_on_nodes(&self) -> u64 {
        self.live.fleet().nodes().map(|node| node.state.settings_rev).max().unwrap_or(0)
    }

    fn count(&self, action: &'static str, result: &'static str) {
        self.metrics.actions.get_or_create(&ActionOf { action, result }).inc();
    }

    async fn carry_out<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, AgentProviderError>> + Send + 'static,
    ) -> Result<T, AgentProviderError> {
        self.tasks.spawn(work).await.map_err(|_| AgentProviderError::Ending)?
    }

    fn seal(
        &self,
        body: &AgentProvider,
        credentials: Option<&Secret>,
    ) -> Result<Option<hub_store::Sealed>, AgentProviderError> {
        let Some(credentials) = credentials.filter(|c| !c.is_empty()) else { return Ok(None) };
        let sealed = self.keys.seal(&place(body), credentials);
        sealed.map(Some).map_err(|source| AgentProviderError::Secrets { name: body.name.clone(), source })
    }

    fn open(&self, body: &AgentProvider) -> Result<Secret, AgentProviderError> {
        let Some(sealed) = &body.sealed else { return Ok(Secret::default()) };
        let opened = self.keys.open(&place(body), sealed);
        opened.map_err(|source| AgentProviderError::Secrets { name: body.name.clone(), source })
    }

    fn view(&self, row: &AgentProviderRow, all: &[AgentProviderRow]) -> AgentProviderView {
        let (body, node) = (&row.body, self.live.fleet().node(&row.body.node));
        let credentials_state = match &body.sealed {
            None => "none",
            Some(_) if self.open(body).is_ok() => "kept",
            Some(_) => "unreadable",
        };
        let attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let delivery = delivery::state(row, all, node.as_ref(), attempts.get(&body.node));
        let present = node.filter(|node| node.online);
        let health = present.and_then(|n| n.state.providers.into_iter().find(|p| p.name == body.provider));
        AgentProviderView {
            id: body.id.clone(),
            name: body.name.clone(),
            provider: body.provider.clone(),
            node: body.node.clone(),
            gateway_url: body.gateway_url.clone(),
            is_active: body.is_active,
            has_credentials: credentials_state == "kept",
            credentials_state,
            created_at: body.created_at,
            updated_at: body.updated_at,
            rev: row.rev,
            delivery: delivery.state,
            delivery_detail: delivery.detail,
            health: health.map(|p| Health { healthy: p.healthy, error: p.error }),
        }
    }

    /// Sends what is sealed for a node in the hub's own name.
    async fn send_settings(&self, node: NodeId, sealed: Vec<u8>) -> Result<CommandReply, ActionError> {
        let operator = Operator { id: bus_schema::UserId::new("mosaic-hub")?, name: "mosaic-hub".into() };
        let request_id = Ulid::new().to_string();
        self.actions.send_sealed(operator, &request_id, node, Action::Configure, sealed).await
    }
}

fn place(body: &AgentProvider) -> Place<'_> {
    Place { workspace: &body.workspace, record: &body.id }
}

/// No name twice.
fn unique(all: &[AgentProviderRow], body: &AgentProvider) -> Result<(), AgentProviderError> {
    let taken = all.iter().any(|row| !row.deleted && row.body.id != body.id && row.body.name == body.name);
    if taken { Err(AgentProviderError::Taken(body.name.clone())) } else { Ok(()) }
}

/// Our public key as text, then an nkeys `xkv1` box to the node's key: what `mosaic-node` opens.
fn seal_for(node: &NodeId, key: &str, what: &impl Serialize) -> Result<Vec<u8>, AgentProviderError> {
    let wrong = |source| AgentProviderError::Seal { node: node.clone(), source };
    let (sender, to) = (XKey::new(), XKey::from_public_key(key).map_err(wrong)?);
    let sealed = sender.seal(&bus_schema::encode(what)?, &to).map_err(wrong)?;
    Ok([sender.public_key().as_bytes(), &sealed].concat())
}

fn deed(action: &'static str, asker: &Asker, body: &AgentProvider, credentials: Option<&Secret>) -> Deed {
    let mut deed = Deed::by(asker, action);
    deed.node = Some(body.node.clone());
    deed.metadata = describe(&body.id, &body.name, &body.provider, &body.gateway_url);
    deed.metadata.insert("isActive".into(), body.is_active.into());
    let credentials = match credentials {
        None => "unchanged",
        Some(given) if given.is_empty() => "removed",
        Some(_) => "set",
    };
    deed.metadata.insert("credentials".into(), credentials.into());
    deed
}

fn describe(id: &str, name: &str, provider: &ProviderName, url: &str) -> Metadata {
    let mut metadata = Metadata::new();
    metadata.insert("agentProviderId".into(), id.into());
    metadata.insert("name".into(), name.into());
    metadata.insert("provider".into(), provider.as_str().into());
    metadata.insert("gatewayUrl".into(), url.into());
    metadata
}
