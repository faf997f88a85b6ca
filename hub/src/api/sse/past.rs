//! What a viewer has missed: from the streams, and where they no longer reach from the store.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bus_schema::{Kind, Message};
use hub_store::{Head, StoreError};

use super::viewer::{Over, Pause, Viewer};
use super::{Filter, Gap};
use crate::api::App;
use crate::bus::StreamName;
use crate::ingest::read::Said;
use crate::live::place::Place;
use crate::live::{event, event_of, session_event};

/// Messages read from a stream or the store at once.
const READ_BATCH: usize = 200;
/// Most sessions that are read by their own subjects; more are read all and sorted out.
const FILTERS_MAX: usize = 50;

impl Viewer {
    /// Everything between `place` and the ring, from the streams and where they no longer reach from the store; then
    /// where to go on.
    pub(super) async fn catch_up(&self, place: Place) -> Result<(Place, u64), Over> {
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
        self.tell_controls(end).await?;
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
            // The first that is kept was not seen yet, or none is kept: what was before it may not have been seen.
            let first = source.page.front().map_or(source.head.last_seq + 1, |(message, _)| message.seq);
            if first == source.head.first_seq && first > 1 {
                self.tell_gap(&source.head.session_id, None, first - 1, *at).await?;
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
