//! What becomes of the operators' words that a session was given.
//!
//! A gateway of protocol 4 keeps our id beside them. One of protocol 3 keeps only the words and our name (measured on
//! 2026.4.15), so they are known again by their digest, the oldest first: what was said twice arrives twice. Its queue
//! is in its memory alone: what it had not begun when it was restarted is gone, and that is said.

use bus_schema::{Delivery, InjectMode, MessageId, Timestamp};

use super::{Session, State};
use crate::clock;
use crate::openclaw::record::{Given, Kept};
use crate::openclaw::rows::{Part, digest};
use crate::provider::InjectOutcome;

impl Session {
    pub fn given(&self, id: &MessageId) -> Option<Given> {
        self.lock().record.facts.given.get(id).cloned()
    }

    /// Writes down that a message is being handed over.
    pub fn giving(&self, id: &MessageId, asked: InjectMode, words: &str) {
        self.change(|state| {
            if state.record.facts.given.contains_key(id) {
                return Ok(());
            }
            let given = Given { asked, outcome: None, at: Some(clock::now()), words: digest(words) };
            state.record.set_given(id.clone(), given)
        });
    }

    /// Writes down what became of it. What is known is not forgotten.
    pub fn set_given(&self, id: &MessageId, outcome: InjectOutcome) {
        self.change(|state| {
            let Some(given) = state.record.facts.given.get(id).cloned() else { return Ok(()) };
            let rank = |outcome: &InjectOutcome| outcome.state.rank();
            if given.outcome.as_ref().is_some_and(|before| rank(before) >= rank(&outcome)) {
                return Ok(());
            }
            state.record.set_given(id.clone(), Given { outcome: Some(outcome), ..given })
        });
    }

    /// True if these rows hold a message by its words, in one that nobody has claimed yet.
    pub fn holds_words(&self, id: &MessageId, parts: &[Part]) -> bool {
        let state = self.lock();
        let Some(given) = state.record.facts.given.get(id) else { return false };
        parts.iter().any(|part| part.words.as_ref() == Some(&given.words) && !state.record.has_seen(&part.row))
    }

    /// Messages that were handed over, and of which nobody has seen that the agent began with them.
    pub fn undelivered(&self) -> Vec<MessageId> {
        let state = self.lock();
        let is_open = |given: &Given| given.outcome.as_ref().is_some_and(|o| o.state == Delivery::Written);
        let given = state.record.facts.given.iter().filter(|(_, given)| is_open(given));
        given.map(|(id, _)| id.clone()).collect()
    }

    /// One of them was withdrawn.
    pub fn refuse_given(&self, id: &MessageId, reason: &str) {
        let outcome = InjectOutcome { state: Delivery::Refused, mode: None, reason: Some(reason.into()) };
        self.change(|state| state.record.add(clock::now(), Kept::Receipt { message_id: id.clone(), outcome }, None));
    }

    /// A gateway that keeps its queue in memory has begun at `since`, and its history was read: what was handed over
    /// before that and is not in it is gone.
    pub fn lose_given(&self, since: Timestamp) {
        self.change(|state| {
            let is_lost = |given: &Given| {
                given.at.is_some_and(|at| at < since)
                    && given.outcome.as_ref().is_some_and(|outcome| outcome.state == Delivery::Written)
            };
            let given = state.record.facts.given.iter();
            let lost: Vec<_> = given.filter(|(_, given)| is_lost(given)).map(|(id, _)| id.clone()).collect();
            for message_id in lost {
                let reason = "the gateway was restarted before it began with this, and its release forgets what waits; \
                              send it again";
                let outcome = InjectOutcome { state: Delivery::Refused, mode: None, reason: Some(reason.into()) };
                state.record.add(clock::now(), Kept::Receipt { message_id, outcome }, None)?;
            }
            Ok(())
        });
    }
}

impl State {
    /// The operator message that a row is the arrival of.
    pub fn arrived(&self, part: &Part) -> Option<MessageId> {
        let given = &self.record.facts.given;
        if let Some(id) = part.arrival.as_deref().and_then(|arrival| MessageId::new(arrival).ok()) {
            return given.contains_key(&id).then_some(id);
        }
        let words = part.words.as_ref()?;
        let is_open = |given: &Given| given.outcome.as_ref().is_none_or(|outcome| !outcome.state.is_final());
        given.iter().find(|(_, given)| given.words == *words && is_open(given)).map(|(id, _)| id.clone())
    }
}
