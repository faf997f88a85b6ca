//! The page: built files of the dashboard, embedded, under `/mission-control`.

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use rust_embed::RustEmbed;

use super::Shared;
use super::error::ApiError;

/// The built dashboard. Empty if it was not built before the hub: then a page says how.
#[derive(RustEmbed)]
#[folder = "$MOSAIC_DASHBOARD_DIST"]
struct Files;

/// Nothing from elsewhere, no script or style inside of a page.
const POLICY: &str = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; \
                      form-action 'self'; frame-ancestors 'none'";

/// What is no page may do nothing where a browser takes it for one.
pub(super) const NOTHING: &str = "default-src 'none'; frame-ancestors 'none'";

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/", get(|| async { Redirect::temporary("/mission-control") }))
        .route("/mission-control", get(|| async { file("index.html") }))
        .route("/mission-control/", get(|| async { file("index.html") }))
        .route("/mission-control/{*path}", get(|Path(path): Path<String>| async move { file(&path) }))
}

/// What no route knows.
pub(super) async fn fallback(uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    ApiError::not_found(format!("there is nothing at {path}; the routes are in /api/openapi.json"))
}

fn file(path: &str) -> Response {
    let found = Files::get(path).map(|f| (path, f));
    // Paths of the page itself are the page; a file that is not there is not.
    let page = || if path.contains('.') { None } else { Files::get("index.html").map(|f| ("index.html", f)) };
    let Some((path, file)) = found.or_else(page) else {
        return match path {
            "index.html" => not_built(),
            _ => ApiError::not_found("there is no such file").into_response(),
        };
    };
    // Names of built files hold a hash of their content; the page itself does not.
    let cache = if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let mut response = file.data.into_response();
    let media = HeaderValue::from_str(file.metadata.mimetype());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, media.unwrap_or(HeaderValue::from_static("application/octet-stream")));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

fn not_built() -> Response {
    let text = "the dashboard was not built before the hub: run `cargo xtask up`, or `npm ci && npm run build` in \
                dashboard/ and build the hub again\n";
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, POLICY)];
    (StatusCode::SERVICE_UNAVAILABLE, headers, text).into_response()
}
