//! What became of the operator messages that a holder was given, for whoever asks again.

use std::collections::{BTreeMap, VecDeque};

use bus_schema::MessageId;

use crate::provider::InjectOutcome;

/// Outcomes that are remembered: a day of one message every twenty seconds.
const MAX_OUTCOMES: usize = 4096;

/// The last outcomes, by message.
#[derive(Default)]
pub(crate) struct Outcomes {
    all: BTreeMap<MessageId, InjectOutcome>,
    order: VecDeque<MessageId>,
}

impl Outcomes {
    /// How far a message has come, as it was told last.
    pub fn get(&self, message_id: &MessageId) -> Option<&InjectOutcome> {
        self.all.get(message_id)
    }

    /// A message has come so far.
    pub fn tell(&mut self, message_id: &MessageId, outcome: &InjectOutcome) {
        if self.all.insert(message_id.clone(), outcome.clone()).is_none() {
            self.order.push_back(message_id.clone());
            if self.order.len() > MAX_OUTCOMES
                && let Some(oldest) = self.order.pop_front()
            {
                self.all.remove(&oldest);
            }
        }
    }
}
