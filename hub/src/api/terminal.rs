//! Terminals: their bytes to viewers, from an offset, and typing into them.
//!
//! A viewer begins with what the stream has kept, if that is all of it and not too much; else with a snapshot, which
//! the session's node paints. Where bytes are missing (they are bounded, and dropped when too fast) a new snapshot
//! takes their place, or a `gap` tells.

use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::response::sse::Event as SseEvent;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bus_schema::{Session, SessionId, Subject, Terminal, TerminalSize, Timestamp, decode};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::Shared;
use super::body::{InPath, Json, Query};
use super::error::ApiError;
use super::sse::respond;
use crate::actions::{Ask, Asker};
use crate::bus::{BusError, StreamName};
use crate::clock;

/// Most bytes of a terminal's past that are replayed; beyond it a snapshot is painted.
const REPLAY_MAX: u64 = 2 * 1024 * 1024;
/// Pieces read from the stream at once.
const READ_BATCH: usize = 100;
/// Events on their way to one viewer.
const QUEUE: usize = 64;
/// Shortest time between two snapshots for the same viewer.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(1);
/// Pause before the bus is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// From where.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct TerminalQuery {
    /// The next byte wanted. Without it the terminal is painted from the beginning, or by a snapshot. The header
    /// `Last-Event-ID` stands over it.
    offset: Option<u64>,
}

/// A piece of terminal output, or a snapshot that paints all of it.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TerminalEvent {
    /// The session.
    session_id: SessionId,
    /// Bytes of output before `data`; with `snapshot`, bytes of output that it covers.
    offset: u64,
    /// The bytes, base64.
    data: String,
    /// Set where the size changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<TerminalSize>,
    /// When it was written.
    timestamp: Timestamp,
    /// True if the terminal is to be cleared first: `data` paints it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    snapshot: bool,
}

/// Bytes that nobody has any more.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TerminalGap {
    session_id: SessionId,
    from_offset: u64,
    to_offset: u64,
    reason: &'static str,
}

/// Bytes to type.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct InputBody {
    /// The bytes, base64.
    data: String,
}

/// The terminal of a session, as bytes from an offset.
#[utoipa::path(get, path = "/api/mission-control/sessions/{id}/terminal", tag = "terminal",
    params(("id" = String, Path), TerminalQuery),
    responses((status = 200, content_type = "text/event-stream", body = String)))]
pub(super) async fn stream(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    InPath(id): InPath,
    headers: HeaderMap,
    Query(query): Query<TerminalQuery>,
) -> Result<Response, ApiError> {
    app.actions.session(&id).await?;
    let last = headers.get("last-event-id").and_then(|v| v.to_str().ok()).filter(|v| !v.is_empty());
    let last = last.map(str::parse).transpose();
    let last: Option<u64> = last.map_err(|_| ApiError::malformed("Last-Event-ID of a terminal is an offset"))?;
    let (queue, events) = mpsc::channel(QUEUE);
    let response = respond(app.clone(), asker.clone(), events)?;
    app.tasks.spawn(TerminalFeed::new(app.clone(), asker, id, last.or(query.offset), queue).run(true));
    Ok(response)
}

/// Type into the terminal of a session. One writes at a time: whoever types while nobody does is the writer, everybody
/// else is refused (409 `held`, with who it is) until they take control.
#[utoipa::path(post, path = "/api/mission-control/sessions/{id}/terminal/input", tag = "terminal",
    params(("id" = String, Path)), request_body = InputBody,
    responses((status = 204, description = "typed"), (status = 409, body = super::error::ErrorBody)))]
pub(super) async fn input(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    InPath(id): InPath,
    Json(body): Json<InputBody>,
) -> Result<StatusCode, ApiError> {
    let data = STANDARD.decode(&body.data).map_err(|e| ApiError::invalid(format!("data is not base64: {e}")))?;
    if data.is_empty() {
        return Err(ApiError::invalid("data is empty"));
    }
    app.actions.act(asker, id, Ask::Input(data)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Change the size of a session's terminal: only the writer's to do, as typing is.
#[utoipa::path(post, path = "/api/mission-control/sessions/{id}/terminal/resize", tag = "terminal",
    params(("id" = String, Path)), request_body = TerminalSize,
    responses((status = 204, description = "resized"), (status = 409, body = super::error::ErrorBody)))]
pub(super) async fn resize(
    State(app): State<Shared>,
    Extension(asker): Extension<Asker>,
    InPath(id): InPath,
    Json(size): Json<TerminalSize>,
) -> Result<StatusCode, ApiError> {
    app.actions.act(asker, id, Ask::Resize(size)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// One terminal on its way to one viewer.
pub(super) struct TerminalFeed {
    app: Shared,
    asker: Asker,
    id: SessionId,
    /// The next byte wanted; none before anything was painted.
    next: Option<u64>,
    queue: mpsc::Sender<SseEvent>,
    painted: Option<tokio::time::Instant>,
    with_id: bool,
}

/// The viewer has gone.
struct Over;

impl TerminalFeed {
    pub(super) fn new(
        app: Shared,
        asker: Asker,
        id: SessionId,
        next: Option<u64>,
        queue: mpsc::Sender<SseEvent>,
    ) -> Self {
        Self { app, asker, id, next, queue, painted: None, with_id: false }
    }

    /// Feeds until the viewer has gone or the hub ends. `with_id` gives every event its offset as its id, where the
    /// stream carries nothing else.
    pub(super) async fn run(mut self, with_id: bool) {
        self.with_id = with_id;
        let (stop, queue) = (self.app.stop.clone(), self.queue.clone());
        tokio::select! {
            () = stop.cancelled() => {}
            () = queue.closed() => {}
            _over = self.follow() => {}
        }
    }

    async fn follow(&mut self) -> Result<(), Over> {
        let Ok(session) = self.app.actions.session(&self.id).await else { return Ok(()) };
        let subject = Subject::Terminal(session.workspace.clone(), session.node.clone(), self.id.clone());
        loop {
            match self.app.bus.subscribe(subject.live()).await {
                Ok(live) => self.feed(live, &subject, &session).await?,
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }

    /// Subscribed first; now the past, then what comes.
    async fn feed(
        &mut self,
        mut live: async_nats::Subscriber,
        subject: &Subject,
        session: &Session,
    ) -> Result<(), Over> {
        while let Err(error) = self.past(subject, session).await? {
            tracing::debug!(%error, "a viewer waits for a terminal's past");
            tokio::time::sleep(RETRY).await;
        }
        while let Some(message) = live.next().await {
            let schema = message.headers.as_ref().and_then(|h| h.get(bus_schema::header::SCHEMA)).map(|v| v.as_str());
            if let Ok(piece) = decode::<Terminal>(&message.payload, schema)
                && piece.session_id == self.id
            {
                self.take(piece, session).await?;
            }
        }
        Ok(())
    }

    async fn past(&mut self, subject: &Subject, session: &Session) -> Result<Result<(), BusError>, Over> {
        let subject = subject.to_string();
        let last = match self.app.bus.last_of(StreamName::Terminal, &subject).await {
            Ok(last) => last.and_then(|l| decode::<Terminal>(&l.payload, l.schema.as_deref()).ok()),
            Err(error) => return Ok(Err(error)),
        };
        let Some(last) = last else { return Ok(Ok(())) };
        let end = last.offset + last.data.len() as u64;
        let from = self.next.unwrap_or(0);
        if end.saturating_sub(from) > REPLAY_MAX && self.paint(session).await? {
            return Ok(Ok(()));
        }
        let bounds = match self.app.bus.bounds(StreamName::Terminal).await {
            Ok(bounds) => bounds,
            Err(error) => return Ok(Err(error)),
        };
        let mut reader = self.app.bus.range(StreamName::Terminal, bounds.first, bounds.last, vec![subject]);
        loop {
            let batch = match reader.next_batch(READ_BATCH).await {
                Ok(batch) => batch,
                Err(error) => return Ok(Err(error)),
            };
            if batch.is_empty() {
                return Ok(Ok(()));
            }
            for stored in batch {
                let Ok(piece) = decode::<Terminal>(&stored.payload, stored.schema.as_deref()) else { continue };
                // Without a snapshot only the end of a long past is shown.
                if piece.offset + piece.data.len() as u64 + REPLAY_MAX > end {
                    self.take(piece, session).await?;
                }
            }
        }
    }

    /// Hands a piece on, without what the viewer has; paints anew where something is missing before it.
    async fn take(&mut self, mut piece: Terminal, session: &Session) -> Result<(), Over> {
        let next = self.next.unwrap_or(0);
        let end = piece.offset + piece.data.len() as u64;
        if end <= next && !piece.data.is_empty() {
            return Ok(());
        }
        if piece.offset > next {
            let soon = self.painted.is_some_and(|at| at.elapsed() < SNAPSHOT_EVERY);
            if !soon && self.paint(session).await? {
                return Ok(());
            }
            self.app.metrics.terminal_gaps.inc();
            let gap = TerminalGap {
                session_id: self.id.clone(),
                from_offset: next,
                to_offset: piece.offset,
                reason: "these bytes of the terminal are no longer kept",
            };
            self.send("gap", &gap, piece.offset).await?;
        } else if piece.offset < next {
            let have = usize::try_from(next - piece.offset).unwrap_or(usize::MAX).min(piece.data.len());
            piece.data.drain(..have);
            piece.offset = next;
        }
        let event = TerminalEvent {
            session_id: self.id.clone(),
            offset: piece.offset,
            data: STANDARD.encode(&piece.data),
            size: piece.size,
            timestamp: piece.timestamp,
            snapshot: false,
        };
        self.next = Some(end);
        self.send("terminal", &event, end).await
    }

    /// Asks the node what the terminal shows; false if it cannot tell.
    async fn paint(&mut self, session: &Session) -> Result<bool, Over> {
        self.painted = Some(tokio::time::Instant::now());
        let Ok(shown) = self.app.actions.terminal_snapshot(&self.asker, session).await else { return Ok(false) };
        if self.next.is_some_and(|next| shown.offset < next) {
            return Ok(false);
        }
        let event = TerminalEvent {
            session_id: self.id.clone(),
            offset: shown.offset,
            data: STANDARD.encode(&shown.data),
            size: Some(shown.size),
            timestamp: clock::now(),
            snapshot: true,
        };
        self.next = Some(shown.offset);
        self.send("terminal", &event, shown.offset).await?;
        Ok(true)
    }

    async fn send<T: Serialize>(&self, name: &str, body: &T, next: u64) -> Result<(), Over> {
        let data = serde_json::to_string(body).unwrap_or_default();
        let mut event = SseEvent::default().event(name).data(data);
        if self.with_id {
            event = event.id(next.to_string());
        }
        self.queue.send(event).await.map_err(|_| Over)
    }
}
