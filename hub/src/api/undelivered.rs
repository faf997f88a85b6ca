//! Operator messages that did not get there, or of which nobody knows: an operator sends them again as new ones that
//! name them, or gives them up. None is dropped without somebody's name to it.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use bus_schema::{Delivery, Message, MessageId, Role, SessionId};

use super::Shared;
use super::error::ApiError;
use crate::actions::Asker;
use crate::audit::{DISCARD, Deed, DeedResult};

/// Whether a message may be sent again or given up: it must have come to an end, or nobody may know its end.
pub(super) async fn check(app: &Shared, session: &SessionId, message: &MessageId) -> Result<Delivery, ApiError> {
    app.actions.session(session).await?;
    let receipts = app.store.receipts(session, std::slice::from_ref(message)).await?;
    let Some(receipt) = receipts.get(message) else {
        return Err(ApiError::not_found(format!("nothing is known of a message {message} to this session")));
    };
    match &receipt.state {
        Delivery::Refused | Delivery::Expired | Delivery::NotKnown => {}
        state => {
            let text = format!("the message is {state}: only what was refused, expired or is unknown can be settled");
            return Err(ApiError::new(StatusCode::CONFLICT, "wrongState", text));
        }
    }
    if let Some(decision) = app.audit.settled().of(session, message)
        && decision.how == "discarded"
    {
        let text = format!("{} gave it up at {}", decision.by, decision.at);
        return Err(ApiError::new(StatusCode::CONFLICT, "wrongState", text));
    }
    Ok(receipt.state.clone())
}

/// Adds to each operator message what was decided on it.
pub(super) fn add_decisions(app: &Shared, messages: &mut [Message]) {
    for message in messages.iter_mut().filter(|m| m.role == Role::Operator) {
        if let Some(decision) = app.audit.settled().of(&message.session_id, &message.message_id)
            && let Ok(decision) = serde_json::to_value(decision)
        {
            message.metadata.insert("settled".into(), decision);
        }
    }
}

/// Give up a message that was refused, has expired or is unknown. Who did so is written down, and shown with it.
#[utoipa::path(post, path = "/api/mission-control/sessions/{id}/messages/{message}/discard", tag = "actions",
    params(("id" = String, Path), ("message" = String, Path, description = "`messageId`")), responses(
        (status = 204), (status = 404, body = super::error::ErrorBody),
        (status = 409, body = super::error::ErrorBody), (status = 503, body = super::error::ErrorBody)))]
pub(super) async fn discard(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    Path((id, message)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let id = SessionId::new(&id).map_err(|e| ApiError::not_found(e.to_string()))?;
    let message = MessageId::new(&message).map_err(|e| ApiError::not_found(e.to_string()))?;
    let state = check(&app, &id, &message).await?;
    let deed = Deed::by(&asker, DISCARD).on_session(id).with("messageId", message.as_str());
    app.audit.note(deed.with("delivery", state.as_str()), DeedResult::ok()).await?;
    Ok(StatusCode::NO_CONTENT)
}
