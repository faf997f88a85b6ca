//! One writer at a time on a terminal, and four eyes: who has control, what waits for a second person, who agrees.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json as Reply};
use bus_schema::{Operator, SessionId, Timestamp};
use hub_store::{Approval, FourEyes};
use serde::{Deserialize, Serialize};

use super::Shared;
use super::body::{InPath, Json};
use super::error::ApiError;
use crate::actions::Asker;
use crate::control::{ApprovalView, ControlView};

/// It waits for a second person.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Waiting {
    /// What they have to agree to.
    approval: ApprovalView,
}

impl Waiting {
    pub(super) fn of(approval: Approval) -> Response {
        (StatusCode::ACCEPTED, Reply(Self { approval: approval.into() })).into_response()
    }
}

/// Who may act on what.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Controls {
    /// Of every session of which there is something to say.
    pub(crate) controls: Vec<ControlView>,
}

/// Who may act on a session now.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct OneControl {
    /// Who.
    control: ControlView,
}

/// What waits for a second person, and what was decided in the last ten minutes; the oldest first.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Approvals {
    /// The requests.
    approvals: Vec<ApprovalView>,
}

/// Mark a session, or ask for its mark to be taken off.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct FourEyesBody {
    /// True: kill, terminate, messages, answers and control of the terminal need two people from now on. False: a
    /// second person is asked whether they no longer do.
    four_eyes: bool,
    /// Why; needed to mark.
    #[serde(default)]
    reason: String,
}

/// Whether a session needs two.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct FourEyesDoc {
    /// True if it does.
    four_eyes: bool,
    /// The session that is marked: this one, or one that it descends from.
    #[serde(skip_serializing_if = "Option::is_none")]
    through: Option<SessionId>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Who marked it.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<Operator>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
}

impl From<Option<FourEyes>> for FourEyesDoc {
    fn from(mark: Option<FourEyes>) -> Self {
        match mark {
            None => Self { four_eyes: false, through: None, reason: None, by: None, since: None },
            Some(m) => Self {
                four_eyes: true,
                through: Some(m.session_id),
                reason: Some(m.reason),
                by: Some(m.by),
                since: Some(m.since),
            },
        }
    }
}

/// Why something is refused.
#[derive(Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RefuseBody {
    /// For whoever asked.
    #[serde(default)]
    reason: String,
}

/// A request after it was decided.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct OneApproval {
    /// The request, with what became of it.
    approval: ApprovalView,
}

/// Who may act on a session now: who writes on its terminal, whether it is marked, what waits for a second person.
#[utoipa::path(get, path = "/api/mission-control/sessions/{id}/control", tag = "control",
    params(("id" = String, Path)), responses((status = 200, body = OneControl)))]
pub(super) async fn get(State(app): State<Shared>, InPath(id): InPath) -> Result<Reply<OneControl>, ApiError> {
    app.actions.session(&id).await?;
    Ok(Reply(OneControl { control: app.control.of(&id).await? }))
}

/// Take control of a session's terminal at once, from whoever has it: everybody sees it. On a marked session a second
/// person has to agree.
#[utoipa::path(post, path = "/api/mission-control/sessions/{id}/terminal/take", tag = "control",
    params(("id" = String, Path)), responses((status = 200, body = OneControl), (status = 202, body = Waiting),
        (status = 409, body = super::error::ErrorBody)))]
pub(super) async fn take(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    InPath(id): InPath,
) -> Result<Response, ApiError> {
    let session = app.actions.session(&id).await?;
    match app.actions.take_control(asker, session).await? {
        Some(approval) => Ok(Waiting::of(approval)),
        None => Ok(Reply(OneControl { control: app.control.of(&id).await? }).into_response()),
    }
}

/// Give control of a session's terminal back. On a marked session anybody may end anybody's.
#[utoipa::path(post, path = "/api/mission-control/sessions/{id}/terminal/release", tag = "control",
    params(("id" = String, Path)), responses((status = 200, body = OneControl),
        (status = 409, body = super::error::ErrorBody)))]
pub(super) async fn release(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    InPath(id): InPath,
) -> Result<Reply<OneControl>, ApiError> {
    let session = app.actions.session(&id).await?;
    app.control.release(&asker, &session).await?;
    Ok(Reply(OneControl { control: app.control.of(&id).await? }))
}

/// Whether a session needs two people, by its own mark or through one that it descends from.
#[utoipa::path(get, path = "/api/mission-control/sessions/{id}/four-eyes", tag = "control",
    params(("id" = String, Path)), responses((status = 200, body = FourEyesDoc)))]
pub(super) async fn get_four_eyes(
    State(app): State<Shared>,
    InPath(id): InPath,
) -> Result<Reply<FourEyesDoc>, ApiError> {
    let session = app.actions.session(&id).await?;
    Ok(Reply(app.control.mark_over(&session).await?.into()))
}

/// Mark a session so that it needs two people, or ask a second person to take its mark off.
#[utoipa::path(put, path = "/api/mission-control/sessions/{id}/four-eyes", tag = "control",
    params(("id" = String, Path)), request_body = FourEyesBody, responses(
        (status = 200, body = FourEyesDoc), (status = 202, body = Waiting),
        (status = 409, body = super::error::ErrorBody), (status = 422, body = super::error::ErrorBody)))]
pub(super) async fn put_four_eyes(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    InPath(id): InPath,
    Json(body): Json<FourEyesBody>,
) -> Result<Response, ApiError> {
    let session = app.actions.session(&id).await?;
    if body.four_eyes {
        let mark = app.control.mark(&asker, &id, body.reason).await?;
        return Ok(Reply(FourEyesDoc::from(Some(mark))).into_response());
    }
    match app.actions.ask_unmark(asker, session).await? {
        Some(approval) => Ok(Waiting::of(approval)),
        None => Ok(Reply(FourEyesDoc::from(None)).into_response()),
    }
}

/// What waits for a second person, and what was decided lately.
#[utoipa::path(get, path = "/api/mission-control/approvals", tag = "control",
    responses((status = 200, body = Approvals)))]
pub(super) async fn approvals(State(app): State<Shared>) -> Result<Reply<Approvals>, ApiError> {
    let approvals = app.control.requests().await?.into_iter().map(ApprovalView::from).collect();
    Ok(Reply(Approvals { approvals }))
}

/// Agree to what somebody else asked for: it is done at once, in their name and yours. For a person at a browser, not
/// for API tokens. What became of it is in the answer.
#[utoipa::path(post, path = "/api/mission-control/approvals/{id}/approve", tag = "control",
    params(("id" = String, Path)), responses((status = 200, body = OneApproval),
        (status = 403, body = super::error::ErrorBody), (status = 404, body = super::error::ErrorBody),
        (status = 409, body = super::error::ErrorBody)))]
pub(super) async fn approve(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    axum::extract::Path(id): axum::extract::Path<String>,
) -> Result<Reply<OneApproval>, ApiError> {
    if !asker.principal.via.in_person() {
        return Err(ApiError::second_in_person());
    }
    Ok(Reply(OneApproval { approval: app.actions.approve(asker, id).await?.into() }))
}

/// Refuse what somebody asked for; whoever asked takes it back so.
#[utoipa::path(post, path = "/api/mission-control/approvals/{id}/refuse", tag = "control",
    params(("id" = String, Path)), request_body = RefuseBody, responses((status = 200, body = OneApproval),
        (status = 404, body = super::error::ErrorBody), (status = 409, body = super::error::ErrorBody)))]
pub(super) async fn refuse(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    axum::extract::Path(id): axum::extract::Path<String>,
    Json(body): Json<RefuseBody>,
) -> Result<Reply<OneApproval>, ApiError> {
    Ok(Reply(OneApproval { approval: app.control.refuse(&asker, &id, &body.reason).await?.into() }))
}
