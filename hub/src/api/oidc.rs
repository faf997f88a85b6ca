//! Signing in with a service of others: the browser goes there and comes back.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse};
use axum::{Extension, Json as Reply};
use serde::{Deserialize, Serialize};

use super::auth::{from, noted, signed_in};
use super::body::Query;
use super::deeds::{facts, stranger};
use super::error::ApiError;
use super::{RequestId, Shared};
use crate::authn::{OidcError, cookie};
use crate::server::Peer;

/// How long somebody may take at the other's page, in seconds.
const AWAY_S: u32 = 600;
/// Binds what comes back to the browser that went.
const COOKIE: &str = "mosaic_oidc";

/// Services to sign in with.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct SignInServices {
    /// In the order of the configuration.
    services: Vec<SignInService>,
}

/// A service to sign in with.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct SignInService {
    /// Its name.
    name: String,
    /// Where the browser goes to sign in with it.
    url: String,
}

/// What the service sends back.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Answer {
    /// What it got from us.
    state: Option<String>,
    /// Good for tokens, once.
    code: Option<String>,
    /// Why it refuses.
    error: Option<String>,
}

/// `SameSite=Lax`: the browser comes back from another site.
fn keep(app: &Shared, name: &str, value: &str, max_age_s: u32) -> Result<(HeaderName, HeaderValue), ApiError> {
    let secure = if app.is_https() { "; Secure" } else { "" };
    let path = format!("/api/auth/oidc/{name}");
    let text = format!("{COOKIE}={value}; Path={path}; HttpOnly; SameSite=Lax; Max-Age={max_age_s}{secure}");
    let value = HeaderValue::from_str(&text).map_err(|_| ApiError::malformed("the cookie cannot be set"))?;
    Ok((header::SET_COOKIE, value))
}

fn to(url: &str) -> Result<(HeaderName, HeaderValue), ApiError> {
    let value = HeaderValue::from_str(url).map_err(|_| ApiError::malformed("the address cannot be sent"))?;
    Ok((header::LOCATION, value))
}

/// Services to sign in with, for the page.
#[utoipa::path(get, path = "/api/auth/oidc", tag = "auth", responses((status = 200, body = SignInServices)))]
pub(super) async fn list(State(app): State<Shared>) -> Reply<SignInServices> {
    let service = |name: &str| SignInService { name: name.to_owned(), url: format!("/api/auth/oidc/{name}") };
    Reply(SignInServices { services: app.oidc.names().map(service).collect() })
}

/// Sign in with a service: sends the browser there.
#[utoipa::path(get, path = "/api/auth/oidc/{name}", tag = "auth", params(("name" = String, Path)), responses(
    (status = 303, description = "to the service"), (status = 404, body = super::error::ErrorBody),
    (status = 503, body = super::error::ErrorBody)))]
pub(super) async fn begin(State(app): State<Shared>, Path(name): Path<String>) -> Result<impl IntoResponse, ApiError> {
    let begun = app.oidc.begin(&name).await?;
    Ok((StatusCode::SEE_OTHER, [keep(&app, &name, begun.secret.expose(), AWAY_S)?, to(&begun.url)?]))
}

/// Back from a service: signs in and goes to the page.
#[utoipa::path(get, path = "/api/auth/oidc/{name}/callback", tag = "auth", params(("name" = String, Path), Answer),
    responses((status = 303, description = "signed in; the cookie is set"),
        (status = 401, body = super::error::ErrorBody), (status = 403, body = super::error::ErrorBody)))]
pub(super) async fn finish(
    State(app): State<Shared>,
    Extension(request): Extension<RequestId>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Query(answer): Query<Answer>,
) -> Result<impl IntoResponse, ApiError> {
    // Whichever workspace a browser was in before: it comes back to that of the service.
    let app = app.workspaces.get(app.oidc.workspace(&name)?).ok_or_else(|| OidcError::Unknown(name.clone()))?;
    let mut cookies = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok());
    let secret = cookies.find_map(|text| cookie(text, COOKIE)).unwrap_or_default();
    let done = match (&answer.state, &answer.code, answer.error) {
        (Some(state), Some(code), None) => {
            let from = from(&app, peer, &headers);
            app.authn.sign_in_with(&app.oidc, &name, secret, (state, code), &from).await
        }
        (_, _, Some(error)) => Err(OidcError::Refused(error.chars().take(100).collect()).into()),
        (_, _, None) => Err(OidcError::State.into()),
    };
    let who = stranger(&format!("somebody of {name}"));
    let done = noted(&app, who, request.0, facts([("service", name.clone())]), done).await?;
    let headers = [signed_in(&app, &done)?, keep(&app, &name, "", 0)?, to("/mission-control")?];
    Ok((StatusCode::SEE_OTHER, AppendHeaders(headers)))
}
