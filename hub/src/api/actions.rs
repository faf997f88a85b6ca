//! Stepping in: messages, answers, pause, resume, terminate, kill, kill-all.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json as Reply};
use bus_schema::{Answer, Delivery, EndReport, InjectMode, MessageId, ProviderName, Session, SessionId, limits};
use serde::{Deserialize, Serialize};

use super::Shared;
use super::body::{InPath, Json};
use super::control::Waiting;
use super::error::ApiError;
use crate::actions::kill_all::KillReceipt;
use crate::actions::{Acted as Outcome, Ask, Asker, keyed_message_id, new_message_id};
use crate::control::ApprovalView;

/// Longest idempotency key.
const KEY_MAX: usize = 256;
/// Longest name of an option.
const OPTION_MAX: usize = 1024;
/// What has to be typed to kill everything (R37).
const KILL_ALL: &str = "KILL ALL";

/// A message to an agent.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct InjectBody {
    /// The text, at most 256 KiB.
    content: String,
    /// How it is to arrive: `steer` if absent.
    mode: Option<InjectMode>,
    /// Freeze the session before, and leave it frozen.
    #[serde(default)]
    pause_first: bool,
    /// The same key never injects twice.
    idempotency_key: Option<String>,
    /// The message in whose place this one is sent: one that was refused, has expired or is unknown. Without a key of
    /// its own, the same message is sent again once.
    retry_of: Option<String>,
}

/// A message on its way.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Injected {
    /// Its id; receipts and the stream carry it.
    message_id: MessageId,
    /// How far it has come; `awaitsApproval` where four eyes are needed: it is sent when a second person agrees.
    delivery: Delivery,
    /// What a second person has to agree to.
    #[serde(skip_serializing_if = "Option::is_none")]
    approval: Option<ApprovalView>,
}

/// The answer to what a session asks.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AnswerBody {
    /// The message that asks: `attention.request.requestId` of the session.
    request_id: String,
    /// One of the options it offers.
    option_id: Option<String>,
    /// Words, where it takes some, or why not. At most 256 KiB.
    text: Option<String>,
}

/// A session after an action.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Acted {
    /// The session.
    session: Session,
    /// The proof of a kill.
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<EndReport>,
}

/// Kill everything.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KillAllBody {
    /// Literally `KILL ALL`.
    confirm: String,
    /// Only sessions of this provider.
    provider: Option<String>,
}

/// The last kill-alls.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct KillReceipts {
    /// The newest first.
    receipts: Vec<KillReceipt>,
}

pub(super) async fn act(app: &Shared, asker: Asker, id: SessionId, ask: Ask) -> Result<Response, ApiError> {
    let reply = match app.actions.act(asker, id.clone(), ask).await? {
        Outcome::Done(reply) => *reply,
        Outcome::Asked(approval) => return Ok(Waiting::of(*approval)),
    };
    // The fleet may know more than the answer by now.
    let session = match app.live.fleet().session(&id) {
        Some(now) if reply.session.as_ref().is_none_or(|s| now.rev >= s.rev) => Some(now),
        _ => reply.session,
    };
    let session = match session {
        Some(session) => session,
        None => app.actions.session(&id).await?,
    };
    Ok(Reply(Acted { session, report: reply.report }).into_response())
}

pub(super) async fn do_inject(
    app: &Shared,
    asker: Asker,
    id: SessionId,
    body: InjectBody,
) -> Result<(StatusCode, Reply<Injected>), ApiError> {
    if body.content.is_empty() {
        return Err(ApiError::invalid("content is empty"));
    }
    if body.content.len() > limits::MAX_CONTENT_BYTES {
        let text =
            format!("content of {} bytes is over the limit of {}", body.content.len(), limits::MAX_CONTENT_BYTES);
        return Err(ApiError::too_large(text));
    }
    app.limits.inject(&asker.principal.user, &id)?;
    let mode = body.mode.unwrap_or_default();
    if let InjectMode::Unknown(word) = &mode {
        return Err(ApiError::invalid(format!("mode {word:?} is none of queue, steer, interrupt")));
    }
    let retry_of = match body.retry_of {
        Some(old) => {
            let old = MessageId::new(old).map_err(|e| ApiError::invalid(format!("retryOf: {e}")))?;
            super::undelivered::check(app, &id, &old).await?;
            Some(old)
        }
        None => None,
    };
    let key = body.idempotency_key.or_else(|| retry_of.as_ref().map(|old| format!("retry of {old}")));
    let message_id = match &key {
        None => new_message_id(),
        Some(key) if key.is_empty() || key.len() > KEY_MAX => {
            return Err(ApiError::invalid(format!("idempotencyKey must be 1 to {KEY_MAX} bytes")));
        }
        Some(key) => keyed_message_id(&id, key),
    };
    let message_id = message_id.map_err(|e| ApiError::malformed(e.to_string()))?;
    let message = message_id.clone();
    let ask = Ask::Inject { message, content: body.content, mode, pause_first: body.pause_first, retry_of };
    let (delivery, approval) = app.actions.inject(asker, id, ask).await?;
    let approval = approval.map(ApprovalView::from);
    Ok((StatusCode::ACCEPTED, Reply(Injected { message_id, delivery, approval })))
}

pub(super) async fn do_kill_all(app: &Shared, asker: Asker, body: KillAllBody) -> Result<Reply<KillReceipt>, ApiError> {
    if body.confirm != KILL_ALL {
        return Err(ApiError::invalid(format!("to kill every session, confirm must be {KILL_ALL:?}")));
    }
    let provider = body.provider.filter(|p| p != "all");
    let provider = provider.map(ProviderName::new).transpose().map_err(|e| ApiError::invalid(e.to_string()))?;
    Ok(Reply(app.kill_all.kill_all(asker, provider).await?))
}

/// Send a message to an agent.
#[utoipa::path(post, path = "/api/mission-control/sessions/{id}/inject", tag = "actions",
    params(("id" = String, Path)), request_body = InjectBody, responses(
        (status = 202, body = Injected), (status = 404, body = super::error::ErrorBody),
        (status = 409, body = super::error::ErrorBody), (status = 413, body = super::error::ErrorBody),
        (status = 429, body = super::error::ErrorBody), (status = 503, body = super::error::ErrorBody)))]
pub(super) async fn inject(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    InPath(id): InPath,
    Json(body): Json<InjectBody>,
) -> Result<(StatusCode, Reply<Injected>), ApiError> {
    do_inject(&app, asker, id, body).await
}

/// Answer what a session asks: a choice among its options, or words where it takes some.
#[utoipa::path(post, path = "/api/mission-control/sessions/{id}/answer", tag = "actions",
    params(("id" = String, Path)), request_body = AnswerBody, responses(
        (status = 200, body = Acted), (status = 202, body = Waiting), (status = 404, body = super::error::ErrorBody),
        (status = 409, body = super::error::ErrorBody), (status = 422, body = super::error::ErrorBody)))]
pub(super) async fn answer(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    InPath(id): InPath,
    Json(body): Json<AnswerBody>,
) -> Result<Response, ApiError> {
    let request = MessageId::new(&body.request_id).map_err(|e| ApiError::invalid(format!("requestId: {e}")))?;
    let text = body.text.filter(|text| !text.is_empty());
    if body.option_id.is_none() && text.is_none() {
        return Err(ApiError::invalid("an answer needs optionId or text"));
    }
    if body.option_id.as_ref().is_some_and(|o| o.is_empty() || o.len() > OPTION_MAX) {
        return Err(ApiError::invalid(format!("optionId must be 1 to {OPTION_MAX} bytes")));
    }
    let size = text.as_ref().map_or(0, String::len);
    if size > limits::MAX_CONTENT_BYTES {
        let limit = limits::MAX_CONTENT_BYTES;
        return Err(ApiError::too_large(format!("text of {size} bytes is over the limit of {limit}")));
    }
    act(&app, asker, id, Ask::Answer { request, answer: Answer { option_id: body.option_id, text } }).await
}

/// Freeze a session: answered when it is proven.
#[utoipa::path(post, path = "/api/mission-control/sessions/{id}/pause", tag = "actions",
    params(("id" = String, Path)), responses((status = 200, body = Acted), (status = 409, body = super::error::ErrorBody)))]
pub(super) async fn pause(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    InPath(id): InPath,
) -> Result<Response, ApiError> {
    act(&app, asker, id, Ask::Pause).await
}

/// Let a paused session go on.
#[utoipa::path(post, path = "/api/mission-control/sessions/{id}/resume", tag = "actions",
    params(("id" = String, Path)), responses((status = 200, body = Acted), (status = 409, body = super::error::ErrorBody)))]
pub(super) async fn resume(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    InPath(id): InPath,
) -> Result<Response, ApiError> {
    act(&app, asker, id, Ask::Resume).await
}

/// Ask a session to end: answered when the asking has begun; the session's status tells the end.
#[utoipa::path(post, path = "/api/mission-control/sessions/{id}/terminate", tag = "actions",
    params(("id" = String, Path)), responses((status = 200, body = Acted),
        (status = 202, body = Waiting), (status = 409, body = super::error::ErrorBody)))]
pub(super) async fn terminate(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    InPath(id): InPath,
) -> Result<Response, ApiError> {
    act(&app, asker, id, Ask::Terminate).await
}

/// Kill a session with everything it started: answered with the proof.
#[utoipa::path(post, path = "/api/mission-control/sessions/{id}/kill", tag = "actions",
    params(("id" = String, Path)), responses((status = 200, body = Acted),
        (status = 202, body = Waiting), (status = 409, body = super::error::ErrorBody)))]
pub(super) async fn kill(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    InPath(id): InPath,
) -> Result<Response, ApiError> {
    act(&app, asker, id, Ask::Kill).await
}

/// Kill every session, of one provider or of all. Every session's outcome is reported; those of nodes that are away are
/// `pending`, and killed when they come back within the lease. A marked one is not killed: its kill is asked for, and
/// its outcome is `awaitsApproval`.
#[utoipa::path(post, path = "/api/mission-control/kill-all", tag = "actions", request_body = KillAllBody,
    responses((status = 200, body = KillReceipt), (status = 422, body = super::error::ErrorBody)))]
pub(super) async fn kill_all(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    Json(body): Json<KillAllBody>,
) -> Result<Reply<KillReceipt>, ApiError> {
    do_kill_all(&app, asker, body).await
}

/// The last kill-alls, as they are now.
#[utoipa::path(get, path = "/api/mission-control/kill-all", tag = "actions",
    responses((status = 200, body = KillReceipts)))]
pub(super) async fn kill_receipts(State(app): State<Shared>) -> Reply<KillReceipts> {
    Reply(KillReceipts { receipts: app.kill_all.receipts() })
}

/// What has become of a kill-all by now.
#[utoipa::path(get, path = "/api/mission-control/kill-all/{receipt}", tag = "actions",
    params(("receipt" = String, Path, description = "`receiptId` of a kill-all")),
    responses((status = 200, body = KillReceipt), (status = 404, body = super::error::ErrorBody)))]
pub(super) async fn kill_receipt(
    State(app): State<Shared>,
    Path(receipt): Path<String>,
) -> Result<Reply<KillReceipt>, ApiError> {
    let missing = || ApiError::not_found("there is no such receipt at hand; the audit log has all of them");
    app.kill_all.receipt(&receipt).map(Reply).ok_or_else(missing)
}
