//! What nodes and sessions are like now, ahead of the store by the time of a transaction. Pure.
//!
//! Laws:
//! 1. Of two snapshots of a session the one with the larger `rev` counts, and an end stays an end.
//! 2. A node that was silent for too long makes its sessions stale; their status does not change.

use std::collections::{BTreeMap, VecDeque};

use bus_schema::{AWAY_AFTER_MS, NodeId, NodeState, NodeStatus, Session, SessionId, Timestamp};
use serde::Serialize;

/// Sessions that have ended and are still held, so that a late snapshot of them is recognised.
const ENDED_MAX: usize = 2_000;

/// What nodes and sessions are like now.
#[derive(Debug, Default)]
pub struct Fleet {
    sessions: BTreeMap<SessionId, Session>,
    ended: VecDeque<SessionId>,
    nodes: BTreeMap<NodeId, NodeEntry>,
}

#[derive(Debug, Clone)]
struct NodeEntry {
    state: NodeState,
    seen: Timestamp,
    online: bool,
}

/// A node as the API tells it.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeView {
    /// What it said of itself last.
    #[serde(flatten)]
    pub state: NodeState,
    /// True if it was heard of within the last 30 seconds and did not say good-bye.
    pub online: bool,
    /// When it was heard of last.
    pub last_seen: Timestamp,
}

impl Fleet {
    /// Takes a snapshot; true if it was news.
    pub fn take_session(&mut self, session: Session) -> bool {
        let id = session.session_id.clone();
        if let Some(known) = self.sessions.get(&id)
            && (session.rev <= known.rev || known.status.transition(&session.status).is_err())
        {
            return false;
        }
        if session.status.is_terminal() && !self.ended.contains(&id) {
            self.ended.push_back(id.clone());
            if self.ended.len() > ENDED_MAX
                && let Some(oldest) = self.ended.pop_front()
            {
                self.sessions.remove(&oldest);
            }
        }
        self.sessions.insert(id, session);
        true
    }

    /// Takes a node's state, heard at `seen`; true if it was not there before.
    pub fn take_node(&mut self, state: NodeState, seen: Timestamp, now: Timestamp) -> bool {
        let online = is_online(&state, seen, now);
        let before = self.nodes.get(&state.node).is_some_and(|n| n.online);
        if self.nodes.get(&state.node).is_some_and(|known| known.seen > seen) {
            return false;
        }
        self.nodes.insert(state.node.clone(), NodeEntry { state, seen, online });
        before != online
    }

    /// Takes a node as gone, until it is heard of again; true if it was there.
    pub fn part(&mut self, id: &NodeId) -> bool {
        let Some(node) = self.nodes.get_mut(id) else { return false };
        node.state.status = NodeStatus::Leaving;
        std::mem::replace(&mut node.online, false)
    }

    /// The nodes whose presence has changed with the passing of time.
    pub fn tick(&mut self, now: Timestamp) -> Vec<NodeId> {
        let mut changed = vec![];
        for (id, node) in &mut self.nodes {
            let online = is_online(&node.state, node.seen, now);
            if online != node.online {
                node.online = online;
                changed.push(id.clone());
            }
        }
        changed
    }

    /// One session, marked stale if its node is away.
    pub fn session(&self, id: &SessionId) -> Option<Session> {
        self.sessions.get(id).map(|s| self.marked(s.clone()))
    }

    /// Marks a session as stale if it has not ended and its node is away.
    pub fn marked(&self, mut session: Session) -> Session {
        (session.stale, session.stale_since) = (false, None);
        if !session.status.is_terminal() {
            match self.nodes.get(&session.node) {
                Some(node) if node.online => {}
                Some(node) => (session.stale, session.stale_since) = (true, Some(node.seen)),
                None => session.stale = true,
            }
        }
        session
    }

    /// Every session that has not ended, in the order of their ids.
    pub fn active(&self) -> impl Iterator<Item = Session> + '_ {
        self.sessions.values().filter(|s| !s.status.is_terminal()).map(|s| self.marked(s.clone()))
    }

    /// One node.
    pub fn node(&self, id: &NodeId) -> Option<NodeView> {
        self.nodes.get(id).map(view)
    }

    /// Every node that was ever heard of.
    pub fn nodes(&self) -> impl Iterator<Item = NodeView> + '_ {
        self.nodes.values().map(view)
    }
}

fn is_online(state: &NodeState, seen: Timestamp, now: Timestamp) -> bool {
    state.status != NodeStatus::Leaving && now.millis_since(seen) <= AWAY_AFTER_MS
}

fn view(node: &NodeEntry) -> NodeView {
    NodeView { state: node.state.clone(), online: node.online, last_seen: node.seen }
}

#[cfg(test)]
mod tests {
    use bus_schema::Status;

    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn session(n: u8, rev: u64, status: Status) -> Session {
        serde_json::from_value(serde_json::json!({
            "sessionId": format!("01JD8Z2V9Q00000000000000{n:02}"), "workspace": "default", "node": "n1",
            "provider": "pty", "status": status, "statusSource": "process", "statusSince": at(0), "spawnedAt": at(0),
            "rev": rev,
        }))
        .unwrap()
    }

    fn node(status: &str) -> NodeState {
        serde_json::from_value(serde_json::json!({
            "workspace": "default", "node": "n1", "version": "1", "status": status, "bootId": "b", "incarnation": "i",
            "host": {"hostname": "h", "os": "linux", "arch": "x"}, "startedAt": at(0), "timestamp": at(0),
        }))
        .unwrap()
    }

    #[test]
    fn the_newest_snapshot_counts_and_an_end_stays() {
        let mut fleet = Fleet::default();
        assert!(fleet.take_session(session(1, 2, Status::Running)));
        assert!(!fleet.take_session(session(1, 2, Status::Waiting)));
        assert!(!fleet.take_session(session(1, 1, Status::Waiting)));
        assert!(fleet.take_session(session(1, 3, Status::Killed)));
        assert!(!fleet.take_session(session(1, 4, Status::Running)));
        assert_eq!(fleet.active().count(), 0);
    }

    #[test]
    fn a_silent_node_makes_its_sessions_stale_and_no_more() {
        let mut fleet = Fleet::default();
        fleet.take_session(session(1, 1, Status::Running));
        fleet.take_session(session(2, 1, Status::Completed));
        let id = session(1, 1, Status::Running).session_id;
        assert!(fleet.session(&id).unwrap().stale, "a node that was never heard of is away");
        assert!(fleet.take_node(node("up"), at(1_000), at(1_000)));
        assert!(!fleet.session(&id).unwrap().stale);
        assert!(fleet.tick(at(31_000)).is_empty());
        assert_eq!(fleet.tick(at(31_001)).len(), 1);
        let stale = fleet.session(&id).unwrap();
        assert_eq!((stale.stale, stale.stale_since, stale.status), (true, Some(at(1_000)), Status::Running));
        let ended = session(2, 1, Status::Completed).session_id;
        assert!(!fleet.session(&ended).unwrap().stale, "what has ended is not stale");
        assert!(fleet.take_node(node("up"), at(40_000), at(40_000)));
        assert!(!fleet.session(&id).unwrap().stale);
        assert!(fleet.part(&NodeId::new("n1").unwrap()) && fleet.session(&id).unwrap().stale);
        assert!(fleet.tick(at(40_500)).is_empty(), "it stays away");
        assert!(fleet.take_node(node("up"), at(40_600), at(40_600)), "until it is heard of again");
        assert!(fleet.take_node(node("leaving"), at(41_000), at(41_000)));
        assert!(fleet.session(&id).unwrap().stale);
    }

    #[test]
    fn what_has_ended_is_forgotten_at_last() {
        let mut fleet = Fleet::default();
        for n in 0..=ENDED_MAX {
            let mut ended = session(1, 1, Status::Completed);
            ended.session_id = SessionId::new(format!("01JD8Z2V9Q000000000000{n:04}")).unwrap();
            fleet.take_session(ended);
        }
        assert_eq!(fleet.sessions.len(), ENDED_MAX);
    }
}
