//! Reading messages: pages by exact `seq`, since a limit is not pushed into a range and reverse scans are slow
//! (measured with SurrealDB 3.3.5: 1.3 ms against 10 to 18 ms for a page of 100).

use std::collections::HashMap;

use bus_schema::{Message, MessageId, Receipt, Role, SessionId, Timestamp, WorkspaceId};
use surrealdb::types::{RecordIdKey, Value};

use crate::db::Store;
use crate::error::StoreError;
use crate::value::{Reader, Row, id_range, id1, id2, list, number, row, text};

/// What the messages of a session add up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The workspace of the session.
    pub workspace: WorkspaceId,
    /// The session.
    pub session_id: SessionId,
    /// The first `seq` that is still kept.
    pub first_seq: u64,
    /// The last `seq`.
    pub last_seq: u64,
    /// Time of the last message.
    pub last_at: Timestamp,
    /// Largest sequence in the stream of all its messages.
    pub stream_seq: u64,
}

/// Which messages of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageOf {
    /// The last ones.
    Newest,
    /// Those before a `seq`.
    Before(u64),
    /// Those after a `seq`.
    After(u64),
}

/// Some messages of a session, by ascending `seq`.
#[derive(Clone, Debug, PartialEq)]
pub struct MessagePage {
    /// The messages.
    pub messages: Vec<Message>,
    /// True if there are more in the direction asked.
    pub has_more: bool,
    /// The first `seq` that is still kept; 0 if there never was one. Above 1, retention has taken what was before.
    pub first_seq: u64,
}

impl Store {
    /// What the messages of a session add up to; none if it has none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn head(&self, session: &SessionId) -> Result<Option<Head>, StoreError> {
        let vars = row([("id", id1("head", session.as_str()))]);
        let rows = self.read("reading the head of a session", "SELECT * FROM $id", vars).await?;
        rows.into_iter().flatten().next().map(head).transpose()
    }

    /// The sessions of a workspace that have messages behind a sequence of the stream.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn heads_behind(&self, workspace: &WorkspaceId, stream_seq: u64) -> Result<Vec<Head>, StoreError> {
        let sql = "SELECT * FROM head WHERE workspace = $w AND stream_seq > $n";
        let vars = row([("w", text(workspace.as_str())), ("n", number(stream_seq))]);
        let rows = self.read("reading the heads of sessions", sql, vars).await?;
        rows.into_iter().flatten().map(head).collect()
    }

    /// A page of messages of a session. Operator messages come with the last known state of their delivery.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn messages(&self, session: &SessionId, page: PageOf, limit: u64) -> Result<MessagePage, StoreError> {
        let empty = |first_seq| MessagePage { messages: vec![], has_more: false, first_seq };
        let Some(head) = self.head(session).await? else { return Ok(empty(0)) };
        let (from, to, has_more) = match page {
            PageOf::After(seq) => {
                let from = seq.saturating_add(1).max(head.first_seq);
                let to = from.saturating_add(limit).saturating_sub(1).min(head.last_seq);
                (from, to, to < head.last_seq)
            }
            PageOf::Newest | PageOf::Before(_) => {
                let end = if let PageOf::Before(seq) = page { seq } else { u64::MAX };
                let to = end.saturating_sub(1).min(head.last_seq);
                let from = to.saturating_add(1).saturating_sub(limit).max(head.first_seq);
                (from, to, from > head.first_seq)
            }
        };
        if limit == 0 || to < from {
            return Ok(empty(head.first_seq));
        }
        let rows = self.message_rows(session, from, to).await?;
        let mut messages =
            rows.into_iter().map(|r| message(session, r).map(|(m, _)| m)).collect::<Result<Vec<_>, _>>()?;
        self.add_deliveries(session, &mut messages).await?;
        Ok(MessagePage { messages, has_more, first_seq: head.first_seq })
    }

    /// The messages of a session that lie behind a sequence of the stream, oldest first, at most `limit`: for a viewer
    /// whose place the bus no longer holds. Found by bisection, since the stream's order and `seq` go together but for
    /// a few.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn messages_behind(
        &self,
        head: &Head,
        stream_seq: u64,
        after_seq: Option<u64>,
        limit: u64,
    ) -> Result<Vec<(Message, u64)>, StoreError> {
        let mut from = match after_seq {
            Some(seq) => seq.saturating_add(1).max(head.first_seq),
            None => self.first_behind(head, stream_seq).await?,
        };
        let found = loop {
            let to = from.saturating_add(limit).saturating_sub(1).min(head.last_seq);
            if to < from {
                return Ok(vec![]);
            }
            let rows = self.message_rows(&head.session_id, from, to).await?;
            let mut found = rows.into_iter().map(|r| message(&head.session_id, r)).collect::<Result<Vec<_>, _>>()?;
            found.retain(|(_, at)| *at > stream_seq);
            // The margin may be longer than a page.
            if !found.is_empty() {
                break found;
            }
            from = to + 1;
        };
        let (mut messages, places): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        self.add_deliveries(&head.session_id, &mut messages).await?;
        Ok(messages.into_iter().zip(places).collect())
    }

    /// How many messages of a session are in the store. Reads them all: for checks, not for pages.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn count_messages(&self, session: &SessionId) -> Result<u64, StoreError> {
        let vars = row([("range", range(session, 0, u64::MAX))]);
        let rows = self.read("counting messages", "SELECT count() AS n FROM $range GROUP ALL", vars).await?;
        match rows.into_iter().flatten().next() {
            Some(found) => Reader::new("message", found).number("n"),
            None => Ok(0),
        }
    }

    /// The smallest `seq` of which no earlier one lies behind `stream_seq`, less a margin for messages that a
    /// reconnect has put out of order (up to 550, measured).
    async fn first_behind(&self, head: &Head, stream_seq: u64) -> Result<u64, StoreError> {
        const OUT_OF_ORDER: u64 = 1024;
        let (mut low, mut high) = (head.first_seq, head.last_seq.saturating_add(1));
        while low < high {
            let middle = low + (high - low) / 2;
            let rows = self.message_rows(&head.session_id, middle, middle).await?;
            let behind = match rows.into_iter().next() {
                Some(found) => Reader::new("message", found).number("stream_seq")? > stream_seq,
                None => true,
            };
            if behind { high = middle } else { low = middle + 1 }
        }
        Ok(low.saturating_sub(OUT_OF_ORDER).max(head.first_seq))
    }

    pub(crate) async fn message_rows(&self, session: &SessionId, from: u64, to: u64) -> Result<Vec<Row>, StoreError> {
        let vars = row([("range", range(session, from, to))]);
        let rows = self.read("reading messages", "SELECT * FROM $range", vars).await?;
        Ok(rows.into_iter().flatten().collect())
    }

    async fn add_deliveries(&self, session: &SessionId, messages: &mut [Message]) -> Result<(), StoreError> {
        let sent: Vec<_> = messages.iter().filter(|m| m.role == Role::Operator).map(|m| m.message_id.clone()).collect();
        if sent.is_empty() {
            return Ok(());
        }
        let receipts = self.receipts(session, &sent).await?;
        for message in messages {
            if let Some(receipt) = receipts.get(&message.message_id) {
                add_delivery(message, receipt);
            }
        }
        Ok(())
    }

    /// The last known state of delivery of each of these messages.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn receipts(
        &self,
        session: &SessionId,
        messages: &[MessageId],
    ) -> Result<HashMap<MessageId, Receipt>, StoreError> {
        let ids = messages.iter().map(|m| id2("delivery", session.as_str(), text(m.as_str())));
        let vars = row([("ids", list(ids))]);
        let rows = self.read("reading deliveries", "SELECT receipt FROM $ids", vars).await?;
        let receipts = rows.into_iter().flatten().map(|r| {
            let receipt: Receipt = Reader::new("delivery", r).document("receipt")?;
            Ok((receipt.message_id.clone(), receipt))
        });
        receipts.collect()
    }
}

/// Puts what a receipt says into the metadata of its message.
pub(crate) fn add_delivery(message: &mut Message, receipt: &Receipt) {
    message.metadata.insert("delivery".into(), receipt.state.as_str().into());
    message.metadata.insert("modeAsked".into(), receipt.mode_asked.as_str().into());
    if let Some(mode) = &receipt.mode_obtained {
        message.metadata.insert("modeObtained".into(), mode.as_str().into());
    }
    if let Some(reason) = &receipt.reason {
        message.metadata.insert("deliveryReason".into(), reason.as_str().into());
    }
}

pub(crate) fn range(session: &SessionId, from: u64, to: u64) -> Value {
    let key = |seq| vec![text(session.as_str()), number(seq)];
    id_range("message", key(from), key(to))
}

fn head(found: Row) -> Result<Head, StoreError> {
    let mut reader = Reader::new("head", found);
    let key = reader.key()?;
    Ok(Head {
        workspace: reader.parsed("workspace")?,
        session_id: SessionId::new(&key).map_err(|e| StoreError::Form { table: "head", detail: e.to_string() })?,
        first_seq: reader.number("first_seq")?,
        last_seq: reader.number("last_seq")?,
        last_at: reader.time("last_at")?,
        stream_seq: reader.number("stream_seq")?,
    })
}

/// A message of whichever session its row says.
pub(crate) fn message_of(found: Row) -> Result<Message, StoreError> {
    let session = match found.get("id") {
        Some(Value::RecordId(id)) => match &id.key {
            RecordIdKey::Array(parts) => match parts.iter().next() {
                Some(Value::String(session)) => SessionId::new(session).ok(),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    };
    let wrong = || StoreError::Form { table: "message", detail: "an id of another form".into() };
    message(&session.ok_or_else(wrong)?, found).map(|(message, _)| message)
}

/// A message and its sequence in the stream.
fn message(session: &SessionId, mut found: Row) -> Result<(Message, u64), StoreError> {
    let seq = match found.remove("id") {
        Some(Value::RecordId(id)) => match id.key {
            RecordIdKey::Array(parts) => parts.into_iter().next_back(),
            _ => None,
        },
        _ => None,
    };
    if let Some(seq) = seq {
        found.insert("seq", seq);
    }
    let mut reader = Reader::new("message", found);
    let message = Message {
        message_id: reader.parsed("messageId")?,
        session_id: session.clone(),
        seq: reader.number("seq")?,
        role: reader.text("role")?.as_str().into(),
        content: reader.text("content")?,
        timestamp: reader.time("at")?,
        kind: reader.text("kind")?.as_str().into(),
        metadata: reader.metadata("metadata")?,
    };
    Ok((message, reader.number("stream_seq")?))
}
