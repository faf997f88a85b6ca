//! Kill-all: every session that has not ended, on every node, also on those that are away just now.
//!
//! ```text
//! audit intent ─► each session, per node ─► killed · ended · survived · refused · failed
//!  (with all of them)                  └──► pending ─ node heard of again ─► once more, until it is known
//!                                       │          └─ the lease is over ──► expired: never carried out
//!                     the hub dies ─────┘ the next one goes on (kill_all/resume.rs)
//! ```
//!
//! Laws:
//! 1. Every session has its outcome in the receipt, and a receipt is complete when none is pending.
//! 2. What could not be reached is not forgotten: it is killed when its node is heard of again, if that is within the
//!    lease. After that it is not, and the audit log says so: nobody expects yesterday's kill today.
//! 3. The audit log is where it stands: a hub that starts goes on with what is pending there, and with what a hub before
//!    it had not begun.
//! 4. A node that is away holds up no other.

mod resume;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bus_schema::{
    Actor, CommandReply, EndReport, Metadata, NodeId, ProviderName, RefusalCode, Session, SessionId, Status, Timestamp,
};
use futures::StreamExt;
use hub_store::{Approval, StoreError, Wish};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::second::By;
use super::{ActionError, Actions, Ask, Asker, Who};
use crate::audit::{AuditError, Deed, DeedResult};
use crate::bus::CommandError;
use crate::clock;
use crate::metrics::ActionOf;
use resume::told;

/// Sessions of one node that are killed at the same time.
const KILLS_AT_ONCE: usize = 32;
/// How often it is looked whether a node is back.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Receipts at hand; those before them are in the audit log.
const RECEIPTS: usize = 64;

/// The kill-alls of a workspace.
pub struct KillAll {
    actions: Arc<Actions>,
    lease: Duration,
    /// When this hub began: what was begun before is another's.
    since: Timestamp,
    orders: Mutex<BTreeMap<String, Order>>,
    changed: Notify,
}

/// What became of one session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct KillResult {
    /// Which session.
    pub session_id: SessionId,
    /// On which node.
    pub node: NodeId,
    /// `killed`; `ended` by itself; `pending`: its node is away, and is told when it is back; `expired`: it was not
    /// back in time; `survived`, `refused`, `failed`, `unknown`; `awaitsApproval` where four eyes are needed: it lives
    /// until a second person agrees.
    pub outcome: String,
    /// In a few words.
    pub detail: String,
    /// The proof, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<EndReport>,
    /// The request that a second person has to agree to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_id: Option<String>,
}

/// What became of a kill-all.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct KillReceipt {
    /// Its id, under which it is asked for again.
    pub receipt_id: String,
    /// When it was asked for.
    pub at: Timestamp,
    /// By whom.
    pub by: Actor,
    /// The provider, or `all`.
    pub scope: String,
    /// Until when nodes that are away carry it out on their return.
    pub lease_until: Timestamp,
    /// `complete`, or `pending` while sessions are.
    pub state: &'static str,
    /// One for each session.
    pub results: Vec<KillResult>,
}

struct Order {
    who: Who,
    at: Timestamp,
    scope: String,
    lease_until: Timestamp,
    results: BTreeMap<SessionId, KillResult>,
    /// When each node was tried last. Heard of while it was tried, it is tried again: it may not have been there yet.
    tried: BTreeMap<NodeId, Timestamp>,
    under_way: BTreeSet<NodeId>,
    /// True once its completion is in the audit log, or needs not be.
    is_told: bool,
}

impl Order {
    fn is_pending(&self) -> bool {
        self.results.values().any(|r| r.outcome == "pending")
    }

    fn receipt(&self, id: &str) -> KillReceipt {
        KillReceipt {
            receipt_id: id.to_owned(),
            at: self.at,
            by: self.who.actor.clone(),
            scope: self.scope.clone(),
            lease_until: self.lease_until,
            state: if self.is_pending() { "pending" } else { "complete" },
            results: self.results.values().cloned().collect(),
        }
    }

    fn take(&mut self, result: KillResult) {
        self.results.insert(result.session_id.clone(), result);
    }
}

/// A kill-all could not be followed up.
#[derive(Debug, thiserror::Error)]
pub enum KillAllError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

impl KillAll {
    /// On what operators do; `lease` is how long nodes that are away may take to come back.
    pub fn new(actions: Arc<Actions>, lease: Duration) -> Arc<Self> {
        Arc::new(Self { actions, lease, since: clock::now(), orders: Mutex::default(), changed: Notify::new() })
    }

    fn orders(&self) -> MutexGuard<'_, BTreeMap<String, Order>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The receipts at hand, the newest first.
    pub fn receipts(&self) -> Vec<KillReceipt> {
        self.orders().iter().rev().map(|(id, order)| order.receipt(id)).collect()
    }

    /// One receipt, as it is now.
    pub fn receipt(&self, id: &str) -> Option<KillReceipt> {
        self.orders().get(id).map(|order| order.receipt(id))
    }

    /// Kills every session that has not ended, of one provider or of all.
    ///
    /// # Errors
    /// [`ActionError::Audit`]: then nothing was killed. What becomes of each session is in the receipt.
    pub async fn kill_all(
        self: &Arc<Self>,
        asker: Asker,
        provider: Option<ProviderName>,
    ) -> Result<KillReceipt, ActionError> {
        let this = Arc::clone(self);
        // What has begun is carried to its end, also if whoever asked has gone.
        let task = self.actions.tasks.spawn(async move { this.begin(&By::themselves(&asker), provider).await });
        task.await.map_err(|_| ActionError::Ending)?
    }

    async fn begin(&self, by: &By, provider: Option<ProviderName>) -> Result<KillReceipt, ActionError> {
        let who = &by.who;
        let at = clock::now();
        let lease_until = at.plus_millis(i64::try_from(self.lease.as_millis()).unwrap_or(0));
        let scope = provider.as_ref().map_or("all", |p| p.as_str()).to_owned();
        let mut nodes: BTreeMap<NodeId, Vec<Session>> = BTreeMap::new();
        for session in self.actions.live.fleet().active() {
            if provider.as_ref().is_none_or(|p| session.provider == *p) {
                nodes.entry(session.node.clone()).or_default().push(session);
            }
        }
        let deed = Deed::new("killAll", who.actor.clone(), who.request_id.clone());
        let deed = deed.with("scope", scope.as_str()).with("leaseUntil", lease_until.to_string());
        let deed = deed.with("sessions", resume::named(nodes.values().flatten()));
        let intent = self.actions.audit.intend(deed).await?;
        let id = intent.action_id().to_owned();
        let killed = nodes.into_values().map(|sessions| self.kill_on_node(&id, by, sessions));
        let results: Vec<_> = futures::future::join_all(killed).await.into_iter().flatten().collect();
        let order = Order {
            who: who.clone(),
            at,
            scope,
            lease_until,
            tried: results.iter().filter(|r| r.outcome == "pending").map(|r| (r.node.clone(), at)).collect(),
            under_way: BTreeSet::new(),
            results: results.into_iter().map(|r| (r.session_id.clone(), r)).collect(),
            is_told: true,
        };
        let order = Order { is_told: !order.is_pending(), ..order };
        let result = told(&order);
        let receipt = order.receipt(&id);
        self.keep(id, order);
        let result_word = result.result;
        self.actions.metrics.actions.get_or_create(&ActionOf { action: "killAll", result: result_word }).inc();
        self.actions.audit.conclude(intent, result).await;
        Ok(receipt)
    }

    /// Keeps an order at hand, and lets the oldest go that are complete.
    fn keep(&self, id: String, order: Order) {
        let mut orders = self.orders();
        orders.insert(id, order);
        while orders.len() > RECEIPTS
            && let Some(oldest) = orders.iter().find(|(_, o)| o.is_told).map(|(id, _)| id.clone())
        {
            orders.remove(&oldest);
        }
        self.changed.notify_one();
    }

    async fn kill_on_node(&self, id: &str, by: &By, sessions: Vec<Session>) -> Vec<KillResult> {
        let kills = sessions.into_iter().map(|session| self.kill(id, by, session));
        futures::stream::iter(kills).buffer_unordered(KILLS_AT_ONCE).collect().await
    }

    async fn kill(&self, id: &str, by: &By, session: Session) -> KillResult {
        if let Some(held) = self.held_back(by, &session).await {
            return held;
        }
        let facts = Metadata::from_iter([("killAll".to_owned(), id.into())]);
        let answer = self.actions.act_on(by, &session, &Ask::Kill, facts).await;
        // It may have ended on its way, or while nobody could say so.
        let now = self.actions.session(&session.session_id).await.ok();
        judge(&session, answer, now.as_ref())
    }

    /// What becomes of a session that is marked, so that two are needed; none if it is not.
    async fn held_back(&self, by: &By, session: &Session) -> Option<KillResult> {
        let result = |outcome: &str, detail: String| KillResult {
            session_id: session.session_id.clone(),
            node: session.node.clone(),
            outcome: outcome.into(),
            detail,
            report: None,
            approval_id: None,
        };
        let approval_of = |approval: Approval| {
            let text = "marked: it lives until a second person agrees; they have been asked";
            KillResult { approval_id: Some(approval.id), ..result("awaitsApproval", text.into()) }
        };
        let Some(asker) = &by.asker else {
            return match self.actions.control.mark_over(session).await {
                Ok(None) => None,
                Ok(Some(_)) => Some(match self.asked_for(session).await {
                    Some(approval) => approval_of(approval),
                    None => result("refused", "marked: killing it needs a second person; ask for it by itself".into()),
                }),
                // Whether it is marked is not known, so it is not touched yet.
                Err(error) => Some(result("pending", format!("nothing was done yet: {error}"))),
            };
        };
        match self.actions.ask_first(asker, session, &Ask::Kill).await {
            Ok(None) => None,
            Ok(Some(approval)) => Some(approval_of(approval)),
            Err(error) => Some(judge(session, Err(error), None)),
        }
    }

    /// The request to kill a session that waits for a second person already.
    async fn asked_for(&self, session: &Session) -> Option<Approval> {
        let known = self.actions.control.requests().await.ok()?;
        let waits = |a: &Approval| a.session_id == session.session_id && a.state == Approval::OPEN;
        known.into_iter().find(|approval| waits(approval) && matches!(approval.wish, Wish::Kill))
    }

    /// Brings kills to nodes that come back, until it is stopped.
    ///
    /// # Errors
    /// [`KillAllError`]; run again, it goes on.
    pub async fn run(&self, stop: &CancellationToken) -> Result<(), KillAllError> {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            done = self.recover() => done?,
        }
        let mut sending = futures::stream::FuturesUnordered::new();
        for order in self.orders().values_mut() {
            order.under_way.clear();
        }
        loop {
            for (id, who, node, sessions) in self.due(clock::now()) {
                sending.push(async move {
                    let results = self.kill_on_node(&id, &By::earlier(&who), sessions).await;
                    (id, node, results)
                });
            }
            self.tell_expired(clock::now()).await?;
            self.tell_complete().await?;
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.changed.notified() => {}
                Some((id, node, results)) = sending.next(), if !sending.is_empty() => {
                    if let Some(order) = self.orders().get_mut(&id) {
                        order.under_way.remove(&node);
                        results.into_iter().for_each(|result| order.take(result));
                    }
                }
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// What is to be tried now: on nodes that were heard of since they were tried, within the lease.
    fn due(&self, now: Timestamp) -> Vec<(String, Who, NodeId, Vec<Session>)> {
        let mut due = vec![];
        let fleet = self.actions.live.fleet();
        for (id, order) in self.orders().iter_mut().filter(|(_, order)| order.is_pending()) {
            let pending: Vec<_> = order.results.values().filter(|r| r.outcome == "pending").cloned().collect();
            let mut nodes: BTreeMap<NodeId, Vec<Session>> = BTreeMap::new();
            for result in pending {
                let Some(session) = fleet.session(&result.session_id) else { continue };
                // What it is told brings the proof.
                if order.under_way.contains(&session.node) {
                    continue;
                }
                if let Some((outcome, detail)) = ended(&session) {
                    let report = report_of(&session);
                    order.take(KillResult { outcome: outcome.into(), detail, report, ..result });
                } else {
                    nodes.entry(session.node.clone()).or_default().push(session);
                }
            }
            for (node, sessions) in nodes {
                let heard = fleet.node(&node).filter(|view| view.online).map(|view| view.last_seen);
                let is_back = heard.is_some_and(|at| order.tried.get(&node).is_none_or(|tried| at > *tried));
                if is_back && now < order.lease_until {
                    order.under_way.insert(node.clone());
                    order.tried.insert(node.clone(), now);
                    due.push((id.clone(), order.who.clone(), node, sessions));
                }
            }
        }
        due
    }

    /// Gives up what the lease does not cover any more: first in the audit log, then in the receipt.
    async fn tell_expired(&self, now: Timestamp) -> Result<(), KillAllError> {
        let mut over = vec![];
        for (id, order) in self.orders().iter().filter(|(_, o)| now >= o.lease_until && o.under_way.is_empty()) {
            let pending = order.results.values().filter(|r| r.outcome == "pending");
            over.extend(pending.map(|r| (id.clone(), order.who.clone(), order.lease_until, r.clone())));
        }
        for (id, who, lease_until, result) in over {
            let detail = format!("not carried out: node {} was not back by {lease_until}", result.node);
            let mut deed = Deed::new("kill", who.actor, who.request_id).on_session(result.session_id.clone());
            deed.node = Some(result.node.clone());
            self.actions.audit.note(deed.with("killAll", id.as_str()), DeedResult::not("expired", &*detail)).await?;
            if let Some(order) = self.orders().get_mut(&id) {
                order.take(KillResult { outcome: "expired".into(), detail, ..result });
            }
        }
        Ok(())
    }

    /// Writes down which kill-alls have become complete.
    async fn tell_complete(&self) -> Result<(), KillAllError> {
        let mut complete = vec![];
        for (id, order) in self.orders().iter().filter(|(_, order)| !order.is_told && !order.is_pending()) {
            let deed = Deed::new("killAllCompleted", order.who.actor.clone(), order.who.request_id.clone());
            complete.push((id.clone(), deed.with("killAll", id.as_str()), told(order)));
        }
        for (id, deed, result) in complete {
            self.actions.audit.note(deed, result).await?;
            if let Some(order) = self.orders().get_mut(&id) {
                order.is_told = true;
            }
        }
        Ok(())
    }
}

fn report_of(session: &Session) -> Option<EndReport> {
    serde_json::from_value(session.metadata.get("endReport")?.clone()).ok()
}

/// The outcome for a session that has ended.
fn ended(session: &Session) -> Option<(&'static str, String)> {
    match &session.status {
        Status::Killed => Some(("killed", session.status_reason.clone().unwrap_or_default())),
        status if status.is_terminal() => Some(("ended", format!("it is {status}"))),
        _ => None,
    }
}

/// What a report proves.
fn proven(report: &EndReport) -> (&'static str, String) {
    match report.survivors.len() {
        0 => ("killed", format!("{} processes ended", report.ended.len())),
        n => ("survived", format!("{n} processes live on")),
    }
}

/// What an answer means; `now` is the session as it is known after it.
fn judge(session: &Session, answer: Result<CommandReply, ActionError>, now: Option<&Session>) -> KillResult {
    let has_ended = || now.and_then(|now| Some((ended(now)?, report_of(now))));
    let (outcome, detail, report) = match answer {
        Ok(CommandReply { report: Some(report), .. }) => {
            let (outcome, detail) = proven(&report);
            (outcome, detail, Some(report))
        }
        Ok(CommandReply { session: Some(s), .. }) if s.status == Status::Killed => ("killed", String::new(), None),
        Ok(_) => ("unknown", "the node gave no report".into(), None),
        Err(error) => match (has_ended(), error) {
            (Some(((outcome, detail), report)), _) => (outcome, detail, report),
            (None, ActionError::Refused(refusal)) if refusal.code == RefusalCode::Busy => {
                ("pending", refusal.message, None)
            }
            (None, ActionError::Refused(refusal)) => ("refused", refusal.message, None),
            (None, ActionError::Command(e @ (CommandError::NodeAway(_) | CommandError::BusAway))) => {
                ("pending", format!("{e}; it is told when it is back"), None)
            }
            (None, ActionError::Command(e @ CommandError::Deadline { .. })) => {
                ("pending", format!("{e}; it is told again when it is heard of"), None)
            }
            (None, ActionError::Audit(e)) => ("pending", format!("nothing was done yet: {e}"), None),
            (None, error) => ("failed", error.to_string(), None),
        },
    };
    let (session_id, node) = (session.session_id.clone(), session.node.clone());
    KillResult { session_id, node, outcome: outcome.into(), detail, report, approval_id: None }
}

#[cfg(test)]
mod tests {
    use bus_schema::{EndedProcess, Outcome, Refusal};

    use super::*;

    fn session(status: &str) -> Session {
        serde_json::from_value(serde_json::json!({
            "sessionId": "01JD8Z2V9Q0000000000000001", "workspace": "default", "node": "n1", "provider": "pty",
            "status": status, "statusSource": "process", "statusSince": "2026-11-22T20:00:00Z",
            "spawnedAt": "2026-11-22T20:00:00Z", "capabilities": ["kill"], "metadata": {},
        }))
        .unwrap()
    }

    fn outcome(answer: Result<CommandReply, ActionError>, now: &str) -> String {
        judge(&session("running"), answer, Some(&session(now))).outcome
    }

    #[test]
    fn a_kill_with_survivors_is_not_called_one() {
        let reply = |survivors: Vec<EndedProcess>| {
            let mut reply = CommandReply::with(None, Outcome::Done);
            reply.report = Some(EndReport { containment: "cgroup".into(), steps: vec![], ended: vec![], survivors });
            Ok(reply)
        };
        assert_eq!(outcome(reply(vec![]), "running"), "killed");
        assert_eq!(outcome(reply(vec![EndedProcess { pid: 7, name: "x".into() }]), "killed"), "survived");
        assert_eq!(outcome(Ok(CommandReply::with(None, Outcome::Accepted)), "running"), "unknown");
    }

    #[test]
    fn what_was_not_reached_is_pending_and_what_has_ended_is_not() {
        let node = NodeId::new("n1").unwrap();
        let away = || Err(CommandError::NodeAway(node.clone()).into());
        let late = || Err(CommandError::Deadline { node: node.clone(), seconds: 12 }.into());
        assert_eq!((outcome(away(), "running"), outcome(late(), "waiting")), ("pending".into(), "pending".into()));
        assert_eq!((outcome(late(), "killed"), outcome(away(), "completed")), ("killed".into(), "ended".into()));
        let refused = |code: RefusalCode| Err(ActionError::Refused(Refusal::new(code, "no")));
        assert_eq!(outcome(refused(RefusalCode::Busy), "running"), "pending");
        assert_eq!(outcome(refused(RefusalCode::NotCapable), "running"), "refused");
        assert_eq!(outcome(refused(RefusalCode::WrongState), "killed"), "killed");
    }
}
