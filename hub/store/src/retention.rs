//! Forgetting old messages, and what keeps them from it.
//!
//! Laws:
//! 1. Only messages and the receipts of their delivery are taken away; never a session, a record or an audit row.
//! 2. In small transactions, by exact bounds of `seq`, the oldest first; `first_seq` of the session's head moves along
//!    in the same one. So a page never has a hole, and what is gone can be told from what never was.

use bus_schema::{SessionId, Timestamp, WorkspaceId};
use surrealdb::types::Value;

use crate::db::Store;
use crate::error::StoreError;
use crate::journal::Hold;
use crate::messages::{Head, range};
use crate::value::{Reader, id1, id2, list, number, row, text};

/// Messages taken away in one transaction.
const BATCH: u64 = 1_000;

impl Store {
    /// How many days the messages of a workspace are kept; none if nobody has said.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn retention_days(&self, workspace: &WorkspaceId) -> Result<Option<u64>, StoreError> {
        let sql = "SELECT days FROM $id WHERE deleted = false";
        let vars = row([("id", id1("retention", workspace.as_str()))]);
        let rows = self.read("reading how long messages are kept", sql, vars).await?;
        rows.into_iter().flatten().next().map(|found| Reader::new("retention", found).number("days")).transpose()
    }

    /// The sessions of a workspace whose messages are kept whatever their age.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn holds(&self, workspace: &WorkspaceId) -> Result<Vec<Hold>, StoreError> {
        let sql = "SELECT record FROM hold WHERE workspace = $workspace AND deleted = false";
        let vars = row([("workspace", text(workspace.as_str()))]);
        let rows = self.read("reading which sessions are held", sql, vars).await?;
        rows.into_iter().flatten().map(|found| Reader::new("hold", found).document("record")).collect()
    }

    /// The hold on a session, if there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn hold(&self, workspace: &WorkspaceId, session: &SessionId) -> Result<Option<Hold>, StoreError> {
        let sql = "SELECT record FROM $id WHERE deleted = false";
        let vars = row([("id", id2("hold", workspace.as_str(), text(session.as_str())))]);
        let rows = self.read("reading whether a session is held", sql, vars).await?;
        rows.into_iter().flatten().next().map(|found| Reader::new("hold", found).document("record")).transpose()
    }

    /// Takes away the oldest messages of a session that are older than `before`, at most 1,000; how many `seq` that
    /// were. Asked again until it answers 0, it has taken all.
    ///
    /// The age is that of the node's time in the message. Where a node's clock jumped, the first message that is young
    /// enough keeps those behind it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_messages(&self, session: &SessionId, before: Timestamp) -> Result<u64, StoreError> {
        let Some(head) = self.head(session).await? else { return Ok(0) };
        let end = self.first_since(&head, before).await?.min(head.first_seq.saturating_add(BATCH));
        if end <= head.first_seq {
            return Ok(0);
        }
        let gone = range(session, head.first_seq, end - 1);
        let asked = row([("range", gone.clone())]);
        let sql = "SELECT messageId FROM $range WHERE role = 'operator'";
        let sent = self.read("reading whose receipts go", sql, asked).await?.into_iter().flatten();
        let sent = sent.map(|found| Reader::new("message", found).text("messageId"));
        let sent = sent.collect::<Result<Vec<_>, _>>()?;
        let receipts = sent.iter().map(|id| id2("delivery", session.as_str(), text(id)));
        let vars = row([
            ("range", gone),
            ("receipts", list(receipts)),
            ("head", id1("head", session.as_str())),
            ("end", number(end)),
        ]);
        let sql = "BEGIN; DELETE $range RETURN NONE; DELETE $receipts RETURN NONE; \
                   UPDATE $head SET first_seq = math::max([first_seq, $end]) RETURN NONE; COMMIT;";
        self.write("forgetting messages", sql, vars).await?;
        Ok(end - head.first_seq)
    }

    /// The first `seq` whose message is not older than `before`, by bisection: times go along with `seq`.
    async fn first_since(&self, head: &Head, before: Timestamp) -> Result<u64, StoreError> {
        let end = head.last_seq.saturating_add(1);
        if head.last_at < before {
            return Ok(end);
        }
        let (mut low, mut high) = (head.first_seq, end);
        while low < high {
            let middle = low + (high - low) / 2;
            let rows = self.message_rows(&head.session_id, middle, middle).await?;
            let old = match rows.into_iter().next() {
                Some(found) => Reader::new("message", found).time("at")? < before,
                // Gone already.
                None => true,
            };
            if old { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }

    /// Every session of a workspace that has or had messages.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sessions_with_messages(
        &self,
        workspace: &WorkspaceId,
        before: Timestamp,
    ) -> Result<Vec<SessionId>, StoreError> {
        // Those that have ended forgetting (first behind last) are passed over.
        let sql = "SELECT id FROM head WHERE workspace = $w AND first_seq <= last_seq";
        let vars = row([("w", text(workspace.as_str()))]);
        let rows = self.read("reading which sessions have messages", sql, vars).await?;
        let mut sessions = vec![];
        for found in rows.into_iter().flatten() {
            let key = Reader::new("head", found).key()?;
            let id = SessionId::new(&key).map_err(|e| StoreError::Form { table: "head", detail: e.to_string() })?;
            // An id is made when the session is: what began later has nothing that old.
            if began(&id).is_none_or(|at| at < before) {
                sessions.push(id);
            }
        }
        Ok(sessions)
    }
}

/// The time in a session id (a ULID).
fn began(id: &SessionId) -> Option<Timestamp> {
    const DIGITS: &str = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let head = id.as_str().get(..10)?;
    let mut ms: i64 = 0;
    for c in head.chars() {
        ms = (ms << 5) | i64::try_from(DIGITS.find(c.to_ascii_uppercase())?).ok()?;
    }
    Some(Timestamp::from_millis(ms))
}

/// A hold as a row.
pub(crate) fn hold_id(hold: &Hold) -> Value {
    id2("hold", hold.workspace.as_str(), text(hold.session_id.as_str()))
}
