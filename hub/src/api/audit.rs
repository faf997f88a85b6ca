//! The audit log, to read and to take away. There is no route that writes, changes or deletes a row.

mod csv;

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json as Reply};
use bus_schema::{AuditRow, CheckpointLine};
use futures::stream;
use hub_store::AuditFilter;
use serde::{Deserialize, Serialize};

use super::Shared;
use super::body::Query;
use super::error::ApiError;
use super::sessions::PAGE_MAX;
use crate::actions::Asker;
use crate::audit::{Deed, DeedResult};

/// Rows of an export read at once.
const EXPORT_BATCH: u64 = 500;
/// How long an export waits for the store to have what is on the bus.
const EXPORT_WAITS: Duration = Duration::from_secs(5);

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
    /// The hub has checked the log up to this row since it started: each row follows the one before it, and the store
    /// has the same as the bus.
    verified_to: u64,
    /// Public key (nkey, `V…`) of the checkpoints that this hub signs: what `mosaic audit verify --key` wants.
    key: String,
}

/// In which form.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ExportQuery {
    /// `jsonl` (each row as it was hashed, then a signed checkpoint: what `mosaic audit verify` reads) or `csv` (for
    /// people); `jsonl` if absent.
    format: Option<String>,
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
    let (verified_to, key) = (app.audit.verified_to(), app.bus.signing_key());
    Ok(Reply(AuditPage { entries, has_more, verified_to, key }))
}

/// The whole audit log, as a file. That it was taken is in it.
#[utoipa::path(get, path = "/api/mission-control/audit/export", tag = "audit", params(ExportQuery), responses(
    (status = 200, content_type = "application/jsonl", body = String),
    (status = 422, body = super::error::ErrorBody), (status = 503, body = super::error::ErrorBody)))]
pub(super) async fn export(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    Query(query): Query<ExportQuery>,
) -> Result<Response, ApiError> {
    let (csv, kind) = match query.format.as_deref().unwrap_or("jsonl") {
        "jsonl" => (false, "application/jsonl"),
        "csv" => (true, "text/csv; charset=utf-8"),
        other => return Err(ApiError::invalid(format!("format {other:?} is neither jsonl nor csv"))),
    };
    let format = if csv { "csv" } else { "jsonl" };
    app.audit.note(Deed::by(&asker, "exportAudit").with("format", format), DeedResult::ok()).await?;
    let checkpoint = app.audit.checkpoint().await?;
    let to = checkpoint.as_ref().map_or(0, |line| line.checkpoint.checkpoint);
    let until = tokio::time::Instant::now() + EXPORT_WAITS;
    while app.store.last_audit(app.bus.workspace()).await? < to {
        if tokio::time::Instant::now() > until {
            let text = "the store does not have all rows yet; try again";
            return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "storeBehind", text));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let name = format!("attachment; filename=\"audit-{}.{format}\"", app.bus.workspace());
    let part = Part { app, csv, next: 1, to, checkpoint, head: true };
    let mut response = Body::from_stream(stream::unfold(part, Part::next)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Ok(name) = HeaderValue::from_str(&name) {
        headers.insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

/// An export on its way.
struct Part {
    app: Shared,
    csv: bool,
    next: u64,
    to: u64,
    checkpoint: Option<CheckpointLine>,
    head: bool,
}

impl Part {
    /// Some rows as text; at the end the checkpoint. Broken off if the store fails: then the checkpoint is not there,
    /// and whoever verifies the file sees that.
    async fn next(mut self) -> Option<(Result<Bytes, std::io::Error>, Self)> {
        let mut text = String::new();
        if std::mem::take(&mut self.head) && self.csv {
            text += csv::HEAD;
        }
        if self.next <= self.to {
            let end = self.to.min(self.next + EXPORT_BATCH - 1);
            let read = self.app.store.audit_texts(self.app.bus.workspace(), self.next, end).await;
            match read {
                Ok(rows) => rows.iter().for_each(|(_, row)| {
                    if self.csv { csv::line(&mut text, row) } else { text = std::mem::take(&mut text) + row + "\n" }
                }),
                Err(error) => {
                    tracing::warn!(%error, "an export of the audit log broke off");
                    self.next = u64::MAX;
                    self.checkpoint = None;
                    return Some((Err(std::io::Error::other(error)), self));
                }
            }
            self.next = end + 1;
        } else {
            let line = self.checkpoint.take()?;
            if !self.csv {
                text += &(line.text + "\n");
            }
        }
        Some((Ok(Bytes::from(text)), self))
    }
}
