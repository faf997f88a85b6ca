//! How long messages are kept, and which sessions are held.

use axum::extract::State;
use axum::{Extension, Json as Reply};
use bus_schema::{Operator, Timestamp};
use hub_store::Hold;
use serde::{Deserialize, Serialize};

use super::Shared;
use super::body::{InPath, Json};
use super::error::ApiError;
use crate::actions::Asker;

/// How long messages are kept.
#[derive(Deserialize, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RetentionDoc {
    /// Days, 1 to 3650; 30 if nobody has said otherwise. The bus itself keeps messages 7 days at most.
    message_days: u64,
}

/// Hold a session, or let it go.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HoldBody {
    /// True: its messages are kept whatever their age.
    hold: bool,
    /// Why; needed to hold.
    #[serde(default)]
    reason: String,
}

/// Whether a session is held.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct HoldDoc {
    /// True if its messages are kept whatever their age.
    hold: bool,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Who held it.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<Operator>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
}

impl From<Option<Hold>> for HoldDoc {
    fn from(hold: Option<Hold>) -> Self {
        match hold {
            None => Self { hold: false, reason: None, by: None, since: None },
            Some(h) => Self { hold: true, reason: Some(h.reason), by: Some(h.by), since: Some(h.since) },
        }
    }
}

/// How long messages are kept.
#[utoipa::path(get, path = "/api/retention", tag = "retention", responses((status = 200, body = RetentionDoc)))]
pub(super) async fn get(State(app): State<Shared>) -> Result<Reply<RetentionDoc>, ApiError> {
    Ok(Reply(RetentionDoc { message_days: app.retention.days().await? }))
}

/// Keep messages so many days. Older ones are taken away at once, but for sessions that are held.
#[utoipa::path(put, path = "/api/retention", tag = "retention", request_body = RetentionDoc, responses(
    (status = 200, body = RetentionDoc), (status = 422, body = super::error::ErrorBody)))]
pub(super) async fn put(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    Json(body): Json<RetentionDoc>,
) -> Result<Reply<RetentionDoc>, ApiError> {
    app.retention.keep(&asker, body.message_days).await?;
    Ok(Reply(body))
}

/// Whether a session is held.
#[utoipa::path(get, path = "/api/mission-control/sessions/{id}/hold", tag = "retention",
    params(("id" = String, Path)), responses((status = 200, body = HoldDoc)))]
pub(super) async fn get_hold(State(app): State<Shared>, InPath(id): InPath) -> Result<Reply<HoldDoc>, ApiError> {
    app.actions.session(&id).await?;
    Ok(Reply(app.retention.held(&id).await?.into()))
}

/// Hold a session, or let it go.
#[utoipa::path(put, path = "/api/mission-control/sessions/{id}/hold", tag = "retention",
    params(("id" = String, Path)), request_body = HoldBody, responses(
        (status = 200, body = HoldDoc), (status = 404, body = super::error::ErrorBody),
        (status = 422, body = super::error::ErrorBody)))]
pub(super) async fn put_hold(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    InPath(id): InPath,
    Json(body): Json<HoldBody>,
) -> Result<Reply<HoldDoc>, ApiError> {
    app.actions.session(&id).await?;
    let held = app.retention.hold(&asker, id, body.hold, body.reason).await?;
    Ok(Reply(Some(held).filter(|_| body.hold).into()))
}
