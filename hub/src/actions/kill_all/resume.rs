//! What the audit log says of kill-alls, and how a hub that starts goes on with them.
//!
//! ```text
//! intent, and nothing behind it ─► killAllResumed: what is known of each session; all others are pending
//! outcome, or that, pending ─────► once more, as they stand
//! completed ─────────────────────► a receipt to be asked for
//! ```
//!
//! Laws:
//! 1. The intent names every session before the first one is killed: a hub that dies in between leaves none out.
//! 2. What was begun and is not known is begun again: a session that has ended meanwhile is found ended.
//! 3. The lease counts from the begin. What it does not cover any more is told as expired.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bus_schema::{AuditPhase, AuditRow, EndReport, NodeId, Operator, Session, SessionId, Timestamp, UserId};
use hub_store::{AuditFilter, Store};
use serde::{Deserialize, Serialize};

use super::{KillAll, KillAllError, KillResult, Order, Who};
use crate::audit::{Deed, DeedResult};
use crate::clock;

/// Rows of the audit log read at once.
const PAGE: u64 = 500;
/// How long a hub that starts waits until its copy of the audit log has what the bus has.
const COPIED_WITHIN: Duration = Duration::from_secs(10);
/// How long after the end of its lease a kill-all that broke off is still told as expired.
const TOLD_FOR_MS: i64 = 24 * 3_600_000;

/// A session in an intent.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    session_id: SessionId,
    node: NodeId,
}

/// The sessions that a kill-all is about.
pub(super) fn named<'a>(sessions: impl Iterator<Item = &'a Session>) -> serde_json::Value {
    let named = |s: &Session| Named { session_id: s.session_id.clone(), node: s.node.clone() };
    serde_json::to_value(sessions.map(named).collect::<Vec<_>>()).unwrap_or_default()
}

impl KillAll {
    /// Takes up from the audit log what a hub before this one left pending or had not begun, and the receipts of the
    /// last lease.
    pub(super) async fn recover(&self) -> Result<(), KillAllError> {
        let (store, workspace): (&Store, _) = (&self.actions.store, self.actions.bus.workspace());
        let now = clock::now();
        let since = now.plus_millis(-i64::try_from(self.lease.as_millis()).unwrap_or(0) - TOLD_FOR_MS);
        if tokio::time::timeout(COPIED_WITHIN, self.actions.audit.wait_copied()).await.is_err() {
            tracing::warn!("the copy of the audit log is behind: kill-alls are taken up from what there is of it");
        }
        let (mut before, mut found) = (None, Found::default());
        loop {
            let (page, more) = store.audit(workspace, &AuditFilter::default(), before, PAGE).await?;
            before = page.last().map(|row| row.n);
            let is_old = page.last().is_none_or(|row| row.timestamp < since);
            page.iter().for_each(|row| found.take(row));
            if is_old || !more {
                break;
            }
        }
        for (id, mut order) in found.orders {
            if self.orders().contains_key(&id) || !(order.is_pending() || now < order.lease_until) {
                continue;
            }
            if let Some(begun) = found.broken_off.get(&id) {
                // Of this hub itself: it is under way.
                if *begun >= self.since {
                    continue;
                }
                let deed = Deed::new("killAllResumed", order.who.actor.clone(), order.who.request_id.clone());
                self.actions.audit.note(deed.with("killAll", id.as_str()), told(&order)).await?;
                order.is_told = !order.is_pending();
            }
            self.orders().insert(id, order);
        }
        Ok(())
    }
}

/// What rows tell of kill-alls, read from the newest one back.
#[derive(Default)]
struct Found {
    orders: BTreeMap<String, Order>,
    /// Kills that belong to one, by its id: those whose end is known.
    kills: BTreeMap<String, Vec<KillResult>>,
    /// Those whose hub told nothing of their end, with when they were begun.
    broken_off: BTreeMap<String, Timestamp>,
}

impl Found {
    fn take(&mut self, row: &AuditRow) {
        let of = row.metadata.get("killAll").and_then(|id| id.as_str());
        let id = of.unwrap_or(&row.action_id).to_owned();
        let is_outcome = row.phase == AuditPhase::Outcome;
        if let (Some(_), true, "kill") = (of, is_outcome, row.action.as_str()) {
            self.kills.entry(id).or_default().extend(killed(row));
        } else if row.metadata.contains_key("leaseUntil") && !self.orders.contains_key(&id) {
            // The newest row of each tells all: its completion, its outcome, or that it was taken up.
            let order = if is_outcome { order_of(row) } else { self.begun(&id, row) };
            let Some(order) = order else { return };
            if !is_outcome {
                self.broken_off.insert(id.clone(), row.timestamp);
            }
            self.orders.insert(id, order);
        }
    }

    /// The order that an intent began; all rows behind it were read.
    fn begun(&mut self, id: &str, row: &AuditRow) -> Option<Order> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Begun {
            scope: String,
            lease_until: Timestamp,
            sessions: Vec<Named>,
        }
        let begun: Begun = serde_json::from_value(serde_json::to_value(&row.metadata).ok()?).ok()?;
        let pending = |Named { session_id, node }| {
            let detail = "the hub ended before it was known; the next one goes on".to_owned();
            let (outcome, report, approval_id) = ("pending".to_owned(), None, None);
            (session_id.clone(), KillResult { session_id, node, outcome, detail, report, approval_id })
        };
        let results = begun.sessions.into_iter().map(pending).collect();
        let mut order = order(row, row.timestamp, begun.scope, begun.lease_until, results)?;
        // From the oldest on, so that the last word stands.
        for result in self.kills.remove(id).into_iter().flatten().rev() {
            order.take(result);
        }
        Some(order)
    }
}

/// What the outcome of a kill proves; none if it proves nothing.
fn killed(row: &AuditRow) -> Option<KillResult> {
    let report: EndReport = serde_json::from_value(row.metadata.get("report")?.clone()).ok()?;
    let (outcome, detail) = super::proven(&report);
    let (session_id, node) = (row.session_id.clone()?, row.node.clone()?);
    Some(KillResult { session_id, node, outcome: outcome.into(), detail, report: Some(report), approval_id: None })
}

fn order(
    row: &AuditRow,
    at: Timestamp,
    scope: String,
    lease_until: Timestamp,
    results: BTreeMap<SessionId, KillResult>,
) -> Option<Order> {
    let operator = Operator { id: UserId::clone(row.user.id.as_ref()?), name: row.user.name.clone() };
    let request_id = row.request_id.clone().unwrap_or_default();
    let who = Who { actor: row.user.clone(), operator, request_id };
    let (tried, under_way) = (BTreeMap::new(), BTreeSet::new());
    let order = Order { who, at, scope, lease_until, results, tried, under_way, is_told: true };
    Some(Order { is_told: !order.is_pending(), ..order })
}

/// What the audit log is told of an order: enough to go on with it.
pub(super) fn told(order: &Order) -> DeedResult {
    let all = order.results.len();
    let count = |outcome: &str| order.results.values().filter(|r| r.outcome == outcome).count();
    let done = count("killed") + count("ended");
    let result = match (done == all, count("pending")) {
        (true, _) => DeedResult::ok(),
        (false, 0) => DeedResult::not("failed", format!("{done} of {all} sessions killed")),
        (false, n) => DeedResult::not("unknown", format!("{done} of {all} sessions killed, {n} pending")),
    };
    let brief = |r: &KillResult| {
        let mut brief = serde_json::json!({"sessionId": r.session_id, "node": r.node, "outcome": r.outcome});
        if r.outcome != "killed"
            && let Some(fields) = brief.as_object_mut()
        {
            fields.insert("detail".into(), r.detail.as_str().into());
            if let Some(approval) = &r.approval_id {
                fields.insert("approvalId".into(), approval.as_str().into());
            }
        }
        brief
    };
    let results: Vec<_> = order.results.values().map(brief).collect();
    let result = result.with("results", results).with("scope", order.scope.as_str());
    result.with("leaseUntil", order.lease_until.to_string()).with("at", order.at.to_string())
}

/// The order that a row of the audit log tells of.
fn order_of(row: &AuditRow) -> Option<Order> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Told {
        at: Timestamp,
        scope: String,
        lease_until: Timestamp,
        results: Vec<Brief>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Brief {
        session_id: SessionId,
        node: NodeId,
        outcome: String,
        #[serde(default)]
        detail: String,
        approval_id: Option<String>,
    }
    let told: Told = serde_json::from_value(serde_json::to_value(&row.metadata).ok()?).ok()?;
    let results = told.results.into_iter().map(|brief| {
        let Brief { session_id, node, outcome, detail, approval_id } = brief;
        (session_id.clone(), KillResult { session_id, node, outcome, detail, report: None, approval_id })
    });
    order(row, told.at, told.scope, told.lease_until, results.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const S1: &str = "01JD8Z2V9Q0000000000000001";
    const S2: &str = "01JD8Z2V9Q0000000000000002";

    fn row(phase: &str, action: &str, action_id: &str, session: Option<&str>, metadata: Value) -> AuditRow {
        serde_json::from_value(json!({
            "n": 1, "workspace": "default", "timestamp": "2026-11-22T20:00:00Z", "actionId": action_id, "phase": phase,
            "action": action, "user": {"id": "u1", "name": "Ada"}, "result": "ok", "requestId": "r",
            "sessionId": session, "node": session.map(|_| "n1"), "metadata": metadata,
        }))
        .unwrap()
    }

    fn intent() -> AuditRow {
        let sessions = json!([{"sessionId": S1, "node": "n1"}, {"sessionId": S2, "node": "n1"}]);
        let facts = json!({"scope": "all", "leaseUntil": "2026-11-22T20:15:00Z", "sessions": sessions});
        row("intent", "killAll", "a", None, facts)
    }

    fn kill_of(session: &str) -> AuditRow {
        let report = json!({"containment": "cgroup", "steps": [], "ended": [{"pid": 7, "name": "x"}], "survivors": []});
        row("outcome", "kill", "k", Some(session), json!({"killAll": "a", "report": report}))
    }

    fn outcomes(order: &Order) -> Vec<&str> {
        order.results.values().map(|r| r.outcome.as_str()).collect()
    }

    #[test]
    fn an_intent_without_an_end_is_taken_up_with_what_is_known_of_each() {
        let mut found = Found::default();
        // The newest first; the other kill was begun, and what became of it is not known.
        found.take(&row("intent", "kill", "l", Some(S2), json!({"killAll": "a"})));
        found.take(&kill_of(S1));
        found.take(&intent());
        let order = &found.orders["a"];
        assert_eq!(outcomes(order), ["killed", "pending"]);
        assert_eq!(order.results.values().next().unwrap().report.as_ref().unwrap().ended[0].pid, 7);
        assert_eq!((order.lease_until.to_string().as_str(), order.is_told), ("2026-11-22T20:15:00.000Z", false));
        assert!(found.broken_off.contains_key("a"));
        // Once that was said, the row that says it is what counts.
        let taken_up = row("outcome", "killAllResumed", "b", None, {
            let mut facts = serde_json::to_value(told(order).metadata).unwrap();
            facts["killAll"] = "a".into();
            facts
        });
        let mut found = Found::default();
        [&taken_up, &kill_of(S1), &intent()].into_iter().for_each(|row| found.take(row));
        assert_eq!((outcomes(&found.orders["a"]), found.broken_off.len()), (vec!["killed", "pending"], 0));
    }

    #[test]
    fn an_order_is_the_same_after_the_audit_log() {
        let mut found = Found::default();
        found.take(&intent());
        let mut order = found.orders.remove("a").unwrap();
        order.results.values_mut().for_each(|result| result.detail = "away".into());
        let again =
            order_of(&row("outcome", "killAll", "a", None, serde_json::to_value(told(&order).metadata).unwrap()));
        let again = again.unwrap();
        assert_eq!(again.receipt("a"), order.receipt("a"));
        assert!(again.is_pending() && !again.is_told);
    }
}
