//! What a node says of itself, every 10 seconds and on change.

use serde::{Deserialize, Serialize};

use crate::id::{NodeId, ProviderName, WorkspaceId};
use crate::open_enum::open_enum;
use crate::session::Capability;
use crate::time::Timestamp;

/// How often a node tells its state, in milliseconds.
pub const HEARTBEAT_MS: u64 = 10_000;
/// A node that was silent for so long is away, in milliseconds: three heartbeats missed.
pub const AWAY_AFTER_MS: u64 = 3 * HEARTBEAT_MS;

open_enum! {
    /// Whether the node is there.
    pub enum NodeStatus {
        /// At work.
        Up = "up",
        /// Ending in an orderly way; its sessions may go on without it.
        Leaving = "leaving",
    }
}

/// State of a node agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct NodeState {
    /// Its workspace.
    pub workspace: WorkspaceId,
    /// Its name.
    pub node: NodeId,
    /// Version of the program.
    pub version: String,
    /// Whether it is there.
    pub status: NodeStatus,
    /// The machine it runs on.
    pub host: HostInfo,
    /// Changes with every start of the machine.
    pub boot_id: String,
    /// Changes when the node's own disk state was lost or made anew.
    pub incarnation: String,
    /// When the program started.
    pub started_at: Timestamp,
    /// When this was written.
    pub timestamp: Timestamp,
    /// The runtimes it looks after.
    #[serde(default)]
    pub providers: Vec<ProviderState>,
    /// What it may start.
    #[serde(default)]
    pub profiles: Vec<ProfileInfo>,
    /// How busy it is.
    #[serde(default)]
    pub load: Load,
    /// Public curve key (nkeys, `X…`) for which what is secret is sealed before it is sent here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal_key: Option<String>,
    /// Number of the [`NodeSettings`](crate::NodeSettings) it has; 0 for none.
    #[serde(default, skip_serializing_if = "is_none")]
    pub settings_rev: u64,
    /// Public command keys that it obeys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command_keys: Vec<String>,
}

fn is_none(rev: &u64) -> bool {
    *rev == 0
}

/// The machine of a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct HostInfo {
    /// Its name.
    pub hostname: String,
    /// Operating system, such as `linux`.
    pub os: String,
    /// Processor architecture, such as `x86_64`.
    pub arch: String,
    /// Number of processors.
    #[serde(default)]
    pub cpus: u32,
}

/// State of one runtime on a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ProviderState {
    /// Its name.
    pub name: ProviderName,
    /// False if it cannot be used now; `error` says why.
    pub healthy: bool,
    /// What is wrong and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How many sessions that have not ended it has.
    #[serde(default)]
    pub sessions: u32,
    /// What its sessions can do at best.
    #[serde(default)]
    pub capabilities: Vec<Capability>,
}

/// Something a node may start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ProfileInfo {
    /// Its name in the node's configuration.
    pub name: String,
    /// The runtime that starts it.
    pub provider: ProviderName,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What kind of agent it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_type: Option<String>,
    /// The program it starts, without arguments: those may hold secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// `terminal`, `lines`, `jsonl`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
}

/// How busy a node is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Load {
    /// Sessions that have not ended.
    #[serde(default)]
    pub sessions: u32,
    /// Records on disk that the bus has not taken yet.
    #[serde(default)]
    pub outbox_records: u64,
    /// Their size in bytes.
    #[serde(default)]
    pub outbox_bytes: u64,
    /// Messages that had to be dropped since the start, each told by a gap message in its session.
    #[serde(default)]
    pub dropped: u64,
    /// Load average of the machine over one minute.
    #[serde(default)]
    pub load1: f64,
    /// Resident memory of the node agent, in bytes.
    #[serde(default)]
    pub rss_bytes: u64,
}
