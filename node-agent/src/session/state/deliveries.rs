//! Operator messages: which are on their way, and how far the last ones came.

use bus_schema::limits::MAX_LINE_BYTES;
use bus_schema::{Delivery, InjectMode, Message, MessageId, MessageKind, Metadata, Operator, Receipt, Role, Timestamp};
use providers::{InjectOutcome, OperatorMessage};
use serde::{Deserialize, Serialize};

use super::{State, cut};

/// Operator messages whose delivery is remembered, for late receipts and for questions. An operator may send ten a
/// minute: this is the last half hour of a session that is talked to without a rest.
const REMEMBERED_DELIVERIES: usize = 256;

/// An operator message on its way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    /// Its id.
    pub message_id: MessageId,
    /// Who sent it.
    pub operator: Operator,
    /// The text.
    pub content: String,
    /// How it is to arrive.
    pub mode: InjectMode,
    /// When the node had it on disk.
    pub since: Timestamp,
    /// True if the provider was given it and could not tell whether it arrived.
    pub is_unverified: bool,
}

impl Pending {
    /// In the provider's words.
    pub fn to_operator_message(&self) -> OperatorMessage {
        OperatorMessage {
            message_id: self.message_id.clone(),
            operator: self.operator.clone(),
            content: self.content.clone(),
            mode: self.mode.clone(),
        }
    }
}

/// How far an operator message came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Known {
    message_id: MessageId,
    mode_asked: InjectMode,
    state: Delivery,
}

impl State {
    /// Takes an operator message in. It is pending until it was [delivered](Self::delivered).
    pub fn operator_message(&mut self, message: &OperatorMessage, now: Timestamp) -> Message {
        let OperatorMessage { message_id, operator, content, mode } = message.clone();
        let metadata = Metadata::from_iter([
            ("operator".to_owned(), serde_json::json!({ "id": operator.id, "name": operator.name })),
            ("delivery".to_owned(), Delivery::Delivered.as_str().into()),
            ("modeAsked".to_owned(), mode.as_str().into()),
        ]);
        let message =
            self.message(message_id.clone(), Role::Operator, MessageKind::Text, content.clone(), now, metadata);
        self.await_delivery(Pending { message_id, operator, content, mode, since: now, is_unverified: false });
        message
    }

    pub(in crate::session) fn await_delivery(&mut self, pending: Pending) {
        let (message_id, mode_asked) = (pending.message_id.clone(), pending.mode.clone());
        self.deliveries.push_back(Known { message_id, mode_asked, state: Delivery::Delivered });
        if self.deliveries.len() > REMEMBERED_DELIVERIES {
            self.deliveries.pop_front();
        }
        if !self.is_ended() {
            self.pending.push(pending);
        }
    }

    /// How far an operator message came, if this node ever had it and has not forgotten it.
    pub fn delivery(&self, message_id: &MessageId) -> Option<&Delivery> {
        self.deliveries.iter().find(|known| known.message_id == *message_id).map(|known| &known.state)
    }

    /// The receipt that the node has an operator message on disk.
    pub fn receipt(&self, message_id: &MessageId, now: Timestamp) -> Option<Receipt> {
        let known = self.deliveries.iter().find(|known| known.message_id == *message_id)?;
        Some(self.receipt_of(known, &InjectOutcome { state: known.state.clone(), mode: None, reason: None }, now))
    }

    /// What became of an operator message at the runtime; a receipt if that is news.
    pub fn delivered(&mut self, id: &MessageId, outcome: &InjectOutcome, now: Timestamp) -> Option<Receipt> {
        let at = self.deliveries.iter().position(|known| known.message_id == *id)?;
        let known = self.deliveries.get(at)?;
        // Only the hub accepts and only the node delivers: from a runtime, neither is news.
        if matches!(outcome.state, Delivery::Accepted | Delivery::Delivered) {
            return None;
        }
        let is_unverified = outcome.state == Delivery::NotKnown && known.state == Delivery::Delivered;
        if !is_unverified && outcome.state.rank() <= known.state.rank() {
            return None;
        }
        let receipt = self.receipt_of(known, outcome, now);
        self.note_receipt(&receipt);
        Some(receipt)
    }

    fn receipt_of(&self, known: &Known, outcome: &InjectOutcome, now: Timestamp) -> Receipt {
        Receipt {
            session_id: self.session.session_id.clone(),
            message_id: known.message_id.clone(),
            state: outcome.state.clone(),
            mode_asked: known.mode_asked.clone(),
            mode_obtained: outcome.mode.clone(),
            reason: outcome.reason.clone().map(|reason| cut(reason, MAX_LINE_BYTES)),
            timestamp: now,
        }
    }

    /// Follows a receipt that is recorded.
    pub(in crate::session) fn note_receipt(&mut self, receipt: &Receipt) {
        if let Some(known) = self.deliveries.iter_mut().find(|known| known.message_id == receipt.message_id) {
            known.state = receipt.state.clone();
        }
        match receipt.state {
            Delivery::Delivered | Delivery::Accepted => {}
            Delivery::NotKnown => {
                let of = |pending: &&mut Pending| pending.message_id == receipt.message_id;
                if let Some(pending) = self.pending.iter_mut().find(of) {
                    pending.is_unverified = true;
                }
            }
            _ => self.pending.retain(|pending| pending.message_id != receipt.message_id),
        }
    }
}
