//! How a session's task writes: messages, receipts, snapshots, gaps and marks, in the order in which they happen.

use std::time::{Duration, Instant};

use bus_schema::{Message, MessageId, MessageKind, Receipt};
use providers::{MessageDraft, Position, clock};

use super::recover::{checkpoint, mark};
use super::{SessionError, Task};
use crate::outbox::record::RecordKind;

/// Snapshots that tell nothing but a larger `lastSeq` come at most so often.
const GROWTH_EVERY: Duration = Duration::from_secs(1);
/// While the outbox is full, snapshots and marks come at most so often: they live off its reserve.
const SPARSE_EVERY: Duration = Duration::from_secs(10);

/// What is not written yet.
#[derive(Default)]
pub(super) struct Unwritten {
    /// The snapshot on disk is older than the state.
    pub is_snapshot_due: bool,
    snapshot_at: Option<Instant>,
    marked_at: Option<Instant>,
}

impl Task {
    /// Makes sure that there is a segment to append to.
    fn segment(&mut self) -> Result<(), SessionError> {
        if self.outbox.needs_segment() {
            self.outbox.begin_segment(&checkpoint(&self.state)?)?;
        }
        Ok(())
    }

    /// True if messages must be dropped: no room, and nobody who would make any.
    pub(super) fn must_drop(&self) -> bool {
        self.outbox.is_full() && !*self.taking.borrow()
    }

    /// True if reading must wait until there is room.
    pub(super) fn must_wait(&self) -> bool {
        self.outbox.is_full() && *self.taking.borrow()
    }

    /// Takes a message of the agent in, or lets it fall.
    pub(super) fn write_message(&mut self, position: Position, draft: MessageDraft) -> Result<(), SessionError> {
        self.live.end_delta(&draft.message_id);
        if self.must_drop() {
            if self.state.gap.is_none() {
                tracing::warn!(session_id = %self.id, "the outbox is full and the bus away: messages are dropped");
            }
            self.context.counters.dropped_messages.increment();
            self.state.drop(&draft);
            return Ok(());
        }
        self.close_gap()?;
        let message = self.state.take(draft);
        self.append_message(position, message)
    }

    /// Tells in one message what was dropped, if anything was.
    pub(super) fn close_gap(&mut self) -> Result<(), SessionError> {
        let id = MessageId::new(format!("{}-gap{}", self.id, self.state.session.last_seq + 1))?;
        match self.state.close_gap(id, clock::now()) {
            Some(message) => self.append_message(self.read_to, message),
            None => Ok(()),
        }
    }

    pub(super) fn append_message(&mut self, position: Position, message: Message) -> Result<(), SessionError> {
        self.segment()?;
        let body = match bus_schema::encode(&message) {
            Ok(body) => body,
            Err(error) => {
                // Text within its limit can still be too long once it is written down. `seq` has its place all the same.
                tracing::error!(session_id = %self.id, seq = message.seq, error = %error, "message replaced");
                let content = "this message could not be written for the bus".to_owned();
                let mut message = Message { content, kind: MessageKind::Status, ..message };
                message.metadata.retain(|key, _| matches!(key.as_str(), "operator" | "delivery" | "modeAsked"));
                bus_schema::encode(&message)?
            }
        };
        self.outbox.append(RecordKind::Message, position, &body);
        self.unwritten.is_snapshot_due = true;
        Ok(())
    }

    pub(super) fn append_receipt(&mut self, receipt: &Receipt) -> Result<(), SessionError> {
        self.segment()?;
        self.outbox.append(RecordKind::Receipt, self.outbox.position(), &bus_schema::encode(receipt)?);
        Ok(())
    }

    /// Records a change of the session. Held back while the outbox is full, unless it is the last one.
    pub(super) fn append_snapshot(&mut self, position: Position) -> Result<(), SessionError> {
        if self.outbox.is_full() && !self.state.is_ended() {
            self.unwritten.is_snapshot_due = true;
            return Ok(());
        }
        self.write_snapshot(position)
    }

    fn write_snapshot(&mut self, position: Position) -> Result<(), SessionError> {
        self.segment()?;
        if self.state.gap.is_some() {
            // The position of the snapshot stands behind messages that were dropped.
            self.append_mark(position)?;
        }
        let session = self.state.snapshot();
        self.outbox.append(RecordKind::Session, position, &bus_schema::encode(&session)?);
        self.unwritten.is_snapshot_due = false;
        self.unwritten.snapshot_at = Some(Instant::now());
        Ok(())
    }

    /// Records that nothing more will be told, so that the next node agent does not ask.
    pub(super) fn append_over(&mut self) -> Result<(), SessionError> {
        self.segment()?;
        self.outbox.append(RecordKind::Checkpoint, self.outbox.position(), &checkpoint(&self.state)?);
        Ok(())
    }

    /// How long a snapshot, and a mark, must wait after the one before.
    fn pause(&self) -> Duration {
        if self.outbox.is_full() { SPARSE_EVERY } else { GROWTH_EVERY }
    }

    /// When something that is not written yet must be.
    pub(super) fn write_due(&self) -> Option<Instant> {
        let now = Instant::now();
        let after = |at: Option<Instant>| at.map_or(now, |at| at + self.pause());
        let snapshot = self.unwritten.is_snapshot_due.then(|| after(self.unwritten.snapshot_at));
        let mark = (self.read_to > self.outbox.position()).then(|| after(self.unwritten.marked_at));
        let gap = (self.state.gap.is_some() && !self.must_drop()).then(|| after(self.unwritten.marked_at));
        // Nothing can be written any more; there is time when space is free again.
        let is_stuck = self.outbox.is_reserve_full();
        snapshot
            .into_iter()
            .chain(mark)
            .chain(gap)
            .min()
            .map(|due| if is_stuck { due.max(now + SPARSE_EVERY) } else { due })
    }

    /// Writes what is due, or (`is_last`) everything.
    pub(super) fn write_rest(&mut self, is_last: bool) -> Result<(), SessionError> {
        let (now, pause) = (Instant::now(), self.pause());
        let is_due = |at: Option<Instant>| is_last || at.is_none_or(|at| now.duration_since(at) >= pause);
        if self.outbox.is_reserve_full() {
            return self.commit();
        }
        if !self.must_drop() {
            self.close_gap()?;
        }
        if self.unwritten.is_snapshot_due && is_due(self.unwritten.snapshot_at) {
            self.write_snapshot(self.read_to)?;
        }
        if self.read_to > self.outbox.position() && is_due(self.unwritten.marked_at) {
            self.segment()?;
            self.append_mark(self.read_to)?;
            self.unwritten.marked_at = Some(now);
        }
        self.commit()
    }

    fn append_mark(&mut self, position: Position) -> Result<(), SessionError> {
        self.outbox.append(RecordKind::Mark, position, &mark(self.state.gap.as_ref())?);
        Ok(())
    }

    /// Puts on disk what was appended, and shows it.
    pub(super) fn commit(&mut self) -> Result<(), SessionError> {
        self.outbox.commit()?;
        self.context.outgoing.wake(&self.id);
        self.shown.send_replace(self.state.session.clone());
        Ok(())
    }
}
