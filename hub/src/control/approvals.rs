//! What one person asks for and a second one decides.
//!
//! ```text
//! open ──► approved (being carried out) ──► done · failed · unknown
//!   └────► refused · withdrawn · expired
//! ```
//!
//! Laws:
//! 1. One step by one hub: each is a compare and set on the bus. Two who decide at once: one of them is told.
//! 2. The second person is another person, whatever either of them signs in with.
//! 3. None is dropped in silence: one whose time is over is `expired`, in the audit log and on the page; one whose hub
//!    died while it carried it out is `unknown`.

use bus_schema::{Operator, Session, UserId};
use hub_store::{Approval, Holder, Membership, Record, RecordBody, Wish};
use ulid::Ulid;

use super::{Control, ControlError, REASON_MAX};
use crate::actions::Asker;
use crate::audit::{Deed, DeedResult};
use crate::clock;
use crate::journal::Put;
use crate::policy::Role;

/// How long a request may be carried out before its hub counts as dead. Longer than any command is waited for.
pub(super) const CARRIED_MS: i64 = 60_000;
/// Most requests that wait on one session.
const OPEN_MAX: usize = 20;

impl Control {
    /// Whether there is another person who could be the second.
    pub(super) async fn somebody_else(&self, user: &UserId) -> Result<bool, ControlError> {
        let members = self.store.members(&self.workspace).await?;
        Ok(members.iter().any(|m| m.body.user != *user && !m.deleted && may_act(&m.body)))
    }

    /// Asks for what needs a second person. Where the same is asked for already, that one is told.
    ///
    /// # Errors
    /// [`ControlError::TooMany`]; the others if something is away.
    pub(crate) async fn ask(
        &self,
        asker: &Asker,
        session: &Session,
        wish: Wish,
        deed: Deed,
    ) -> Result<Approval, ControlError> {
        let now = clock::now();
        let known = self.store.approvals(&self.workspace, now).await?;
        let mut open = known
            .into_iter()
            .filter(|a| a.session_id == session.session_id && a.state == Approval::OPEN && a.expires > now);
        let mut count = 0;
        if let Some(same) = open.find(|a| {
            count += 1;
            is_same(&a.wish, &wish)
        }) {
            return Ok(same);
        }
        if count >= OPEN_MAX {
            return Err(ControlError::TooMany);
        }
        let approval = Approval {
            id: Ulid::new().to_string(),
            workspace: self.workspace.clone(),
            session_id: session.session_id.clone(),
            node: session.node.clone(),
            wish,
            by: asker.principal.operator(),
            actor: asker.principal.actor(),
            asked: now,
            expires: now.plus_millis(self.approval_ms),
            state: Approval::OPEN.into(),
            decided_by: None,
            at: now,
            outcome: None,
        };
        let intent = self.audit.intend(noted(deed, &approval)).await?;
        let put = self.journal.create(RecordBody::Approval(Box::new(approval.clone()))).await;
        self.audit.conclude(intent, DeedResult::of(&put)).await;
        put?;
        Ok(approval)
    }

    /// A request as the bus has it.
    ///
    /// # Errors
    /// [`ControlError::NoRequest`].
    pub(crate) async fn request(&self, id: &str) -> Result<Approval, ControlError> {
        let unknown = || ControlError::NoRequest(id.chars().take(40).collect());
        // Anything else is no key, and would be a filter or another record's.
        if id.is_empty() || id.len() > 40 || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(unknown());
        }
        let found = self.journal.current(Record::approval_of(&self.workspace, id)).await?;
        match found.map(|record| record.body) {
            Some(RecordBody::Approval(approval)) => Ok(*approval),
            _ => Err(unknown()),
        }
    }

    /// What waits, and what was decided lately.
    ///
    /// # Errors
    /// [`ControlError::Store`].
    pub async fn requests(&self) -> Result<Vec<Approval>, ControlError> {
        let since = clock::now().plus_millis(-super::view::RECENT_MS);
        Ok(self.store.approvals(&self.workspace, since).await?)
    }

    /// Takes a request as agreed to by that person, so that it is carried out here and nowhere else.
    ///
    /// # Errors
    /// [`ControlError::SamePerson`], [`ControlError::AskerGone`], [`ControlError::Decided`].
    pub(crate) async fn agree(&self, asker: &Asker, approval: &Approval) -> Result<Approval, ControlError> {
        if approval.by.id == asker.principal.user {
            return Err(ControlError::SamePerson);
        }
        let members = self.store.members(&self.workspace).await?;
        if !members.iter().any(|m| m.body.user == approval.by.id && !m.deleted && may_act(&m.body)) {
            return Err(ControlError::AskerGone(approval.by.name.clone()));
        }
        self.step(approval, Approval::APPROVED, Some(asker.principal.operator()), None).await
    }

    /// Refuses a request, or, for whoever asked, takes it back.
    ///
    /// # Errors
    /// [`ControlError::Decided`]; the others if something is away.
    pub async fn refuse(&self, asker: &Asker, id: &str, why: &str) -> Result<Approval, ControlError> {
        if why.len() > REASON_MAX {
            return Err(ControlError::Invalid(format!("a reason is at most {REASON_MAX} bytes")));
        }
        let approval = self.request(id).await?;
        let own = approval.by.id == asker.principal.user;
        let (word, state) = if own { ("withdrawRequest", "withdrawn") } else { ("refuseRequest", "refused") };
        let intent = self.audit.intend(noted(Deed::by(asker, word), &approval).with("reason", why)).await?;
        let why = Some(why.to_owned()).filter(|w| !w.is_empty());
        let done = self.step(&approval, state, Some(asker.principal.operator()), why).await;
        self.audit.conclude(intent, DeedResult::of(&done)).await;
        done
    }

    /// What became of a request that was agreed to.
    pub(crate) async fn settle(&self, approval: Approval, state: &'static str, outcome: Option<String>) -> Approval {
        let by = approval.decided_by.clone();
        match self.step(&approval, state, by, outcome).await {
            Ok(settled) => settled,
            Err(error) => {
                // It will be told as unknown; the audit log has what became of the deed itself.
                tracing::error!(%error, approval = approval.id, state, "what became of a request cannot be kept");
                approval
            }
        }
    }

    /// One step of a request, from the state it is seen in.
    async fn step(
        &self,
        seen: &Approval,
        state: &str,
        by: Option<Operator>,
        outcome: Option<String>,
    ) -> Result<Approval, ControlError> {
        let now = clock::now();
        let next = Approval { state: state.into(), decided_by: by, at: now, outcome, ..seen.clone() };
        let wanted = |last: Option<&Record>| match last.map(|record| &record.body) {
            Some(RecordBody::Approval(last)) => {
                let from = if last.state == Approval::OPEN && state != "expired" { last.expires > now } else { true };
                from && last.is_pending() && last.state == seen.state
            }
            _ => false,
        };
        match self.journal.put_if(RecordBody::Approval(Box::new(next.clone())), false, wanted).await? {
            Put::Written(_) => Ok(next),
            Put::Kept(last) => Err(ControlError::Decided(match last.map(|record| record.body) {
                Some(RecordBody::Approval(last)) if last.state == Approval::OPEN => "expired".into(),
                Some(RecordBody::Approval(last)) => last.state,
                _ => "gone".into(),
            })),
        }
    }

    /// Says of each request whose time is over that it is.
    pub(super) async fn end_what_is_over(&self) -> Result<(), ControlError> {
        let now = clock::now();
        for approval in self.store.approvals(&self.workspace, now).await? {
            let (state, word, why) = match approval.state.as_str() {
                Approval::OPEN if approval.expires <= now => {
                    ("expired", "requestExpired", "nobody decided it in time; nothing was done")
                }
                Approval::APPROVED if approval.at.plus_millis(CARRIED_MS) <= now => {
                    ("unknown", "requestUnknown", "the hub that carried it out ended; whether it was done is not known")
                }
                _ => continue,
            };
            match self.step(&approval, state, approval.decided_by.clone(), Some(why.into())).await {
                Ok(_) => {
                    let deed = noted(Deed::by_hub(word), &approval);
                    let result = DeedResult::not(if state == "expired" { "expired" } else { "unknown" }, why);
                    self.audit.note(deed, result).await?;
                }
                // Somebody was faster: a person, or another hub.
                Err(ControlError::Decided(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A deed about a request, with what tells which.
pub(crate) fn noted(deed: Deed, approval: &Approval) -> Deed {
    let mut deed = deed.on_session(approval.session_id.clone());
    deed.node = Some(approval.node.clone());
    deed.with("approvalId", approval.id.as_str())
        .with("wish", approval.wish.as_str())
        .with("askedBy", serde_json::to_value(&approval.by).unwrap_or_default())
}

fn may_act(member: &Membership) -> bool {
    !member.disabled && Role::parse(&member.role).is_some_and(|role| role >= Role::Operator)
}

/// Whether two ask for the same thing, so that one of them is enough.
fn is_same(one: &Wish, other: &Wish) -> bool {
    match (one, other) {
        (Wish::Kill, Wish::Kill) | (Wish::Terminate, Wish::Terminate) | (Wish::Unmark, Wish::Unmark) => true,
        (Wish::Inject { message_id: a, .. }, Wish::Inject { message_id: b, .. }) => a == b,
        (Wish::Answer { request_id: a, answer: x }, Wish::Answer { request_id: b, answer: y }) => a == b && x == y,
        (Wish::Control { holder: a }, Wish::Control { holder: b }) => Holder::is(a, b),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use bus_schema::{Answer, InjectMode, MessageId};

    use super::*;

    #[test]
    fn the_same_wish_is_asked_for_once_and_another_is_another() {
        let inject = |id: &str| Wish::Inject {
            message_id: MessageId::new(id).unwrap(),
            content: "x".into(),
            mode: InjectMode::default(),
            pause_first: false,
            retry_of: None,
        };
        let answer = |option: &str| Wish::Answer {
            request_id: MessageId::new("m1").unwrap(),
            answer: Answer { option_id: Some(option.into()), text: None },
        };
        let control = |token: Option<&str>| Wish::Control {
            holder: Holder { user: UserId::new("u").unwrap(), name: "U".into(), token: token.map(str::to_owned) },
        };
        let all = [
            Wish::Kill,
            Wish::Terminate,
            Wish::Unmark,
            inject("a"),
            inject("b"),
            answer("yes"),
            answer("no"),
            control(None),
            control(Some("t")),
        ];
        for (n, one) in all.iter().enumerate() {
            for (m, other) in all.iter().enumerate() {
                assert_eq!(is_same(one, other), n == m, "{one:?} {other:?}");
            }
        }
    }
}
