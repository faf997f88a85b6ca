//! Around every answer, whoever gave it: the id of its request, the counter, headers, and errors as JSON with the id.
//!
//! ```text
//! request ─► its id ─► which workspace ─► its routes, which name themselves ─► counted, headers ─► answer
//! ```
//!
//! Laws:
//! 1. There is one of it, and nothing of ours answers outside of it.
//! 2. What no route answered is counted as the route `none`.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use bus_schema::WorkspaceId;
use ulid::Ulid;

use super::error::ApiError;
use super::page;
use crate::metrics::{Answer, Metrics};

/// The id of a request, for the logs of both sides.
#[derive(Clone, Debug)]
pub struct RequestId(pub String);

/// The route that answered, on the answer.
#[derive(Clone)]
struct Answered(MatchedPath);

/// Says on the answer which route it is of: around a router of several nobody else knows.
pub(super) async fn named(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    if let Some(route) = route {
        response.extensions_mut().insert(Answered(route));
    }
    response
}

/// Around everything.
pub(super) async fn around(State(metrics): State<Arc<Metrics>>, mut request: Request, next: Next) -> Response {
    let given = request.headers().get("x-request-id").and_then(|v| v.to_str().ok());
    let id = given.filter(|id| WorkspaceId::new(id).is_ok()).map_or_else(|| Ulid::new().to_string(), str::to_owned);
    request.extensions_mut().insert(RequestId(id.clone()));
    let method = request.method().clone();
    let begun = std::time::Instant::now();
    let mut response = next.run(request).await;
    let answered = response.extensions_mut().remove::<Answered>();
    let route = answered.as_ref().map_or("none", |Answered(route)| route.as_str()).to_owned();
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        if error.status().is_server_error() {
            tracing::warn!(request_id = id, %method, route, code = error.code(), detail = error.detail(), "request failed");
        }
        response = error.render(&id);
    }
    let millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::debug!(request_id = id, %method, route, status = response.status().as_u16(), millis, "request");
    metrics.answers.get_or_create(&Answer { route, status: response.status().as_u16() }).inc();
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert("x-request-id", value);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(page::NOTHING));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
