//! Sessions: listing, one, its messages, the tree, and starting one.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json as Reply};
use bus_schema::{Message, Refusal, RefusalCode, Resumed, Session, SessionId, Spawn, Status, TaskSource, limits};
use hub_store::{PageOf, SessionFilter};
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::Shared;
use super::body::{InPath, Json, Query};
use super::error::ApiError;
use crate::actions::{ActionError, Asker};
use crate::control::ControlView;

/// Most sessions of one answer.
const SESSIONS_MAX: u64 = 10_000;
/// Messages of a page, if the request does not say.
const PAGE_DEFAULT: u64 = 100;
/// Most messages of a page (contract section 3).
pub(super) const PAGE_MAX: u64 = 500;
/// Longest text of a title, task or mission.
const LABEL_MAX: usize = 500;
/// The fact by which a session's runtime names a conversation that another session can go on with.
const CONVERSATION: &str = "conversation";

/// Which sessions.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only with this status; several with commas.
    status: Option<String>,
    /// Only of this provider.
    provider: Option<String>,
    /// Only of this node.
    node: Option<String>,
    /// Also those that have ended.
    #[serde(default)]
    all: bool,
}

/// Sessions, the newest first.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Sessions {
    /// The sessions.
    pub(super) sessions: Vec<Session>,
}

/// One session.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct OneSession {
    /// The session.
    pub(super) session: Session,
    /// Who may act on it now, if there is something to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) control: Option<ControlView>,
}

/// Which messages.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// How many; 100 if absent, at most 500.
    limit: Option<u64>,
    /// Those before this `seq`, the last of them.
    before: Option<u64>,
    /// Those after this `seq`, the first of them.
    after: Option<u64>,
}

/// Messages by ascending `seq`.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Messages {
    /// The messages.
    messages: Vec<Message>,
    /// True if there are more in the direction asked.
    has_more: bool,
    /// The first `seq` that is still kept; 0 if there is none. Above 1, retention has taken what was before.
    first_seq: u64,
}

/// All sessions as trees.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Tree {
    /// Sessions without a parent that is known.
    roots: Vec<TreeNode>,
}

/// A session and those it started.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct TreeNode {
    /// The session.
    session: Session,
    /// The sessions it started.
    #[schema(no_recursion)]
    children: Vec<TreeNode>,
}

/// What to start.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SpawnBody {
    /// On which node.
    node: String,
    /// From which of its profiles.
    profile: String,
    /// First message to the agent.
    prompt: Option<String>,
    /// The session it is a child of.
    parent_session_id: Option<SessionId>,
    /// The work item it is for.
    task_id: Option<String>,
    /// Where that work item comes from.
    task_source: Option<TaskSource>,
    /// The mission it belongs to.
    mission_id: Option<String>,
    /// A name for people.
    title: Option<String>,
    /// A session of that node that has ended: the new one goes on with its conversation, if it has the fact
    /// `conversation`.
    resume_session_id: Option<SessionId>,
}

/// The sessions of the workspace: those that have not ended, or all.
#[utoipa::path(get, path = "/api/mission-control/sessions", tag = "sessions", params(ListQuery),
    responses((status = 200, body = Sessions)))]
pub(super) async fn list(
    State(app): State<Shared>,
    Query(query): Query<ListQuery>,
) -> Result<Reply<Sessions>, ApiError> {
    let wanted: Option<Vec<Status>> = query.status.map(|s| s.split(',').map(|w| Status::from(w.trim())).collect());
    if let Some(Status::Unknown(word)) = wanted.iter().flatten().find(|s| matches!(s, Status::Unknown(_))) {
        let known = Status::ALL.iter().map(Status::as_str).collect::<Vec<_>>().join(", ");
        return Err(ApiError::invalid(format!("status {word:?} is none of {known}")));
    }
    // Asking for a status that ends a session means those that have ended too.
    let all = query.all || wanted.iter().flatten().any(Status::is_terminal);
    let mut sessions = sessions(&app, all).await?;
    sessions.retain(|s| {
        wanted.as_ref().is_none_or(|w| w.contains(&s.status))
            && query.provider.as_ref().is_none_or(|p| s.provider.as_str() == p)
            && query.node.as_ref().is_none_or(|n| s.node.as_str() == n)
    });
    Ok(Reply(Sessions { sessions }))
}

/// Sessions, the newest first: from the fleet, and those that have ended from the store.
pub(super) async fn sessions(app: &Shared, all: bool) -> Result<Vec<Session>, ApiError> {
    let mut found: BTreeMap<SessionId, Session> = BTreeMap::new();
    if all {
        let stored = app.store.sessions(app.bus.workspace(), SessionFilter::All, SESSIONS_MAX).await?;
        found.extend(stored.into_iter().map(|s| (s.session_id.clone(), s)));
    }
    let fleet = app.live.fleet();
    for session in found.values_mut() {
        *session = match fleet.session(&session.session_id) {
            Some(now) if now.rev >= session.rev => now,
            _ => fleet.marked(session.clone()),
        };
    }
    for session in fleet.active() {
        found.insert(session.session_id.clone(), session);
    }
    drop(fleet);
    Ok(found.into_values().rev().collect())
}

/// One session.
#[utoipa::path(get, path = "/api/mission-control/sessions/{id}", tag = "sessions", params(("id" = String, Path)),
    responses((status = 200, body = OneSession), (status = 404, body = super::error::ErrorBody)))]
pub(super) async fn get(State(app): State<Shared>, InPath(id): InPath) -> Result<Reply<OneSession>, ApiError> {
    let mut session = app.actions.session(&id).await?;
    // Snapshots are sent once a second at most while messages flow; the store may know of later ones.
    if let Some(head) = app.store.head(&id).await?
        && head.last_seq > session.last_seq
    {
        (session.last_seq, session.last_message_at) = (head.last_seq, Some(head.last_at));
    }
    let control = app.control.shown_of(&id);
    Ok(Reply(OneSession { session, control }))
}

/// A page of a session's messages: the last ones, those before a `seq`, or those after one.
#[utoipa::path(get, path = "/api/mission-control/sessions/{id}/messages", tag = "sessions",
    params(("id" = String, Path), PageQuery), responses((status = 200, body = Messages)))]
pub(super) async fn messages(
    State(app): State<Shared>,
    InPath(id): InPath,
    Query(query): Query<PageQuery>,
) -> Result<Reply<Messages>, ApiError> {
    app.actions.session(&id).await?;
    let limit = query.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(ApiError::invalid(format!("limit must be 1 to {PAGE_MAX}")));
    }
    let page = match (query.before, query.after) {
        (Some(_), Some(_)) => return Err(ApiError::invalid("give before or after, not both")),
        (Some(seq), None) => PageOf::Before(seq),
        (None, Some(seq)) => PageOf::After(seq),
        (None, None) => PageOf::Newest,
    };
    let mut page = app.store.messages(&id, page, limit).await?;
    super::undelivered::add_decisions(&app, &mut page.messages);
    Ok(Reply(Messages { messages: page.messages, has_more: page.has_more, first_seq: page.first_seq }))
}

/// All sessions that have not ended as trees, over all nodes and providers, with the ended ones that hold them
/// together. A session whose parent is not known is a root.
#[utoipa::path(get, path = "/api/mission-control/tree", tag = "sessions", responses((status = 200, body = Tree)))]
pub(super) async fn tree(State(app): State<Shared>) -> Result<Reply<Tree>, ApiError> {
    let mut found: BTreeMap<SessionId, Session> =
        sessions(&app, false).await?.into_iter().map(|s| (s.session_id.clone(), s)).collect();
    // A parent that has ended still shows above children that have not.
    let mut wanted: Vec<SessionId> = found.values().filter_map(|s| s.parent_session_id.clone()).collect();
    while let Some(id) = wanted.pop() {
        if !found.contains_key(&id)
            && let Ok(session) = app.actions.session(&id).await
        {
            wanted.extend(session.parent_session_id.clone());
            found.insert(id, session);
        }
    }
    Ok(Reply(Tree { roots: grow(found) }))
}

/// Makes trees out of sessions. A ring of parents, which no honest node tells, is cut open.
fn grow(mut sessions: BTreeMap<SessionId, Session>) -> Vec<TreeNode> {
    let ids: BTreeSet<SessionId> = sessions.keys().cloned().collect();
    let mut children: BTreeMap<SessionId, Vec<SessionId>> = BTreeMap::new();
    let mut roots = vec![];
    for session in sessions.values() {
        match session.parent_session_id.as_ref().filter(|p| ids.contains(*p) && **p != session.session_id) {
            Some(parent) => children.entry(parent.clone()).or_default().push(session.session_id.clone()),
            None => roots.push(session.session_id.clone()),
        }
    }
    fn take(
        id: &SessionId,
        sessions: &mut BTreeMap<SessionId, Session>,
        children: &BTreeMap<SessionId, Vec<SessionId>>,
        depth: usize,
    ) -> Option<TreeNode> {
        /// Deeper than any real tree; beyond it the rest shows as roots.
        const DEPTH_MAX: usize = 100;
        if depth > DEPTH_MAX {
            return None;
        }
        let session = sessions.remove(id)?;
        let below = children.get(id).into_iter().flatten();
        let children = below.filter_map(|child| take(child, sessions, children, depth + 1)).collect();
        Some(TreeNode { session, children })
    }
    let mut trees: Vec<_> = roots.iter().filter_map(|id| take(id, &mut sessions, &children, 0)).collect();
    while let Some(id) = sessions.keys().next().cloned() {
        trees.extend(take(&id, &mut sessions, &children, 0));
    }
    trees
}

/// Start a session from a profile of a node.
#[utoipa::path(post, path = "/api/mission-control/sessions", tag = "sessions", request_body = SpawnBody,
    responses((status = 201, body = OneSession), (status = 422, body = super::error::ErrorBody),
              (status = 503, body = super::error::ErrorBody)))]
pub(super) async fn spawn(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    Json(body): Json<SpawnBody>,
) -> Result<(StatusCode, Reply<OneSession>), ApiError> {
    let labels = [("title", &body.title), ("taskId", &body.task_id), ("missionId", &body.mission_id)];
    for (name, label) in labels {
        if label.as_ref().is_some_and(|l| l.len() > LABEL_MAX || l.chars().any(char::is_control)) {
            return Err(ApiError::invalid(format!(
                "{name} must be at most {LABEL_MAX} bytes without control characters"
            )));
        }
    }
    if body.prompt.as_ref().is_some_and(|p| p.len() > limits::MAX_CONTENT_BYTES) {
        return Err(ApiError::too_large(format!("prompt is larger than {} bytes", limits::MAX_CONTENT_BYTES)));
    }
    if let Some(TaskSource::Unknown(word)) = &body.task_source {
        return Err(ApiError::invalid(format!("taskSource {word:?} is none of internal, mosaic-queue, external")));
    }
    let resumed = match body.resume_session_id {
        Some(ended) => Some(resumable(&app, ended, &body.node).await?),
        None => None,
    };
    let session_id = SessionId::new(Ulid::new().to_string()).map_err(|e| ApiError::malformed(e.to_string()))?;
    let spawn = Spawn {
        session_id,
        profile: body.profile,
        prompt: body.prompt.filter(|p| !p.is_empty()),
        title: body.title.filter(|t| !t.is_empty()),
        parent_session_id: body.parent_session_id,
        task_id: body.task_id,
        task_source: body.task_source.unwrap_or_default(),
        mission_id: body.mission_id,
        resumed,
    };
    let session = app.actions.spawn(asker, &body.node, spawn).await?;
    Ok((StatusCode::CREATED, Reply(OneSession { session, control: None })))
}

/// The conversation of a session that has ended, for another one on its node to go on with.
async fn resumable(app: &Shared, session_id: SessionId, node: &str) -> Result<Resumed, ApiError> {
    let ended = app.actions.session(&session_id).await?;
    if ended.node.as_str() != node {
        let text = format!("session {session_id} ran on node {}; only that one can go on with it", ended.node);
        return Err(ApiError::invalid(text));
    }
    let refused = |code, text: String| Err(ActionError::Refused(Refusal::new(code, text)).into());
    if !ended.status.is_terminal() {
        let text = format!("session {session_id} is {}: it goes on by itself; send it a message", ended.status);
        return refused(RefusalCode::WrongState, text);
    }
    let Some(conversation) = ended.metadata.get(CONVERSATION).and_then(|name| name.as_str()) else {
        let text = format!(
            "session {session_id} cannot be gone on with: only agents of ACP that offer session/resume or session/load can"
        );
        return refused(RefusalCode::NotCapable, text);
    };
    let fleet = app.live.fleet();
    let other = fleet.active().find(|other| {
        other.node == ended.node && other.metadata.get(CONVERSATION).is_some_and(|name| name == conversation)
    });
    if let Some(other) = other {
        let text = format!("session {} goes on with it already; send that one a message", other.session_id);
        return refused(RefusalCode::WrongState, text);
    }
    Ok(Resumed { session_id, conversation: conversation.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(n: u8, parent: Option<u8>) -> (SessionId, Session) {
        let id = |n: u8| format!("01JD8Z2V9Q00000000000000{n:02}");
        let session: Session = serde_json::from_value(serde_json::json!({
            "sessionId": id(n), "parentSessionId": parent.map(id), "workspace": "default", "node": "n1",
            "provider": "pty", "status": "running", "statusSource": "process",
            "statusSince": "2026-11-22T20:00:00Z", "spawnedAt": "2026-11-22T20:00:00Z",
        }))
        .unwrap();
        (session.session_id.clone(), session)
    }

    fn shape(nodes: &[TreeNode]) -> String {
        let each = |n: &TreeNode| {
            let id = n.session.session_id.as_str();
            format!("{}({})", id[24..].trim_start_matches('0'), shape(&n.children))
        };
        nodes.iter().map(each).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn children_hang_under_their_parents_and_strays_are_roots() {
        let all =
            [session(1, None), session(2, Some(1)), session(3, Some(2)), session(4, Some(99)), session(5, Some(1))];
        assert_eq!(shape(&grow(all.into_iter().collect())), "1(2(3()) 5()) 4()");
    }

    #[test]
    fn a_ring_is_cut_open_and_nothing_is_lost() {
        let all = [session(1, Some(2)), session(2, Some(1)), session(3, Some(3))];
        assert_eq!(shape(&grow(all.into_iter().collect())), "3() 1(2())");
    }

    #[test]
    fn a_very_deep_tree_shows_all_of_its_sessions() {
        fn count(nodes: &[TreeNode]) -> usize {
            nodes.iter().map(|n| 1 + count(&n.children)).sum()
        }
        let chain = (1..=99).map(|n| session(n, (n > 1).then(|| n - 1)));
        assert_eq!(count(&grow(chain.collect())), 99);
    }
}
