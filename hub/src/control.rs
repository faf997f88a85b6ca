//! Who may act on a session at this moment: one writer at a time on its terminal, and four eyes where it is marked.
//!
//! ```text
//! free ── first key, or take control ──► held ── a minute without a key · given back · gone ──► free
//!                                         └── somebody else takes control ──► held by them
//! ```
//!
//! Laws:
//! 1. What is allowed is decided by the records in the hub's journal on the bus, read and written there by compare and
//!    set. So it holds over any number of hubs, whatever their stores have seen yet; the store is for showing.
//! 2. Whoever types is the writer; who is not gets told who is, and nothing is typed. A key that was on its way when
//!    control changed may still arrive.
//! 3. A session is marked if it is, or if any of its ancestors is. On a marked one nobody writes without a second
//!    person's leave, and no hub decides that by itself.
//! 4. Everything here is told to whoever watches the session, and to the audit log.

mod approvals;
mod people;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bus_schema::{Operator, Session, SessionId, Timestamp, WorkspaceId};
use hub_store::{Approval, FourEyes, Holder, Record, RecordBody, Store, StoreError, Writer};
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use crate::actions::Asker;
use crate::audit::{Audit, AuditError, Deed, DeedResult};
use crate::authn::{Principal, Via, id_of};
use crate::clock;
use crate::config::LimitsConfig;
use crate::journal::{Journal, JournalError, Put};
use crate::live::Live;
pub(crate) use approvals::noted;
use people::People;
pub use people::Presence;
pub use view::{ApprovalView, ControlView, FourEyesView, WriterView};

/// A lease of which less than this part has passed is not written anew: one record for many keys.
const RENEW_PART: i64 = 4;
/// How often a lease that changed meanwhile is looked at again.
const TRIES: u32 = 4;
/// How deep the ancestors of a session are followed.
const ANCESTORS_MAX: usize = 100;
/// Longest reason of a mark or a refusal, in bytes.
pub const REASON_MAX: usize = 1_024;
/// How often the store is relieved of what is long over, and how long that must be. The journal keeps it for a day.
const FORGET_EVERY: Duration = Duration::from_secs(3_600);
const FORGET_AFTER_MS: i64 = 2 * 24 * 3_600 * 1_000;
/// The longest time that what is shown is not looked at anew.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// The shortest: what another hub has ended is in our store a moment later.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Who may act on a session at this moment.
pub struct Control {
    workspace: WorkspaceId,
    journal: Arc<Journal>,
    store: Store,
    audit: Arc<Audit>,
    live: Arc<Live>,
    /// This run of this hub.
    hub: String,
    /// How long a terminal stays somebody's after their last key.
    lease_ms: i64,
    /// How long a request can be decided.
    approval_ms: i64,
    people: Arc<People>,
    shown: RwLock<BTreeMap<SessionId, ControlView>>,
}

/// Something may not be done now, or could not be.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Somebody else writes there.
    #[error("{} has control of this terminal; take control first", .0.holder.name)]
    Held(Box<Writer>),
    /// Only who has control gives it back.
    #[error("{0} has control of this terminal, so only they give it back; you can take it")]
    NotYours(String),
    /// Two are needed.
    #[error("{0}")]
    NeedsSecond(&'static str),
    /// Whoever asked cannot be the second.
    #[error("you asked for this yourself: somebody else has to agree")]
    SamePerson,
    /// There is no such request.
    #[error("there is no request {0}")]
    NoRequest(String),
    /// It was decided, or its time is over.
    #[error("this cannot be decided any more: it is {0}")]
    Decided(String),
    /// Whoever asked may no longer act.
    #[error("{0} may not act here any more, so what they asked for is not done")]
    AskerGone(String),
    /// Nobody else could agree.
    #[error("nobody else here could agree: four eyes need a second person who is an operator or an admin")]
    NobodyElse,
    /// The mark is on an ancestor.
    #[error("the mark is on session {0}, which this one descends from")]
    Inherited(SessionId),
    /// Too much waits already.
    #[error("too many requests wait for a second person on this session; decide those first")]
    TooMany,
    /// What was asked is not possible.
    #[error("{0}")]
    Invalid(String),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The audit log cannot be written: nothing was changed.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// How somebody came to have control, for the audit log.
#[derive(Clone, Copy, Debug)]
enum How {
    Typing,
    Asking,
}

/// Who types, as leases name them.
pub fn holder(principal: &Principal) -> Holder {
    let token = match &principal.via {
        Via::SignIn { .. } => None,
        Via::Token { token_hash, .. } => Some(id_of(token_hash).to_owned()),
    };
    Holder { user: principal.user.clone(), name: principal.actor().name, token }
}

impl Control {
    /// Of one workspace.
    pub fn new(
        workspace: WorkspaceId,
        journal: Arc<Journal>,
        store: Store,
        audit: Arc<Audit>,
        live: Arc<Live>,
        limits: &LimitsConfig,
    ) -> Arc<Self> {
        let (hub, people, shown) = (Ulid::new().to_string(), Arc::default(), RwLock::default());
        let millis = |seconds: u64| i64::try_from(seconds.saturating_mul(1_000)).unwrap_or(i64::MAX / 4);
        let (lease_ms, approval_ms) = (millis(limits.control_s), millis(limits.approval_s));
        Arc::new(Self { workspace, journal, store, audit, live, hub, lease_ms, approval_ms, people, shown })
    }

    /// The mark that a session stands under: its own, or that of the nearest ancestor that has one.
    ///
    /// # Errors
    /// [`ControlError`]: then it is not known, and nothing that needs two may be done.
    pub async fn mark_over(&self, session: &Session) -> Result<Option<FourEyes>, ControlError> {
        let (mut seen, mut next) =
            (BTreeSet::new(), Some((session.session_id.clone(), session.parent_session_id.clone())));
        while let Some((id, parent)) = next {
            if let Some(mark) = self.own_mark(&id).await? {
                return Ok(Some(mark));
            }
            if !seen.insert(id) || seen.len() > ANCESTORS_MAX {
                return Ok(None);
            }
            next = match parent {
                None => None,
                Some(parent) => {
                    let above = self.above(&parent).await?;
                    Some((parent, above))
                }
            };
        }
        Ok(None)
    }

    async fn above(&self, id: &SessionId) -> Result<Option<SessionId>, ControlError> {
        if let Some(session) = self.live.fleet().session(id) {
            return Ok(session.parent_session_id);
        }
        let stored = self.store.session(id).await?.filter(|s| s.workspace == self.workspace);
        Ok(stored.and_then(|s| s.parent_session_id))
    }

    async fn own_mark(&self, id: &SessionId) -> Result<Option<FourEyes>, ControlError> {
        let found = self.journal.current(Record::four_eyes_of(&self.workspace, id)).await?;
        Ok(found.and_then(|record| match record.body {
            RecordBody::FourEyes(mark) => Some(mark),
            _ => None,
        }))
    }

    async fn lease(&self, id: &SessionId) -> Result<Option<Writer>, ControlError> {
        Ok(live_writer(self.journal.current(Record::writer_of(&self.workspace, id)).await?.as_ref(), clock::now()))
    }

    /// Before something is typed, or the size changed: whoever does it is the writer, becomes it, or is refused.
    ///
    /// # Errors
    /// [`ControlError::Held`], [`ControlError::NeedsSecond`]; the others if something is away.
    pub async fn before_typing(&self, asker: &Asker, session: &Session) -> Result<(), ControlError> {
        let (me, id) = (holder(&asker.principal), &session.session_id);
        let is_marked = self.mark_over(session).await?.is_some();
        for _ in 0..TRIES {
            match self.lease(id).await? {
                Some(lease) if !lease.holder.is(&me) => return Err(ControlError::Held(Box::new(lease))),
                Some(lease) if is_marked && lease.approved_by.is_none() => return Err(needs_control()),
                Some(lease) => {
                    let left = lease.until.as_millis() - clock::now().as_millis();
                    if left > self.lease_ms - self.lease_ms / RENEW_PART || self.renew(lease).await? {
                        return Ok(());
                    }
                }
                None if is_marked => return Err(needs_control()),
                None => {
                    if self.acquire(asker, id, How::Typing).await? {
                        return Ok(());
                    }
                }
            }
        }
        Err(JournalError::Behind.into())
    }

    /// Lengthens a lease; false if it is another's by now, or nobody's.
    async fn renew(&self, lease: Writer) -> Result<bool, ControlError> {
        let (holder, since) = (lease.holder.clone(), lease.since);
        let renewed = Writer { until: clock::now().plus_millis(self.lease_ms), hub: self.hub.clone(), ..lease };
        let same = |last: Option<&Record>| {
            live_writer(last, clock::now()).is_some_and(|w| w.holder.is(&holder) && w.since == since)
        };
        Ok(self.journal.put_if(RecordBody::Writer(renewed), false, same).await?.is_written())
    }

    /// Takes a terminal that is nobody's, or with [`How::Asking`] also somebody's; false if somebody was faster.
    async fn acquire(&self, asker: &Asker, id: &SessionId, how: How) -> Result<bool, ControlError> {
        let before = self.lease(id).await?;
        let mut deed = Deed::by(asker, "takeControl").on_session(id.clone()).with(
            "by",
            match how {
                How::Typing => "typing",
                How::Asking => "asking",
            },
        );
        if let Some(before) = &before {
            deed = deed.with("from", before.holder.name.as_str());
        }
        let intent = self.audit.intend(deed).await?;
        let lease = self.new_lease(id, holder(&asker.principal), None);
        let may = |last: Option<&Record>| matches!(how, How::Asking) || live_writer(last, clock::now()).is_none();
        let put = self.journal.put_if(RecordBody::Writer(lease), false, may).await;
        let result = match &put {
            Ok(Put::Written(_)) => DeedResult::ok(),
            Ok(Put::Kept(_)) => DeedResult::not("refused", "somebody else was faster"),
            Err(error) => DeedResult::not("failed", error.to_string()),
        };
        self.audit.conclude(intent, result).await;
        Ok(put?.is_written())
    }

    fn new_lease(&self, id: &SessionId, holder: Holder, approved_by: Option<Operator>) -> Writer {
        let (workspace, now) = (self.workspace.clone(), clock::now());
        let (until, hub) = (now.plus_millis(self.lease_ms), self.hub.clone());
        Writer { workspace, session_id: id.clone(), holder, since: now, until, hub, approved_by }
    }

    /// Takes control of a session's terminal at once, from whoever has it. The session must not be marked.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn take(&self, asker: &Asker, id: &SessionId) -> Result<(), ControlError> {
        self.acquire(asker, id, How::Asking).await.map(drop)
    }

    /// Gives control to whoever asked for it and was agreed to by a second person.
    ///
    /// # Errors
    /// [`ControlError`].
    pub(crate) async fn grant(
        &self,
        approval: &Approval,
        holder: Holder,
        second: Operator,
    ) -> Result<(), ControlError> {
        let lease = self.new_lease(&approval.session_id, holder, Some(second.clone()));
        let deed = Deed::new("takeControl", approval.actor.clone(), "")
            .on_session(approval.session_id.clone())
            .with("by", "asking")
            .with("approvalId", approval.id.as_str())
            .with("approvedBy", serde_json::to_value(&second).unwrap_or_default());
        let intent = self.audit.intend(deed).await?;
        let put = self.journal.put(RecordBody::Writer(lease), false).await;
        self.audit.conclude(intent, DeedResult::of(&put)).await;
        put?;
        Ok(())
    }

    /// Gives control back. On a marked session anybody may end anybody's: taking it away is always safe.
    ///
    /// # Errors
    /// [`ControlError::NotYours`]; the others if something is away.
    pub async fn release(&self, asker: &Asker, session: &Session) -> Result<(), ControlError> {
        let Some(lease) = self.lease(&session.session_id).await? else { return Ok(()) };
        if !lease.holder.is(&holder(&asker.principal)) && self.mark_over(session).await?.is_none() {
            return Err(ControlError::NotYours(lease.holder.name));
        }
        self.end(Deed::by(asker, "releaseControl"), lease, |_, _| true).await
    }

    async fn end(
        &self,
        deed: Deed,
        lease: Writer,
        also: impl Fn(&Writer, &Writer) -> bool,
    ) -> Result<(), ControlError> {
        let deed = deed.on_session(lease.session_id.clone()).with("of", lease.holder.name.as_str());
        let intent = self.audit.intend(deed).await?;
        let seen = lease.clone();
        let same = |last: Option<&Record>| {
            live_writer(last, clock::now()).is_some_and(|w| w.holder.is(&seen.holder) && also(&w, &seen))
        };
        let put = self.journal.put_if(RecordBody::Writer(lease), true, same).await;
        let result = match &put {
            Ok(Put::Written(_)) => DeedResult::ok(),
            Ok(Put::Kept(_)) => DeedResult::not("refused", "control changed meanwhile"),
            Err(error) => DeedResult::not("failed", error.to_string()),
        };
        self.audit.conclude(intent, result).await;
        put?;
        Ok(())
    }

    /// Marks a session: from now on it needs two. Marked already, it stays as it is.
    ///
    /// # Errors
    /// [`ControlError::NobodyElse`], [`ControlError::Invalid`]; the others if something is away.
    pub async fn mark(&self, asker: &Asker, id: &SessionId, reason: String) -> Result<FourEyes, ControlError> {
        if reason.len() > REASON_MAX || reason.trim().is_empty() {
            return Err(ControlError::Invalid(format!("a mark needs a reason, of at most {REASON_MAX} bytes")));
        }
        if !self.somebody_else(&asker.principal.user).await? {
            return Err(ControlError::NobodyElse);
        }
        let by = asker.principal.operator();
        let mark =
            FourEyes { workspace: self.workspace.clone(), session_id: id.clone(), reason, by, since: clock::now() };
        let deed = Deed::by(asker, "markFourEyes").on_session(id.clone()).with("reason", mark.reason.as_str());
        let intent = self.audit.intend(deed).await?;
        let put = self.journal.create(RecordBody::FourEyes(mark.clone())).await;
        self.audit.conclude(intent, DeedResult::of(&put)).await;
        if put? { Ok(mark) } else { Ok(self.own_mark(id).await?.unwrap_or(mark)) }
    }

    /// Hands a mark on to a session that goes on where a marked one has ended, before it is started.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn hand_on(&self, mark: &FourEyes, to: &SessionId) -> Result<(), ControlError> {
        let handed = FourEyes { session_id: to.clone(), since: clock::now(), ..mark.clone() };
        self.journal.put(RecordBody::FourEyes(handed), false).await?;
        Ok(())
    }

    /// Takes a session's own mark off. Only after a second person agreed, or where the session never came to be.
    ///
    /// # Errors
    /// [`ControlError`].
    pub(crate) async fn unmark(&self, id: &SessionId) -> Result<(), ControlError> {
        if let Some(mark) = self.own_mark(id).await? {
            self.journal.put(RecordBody::FourEyes(mark), true).await?;
        }
        Ok(())
    }

    /// Somebody watches from here; when the last of their streams has ended, what they hold is given back.
    pub fn watches(&self, principal: &Principal) -> Presence {
        People::enter(&self.people, holder(principal))
    }

    /// What is so now, for everybody to see, of every session of which there is something to say.
    pub fn shown(&self) -> Vec<ControlView> {
        self.shown.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// What everybody has been told of one session, if there is something to tell.
    pub fn shown_of(&self, id: &SessionId) -> Option<ControlView> {
        self.shown.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// What is so now of one session, as the store has it by now.
    ///
    /// # Errors
    /// [`ControlError::Store`].
    pub async fn of(&self, id: &SessionId) -> Result<ControlView, ControlError> {
        Ok(self.read().await?.remove(id).unwrap_or_else(|| ControlView::empty(id.clone())))
    }

    async fn read(&self) -> Result<BTreeMap<SessionId, ControlView>, ControlError> {
        let now = clock::now();
        Ok(view::collect(
            self.store.writers(&self.workspace, now).await?,
            self.store.four_eyes(&self.workspace).await?,
            self.store.approvals(&self.workspace, now.plus_millis(-view::RECENT_MS)).await?,
        ))
    }

    /// Tells what has changed, and ends what is over, until it is stopped or something breaks.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn run(&self, stop: &CancellationToken) -> Result<(), ControlError> {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = self.journal.wait_followed() => {}
        }
        let mut changed = self.journal.control();
        let mut forget = tokio::time::Instant::now();
        loop {
            changed.mark_unchanged();
            if forget <= tokio::time::Instant::now() {
                self.store.forget_controls(&self.workspace, clock::now().plus_millis(-FORGET_AFTER_MS)).await?;
                forget = tokio::time::Instant::now() + FORGET_EVERY;
            }
            self.end_what_is_over().await?;
            self.release_who_went().await?;
            let until = self.tell().await?;
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                Ok(()) = changed.changed() => {}
                () = self.people.somebody_went() => {}
                () = tokio::time::sleep(until.clamp(LOOK_AGAIN, LOOK_EVERY)) => {}
            }
        }
    }

    /// Tells viewers what is not as it was; how long until time alone changes it.
    async fn tell(&self) -> Result<Duration, ControlError> {
        let now = self.read().await?;
        let news: Vec<_> = {
            let mut shown = self.shown.write().unwrap_or_else(PoisonError::into_inner);
            let gone = shown.keys().filter(|id| !now.contains_key(*id)).cloned().map(ControlView::empty);
            let news = now.values().filter(|v| shown.get(&v.session_id) != Some(*v)).cloned().chain(gone).collect();
            shown.clone_from(&now);
            news
        };
        for view in &news {
            self.live.tell_control(&view.session_id, view);
        }
        let ends = now.values().flat_map(ControlView::ends).min();
        let left = ends.map_or(LOOK_EVERY, |at| Duration::from_millis(at.millis_since(clock::now()) + 5));
        Ok(left.min(self.people.next_leave().unwrap_or(LOOK_EVERY)))
    }

    /// Gives back what people held who have gone.
    async fn release_who_went(&self) -> Result<(), ControlError> {
        for gone in self.people.take_gone() {
            for lease in self.store.writers(&self.workspace, clock::now()).await? {
                // Who writes through another hub, or has typed since, has not gone.
                if lease.holder.is(&gone) && lease.hub == self.hub {
                    let deed = Deed::by_hub("releaseControl").with("why", "disconnected");
                    self.end(deed, lease, |now, seen| now.hub == seen.hub && now.until == seen.until).await?;
                }
            }
        }
        Ok(())
    }
}

fn needs_control() -> ControlError {
    ControlError::NeedsSecond(
        "this session is marked: whoever types needs a second person's leave; ask for it with take control",
    )
}

/// The lease that a record is, if it is not over.
fn live_writer(record: Option<&Record>, now: Timestamp) -> Option<Writer> {
    match &record?.body {
        RecordBody::Writer(lease) if lease.until > now && !record?.deleted => Some(lease.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_one_until_its_time_is_over_or_it_is_given_back() {
        let at = Timestamp::from_millis;
        let lease: Writer = serde_json::from_value(serde_json::json!({
            "workspace": "default", "sessionId": "01JD8Z2V9Q0000000000000001", "holder": {"user": "u", "name": "U"},
            "since": at(0), "until": at(60_000), "hub": "h",
        }))
        .unwrap();
        let record = |deleted| Record { rev: 1, deleted, body: RecordBody::Writer(lease.clone()) };
        assert!(live_writer(Some(&record(false)), at(59_999)).is_some());
        assert!(live_writer(Some(&record(false)), at(60_000)).is_none());
        assert!(live_writer(Some(&record(true)), at(1)).is_none());
        assert!(live_writer(None, at(1)).is_none());
    }
}
