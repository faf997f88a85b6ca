//! Writing what came over the bus: rows and position together, once, however often it arrives.

use std::collections::{BTreeMap, HashMap};

use bus_schema::{Delivery, Message, NodeId, NodeState, Receipt, Session, SessionId, Timestamp, WorkspaceId};
use surrealdb::types::{Bytes, Value};

use crate::db::Store;
use crate::error::StoreError;
use crate::value::{Reader, Row, document, id1, id2, json, list, number, optional, row, text, time};

/// How far a stream has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Whose stream it is; none for the hub's own. Every workspace has streams of the same names.
    pub workspace: Option<WorkspaceId>,
    /// Name of the stream.
    pub stream: String,
    /// When that stream was made, as the server tells it: a stream made anew under the same name begins again.
    pub created: String,
    /// Sequence of the last message whose rows are in the store.
    pub seq: u64,
}

/// A message and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct MessageRow {
    /// Its workspace, from the subject.
    pub workspace: WorkspaceId,
    /// Its node, from the subject.
    pub node: NodeId,
    /// Its sequence in the stream.
    pub stream_seq: u64,
    /// The message.
    pub message: Message,
}

/// A receipt.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceiptRow {
    /// The receipt.
    pub receipt: Receipt,
}

/// A payload that could not be read, kept for whoever looks into it.
#[derive(Clone, Debug, PartialEq)]
pub struct ParkedRow {
    /// The workspace whose bus it came over.
    pub workspace: WorkspaceId,
    /// The stream it is in.
    pub stream: String,
    /// Its sequence there.
    pub seq: u64,
    /// Its subject.
    pub subject: String,
    /// Why it could not be read.
    pub reason: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its first bytes.
    pub payload: Vec<u8>,
    /// When the stream stored it.
    pub at: Timestamp,
}

/// Messages and receipts of one transaction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MessageBatch {
    /// Messages, in any order, doubles allowed.
    pub messages: Vec<MessageRow>,
    /// Receipts, likewise.
    pub receipts: Vec<ReceiptRow>,
    /// What could not be read.
    pub parked: Vec<ParkedRow>,
    /// The position behind all of it; none for a replay, which does not move the position.
    pub cursor: Option<Cursor>,
}

/// A session's snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionRow {
    /// The snapshot.
    pub session: Session,
}

/// A node's state.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeRow {
    /// The state.
    pub state: NodeState,
    /// When the stream stored it.
    pub seen: Timestamp,
}

/// Snapshots of one transaction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateBatch {
    /// Sessions, in any order, older ones allowed.
    pub sessions: Vec<SessionRow>,
    /// Nodes, likewise.
    pub nodes: Vec<NodeRow>,
    /// What could not be read.
    pub parked: Vec<ParkedRow>,
    /// The position behind all of it; none for a replay.
    pub cursor: Option<Cursor>,
}

/// Highest number of parked payload bytes kept for each.
const PARKED_BYTES: usize = 16 * 1024;

const SET_CURSOR: &str = "IF $cursor != NONE { UPSERT $cursor.id CONTENT $cursor RETURN NONE };";
const ADD_PARKED: &str = "IF array::len($parked) > 0 { INSERT IGNORE INTO parked $parked RETURN NONE };";

impl Store {
    /// Writes a batch of messages, receipts and parked payloads, and the position behind them.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing of the batch was written, or (if the store is away) it is not known.
    pub async fn apply_messages(&self, batch: &MessageBatch) -> Result<(), StoreError> {
        let vars = row([
            ("rows", list(batch.messages.iter().map(message_row))),
            ("heads", list(heads(&batch.messages))),
            ("receipts", list(batch.receipts.iter().map(receipt_row))),
            ("doubts", list(batch.receipts.iter().filter(|r| r.receipt.state == Delivery::NotKnown).map(receipt_row))),
            ("parked", list(batch.parked.iter().map(parked_row))),
            ("cursor", cursor_row(batch.cursor.as_ref())),
        ]);
        // Written as one text so that the shape of the transaction can be seen.
        let sql = [
            "BEGIN;",
            "IF array::len($rows) > 0 { INSERT IGNORE INTO message $rows RETURN NONE };",
            "IF array::len($heads) > 0 { INSERT IGNORE INTO head $heads RETURN NONE };",
            "FOR $h IN $heads { UPDATE $h.id SET first_seq = math::min([first_seq, $h.first_seq]), \
             last_seq = math::max([last_seq, $h.last_seq]), last_at = math::max([last_at, $h.last_at]), \
             stream_seq = math::max([stream_seq, $h.stream_seq]) RETURN NONE };",
            "IF array::len($receipts) > 0 { INSERT IGNORE INTO delivery $receipts RETURN NONE };",
            "FOR $r IN $receipts { UPDATE $r.id CONTENT $r WHERE rank < $r.rank RETURN NONE };",
            // Handed over, and nobody knows whether it arrived: that is more than that the node has it.
            "FOR $r IN $doubts { UPDATE $r.id CONTENT $r WHERE rank <= $r.rank RETURN NONE };",
            ADD_PARKED,
            SET_CURSOR,
            "COMMIT;",
        ]
        .concat();
        self.write("writing messages", &sql, vars).await.map(drop)
    }

    /// Writes a batch of sessions, nodes and parked payloads, and the position behind them. A session that has ended
    /// keeps its status, and an older snapshot changes nothing.
    ///
    /// # Errors
    /// As [`apply_messages`](Self::apply_messages).
    pub async fn apply_state(&self, batch: &StateBatch) -> Result<(), StoreError> {
        let vars = row([
            ("rows", list(batch.sessions.iter().map(session_row))),
            ("nodes", list(batch.nodes.iter().map(node_row))),
            ("parked", list(batch.parked.iter().map(parked_row))),
            ("cursor", cursor_row(batch.cursor.as_ref())),
        ]);
        let sql = [
            "BEGIN;",
            "IF array::len($rows) > 0 { INSERT IGNORE INTO session $rows RETURN NONE };",
            "FOR $r IN $rows { UPDATE $r.id CONTENT $r WHERE rev < $r.rev \
             AND (active OR status = $r.status) RETURN NONE };",
            "IF array::len($nodes) > 0 { INSERT IGNORE INTO node $nodes RETURN NONE };",
            "FOR $n IN $nodes { UPDATE $n.id CONTENT $n WHERE seen < $n.seen RETURN NONE };",
            ADD_PARKED,
            SET_CURSOR,
            "COMMIT;",
        ]
        .concat();
        self.write("writing sessions and nodes", &sql, vars).await.map(drop)
    }

    /// Keeps payloads that could not be read, of a stream that has no batches of its own.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn park(&self, parked: &[ParkedRow]) -> Result<(), StoreError> {
        if parked.is_empty() {
            return Ok(());
        }
        let batch = MessageBatch { parked: parked.to_vec(), ..MessageBatch::default() };
        self.apply_messages(&batch).await
    }

    /// How far a stream of a workspace, or of the hub's own, has been read; none if never.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn cursor(&self, workspace: Option<&WorkspaceId>, stream: &str) -> Result<Option<Cursor>, StoreError> {
        // Hubs that served one workspace wrote the position without its name. Whose it was tells `created`.
        let vars = row([("id", cursor_id(workspace, stream)), ("old", cursor_id(None, stream))]);
        let sql = "SELECT * FROM $id; SELECT * FROM $old;";
        let rows = self.read("reading the position in a stream", sql, vars).await?;
        let Some(found) = rows.into_iter().flatten().next() else { return Ok(None) };
        let mut reader = Reader::new("cursor", found);
        let (created, seq) = (reader.text("created")?, reader.number("seq")?);
        Ok(Some(Cursor { workspace: workspace.cloned(), stream: stream.to_owned(), created, seq }))
    }

    /// The workspace and node that each of these sessions belongs to, as far as the store knows: those whose message or
    /// snapshot came first. What others say of it is not believed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn owners(
        &self,
        sessions: &[SessionId],
    ) -> Result<HashMap<SessionId, (WorkspaceId, NodeId)>, StoreError> {
        let ids = |table: &'static str| list(sessions.iter().map(move |s| id1(table, s.as_str())));
        let vars = row([("heads", ids("head")), ("sessions", ids("session"))]);
        let sql = "SELECT id, workspace, node FROM $heads; SELECT id, workspace, node FROM $sessions;";
        let mut owners = HashMap::new();
        for found in self.read("reading whose sessions these are", sql, vars).await?.into_iter().flatten() {
            let mut reader = Reader::new("session", found);
            let owner = (reader.parsed("workspace")?, reader.parsed("node")?);
            let key = reader.key()?;
            let id = SessionId::new(&key).map_err(|e| StoreError::Form { table: "session", detail: e.to_string() })?;
            owners.insert(id, owner);
        }
        Ok(owners)
    }
}

fn message_row(from: &MessageRow) -> Value {
    let m = &from.message;
    let mut fields = row([
        ("id", id2("message", m.session_id.as_str(), number(m.seq))),
        ("messageId", text(m.message_id.as_str())),
        ("role", text(m.role.as_str())),
        ("kind", text(m.kind.as_str())),
        ("content", text(&m.content)),
        ("at", time(m.timestamp)),
        ("stream_seq", number(from.stream_seq)),
    ]);
    if !m.metadata.is_empty() {
        fields.insert("metadata", json(m.metadata.clone().into()));
    }
    Value::Object(fields)
}

/// One row per session of what its messages add up to.
fn heads(messages: &[MessageRow]) -> Vec<Value> {
    struct Sum<'a> {
        from: &'a MessageRow,
        first: u64,
        last: u64,
        at: Timestamp,
        stream_seq: u64,
    }
    let mut sums: BTreeMap<&SessionId, Sum<'_>> = BTreeMap::new();
    for from in messages {
        let m = &from.message;
        let new = Sum { from, first: m.seq, last: m.seq, at: m.timestamp, stream_seq: from.stream_seq };
        let sum = sums.entry(&m.session_id).or_insert(new);
        sum.first = sum.first.min(m.seq);
        sum.last = sum.last.max(m.seq);
        sum.at = sum.at.max(m.timestamp);
        sum.stream_seq = sum.stream_seq.max(from.stream_seq);
    }
    let fields = |(id, sum): (&SessionId, Sum<'_>)| {
        Value::Object(row([
            ("id", id1("head", id.as_str())),
            ("workspace", text(sum.from.workspace.as_str())),
            ("node", text(sum.from.node.as_str())),
            ("first_seq", number(sum.first)),
            ("last_seq", number(sum.last)),
            ("last_at", time(sum.at)),
            ("stream_seq", number(sum.stream_seq)),
        ]))
    };
    sums.into_iter().map(fields).collect()
}

fn receipt_row(from: &ReceiptRow) -> Value {
    let r = &from.receipt;
    Value::Object(row([
        ("id", id2("delivery", r.session_id.as_str(), text(r.message_id.as_str()))),
        ("rank", number(rank(&r.state).into())),
        ("receipt", document(r)),
    ]))
}

/// What nobody knows of a message stands beside `delivered`, behind which it comes and before all that is known then.
fn rank(state: &Delivery) -> u8 {
    if *state == Delivery::NotKnown { Delivery::Delivered.rank() } else { state.rank() }
}

fn session_row(from: &SessionRow) -> Value {
    let s = &from.session;
    Value::Object(row([
        ("id", id1("session", s.session_id.as_str())),
        ("workspace", text(s.workspace.as_str())),
        ("node", text(s.node.as_str())),
        ("provider", text(s.provider.as_str())),
        ("status", text(s.status.as_str())),
        ("active", Value::Bool(!s.status.is_terminal())),
        ("parent", optional(s.parent_session_id.as_ref().map(SessionId::as_str))),
        ("rev", number(s.rev)),
        ("snapshot", document(s)),
    ]))
}

fn node_row(from: &NodeRow) -> Value {
    let n = &from.state;
    Value::Object(row([
        ("id", id2("node", n.workspace.as_str(), text(n.node.as_str()))),
        ("seen", time(from.seen)),
        ("state", document(n)),
    ]))
}

fn parked_row(from: &ParkedRow) -> Value {
    let kept = from.payload.iter().copied().take(PARKED_BYTES).collect::<Vec<u8>>();
    Value::Object(row([
        ("id", id2("parked", &format!("{}.{}", from.workspace, from.stream), number(from.seq))),
        ("workspace", text(from.workspace.as_str())),
        ("stream", text(&from.stream)),
        ("seq", number(from.seq)),
        ("subject", text(&from.subject)),
        ("reason", text(&from.reason)),
        ("size", number(from.size)),
        ("payload", Value::Bytes(Bytes::from(kept))),
        ("at", time(from.at)),
    ]))
}

pub(crate) fn cursor_row(cursor: Option<&Cursor>) -> Value {
    let Some(cursor) = cursor else { return Value::None };
    Value::Object(Row::from_iter([
        ("id".to_owned(), cursor_id(cursor.workspace.as_ref(), &cursor.stream)),
        ("created".to_owned(), text(&cursor.created)),
        ("seq".to_owned(), number(cursor.seq)),
    ]))
}

fn cursor_id(workspace: Option<&WorkspaceId>, stream: &str) -> Value {
    match workspace {
        Some(workspace) => id2("cursor", workspace.as_str(), text(stream)),
        None => id1("cursor", stream),
    }
}
