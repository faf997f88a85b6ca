//! Reading sessions and nodes.

use bus_schema::{NodeState, Session, SessionId, Timestamp, WorkspaceId};

use crate::db::Store;
use crate::error::StoreError;
use crate::value::{Reader, id_range, id1, number, row, text};

/// Which sessions of a workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionFilter {
    /// Those that have not ended.
    Active,
    /// All of them.
    All,
}

/// A node's last state and when it came.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeSeen {
    /// The state.
    pub state: NodeState,
    /// When the stream stored it.
    pub seen: Timestamp,
}

impl Store {
    /// One session.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn session(&self, id: &SessionId) -> Result<Option<Session>, StoreError> {
        let vars = row([("id", id1("session", id.as_str()))]);
        let rows = self.read("reading a session", "SELECT snapshot FROM $id", vars).await?;
        rows.into_iter().flatten().next().map(|r| Reader::new("session", r).document("snapshot")).transpose()
    }

    /// Sessions of a workspace, the newest first (session ids are ULIDs, in the order of time), at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sessions(
        &self,
        workspace: &WorkspaceId,
        filter: SessionFilter,
        limit: u64,
    ) -> Result<Vec<Session>, StoreError> {
        let sql = match filter {
            SessionFilter::Active => "SELECT id, snapshot FROM session WHERE workspace = $w AND active = true",
            SessionFilter::All => "SELECT id, snapshot FROM session WHERE workspace = $w",
        };
        let vars = row([("w", text(workspace.as_str())), ("limit", number(limit))]);
        let rows = self.read("reading sessions", &format!("{sql} ORDER BY id DESC LIMIT $limit"), vars).await?;
        rows.into_iter().flatten().map(|r| Reader::new("session", r).document("snapshot")).collect()
    }

    /// Every node of a workspace that was ever heard of.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn nodes(&self, workspace: &WorkspaceId) -> Result<Vec<NodeSeen>, StoreError> {
        let sql = "SELECT state, seen FROM $range";
        let key = |last: &str| vec![text(workspace.as_str()), text(last)];
        let vars = row([("range", id_range("node", key(""), key("\u{10ffff}")))]);
        let rows = self.read("reading nodes", sql, vars).await?;
        let nodes = rows.into_iter().flatten().map(|r| {
            let mut reader = Reader::new("node", r);
            Ok(NodeSeen { state: reader.document("state")?, seen: reader.time("seen")? })
        });
        nodes.collect()
    }
}
