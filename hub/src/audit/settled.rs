//! Operator messages that did not get there, and what an operator decided on each: sent again, or given up. Read from
//! the audit log, so that it is known again after every start.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bus_schema::{AuditPhase, AuditRow, MessageId, SessionId, Timestamp};
use serde::Serialize;

/// Decisions that are known. Of those before them a message is offered again, which harms nobody.
const MAX_KNOWN: usize = 10_000;
/// The deed of giving a message up.
pub const DISCARD: &str = "discardMessage";

/// What was decided on a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// `sentAgain` or `discarded`.
    pub how: &'static str,
    /// By whom.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// The message that took its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
}

/// What was decided on which messages.
#[derive(Default)]
pub struct Settled(Mutex<Known>);

#[derive(Default)]
struct Known {
    all: HashMap<(SessionId, String), Decision>,
    /// By time: the oldest go first, in whatever order they came.
    order: BTreeSet<(Timestamp, (SessionId, String))>,
}

impl Settled {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a row of the audit log; any row, in any order, as often as one likes.
    pub fn take(&self, row: &AuditRow) {
        let Some((key, decision)) = decision(row) else { return };
        let mut known = self.known();
        let at = decision.at;
        if known.all.get(&key).is_some_and(|known| known.at > at) {
            return;
        }
        if let Some(before) = known.all.insert(key.clone(), decision) {
            known.order.remove(&(before.at, key.clone()));
        }
        known.order.insert((at, key));
        if known.order.len() > MAX_KNOWN
            && let Some((_, oldest)) = known.order.pop_first()
        {
            known.all.remove(&oldest);
        }
    }

    /// What was decided on a message.
    pub fn of(&self, session: &SessionId, message: &MessageId) -> Option<Decision> {
        self.known().all.get(&(session.clone(), message.as_str().to_owned())).cloned()
    }
}

fn decision(row: &AuditRow) -> Option<((SessionId, String), Decision)> {
    if row.phase != AuditPhase::Outcome || !matches!(row.result.as_str(), "ok" | "unknown") {
        return None;
    }
    let fact = |key: &str| Some(row.metadata.get(key)?.as_str()?.to_owned());
    let (how, message, message_id) = match row.action.as_str() {
        DISCARD => ("discarded", fact("messageId")?, None),
        "inject" => ("sentAgain", fact("retryOf")?, fact("messageId")),
        _ => return None,
    };
    let decision = Decision { how, by: row.user.name.clone(), at: row.timestamp, message_id };
    Some(((row.session_id.clone()?, message), decision))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(action: &str, phase: &str, result: &str, metadata: serde_json::Value) -> AuditRow {
        serde_json::from_value(serde_json::json!({
            "n": 1, "workspace": "default", "timestamp": "2026-11-22T20:00:00Z", "actionId": "a", "phase": phase,
            "action": action, "user": {"name": "Ada"}, "sessionId": "01JD8Z2V9Q0000000000000001", "result": result,
            "metadata": metadata,
        }))
        .unwrap()
    }

    #[test]
    fn only_what_was_done_settles_a_message() {
        let settled = Settled::default();
        let (session, old) = (SessionId::new("01JD8Z2V9Q0000000000000001").unwrap(), MessageId::new("old").unwrap());
        let again = || serde_json::json!({"messageId": "new", "retryOf": "old"});
        settled.take(&row("inject", "intent", "pending", again()));
        settled.take(&row("inject", "outcome", "refused", again()));
        settled.take(&row("inject", "outcome", "ok", serde_json::json!({"messageId": "old"})));
        assert_eq!(settled.of(&session, &old), None);
        settled.take(&row("inject", "outcome", "ok", again()));
        let decision = settled.of(&session, &old).unwrap();
        assert_eq!((decision.how, decision.message_id.as_deref()), ("sentAgain", Some("new")));
        let discarded = row(DISCARD, "outcome", "ok", serde_json::json!({"messageId": "old"}));
        settled.take(&discarded);
        assert_eq!(settled.of(&session, &old).map(|d| (d.how, d.by)), Some(("discarded", "Ada".into())));
        // What is read later and happened before does not stand over it.
        let mut earlier = row("inject", "outcome", "ok", again());
        earlier.timestamp = discarded.timestamp.plus_millis(-1);
        settled.take(&earlier);
        assert_eq!(settled.of(&session, &old).map(|d| d.how), Some("discarded"));
    }
}
