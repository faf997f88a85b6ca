//! A person's panels: kept here, so that they follow the person across browsers.

use axum::extract::State;
use axum::{Extension, Json as Reply};
use hub_store::{Layout, RecordBody};
use serde::{Deserialize, Serialize};

use super::Shared;
use super::body::Json;
use super::error::ApiError;
use crate::actions::Asker;

/// Largest layout, in bytes as JSON.
const LAYOUT_MAX: usize = 64 * 1024;

/// What the page wants to find again.
#[derive(Deserialize, utoipa::ToSchema)]
pub(super) struct LayoutBody {
    /// Anything; null for the page's own default.
    #[schema(value_type = Object, nullable)]
    layout: serde_json::Value,
}

/// What the page left here.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct LayoutDoc {
    /// What was put; null if nothing was.
    #[schema(value_type = Object, nullable)]
    layout: serde_json::Value,
    /// Grows with every change.
    rev: u64,
}

/// My panels.
#[utoipa::path(get, path = "/api/mission-control/layout", tag = "layout", responses((status = 200, body = LayoutDoc)))]
pub(super) async fn get(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
) -> Result<Reply<LayoutDoc>, ApiError> {
    let found = app.store.layout(&asker.principal.user, &asker.principal.workspace).await?;
    let (layout, rev) = found.unwrap_or_default();
    Ok(Reply(LayoutDoc { layout, rev }))
}

/// Keep my panels.
#[utoipa::path(put, path = "/api/mission-control/layout", tag = "layout", request_body = LayoutBody,
    responses((status = 200, body = LayoutDoc)))]
pub(super) async fn put(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    Json(body): Json<LayoutBody>,
) -> Result<Reply<LayoutDoc>, ApiError> {
    if body.layout.to_string().len() > LAYOUT_MAX {
        return Err(ApiError::too_large(format!("a layout of more than {LAYOUT_MAX} bytes")));
    }
    let layout =
        Layout { user: asker.principal.user, workspace: asker.principal.workspace, document: body.layout.clone() };
    let record = app.journal.put(RecordBody::Layout(layout), false).await?;
    Ok(Reply(LayoutDoc { layout: body.layout, rev: record.rev }))
}
