//! What operators set up for a node's runtimes from afar: connections, such as gateways and their tokens.
//!
//! Laws:
//! 1. On the bus and on disk settings exist only sealed for their node: to the public key that the node tells in
//!    [`NodeState::seal_key`](crate::NodeState::seal_key) (an nkeys curve key, `X…`).
//! 2. They are sent whole, with a number that grows; the node tells which it has, and the hub sends again until it is
//!    the last. An older number changes nothing.

use serde::{Deserialize, Serialize};

use crate::id::ProviderName;
use crate::open_enum::open_enum;
use crate::secret::Secret;

/// All that is set up for a node: what is sealed in a `configure` command.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeSettings {
    /// Grows with every change.
    pub rev: u64,
    /// Every connection of every runtime of the node.
    #[serde(default)]
    pub connections: Vec<Connection>,
}

/// How a runtime is reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// For ever the same, also when all else changes. A token as ids are: `[A-Za-z0-9_-]{1,64}`.
    pub id: String,
    /// For people; unique in its workspace.
    pub name: String,
    /// The runtime.
    pub provider: ProviderName,
    /// Where it is, such as `ws://127.0.0.1:18789/`. Never with a token in it.
    pub url: String,
    /// What lets us in; empty for none.
    #[serde(default, with = "crate::secret::exposed")]
    pub token: Secret,
    /// False: it is kept and not used.
    #[serde(default = "yes")]
    pub is_active: bool,
}

fn yes() -> bool {
    true
}

open_enum! {
    /// How a trial of a connection went.
    pub enum ConnectionVerdict {
        /// It works.
        Ok = "ok",
        /// Nobody answers there.
        Unreachable = "unreachable",
        /// The encryption could not be set up: a certificate is not trusted, or one side does not speak TLS.
        Tls = "tls",
        /// Somebody answers, but not what was expected.
        NotARuntime = "notARuntime",
        /// The token is wrong or missing.
        Unauthorized = "unauthorized",
        /// It is let in and may not do what is needed.
        Forbidden = "forbidden",
        /// The versions do not understand each other.
        Version = "version",
        /// Something else.
        Failed = "failed",
    }
}

/// How a trial of a connection went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ConnectionTest {
    /// For programs.
    pub verdict: ConnectionVerdict,
    /// For people: what was found and what to do.
    pub message: String,
}
