//! From records to a session's state: the way back of `state.rs`.

use bus_schema::{Message, Operator, Receipt, Role, Session};
use serde::de::DeserializeOwned;

use super::state::{Gap, Pending, State};
use crate::outbox::record::{Record, RecordKind};

/// A record cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("record {number} of the outbox cannot be read")]
pub struct RecoverError {
    number: u64,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// What a checkpoint record holds.
///
/// # Errors
/// If the state cannot be written as MessagePack.
pub fn checkpoint(state: &State) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    rmp_serde::to_vec_named(state)
}

/// What a mark holds: the messages dropped so far, if any were.
///
/// # Errors
/// If the gap cannot be written as MessagePack.
pub fn mark(gap: Option<&Gap>) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    gap.map_or(Ok(vec![]), rmp_serde::to_vec_named)
}

/// The state after `records`, which begin with a checkpoint; `None` if there are none.
///
/// # Errors
/// [`RecoverError`] for a record that this program did not write so.
pub fn recover(records: &[Record]) -> Result<Option<State>, RecoverError> {
    let mut recovered: Option<State> = None;
    for record in records {
        match (&mut recovered, record.kind) {
            (_, RecordKind::Checkpoint) => recovered = Some(read(record)?),
            (Some(state), RecordKind::Session) => {
                state.session = bus::<Session>(record)?;
                if state.is_ended() {
                    state.pending.clear();
                }
            }
            (Some(state), RecordKind::Message) => follow(state, bus(record)?),
            (Some(state), RecordKind::Receipt) => state.note_receipt(&bus::<Receipt>(record)?),
            (Some(state), RecordKind::Mark) => {
                state.gap = if record.body.is_empty() { None } else { Some(read(record)?) };
            }
            (None, _) => {}
        }
    }
    Ok(recovered)
}

fn follow(state: &mut State, message: Message) {
    state.session.last_seq = message.seq;
    state.session.last_message_at = Some(message.timestamp);
    if message.metadata.contains_key("gap") {
        state.gap = None;
    }
    if message.role != Role::Operator {
        return;
    }
    let fact = |key: &str| message.metadata.get(key).cloned().unwrap_or_default();
    let Ok(operator) = serde_json::from_value::<Operator>(fact("operator")) else { return };
    let mode = fact("modeAsked").as_str().map(Into::into).unwrap_or_default();
    let Message { message_id, content, timestamp, .. } = message;
    state.await_delivery(Pending { message_id, operator, content, mode, since: timestamp, is_unverified: false });
}

fn read<T: DeserializeOwned>(record: &Record) -> Result<T, RecoverError> {
    rmp_serde::from_slice(&record.body).map_err(|e| RecoverError { number: record.number, source: Box::new(e) })
}

fn bus<T: DeserializeOwned>(record: &Record) -> Result<T, RecoverError> {
    bus_schema::decode(&record.body, None).map_err(|e| RecoverError { number: record.number, source: Box::new(e) })
}
