//! What is set up for the runtimes of nodes: gateways and what lets us in.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json as Reply};
use bus_schema::{ConnectionTest, Secret};
use serde::{Deserialize, Serialize};

use super::Shared;
use super::body::Json;
use super::error::{ApiError, ErrorBody};
use crate::actions::Asker;
use crate::agent_providers::{AgentProviderView, Changes};

/// A new agent provider.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NewAgentProvider {
    /// For people; unique in its workspace.
    name: String,
    /// The runtime, such as `openclaw`.
    provider: String,
    /// The node that runs it.
    node: String,
    /// `http`, `https`, `ws` or `wss`, without user, password or token.
    gateway_url: String,
    /// What lets us in: kept sealed, never told again.
    #[schema(value_type = Option<String>, write_only)]
    credentials: Option<Secret>,
    /// False: it is kept and not used. True if absent.
    is_active: Option<bool>,
}

/// What is to change; what is absent stays.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AgentProviderChanges {
    /// For people; unique in its workspace.
    name: Option<String>,
    /// The runtime.
    provider: Option<String>,
    /// The node that runs it.
    node: Option<String>,
    /// `http`, `https`, `ws` or `wss`, without user, password or token.
    gateway_url: Option<String>,
    /// New ones in place of those that are kept; an empty text takes them away.
    #[schema(value_type = Option<String>, write_only)]
    credentials: Option<Secret>,
    /// False: it is kept and not used.
    is_active: Option<bool>,
}

/// What is to be tried: a new one, or one that is kept, with changes.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TestBody {
    /// One that is kept: what is absent below is its own.
    id: Option<String>,
    /// For people.
    name: Option<String>,
    /// The runtime.
    provider: Option<String>,
    /// The node that is to try it.
    node: Option<String>,
    /// `http`, `https`, `ws` or `wss`, without user, password or token.
    gateway_url: Option<String>,
    /// What lets us in: used for the trial and not kept.
    #[schema(value_type = Option<String>, write_only)]
    credentials: Option<Secret>,
    /// Makes no difference to the trial.
    is_active: Option<bool>,
}

/// Agent providers, by name.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct AgentProviderList {
    agent_providers: Vec<AgentProviderView>,
}

/// One agent provider.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct OneAgentProvider {
    agent_provider: AgentProviderView,
}

impl From<NewAgentProvider> for Changes {
    fn from(new: NewAgentProvider) -> Self {
        Self {
            name: Some(new.name),
            provider: Some(new.provider),
            node: Some(new.node),
            gateway_url: Some(new.gateway_url),
            credentials: new.credentials,
            is_active: new.is_active,
        }
    }
}

impl From<AgentProviderChanges> for Changes {
    fn from(changes: AgentProviderChanges) -> Self {
        let AgentProviderChanges { name, provider, node, gateway_url, credentials, is_active } = changes;
        Self { name, provider, node, gateway_url, credentials, is_active }
    }
}

/// Every agent provider of the workspace, and whether its node has it. Credentials are never told.
#[utoipa::path(get, path = "/api/agent-providers", tag = "agent providers",
    responses((status = 200, body = AgentProviderList)))]
pub(super) async fn list(State(app): State<Shared>) -> Result<Reply<AgentProviderList>, ApiError> {
    Ok(Reply(AgentProviderList { agent_providers: app.agent_providers.list().await? }))
}

/// Set a runtime up: kept with its credentials sealed, and brought to its node.
#[utoipa::path(post, path = "/api/agent-providers", tag = "agent providers", request_body = NewAgentProvider,
    responses((status = 201, body = OneAgentProvider), (status = 409, body = ErrorBody),
        (status = 422, body = ErrorBody)))]
pub(super) async fn create(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    Json(body): Json<NewAgentProvider>,
) -> Result<(StatusCode, Reply<OneAgentProvider>), ApiError> {
    let agent_provider = app.agent_providers.create(asker, body.into()).await?;
    Ok((StatusCode::CREATED, Reply(OneAgentProvider { agent_provider })))
}

/// Change what is set up.
#[utoipa::path(patch, path = "/api/agent-providers/{id}", tag = "agent providers", params(("id" = String, Path)),
    request_body = AgentProviderChanges, responses((status = 200, body = OneAgentProvider),
        (status = 404, body = ErrorBody), (status = 409, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(super) async fn update(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    Path(id): Path<String>,
    Json(body): Json<AgentProviderChanges>,
) -> Result<Reply<OneAgentProvider>, ApiError> {
    Ok(Reply(OneAgentProvider { agent_provider: app.agent_providers.update(asker, id, body.into()).await? }))
}

/// Take it away, here and on its node.
#[utoipa::path(delete, path = "/api/agent-providers/{id}", tag = "agent providers", params(("id" = String, Path)),
    responses((status = 204), (status = 404, body = ErrorBody)))]
pub(super) async fn delete(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    app.agent_providers.delete(asker, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Have the node try a connection. Nothing is kept.
#[utoipa::path(post, path = "/api/agent-providers/test", tag = "agent providers", request_body = TestBody,
    responses((status = 200, body = ConnectionTest), (status = 404, body = ErrorBody),
        (status = 422, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(super) async fn test(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    Json(body): Json<TestBody>,
) -> Result<Reply<ConnectionTest>, ApiError> {
    let TestBody { id, name, provider, node, gateway_url, credentials, is_active } = body;
    let changes = Changes { name, provider, node, gateway_url, credentials, is_active };
    Ok(Reply(app.agent_providers.test(asker, id, changes).await?))
}

/// Have the node try a connection that is kept, as it is.
#[utoipa::path(post, path = "/api/agent-providers/{id}/test", tag = "agent providers", params(("id" = String, Path)),
    responses((status = 200, body = ConnectionTest), (status = 404, body = ErrorBody),
        (status = 503, body = ErrorBody)))]
pub(super) async fn test_kept(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    Path(id): Path<String>,
) -> Result<Reply<ConnectionTest>, ApiError> {
    Ok(Reply(app.agent_providers.test(asker, Some(id), Changes::default()).await?))
}
