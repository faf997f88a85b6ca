//! How a session's task comes by its events, and comes by them again.

use std::time::{Duration, Instant};

use bus_schema::Status;
use providers::{AgentEvent, End, EventStream, News, ProviderError, SessionInfo, clock};

use super::ops::{ASK_DEADLINE, Done, within};
use super::state::Effect;
use super::{BATCH, SessionError, Task};
use crate::publisher::chain;

/// First pause before the provider is asked again for a session; doubled each time.
const FIRST_RETRY: Duration = Duration::from_millis(200);
/// Longest pause before the provider is asked again for a session.
const MAX_RETRY: Duration = Duration::from_secs(30);
/// A runtime whose events stop so often without the end of a session that it says has ended will not tell it any more.
const SILENT_ENDS: u32 = 5;

/// How long a runtime may take to know a session that was told as another one's child, or that appeared.
const NEWBORN: Duration = Duration::from_secs(10);

/// Where the events come from.
pub(super) enum Feed {
    /// Asking the provider for them.
    Attaching,
    /// Asking again then.
    Later(Instant),
    /// From here.
    Live(EventStream),
    /// From nowhere: the session is being started, or the node agent leaves.
    None,
}

/// How asking for the events goes.
#[derive(Default)]
pub(super) struct Attach {
    /// Attempts since the last event.
    pub attempts: u32,
    /// The status the runtime gave the last time.
    status: Option<Status>,
    /// Since when it is waited for that the runtime knows a session that was only told of.
    pub newborn: Option<Instant>,
}

impl Task {
    /// Asks the provider for the events behind what is on disk.
    pub(super) fn attach(&mut self) {
        self.feed = Feed::Attaching;
        let (provider, id, from) = (self.provider.clone(), self.id.clone(), self.read_to);
        self.ops.push(Box::pin(async move {
            let both = async { Ok((provider.session(&id).await?, provider.subscribe(&id, from).await?)) };
            Done::Attached(within(ASK_DEADLINE, "subscribing to a session", both).await)
        }));
    }

    pub(super) async fn attached(
        &mut self,
        result: Result<(SessionInfo, EventStream), ProviderError>,
    ) -> Result<(), SessionError> {
        match result {
            Ok((info, events)) => {
                self.feed = Feed::Live(events);
                self.attach.newborn = None;
                self.attach.status = Some(info.status.clone());
                if self.state.learn(info) {
                    self.change(Effect::Snapshot).await?;
                }
                self.reconsider_deliveries();
                self.ask_parked().await
            }
            // It was told of before the runtime had it in its table. An end could not be taken back.
            Err(ProviderError::UnknownSession(_)) if self.attach.newborn.is_some_and(|at| at.elapsed() < NEWBORN) => {
                self.later();
                Ok(())
            }
            Err(ProviderError::UnknownSession(_)) => {
                tracing::warn!(session_id = %self.id, "the runtime does not know the session any more");
                let effect = self.state.lost("the runtime does not know this session any more", clock::now());
                self.change(effect).await
            }
            Err(error) => {
                self.context.counters.provider_failures.increment();
                tracing::warn!(session_id = %self.id, error = %chain(&error), "cannot subscribe to the session");
                self.later();
                Ok(())
            }
        }
    }

    /// The events ended before the session did: they are asked for again.
    pub(super) async fn detached(&mut self) -> Result<(), SessionError> {
        self.later();
        let ended = self.attach.status.take().filter(|status| status.is_terminal());
        if let Some(status) = ended.filter(|_| self.attach.attempts > SILENT_ENDS) {
            tracing::warn!(session_id = %self.id, status = %status, "the runtime never told the end of the session");
            let reason = "the runtime did not tell how".to_owned();
            let end = End { status, reason, exit_code: None, error: None, report: None };
            let effect = self.state.apply(clock::now(), News::Ended(end));
            self.change(effect).await?;
        }
        Ok(())
    }

    fn later(&mut self) {
        let pause = FIRST_RETRY.saturating_mul(1 << self.attach.attempts.min(10)).min(MAX_RETRY);
        self.attach.attempts += 1;
        self.feed = Feed::Later(Instant::now() + pause.mul_f64(0.5 + rand::random::<f64>() / 2.0));
    }
}

impl Feed {
    /// The next events. Zero if there will be none. Cancel-safe: events stay where they are.
    pub async fn read(&mut self, batch: &mut Vec<AgentEvent>) -> usize {
        match self {
            Feed::Live(events) => events.recv_many(batch, BATCH).await,
            Feed::Attaching | Feed::Later(_) | Feed::None => std::future::pending().await,
        }
    }
}
