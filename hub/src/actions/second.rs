//! What needs two: one asks, another agrees, and then it is done in the name of whoever asked, with both names in the
//! audit log.
//!
//! ```text
//! act on a marked session ─► request (202) ─► approve, by another person at a browser ─► the action as ever
//! ```
//!
//! On a marked session these need two: kill, terminate, messages, answers, control of the terminal, and taking the mark
//! off. Pause and resume do not: whoever sees something go wrong stops it at once, and loses nothing.

use std::sync::Arc;

use bus_schema::{CommandReply, Metadata, Operator, Session};
use hub_store::{Approval, Wish};

use super::{ActionError, Actions, Ask, Asker, Who, can, deed_result};
use crate::audit::{Deed, DeedResult};
use crate::control::{ControlError, holder, noted};

/// What became of something that somebody asked for.
#[derive(Debug)]
pub enum Acted {
    /// It was done.
    Done(Box<CommandReply>),
    /// It waits for a second person.
    Asked(Box<Approval>),
}

/// In whose name something is done.
pub(super) struct By {
    pub(super) who: Who,
    /// Whoever does it now, by themselves.
    pub(super) asker: Option<Asker>,
    /// The request, and who agreed.
    agreed: Option<(String, Operator)>,
}

impl By {
    pub(super) fn themselves(asker: &Asker) -> Self {
        Self { who: Who::from(asker), asker: Some(asker.clone()), agreed: None }
    }

    /// Somebody whose request is long over.
    pub(super) fn earlier(who: &Who) -> Self {
        Self { who: who.clone(), asker: None, agreed: None }
    }

    fn agreed(approval: &Approval, second: &Asker) -> Self {
        let (actor, operator) = (approval.actor.clone(), approval.by.clone());
        let who = Who { actor, operator, request_id: second.request_id.clone() };
        Self { who, asker: None, agreed: Some((approval.id.clone(), second.principal.operator())) }
    }

    pub(super) fn deed(&self, action: &'static str) -> Deed {
        let deed = Deed::new(action, self.who.actor.clone(), self.who.request_id.clone());
        match &self.agreed {
            None => deed,
            Some((id, second)) => deed
                .with("approvalId", id.as_str())
                .with("approvedBy", serde_json::to_value(second).unwrap_or_default()),
        }
    }
}

impl Ask {
    /// What of it would have to be agreed to; none if one person may do it on any session.
    fn wish(&self) -> Option<Wish> {
        match self.clone() {
            Ask::Kill => Some(Wish::Kill),
            Ask::Terminate => Some(Wish::Terminate),
            Ask::Inject { message, content, mode, pause_first, retry_of } => {
                Some(Wish::Inject { message_id: message, content, mode, pause_first, retry_of })
            }
            Ask::Answer { request, answer } => Some(Wish::Answer { request_id: request, answer }),
            // Whoever types has control, which is what two agree to.
            Ask::Input(_) | Ask::Resize(_) => None,
            Ask::Pause | Ask::Resume => None,
        }
    }

    fn of(wish: &Wish) -> Option<Self> {
        match wish.clone() {
            Wish::Kill => Some(Ask::Kill),
            Wish::Terminate => Some(Ask::Terminate),
            Wish::Inject { message_id, content, mode, pause_first, retry_of } => {
                Some(Ask::Inject { message: message_id, content, mode, pause_first, retry_of })
            }
            Wish::Answer { request_id, answer } => Some(Ask::Answer { request: request_id, answer }),
            Wish::Control { .. } | Wish::Unmark => None,
        }
    }
}

impl Actions {
    /// Asks for something, if the session is marked and it needs two; none if whoever asks may do it by themselves.
    pub(super) async fn ask_first(
        &self,
        asker: &Asker,
        session: &Session,
        ask: &Ask,
    ) -> Result<Option<Approval>, ActionError> {
        let Some(wish) = ask.wish() else { return Ok(None) };
        if self.control.mark_over(session).await?.is_none() {
            return Ok(None);
        }
        // What cannot be done is refused at once, and nobody has to agree to it.
        if can(session, &ask.capability()).and_then(|()| ask.fits(session)).is_err() {
            return Ok(None);
        }
        let mut deed = Deed::by(asker, "requestApproval");
        ask.note_in(&mut deed, session);
        Ok(Some(self.control.ask(asker, session, wish, deed).await?))
    }

    /// Takes control of a session's terminal; on a marked one it is asked for.
    ///
    /// # Errors
    /// [`ActionError`].
    pub async fn take_control(
        self: &Arc<Self>,
        asker: Asker,
        session: Session,
    ) -> Result<Option<Approval>, ActionError> {
        let this = Arc::clone(self);
        let task = self.tasks.spawn(async move {
            can(&session, &Ask::Input(vec![]).capability())?;
            if this.control.mark_over(&session).await?.is_none() {
                this.control.take(&asker, &session.session_id).await?;
                return Ok(None);
            }
            let wish = Wish::Control { holder: holder(&asker.principal) };
            let deed = Deed::by(&asker, "requestApproval");
            Ok(Some(this.control.ask(&asker, &session, wish, deed).await?))
        });
        task.await.map_err(|_| ActionError::Ending)?
    }

    /// Asks for the mark to be taken off; none if there is none.
    ///
    /// # Errors
    /// [`ActionError`].
    pub async fn ask_unmark(self: &Arc<Self>, asker: Asker, session: Session) -> Result<Option<Approval>, ActionError> {
        let this = Arc::clone(self);
        let task = self.tasks.spawn(async move {
            let Some(mark) = this.control.mark_over(&session).await? else { return Ok(None) };
            if mark.session_id != session.session_id {
                return Err(ControlError::Inherited(mark.session_id).into());
            }
            let deed = Deed::by(&asker, "requestApproval");
            Ok(Some(this.control.ask(&asker, &session, Wish::Unmark, deed).await?))
        });
        task.await.map_err(|_| ActionError::Ending)?
    }

    /// Agrees to what somebody else asked for, and carries it out. What became of it is in the request that comes
    /// back.
    ///
    /// # Errors
    /// [`ActionError`]: then nothing was done.
    pub async fn approve(self: &Arc<Self>, asker: Asker, id: String) -> Result<Approval, ActionError> {
        let this = Arc::clone(self);
        let task = self.tasks.spawn(async move {
            let approval = this.control.request(&id).await?;
            let intent = this.audit.intend(noted(Deed::by(&asker, "approveRequest"), &approval)).await?;
            let agreed = this.control.agree(&asker, &approval).await;
            let result = match &agreed {
                Ok(_) => DeedResult::ok(),
                Err(error) => DeedResult::not("refused", error.to_string()),
            };
            this.audit.conclude(intent, result).await;
            let agreed = agreed?;
            let result = this.carry_out(&asker, &agreed).await;
            let state = match result.result {
                "ok" => "done",
                "unknown" => "unknown",
                _ => "failed",
            };
            Ok(this.control.settle(agreed, state, result.detail).await)
        });
        task.await.map_err(|_| ActionError::Ending)?
    }

    async fn carry_out(&self, second: &Asker, approval: &Approval) -> DeedResult {
        let done = match (&approval.wish, Ask::of(&approval.wish)) {
            (_, Some(ask)) => match self.session(&approval.session_id).await {
                Ok(session) => {
                    return deed_result(
                        &self.act_on(&By::agreed(approval, second), &session, &ask, Metadata::new()).await,
                    );
                }
                Err(error) => Err(error),
            },
            (Wish::Control { holder }, _) => {
                let granted = self.control.grant(approval, holder.clone(), second.principal.operator()).await;
                granted.map_err(ActionError::from)
            }
            (Wish::Unmark, _) => self.unmark(second, approval).await,
            (_, None) => Ok(()),
        };
        DeedResult::of(&done)
    }

    async fn unmark(&self, second: &Asker, approval: &Approval) -> Result<(), ActionError> {
        let deed = By::agreed(approval, second).deed("unmarkFourEyes").on_session(approval.session_id.clone());
        let intent = self.audit.intend(deed).await?;
        let done = self.control.unmark(&approval.session_id).await;
        self.audit.conclude(intent, DeedResult::of(&done)).await;
        Ok(done?)
    }
}
