//! For those who run the hub: health, readiness, metrics, the API's own document, and what could not be read.

use axum::Json as Reply;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::Shared;
use super::error::ApiError;

/// Parked payloads of one answer.
const PARKED_MAX: u64 = 200;

/// How the hub is.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Health {
    /// `ok`, or `notReady`.
    status: &'static str,
    /// Version of the hub.
    version: &'static str,
    /// What it still waits for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    waiting: Vec<String>,
}

/// Payloads that could not be read.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct ParkedList {
    parked: Vec<Parked>,
}

/// A payload that could not be read.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Parked {
    /// The stream it is in.
    stream: String,
    /// Its sequence there.
    stream_seq: u64,
    /// Its subject.
    subject: String,
    /// Why it could not be read.
    reason: String,
    /// Its size in bytes.
    size: u64,
    /// Its first bytes, base64.
    payload: String,
    /// When the stream stored it.
    timestamp: bus_schema::Timestamp,
}

/// The hub lives.
#[utoipa::path(get, path = "/healthz", tag = "operations", responses((status = 200, body = Health)))]
pub(super) async fn healthz() -> Reply<Health> {
    Reply(Health { status: "ok", version: env!("CARGO_PKG_VERSION"), waiting: vec![] })
}

/// The hub can serve: connected to the bus, its records and the fleet known.
#[utoipa::path(get, path = "/readyz", tag = "operations",
    responses((status = 200, body = Health), (status = 503, body = Health)))]
pub(super) async fn readyz(State(app): State<Shared>) -> impl IntoResponse {
    let all = app.workspaces.all();
    let needs = [
        ("the bus", all.iter().all(|app| app.bus.is_connected())),
        ("the hub's own records", app.journal.is_followed()),
        ("the fleet", all.iter().all(|app| app.live.is_ready())),
        ("the people of the users file", all.iter().all(|app| *app.people.borrow())),
    ];
    let waiting = needs.into_iter().filter(|(_, there)| !there).map(|(what, _)| what.to_owned());
    // What keeps the streams from being made comes first: all else waits for them.
    let waiting: Vec<String> = all.iter().filter_map(|app| app.bus.obstacle()).chain(waiting).collect();
    let (code, status) =
        if waiting.is_empty() { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "notReady") };
    (code, Reply(Health { status, version: env!("CARGO_PKG_VERSION"), waiting }))
}

/// Counters, as Prometheus reads them.
#[utoipa::path(get, path = "/metrics", tag = "operations",
    responses((status = 200, content_type = "text/plain", body = String)))]
pub(super) async fn metrics(State(app): State<Shared>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], app.metrics.render())
}

/// This document.
#[utoipa::path(get, path = "/api/openapi.json", tag = "operations",
    responses((status = 200, content_type = "application/json", body = Object)))]
pub(super) async fn openapi() -> impl IntoResponse {
    Reply(super::openapi())
}

/// Payloads of the bus that could not be read, the newest first.
#[utoipa::path(get, path = "/api/parked", tag = "operations", responses((status = 200, body = ParkedList)))]
pub(super) async fn parked(State(app): State<Shared>) -> Result<Reply<ParkedList>, ApiError> {
    let rows = app.store.parked(app.bus.workspace(), PARKED_MAX).await?;
    let parked = rows.into_iter().map(|row| Parked {
        stream: row.stream,
        stream_seq: row.seq,
        subject: row.subject,
        reason: row.reason,
        size: row.size,
        payload: STANDARD.encode(&row.payload),
        timestamp: row.at,
    });
    Ok(Reply(ParkedList { parked: parked.collect() }))
}
