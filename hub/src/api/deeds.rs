//! Around what changes people: into the audit log before it happens and after, and carried to its end also if whoever
//! asked has gone.

use axum::http::StatusCode;
use bus_schema::{Actor, Metadata};

use super::Shared;
use super::error::ApiError;
use crate::actions::Asker;
use crate::audit::{Deed, DeedResult};

/// Further facts of a deed.
pub(super) fn facts<const N: usize>(facts: [(&str, String); N]) -> Metadata {
    facts.into_iter().map(|(key, text)| (key.to_owned(), text.into())).collect()
}

/// Somebody who is not signed in, by the email they give.
pub(super) fn stranger(email: &str) -> Actor {
    let email = email.chars().take(254).collect::<String>();
    Actor { id: None, name: email.clone(), email: Some(email), role: None }
}

/// A deed of somebody with no session and no node.
pub(super) fn deed(action: &'static str, user: Actor, request_id: String, metadata: Metadata) -> Deed {
    Deed { action, user, session_id: None, node: None, content: None, request_id, metadata }
}

/// Does something, written down before and after.
pub(super) async fn recorded<T: Send + 'static>(
    app: &Shared,
    asker: Asker,
    action: &'static str,
    facts: Metadata,
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    recorded_as(app, asker.principal.actor(), asker.request_id, action, facts, work).await
}

/// As [`recorded`], for somebody who is not signed in.
pub(super) async fn recorded_as<T: Send + 'static>(
    app: &Shared,
    actor: Actor,
    request_id: String,
    action: &'static str,
    facts: Metadata,
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    let intent = app.audit.intend(deed(action, actor, request_id, facts)).await?;
    let audit = app.audit.clone();
    let carried = app.tasks.spawn(async move {
        let done = work.await;
        let result = match &done {
            Ok(_) => DeedResult::ok(),
            Err(error) if error.status().is_client_error() => DeedResult::not("refused", error.detail()),
            Err(error) => DeedResult::not("failed", error.detail()),
        };
        audit.conclude(intent, result).await;
        done
    });
    let ending = |_| {
        let text = "the hub is ending; whether it was done is not known";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "ending", text)
    };
    carried.await.map_err(ending)?
}
