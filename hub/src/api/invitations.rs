//! Invitations: how a new person gets in.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::{Extension, Json as Reply};
use bus_schema::Timestamp;
use hub_store::Invitation;
use serde::{Deserialize, Serialize};

use super::auth::{from, signed_in};
use super::body::Json;
use super::deeds::{facts, recorded, recorded_as, stranger};
use super::error::ApiError;
use super::{RequestId, Shared, role};
use crate::actions::Asker;
use crate::authn::id_of;
use crate::server::Peer;

/// An open invitation.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct InvitationView {
    /// To take it back by.
    invitation_id: String,
    /// Who is invited.
    email: String,
    /// As what.
    role: String,
    /// Who invited: a user id.
    invited_by: String,
    /// Since when.
    created_at: Timestamp,
    /// Until when.
    expires_at: Timestamp,
}

/// Open invitations.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Invitations {
    /// The newest first.
    invitations: Vec<InvitationView>,
}

/// A new invitation. What lets the person in is shown this once.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct MadeInvitation {
    /// The invitation.
    invitation: InvitationView,
    /// What lets the person in, once.
    token: String,
    /// The page that takes it; without the host where `hub.public_url` is not set.
    link: String,
}

/// Whom to invite.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewInvitation {
    /// Their email.
    email: String,
    /// `admin`, `operator` or `observer`.
    role: String,
}

/// What the invited person sends.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Accept {
    /// Out of the link.
    token: String,
    /// How they want to be called; the part before the `@` if left out.
    name: Option<String>,
    /// A new password; the one they have, if they have a role on this hub already.
    password: String,
}

fn view(invitation: Invitation) -> InvitationView {
    InvitationView {
        invitation_id: id_of(&invitation.token_hash).to_owned(),
        email: invitation.email,
        role: invitation.role,
        invited_by: invitation.by.to_string(),
        created_at: invitation.created,
        expires_at: invitation.expires,
    }
}

/// The open invitations.
#[utoipa::path(get, path = "/api/invitations", tag = "people", responses((status = 200, body = Invitations)))]
pub(super) async fn list(State(app): State<Shared>) -> Result<Reply<Invitations>, ApiError> {
    Ok(Reply(Invitations { invitations: app.authn.invitations().await?.into_iter().map(view).collect() }))
}

/// Invite somebody. The link is shown this once, is good for seven days and lets one person in.
#[utoipa::path(post, path = "/api/invitations", tag = "people", request_body = NewInvitation, responses(
    (status = 201, body = MadeInvitation), (status = 409, body = super::error::ErrorBody),
    (status = 422, body = super::error::ErrorBody)))]
pub(super) async fn create(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    Json(body): Json<NewInvitation>,
) -> Result<(StatusCode, Reply<MadeInvitation>), ApiError> {
    let role = role(&body.role)?;
    let email: String = body.email.chars().take(300).collect();
    let said = facts([("targetEmail", email.clone()), ("role", role.to_string())]);
    let work = {
        let (app, by) = (app.clone(), asker.principal.clone());
        async move { Ok(app.authn.invite(&by, &email, role).await?) }
    };
    let (token, invitation) = recorded(&app, asker, "createInvitation", said, work).await?;
    let token = token.expose().to_owned();
    let host = app.public_url.as_deref().unwrap_or_default();
    // Behind `#` it reaches no server's log.
    let link = format!("{host}/mission-control/invitation#{token}");
    Ok((StatusCode::CREATED, Reply(MadeInvitation { invitation: view(invitation), token, link })))
}

/// Take an invitation back.
#[utoipa::path(delete, path = "/api/invitations/{id}", tag = "people", params(("id" = String, Path)),
    responses((status = 204, description = "it lets nobody in any more"), (status = 404, body = super::error::ErrorBody)))]
pub(super) async fn delete(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let open = app.authn.invitations().await?;
    let gone = || ApiError::not_found("there is no such invitation");
    let found = open.into_iter().find(|i| id_of(&i.token_hash) == id).ok_or_else(gone)?;
    let said = facts([("targetEmail", found.email), ("role", found.role)]);
    let work = {
        let app = app.clone();
        async move { app.authn.delete_invitation(&id).await?.ok_or_else(gone) }
    };
    recorded(&app, asker, "deleteInvitation", said, work).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Accept an invitation: makes the person, and signs them in.
#[utoipa::path(post, path = "/api/invitations/accept", tag = "people", request_body = Accept, responses(
    (status = 204, description = "signed in; the cookie is set"), (status = 401, body = super::error::ErrorBody),
    (status = 404, body = super::error::ErrorBody), (status = 422, body = super::error::ErrorBody)))]
pub(super) async fn accept(
    State(app): State<Shared>,
    Extension(request): Extension<RequestId>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Json(body): Json<Accept>,
) -> Result<impl IntoResponse, ApiError> {
    let from = from(&app, peer, &headers);
    let invitation = app.authn.invitation(&body.token, &from).await?;
    let app = app.workspaces.get(&invitation.workspace).unwrap_or(app);
    let actor = stranger(&invitation.email);
    let said = facts([("invitation", id_of(&invitation.token_hash).to_owned()), ("role", invitation.role.clone())]);
    let work = {
        let app = app.clone();
        async move { Ok(app.authn.accept(invitation, body.name.as_deref(), &body.password, &from).await?) }
    };
    let done = recorded_as(&app, actor, request.0, "acceptInvitation", said, work).await?;
    Ok((StatusCode::NO_CONTENT, [signed_in(&app, &done)?]))
}
