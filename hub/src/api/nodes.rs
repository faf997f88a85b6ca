//! Nodes: what they are, what they can start, whether they are there.

use axum::Json as Reply;
use axum::extract::State;
use serde::Serialize;

use super::Shared;
use crate::live::fleet::NodeView;

/// Nodes, by name.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Nodes {
    nodes: Vec<NodeView>,
}

/// Every node that was ever heard of.
#[utoipa::path(get, path = "/api/nodes", tag = "nodes", responses((status = 200, body = Nodes)))]
pub(super) async fn list(State(app): State<Shared>) -> Reply<Nodes> {
    let nodes = app.live.fleet().nodes().collect();
    Reply(Nodes { nodes })
}
