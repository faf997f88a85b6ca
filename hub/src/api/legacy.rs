//! The older routes per agent (R33): the same handlers under other names.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::{Extension, Json as Reply};
use bus_schema::Session;
use serde::Serialize;

use super::Shared;
use super::actions::{self, Acted, InjectBody, Injected, KillAllBody};
use super::body::{InPath, Json, Query};
use super::error::ApiError;
use super::sessions::{self, Messages, PageQuery, Tree};
use super::sse::{self, StreamQuery};
use crate::actions::kill_all::KillReceipt;
use crate::actions::{Ask, Asker};

/// Agents: sessions that have not ended.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Agents {
    agents: Vec<Session>,
}

/// Sessions that have not ended.
#[utoipa::path(get, path = "/agents", tag = "agents", responses((status = 200, body = Agents)))]
pub(super) async fn agents(State(app): State<Shared>) -> Result<Reply<Agents>, ApiError> {
    Ok(Reply(Agents { agents: sessions::sessions(&app, false).await? }))
}

/// As `/api/mission-control/tree`.
#[utoipa::path(get, path = "/agents/tree", tag = "agents", responses((status = 200, body = Tree)))]
pub(super) async fn tree(state: State<Shared>) -> Result<Reply<Tree>, ApiError> {
    sessions::tree(state).await
}

/// As `/api/mission-control/stream?sessions=*`.
#[utoipa::path(get, path = "/agents/events", tag = "agents", params(StreamQuery),
    responses((status = 200, content_type = "text/event-stream", body = String)))]
pub(super) async fn events(
    state: State<Shared>,
    asker: Extension<Asker>,
    headers: HeaderMap,
    query: Query<StreamQuery>,
) -> Result<Response, ApiError> {
    sse::stream(state, asker, headers, query).await
}

/// As `/api/mission-control/sessions/{id}/messages`.
#[utoipa::path(get, path = "/agents/{id}/messages", tag = "agents", params(("id" = String, Path), PageQuery),
    responses((status = 200, body = Messages)))]
pub(super) async fn messages(
    state: State<Shared>,
    id: InPath,
    query: Query<PageQuery>,
) -> Result<Reply<Messages>, ApiError> {
    sessions::messages(state, id, query).await
}

/// As `/api/mission-control/sessions/{id}/stream`.
#[utoipa::path(get, path = "/agents/{id}/messages/stream", tag = "agents", params(("id" = String, Path), StreamQuery),
    responses((status = 200, content_type = "text/event-stream", body = String)))]
pub(super) async fn messages_stream(
    state: State<Shared>,
    asker: Extension<Asker>,
    id: InPath,
    headers: HeaderMap,
    query: Query<StreamQuery>,
) -> Result<Response, ApiError> {
    sse::session_stream(state, asker, id, headers, query).await
}

/// As `/api/mission-control/sessions/{id}/inject`.
#[utoipa::path(post, path = "/agents/{id}/inject", tag = "agents", params(("id" = String, Path)),
    request_body = InjectBody, responses((status = 202, body = Injected)))]
pub(super) async fn inject(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    InPath(id): InPath,
    Json(body): Json<InjectBody>,
) -> Result<(StatusCode, Reply<Injected>), ApiError> {
    actions::do_inject(&app, asker, id, body).await
}

/// As `/api/mission-control/sessions/{id}/pause`.
#[utoipa::path(post, path = "/agents/{id}/pause", tag = "agents", params(("id" = String, Path)),
    responses((status = 200, body = Acted)))]
pub(super) async fn pause(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    InPath(id): InPath,
) -> Result<Response, ApiError> {
    actions::act(&app, asker, id, Ask::Pause).await
}

/// As `/api/mission-control/sessions/{id}/resume`.
#[utoipa::path(post, path = "/agents/{id}/resume", tag = "agents", params(("id" = String, Path)),
    responses((status = 200, body = Acted)))]
pub(super) async fn resume(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    InPath(id): InPath,
) -> Result<Response, ApiError> {
    actions::act(&app, asker, id, Ask::Resume).await
}

/// As `/api/mission-control/sessions/{id}/kill`.
#[utoipa::path(post, path = "/agents/{id}/kill", tag = "agents", params(("id" = String, Path)),
    responses((status = 200, body = Acted)))]
pub(super) async fn kill(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    InPath(id): InPath,
) -> Result<Response, ApiError> {
    actions::act(&app, asker, id, Ask::Kill).await
}

/// As `/api/mission-control/kill-all`.
#[utoipa::path(post, path = "/agents/kill-all", tag = "agents", request_body = KillAllBody,
    responses((status = 200, body = KillReceipt)))]
pub(super) async fn kill_all(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    Json(body): Json<KillAllBody>,
) -> Result<Reply<KillReceipt>, ApiError> {
    actions::do_kill_all(&app, asker, body).await
}
