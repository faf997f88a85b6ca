//! Operator messages on their way to the agent.
//!
//! ```text
//!  on disk, synced ── delivered ──► handed over ──► written ──► taken
//!                                       ├──► refused · expired
//!                                       └──► unknown: asked again when the provider is there, until it is known
//! ```
//! Laws:
//! 1. `delivered` is said after the message is synced, and never taken back.
//! 2. Messages are handed over in order, one at a time.
//! 3. After a restart the provider is asked first how far a message came: it is not handed over on a guess.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bus_schema::{CommandReply, Delivery, MessageId, Outcome, RefusalCode, Status};
use providers::{InjectOutcome, OperatorMessage, ProviderError, clock};

use super::ops::{ASK_DEADLINE, Done, HAND_OVER_DEADLINE, refusal, within};
use super::state::{Effect, State};
use super::{SessionError, Task};
use crate::publisher::chain;

/// Operator messages of one session that wait to be handed over.
const WAITING_MESSAGES: usize = 64;
/// Their size in bytes: they are held in memory, and stand in every checkpoint.
const WAITING_BYTES: usize = 1024 * 1024;
/// How long a message may wait for a runtime that cannot be reached, or for an agent that is being started.
const EXPIRES_AFTER_MS: u64 = 10 * 60 * 1000;
/// How long a message waits for an agent that does not say that it is ready.
const READY_WITHIN_MS: u64 = 30 * 1000;
/// How often it is looked whether an agent that is being started has taken too long to say that it is ready.
const READY_LOOK: Duration = Duration::from_secs(1);
/// Pause before a message is handed over again.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Pause before the runtime is asked again how far a message came.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Where the handing over stands.
pub(super) struct HandOver {
    running: Option<MessageId>,
    /// Messages from before a restart: the provider may have them already.
    must_ask: BTreeSet<MessageId>,
    not_before: Option<Instant>,
    asked_at: Option<Instant>,
}

impl HandOver {
    /// For messages that were waiting when the task began.
    pub fn recovered(state: &State) -> Self {
        let must_ask = state.pending.iter().map(|pending| pending.message_id.clone()).collect();
        Self { running: None, must_ask, not_before: None, asked_at: None }
    }

    /// When to try again.
    pub fn due(&self, state: &State) -> Option<Instant> {
        let now = Instant::now();
        let is_waiting = self.running.is_none() && state.pending.iter().any(|pending| !pending.is_unverified);
        let is_starting = state.session.status == Status::Spawning;
        let next = is_waiting.then(|| if is_starting { now + READY_LOOK } else { self.not_before.unwrap_or(now) });
        let is_doubtful = state.pending.iter().any(|pending| pending.is_unverified);
        let ask = is_doubtful.then(|| self.asked_at.map_or(now, |at| at + ASK_AGAIN_AFTER));
        next.into_iter().chain(ask).min()
    }
}

impl Task {
    /// Why a message cannot be taken in, or the answer to one that is there already.
    pub(super) fn refuse_message(&self, message: &OperatorMessage) -> Option<CommandReply> {
        if let Some(delivery) = self.state.delivery(&message.message_id) {
            let accepted = CommandReply::with(None, Outcome::Accepted);
            return Some(CommandReply { delivery: Some(delivery.clone()), ..accepted });
        }
        let bytes: usize = self.state.pending.iter().map(|pending| pending.content.len()).sum();
        if self.state.pending.len() >= WAITING_MESSAGES || bytes + message.content.len() > WAITING_BYTES {
            return Some(refusal(
                RefusalCode::Busy,
                "many messages wait for this agent; try again when it has taken some",
            ));
        }
        if self.outbox.is_reserve_full() {
            return Some(refusal(
                RefusalCode::Busy,
                "the node's outbox is full; try again when the bus has taken some",
            ));
        }
        None
    }

    /// Puts an operator message on disk for good, and tells that it is delivered.
    pub(super) async fn write_operator_message(&mut self, message: &OperatorMessage) -> Result<(), SessionError> {
        self.close_gap()?;
        let now = clock::now();
        let written = self.state.operator_message(message, now);
        self.append_message(self.outbox.position(), written)?;
        self.outbox.commit()?;
        self.outbox.sync().await?;
        if let Some(receipt) = self.state.receipt(&message.message_id, now) {
            self.append_receipt(&receipt)?;
        }
        self.commit()
    }

    /// Hands the next message over, if one may be handed over now.
    pub(super) fn hand_over_next(&mut self) {
        let is_early = self.hand_over.not_before.is_some_and(|at| at > Instant::now());
        if self.hand_over.running.is_some() || is_early {
            return;
        }
        let now = clock::now();
        let is_starting = self.state.session.status == Status::Spawning;
        // An unverified one stands in nobody's way: it was handed over.
        let Some(pending) = self.state.pending.iter().find(|pending| !pending.is_unverified) else { return };
        if is_starting && now.millis_since(pending.since) < READY_WITHIN_MS {
            return;
        }
        let (id, message) = (self.id.clone(), pending.to_operator_message());
        let (provider, message_id) = (self.provider.clone(), message.message_id.clone());
        self.hand_over.running = Some(message_id.clone());
        if self.hand_over.must_ask.contains(&message_id) {
            self.ask_delivery(message_id);
            return;
        }
        self.context.counters.injections.increment();
        self.ops.push(Box::pin(async move {
            let call = provider.inject(&id, message);
            Done::HandedOver(message_id, within(HAND_OVER_DEADLINE, "handing over the message", call).await)
        }));
    }

    fn ask_delivery(&mut self, message_id: MessageId) {
        let (provider, id) = (self.provider.clone(), self.id.clone());
        self.ops.push(Box::pin(async move {
            let call = provider.injection(&id, &message_id);
            let result = within(ASK_DEADLINE, "asking for the delivery of a message", call).await;
            Done::Asked(message_id, result)
        }));
    }

    /// The provider is there (again): what nobody knows is asked for.
    pub(super) fn reconsider_deliveries(&mut self) {
        self.hand_over.not_before = None;
        self.ask_unverified(true);
        self.hand_over_next();
    }

    /// Asks for the messages of which nobody knows whether they arrived, at times or (`now`) at once.
    pub(super) fn ask_unverified(&mut self, now: bool) {
        if !now && self.hand_over.asked_at.is_some_and(|at| at.elapsed() < ASK_AGAIN_AFTER) {
            return;
        }
        self.hand_over.asked_at = Some(Instant::now());
        let unverified = self.state.pending.iter().filter(|pending| pending.is_unverified);
        let ids: Vec<_> = unverified.map(|pending| pending.message_id.clone()).collect();
        ids.into_iter().for_each(|id| self.ask_delivery(id));
    }

    pub(super) async fn handed_over(
        &mut self,
        id: MessageId,
        result: Result<InjectOutcome, ProviderError>,
    ) -> Result<(), SessionError> {
        self.hand_over.running = None;
        let outcome = match result {
            Ok(outcome) if is_told(&outcome.state) => Some(outcome),
            Ok(other) => Some(no_one_knows(format!("the runtime answered {:?}", other.state.as_str()))),
            Err(error) => self.not_handed_over(&id, &error),
        };
        match outcome {
            Some(outcome) => self.settle(&id, &outcome).await?,
            None => self.hand_over.not_before = Some(Instant::now() + AGAIN_AFTER),
        }
        self.hand_over_next();
        Ok(())
    }

    /// What an error means for the message; `None` if it is to be tried again.
    fn not_handed_over(&self, id: &MessageId, error: &ProviderError) -> Option<InjectOutcome> {
        // In a pause that takes no words: it waits here for the resume, however long that takes.
        if matches!(error, ProviderError::WrongState { status: Status::Paused, .. }) {
            return None;
        }
        self.context.counters.provider_failures.increment();
        let reason = chain(error);
        tracing::warn!(session_id = %self.id, message_id = %id, error = %reason, "a message was not handed over");
        let of = |state| InjectOutcome { state, mode: None, reason: Some(reason.clone()) };
        let since = self.state.pending.iter().find(|pending| pending.message_id == *id).map(|pending| pending.since);
        let is_late = since.is_none_or(|since| clock::now().millis_since(since) > EXPIRES_AFTER_MS);
        match error {
            ProviderError::Unavailable { .. } | ProviderError::WrongState { status: Status::Spawning, .. } => {
                is_late.then(|| of(Delivery::Expired))
            }
            ProviderError::NotCapable { .. }
            | ProviderError::WrongState { .. }
            | ProviderError::Invalid(_)
            | ProviderError::UnknownSession(_) => Some(of(Delivery::Refused)),
            ProviderError::Failed { .. } | ProviderError::Deadline { .. } => Some(of(Delivery::NotKnown)),
        }
    }

    pub(super) async fn delivery_told(
        &mut self,
        id: MessageId,
        result: Result<Option<InjectOutcome>, ProviderError>,
    ) -> Result<(), SessionError> {
        if self.hand_over.running.as_ref() == Some(&id) {
            self.hand_over.running = None;
        }
        match result {
            Ok(Some(outcome)) => {
                self.hand_over.must_ask.remove(&id);
                self.settle(&id, &outcome).await?;
            }
            // It never got there: law 5 of the provider makes handing it over safe.
            Ok(None) => {
                self.hand_over.must_ask.remove(&id);
                if let Some(pending) = self.state.pending.iter_mut().find(|pending| pending.message_id == id) {
                    pending.is_unverified = false;
                }
            }
            Err(_) => self.hand_over.not_before = Some(Instant::now() + AGAIN_AFTER),
        }
        self.hand_over_next();
        Ok(())
    }

    async fn settle(&mut self, id: &MessageId, outcome: &InjectOutcome) -> Result<(), SessionError> {
        match self.state.delivered(id, outcome, clock::now()) {
            Some(receipt) => self.change(Effect::Receipt(receipt)).await,
            None => Ok(()),
        }
    }
}

fn is_told(state: &Delivery) -> bool {
    matches!(state, Delivery::Written | Delivery::Taken | Delivery::Refused | Delivery::Expired | Delivery::NotKnown)
}

fn no_one_knows(reason: String) -> InjectOutcome {
    InjectOutcome { state: Delivery::NotKnown, mode: None, reason: Some(reason) }
}
