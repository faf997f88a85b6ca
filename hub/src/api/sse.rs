//! Live streams to viewers, over server-sent events.
//!
//! Events: `session` (a snapshot), `message`, `delta` (the text so far of a message; the message with the same
//! `messageId` replaces it), `receipt`, `removed` (`{"sessionId"}`: no such session), `gap` (`{"sessionId"?,
//! "fromSeq"?,"toSeq"?,"reason"}`: what retention has removed), `ready` (`{"cursor"}`: from here on it is live), and,
//! where asked for, `node` and `terminal`.
//!
//! Laws:
//! 1. The `id:` of an event is a cursor: `Last-Event-ID`, or `?cursor=`, resumes exactly behind it, also over a restart
//!    of the hub. First from memory, then from the streams, then from the store.
//! 2. A fresh stream begins with a snapshot of every session asked for that has not ended, then `ready`.
//! 3. A viewer that does not keep up falls back onto the streams, at its own pace; it costs nobody else anything.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use bus_schema::{Kind, Message, Session, SessionId};
use futures::Stream;
use hub_store::Head;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use utoipa::PartialSchema;
use utoipa::openapi::Components;

use super::body::{InPath, Query};
use super::error::ApiError;
use super::terminal::TerminalFeed;
use super::{App, Shared};
use crate::actions::Asker;
use crate::bus::{BusError, StreamName};
use crate::ingest::read::Said;
use crate::live::place::Place;
use crate::live::ring::{Event, Read};
use crate::live::{event, event_of, session_event};
use hub_store::StoreError;

/// A comment line this often keeps proxies from closing the stream (contract section 3).
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Events on their way to one viewer.
const QUEUE: usize = 64;
/// Events taken from the ring at once.
const RING_BATCH: usize = 256;
/// Messages read from a stream or the store at once.
const READ_BATCH: usize = 200;
/// A viewer that takes nothing for so long is cut off; it may resume.
const STUCK: Duration = Duration::from_secs(60);
/// Pause before the bus or the store is asked again.
const RETRY: Duration = Duration::from_secs(1);
/// Sessions that may be named one by one.
const NAMED_MAX: usize = 200;
/// Terminals of one stream.
const TERMINALS_MAX: usize = 32;
/// Most sessions that are read by their own subjects; more are read all and sorted out.
const FILTERS_MAX: usize = 50;

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
    let (queue, events) = mpsc::channel(QUEUE);
    for (id, offset) in terminals {
        let feed = TerminalFeed::new(app.clone(), asker.clone(), id, offset, queue.clone());
        app.tasks.spawn(feed.run(false));
    }
    let nodes = query.nodes.is_some_and(|n| n == "1" || n == "true");
    let viewer = Viewer { app: app.clone(), filter, nodes, queue };
    app.tasks.spawn(viewer.run(cursor, query.after));
    Ok(respond(app, events))
}

/// The response that carries what comes through a queue.
pub(super) fn respond(app: Shared, events: mpsc::Receiver<SseEvent>) -> Response {
    let stream = Sse::new(Carried { app, events, counted: false }).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    let mut response = stream.into_response();
    let name = HeaderName::from_static("x-accel-buffering");
    response.headers_mut().insert(name, HeaderValue::from_static("no"));
    response
}

/// Events on their way into a response; counts the viewer while it lives, and ends when the hub does.
struct Carried {
    app: Shared,
    events: mpsc::Receiver<SseEvent>,
    counted: bool,
}

impl Stream for Carried {
    type Item = Result<SseEvent, Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        if !self.counted {
            self.counted = true;
            self.app.metrics.viewers.inc();
        }
        self.events.poll_recv(cx).map(|event| event.map(Ok))
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        if self.counted {
            self.app.metrics.viewers.dec();
        }
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

/// One open stream.
struct Viewer {
    app: Shared,
    filter: Filter,
    nodes: bool,
    queue: mpsc::Sender<SseEvent>,
}

/// The stream is over: the viewer has gone, was stuck, or the hub ends.
struct Over;

/// Something that a viewer's past is read from did not answer.
enum Pause {
    Over,
    Retry(String),
}

impl From<Over> for Pause {
    fn from(Over: Over) -> Self {
        Pause::Over
    }
}

impl From<BusError> for Pause {
    fn from(error: BusError) -> Self {
        Pause::Retry(error.to_string())
    }
}

impl From<StoreError> for Pause {
    fn from(error: StoreError) -> Self {
        Pause::Retry(error.to_string())
    }
}

impl Viewer {
    async fn run(self, cursor: Option<Place>, after: Option<u64>) {
        let stop = self.app.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.queue.closed() => {}
            _over = self.follow(cursor, after) => {}
        }
    }

    async fn follow(&self, cursor: Option<Place>, after: Option<u64>) -> Result<Infallible, Over> {
        let ring = &self.app.live.ring;
        let mut head = ring.head();
        let (mut place, mut number) = match cursor {
            None => self.begin(after).await?,
            Some(place) => match ring.resume(place) {
                Some(number) => (place, number),
                None => self.catch_up(place).await?,
            },
        };
        loop {
            head.mark_unchanged();
            match ring.read(number, RING_BATCH) {
                Read::Passed => (place, number) = self.catch_up(place).await?,
                Read::Events(events, _) if events.is_empty() => {
                    // The ring lives as long as the app, so an error cannot come.
                    let _ = head.changed().await;
                }
                Read::Events(events, next) => {
                    for event in events {
                        if event.kept {
                            place = event.place;
                        }
                        if self.wants(&event) {
                            self.send(&event).await?;
                        }
                    }
                    number = next;
                }
            }
        }
    }

    fn wants(&self, event: &Event) -> bool {
        match &event.session {
            Some(session) => self.filter.wants(session),
            None => self.nodes,
        }
    }

    async fn send(&self, event: &Event) -> Result<(), Over> {
        let mut sse = SseEvent::default().event(event.name).data(&*event.data);
        if event.kept {
            sse = sse.id(event.place.to_string());
        }
        match tokio::time::timeout(STUCK, self.queue.send(sse)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Over),
            Err(_) => {
                self.app.metrics.viewers_cut.inc();
                Err(Over)
            }
        }
    }

    /// A fresh stream: where it begins, a snapshot of what was asked for, and `ready`.
    async fn begin(&self, after: Option<u64>) -> Result<(Place, u64), Over> {
        while !self.app.live.is_ready() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let (place, number) = self.app.live.ring.end();
        for snapshot in self.snapshots(place).await {
            self.send(&snapshot).await?;
        }
        if let (Some(seq), Filter::Named(ids)) = (after, &self.filter)
            && let Some(id) = ids.first()
        {
            let mut seq = seq;
            while let Err(pause) = self.backfill(id, &mut seq, place).await {
                self.wait(pause).await?;
            }
        }
        self.send(&event("ready", None, place, true, &Ready { cursor: place.to_string() })).await?;
        Ok((place, number))
    }

    async fn snapshots(&self, place: Place) -> Vec<Event> {
        let mut events = vec![];
        if self.nodes {
            events.extend(self.app.live.fleet().nodes().map(|n| event("node", None, place, false, &n)));
        }
        match &self.filter {
            Filter::All => {
                events.extend(self.app.live.fleet().active().map(|s| session_event(&s, place, false)));
            }
            Filter::Named(ids) => {
                for id in ids {
                    events.push(match self.app.actions.session(id).await {
                        Ok(session) => session_event(&session, place, false),
                        Err(_) => event("removed", Some(id), place, false, &Removed { session_id: id.clone() }),
                    });
                }
            }
        }
        events
    }

    /// The messages of one session behind `seq` that came before `place`, from the store once it has them.
    /// Moves `seq` with everything told.
    async fn backfill(&self, id: &SessionId, seq: &mut u64, place: Place) -> Result<(), Pause> {
        /// How long the store may be behind the live path before the stream goes on without it.
        const BEHIND: Duration = Duration::from_secs(5);
        let until = tokio::time::Instant::now() + BEHIND;
        while self.app.store.cursor(StreamName::Messages.as_str()).await?.map_or(0, |c| c.seq) < place.messages
            && tokio::time::Instant::now() < until
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        loop {
            let Some(head) = self.app.store.head(id).await? else { return Ok(()) };
            let page = self.app.store.messages_behind(&head, 0, Some(*seq), READ_BATCH as u64).await?;
            if page.is_empty() {
                return Ok(());
            }
            for (message, at) in page {
                if at <= place.messages {
                    self.send(&event("message", Some(id), place, false, &message)).await?;
                }
                *seq = message.seq;
            }
        }
    }

    /// Waits before something is tried again that did not answer; or the stream is over.
    async fn wait(&self, pause: Pause) -> Result<(), Over> {
        match pause {
            Pause::Over => Err(Over),
            Pause::Retry(reason) => {
                tracing::debug!(reason, "a viewer waits for its past");
                tokio::time::sleep(RETRY).await;
                Ok(())
            }
        }
    }

    /// Everything between `place` and the ring, from the streams and where they no longer reach from the store; then
    /// where to go on.
    async fn catch_up(&self, place: Place) -> Result<(Place, u64), Over> {
        while !self.app.live.is_ready() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let (end, number) = self.app.live.ring.end();
        if place.epoch != end.epoch || place.messages > end.messages || place.state > end.state {
            let reason = "the cursor belongs to streams that are no more; read the messages again".to_owned();
            let gap = Gap { session_id: None, from_seq: None, to_seq: None, reason };
            self.send(&event("gap", None, end, false, &gap)).await?;
            return self.begin(None).await;
        }
        let mut at = place;
        while let Err(pause) = self.past(&mut at, end).await {
            self.wait(pause).await?;
        }
        Ok((end, number))
    }

    /// Tells what lies between `at` and `end`, moving `at` with everything told.
    async fn past(&self, at: &mut Place, end: Place) -> Result<(), Pause> {
        self.past_messages(at, end).await?;
        self.past_state(at, end).await
    }

    async fn past_messages(&self, at: &mut Place, end: Place) -> Result<(), Pause> {
        let bounds = self.app.bus.bounds(StreamName::Messages).await?;
        if at.messages + 1 < bounds.first {
            self.past_from_store(at, bounds.first.min(end.messages + 1)).await?;
        }
        let filters = self.filters(&[Kind::Message, Kind::Receipt]);
        let mut reader = self.app.bus.range(StreamName::Messages, at.messages + 1, end.messages, filters);
        loop {
            let batch = reader.next_batch(READ_BATCH).await?;
            if batch.is_empty() {
                at.messages = end.messages;
                return Ok(());
            }
            for stored in batch {
                at.messages = stored.seq;
                let said = self.app.live.believed(&stored).await?;
                if let Some(event) = said.and_then(|said| event_of(&said, *at))
                    && self.wants(&event)
                {
                    self.send(&event).await?;
                }
            }
        }
    }

    async fn past_state(&self, at: &mut Place, end: Place) -> Result<(), Pause> {
        let mut reader = self.app.bus.range(StreamName::State, at.state + 1, end.state, self.filters(&[Kind::Session]));
        loop {
            let batch = reader.next_batch(READ_BATCH).await?;
            if batch.is_empty() {
                at.state = end.state;
                return Ok(());
            }
            for stored in batch {
                at.state = stored.seq;
                if let Some(Said::Session(session)) = self.app.live.believed(&stored).await?
                    && self.filter.wants(&session.session_id)
                {
                    let marked = self.app.live.fleet().marked(*session);
                    self.send(&session_event(&marked, *at, true)).await?;
                }
            }
        }
    }

    /// Subjects to read; empty for all.
    fn filters(&self, kinds: &[Kind]) -> Vec<String> {
        match &self.filter {
            Filter::Named(ids) if ids.len() <= FILTERS_MAX => {
                let of = |kind: &Kind| {
                    let all = kind.filter(Some(self.app.bus.workspace()), None);
                    let stem = all.trim_end_matches('*').to_owned();
                    ids.iter().map(move |id| format!("{stem}{id}"))
                };
                kinds.iter().flat_map(of).collect()
            }
            Filter::All | Filter::Named(_) => {
                kinds.iter().map(|kind| kind.filter(Some(self.app.bus.workspace()), None)).collect()
            }
        }
    }

    /// Messages behind `at` and before the stream's first, from the store, in the order of the stream: the sessions'
    /// own orders are merged, so that every event has its exact place.
    async fn past_from_store(&self, at: &mut Place, first: u64) -> Result<(), Pause> {
        let heads = self.app.store.heads_behind(self.app.bus.workspace(), at.messages).await?;
        let mut merge = Merge::default();
        for head in heads.into_iter().filter(|h| self.filter.wants(&h.session_id)) {
            let mut source = Source { head, page: VecDeque::new(), after: None };
            source.fill(&self.app, at.messages).await?;
            if let Some((message, _)) = source.page.front()
                && message.seq == source.head.first_seq
                && message.seq > 1
            {
                let gap = Gap {
                    session_id: Some(source.head.session_id.clone()),
                    from_seq: None,
                    to_seq: Some(message.seq - 1),
                    reason: "older messages were removed by retention".into(),
                };
                self.send(&event("gap", Some(&source.head.session_id), *at, false, &gap)).await?;
            }
            merge.add(source);
        }
        while let Some((place, message)) = merge.next(&self.app, at.messages).await? {
            if place >= first {
                break;
            }
            at.messages = place;
            self.send(&event("message", Some(&message.session_id), *at, true, &message)).await?;
        }
        Ok(())
    }
}

/// One session's messages from the store, page by page.
struct Source {
    head: Head,
    page: VecDeque<(Message, u64)>,
    after: Option<u64>,
}

impl Source {
    async fn fill(&mut self, app: &App, behind: u64) -> Result<(), StoreError> {
        if self.page.is_empty() {
            let page = app.store.messages_behind(&self.head, behind, self.after, READ_BATCH as u64).await?;
            self.after = page.last().map(|(m, _)| m.seq).or(self.after);
            self.page = page.into();
        }
        Ok(())
    }
}

/// Several sessions' messages in the order of the stream.
#[derive(Default)]
struct Merge {
    sources: BTreeMap<u64, Source>,
}

impl Merge {
    fn add(&mut self, source: Source) {
        if let Some((_, place)) = source.page.front() {
            self.sources.insert(*place, source);
        }
    }

    async fn next(&mut self, app: &App, behind: u64) -> Result<Option<(u64, Message)>, StoreError> {
        let Some((_, mut source)) = self.sources.pop_first() else { return Ok(None) };
        let Some((message, place)) = source.page.pop_front() else { return Ok(None) };
        source.fill(app, behind).await?;
        self.add(source);
        Ok(Some((place, message)))
    }
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
