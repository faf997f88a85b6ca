//! The live path: what the streams republish, put in order, made into events for viewers.
//!
//! ```text
//! live.mosaic.v1.W.*.{message,receipt,session}.*, …node ─► Order (per stream) ─► Fleet ─► Ring ─► viewers
//!                     a gap: the stream itself is read ────┘
//! ```
//!
//! Laws:
//! 1. Subscribe first, then read the snapshot.
//! 2. Every message of the two streams becomes at most one event, in the order of its stream; none is left out: what a
//!    subscription lost is seen by its sequence, and read from the stream.
//! 3. Events have a place ([`Place`]); a viewer resumes exactly there.
//! 4. Another node's word on a session is not believed, here as in ingestion.

pub mod fleet;
mod order;
pub mod place;
pub mod ring;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bus_schema::{Delta, Kind, NodeId, Session, SessionId, Subject, Timestamp, decode};
use futures::StreamExt;
use futures::stream::SelectAll;
use hub_store::{SessionFilter, Store, StoreError};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bus::{Bus, BusError, Stored, StreamBounds, StreamName};
use crate::clock;
use crate::ingest::plan;
use crate::ingest::read::{Said, read};
use crate::metrics::{Metrics, Share};
use crate::owners::Owners;
use fleet::Fleet;
use order::Order;
use place::Place;
use ring::{Event, Ring};

/// How long a message may be overtaken before it counts as lost.
const OVERTAKEN: Duration = Duration::from_millis(100);
/// How often the streams are asked whether something came after all that we know.
const TAIL_CHECK: Duration = Duration::from_secs(2);
/// How often the presence of nodes is looked at.
const PRESENCE_CHECK: Duration = Duration::from_secs(1);
/// Messages read from a stream at once.
const READ_BATCH: usize = 500;
/// Sessions that have not ended, read at the start.
const SESSIONS_MAX: u64 = 100_000;

/// The live path.
pub struct Live {
    bus: Bus,
    store: Store,
    owners: Arc<Owners>,
    metrics: Arc<Metrics>,
    /// The last events.
    pub ring: Ring,
    fleet: RwLock<Fleet>,
    ready: watch::Sender<bool>,
    nodes_online: Share,
    sessions_active: Share,
}

/// The live path stopped. It is started again and goes on where it was.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// The bus.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A subscription ended, or the streams were made anew.
    #[error("{0}")]
    Broken(&'static str),
}

struct Run {
    place: Place,
    messages: Order<Stored>,
    state: Order<Stored>,
    missing_since: Option<Instant>,
    /// Where the streams ended when they were asked last.
    tail: (u64, u64),
}

impl Live {
    /// A live path that has not begun.
    pub fn new(bus: Bus, store: Store, owners: Arc<Owners>, metrics: Arc<Metrics>) -> Self {
        let (ring, fleet) = (Ring::new(Place::default()), RwLock::default());
        let (nodes_online, sessions_active) = (Share::default(), Share::default());
        let ready = watch::Sender::new(false);
        Self { bus, store, owners, metrics, ring, fleet, ready, nodes_online, sessions_active }
    }

    /// True once it knows the fleet; then for ever.
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// What the fleet is like now.
    pub fn fleet(&self) -> std::sync::RwLockReadGuard<'_, Fleet> {
        self.fleet.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a session's snapshot that came with a node's answer, before the bus brings it.
    pub fn note_session(&self, session: Session) {
        let news = self.fleet.write().unwrap_or_else(PoisonError::into_inner).take_session(session.clone());
        if news {
            let (place, _) = self.ring.end();
            self.push(session_event(&self.fleet().marked(session), place, false));
        }
    }

    /// A node was shut out: it is away at once, and its sessions are stale.
    pub fn part(&self, node: &NodeId) {
        let turned = self.fleet.write().unwrap_or_else(PoisonError::into_inner).part(node);
        if turned {
            let (place, _) = self.ring.end();
            self.tell_node(node, true, place);
        }
    }

    /// Tells viewers who may act on a session now.
    pub fn tell_control<T: Serialize>(&self, session: &SessionId, body: &T) {
        let (place, _) = self.ring.end();
        self.push(event("control", Some(session), place, false, body));
    }

    fn push(&self, event: Event) {
        self.metrics.live_events.inc();
        self.ring.push([event]);
    }

    /// Runs until it is stopped or something breaks.
    ///
    /// # Errors
    /// [`LiveError`]; run again, viewers miss nothing.
    pub async fn run(&self, stop: &CancellationToken) -> Result<(), LiveError> {
        let workspace = self.bus.workspace().clone();
        let mut kept = SelectAll::new();
        for kind in [Kind::Message, Kind::Receipt, Kind::Session, Kind::Node] {
            let filter = kind.filter(Some(&workspace), None);
            kept.push(self.bus.subscribe(format!("{}.{filter}", bus_schema::LIVE)).await?);
        }
        let mut deltas = self.bus.subscribe(Kind::Delta.filter(Some(&workspace), None)).await?;
        let mut run = self.begin().await?;
        self.ready.send_replace(true);

        let mut soon = tokio::time::interval(OVERTAKEN);
        let mut tail = tokio::time::interval(TAIL_CHECK);
        let mut presence = tokio::time::interval(PRESENCE_CHECK);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                message = kept.next() => {
                    let message = message.ok_or(LiveError::Broken("a subscription ended"))?;
                    if let Some((stream, stored)) = Stored::from_live(message) {
                        self.offer(&mut run, stream, stored).await?;
                    }
                }
                delta = deltas.next() => {
                    self.delta(&run, delta.ok_or(LiveError::Broken("a subscription ended"))?).await?;
                }
                _ = soon.tick() => self.repair_gap(&mut run).await?,
                _ = tail.tick() => self.check_tail(&mut run).await?,
                _ = presence.tick() => self.check_presence(&run),
            }
        }
    }

    /// Where to begin: at the start the fleet is read and events begin with what comes; later everything since the
    /// last event is read again.
    async fn begin(&self) -> Result<Run, LiveError> {
        let messages = self.bus.bounds(StreamName::Messages).await?;
        let state = self.bus.bounds(StreamName::State).await?;
        let epoch = Place::epoch_of(&messages.created, &state.created);
        let now = Place { epoch, messages: messages.last, state: state.last };
        let (end, _) = self.ring.end();
        let known = self.is_ready() && end.epoch == epoch && end.messages <= now.messages && end.state <= now.state;
        if !known {
            self.load_fleet(&state).await?;
            self.ring.reset(now);
        }
        let place = if known { end } else { now };
        let mut run = Run {
            place,
            messages: Order::behind(place.messages),
            state: Order::behind(place.state),
            missing_since: None,
            tail: (now.messages, now.state),
        };
        if known {
            self.fill(&mut run, StreamName::State, now.state).await?;
            self.fill(&mut run, StreamName::Messages, now.messages).await?;
        }
        Ok(run)
    }

    async fn load_fleet(&self, bounds: &StreamBounds) -> Result<(), LiveError> {
        let cursor = self.store.cursor(Some(self.bus.workspace()), StreamName::State.as_str()).await?;
        let position = plan::position(cursor.as_ref(), bounds);
        let sessions = self.store.sessions(self.bus.workspace(), SessionFilter::Active, SESSIONS_MAX).await?;
        let nodes = self.store.nodes(self.bus.workspace()).await?;
        let now = clock::now();
        {
            let mut fleet = self.fleet.write().unwrap_or_else(PoisonError::into_inner);
            for session in sessions {
                fleet.take_session(session);
            }
            for node in nodes {
                fleet.take_node(node.state, node.seen, now);
            }
        }
        // The store may be behind, and after an unclean end a little further than it says.
        let from = position.saturating_sub(plan::REPLAY);
        let mut reader = self.bus.range(StreamName::State, from + 1, bounds.last, vec![]);
        loop {
            let batch = reader.next_batch(READ_BATCH).await?;
            if batch.is_empty() {
                return Ok(());
            }
            for stored in batch {
                let Some(said) = self.believed(&stored).await? else { continue };
                let mut fleet = self.fleet.write().unwrap_or_else(PoisonError::into_inner);
                match said {
                    Said::Session(session) => _ = fleet.take_session(*session),
                    Said::Node(state) => _ = fleet.take_node(*state, stored.at, clock::now()),
                    Said::Message(..) | Said::Receipt(..) => {}
                }
            }
        }
    }

    /// What a stored message says; none if it cannot be read or comes from a node that has no say.
    pub async fn believed(&self, stored: &Stored) -> Result<Option<Said>, StoreError> {
        let Ok(said) = read(stored) else { return Ok(None) };
        if let Some((session, node)) = said.claim() {
            let owners = self.owners.claim(self.bus.workspace(), std::iter::once((session, node))).await?;
            if !owners.get(session).is_some_and(|owner| owner.is(self.bus.workspace(), node)) {
                return Ok(None);
            }
        }
        Ok(Some(said))
    }

    async fn offer(&self, run: &mut Run, stream: StreamName, stored: Stored) -> Result<(), LiveError> {
        let order = if stream == StreamName::Messages { &mut run.messages } else { &mut run.state };
        let ready = order.offer(stored.seq, stored);
        self.emit(run, stream, ready).await
    }

    async fn emit(&self, run: &mut Run, stream: StreamName, items: Vec<(u64, Stored)>) -> Result<(), LiveError> {
        for (seq, stored) in items {
            match stream {
                StreamName::Messages => run.place.messages = seq,
                StreamName::State
                | StreamName::Terminal
                | StreamName::Refusals
                | StreamName::Audit
                | StreamName::Journal => {
                    run.place.state = seq;
                }
            }
            if let Some(said) = self.believed(&stored).await? {
                self.tell(run.place, said, stored.at);
            }
        }
        Ok(())
    }

    fn tell(&self, place: Place, said: Said, at: Timestamp) {
        match said {
            Said::Session(session) => {
                let news = self.fleet.write().unwrap_or_else(PoisonError::into_inner).take_session((*session).clone());
                if news {
                    self.push(session_event(&self.fleet().marked(*session), place, true));
                }
            }
            Said::Node(state) => {
                let (node, now) = (state.node.clone(), clock::now());
                let turned = self.fleet.write().unwrap_or_else(PoisonError::into_inner).take_node(*state, at, now);
                self.tell_node(&node, turned, place);
            }
            said @ (Said::Message(..) | Said::Receipt(..)) => {
                if let Some(event) = event_of(&said, place) {
                    self.push(event);
                }
            }
        }
    }

    /// Tells a node's state, and if it came or went, its sessions.
    fn tell_node(&self, node: &NodeId, turned: bool, place: Place) {
        let mut events = vec![];
        {
            let fleet = self.fleet();
            if let Some(view) = fleet.node(node) {
                events.push(event("node", None, place, false, &view));
            }
            if turned {
                let sessions = fleet.active().filter(|s| s.node == *node);
                events.extend(sessions.map(|s| session_event(&s, place, false)));
            }
            self.nodes_online.set(&self.metrics.nodes_online, fleet.nodes().filter(|n| n.online).count() as i64);
        }
        self.metrics.live_events.inc_by(events.len() as u64);
        self.ring.push(events);
    }

    async fn delta(&self, run: &Run, message: async_nats::Message) -> Result<(), LiveError> {
        let schema = message.headers.as_ref().and_then(|h| h.get(bus_schema::header::SCHEMA)).map(|v| v.as_str());
        let Ok(Subject::Delta(_, node, session)) = message.subject.as_str().parse() else { return Ok(()) };
        let Ok(delta) = decode::<Delta>(&message.payload, schema) else { return Ok(()) };
        let owners = self.owners.claim(self.bus.workspace(), std::iter::once((&session, &node))).await?;
        let is_theirs = owners.get(&session).is_some_and(|owner| owner.is(self.bus.workspace(), &node));
        if delta.session_id == session && is_theirs {
            self.push(event("delta", Some(&session), run.place, false, &delta));
        }
        Ok(())
    }

    async fn repair_gap(&self, run: &mut Run) -> Result<(), LiveError> {
        let missing = [(StreamName::Messages, run.messages.missing()), (StreamName::State, run.state.missing())];
        if missing.iter().all(|(_, range)| range.is_none()) {
            run.missing_since = None;
            return Ok(());
        }
        let since = *run.missing_since.get_or_insert_with(Instant::now);
        if since.elapsed() < OVERTAKEN {
            return Ok(());
        }
        for (stream, range) in missing {
            if let Some(range) = range {
                self.fill(run, stream, *range.end()).await?;
            }
        }
        run.missing_since = None;
        Ok(())
    }

    /// The last messages of a stream may be lost without anything behind them to show it.
    async fn check_tail(&self, run: &mut Run) -> Result<(), LiveError> {
        if !self.bus.is_connected() {
            return Ok(());
        }
        let messages = self.bus.bounds(StreamName::Messages).await?;
        let state = self.bus.bounds(StreamName::State).await?;
        if Place::epoch_of(&messages.created, &state.created) != run.place.epoch {
            return Err(LiveError::Broken("the streams were made anew"));
        }
        let (messages_then, state_then) = std::mem::replace(&mut run.tail, (messages.last, state.last));
        if run.messages.last() < messages_then {
            self.fill(run, StreamName::Messages, messages_then).await?;
        }
        if run.state.last() < state_then {
            self.fill(run, StreamName::State, state_then).await?;
        }
        Ok(())
    }

    /// Reads what is missing up to `to` from the stream itself.
    async fn fill(&self, run: &mut Run, stream: StreamName, to: u64) -> Result<(), LiveError> {
        let of = |run: &Run| if stream == StreamName::Messages { run.messages.last() } else { run.state.last() };
        let from = of(run) + 1;
        if from > to {
            return Ok(());
        }
        tracing::info!(stream = stream.as_str(), from, to, "reading live messages that did not come");
        let mut reader = self.bus.range(stream, from, to, vec![]);
        loop {
            let batch = reader.next_batch(READ_BATCH).await?;
            if batch.is_empty() {
                break;
            }
            for stored in batch {
                self.metrics.live_repaired.inc();
                let seq = stored.seq;
                // What lies between does not exist any more.
                let order = if stream == StreamName::Messages { &mut run.messages } else { &mut run.state };
                let mut ready = order.filled_to(seq.saturating_sub(1));
                ready.extend(order.offer(seq, stored));
                self.emit(run, stream, ready).await?;
            }
        }
        let order = if stream == StreamName::Messages { &mut run.messages } else { &mut run.state };
        let ready = order.filled_to(to);
        self.emit(run, stream, ready).await
    }

    fn check_presence(&self, run: &Run) {
        let changed = self.fleet.write().unwrap_or_else(PoisonError::into_inner).tick(clock::now());
        for node in changed {
            self.tell_node(&node, true, run.place);
        }
        self.sessions_active.set(&self.metrics.sessions_active, self.fleet().active().count() as i64);
    }
}

/// The event of a message or receipt; none for what only the fleet can tell.
pub fn event_of(said: &Said, place: Place) -> Option<Event> {
    match said {
        Said::Message(_, message) => Some(event("message", Some(&message.session_id), place, true, message)),
        Said::Receipt(_, receipt) => Some(event("receipt", Some(&receipt.session_id), place, true, receipt)),
        Said::Session(_) | Said::Node(_) => None,
    }
}

/// The event of a session's snapshot.
pub fn session_event(session: &Session, place: Place, kept: bool) -> Event {
    event("session", Some(&session.session_id), place, kept, session)
}

/// An event with its JSON.
pub fn event<T: Serialize>(
    name: &'static str,
    session: Option<&SessionId>,
    place: Place,
    kept: bool,
    body: &T,
) -> Event {
    let data = serde_json::to_string(body).unwrap_or_else(|_| "null".into()).into();
    Event { name, session: session.cloned(), place, kept, data }
}
