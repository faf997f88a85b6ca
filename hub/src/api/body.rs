//! Reading what a request brings: JSON bodies within a limit, identifiers in paths, numbers in queries. Each mistake
//! has its status: 400 malformed, 408 too slow, 413 too large, 422 well-formed but invalid.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use bus_schema::SessionId;
use futures::StreamExt;
use serde::de::DeserializeOwned;

use super::Shared;
use super::error::ApiError;

/// How much of a body that is too large is still read, so that the caller gets the answer instead of a broken
/// connection.
const DRAIN_MAX: usize = 32 * 1024 * 1024;

/// A JSON body.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Shared> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        if !is_json(&parts.headers) {
            return Err(ApiError::malformed("send JSON, with the header Content-Type: application/json"));
        }
        let limits = app.limits.config();
        let within = Duration::from_secs(limits.body_timeout_s);
        let bytes = tokio::time::timeout(within, read(body, limits.body_bytes)).await.map_err(|_| {
            app.limits.count("slow bodies");
            let text = format!("the body did not come within {} s", within.as_secs());
            ApiError::new(StatusCode::REQUEST_TIMEOUT, "tooSlow", text)
        })?;
        let bytes = bytes.inspect_err(|_| app.limits.count("body sizes"))?;
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Self(value)),
            Err(e) if e.is_data() => Err(ApiError::invalid(format!("the body does not fit: {e}"))),
            Err(e) => Err(ApiError::malformed(format!("the body is not JSON: {e}"))),
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let media = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim();
    media.eq_ignore_ascii_case("application/json") || media.to_ascii_lowercase().ends_with("+json")
}

async fn read(body: Body, most: usize) -> Result<Vec<u8>, ApiError> {
    let (mut bytes, mut size) = (vec![], 0);
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|e| ApiError::malformed(format!("the body broke off: {e}")))?;
        size += chunk.len();
        if size > DRAIN_MAX {
            break;
        }
        if size <= most {
            bytes.extend_from_slice(&chunk);
        }
    }
    if size > most {
        return Err(ApiError::too_large(format!("the body is larger than {most} bytes")));
    }
    Ok(bytes)
}

/// The session named in the path.
pub struct InPath(pub SessionId);

impl FromRequestParts<Shared> for InPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, app).await;
        let Path(text) = path.map_err(|e| ApiError::malformed(e.to_string()))?;
        // What is no id is no session either: the caller sees the same as for one that is not there.
        SessionId::new(&text).map(Self).map_err(|e| ApiError::not_found(e.to_string()))
    }
}

/// The query of the request.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Shared> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, ApiError> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, app).await;
        query.map(|q| Self(q.0)).map_err(|e| ApiError::malformed(e.body_text()))
    }
}
