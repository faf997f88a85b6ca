//! Signing in and out.

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use bus_schema::Actor;
use serde::{Deserialize, Serialize};

use super::body::Json;
use super::error::ApiError;
use super::{RequestId, Shared};
use crate::actions::Asker;
use crate::audit::{Deed, DeedResult};
use crate::authn::{AuthnError, COOKIE, cookie};

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
    /// All of your workspaces.
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

fn set_cookie(value: &str, max_age_s: i64) -> Result<(HeaderName, HeaderValue), ApiError> {
    let text = format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={max_age_s}");
    let value = HeaderValue::from_str(&text).map_err(|_| ApiError::malformed("the cookie cannot be set"))?;
    Ok((header::SET_COOKIE, value))
}

/// Sign in: sets the cookie.
#[utoipa::path(post, path = "/api/auth/login", tag = "auth", request_body = Login, responses(
    (status = 204, description = "signed in; the cookie is set"),
    (status = 401, body = super::error::ErrorBody),
))]
pub(super) async fn login(
    State(app): State<Shared>,
    Extension(id): Extension<RequestId>,
    Json(login): Json<Login>,
) -> Result<impl IntoResponse, ApiError> {
    let signed_in = app.authn.sign_in(&login.email, &login.password).await;
    let (user, result) = match &signed_in {
        Ok(ok) => (ok.principal.actor(), DeedResult::ok()),
        Err(error @ (AuthnError::Wrong | AuthnError::NoRole(_))) => {
            let email = login.email.chars().take(254).collect::<String>();
            let actor = Actor { id: None, name: email.clone(), email: Some(email), role: None };
            (actor, DeedResult::not("refused", error.to_string()))
        }
        Err(_) => return Err(signed_in.err().map_or_else(ApiError::unauthenticated, Into::into)),
    };
    app.audit.note(Deed::new("signIn", user, id.0), result).await?;
    let signed_in = signed_in?;
    Ok((StatusCode::NO_CONTENT, [set_cookie(signed_in.token.expose(), signed_in.max_age_s)?]))
}

/// Sign out: ends this sign-in for good.
#[utoipa::path(post, path = "/api/auth/logout", tag = "auth", responses((status = 204, description = "signed out")))]
pub(super) async fn logout(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    let mut cookies = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok());
    if let Some(token) = cookies.find_map(cookie) {
        app.authn.sign_out(token).await?;
    }
    app.audit.note(Deed::by(&asker, "signOut"), DeedResult::ok()).await?;
    Ok((StatusCode::NO_CONTENT, [set_cookie("", 0)?]))
}

/// Who am I, and what may I do?
#[utoipa::path(get, path = "/api/auth/me", tag = "auth", responses((status = 200, body = Me)))]
pub(super) async fn me(Extension(asker): Extension<Asker>) -> axum::Json<Me> {
    let p = asker.principal;
    let workspaces = p.memberships.iter().map(|m| MeWorkspace { id: m.workspace.to_string(), role: m.role.clone() });
    axum::Json(Me {
        workspaces: workspaces.collect(),
        user: MeUser { id: p.user.to_string(), email: p.email, name: p.name },
        workspace: p.workspace.to_string(),
        role: p.role.to_string(),
    })
}
