//! The audit log, to read. There is no route that writes, changes or deletes a row.

use axum::Json as Reply;
use axum::extract::State;
use bus_schema::AuditRow;
use hub_store::AuditFilter;
use serde::{Deserialize, Serialize};

use super::Shared;
use super::body::Query;
use super::error::ApiError;
use super::sessions::PAGE_MAX;

/// Which rows.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuery {
    /// How many; 100 if absent, at most 500.
    limit: Option<u64>,
    /// Those with a number below this one.
    before: Option<u64>,
    /// By this user id.
    user: Option<String>,
    /// On this session.
    session: Option<String>,
    /// This action: `inject`, `kill`, …
    action: Option<String>,
}

/// Rows of the audit log, the newest first.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct AuditPage {
    /// The rows.
    entries: Vec<AuditRow>,
    /// True if there are older ones.
    has_more: bool,
}

/// The audit log, the newest rows first.
#[utoipa::path(get, path = "/api/mission-control/audit", tag = "audit", params(AuditQuery),
    responses((status = 200, body = AuditPage)))]
pub(super) async fn list(
    State(app): State<Shared>,
    Query(query): Query<AuditQuery>,
) -> Result<Reply<AuditPage>, ApiError> {
    let limit = query.limit.unwrap_or(100);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(ApiError::invalid(format!("limit must be 1 to {PAGE_MAX}")));
    }
    let filter = AuditFilter { user: query.user, session: query.session, action: query.action };
    let (entries, has_more) = app.store.audit(app.bus.workspace(), &filter, query.before, limit).await?;
    Ok(Reply(AuditPage { entries, has_more }))
}
