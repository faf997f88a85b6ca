//! Calls to the provider on behalf of a session: each under a deadline, each as a future of its own, so that a slow one
//! holds up neither the session's events nor its other calls.

use std::future::Future;
use std::time::Duration;

use bus_schema::{CommandReply, EndReport, MessageId, Operator, Outcome, Refusal, RefusalCode, TerminalSnapshot};
use futures::future::BoxFuture;
use providers::{EventStream, InjectOutcome, ProviderError, SessionInfo};
use tokio::sync::oneshot;

/// Where the answer to a command goes.
pub type ReplyTo = oneshot::Sender<CommandReply>;

/// Longest time for a call that only asks or subscribes.
pub const ASK_DEADLINE: Duration = Duration::from_secs(15);
/// Longest time for a call that changes something. Providers have tighter bounds of their own.
pub const ACT_DEADLINE: Duration = Duration::from_secs(45);
/// Longest time to hand a message over: some agents take it only between two steps.
pub const HAND_OVER_DEADLINE: Duration = Duration::from_secs(90);

/// What an operator asked for, of those actions that go one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Freeze.
    Pause,
    /// Let go on.
    Resume,
    /// Ask to end.
    Terminate,
}

/// A call that has returned.
pub enum Done {
    /// The start of the session.
    Spawned(Result<SessionInfo, ProviderError>, ReplyTo),
    /// The session as a whole, and its events from where the disk says.
    Attached(Result<(SessionInfo, EventStream), ProviderError>),
    /// Pause, resume, terminate.
    Controlled(Control, Operator, Result<(), ProviderError>),
    /// Kill.
    Killed(Operator, Result<EndReport, ProviderError>, ReplyTo),
    /// Typing or resizing.
    Typed(Result<(), ProviderError>, ReplyTo),
    /// A request was answered.
    Answered(Result<(), ProviderError>, ReplyTo),
    /// What the terminal shows.
    Snapshot(Result<TerminalSnapshot, ProviderError>, ReplyTo),
    /// An operator message was handed over.
    HandedOver(MessageId, Result<InjectOutcome, ProviderError>),
    /// How far an operator message came, by the runtime's own record.
    Asked(MessageId, Result<Option<InjectOutcome>, ProviderError>),
    /// The provider may forget what is on our disk.
    Acknowledged,
}

/// A call under way.
pub type Op = BoxFuture<'static, Done>;

/// Puts a call under a deadline.
pub async fn within<T>(
    deadline: Duration,
    doing: &str,
    call: impl Future<Output = Result<T, ProviderError>>,
) -> Result<T, ProviderError> {
    match tokio::time::timeout(deadline, call).await {
        Ok(result) => result,
        Err(_) => Err(ProviderError::Deadline { doing: doing.into(), seconds: deadline.as_secs() }),
    }
}

/// The answer to a command that the provider did not carry out.
pub fn refused(error: &ProviderError) -> CommandReply {
    let (outcome, code) = match error {
        ProviderError::UnknownSession(_) => (Outcome::Refused, RefusalCode::UnknownSession),
        ProviderError::NotCapable { .. } => (Outcome::Refused, RefusalCode::NotCapable),
        ProviderError::WrongState { .. } => (Outcome::Refused, RefusalCode::WrongState),
        ProviderError::Invalid(_) => (Outcome::Refused, RefusalCode::Invalid),
        ProviderError::Unavailable { .. } | ProviderError::Failed { .. } => {
            (Outcome::Failed, RefusalCode::ProviderFailed)
        }
        ProviderError::Deadline { .. } => (Outcome::Failed, RefusalCode::Deadline),
    };
    let refusal = Refusal::new(code, crate::publisher::chain(error));
    CommandReply { refusal: Some(refusal), ..CommandReply::with(None, outcome) }
}

/// The answer to a command that was not carried out, in our own words.
pub fn refusal(code: RefusalCode, message: impl Into<String>) -> CommandReply {
    CommandReply::refused(None, Refusal::new(code, message))
}

/// The answer to a command that is for the node, and came to a session.
pub fn not_of_a_session() -> CommandReply {
    refusal(RefusalCode::Invalid, "this is for the node as a whole, not for a session")
}

/// Answers. Nobody may be waiting any more: then the reply is of no use.
pub fn answer(to: ReplyTo, reply: CommandReply) {
    let _ = to.send(reply);
}
