//! Who writes on a terminal, for which sessions four eyes are needed, and what waits for the second pair of them.
//!
//! Laws:
//! 1. These rows are for showing. What is allowed is decided by the records on the bus, which are ahead of them.
//! 2. A request that was decided stays as a row for some days; the audit log says the same for ever.

use bus_schema::{Actor, Answer, InjectMode, MessageId, NodeId, Operator, SessionId, Timestamp, UserId, WorkspaceId};
use serde::{Deserialize, Serialize};
use surrealdb::types::Value;

use crate::db::Store;
use crate::error::StoreError;
use crate::value::{Reader, Row, document, id2, row, text, time};

/// The tables of these records.
pub(crate) const WRITER: &str = "writer";
pub(crate) const FOUR_EYES: &str = "four_eyes";
pub(crate) const APPROVAL: &str = "approval";

/// Who writes on the terminal of a session. Given back, the record is deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Writer {
    /// Where.
    pub workspace: WorkspaceId,
    /// On which session's.
    pub session_id: SessionId,
    /// Who.
    pub holder: Holder,
    /// Since when.
    pub since: Timestamp,
    /// Until when, if nothing is typed.
    pub until: Timestamp,
    /// The run of the hub through which they wrote last: it is the one that sees them go.
    pub hub: String,
    /// Who agreed, where two are needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<Operator>,
}

/// Who types: a person at a browser, or one script of theirs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// The person.
    pub user: UserId,
    /// As the audit log names them.
    pub name: String,
    /// The id of the token, for a script.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

impl Holder {
    /// Whether that is the same person by the same way.
    pub fn is(&self, other: &Holder) -> bool {
        self.user == other.user && self.token == other.token
    }
}

/// A session for which four eyes are needed. Taken off, the record is deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FourEyes {
    /// Where.
    pub workspace: WorkspaceId,
    /// Which session.
    pub session_id: SessionId,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub by: Operator,
    /// Since when.
    pub since: Timestamp,
}

/// What one person has asked for and a second one decides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// For ever.
    pub id: String,
    /// Where.
    pub workspace: WorkspaceId,
    /// On which session.
    pub session_id: SessionId,
    /// On which node that was.
    pub node: NodeId,
    /// What.
    pub wish: Wish,
    /// Who asked, as commands name them.
    pub by: Operator,
    /// Who asked, as the audit log names them.
    pub actor: Actor,
    /// When.
    pub asked: Timestamp,
    /// Until when it can be decided.
    pub expires: Timestamp,
    /// `open`, then `approved` while it is carried out, then `done`, `failed` or `unknown`; or `refused`,
    /// `withdrawn`, `expired`.
    pub state: String,
    /// Who decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<Operator>,
    /// When it was changed last.
    pub at: Timestamp,
    /// Why, or what became of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Wish {
    /// To end the session at once.
    Kill,
    /// To ask it to end.
    Terminate,
    /// To send it a message.
    Inject {
        /// Its id.
        message_id: MessageId,
        /// The text.
        content: String,
        /// How it is to arrive.
        mode: InjectMode,
        /// Freeze the session first.
        pause_first: bool,
        /// The message that it is sent in the place of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_of: Option<MessageId>,
    },
    /// To answer what it asks.
    Answer {
        /// The message that asks.
        request_id: MessageId,
        /// What is answered.
        answer: Answer,
    },
    /// To write on its terminal.
    Control {
        /// Who would.
        holder: Holder,
    },
    /// That four eyes are no longer needed.
    Unmark,
}

impl Wish {
    /// The word for it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Wish::Kill => "kill",
            Wish::Terminate => "terminate",
            Wish::Inject { .. } => "inject",
            Wish::Answer { .. } => "answer",
            Wish::Control { .. } => "control",
            Wish::Unmark => "unmark",
        }
    }
}

impl Approval {
    /// The state in which it waits to be decided.
    pub const OPEN: &str = "open";
    /// The state in which it is being carried out.
    pub const APPROVED: &str = "approved";

    /// Whether anything may still become of it.
    pub fn is_pending(&self) -> bool {
        self.state == Self::OPEN || self.state == Self::APPROVED
    }
}

impl Store {
    /// The leases of a workspace that are not over at `now`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn writers(&self, workspace: &WorkspaceId, now: Timestamp) -> Result<Vec<Writer>, StoreError> {
        let sql = "SELECT record FROM writer WHERE workspace = $w AND deleted = false AND until > $now";
        let vars = row([("w", text(workspace.as_str())), ("now", time(now))]);
        records(WRITER, self.read("reading who writes on terminals", sql, vars).await?)
    }

    /// The sessions of a workspace for which four eyes are needed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn four_eyes(&self, workspace: &WorkspaceId) -> Result<Vec<FourEyes>, StoreError> {
        let sql = "SELECT record FROM four_eyes WHERE workspace = $w AND deleted = false";
        records(
            FOUR_EYES,
            self.read("reading which sessions are marked", sql, row([("w", text(workspace.as_str()))])).await?,
        )
    }

    /// Requests of a workspace that wait, or were decided since.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn approvals(&self, workspace: &WorkspaceId, since: Timestamp) -> Result<Vec<Approval>, StoreError> {
        let sql = "SELECT record FROM approval WHERE workspace = $w AND deleted = false AND (pending OR at > $since)";
        let vars = row([("w", text(workspace.as_str())), ("since", time(since))]);
        let mut found: Vec<Approval> =
            records(APPROVAL, self.read("reading what waits for a second", sql, vars).await?)?;
        found.sort_by(|a, b| a.asked.cmp(&b.asked).then_with(|| a.id.cmp(&b.id)));
        Ok(found)
    }
}

impl Store {
    /// Takes away leases and requests that were over before `before`: the bus has forgotten them by then, and the audit
    /// log has them for ever.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_controls(&self, workspace: &WorkspaceId, before: Timestamp) -> Result<(), StoreError> {
        let sql = "BEGIN; DELETE writer WHERE workspace = $w AND until < $before RETURN NONE; \
                   DELETE approval WHERE workspace = $w AND pending = false AND at < $before RETURN NONE; COMMIT;";
        let vars = row([("w", text(workspace.as_str())), ("before", time(before))]);
        self.write("forgetting leases and requests", sql, vars).await.map(drop)
    }
}

fn records<T: serde::de::DeserializeOwned>(table: &'static str, rows: Vec<Vec<Row>>) -> Result<Vec<T>, StoreError> {
    rows.into_iter().flatten().map(|found| Reader::new(table, found).document("record")).collect()
}

/// A lease as a row, without its number.
pub(crate) fn writer_row(writer: &Writer) -> Row {
    row([
        ("id", id2(WRITER, writer.workspace.as_str(), text(writer.session_id.as_str()))),
        ("workspace", text(writer.workspace.as_str())),
        ("until", time(writer.until)),
        ("record", document(writer)),
    ])
}

/// A mark as a row, without its number.
pub(crate) fn four_eyes_row(mark: &FourEyes) -> Row {
    row([
        ("id", id2(FOUR_EYES, mark.workspace.as_str(), text(mark.session_id.as_str()))),
        ("workspace", text(mark.workspace.as_str())),
        ("record", document(mark)),
    ])
}

/// A request as a row, without its number.
pub(crate) fn approval_row(approval: &Approval) -> Row {
    row([
        ("id", id2(APPROVAL, approval.workspace.as_str(), text(&approval.id))),
        ("workspace", text(approval.workspace.as_str())),
        ("pending", Value::Bool(approval.is_pending())),
        ("at", time(approval.at)),
        ("record", document(approval)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Record, RecordBody, StoreConfig, StoreLocation};

    #[tokio::test]
    async fn what_is_over_is_not_shown_and_forgotten_in_the_end() {
        let store = Store::open(&StoreConfig::new(StoreLocation::Memory)).await.unwrap().store;
        let at = Timestamp::from_millis;
        let session = "01JD8Z2V9Q0000000000000001";
        let lease: Writer = serde_json::from_value(serde_json::json!({
            "workspace": "default", "sessionId": session, "holder": {"user": "u", "name": "U"},
            "since": at(0), "until": at(60), "hub": "h",
        }))
        .unwrap();
        let approval = |id: &str, state: &str, wish: serde_json::Value| -> Approval {
            serde_json::from_value(serde_json::json!({
                "id": id, "workspace": "default", "sessionId": session, "node": "n1", "wish": wish,
                "by": {"id": "u", "name": "U"}, "actor": {"name": "U"}, "asked": at(1), "expires": at(600),
                "state": state, "at": at(50),
            }))
            .unwrap()
        };
        let inject = serde_json::json!({
            "action": "inject", "messageId": "m1", "content": "x", "mode": "queue", "pauseFirst": false,
        });
        let open = approval("A", Approval::OPEN, inject);
        let refused = approval("B", "refused", serde_json::json!({"action": "kill"}));
        let workspace = lease.workspace.clone();
        let bodies = [
            RecordBody::Writer(lease.clone()),
            RecordBody::Approval(Box::new(open.clone())),
            RecordBody::Approval(Box::new(refused.clone())),
        ];
        let records = bodies.map(|body| Record { rev: 1, deleted: false, body });
        store.apply_records(&records, None).await.unwrap();
        assert_eq!(store.writers(&workspace, at(59)).await.unwrap(), [lease]);
        assert!(store.writers(&workspace, at(60)).await.unwrap().is_empty());
        assert_eq!(store.approvals(&workspace, at(49)).await.unwrap(), [open.clone(), refused]);
        assert_eq!(store.approvals(&workspace, at(50)).await.unwrap().len(), 1, "what waits is shown");
        store.forget_controls(&workspace, at(1_000)).await.unwrap();
        assert_eq!(store.approvals(&workspace, at(0)).await.unwrap(), [open], "what waits is never forgotten");
        assert!(store.writers(&workspace, at(0)).await.unwrap().is_empty());
    }
}
