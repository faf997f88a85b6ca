//! Publishes what the sessions have on disk, in order, until the bus has it for good.
//!
//! Laws (each was measured against servers that are killed):
//! 1. At most [`WINDOW`] records are in flight. Sessions take turns, one record each; within a session records leave in
//!    order.
//! 2. Every record has an id, made of node, incarnation, session and number, so a repeat is no second message.
//! 3. A record is forgotten when the bus has had it for [`LAG`], with all before it. On a failed acknowledgement the
//!    session, and on a new connection every session, goes back to there and sends again.
//! 4. Acknowledgements come to one subscription of our own, so that one which never comes costs nothing.
//! 5. What may be lost (partial text, terminal output) is dropped while the bus is away, and counted.

mod lane;
mod live;
mod outgoing;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::{Client, HeaderMap, Message, Subscriber};
use bus_schema::{NodeId, SCHEMA_VERSION, SessionId, WorkspaceId, header};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use serde::Deserialize;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::lane::{Lane, Subjects};
pub use self::live::Live;
use self::live::Show;
pub use self::outgoing::{Outgoing, Outlet};
use crate::metrics::Counters;
use crate::outbox::Located;
use crate::outbox::record::Record;

/// Records in flight. Measured: 256 is as fast as 1,024, and a quarter of it to send again.
const WINDOW: usize = 256;
/// Pieces of terminal output in flight, beside those.
const TERMINAL_WINDOW: usize = 64;
/// Longest wait for an acknowledgement. A calm server takes a millisecond; one that replays its log takes seconds.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the bus must have had a record before it is forgotten here: longer than the server's `sync_interval` (10 s
/// in our configurations).
const LAG: Duration = Duration::from_secs(30);
/// The bus counts as away when it has acknowledged nothing for so long while something waited.
const STALLED_AFTER: Duration = Duration::from_secs(15);
/// How often timeouts, new connections and trimming are looked at.
const TICK: Duration = Duration::from_millis(250);
/// Longest wait for the client to take a message in. It waits only while it is not connected.
const HAND_OVER: Duration = Duration::from_secs(1);
/// Acknowledgements handled between two looks at what to send.
const ACKS_AT_ONCE: usize = 256;

/// Who publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The node.
    pub node: NodeId,
    /// Changes when the node's disk state was lost or may have stepped back.
    pub incarnation: String,
}

/// Records that wait for the bus, for the node's state.
#[derive(Debug, Default)]
pub struct Backlog {
    /// How many.
    pub records: AtomicU64,
    /// Their size, about.
    pub bytes: AtomicU64,
}

/// The publisher cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum PublisherError {
    /// The client has ended.
    #[error("the client of the bus has ended")]
    Closed,
    /// The client does not take our subscription.
    #[error("subscribing to acknowledgements")]
    Subscribe(#[source] async_nats::SubscribeError),
}

/// What the publisher works with; it can be started again from it.
#[derive(Clone)]
pub struct Setup {
    /// The connection.
    pub client: Client,
    /// Who we are.
    pub identity: Arc<Identity>,
    /// What is to be published.
    pub outgoing: Arc<Outgoing>,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// What waits.
    pub backlog: Arc<Backlog>,
}

/// Publishes until it is cancelled; then until everything is acknowledged or `grace` is over.
///
/// # Errors
/// [`PublisherError`]; started again it goes on from the trim points.
pub async fn run(setup: Setup, cancel: CancellationToken, grace: Duration) -> Result<(), PublisherError> {
    let mut publisher = Publisher::start(setup).await?;
    cancel.run_until_cancelled(publisher.work(false)).await.unwrap_or(Ok(()))?;
    // What is still on disk after that is sent by the next node agent.
    timeout(grace, publisher.work(true)).await.unwrap_or(Ok(()))
}

struct Publisher {
    setup: Setup,
    inbox: String,
    acks: Subscriber,
    lanes: BTreeMap<SessionId, Lane>,
    by_id: HashMap<u64, SessionId>,
    next_id: u64,
    /// Sessions that have something to send, in turn.
    round: VecDeque<SessionId>,
    in_flight: usize,
    /// Terminal output in flight, by its number.
    shown: HashMap<u64, Instant>,
    next_shown: u64,
    connects: u64,
    /// When the bus last acknowledged something, or had nothing to acknowledge.
    progress_at: Instant,
}

/// What JetStream answers to a publish.
#[derive(Deserialize)]
struct Ack {
    #[serde(default)]
    error: Option<AckError>,
    #[serde(default)]
    duplicate: bool,
}

#[derive(Deserialize)]
struct AckError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

impl Publisher {
    async fn start(setup: Setup) -> Result<Self, PublisherError> {
        let inbox = setup.client.new_inbox();
        let acks = setup.client.subscribe(format!("{inbox}.*")).await.map_err(PublisherError::Subscribe)?;
        let mut publisher = Self {
            inbox,
            acks,
            lanes: BTreeMap::new(),
            by_id: HashMap::new(),
            next_id: 0,
            round: VecDeque::new(),
            in_flight: 0,
            shown: HashMap::new(),
            next_shown: 0,
            connects: 0,
            progress_at: Instant::now(),
            setup,
        };
        let all = publisher.setup.outgoing.all();
        publisher.follow(all);
        Ok(publisher)
    }

    /// The loop. Cancel-safe: every step leaves the publisher whole. With `is_leaving` it ends when nothing waits.
    async fn work(&mut self, is_leaving: bool) -> Result<(), PublisherError> {
        let outgoing = self.setup.outgoing.clone();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.pump().await?;
            let due = self.show().await?;
            if is_leaving && self.lanes.values().all(|lane| lane.backlog() == 0) {
                return Ok(());
            }
            tokio::select! {
                ack = self.acks.next() => {
                    self.answered(ack.ok_or(PublisherError::Closed)?);
                    for _ in 0..ACKS_AT_ONCE {
                        match self.acks.next().now_or_never() {
                            Some(Some(ack)) => self.answered(ack),
                            Some(None) => return Err(PublisherError::Closed),
                            None => break,
                        }
                    }
                }
                () = outgoing.news() => self.refresh(),
                _ = tick.tick() => self.look_around(),
                () = sleep_until(due) => {}
            }
        }
    }

    fn is_connected(&self) -> bool {
        self.setup.client.connection_state() == State::Connected
    }

    fn refresh(&mut self) {
        let (fresh, outlets) = self.setup.outgoing.take();
        if let Some(outlets) = outlets {
            self.follow(outlets);
        }
        fresh.iter().for_each(|session| self.enrol(session));
    }

    /// Opens and closes lanes so that there is one per outlet.
    fn follow(&mut self, outlets: BTreeMap<SessionId, Outlet>) {
        let gone = |session: &SessionId, lane: &Lane| {
            outlets.get(session).is_none_or(|outlet| !Arc::ptr_eq(&outlet.files, &lane.outlet.files))
        };
        let closed: Vec<_> = self.lanes.iter().filter(|(id, lane)| gone(id, lane)).map(|(id, _)| id.clone()).collect();
        for session in closed {
            if let Some(mut lane) = self.lanes.remove(&session) {
                self.in_flight -= lane.rewind();
                self.by_id.remove(&lane.id);
            }
        }
        for (session, outlet) in outlets {
            if !self.lanes.contains_key(&session) {
                let Identity { workspace, node, .. } = &*self.setup.identity;
                self.next_id += 1;
                let subjects = Subjects::new(workspace, node, &session);
                self.by_id.insert(self.next_id, session.clone());
                self.lanes.insert(session.clone(), Lane::new(self.next_id, outlet, subjects));
                self.enrol(&session);
            }
        }
    }

    /// Gives a session its place in the round.
    fn enrol(&mut self, session: &SessionId) {
        if let Some(lane) = self.lanes.get_mut(session)
            && !lane.is_in_round
            && lane.is_ready(Instant::now())
        {
            lane.is_in_round = true;
            self.round.push_back(session.clone());
        }
    }

    /// Sends until the window is full or nothing is left.
    async fn pump(&mut self) -> Result<(), PublisherError> {
        while self.in_flight < WINDOW && self.is_connected() {
            let Some(session) = self.round.pop_front() else { return Ok(()) };
            let Some(lane) = self.lanes.get_mut(&session) else { continue };
            lane.is_in_round = false;
            let now = Instant::now();
            if !lane.is_ready(now) {
                continue;
            }
            match lane.reader.read() {
                Ok(Some(Located::Record(record))) => self.send(&session, record, now).await?,
                Ok(Some(Located::Damaged { after })) => {
                    self.setup.counters.damaged_records.increment();
                    tracing::error!(session_id = %session, after, "a segment of the outbox cannot be read to its end");
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(session_id = %session, error = %chain(&error), "the outbox cannot be read");
                    lane.back_off(now, rand::random());
                }
            }
            self.enrol(&session);
        }
        Ok(())
    }

    async fn send(&mut self, session: &SessionId, record: Record, now: Instant) -> Result<(), PublisherError> {
        let Some(lane) = self.lanes.get_mut(session) else { return Ok(()) };
        let Record { number, kind, body, .. } = record;
        let Some(subject) = lane.subjects.of(kind) else {
            lane.skipped(number, now);
            return Ok(());
        };
        let Identity { node, incarnation, .. } = &*self.setup.identity;
        let headers = headers(format!("{node}-{incarnation}-{session}-{number}"));
        let reply = format!("{}.{}-{}-{number}", self.inbox, lane.id, lane.generation);
        let sending = self.setup.client.publish_with_reply_and_headers(subject, reply, headers, body);
        match timeout(HAND_OVER, sending).await {
            Ok(Ok(())) => {
                lane.sent(number, now);
                self.in_flight += 1;
                self.setup.counters.published_records.increment();
            }
            Ok(Err(error)) if error.kind() == async_nats::PublishErrorKind::Send => {
                return Err(PublisherError::Closed);
            }
            // The server takes less than the protocol allows: only its configuration can cure that. Nothing is lost.
            Ok(Err(error)) => {
                tracing::error!(session_id = %session, number, error = %error, "a record cannot be published");
                self.fail(session);
            }
            Err(_) => self.fail(session),
        }
        Ok(())
    }

    /// A record did not arrive: the session goes back to its trim point, after a pause.
    fn fail(&mut self, session: &SessionId) {
        self.setup.counters.failed_acks.increment();
        self.setup.counters.rewinds.increment();
        if let Some(lane) = self.lanes.get_mut(session) {
            self.in_flight -= lane.rewind();
            lane.back_off(Instant::now(), rand::random());
        }
    }

    fn answered(&mut self, message: Message) {
        let Some(token) = message.subject.rsplit('.').next() else { return };
        let parts: Vec<u64> = token.split('-').filter_map(|part| part.parse().ok()).collect();
        match *parts {
            [shown] => {
                self.shown.remove(&shown);
            }
            [lane, generation, number] => {
                let Some(session) = self.by_id.get(&lane).cloned() else { return };
                match serde_json::from_slice::<Ack>(&message.payload) {
                    Ok(Ack { error: None, duplicate }) if message.status.is_none() => {
                        let Some(lane) = self.lanes.get_mut(&session) else { return };
                        let generation = u32::try_from(generation).unwrap_or(u32::MAX);
                        if lane.ack(generation, number) {
                            self.in_flight -= 1;
                            self.progress_at = Instant::now();
                            self.setup.counters.acked_records.increment();
                            self.setup.counters.duplicate_records.add(u64::from(duplicate));
                        }
                    }
                    // A failure of an older generation has been dealt with.
                    _ if self.lanes.get(&session).is_none_or(|lane| u64::from(lane.generation) != generation) => {}
                    Ok(Ack { error: Some(AckError { err_code, description }), .. }) => {
                        tracing::warn!(session_id = %session, err_code, description, "the bus refused a record");
                        self.fail(&session);
                    }
                    // No stream takes it, or what came is no acknowledgement.
                    Ok(_) | Err(_) => {
                        let status = message.status.map(|status| status.as_u16());
                        tracing::debug!(session_id = %session, status, "a record was not stored");
                        self.fail(&session);
                    }
                }
            }
            _ => {}
        }
    }

    /// Timeouts, new connections, trimming, and whether the bus takes what it is given.
    fn look_around(&mut self) {
        let now = Instant::now();
        let connects = self.setup.client.statistics().connects.load(Ordering::Relaxed);
        if std::mem::replace(&mut self.connects, connects) != connects {
            tracing::info!(connects, "connected; sending again from the trim points");
            self.setup.counters.rewinds.increment();
            for lane in self.lanes.values_mut() {
                lane.rewind();
            }
            (self.in_flight, self.progress_at) = (0, now);
            self.shown.clear();
        }
        let is_late = |lane: &Lane| lane.oldest().is_some_and(|at| now.duration_since(at) > ACK_TIMEOUT);
        let late: Vec<_> = self.lanes.iter().filter(|(_, lane)| is_late(lane)).map(|(id, _)| id.clone()).collect();
        late.iter().for_each(|session| self.fail(session));
        self.shown.retain(|_, at| now.duration_since(*at) < ACK_TIMEOUT);

        let (mut records, mut bytes) = (0, 0);
        for (session, lane) in &mut self.lanes {
            if let Err(error) = lane.trim(now, LAG) {
                tracing::error!(session_id = %session, error = %chain(&error), "the outbox cannot be trimmed");
            }
            let (backlog, all) = (lane.backlog(), lane.outlet.files.last().max(1));
            records += backlog;
            bytes += lane.outlet.files.bytes().saturating_mul(backlog)
                / all.saturating_sub(lane.outlet.files.floor()).max(1);
        }
        self.setup.backlog.records.store(records, Ordering::Relaxed);
        self.setup.backlog.bytes.store(bytes, Ordering::Relaxed);
        if records == 0 {
            self.progress_at = now;
        }
        let is_taking = self.is_connected() && now.duration_since(self.progress_at) < STALLED_AFTER;
        self.setup.outgoing.set_taking(is_taking);
        let sessions: Vec<_> = self.lanes.keys().cloned().collect();
        for session in sessions {
            let is_over = |lane: &Lane| lane.outlet.files.is_closed() && lane.outlet.files.is_settled();
            if self.lanes.get(&session).is_some_and(is_over) {
                self.setup.outgoing.close(&session);
            }
            self.enrol(&session);
        }
    }

    /// Publishes what is only shown. Gives the time of the next piece, if there is one.
    async fn show(&mut self) -> Result<Option<Instant>, PublisherError> {
        let (now, is_connected) = (Instant::now(), self.is_connected());
        let mut next: Option<Instant> = None;
        let Identity { node, incarnation, .. } = &*self.setup.identity;
        for (session, lane) in &self.lanes {
            let Some(due) = lane.outlet.live.due(now) else { continue };
            if !is_connected {
                let (bytes, deltas) = lane.outlet.live.clear();
                self.setup.counters.dropped_terminal_bytes.add(bytes);
                self.setup.counters.dropped_deltas.add(deltas);
                continue;
            }
            let is_full = self.shown.len() >= TERMINAL_WINDOW;
            if due > now || is_full {
                let due = if is_full { now + live::PACE } else { due };
                next = Some(next.map_or(due, |next| next.min(due)));
                continue;
            }
            for show in lane.outlet.live.take(session, now) {
                let sending = match show {
                    Show::Delta(delta) => {
                        let Ok(payload) = bus_schema::encode(&delta) else { continue };
                        let client = &self.setup.client;
                        let subject = lane.subjects.delta.clone();
                        client.publish_with_headers(subject, plain_headers(), payload.into()).boxed()
                    }
                    Show::Terminal(terminal) => {
                        let (offset, length) = (terminal.offset, terminal.data.len());
                        let id = format!("{node}-{incarnation}-{session}-t{offset}-{length}");
                        let Ok(payload) = bus_schema::encode(&terminal) else { continue };
                        self.next_shown += 1;
                        self.shown.insert(self.next_shown, now);
                        let reply = format!("{}.{}", self.inbox, self.next_shown);
                        let (subject, payload) = (lane.subjects.terminal.clone(), Bytes::from(payload));
                        let client = &self.setup.client;
                        client.publish_with_reply_and_headers(subject, reply, headers(id), payload).boxed()
                    }
                };
                match timeout(HAND_OVER, sending).await {
                    Ok(Err(error)) if error.kind() == async_nats::PublishErrorKind::Send => {
                        return Err(PublisherError::Closed);
                    }
                    Ok(Ok(())) => {}
                    Ok(Err(_)) | Err(_) => self.setup.counters.dropped_deltas.increment(),
                }
            }
        }
        Ok(next)
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Headers of a payload that is not kept.
pub(crate) fn plain_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, header::MSGPACK);
    headers.insert(header::SCHEMA, SCHEMA_VERSION.to_string());
    headers
}

/// Headers of a payload that JetStream keeps.
pub(crate) fn headers(id: String) -> HeaderMap {
    let mut headers = plain_headers();
    headers.insert(async_nats::header::NATS_MESSAGE_ID, id);
    headers
}

/// An error with its causes, for a log that ends its journey.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}
