//! One open stream: where it begins, and how it follows the ring.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::Event as SseEvent;
use bus_schema::SessionId;
use hub_store::StoreError;
use tokio::sync::mpsc;

use super::{Filter, Gap, Ready, Removed};
use crate::api::Shared;
use crate::api::control::Controls;
use crate::bus::{BusError, StreamName};
use crate::control::ControlView;
use crate::live::place::Place;
use crate::live::ring::{Event, Read};
use crate::live::{event, session_event};

/// Events taken from the ring at once.
const RING_BATCH: usize = 256;
/// Messages read from the store at once.
const READ_BATCH: u64 = 200;
/// A viewer that takes nothing for so long is cut off; it may resume.
const STUCK: Duration = Duration::from_secs(60);
/// Pause before the bus or the store is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// One open stream.
pub(super) struct Viewer {
    pub(super) app: Shared,
    pub(super) filter: Filter,
    pub(super) nodes: bool,
    pub(super) queue: mpsc::Sender<SseEvent>,
}

/// The stream is over: the viewer has gone, was stuck, or the hub ends.
pub(super) struct Over;

/// Something that a viewer's past is read from did not answer.
pub(super) enum Pause {
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
    pub(super) async fn run(self, cursor: Option<Place>, after: Option<u64>) {
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
                Some(number) => {
                    self.tell_controls(place).await?;
                    (place, number)
                }
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

    pub(super) fn wants(&self, event: &Event) -> bool {
        match &event.session {
            Some(session) => self.filter.wants(session),
            None => self.nodes,
        }
    }

    pub(super) async fn send(&self, event: &Event) -> Result<(), Over> {
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
    pub(super) async fn begin(&self, after: Option<u64>) -> Result<(Place, u64), Over> {
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
        if self.controls().next().is_some() {
            self.tell_controls(place).await?;
        }
        self.send(&event("ready", None, place, true, &Ready { cursor: place.to_string() })).await?;
        Ok((place, number))
    }

    fn controls(&self) -> impl Iterator<Item = ControlView> {
        self.app.control.shown().into_iter().filter(|c| self.filter.wants(&c.session_id))
    }

    /// Who may act on what now. Changes have no place of their own in the streams, so whoever resumes is told anew;
    /// the events that come behind it end with the same.
    pub(super) async fn tell_controls(&self, place: Place) -> Result<(), Over> {
        let controls = Controls { controls: self.controls().collect() };
        self.send(&event("controls", None, place, false, &controls)).await
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
        let (store, workspace) = (&self.app.store, Some(self.app.bus.workspace()));
        while store.cursor(workspace, StreamName::Messages.as_str()).await?.map_or(0, |c| c.seq) < place.messages
            && tokio::time::Instant::now() < until
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        loop {
            let head = self.app.store.head(id).await?;
            let Some(head) = head.filter(|head| head.workspace == *self.app.bus.workspace()) else { return Ok(()) };
            if *seq + 1 < head.first_seq {
                self.tell_gap(id, Some(*seq + 1), head.first_seq - 1, place).await?;
                *seq = head.first_seq - 1;
            }
            let page = self.app.store.messages_behind(&head, 0, Some(*seq), READ_BATCH).await?;
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

    /// Tells that messages of a session were removed by retention.
    pub(super) async fn tell_gap(
        &self,
        id: &SessionId,
        from_seq: Option<u64>,
        to_seq: u64,
        place: Place,
    ) -> Result<(), Over> {
        let reason = "older messages were removed by retention".to_owned();
        let gap = Gap { session_id: Some(id.clone()), from_seq, to_seq: Some(to_seq), reason };
        self.send(&event("gap", Some(id), place, false, &gap)).await
    }

    /// Waits before something is tried again that did not answer; or the stream is over.
    pub(super) async fn wait(&self, pause: Pause) -> Result<(), Over> {
        match pause {
            Pause::Over => Err(Over),
            Pause::Retry(reason) => {
                tracing::debug!(reason, "a viewer waits for its past");
                tokio::time::sleep(RETRY).await;
                Ok(())
            }
        }
    }
}
