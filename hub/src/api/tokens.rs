//! API tokens of the person who asks: what lets their scripts in. A token can neither make nor see tokens.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json as Reply};
use bus_schema::{SessionId, Timestamp};
use hub_store::ApiToken;
use serde::{Deserialize, Serialize};

use super::body::Json;
use super::deeds::{facts, recorded};
use super::error::ApiError;
use super::{Shared, role};
use crate::actions::Asker;
use crate::authn::{NewToken, id_of};

/// A token, without what lets in.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TokenView {
    /// To take it away by.
    token_id: String,
    /// What it is for.
    name: String,
    /// The most it may do; never more than its person may.
    role: String,
    /// The only sessions it may touch; all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions: Option<Vec<SessionId>>,
    /// Since when.
    created_at: Timestamp,
    /// Until when.
    expires_at: Timestamp,
    /// When it was used last, to the hour; absent if never.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<Timestamp>,
}

/// Tokens.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Tokens {
    /// The newest first.
    tokens: Vec<TokenView>,
}

/// A new token. Its text is shown this once.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct MadeToken {
    /// For `Authorization: Bearer …`.
    token: String,
    /// What is kept of it.
    api_token: TokenView,
}

/// A token to make.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NewTokenBody {
    /// What it is for.
    name: String,
    /// `observer` (reads only), `operator` or `admin`; not above your own.
    role: String,
    /// The only sessions it may touch, by the routes of those sessions; all if left out.
    sessions: Option<Vec<SessionId>>,
    /// Until when; in 90 days if left out, in a year at most.
    expires_at: Option<Timestamp>,
}

fn view(token: ApiToken) -> TokenView {
    TokenView {
        token_id: id_of(&token.token_hash).to_owned(),
        name: token.name,
        role: token.role,
        sessions: token.sessions,
        created_at: token.created,
        expires_at: token.expires,
        last_used_at: token.last_used,
    }
}

/// My tokens.
#[utoipa::path(get, path = "/api/tokens", tag = "people", responses((status = 200, body = Tokens)))]
pub(super) async fn list(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
) -> Result<Reply<Tokens>, ApiError> {
    Ok(Reply(Tokens { tokens: app.authn.tokens(&asker.principal).await?.into_iter().map(view).collect() }))
}

/// Make a token for a script of mine. Its text is shown this once.
#[utoipa::path(post, path = "/api/tokens", tag = "people", request_body = NewTokenBody,
    responses((status = 201, body = MadeToken), (status = 422, body = super::error::ErrorBody)))]
pub(super) async fn create(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    Json(body): Json<NewTokenBody>,
) -> Result<(StatusCode, Reply<MadeToken>), ApiError> {
    let sessions = body.sessions.map(|ids| ids.into_iter().collect());
    let new = NewToken { name: body.name, role: role(&body.role)?, sessions, expires: body.expires_at };
    let name: String = new.name.chars().take(100).collect();
    let said = facts([("token", name), ("role", new.role.to_string())]);
    let work = {
        let (app, maker) = (app.clone(), asker.principal.clone());
        async move { Ok(app.authn.make_token(&maker, new).await?) }
    };
    let (token, kept) = recorded(&app, asker, "createToken", said, work).await?;
    let made = MadeToken { token: token.expose().to_owned(), api_token: view(kept) };
    Ok((StatusCode::CREATED, Reply(made)))
}

/// Take a token of mine away: it lets nobody in from now on, and its streams end.
#[utoipa::path(delete, path = "/api/tokens/{id}", tag = "people", params(("id" = String, Path)),
    responses((status = 204, description = "it is gone"), (status = 404, body = super::error::ErrorBody)))]
pub(super) async fn delete(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let gone = || ApiError::not_found("you have no such token");
    let mine = app.authn.tokens(&asker.principal).await?;
    let found = mine.into_iter().find(|token| id_of(&token.token_hash) == id).ok_or_else(gone)?;
    let said = facts([("token", found.name), ("role", found.role)]);
    let work = {
        let (app, whose) = (app.clone(), asker.principal.clone());
        async move { app.authn.delete_token(&whose, &id).await?.ok_or_else(gone) }
    };
    recorded(&app, asker, "deleteToken", said, work).await?;
    Ok(StatusCode::NO_CONTENT)
}
