//! Brings what is set up to the nodes: whenever it changes, a node appears, or a node has something else.
//!
//! ```text
//! records of a node ─► number (the largest among them) ─► node has a smaller one? ─► open, seal, send ─► it tells its own
//! ```
//!
//! Laws:
//! 1. The number of a node's settings is the largest of all records that ever were on it, deleted and moved ones too:
//!    it grows with each change, over restarts, replays and hubs, since the journal makes record numbers grow.
//! 2. It is done when the node says so in its state, not when it has answered.
//! 3. What cannot be opened is not left out: the node keeps what it has until somebody mends it.
//! 4. A node that refuses or is silent keeps no other one waiting.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Duration;

use bus_schema::{Connection, NodeId, NodeSettings, Timestamp};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use hub_store::{AgentProvider, AgentProviderRow};
use rand::Rng;
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{AgentProviderError, AgentProviders, describe, seal_for};
use crate::actions::ActionError;
use crate::audit::{Deed, DeedResult};
use crate::bus::CommandError;
use crate::live::fleet::NodeView;
use crate::supervisor::chain;

/// How often nodes are compared with what they should have.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a node that has taken settings may need to say so, before they are sent again.
const TELLS_WITHIN: Duration = Duration::from_secs(3);
/// First and longest pause after a failure, in milliseconds.
const BACKOFF_MS: (u64, u64) = (1_000, 30_000);

/// Whether a node has what is set up for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum DeliveryState {
    /// The node has this revision.
    Applied,
    /// On its way, or the node is away.
    Pending,
    /// The node is too old to take it.
    Upgrade,
    /// It cannot be sent, or the node does not take it; it is tried again.
    Failed,
}

/// Whether a node has what is set up for it, and if not, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// For programs.
    pub state: DeliveryState,
    /// For people.
    pub detail: Option<String>,
}

/// The last attempt to bring a node its settings.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    rev: u64,
    /// A node that was started again may have lost them.
    started_at: Timestamp,
    under_way: bool,
    failures: u32,
    error: Option<String>,
    again_at: Instant,
}

struct Sent {
    node: NodeId,
    rev: u64,
    result: Result<(), ActionError>,
}

/// What a node should have: the largest number among the records that ever were on it; 0 for none.
fn wanted(all: &[AgentProviderRow], node: &NodeId) -> u64 {
    all.iter().filter(|row| row.body.nodes.contains(node)).map(|row| row.rev).max().unwrap_or(0)
}

/// Whether a record's node has it.
pub(super) fn state(
    row: &AgentProviderRow,
    all: &[AgentProviderRow],
    node: Option<&NodeView>,
    attempt: Option<&Attempt>,
) -> Delivery {
    let (id, told) = (&row.body.node, |state, text: String| Delivery { state, detail: Some(text) });
    let away = || told(DeliveryState::Pending, format!("node {id} is away; it is told when it is back"));
    let Some(view) = node else { return away() };
    let has = view.state.settings_rev;
    if has > wanted(all, id) {
        let text = format!("node {id} has newer settings than the hub knows; save this once more to send it");
        return told(DeliveryState::Pending, text);
    }
    if has >= row.rev {
        return Delivery { state: DeliveryState::Applied, detail: None };
    }
    if !view.online {
        return away();
    }
    if view.state.seal_key.is_none() {
        let text = format!("node {id} runs mosaic-node {}, which takes no settings; upgrade it", view.state.version);
        return told(DeliveryState::Upgrade, text);
    }
    match attempt.and_then(|attempt| attempt.error.clone()) {
        Some(error) => told(DeliveryState::Failed, error),
        None => Delivery { state: DeliveryState::Pending, detail: None },
    }
}

impl AgentProviders {
    /// Brings settings to nodes until it is stopped or something breaks.
    ///
    /// # Errors
    /// [`AgentProviderError`]; run again, it goes on.
    pub async fn run(&self, stop: &CancellationToken) -> Result<(), AgentProviderError> {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = self.journal.wait_followed() => {}
        }
        self.seal_anew().await?;
        let mut sending: FuturesUnordered<BoxFuture<'_, Sent>> = FuturesUnordered::new();
        // No attempt of a run before is under way any more.
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let (mut rows, mut known) = (vec![], None);
        loop {
            let generation = self.journal.generation();
            if known != Some(generation) {
                rows = self.store.agent_providers(&self.workspace).await?;
                known = Some(generation);
            }
            for (node, rev, sealed) in self.due(&rows) {
                sending.push(Box::pin(async move {
                    let result = self.send_settings(node.clone(), sealed).await.map(drop);
                    Sent { node, rev, result }
                }));
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.changed.notified() => {}
                Some(sent) = sending.next(), if !sending.is_empty() => self.note(sent),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// What is to be sent now, sealed, and noted as under way.
    fn due(&self, rows: &[AgentProviderRow]) -> Vec<(NodeId, u64, Vec<u8>)> {
        let nodes: BTreeSet<&NodeId> = rows.iter().flat_map(|row| &row.body.nodes).collect();
        let mut due = vec![];
        for id in nodes {
            let rev = wanted(rows, id);
            let Some(view) = self.live.fleet().node(id) else { continue };
            let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
            if !view.online || view.state.settings_rev >= rev {
                if attempts.get(id).is_some_and(|attempt| !attempt.under_way) {
                    attempts.remove(id);
                }
                continue;
            }
            let Some(key) = view.state.seal_key else { continue };
            let (now, started_at) = (Instant::now(), view.state.started_at);
            let before = attempts.get(id).filter(|a| a.rev == rev && a.started_at == started_at);
            if before.is_some_and(|a| a.again_at > now) || attempts.get(id).is_some_and(|a| a.under_way) {
                continue;
            }
            let mut attempt = before.cloned().unwrap_or(Attempt {
                rev,
                started_at,
                under_way: false,
                failures: 0,
                error: None,
                again_at: now,
            });
            match self.sealed_for(id, &key, rev, rows) {
                Ok(sealed) => {
                    attempt.under_way = true;
                    due.push((id.clone(), rev, sealed));
                }
                Err(error) => fail(&mut attempt, id, chain(&error)),
            }
            attempts.insert(id.clone(), attempt);
        }
        due
    }

    fn sealed_for(
        &self,
        node: &NodeId,
        key: &str,
        rev: u64,
        rows: &[AgentProviderRow],
    ) -> Result<Vec<u8>, AgentProviderError> {
        let mine = rows.iter().filter(|row| !row.deleted && row.body.is_active && row.body.node == *node);
        let connections = mine.map(|row| {
            Ok(Connection {
                id: row.body.id.clone(),
                name: row.body.name.clone(),
                provider: row.body.provider.clone(),
                url: row.body.gateway_url.clone(),
                token: self.open(&row.body)?,
                is_active: true,
            })
        });
        let connections = connections.collect::<Result<Vec<_>, AgentProviderError>>()?;
        seal_for(node, key, &NodeSettings { rev, connections })
    }

    fn note(&self, sent: Sent) {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(attempt) = attempts.get_mut(&sent.node) else { return };
        attempt.under_way = false;
        match sent.result {
            Ok(()) => {
                self.count("configure", "ok");
                tracing::info!(node_id = %sent.node, rev = sent.rev, "the node has taken its settings");
                attempt.error = None;
                attempt.again_at = Instant::now() + TELLS_WITHIN;
            }
            // It has gone just now: its state will tell, and until then it is no failure to be looked at.
            Err(ActionError::Command(CommandError::NodeAway(_) | CommandError::BusAway)) => {
                self.count("configure", "unreachable");
                attempt.again_at = Instant::now() + Duration::from_millis(BACKOFF_MS.0);
            }
            Err(error) => {
                self.count("configure", "failed");
                fail(attempt, &sent.node, chain(&error));
            }
        }
    }

    /// Seals under the first key what another one sealed. Once in every run: hubs whose files differ in order would
    /// do it against each other for ever.
    async fn seal_anew(&self) -> Result<(), AgentProviderError> {
        for row in self.store.agent_providers(&self.workspace).await? {
            let AgentProviderRow { body, rev, deleted: false } = row else { continue };
            let Some(sealed) = body.sealed.as_ref().filter(|sealed| sealed.key != self.keys.first()) else { continue };
            let secret = match self.open(&body) {
                Ok(secret) => secret,
                Err(error) => {
                    tracing::error!(error = chain(&error), agent_provider = body.id, "credentials are lost for now");
                    continue;
                }
            };
            let anew = AgentProvider { sealed: self.seal(&body, Some(&secret))?, ..body.clone() };
            let mut deed = Deed::by_hub("resealAgentProvider");
            deed.node = Some(body.node.clone());
            deed.metadata = describe(&body.id, &body.name, &body.provider, &body.gateway_url);
            deed.metadata.insert("fromKey".into(), sealed.key.as_str().into());
            deed.metadata.insert("toKey".into(), self.keys.first().into());
            let intent = self.audit.intend(deed).await?;
            let put = self.journal.put_agent_provider(&self.workspace, self.newest_on_nodes(), |all| {
                // Whoever changed it meanwhile sealed it anew, or somebody does at the next start.
                let same = all.iter().any(|row| row.body.id == anew.id && row.rev == rev);
                if same { Ok((anew.clone(), false)) } else { Err(AgentProviderError::NotFound(anew.id.clone())) }
            });
            let put = put.await;
            let result = match &put {
                Ok(_) => DeedResult::ok(),
                Err(error) => DeedResult::not("failed", error.to_string()),
            };
            self.audit.conclude(intent, result).await;
            match put {
                Ok(_) => {
                    tracing::info!(agent_provider = body.id, key = self.keys.first(), "sealed under the first key")
                }
                Err(AgentProviderError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn fail(attempt: &mut Attempt, node: &NodeId, error: String) {
    if attempt.error.as_ref() != Some(&error) {
        tracing::warn!(node_id = %node, error, "settings cannot be brought to the node; trying again");
    }
    let pause = (BACKOFF_MS.0 << attempt.failures.min(10)).min(BACKOFF_MS.1);
    let pause = rand::rng().random_range(pause / 2..=pause);
    attempt.failures += 1;
    (attempt.error, attempt.again_at) = (Some(error), Instant::now() + Duration::from_millis(pause));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, rev: u64, nodes: &[&str], deleted: bool) -> AgentProviderRow {
        let nodes: Vec<_> = nodes.iter().map(|n| NodeId::new(n).unwrap()).collect();
        let body = serde_json::json!({
            "id": id, "workspace": "default", "name": id, "provider": "openclaw", "node": nodes.last(), "nodes": nodes,
            "gatewayUrl": "ws://x/", "isActive": true, "createdAt": "2026-11-22T20:00:00Z",
            "updatedAt": "2026-11-22T20:00:00Z",
        });
        AgentProviderRow { body: serde_json::from_value(body).unwrap(), rev, deleted }
    }

    fn view(rev: u64, seal_key: Option<&str>, online: bool) -> NodeView {
        let state = serde_json::json!({
            "workspace": "default", "node": "n1", "version": "0.0.9", "status": "up", "bootId": "b", "incarnation": "i",
            "host": {"hostname": "h", "os": "linux", "arch": "x"}, "startedAt": "2026-11-22T20:00:00Z",
            "timestamp": "2026-11-22T20:00:00Z", "settingsRev": rev, "sealKey": seal_key,
        });
        NodeView { state: serde_json::from_value(state).unwrap(), online, last_seen: Timestamp::from_millis(0) }
    }

    #[test]
    fn deleting_and_moving_away_make_the_number_grow_too() {
        let node = |name: &str| NodeId::new(name).unwrap();
        let before = [row("a", 5, &["n1"], false), row("b", 7, &["n2"], false)];
        assert_eq!((wanted(&before, &node("n1")), wanted(&before, &node("n2"))), (5, 7));
        let moved = [row("a", 8, &["n1", "n2"], false), row("b", 7, &["n2"], false)];
        assert_eq!((wanted(&moved, &node("n1")), wanted(&moved, &node("n2"))), (8, 8));
        let deleted = [row("a", 9, &["n1", "n2"], true), row("b", 7, &["n2"], false)];
        assert_eq!((wanted(&deleted, &node("n1")), wanted(&deleted, &node("n3"))), (9, 0));
    }

    #[test]
    fn the_state_says_what_is_so_and_what_to_do() {
        let all = [row("a", 5, &["n1"], false), row("b", 7, &["n1"], false)];
        let failed = Attempt {
            rev: 7,
            started_at: Timestamp::from_millis(0),
            under_way: false,
            failures: 1,
            error: Some("it does not".into()),
            again_at: Instant::now(),
        };
        let of = |view: Option<NodeView>, attempt| {
            let told = state(&all[1], &all, view.as_ref(), attempt);
            (told.state, told.detail.unwrap_or_default())
        };
        assert_eq!(of(Some(view(7, Some("X"), true)), None), (DeliveryState::Applied, String::new()));
        assert_eq!(of(Some(view(7, Some("X"), false)), None).0, DeliveryState::Applied, "it has it on disk");
        assert_eq!(of(Some(view(5, Some("X"), true)), None), (DeliveryState::Pending, String::new()));
        for (found, state, text) in [
            (of(None, None), DeliveryState::Pending, "away"),
            (of(Some(view(5, Some("X"), false)), None), DeliveryState::Pending, "away"),
            (of(Some(view(5, None, true)), None), DeliveryState::Upgrade, "0.0.9"),
            (of(Some(view(5, Some("X"), true)), Some(&failed)), DeliveryState::Failed, "it does not"),
            (of(Some(view(8, Some("X"), true)), None), DeliveryState::Pending, "newer settings"),
        ] {
            assert!(found.0 == state && found.1.contains(text), "{found:?}");
        }
        assert_eq!(state(&all[0], &all, Some(&view(5, Some("X"), true)), None).state, DeliveryState::Applied);
    }
}
