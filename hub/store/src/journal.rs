//! The hub's own records: people, their roles, their sign-ins, tokens and invitations, their layouts, and what is set
//! up for runtimes. People are read in [`people`], what concerns control in [`control`].
//!
//! A record is written whole, with a number that grows ([`Record::rev`]); the higher number wins, at write and at
//! replay, by the same code ([`Store::apply_records`]). A record that was deleted stays as a row without content, so
//! that a replay cannot bring it back.

use bus_schema::{NodeId, Operator, ProviderName, SessionId, Timestamp, UserId, WorkspaceId};
use serde::{Deserialize, Serialize};
use surrealdb::types::Value;

use crate::control::{
    APPROVAL, Approval, FOUR_EYES, FourEyes, WRITER, Writer, approval_row, four_eyes_row, writer_row,
};
use crate::db::Store;
use crate::error::StoreError;
use crate::ingest::{Cursor, cursor_row};
use crate::retention::hold_id;
use crate::value::{Reader, Row, document, id1, id2, json, list, number, row, text, time};

/// One record of the hub's own, as it stands in its journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Grows with every change of the record.
    pub rev: u64,
    /// True if it was taken away.
    #[serde(default)]
    pub deleted: bool,
    /// What it is.
    pub body: RecordBody,
}

/// What a record is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum RecordBody {
    /// A person.
    User(User),
    /// A person's role in a workspace.
    Membership(Membership),
    /// A person's signed-in browser.
    SignIn(SignIn),
    /// A person's panels.
    Layout(Layout),
    /// How a runtime is reached.
    AgentProvider(AgentProvider),
    /// What lets a script in.
    ApiToken(ApiToken),
    /// What lets a new person in, once.
    Invitation(Invitation),
    /// How long messages are kept.
    Retention(RetentionPolicy),
    /// A session whose messages are kept whatever their age.
    Hold(Hold),
    /// Who writes on a terminal.
    Writer(Writer),
    /// A session for which four eyes are needed.
    FourEyes(FourEyes),
    /// What one person has asked for and a second one decides.
    Approval(Box<Approval>),
}

/// A person.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// For ever.
    pub id: UserId,
    /// Lower case, unique.
    pub email: String,
    /// For people.
    pub name: String,
    /// Argon2id hash in PHC form; empty for a person who has none and signs in elsewhere.
    pub password: String,
    /// Who they are at sign-in services: issuer, a space, and the subject there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identities: Vec<String>,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("id", &self.id).field("email", &self.email).finish_non_exhaustive()
    }
}

/// A person's role in a workspace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Membership {
    /// Where.
    pub workspace: WorkspaceId,
    /// Who.
    pub user: UserId,
    /// `admin`, `operator` or `observer`.
    pub role: String,
    /// True while an admin keeps them out.
    #[serde(default)]
    pub disabled: bool,
}

/// A signed-in browser.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignIn {
    /// SHA-256 of the cookie's value, in hex: who reads the store cannot sign in with it.
    pub token_hash: String,
    /// Who.
    pub user: UserId,
    /// Since when.
    pub created: Timestamp,
    /// Until when.
    pub expires: Timestamp,
    /// What the browser says it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Where it signed in from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// What lets a script in, in the name of a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiToken {
    /// SHA-256 of the token, in hex.
    pub token_hash: String,
    /// Where.
    pub workspace: WorkspaceId,
    /// Whose.
    pub user: UserId,
    /// What it is for.
    pub name: String,
    /// The most it may do: `admin`, `operator` or `observer`; never more than its person may.
    pub role: String,
    /// The only sessions it may touch; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<Vec<SessionId>>,
    /// Since when.
    pub created: Timestamp,
    /// Until when.
    pub expires: Timestamp,
    /// When it was used last, to the hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<Timestamp>,
}

/// What lets a new person in, once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Invitation {
    /// SHA-256 of the token in its link, in hex.
    pub token_hash: String,
    /// Where.
    pub workspace: WorkspaceId,
    /// Who is invited, in lower case.
    pub email: String,
    /// As what.
    pub role: String,
    /// Who invited.
    pub by: UserId,
    /// Since when.
    pub created: Timestamp,
    /// Until when.
    pub expires: Timestamp,
}

/// A person's panels in a workspace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Layout {
    /// Whose.
    pub user: UserId,
    /// Where.
    pub workspace: WorkspaceId,
    /// What the page wants to find again.
    pub document: serde_json::Value,
}

/// How a runtime of a node is reached. A record that was deleted keeps its id and [`nodes`](Self::nodes) only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentProvider {
    /// For ever.
    pub id: String,
    /// Where.
    pub workspace: WorkspaceId,
    /// For people; unique in its workspace.
    pub name: String,
    /// The runtime.
    pub provider: ProviderName,
    /// The node that runs it.
    pub node: NodeId,
    /// Where it is. Never with a token in it.
    pub gateway_url: String,
    /// False: it is kept and not used.
    pub is_active: bool,
    /// What lets us in, sealed under a key that is not here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Sealed>,
    /// Every node it ever was on: what a node is told changes with each of these records.
    #[serde(default)]
    pub nodes: Vec<NodeId>,
    /// Since when it is kept.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
}

/// How long the messages of a workspace are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetentionPolicy {
    /// Where.
    pub workspace: WorkspaceId,
    /// In days.
    pub message_days: u64,
}

/// A session whose messages are kept whatever their age. Let go, the record is deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
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

/// A text that only the owner of a key can read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sealed {
    /// Name of the key.
    pub key: String,
    /// Nonce and ciphertext, in base64.
    pub text: String,
}

/// A record of [`AgentProvider`] as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentProviderRow {
    /// What it says.
    pub body: AgentProvider,
    /// Its number.
    pub rev: u64,
    /// True if it was taken away.
    pub deleted: bool,
}

/// The tables of all records.
const TABLES: [&str; 12] = [
    "user",
    "membership",
    "sign_in",
    "layout",
    AGENT_PROVIDERS,
    "api_token",
    "invitation",
    "retention",
    "hold",
    WRITER,
    FOUR_EYES,
    APPROVAL,
];
/// The table of [`AgentProvider`].
const AGENT_PROVIDERS: &str = "agent_provider";

impl Record {
    /// The places of all roles in a workspace, as a filter of keys.
    pub fn memberships_of(workspace: &WorkspaceId) -> (&'static str, String) {
        ("membership", format!("{workspace}.*"))
    }

    /// The places of all records of [`AgentProvider`] in a workspace, as a filter of keys.
    pub fn agent_providers_of(workspace: &WorkspaceId) -> (&'static str, String) {
        (AGENT_PROVIDERS, format!("{workspace}.*"))
    }

    /// Where it belongs: table and key. Records with the same place replace each other.
    pub fn place(&self) -> (&'static str, String) {
        match &self.body {
            RecordBody::User(u) => ("user", u.id.to_string()),
            RecordBody::Membership(m) => ("membership", format!("{}.{}", m.workspace, m.user)),
            RecordBody::SignIn(s) => ("sign_in", s.token_hash.clone()),
            RecordBody::Layout(l) => ("layout", format!("{}.{}", l.user, l.workspace)),
            RecordBody::AgentProvider(a) => (AGENT_PROVIDERS, format!("{}.{}", a.workspace, a.id)),
            RecordBody::ApiToken(t) => ("api_token", t.token_hash.clone()),
            RecordBody::Invitation(i) => ("invitation", i.token_hash.clone()),
            RecordBody::Retention(r) => ("retention", r.workspace.to_string()),
            RecordBody::Hold(h) => ("hold", format!("{}.{}", h.workspace, h.session_id)),
            RecordBody::Writer(w) => Self::writer_of(&w.workspace, &w.session_id),
            RecordBody::FourEyes(f) => Self::four_eyes_of(&f.workspace, &f.session_id),
            RecordBody::Approval(a) => Self::approval_of(&a.workspace, &a.id),
        }
    }

    /// The place of the lease on a session's terminal.
    pub fn writer_of(workspace: &WorkspaceId, session: &SessionId) -> (&'static str, String) {
        (WRITER, format!("{workspace}.{session}"))
    }

    /// The place of a session's mark.
    pub fn four_eyes_of(workspace: &WorkspaceId, session: &SessionId) -> (&'static str, String) {
        (FOUR_EYES, format!("{workspace}.{session}"))
    }

    /// The place of a request.
    pub fn approval_of(workspace: &WorkspaceId, id: &str) -> (&'static str, String) {
        (APPROVAL, format!("{workspace}.{id}"))
    }

    fn row(&self) -> Value {
        let mut fields = match &self.body {
            RecordBody::User(u) => row([
                ("id", id1("user", u.id.as_str())),
                ("email", text(&u.email)),
                ("name", text(&u.name)),
                ("password", text(&u.password)),
                ("identities", json(serde_json::json!(u.identities))),
            ]),
            RecordBody::Membership(m) => row([
                ("id", membership_id(&m.workspace, &m.user)),
                ("workspace", text(m.workspace.as_str())),
                ("user", text(m.user.as_str())),
                ("role", text(&m.role)),
                ("disabled", Value::Bool(m.disabled)),
            ]),
            RecordBody::SignIn(s) => row([
                ("id", id1("sign_in", &s.token_hash)),
                ("user", text(s.user.as_str())),
                ("created", time(s.created)),
                ("expires", time(s.expires)),
                ("record", document(s)),
            ]),
            RecordBody::ApiToken(t) => row([
                ("id", id1("api_token", &t.token_hash)),
                ("user", text(t.user.as_str())),
                ("expires", time(t.expires)),
                ("record", document(t)),
            ]),
            RecordBody::Invitation(i) => row([
                ("id", id1("invitation", &i.token_hash)),
                ("workspace", text(i.workspace.as_str())),
                ("expires", time(i.expires)),
                ("record", document(i)),
            ]),
            RecordBody::Layout(l) => row([
                ("id", layout_id(&l.user, &l.workspace)),
                ("document", json(serde_json::json!({ "value": l.document }))),
            ]),
            RecordBody::AgentProvider(a) => row([
                ("id", id2(AGENT_PROVIDERS, a.workspace.as_str(), text(&a.id))),
                ("workspace", text(a.workspace.as_str())),
                ("record", document(a)),
            ]),
            RecordBody::Retention(r) => {
                row([("id", id1("retention", r.workspace.as_str())), ("days", number(r.message_days))])
            }
            RecordBody::Hold(h) => {
                row([("id", hold_id(h)), ("workspace", text(h.workspace.as_str())), ("record", document(h))])
            }
            RecordBody::Writer(w) => writer_row(w),
            RecordBody::FourEyes(f) => four_eyes_row(f),
            RecordBody::Approval(a) => approval_row(a),
        };
        fields.insert("rev", number(self.rev));
        fields.insert("deleted", Value::Bool(self.deleted));
        Value::Object(fields)
    }
}

pub(crate) fn membership_id(workspace: &WorkspaceId, user: &UserId) -> Value {
    id2("membership", workspace.as_str(), text(user.as_str()))
}

fn layout_id(user: &UserId, workspace: &WorkspaceId) -> Value {
    id2("layout", user.as_str(), text(workspace.as_str()))
}

impl Store {
    /// Writes records, and the position in the journal behind them. Older ones change nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn apply_records(&self, records: &[Record], cursor: Option<&Cursor>) -> Result<(), StoreError> {
        let mut vars = row([("cursor", cursor_row(cursor))]);
        let mut sql = String::from("BEGIN;");
        for table in TABLES {
            let rows = records.iter().filter(|r| r.place().0 == table).map(Record::row).collect::<Vec<_>>();
            if !rows.is_empty() {
                vars.insert(table, list(rows));
                sql += &format!(
                    "INSERT IGNORE INTO {table} ${table} RETURN NONE; \
                     FOR $r IN ${table} {{ UPDATE $r.id CONTENT $r WHERE rev < $r.rev RETURN NONE }};"
                );
            }
        }
        sql += "IF $cursor != NONE { UPSERT $cursor.id CONTENT $cursor RETURN NONE }; COMMIT;";
        self.write("writing the hub's own records", &sql, vars).await.map(drop)
    }

    pub(crate) async fn record(&self, table: &'static str, id: Value) -> Result<Option<(Reader, u64)>, StoreError> {
        let rows = self.read("reading a record", "SELECT * OMIT id FROM $id", row([("id", id)])).await?;
        let Some(found) = rows.into_iter().flatten().next() else { return Ok(None) };
        present(table, found)
    }

    /// A person's panels, with the record's number; none if they never saved any.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn layout(
        &self,
        user: &UserId,
        workspace: &WorkspaceId,
    ) -> Result<Option<(serde_json::Value, u64)>, StoreError> {
        let Some((mut reader, rev)) = self.record("layout", layout_id(user, workspace)).await? else {
            return Ok(None);
        };
        let mut document: serde_json::Value = reader.document("document")?;
        Ok(Some((document.get_mut("value").map(serde_json::Value::take).unwrap_or_default(), rev)))
    }
}

impl Store {
    /// What is set up for the runtimes of a workspace, by id, with what was deleted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn agent_providers(&self, workspace: &WorkspaceId) -> Result<Vec<AgentProviderRow>, StoreError> {
        let sql = "SELECT * OMIT id FROM agent_provider WHERE workspace = $workspace";
        let vars = row([("workspace", text(workspace.as_str()))]);
        let rows = self.read("reading what is set up for runtimes", sql, vars).await?;
        let read = |found| {
            let mut reader = Reader::new(AGENT_PROVIDERS, found);
            Ok(AgentProviderRow {
                body: reader.document("record")?,
                rev: reader.number("rev")?,
                deleted: reader.flag("deleted")?,
            })
        };
        let mut found = rows.into_iter().flatten().map(read).collect::<Result<Vec<_>, StoreError>>()?;
        found.sort_by(|a, b| a.body.id.cmp(&b.body.id));
        Ok(found)
    }
}

/// A row that was not deleted, and its number.
fn present(table: &'static str, mut found: Row) -> Result<Option<(Reader, u64)>, StoreError> {
    if found.get("deleted") == Some(&Value::Bool(true)) {
        return Ok(None);
    }
    found.remove("deleted");
    let mut reader = Reader::new(table, found);
    let rev = reader.number("rev")?;
    Ok(Some((reader, rev)))
}
