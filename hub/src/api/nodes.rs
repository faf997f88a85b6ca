//! Nodes: what they are, what they can start, whether they are there; and who may be one.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json as Reply};
use bus_schema::{NodeId, WorkspaceId};
use serde::{Deserialize, Serialize};

use super::Shared;
use super::body::Json;
use super::error::{ApiError, ErrorBody};
use crate::actions::Asker;
use crate::enrolment::EnrolmentError;
use crate::live::fleet::NodeView;

/// Nodes, by name.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Nodes {
    nodes: Vec<NodeView>,
}

/// A node that is to be let in.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NewNode {
    /// Its name.
    node: String,
}

/// What a new node needs. It is told this once and kept nowhere: whoever has it is that node.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct EnrolledNode {
    node: NodeId,
    workspace: WorkspaceId,
    /// Addresses of the bus.
    nats: Vec<String>,
    /// The content of its credentials file.
    credentials: String,
    /// Public keys whose commands it is to obey.
    command_keys: Vec<String>,
    /// Certificates of the authority of the bus, if it uses TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<String>,
    /// All of it as one text.
    token: String,
    /// What to say on the node's machine.
    join: String,
}

/// Every node that was ever heard of.
#[utoipa::path(get, path = "/api/nodes", tag = "nodes", responses((status = 200, body = Nodes)))]
pub(super) async fn list(State(app): State<Shared>) -> Reply<Nodes> {
    let nodes = app.live.fleet().nodes().collect();
    Reply(Nodes { nodes })
}

/// Let a node in: gives its credentials, once.
#[utoipa::path(post, path = "/api/nodes", tag = "nodes", request_body = NewNode,
    responses((status = 201, body = EnrolledNode), (status = 409, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
pub(super) async fn enrol(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    Json(body): Json<NewNode>,
) -> Result<(StatusCode, Reply<EnrolledNode>), ApiError> {
    let enrolled = app.enrolment.enrol(asker, &body.node).await?;
    let (token, text) = (enrolled.token, enrolled.text.expose().to_owned());
    let join = format!("mosaic-node join {text}");
    let told = EnrolledNode {
        node: token.node,
        workspace: token.workspace,
        nats: token.nats,
        credentials: token.creds.expose().to_owned(),
        command_keys: token.command_keys,
        ca: token.ca,
        token: text,
        join,
    };
    Ok((StatusCode::CREATED, Reply(told)))
}

/// Shut a node out: its credentials are void from now on, and its connection is ended.
#[utoipa::path(delete, path = "/api/nodes/{id}", tag = "nodes", params(("id" = String, Path)),
    responses((status = 204), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 503, body = ErrorBody)))]
pub(super) async fn revoke(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    match app.enrolment.revoke(asker, &id).await {
        Err(EnrolmentError::Name(error)) => Err(ApiError::not_found(error.to_string())),
        done => Ok(done.map(|()| StatusCode::NO_CONTENT)?),
    }
}
