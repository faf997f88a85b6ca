//! People of the workspace.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json as Reply};
use bus_schema::{Metadata, UserId};
use serde::{Deserialize, Serialize};

use super::body::Json;
use super::deeds::{facts, recorded};
use super::error::ApiError;
use super::{Shared, role};
use crate::actions::Asker;
use crate::authn::{AuthnError, Change, Member};

/// A person with a role in this workspace.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct UserView {
    /// For ever.
    user_id: String,
    /// Email.
    email: String,
    /// For people.
    name: String,
    /// `admin`, `operator` or `observer`.
    role: String,
    /// True while an admin keeps them out.
    disabled: bool,
}

/// People.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Users {
    /// By email.
    users: Vec<UserView>,
}

/// One person.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct OneUser {
    /// As they are now.
    user: UserView,
}

/// What is to change of a person; what is left out stays.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UserPatch {
    /// Another name.
    name: Option<String>,
    /// `admin`, `operator` or `observer`.
    role: Option<String>,
    /// True keeps them out and signs them out; false lets them in again.
    disabled: Option<bool>,
}

fn view(member: Member) -> UserView {
    UserView {
        user_id: member.user.id.to_string(),
        email: member.user.email,
        name: member.user.name,
        role: member.role.to_string(),
        disabled: member.disabled,
    }
}

fn id(path: &str) -> Result<UserId, ApiError> {
    UserId::new(path).map_err(|_| AuthnError::NoPerson(path.chars().take(64).collect()).into())
}

/// Everybody with a role in this workspace.
#[utoipa::path(get, path = "/api/users", tag = "people", responses((status = 200, body = Users)))]
pub(super) async fn list(State(app): State<Shared>) -> Result<Reply<Users>, ApiError> {
    Ok(Reply(Users { users: app.authn.members().await?.into_iter().map(view).collect() }))
}

/// Change a person's name or role, keep them out or let them in again. It holds at once, on open streams too.
#[utoipa::path(patch, path = "/api/users/{id}", tag = "people", params(("id" = String, Path)),
    request_body = UserPatch, responses((status = 200, body = OneUser), (status = 404, body = super::error::ErrorBody),
        (status = 409, body = super::error::ErrorBody), (status = 422, body = super::error::ErrorBody)))]
pub(super) async fn update(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    Path(path): Path<String>,
    Json(body): Json<UserPatch>,
) -> Result<Reply<OneUser>, ApiError> {
    let id = id(&path)?;
    let before = app.authn.member(&id).await?;
    let change = Change { name: body.name, role: body.role.as_deref().map(role).transpose()?, disabled: body.disabled };
    let mut said = about(&before);
    for (key, now) in [
        ("newRole", change.role.map(|role| role.to_string().into())),
        ("newName", change.name.clone().map(Into::into)),
        ("newDisabled", change.disabled.map(Into::into)),
    ] {
        said.extend(now.map(|now: serde_json::Value| (key.to_owned(), now)));
    }
    let work = {
        let app = app.clone();
        async move { Ok(app.authn.change(&id, change).await?) }
    };
    Ok(Reply(OneUser { user: view(recorded(&app, asker, "updateUser", said, work).await?) }))
}

/// End a person's membership, with their sign-ins and tokens.
#[utoipa::path(delete, path = "/api/users/{id}", tag = "people", params(("id" = String, Path)),
    responses((status = 204, description = "they have no role here any more"),
        (status = 404, body = super::error::ErrorBody), (status = 409, body = super::error::ErrorBody)))]
pub(super) async fn delete(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    Path(path): Path<String>,
) -> Result<StatusCode, ApiError> {
    let id = id(&path)?;
    let said = about(&app.authn.member(&id).await?);
    let work = {
        let app = app.clone();
        async move { Ok(app.authn.remove(&id).await?) }
    };
    recorded(&app, asker, "deleteUser", said, work).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn about(member: &Member) -> Metadata {
    facts([
        ("targetUser", member.user.id.to_string()),
        ("targetEmail", member.user.email.clone()),
        ("role", member.role.to_string()),
    ])
}
