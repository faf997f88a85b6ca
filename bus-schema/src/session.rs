//! A session: one run of one agent, as everybody sees it, and the states it can be in.
//!
//! ```text
//!  spawning ──► running ◄──► waiting          any state but the last three
//!     │  ▲        │  ▲         │ ▲                       │
//!     │  └────────┤  └──┐   ┌──┘ │                       ▼
//!     │  restart  ▼     │   ▼    │        completed · failed · killed
//!     └────────► paused ┴────────┘             (for ever)
//! ```
//!
//! Laws:
//! 1. A terminal status never changes ([`Status::transition`]).
//! 2. `killed` means that an operator asked for the end, whatever the exit code.
//! 3. A failed turn is not a failed session: [`Turn`] stands beside [`Status`].
//! 4. Of two snapshots of one session the one with the larger `rev` is the newer one.

use serde::{Deserialize, Serialize};

use crate::Metadata;
use crate::id::{MessageId, NodeId, ProviderName, SessionId, WorkspaceId};
use crate::open_enum::open_enum;
use crate::time::Timestamp;

open_enum! {
    /// Where a session stands.
    pub enum Status {
        /// Being started; not ready for input yet.
        Spawning = "spawning",
        /// At work, or not telling.
        Running = "running",
        /// Needs somebody, or has nothing to do.
        Waiting = "waiting",
        /// Frozen by an operator, and proven so.
        Paused = "paused",
        /// Ended by itself, without error.
        Completed = "completed",
        /// Ended with an error, or could not start.
        Failed = "failed",
        /// Ended because an operator asked for it.
        Killed = "killed",
    }
}

open_enum! {
    /// Where the work item of a session comes from.
    #[derive(Default)]
    pub enum TaskSource {
        /// The mesh itself.
        #[default]
        Internal = "internal",
        /// Mosaic's task queue.
        MosaicQueue = "mosaic-queue",
        /// Somewhere else.
        External = "external",
    }
}

open_enum! {
    /// Where the turn of an agent stands: its work on one input.
    pub enum Turn {
        /// No turn is open.
        Idle = "idle",
        /// The agent works.
        Active = "active",
        /// The agent waits for a person within the turn.
        Blocked = "blocked",
        /// The last turn failed; the session goes on.
        Error = "error",
    }
}

open_enum! {
    /// How we know the status: from the best source to the weakest.
    pub enum StatusSource {
        /// An operator's action, confirmed by the node.
        Operator = "operator",
        /// The runtime's own structured protocol (API, hook, `MOSAIC_SOCKET`).
        Runtime = "runtime",
        /// The agent's status sequences in its terminal (OSC 7501, titles).
        Terminal = "terminal",
        /// Guessed from the screen.
        Screen = "screen",
        /// Only that the process lives, or how it ended.
        Process = "process",
    }
}

open_enum! {
    /// Why somebody is needed.
    pub enum AttentionKind {
        /// The agent asks something.
        Question = "question",
        /// The agent asks for leave.
        Permission = "permission",
        /// The agent has nothing to do.
        Idle = "idle",
        /// Something went wrong.
        Error = "error",
    }
}

open_enum! {
    /// What an answer to a request means.
    pub enum OptionKind {
        /// Leave for this once.
        AllowOnce = "allowOnce",
        /// Leave from now on.
        AllowAlways = "allowAlways",
        /// No, this once.
        RejectOnce = "rejectOnce",
        /// No, from now on.
        RejectAlways = "rejectAlways",
        /// An answer to a question.
        Choice = "choice",
    }
}

open_enum! {
    /// One thing that can be done with a session.
    pub enum Capability {
        /// Send it an operator message.
        Inject = "inject",
        /// Freeze it.
        Pause = "pause",
        /// Let it go on.
        Resume = "resume",
        /// Ask it to end.
        Terminate = "terminate",
        /// End it at once, with its whole process tree.
        Kill = "kill",
        /// Watch its terminal.
        Terminal = "terminal",
        /// Type into its terminal.
        Input = "input",
        /// Change the size of its terminal.
        Resize = "resize",
        /// Answer its requests for leave.
        Approve = "approve",
    }
}

impl Status {
    /// True for the three that never change again.
    pub fn is_terminal(&self) -> bool {
        match self {
            Status::Completed | Status::Failed | Status::Killed => true,
            Status::Spawning | Status::Running | Status::Waiting | Status::Paused | Status::Unknown(_) => false,
        }
    }

    /// Checks the step from this status to `next`. The whole table of the protocol.
    ///
    /// Staying is always allowed. A status that this version does not know comes from a newer program: it may
    /// follow and be followed by anything, except that it cannot undo an end.
    ///
    /// # Errors
    /// [`TransitionError`] for a step that must not happen.
    pub fn transition(&self, next: &Status) -> Result<(), TransitionError> {
        use Status::{Completed, Failed, Killed, Paused, Running, Spawning, Unknown, Waiting};
        let allowed = match (self, next) {
            (from, to) if from == to => true,
            (Completed | Failed | Killed, _) => false,
            (_, Completed | Failed | Killed) => true,
            (Unknown(_), _) | (_, Unknown(_)) => true,
            (Spawning, Running | Waiting | Paused) => true,
            // A runtime restarted it: a container with a restart policy.
            (Running | Waiting, Spawning) => true,
            (Running, Waiting | Paused) => true,
            (Waiting, Running | Paused) => true,
            (Paused, Running | Waiting) => true,
            (Paused, Spawning) => false,
            // Equal pairs were answered above.
            (Spawning, Spawning) | (Running, Running) | (Waiting, Waiting) | (Paused, Paused) => true,
        };
        if allowed { Ok(()) } else { Err(TransitionError { from: self.clone(), to: next.clone() }) }
    }
}

/// A session cannot go from one status to the other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a session that is {from} cannot become {to}")]
pub struct TransitionError {
    /// Where it stands.
    pub from: Status,
    /// Where it was to go.
    pub to: Status,
}

/// Somebody is needed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Attention {
    /// Why.
    pub kind: AttentionKind,
    /// What the agent said, in its own words.
    #[serde(default)]
    pub text: String,
    /// Since when.
    pub since: Timestamp,
    /// What can be answered through the mesh, if anything can: the oldest open request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Asked>,
}

impl Attention {
    /// One that cannot be answered through the mesh.
    pub fn new(kind: AttentionKind, text: impl Into<String>, since: Timestamp) -> Self {
        Self { kind, text: text.into(), since, request: None }
    }
}

/// A request of an agent that waits for an answer: for leave, or for words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// The message (kind `permission`) that asks: the answer names it.
    pub request_id: MessageId,
    /// What can be chosen, in the agent's own words and order.
    #[serde(default)]
    pub options: Vec<AnswerOption>,
    /// True if it can be answered in words.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub takes_text: bool,
}

/// One of the answers a request offers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AnswerOption {
    /// The runtime's own name for it.
    pub option_id: String,
    /// For people, in the agent's own words.
    pub label: String,
    /// What it means.
    pub kind: OptionKind,
}

/// A whole snapshot of a session (contract section 4), sent on every change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Unique over all nodes and for ever.
    pub session_id: SessionId,
    /// The session that started this one. It may be unknown, or gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_session_id: Option<SessionId>,
    /// Its workspace.
    pub workspace: WorkspaceId,
    /// The node that looks after it.
    pub node: NodeId,
    /// The runtime it lives in.
    pub provider: ProviderName,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Where it stands.
    pub status: Status,
    /// Why, in a few words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_reason: Option<String>,
    /// How we know.
    pub status_source: StatusSource,
    /// Since when.
    pub status_since: Timestamp,
    /// Where the turn stands, if the runtime tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<Turn>,
    /// The work item it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// Where that work item comes from.
    #[serde(default)]
    pub task_source: TaskSource,
    /// The mission it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mission_id: Option<String>,
    /// What kind of agent it is: `codex`, `claude`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_type: Option<String>,
    /// The profile it was started from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// When its start was asked for.
    pub spawned_at: Timestamp,
    /// When it was ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Timestamp>,
    /// How its process ended; 128 + n for signal n.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// `seq` of its last message; 0 before the first.
    #[serde(default)]
    pub last_seq: u64,
    /// When that message was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_message_at: Option<Timestamp>,
    /// Set while somebody is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention: Option<Attention>,
    /// What can be done with it now; all else is refused.
    #[serde(default)]
    pub capabilities: Vec<Capability>,
    /// Set by the hub while the session's node is away: the rest is what was known last.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
    /// When the node was last heard of; with `stale`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_since: Option<Timestamp>,
    /// Number of this snapshot, growing with every change.
    #[serde(default)]
    pub rev: u64,
    /// Further facts: `containment`, `notCapable`, `pid`, the runtime's own.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub metadata: Metadata,
}

impl Session {
    /// True if `capability` is among those it has now.
    pub fn is_capable(&self, capability: &Capability) -> bool {
        self.capabilities.contains(capability)
    }
}

#[cfg(test)]
mod tests {
    use super::Status::{self, Completed, Failed, Killed, Paused, Running, Spawning, Waiting};

    /// The table once more, by hand: rows are `from`, columns `to`, in the order of `Status::ALL`.
    #[test]
    fn the_whole_transition_table() {
        assert_eq!(Status::ALL, [Spawning, Running, Waiting, Paused, Completed, Failed, Killed]);
        let table = [
            (Spawning, [1, 1, 1, 1, 1, 1, 1]),
            (Running, [1, 1, 1, 1, 1, 1, 1]),
            (Waiting, [1, 1, 1, 1, 1, 1, 1]),
            (Paused, [0, 1, 1, 1, 1, 1, 1]),
            (Completed, [0, 0, 0, 0, 1, 0, 0]),
            (Failed, [0, 0, 0, 0, 0, 1, 0]),
            (Killed, [0, 0, 0, 0, 0, 0, 1]),
        ];
        for (from, row) in table {
            for (to, allowed) in Status::ALL.iter().zip(row) {
                assert_eq!(from.transition(to).is_ok(), allowed == 1, "{from} -> {to}");
            }
        }
    }

    #[test]
    fn a_status_of_a_newer_version_cannot_undo_an_end() {
        let new = Status::from("hibernating");
        assert!(Running.transition(&new).is_ok());
        assert!(new.transition(&Running).is_ok());
        assert!(new.transition(&Killed).is_ok());
        assert!(Killed.transition(&new).is_err());
        assert!(!new.is_terminal());
    }

    #[test]
    fn the_error_names_both_ends() {
        let error = Killed.transition(&Running).unwrap_err();
        assert_eq!(error.to_string(), "a session that is killed cannot become running");
    }
}
