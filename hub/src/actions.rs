//! What operators do: every action goes the same way, and ends with an answer and a row in the audit log.
//!
//! ```text
//! find the session ─► audit intent (no intent, no action) ─► can it? ─► signed command ─► audit outcome ─► answer
//! ```
//!
//! On a marked session, what needs two becomes a request first: [`second`].
//!
//! Laws:
//! 1. An action that has begun is carried to its end, also if whoever asked for it has gone.
//! 2. What is not known is said to be not known, never called done or failed.

mod ask;
pub mod kill_all;
mod second;

use std::sync::Arc;
use std::time::Duration;

use bus_schema::{
    Action, Actor, Command, CommandId, CommandReply, Delivery, IdError, MessageId, Metadata, NodeId, Operator, Outcome,
    Refusal, RefusalCode, Session, SessionId, Spawn, TerminalSnapshot,
};
use hub_store::{Approval, FourEyes, Store, StoreError};
use sha2::{Digest, Sha256};
use tokio_util::task::TaskTracker;
use ulid::Ulid;

use crate::audit::{Audit, AuditError, Deed, DeedResult};
use crate::authn::Principal;
use crate::bus::{Bus, CommandError};
use crate::clock;
use crate::control::{Control, ControlError};
use crate::live::Live;
use crate::metrics::{ActionOf, Metrics};
pub use ask::Ask;
use ask::{CommandBody, ask_command, can};
pub use second::Acted;
use second::By;

/// How long a command is valid, and how long its answer is waited for. Longer than a kill of a large tree takes.
const COMMAND_DEADLINE: Duration = Duration::from_secs(12);

/// Carries out what operators do.
pub struct Actions {
    bus: Bus,
    store: Store,
    live: Arc<Live>,
    audit: Arc<Audit>,
    control: Arc<Control>,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
}

/// Who asks, and in which request.
#[derive(Clone, Debug)]
pub struct Asker {
    /// Who.
    pub principal: Principal,
    /// The HTTP request.
    pub request_id: String,
}

/// On whose behalf something is done, also when their request is long over.
#[derive(Clone, Debug)]
struct Who {
    actor: Actor,
    operator: Operator,
    request_id: String,
}

impl From<&Asker> for Who {
    fn from(asker: &Asker) -> Self {
        let Asker { principal, request_id } = asker;
        Self { actor: principal.actor(), operator: principal.operator(), request_id: request_id.clone() }
    }
}

/// Why an action was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ActionError {
    /// There is no such session in this workspace.
    #[error("there is no session {0}")]
    NoSession(SessionId),
    /// There is no such node in this workspace.
    #[error("there is no node {node:?}; known are: {known}")]
    NoNode {
        /// The name given.
        node: String,
        /// Those that are there.
        known: String,
    },
    /// The node, or the hub for it, refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The node tried and failed.
    #[error("the node tried and failed: {0}")]
    Failed(Refusal),
    /// The command got no answer.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The intent could not be written: nothing was done.
    #[error("nothing was done: the audit log cannot be written")]
    Audit(#[from] AuditError),
    /// Somebody else writes there, or two are needed.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An identifier of ours is none.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The task that carried it out is gone: the hub is ending.
    #[error("the hub is ending; whether it was done is not known")]
    Ending,
}

impl Actions {
    /// On one bus.
    pub fn new(
        bus: Bus,
        store: Store,
        live: Arc<Live>,
        audit: Arc<Audit>,
        control: Arc<Control>,
        metrics: Arc<Metrics>,
        tasks: TaskTracker,
    ) -> Arc<Self> {
        Arc::new(Self { bus, store, live, audit, control, metrics, tasks })
    }

    /// A session of this workspace, as it is now.
    ///
    /// # Errors
    /// [`ActionError::NoSession`], [`ActionError::Store`].
    pub async fn session(&self, id: &SessionId) -> Result<Session, ActionError> {
        if let Some(session) = self.live.fleet().session(id) {
            return Ok(session);
        }
        match self.store.session(id).await? {
            Some(session) if session.workspace == *self.bus.workspace() => Ok(self.live.fleet().marked(session)),
            _ => Err(ActionError::NoSession(id.clone())),
        }
    }

    /// Does something with a session, and waits for what becomes of it; or, where two are needed, asks for it.
    ///
    /// # Errors
    /// [`ActionError`].
    pub async fn act(self: &Arc<Self>, asker: Asker, id: SessionId, ask: Ask) -> Result<Acted, ActionError> {
        let this = Arc::clone(self);
        let task = self.tasks.spawn(async move {
            let session = this.session(&id).await?;
            if let Some(approval) = this.ask_first(&asker, &session, &ask).await? {
                return Ok(Acted::Asked(Box::new(approval)));
            }
            let reply = this.act_on(&By::themselves(&asker), &session, &ask, Metadata::new()).await?;
            Ok(Acted::Done(Box::new(reply)))
        });
        task.await.map_err(|_| ActionError::Ending)?
    }

    /// Does something with a session; `facts` go into the audit log with it.
    async fn act_on(
        &self,
        by: &By,
        session: &Session,
        ask: &Ask,
        facts: Metadata,
    ) -> Result<CommandReply, ActionError> {
        let mut deed = by.deed(ask.word());
        deed.metadata.extend(facts);
        deed.session_id = Some(session.session_id.clone());
        deed.node = Some(session.node.clone());
        ask.note_in(&mut deed, session);
        let intent = self.audit.intend(deed).await?;
        let answer = match self.may(by, session, ask).await {
            Ok(()) => {
                let (operator, body) = (by.who.operator.clone(), ask_command(session, ask));
                self.send_as(operator, &by.who.request_id, session.node.clone(), body).await
            }
            Err(error) => Err(error),
        };
        let result = deed_result(&answer);
        self.metrics.actions.get_or_create(&ActionOf { action: ask.word(), result: result.result }).inc();
        self.audit.conclude(intent, result).await;
        answer
    }

    async fn may(&self, by: &By, session: &Session, ask: &Ask) -> Result<(), ActionError> {
        can(session, &ask.capability()).and_then(|()| ask.fits(session))?;
        if let (Ask::Input(_) | Ask::Resize(_), Some(asker)) = (ask, &by.asker) {
            self.control.before_typing(asker, session).await?;
        }
        Ok(())
    }

    /// Sends a command, and takes the session that comes back with the answer.
    async fn send(&self, asker: &Asker, node: NodeId, body: CommandBody) -> Result<CommandReply, ActionError> {
        self.send_as(asker.principal.operator(), &asker.request_id, node, body).await
    }

    /// Gives a node what is sealed for it: settings to take over, or a connection to try.
    ///
    /// # Errors
    /// [`ActionError`].
    pub async fn send_sealed(
        &self,
        operator: Operator,
        request_id: &str,
        node: NodeId,
        action: Action,
        sealed: Vec<u8>,
    ) -> Result<CommandReply, ActionError> {
        let body = CommandBody { data: Some(sealed), ..CommandBody::new(action) };
        self.send_as(operator, request_id, node, body).await
    }

    /// Has a node take over the command key of today, which every command proves.
    ///
    /// # Errors
    /// [`ActionError`].
    pub async fn send_trust(&self, operator: Operator, request_id: &str, node: NodeId) -> Result<(), ActionError> {
        self.send_as(operator, request_id, node, CommandBody::new(Action::Trust)).await.map(drop)
    }

    async fn send_as(
        &self,
        operator: Operator,
        request_id: &str,
        node: NodeId,
        body: CommandBody,
    ) -> Result<CommandReply, ActionError> {
        let now = clock::now();
        let command = Command {
            command_id: CommandId::new(Ulid::new().to_string())?,
            workspace: self.bus.workspace().clone(),
            node,
            action: body.action,
            session_id: body.session,
            operator,
            issued_at: now,
            expires_at: now.plus_millis(i64::try_from(COMMAND_DEADLINE.as_millis()).unwrap_or(0)),
            spawn: body.spawn,
            message_id: body.message,
            content: body.content,
            mode: body.mode,
            pause_first: body.pause_first,
            data: body.data,
            size: body.size,
            answer: body.answer,
        };
        let reply = self.bus.command(&command, request_id, COMMAND_DEADLINE).await?;
        if let Some(session) = &reply.session {
            self.live.note_session(session.clone());
        }
        let refusal = || {
            let silent = || Refusal::new(RefusalCode::ProviderFailed, "the node gave no reason");
            reply.refusal.clone().unwrap_or_else(silent)
        };
        match reply.outcome {
            Outcome::Done | Outcome::Accepted | Outcome::Unknown(_) => Ok(reply),
            Outcome::Refused => Err(ActionError::Refused(refusal())),
            Outcome::Failed => Err(ActionError::Failed(refusal())),
        }
    }

    /// Sends a message to a session: how far it has come, and the request where two are needed. `ask` is an
    /// [`Ask::Inject`].
    ///
    /// # Errors
    /// [`ActionError`]. A node that did not answer in time is no error: the message may be there, and its receipts
    /// tell.
    pub async fn inject(
        self: &Arc<Self>,
        asker: Asker,
        id: SessionId,
        ask: Ask,
    ) -> Result<(Delivery, Option<Approval>), ActionError> {
        match self.act(asker, id, ask).await {
            Ok(Acted::Done(reply)) => Ok((reply.delivery.unwrap_or(Delivery::Accepted), None)),
            Ok(Acted::Asked(approval)) => Ok((Delivery::Unknown("awaitsApproval".into()), Some(*approval))),
            Err(ActionError::Command(CommandError::Deadline { .. } | CommandError::Unreadable { .. })) => {
                Ok((Delivery::NotKnown, None))
            }
            Err(error) => Err(error),
        }
    }

    /// Starts a session on a node.
    ///
    /// # Errors
    /// [`ActionError`].
    pub async fn spawn(self: &Arc<Self>, asker: Asker, node: &str, spawn: Spawn) -> Result<Session, ActionError> {
        let known = {
            let fleet = self.live.fleet();
            NodeId::new(node).ok().filter(|id| fleet.node(id).is_some()).ok_or_else(|| {
                let names = fleet.nodes().map(|n| n.state.node.to_string()).collect::<Vec<_>>();
                let known = if names.is_empty() { "none yet".to_owned() } else { names.join(", ") };
                ActionError::NoNode { node: node.chars().take(80).collect(), known }
            })?
        };
        let this = Arc::clone(self);
        let task = self.tasks.spawn(async move {
            let mut deed = Deed::by(&asker, "spawn");
            deed.session_id = Some(spawn.session_id.clone());
            deed.node = Some(known.clone());
            deed.content = spawn.prompt.clone();
            deed.metadata.insert("profile".into(), spawn.profile.as_str().into());
            if let Some(parent) = &spawn.parent_session_id {
                deed.metadata.insert("parentSessionId".into(), parent.as_str().into());
            }
            if let Some(resumed) = &spawn.resumed {
                deed.metadata.insert("resumeSessionId".into(), resumed.session_id.as_str().into());
            }
            let mark = this.mark_of_resumed(&spawn).await?;
            if let Some(mark) = &mark {
                deed.metadata.insert("markOf".into(), mark.session_id.as_str().into());
            }
            let intent = this.audit.intend(deed).await?;
            let new = spawn.session_id.clone();
            let body = CommandBody { action: Action::Spawn, spawn: Some(spawn), ..CommandBody::new(Action::Spawn) };
            // The mark is there before the session is.
            let answer = match this.hand_on(mark.as_ref(), &new).await {
                Ok(()) => this.send(&asker, known, body).await,
                Err(error) => Err(error),
            };
            if let (Some(_), Err(ActionError::Refused(_) | ActionError::Command(CommandError::NodeAway(_)))) =
                (&mark, &answer)
                && let Err(error) = this.control.unmark(&new).await
            {
                tracing::warn!(%error, "the mark of a session that never came to be stays");
            }
            let result = deed_result(&answer);
            this.metrics.actions.get_or_create(&ActionOf { action: "spawn", result: result.result }).inc();
            this.audit.conclude(intent, result).await;
            let silent = Refusal::new(RefusalCode::ProviderFailed, "the node answered without a session");
            answer?.session.ok_or(ActionError::Failed(silent))
        });
        task.await.map_err(|_| ActionError::Ending)?
    }

    /// A marked conversation cannot be gone on with unmarked, nor with words that nobody agreed to.
    async fn mark_of_resumed(&self, spawn: &Spawn) -> Result<Option<FourEyes>, ActionError> {
        let Some(resumed) = &spawn.resumed else { return Ok(None) };
        let mark = self.control.mark_over(&self.session(&resumed.session_id).await?).await?;
        if mark.is_some() && spawn.prompt.is_some() {
            let text = "the conversation is of a marked session: go on without a first message, and send it then";
            return Err(ControlError::NeedsSecond(text).into());
        }
        Ok(mark)
    }

    async fn hand_on(&self, mark: Option<&FourEyes>, to: &SessionId) -> Result<(), ActionError> {
        match mark {
            Some(mark) => Ok(self.control.hand_on(mark, to).await?),
            None => Ok(()),
        }
    }

    /// What a session's terminal shows: asked for by viewers, changes nothing, so it is not written down.
    ///
    /// # Errors
    /// [`ActionError`].
    pub async fn terminal_snapshot(&self, asker: &Asker, session: &Session) -> Result<TerminalSnapshot, ActionError> {
        let mut body = CommandBody::new(Action::TerminalSnapshot);
        body.session = Some(session.session_id.clone());
        let reply = self.send(asker, session.node.clone(), body).await?;
        let silent = Refusal::new(RefusalCode::ProviderFailed, "the node answered without a snapshot");
        reply.snapshot.ok_or(ActionError::Failed(silent))
    }
}

fn deed_result(answer: &Result<CommandReply, ActionError>) -> DeedResult {
    match answer {
        Ok(reply) => {
            let mut result = DeedResult::ok();
            if let Some(delivery) = &reply.delivery {
                result.metadata.insert("delivery".into(), delivery.as_str().into());
            }
            if let Some(report) = &reply.report {
                result.metadata.insert("report".into(), serde_json::to_value(report).unwrap_or_default());
            }
            result
        }
        Err(ActionError::Refused(refusal)) => DeedResult::not("refused", refusal.message.clone()),
        Err(ActionError::Control(e @ (ControlError::Held(_) | ControlError::NeedsSecond(_)))) => {
            DeedResult::not("refused", e.to_string())
        }
        Err(ActionError::Command(e @ (CommandError::Deadline { .. } | CommandError::Unreadable { .. }))) => {
            DeedResult::not("unknown", e.to_string())
        }
        Err(error) => DeedResult::not("failed", error.to_string()),
    }
}

/// The id of a message that is sent with an idempotency key: the same key gives the same id, for ever, and the node
/// hands the same id over once.
///
/// # Errors
/// [`IdError`] never; it is the type that says so.
pub fn keyed_message_id(session: &SessionId, key: &str) -> Result<MessageId, IdError> {
    let digest = Sha256::digest(format!("mosaic-inject\n{session}\n{key}").as_bytes());
    let hex = digest.iter().take(16).fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    MessageId::new(format!("k_{hex}"))
}

/// The id of a message without a key.
///
/// # Errors
/// As [`keyed_message_id`].
pub fn new_message_id() -> Result<MessageId, IdError> {
    MessageId::new(Ulid::new().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_key_is_the_same_message() {
        let session = SessionId::new("01JD8Z2V9Q0000000000000001").unwrap();
        let other = SessionId::new("01JD8Z2V9Q0000000000000002").unwrap();
        let id = keyed_message_id(&session, "a").unwrap();
        assert_eq!(id, keyed_message_id(&session, "a").unwrap());
        assert_ne!(id, keyed_message_id(&session, "b").unwrap());
        assert_ne!(id, keyed_message_id(&other, "a").unwrap());
    }
}
