//! Signing in and out, passwords, signed-in browsers.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use bus_schema::{Actor, Metadata, Timestamp};
use hub_store::Membership;
use serde::{Deserialize, Serialize};

use super::body::Json;
use super::deeds::{deed, facts, recorded, stranger};
use super::error::ApiError;
use super::{RequestId, Shared};
use crate::actions::Asker;
use crate::audit::DeedResult;
use crate::authn::{AuthnError, From, SignedIn, id_of};
use crate::metrics::Of;
use crate::server::Peer;

/// Who wants in.
#[derive(Deserialize, utoipa::ToSchema)]
pub(super) struct Login {
    /// Email, in any case.
    email: String,
    /// Password.
    password: String,
}

/// Who you are.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Me {
    /// You.
    user: MeUser,
    /// The workspace this request was for.
    workspace: String,
    /// Your role there: `admin`, `operator` or `observer`.
    role: String,
    /// All of your workspaces that this hub serves.
    workspaces: Vec<MeWorkspace>,
}

/// A person.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct MeUser {
    /// For ever.
    id: String,
    /// Email.
    email: String,
    /// For people.
    name: String,
}

/// A workspace and your role in it.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct MeWorkspace {
    /// Its id.
    id: String,
    /// `admin`, `operator` or `observer`.
    role: String,
}

/// A signed-in browser.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SignInView {
    /// To end it by.
    session_id: String,
    /// Since when.
    created_at: Timestamp,
    /// Until when.
    expires_at: Timestamp,
    /// What the browser says it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
    /// Where it signed in from.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// True for the one that asks.
    current: bool,
}

/// Signed-in browsers.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct SignIns {
    /// The newest first.
    sessions: Vec<SignInView>,
}

/// Another password.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PasswordBody {
    /// The one that is good now.
    old: String,
    /// The one to come.
    new: String,
}

/// Where a request comes from. Proxies that are trusted say for whom they ask.
pub(super) fn from(app: &Shared, peer: Peer, headers: &HeaderMap) -> From {
    let mut address = peer.0;
    let said = headers.get_all("x-forwarded-for").iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    for hop in said.collect::<Vec<_>>().into_iter().rev() {
        if !app.trusted_proxies.contains(&address) {
            break;
        }
        match hop.trim().parse() {
            Ok(before) => address = before,
            Err(_) => break,
        }
    }
    let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).map(str::to_owned);
    From { address: Some(address), agent }
}

/// The header that keeps a cookie in the browser for some seconds; 0 takes it away.
pub(super) fn set_cookie(app: &Shared, value: &str, max_age_s: i64) -> Result<(HeaderName, HeaderValue), ApiError> {
    let secure = if app.is_https() { "; Secure" } else { "" };
    let name = app.cookie();
    let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={max_age_s}{secure}");
    let value = HeaderValue::from_str(&text).map_err(|_| ApiError::malformed("the cookie cannot be set"))?;
    Ok((header::SET_COOKIE, value))
}

/// The cookie of a sign-in that worked.
pub(super) fn signed_in(app: &Shared, done: &SignedIn) -> Result<(HeaderName, HeaderValue), ApiError> {
    set_cookie(app, done.token.expose(), done.max_age_s)
}

/// A sign-in into the audit log, whatever became of it; but not where a limit refused to look.
pub(super) async fn noted(
    app: &Shared,
    who: Actor,
    request_id: String,
    facts: Metadata,
    done: Result<SignedIn, AuthnError>,
) -> Result<SignedIn, ApiError> {
    let metrics = app.metrics.clone();
    let count = |of| {
        metrics.sign_ins.get_or_create(&Of { of }).inc();
    };
    let mut app = app.clone();
    let (user, result) = match &done {
        Ok(ok) => {
            count("ok");
            app = app.workspaces.get(&ok.principal.workspace).unwrap_or(app);
            (ok.principal.actor(), DeedResult::ok())
        }
        Err(AuthnError::Limited(_)) => {
            count("limited");
            return done.map_err(Into::into);
        }
        Err(error) => {
            let refused = error.is_refusal();
            count(if refused { "refused" } else { "failed" });
            (who, DeedResult::not(if refused { "refused" } else { "failed" }, error.to_string()))
        }
    };
    app.audit.note(deed("signIn", user, request_id, facts), result).await?;
    Ok(done?)
}

/// Sign in: sets the cookie. Each sign-in has a value of its own.
#[utoipa::path(post, path = "/api/auth/login", tag = "auth", request_body = Login, responses(
    (status = 204, description = "signed in; the cookie is set"),
    (status = 401, body = super::error::ErrorBody), (status = 429, body = super::error::ErrorBody),
))]
pub(super) async fn login(
    State(app): State<Shared>,
    Extension(id): Extension<RequestId>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Json(login): Json<Login>,
) -> Result<impl IntoResponse, ApiError> {
    let done = app.authn.sign_in(&login.email, &login.password, &from(&app, peer, &headers)).await;
    let done = noted(&app, stranger(&login.email), id.0, Metadata::new(), done).await?;
    Ok((StatusCode::NO_CONTENT, [signed_in(&app, &done)?]))
}

/// Sign out: ends this sign-in for good.
#[utoipa::path(post, path = "/api/auth/logout", tag = "auth", responses((status = 204, description = "signed out")))]
pub(super) async fn logout(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
) -> Result<impl IntoResponse, ApiError> {
    app.authn.sign_out(&asker.principal).await?;
    let out = deed("signOut", asker.principal.actor(), asker.request_id, Metadata::new());
    app.audit.note(out, DeedResult::ok()).await?;
    Ok((StatusCode::NO_CONTENT, [set_cookie(&app, "", 0)?]))
}

/// Change my password. Every other browser of mine is signed out.
#[utoipa::path(post, path = "/api/auth/password", tag = "auth", request_body = PasswordBody, responses(
    (status = 204, description = "changed"), (status = 401, body = super::error::ErrorBody),
    (status = 422, body = super::error::ErrorBody), (status = 429, body = super::error::ErrorBody)))]
pub(super) async fn password(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Json(body): Json<PasswordBody>,
) -> Result<StatusCode, ApiError> {
    let from = from(&app, peer, &headers);
    let work = {
        let (app, who) = (app.clone(), asker.principal.clone());
        async move { Ok(app.authn.change_password(&who, &body.old, &body.new, &from).await?) }
    };
    recorded(&app, asker, "changePassword", Metadata::new(), work).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// My signed-in browsers.
#[utoipa::path(get, path = "/api/auth/sessions", tag = "auth", responses((status = 200, body = SignIns)))]
pub(super) async fn sessions(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
) -> Result<axum::Json<SignIns>, ApiError> {
    let this = asker.principal.via.token_hash();
    let all = app.authn.sign_ins(&asker.principal.user).await?;
    let sessions = all.into_iter().map(|s| SignInView {
        session_id: id_of(&s.token_hash).to_owned(),
        current: s.token_hash == this,
        created_at: s.created,
        expires_at: s.expires,
        agent: s.agent,
        address: s.address,
    });
    Ok(axum::Json(SignIns { sessions: sessions.collect() }))
}

/// Sign one of my browsers out.
#[utoipa::path(delete, path = "/api/auth/sessions/{id}", tag = "auth", params(("id" = String, Path)), responses(
    (status = 204, description = "it is signed out"), (status = 404, body = super::error::ErrorBody)))]
pub(super) async fn end_session(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let gone = || ApiError::not_found("you have no such signed-in browser");
    let mine = app.authn.sign_ins(&asker.principal.user).await?;
    if !mine.iter().any(|s| id_of(&s.token_hash) == id) {
        return Err(gone());
    }
    let said = facts([("session", id.clone())]);
    let work = {
        let (app, user) = (app.clone(), asker.principal.user.clone());
        async move { if app.authn.end_sign_in(&user, &id).await? { Ok(()) } else { Err(gone()) } }
    };
    recorded(&app, asker, "endSignIn", said, work).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sign out everywhere: every browser of mine, this one too.
#[utoipa::path(delete, path = "/api/auth/sessions", tag = "auth",
    responses((status = 204, description = "every browser is signed out")))]
pub(super) async fn end_sessions(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
) -> Result<impl IntoResponse, ApiError> {
    let work = {
        let (app, user) = (app.clone(), asker.principal.user.clone());
        async move { Ok(app.authn.end_sign_ins(&user, None).await?) }
    };
    recorded(&app, asker, "endSignIns", Metadata::new(), work).await?;
    Ok((StatusCode::NO_CONTENT, [set_cookie(&app, "", 0)?]))
}

/// Who am I, and what may I do?
#[utoipa::path(get, path = "/api/auth/me", tag = "auth", responses((status = 200, body = Me)))]
pub(super) async fn me(State(app): State<Shared>, Extension(asker): Extension<Asker>) -> axum::Json<Me> {
    let p = asker.principal;
    let is_served = |m: &&Membership| !m.disabled && app.workspaces.get(&m.workspace).is_some();
    let workspaces = p.memberships.iter().filter(is_served);
    let workspaces = workspaces.map(|m| MeWorkspace { id: m.workspace.to_string(), role: m.role.clone() });
    axum::Json(Me {
        workspaces: workspaces.collect(),
        user: MeUser { id: p.user.to_string(), email: p.email, name: p.name },
        workspace: p.workspace.to_string(),
        role: p.role.to_string(),
    })
}
