//! The trait that every runtime implements, and what it tells.
//!
//! Laws that every provider keeps (the conformance suite checks them):
//! 1. *Positions.* All that happens in a session is one ordered sequence. Each event carries the [`Position`] behind
//!    it; `subscribe(id, from)` gives exactly the events behind `from`, the same ones every time it is asked, as long
//!    as they are not [acknowledged](AgentProvider::acknowledge). So a node agent that was killed goes on where its
//!    disk says it was, and no message is lost or doubled.
//! 2. *Wait, do not drop.* A subscriber that does not read slows its session down, in the end the agent itself, and
//!    no other session.
//! 3. *Refuse, do not pretend.* What a session cannot do is refused with [`ProviderError::NotCapable`] and a reason.
//! 4. *Proof.* `pause` returns when the runtime has confirmed that nothing of the session runs any more; `kill`
//!    returns with a report that names whatever survived.
//! 5. *Once.* `inject` with the same message id hands the text over once, also over a restart of the node agent.
//! 6. *Deadlines.* Every call returns within a bound of the provider's own; the caller sets a further one.

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use bus_schema::{
    Answer, Attention, Capability, Connection, ConnectionTest, Delivery, EndReport, InjectMode, MessageId, MessageKind,
    Metadata, Operator, ProviderName, Role, SessionId, Status, StatusSource, TerminalSize, TerminalSnapshot, Timestamp,
    Turn,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::profile::{Profile, Protocol};

/// A runtime of agents.
#[async_trait]
pub trait AgentProvider: Send + Sync + 'static {
    /// Its name: `pty`, `docker`, …
    fn name(&self) -> ProviderName;

    /// Whether it can be used now, and what its sessions can do at best.
    async fn health(&self) -> ProviderHealth;

    /// Sessions that appear without being asked for through [`spawn`](Self::spawn), from now on. A provider that has
    /// none returns a receiver that never yields. Subscribe first, then ask for [`sessions`](Self::sessions).
    fn watch(&self) -> mpsc::Receiver<Appeared>;

    /// All sessions it knows, those that have ended and were not forgotten included.
    ///
    /// # Errors
    /// [`ProviderError::Unavailable`] if the runtime cannot be asked.
    async fn sessions(&self) -> Result<Vec<SessionInfo>, ProviderError>;

    /// One session.
    ///
    /// # Errors
    /// [`ProviderError::UnknownSession`], [`ProviderError::Unavailable`].
    async fn session(&self, id: &SessionId) -> Result<SessionInfo, ProviderError>;

    /// The last messages of a session, oldest first, as far as the runtime still has them; at most `limit`.
    ///
    /// # Errors
    /// [`ProviderError::UnknownSession`], [`ProviderError::Unavailable`].
    async fn recent_messages(&self, id: &SessionId, limit: usize) -> Result<Vec<MessageDraft>, ProviderError>;

    /// What happens in a session behind `from`. Law 1.
    ///
    /// # Errors
    /// [`ProviderError::UnknownSession`], [`ProviderError::Unavailable`].
    async fn subscribe(&self, id: &SessionId, from: Position) -> Result<EventStream, ProviderError>;

    /// The caller has everything up to `position` on its own disk; the provider may forget it.
    async fn acknowledge(&self, id: &SessionId, position: Position);

    /// Starts a session from a profile. Asked again with the same session id, it gives the same session.
    ///
    /// # Errors
    /// [`ProviderError::Invalid`] for a profile that this runtime cannot start, [`ProviderError::Failed`] if the
    /// start went wrong.
    async fn spawn(&self, request: SpawnRequest) -> Result<SessionInfo, ProviderError>;

    /// Hands an operator message over. Law 5.
    ///
    /// # Errors
    /// [`ProviderError::NotCapable`], [`ProviderError::WrongState`], [`ProviderError::Unavailable`]. A message that was
    /// handed over but could not be verified is no error: see [`InjectOutcome`].
    async fn inject(&self, id: &SessionId, message: OperatorMessage) -> Result<InjectOutcome, ProviderError>;

    /// How far a message that was given to [`inject`](Self::inject) came, from the runtime's own record; `None` if it
    /// never got there. For a node agent that was killed in between.
    ///
    /// # Errors
    /// [`ProviderError::UnknownSession`], [`ProviderError::Unavailable`].
    async fn injection(&self, id: &SessionId, message: &MessageId) -> Result<Option<InjectOutcome>, ProviderError>;

    /// Freezes the whole session. Law 4. Pausing a paused session changes nothing.
    ///
    /// # Errors
    /// [`ProviderError::NotCapable`], [`ProviderError::WrongState`], [`ProviderError::Failed`].
    async fn pause(&self, id: &SessionId, by: &Operator) -> Result<(), ProviderError>;

    /// Lets a paused session go on. Resuming one that is not paused changes nothing.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    async fn resume(&self, id: &SessionId, by: &Operator) -> Result<(), ProviderError>;

    /// Asks the session to end, in the runtime's own way and then ever more firmly, and returns as soon as the asking
    /// has begun: the end itself is told by [`News::Ended`].
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    async fn terminate(&self, id: &SessionId, by: &Operator) -> Result<(), ProviderError>;

    /// Ends the session with everything it started, at once, and returns the proof. Law 4.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    async fn kill(&self, id: &SessionId, by: &Operator) -> Result<EndReport, ProviderError>;

    /// Answers a request of the session: the message that asked, and what is answered. Asked again with the same
    /// request, it changes nothing. What was answered, and by whom, is told as a message; that the request is closed,
    /// also where somebody else answered it, by [`News::Attention`].
    ///
    /// # Errors
    /// As [`pause`](Self::pause); [`ProviderError::WrongState`] if the request is not open any more,
    /// [`ProviderError::Invalid`] for an option that it does not offer.
    async fn answer(
        &self,
        id: &SessionId,
        request: &MessageId,
        answer: &Answer,
        by: &Operator,
    ) -> Result<(), ProviderError> {
        let _ = (request, answer, by);
        self.session(id).await?;
        Err(ProviderError::NotCapable { capability: Capability::Approve, reason: "its runtime asks nothing".into() })
    }

    /// Takes over all connections that are set up for this runtime from afar, in place of those before. Sessions of a
    /// connection that is not among them any more stay, and are out of reach.
    ///
    /// # Errors
    /// [`ProviderError::Invalid`] if this runtime takes none.
    async fn configure(&self, connections: Vec<Connection>) -> Result<(), ProviderError> {
        if connections.is_empty() { Ok(()) } else { Err(takes_no_connections(&self.name())) }
    }

    /// Tries a connection, and keeps nothing of it.
    ///
    /// # Errors
    /// [`ProviderError::Invalid`] if this runtime takes none. That it does not work is no error.
    async fn test(&self, connection: Connection) -> Result<ConnectionTest, ProviderError> {
        drop(connection);
        Err(takes_no_connections(&self.name()))
    }

    /// Types bytes into the session's terminal, as a person would.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    async fn terminal_input(&self, id: &SessionId, data: &[u8], by: &Operator) -> Result<(), ProviderError>;

    /// Changes the size of the session's terminal.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    async fn resize(&self, id: &SessionId, size: TerminalSize) -> Result<(), ProviderError>;

    /// What the session's terminal shows now.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    async fn terminal_snapshot(&self, id: &SessionId) -> Result<TerminalSnapshot, ProviderError>;

    /// Drops all that is kept of a session that has ended.
    ///
    /// # Errors
    /// [`ProviderError::UnknownSession`], [`ProviderError::WrongState`] while it lives.
    async fn forget(&self, id: &SessionId) -> Result<(), ProviderError>;
}

fn takes_no_connections(name: &ProviderName) -> ProviderError {
    ProviderError::Invalid(format!("the provider {name} takes no connections: it finds its runtime on its own machine"))
}

/// A place in the ordered sequence of what happens in a session. Opaque: only its order counts, and it grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Where in the runtime's own record, such as bytes of a log.
    pub offset: u64,
    /// Which of several events from the same place.
    pub index: u32,
}

/// What happens in a session, in order. Bounded: whoever does not read makes the provider wait.
pub type EventStream = mpsc::Receiver<AgentEvent>;

/// Something that happened in a session.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentEvent {
    /// The place behind it. Events that are not kept ([`News::Delta`]) repeat the place before them.
    pub position: Position,
    /// When it happened.
    pub at: Timestamp,
    /// What.
    pub news: News,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// The session's status as the runtime has it now.
    Status {
        /// Where it stands. Never a terminal status: those come by [`News::Ended`].
        status: Status,
        /// Why, in a few words.
        reason: Option<String>,
        /// How we know.
        source: StatusSource,
    },
    /// Where the turn stands; `None` if the runtime stopped telling.
    Turn(Option<Turn>),
    /// Somebody is needed, or (`None`) no longer.
    Attention(Option<Attention>),
    /// A better title for people.
    Title(String),
    /// A complete message.
    Message(MessageDraft),
    /// The text so far of a message being written. May be lost.
    Delta(DeltaDraft),
    /// Raw terminal output.
    Terminal(TerminalPiece),
    /// How far an operator message has come since [`InjectOutcome`].
    Receipt {
        /// Which.
        message_id: MessageId,
        /// How far.
        outcome: InjectOutcome,
    },
    /// The session started another one that the runtime looks after.
    Child(Child),
    /// What the session can do has changed.
    Capabilities(Vec<Capability>),
    /// Further facts, merged into the session's metadata; `null` takes one away.
    Facts(Metadata),
    /// It is over. The last event.
    Ended(End),
}

/// A message without its `seq`, which the node gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageDraft {
    /// The same each time the event is told, and the same as in its deltas.
    pub message_id: MessageId,
    /// Who speaks. Never `operator`: those messages are the node's own.
    pub role: Role,
    /// What kind of message.
    pub kind: MessageKind,
    /// The text, whole: the node cuts it to the limit.
    pub content: String,
    /// When it was written.
    pub timestamp: Timestamp,
    /// Further facts; `source` says where the message was taken from (`lines`, `jsonl`, `socket`, `screen`, …).
    pub metadata: Metadata,
}

/// The text so far of a message being written.
#[derive(Clone, Debug, PartialEq)]
pub struct DeltaDraft {
    /// The message that will replace it.
    pub message_id: MessageId,
    /// Who speaks.
    pub role: Role,
    /// What kind of message it will be.
    pub kind: MessageKind,
    /// All of the text so far.
    pub content: String,
}

/// A piece of terminal output.
#[derive(Clone, Debug, PartialEq)]
pub struct TerminalPiece {
    /// Bytes of output before it since the start of the session.
    pub offset: u64,
    /// Exactly what was written; at most 64 KiB.
    pub data: Bytes,
    /// Set in the first piece and wherever the size changed before it.
    pub size: Option<TerminalSize>,
}

/// A session started by another one within the same runtime.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    /// Its own id.
    pub session_id: SessionId,
    /// A name for people.
    pub title: Option<String>,
    /// What kind of agent it is.
    pub agent_type: Option<String>,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// `completed`, `failed` or `killed`.
    pub status: Status,
    /// Why, in a few words.
    pub reason: String,
    /// Exit code; 128 + n for signal n.
    pub exit_code: Option<i32>,
    /// What went wrong, for `failed`.
    pub error: Option<String>,
    /// How it was brought about, where somebody asked for it.
    pub report: Option<EndReport>,
}

/// A session as its runtime has it.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionInfo {
    /// Its id.
    pub session_id: SessionId,
    /// The session that started it, as far as the runtime knows.
    pub parent_session_id: Option<SessionId>,
    /// Where it stands.
    pub status: Status,
    /// Why.
    pub status_reason: Option<String>,
    /// How we know.
    pub status_source: StatusSource,
    /// A name for people.
    pub title: Option<String>,
    /// What kind of agent it is.
    pub agent_type: Option<String>,
    /// The profile it was started from.
    pub profile: Option<String>,
    /// When its start was asked for.
    pub spawned_at: Timestamp,
    /// When it was ready.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// What it can do now.
    pub capabilities: Vec<Capability>,
    /// Further facts: `containment`, `pid`, `notCapable`.
    pub metadata: Metadata,
}

/// A session that appeared by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Appeared {
    /// Which; ask [`AgentProvider::session`] for the rest.
    pub session_id: SessionId,
}

/// What to start.
#[derive(Clone, Debug)]
pub struct SpawnRequest {
    /// The id it will have.
    pub session_id: SessionId,
    /// From what.
    pub profile: Profile,
    /// The session it is a child of; told to the process as `MOSAIC_PARENT_SESSION_ID`.
    pub parent_session_id: Option<SessionId>,
    /// A name for people.
    pub title: Option<String>,
    /// Further environment, over the profile's: `MOSAIC_NODE` and the like.
    pub env: BTreeMap<String, String>,
    /// Where to start where the profile does not say.
    pub default_cwd: Option<PathBuf>,
    /// The earlier conversation that it goes on with, by the runtime's own name for it: the fact `conversation` of the
    /// session in which it was led. `None`: it begins one.
    pub conversation: Option<String>,
}

impl SpawnRequest {
    /// Looks whether what is asked for can be had at all.
    ///
    /// # Errors
    /// [`ProviderError::Invalid`] for an earlier conversation that an agent of this profile cannot go on with.
    pub fn check(&self) -> Result<(), ProviderError> {
        if self.conversation.is_some() && self.profile.protocol != Protocol::Acp {
            let name = &self.profile.name;
            let text = format!("profile {name} cannot go on with an earlier conversation: only agents of ACP can");
            return Err(ProviderError::Invalid(text));
        }
        Ok(())
    }
}

/// A message of an operator on its way to an agent.
#[derive(Clone, Debug, PartialEq)]
pub struct OperatorMessage {
    /// Its id. Law 5.
    pub message_id: MessageId,
    /// Who sent it.
    pub operator: Operator,
    /// The text.
    pub content: String,
    /// How it is to arrive.
    pub mode: InjectMode,
}

/// What became of an operator message at the runtime.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InjectOutcome {
    /// `written` or `taken`; `refused` if the runtime turned it down; `unknown` if it was handed over and could not be
    /// verified, with the reason.
    pub state: Delivery,
    /// How it arrived, where that is known.
    pub mode: Option<InjectMode>,
    /// In a few words.
    pub reason: Option<String>,
}

/// Whether a provider can be used.
#[derive(Clone, Debug, PartialEq)]
pub struct ProviderHealth {
    /// `None` if it can; else what is wrong and what to do.
    pub error: Option<String>,
    /// What its sessions can do at best.
    pub capabilities: Vec<Capability>,
}

/// Why a provider did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// It has no such session.
    #[error("no session {0} here")]
    UnknownSession(SessionId),
    /// The session cannot do this.
    #[error("this session cannot {capability}: {reason}")]
    NotCapable {
        /// What was asked.
        capability: Capability,
        /// Why not, and what would help.
        reason: String,
    },
    /// Not in the state the session is in.
    #[error("the session is {status}: {reason}")]
    WrongState {
        /// Where it stands.
        status: Status,
        /// What would be needed.
        reason: String,
    },
    /// What was asked makes no sense to this runtime.
    #[error("{0}")]
    Invalid(String),
    /// The runtime cannot be reached now. May pass.
    #[error("{what}")]
    Unavailable {
        /// What could not be reached and what to do.
        what: String,
        /// Why.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The runtime tried and failed.
    #[error("{doing}")]
    Failed {
        /// What we were doing.
        doing: String,
        /// Why it went wrong.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// It took too long.
    #[error("{doing} took longer than {seconds} s")]
    Deadline {
        /// What we were doing.
        doing: String,
        /// The bound, in seconds.
        seconds: u64,
    },
}
