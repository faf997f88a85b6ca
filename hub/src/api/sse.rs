//! Live streams to viewers, over server-sent events.
//!
//! Events: `session` (a snapshot), `message`, `delta` (the text so far of a message; the message with the same
//! `messageId` replaces it), `receipt`, `removed` (`{"sessionId"}`: no such session), `gap` (`{"sessionId"?,
//! "fromSeq"?,"toSeq"?,"reason"}`: what retention has removed), `ready` (`{"cursor"}`: from here on it is live),
//! `control` (who writes on the terminal, whether it is marked, what waits for a second person: all of it, of one
//! session), `controls` (the same of every session of which there is something to say; of all others there is
//! nothing), and, where asked for, `node` and `terminal`.
//!
//! Laws:
//! 1. The `id:` of an event is a cursor: `Last-Event-ID`, or `?cursor=`, resumes exactly behind it, also over a restart
//!    of the hub. First from memory, then from the streams, then from the store.
//! 2. A fresh stream begins with a snapshot of every session asked for that has not ended, then `ready`.
//! 3. A viewer that does not keep up falls back onto the streams, at its own pace; it costs nobody else anything.
//! 4. A stream ends as soon as whoever asked for it is signed out, kept out, or in another role.

mod past;
mod viewer;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use bus_schema::{Message, Session, SessionId};
use futures::Stream;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use utoipa::PartialSchema;
use utoipa::openapi::Components;

use super::Shared;
use super::body::{InPath, Query};
use super::error::ApiError;
use super::terminal::TerminalFeed;
use crate::actions::Asker;
use crate::clock;
use crate::control::Presence;
use crate::limits::StreamPlace;
use crate::live::place::Place;
use viewer::Viewer;

/// A comment line this often keeps proxies from closing the stream (contract section 3).
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Events on their way to one viewer.
const QUEUE: usize = 64;
/// Pause before it is asked again whether a stream may go on, while the store is away.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Sessions that may be named one by one.
const NAMED_MAX: usize = 200;
/// Terminals of one stream.
const TERMINALS_MAX: usize = 32;

/// What to stream.
#[derive(Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct StreamQuery {
    /// Session ids with commas, or `*` for all, which is the default.
    sessions: Option<String>,
    /// Terminals to stream as well: ids with commas, each with the next offset wanted behind a colon where there is
    /// one: `01J…:4096`.
    terminals: Option<String>,
    /// `1` for events of nodes as well.
    nodes: Option<String>,
    /// Resume behind this event. The header `Last-Event-ID` stands over it.
    cursor: Option<String>,
    /// One session, without a cursor: begin with its messages behind this `seq`.
    after: Option<u64>,
}

/// `ready`: from here on it is live.
#[derive(Serialize, utoipa::ToSchema)]
struct Ready {
    /// The cursor of this place.
    cursor: String,
}

/// `removed`: there is no such session.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct Removed {
    /// Which.
    session_id: SessionId,
}

/// `gap`: a part that nobody has any more.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct Gap {
    /// In which session; in all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<SessionId>,
    /// First `seq` that is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    from_seq: Option<u64>,
    /// Last `seq` that is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    to_seq: Option<u64>,
    /// Why.
    reason: String,
}

/// Types that only streams carry, for the document.
pub(super) fn add_event_schemas(components: &mut Components) {
    components.schemas.insert("ReadyEvent".into(), Ready::schema());
    components.schemas.insert("RemovedEvent".into(), Removed::schema());
    components.schemas.insert("GapEvent".into(), Gap::schema());
    components.schemas.insert("ControlsEvent".into(), super::control::Controls::schema());
    components.schemas.insert("Delta".into(), bus_schema::Delta::schema());
    components.schemas.insert("Receipt".into(), bus_schema::Receipt::schema());
    components.schemas.insert("TerminalEvent".into(), super::terminal::TerminalEvent::schema());
    components.schemas.insert("TerminalSize".into(), bus_schema::TerminalSize::schema());
    components.schemas.insert("Message".into(), Message::schema());
    components.schemas.insert("Session".into(), Session::schema());
    components.schemas.insert("InjectMode".into(), bus_schema::InjectMode::schema());
    components.schemas.insert("Delivery".into(), bus_schema::Delivery::schema());
    for (name, schema) in [
        ("MessageId", bus_schema::MessageId::schema()),
        ("SessionId", SessionId::schema()),
        ("Role", bus_schema::Role::schema()),
        ("MessageKind", bus_schema::MessageKind::schema()),
        ("Timestamp", bus_schema::Timestamp::schema()),
    ] {
        components.schemas.insert(name.into(), schema);
    }
}

/// Live events of many sessions over one connection.
#[utoipa::path(get, path = "/api/mission-control/stream", tag = "streams", params(StreamQuery),
    responses((status = 200, content_type = "text/event-stream", body = String)))]
pub(super) async fn stream(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    headers: HeaderMap,
    Query(query): Query<StreamQuery>,
) -> Result<Response, ApiError> {
    let filter = Filter::parse(query.sessions.as_deref().unwrap_or("*"))?;
    open(app, asker, &headers, query, filter)
}

/// Live events of one session.
#[utoipa::path(get, path = "/api/mission-control/sessions/{id}/stream", tag = "streams",
    params(("id" = String, Path), StreamQuery),
    responses((status = 200, content_type = "text/event-stream", body = String)))]
pub(super) async fn session_stream(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    InPath(id): InPath,
    headers: HeaderMap,
    Query(query): Query<StreamQuery>,
) -> Result<Response, ApiError> {
    app.actions.session(&id).await?;
    open(app, asker, &headers, query, Filter::Named(BTreeSet::from([id])))
}

/// A token that is bound to some sessions sees those only.
fn in_scope(asker: &Asker, filter: &Filter, terminals: &[(SessionId, Option<u64>)]) -> bool {
    let named = match filter {
        Filter::All => asker.principal.only().is_none(),
        Filter::Named(ids) => ids.iter().all(|id| asker.principal.may_touch(id)),
    };
    named && terminals.iter().all(|(id, _)| asker.principal.may_touch(id))
}

fn open(
    app: Shared,
    asker: Asker,
    headers: &HeaderMap,
    query: StreamQuery,
    filter: Filter,
) -> Result<Response, ApiError> {
    let last = headers.get("last-event-id").and_then(|v| v.to_str().ok()).filter(|v| !v.is_empty());
    let cursor = last.or(query.cursor.as_deref()).filter(|c| !c.is_empty());
    let cursor = cursor.map(str::parse).transpose();
    let cursor: Option<Place> =
        cursor.map_err(|e: crate::live::place::PlaceError| ApiError::malformed(e.to_string()))?;
    let terminals = parse_terminals(query.terminals.as_deref().unwrap_or_default())?;
    let nodes = query.nodes.is_some_and(|n| n == "1" || n == "true");
    if !in_scope(&asker, &filter, &terminals) || (nodes && asker.principal.only().is_some()) {
        return Err(ApiError::out_of_scope());
    }
    let (queue, events) = mpsc::channel(QUEUE);
    let response = respond(app.clone(), asker.clone(), events)?;
    for (id, offset) in terminals {
        let feed = TerminalFeed::new(app.clone(), asker.clone(), id, offset, queue.clone());
        app.tasks.spawn(feed.run(false));
    }
    let viewer = Viewer { app: app.clone(), filter, nodes, queue };
    app.tasks.spawn(viewer.run(cursor, query.after));
    Ok(response)
}

/// The response that carries what comes through a queue, for as long as whoever asked may see it.
pub(super) fn respond(app: Shared, asker: Asker, events: mpsc::Receiver<SseEvent>) -> Result<Response, ApiError> {
    let place = app.limits.stream(&asker.principal.user)?;
    let presence = app.control.watches(&asker.principal);
    let over = CancellationToken::new();
    app.tasks.spawn(watch_over(app.clone(), asker, over.clone()));
    app.metrics.viewers.inc();
    let carried = Carried {
        ended: Box::pin(over.clone().cancelled_owned()),
        _end: over.drop_guard(),
        app,
        events,
        _place: place,
        _presence: presence,
    };
    let stream = Sse::new(carried).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    let mut response = stream.into_response();
    let name = HeaderName::from_static("x-accel-buffering");
    response.headers_mut().insert(name, HeaderValue::from_static("no"));
    Ok(response)
}

/// Ends a stream when whoever asked for it is not who they were any more. What cannot be looked at is looked at again.
async fn watch_over(app: Shared, asker: Asker, over: CancellationToken) {
    let mut people = app.journal.people();
    let ends = asker.principal.via.expires();
    loop {
        let left = Duration::from_millis(ends.millis_since(clock::now()));
        tokio::select! {
            () = app.stop.cancelled() => return,
            () = over.cancelled() => return,
            () = tokio::time::sleep(left) => break,
            Ok(()) = people.changed() => {}
        }
        loop {
            match app.authn.is_still(&asker.principal).await {
                Ok(true) => break,
                Ok(false) => return over.cancel(),
                Err(error) => tracing::debug!(%error, "whether a stream may go on is looked at again"),
            }
            tokio::select! {
                () = app.stop.cancelled() => return,
                () = over.cancelled() => return,
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }
    over.cancel();
}

/// Events on their way into a response; counts the viewer while it lives, and ends when the hub does.
struct Carried {
    app: Shared,
    events: mpsc::Receiver<SseEvent>,
    ended: std::pin::Pin<Box<WaitForCancellationFutureOwned>>,
    _end: DropGuard,
    _place: StreamPlace,
    _presence: Presence,
}

impl Stream for Carried {
    type Item = Result<SseEvent, Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        if self.ended.as_mut().poll(cx).is_ready() {
            return std::task::Poll::Ready(None);
        }
        self.events.poll_recv(cx).map(|event| event.map(Ok))
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        self.app.metrics.viewers.dec();
    }
}

/// Which sessions a viewer wants.
#[derive(Clone, Debug, PartialEq)]
enum Filter {
    All,
    Named(BTreeSet<SessionId>),
}

impl Filter {
    fn parse(text: &str) -> Result<Self, ApiError> {
        if text.trim() == "*" {
            return Ok(Filter::All);
        }
        let ids = text.split(',').map(str::trim).filter(|t| !t.is_empty());
        let ids: BTreeSet<_> =
            ids.map(SessionId::new).collect::<Result<_, _>>().map_err(|e| ApiError::invalid(e.to_string()))?;
        if ids.len() > NAMED_MAX {
            return Err(ApiError::invalid(format!("more than {NAMED_MAX} sessions; ask for sessions=* instead")));
        }
        Ok(Filter::Named(ids))
    }

    fn wants(&self, session: &SessionId) -> bool {
        match self {
            Filter::All => true,
            Filter::Named(ids) => ids.contains(session),
        }
    }
}

fn parse_terminals(text: &str) -> Result<Vec<(SessionId, Option<u64>)>, ApiError> {
    let invalid = |e: &dyn std::fmt::Display| ApiError::invalid(format!("terminals: {e}"));
    let mut found = vec![];
    for part in text.split(',').map(str::trim).filter(|t| !t.is_empty()) {
        let (id, offset) = part.split_once(':').map_or((part, None), |(id, offset)| (id, Some(offset)));
        let id = SessionId::new(id).map_err(|e| invalid(&e))?;
        let offset = offset.map(str::parse).transpose().map_err(|e: std::num::ParseIntError| invalid(&e))?;
        found.push((id, offset));
    }
    if found.len() > TERMINALS_MAX {
        return Err(ApiError::invalid(format!("more than {TERMINALS_MAX} terminals in one stream")));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_and_terminals_are_read_or_refused() {
        let id = "01JD8Z2V9Q0000000000000001";
        assert_eq!(Filter::parse("*").unwrap(), Filter::All);
        assert!(Filter::parse(&format!("{id}, {id}")).unwrap().wants(&SessionId::new(id).unwrap()));
        assert!(Filter::parse("nonsense").is_err());
        let many = (0..=NAMED_MAX).map(|n| format!("01JD8Z2V9Q000000000000{n:04}")).collect::<Vec<_>>().join(",");
        assert!(Filter::parse(&many).is_err());
        let found = parse_terminals(&format!("{id}:17,{id}")).unwrap();
        assert_eq!(found.iter().map(|(_, o)| *o).collect::<Vec<_>>(), [Some(17), None]);
        assert!(parse_terminals(&format!("{id}:x")).is_err());
        assert!(parse_terminals("x").is_err());
    }
}
