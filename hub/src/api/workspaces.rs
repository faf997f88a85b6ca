//! Several workspaces behind one address: which of them a request is for.
//!
//! ```text
//! header X-Workspace ─► that one;  else what is shown ─► the only one of whoever shows it;  else ─► the first one
//! ```
//!
//! What is refused here is answered as everything else: inside of what is around every request.
//!
//! Laws:
//! 1. A workspace has a server of its own ([`App`]): its handlers hold nothing of another one.
//! 2. What is chosen here lets nobody in: who somebody is, and what they may do there, its server looks at itself.
//! 3. A hub of one workspace asks nothing here.

use std::sync::{Arc, OnceLock, Weak};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use bus_schema::WorkspaceId;
use tower::ServiceExt;

use super::error::ApiError;
use super::{App, Head, Shared, around, router_of};
use crate::authn::Shown;

/// The workspaces of a hub.
#[derive(Default)]
pub struct Workspaces(OnceLock<Vec<Weak<App>>>);

impl Workspaces {
    /// All of them, the first one first.
    pub fn all(&self) -> Vec<Shared> {
        self.0.get().into_iter().flatten().filter_map(Weak::upgrade).collect()
    }

    /// One of them.
    pub fn get(&self, id: &WorkspaceId) -> Option<Shared> {
        self.all().into_iter().find(|app| app.bus.workspace() == id)
    }
}

/// The whole server. `apps` are the workspaces, the first one first; they all know each other from here on.
pub fn router(apps: &[Shared]) -> Router {
    let Some(first) = apps.first() else { return Router::new() };
    // A second call finds the same set: it is made where the hub starts.
    _ = first.workspaces.0.set(apps.iter().map(Arc::downgrade).collect());
    let inner = if apps.len() == 1 { router_of(Arc::clone(first)) } else { front(first, apps) };
    inner.layer(from_fn_with_state(Arc::clone(&first.metrics), around::around))
}

fn front(first: &Shared, apps: &[Shared]) -> Router {
    let routers = apps.iter().map(|app| (app.bus.workspace().clone(), router_of(Arc::clone(app)))).collect();
    Router::new().fallback(choose).with_state(Arc::new(Front { first: Arc::clone(first), routers }))
}

struct Front {
    first: Shared,
    routers: Vec<(WorkspaceId, Router)>,
}

impl Front {
    fn router(&self, id: Option<&WorkspaceId>) -> Router {
        let found = id.and_then(|id| self.routers.iter().find(|(known, _)| known == id));
        // An unknown one is refused by the first, as by a hub that has no other.
        found.or(self.routers.first()).map(|(_, router)| router.clone()).unwrap_or_default()
    }
}

async fn choose(State(front): State<Arc<Front>>, request: Request) -> Response {
    let head = Head::of(&request);
    let chosen = match head.text("x-workspace") {
        Some(named) => named_one(&front.first, &head, named).await,
        None => only_one(&front.first, &head).await,
    };
    match chosen {
        Ok(id) => {
            let answer = front.router(id.as_ref()).oneshot(request).await;
            answer.unwrap_or_else(|never| match never {})
        }
        Err(error) => error.into_response(),
    }
}

/// The workspace that a request names, if whoever asks has a role there.
async fn named_one(first: &App, head: &Head, named: &str) -> Result<Option<WorkspaceId>, ApiError> {
    let theirs = theirs(first, head).await?;
    let found = theirs.iter().flatten().find(|id| id.as_str() == named).cloned();
    match theirs {
        Some(theirs) if found.is_none() && !theirs.is_empty() => Err(ApiError::unknown_workspace()),
        _ => Ok(found),
    }
}

/// The workspaces of whoever asks; none if nothing is shown.
async fn theirs(first: &App, head: &Head) -> Result<Option<Vec<WorkspaceId>>, ApiError> {
    let cookie = head.cookie(first.cookie()).map(Shown::Cookie);
    let Some(shown) = head.bearer().map(Shown::Bearer).or(cookie) else { return Ok(None) };
    // Looking it up costs a read of the store, whoever asks: it counts as a request of its own.
    first.limits.request()?;
    Ok(Some(first.authn.workspaces_of(shown).await?))
}

/// The workspace of somebody who has only one here, or whose request is the same in all of them.
async fn only_one(first: &App, head: &Head) -> Result<Option<WorkspaceId>, ApiError> {
    // Health and the page are nobody's.
    if !is_api(&head.path) {
        return Ok(None);
    }
    let Some(mut theirs) = theirs(first, head).await? else { return Ok(None) };
    if theirs.len() > 1 && !head.path.starts_with("/api/auth/") {
        let names: Vec<_> = theirs.iter().map(WorkspaceId::as_str).collect();
        let text =
            format!("you belong to several workspaces; name one in the header X-Workspace: {}", names.join(", "));
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "whichWorkspace", text));
    }
    Ok(if theirs.is_empty() { None } else { Some(theirs.remove(0)) })
}

fn is_api(path: &str) -> bool {
    path.starts_with("/api/") || path.starts_with("/agents")
}
