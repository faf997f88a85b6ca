//! Commands from the hub to a node, and their answers.
//!
//! Laws:
//! 1. A command is signed over its subject and its payload as sent ([`signed_bytes`](crate::signed_bytes)), and
//!    carries addressee, time, end of validity and operator inside.
//! 2. The node answers every command. The same `commandId` is carried out once; asked again, the node gives the
//!    same answer. Asked again means written and signed anew: the same bytes once more are a replay, and refused.
//!    So `commandId` and `issuedAt` together are the nonce, and no two commands of a hub are the same bytes.
//! 3. On the wire a command is a flat map, so that a node which does not know an action can still refuse it by
//!    name. In programs it is a [`Verb`], checked once ([`Command::verb`]).

use serde::{Deserialize, Serialize};

use crate::id::{CommandId, MessageId, NodeId, SessionId, WorkspaceId};
use crate::limits::MAX_CONTENT_BYTES;
use crate::message::{Delivery, Operator, TerminalSize};
use crate::open_enum::open_enum;
use crate::session::{Session, TaskSource};
use crate::settings::ConnectionTest;
use crate::time::Timestamp;

open_enum! {
    /// What a command asks for.
    pub enum Action {
        /// Start a session from a profile.
        Spawn = "spawn",
        /// Hand an operator message to a session.
        Inject = "inject",
        /// Freeze a session.
        Pause = "pause",
        /// Let it go on.
        Resume = "resume",
        /// Ask it to end.
        Terminate = "terminate",
        /// End it at once, with all it started.
        Kill = "kill",
        /// Type into its terminal.
        Input = "input",
        /// Change the size of its terminal.
        Resize = "resize",
        /// Tell what its terminal shows. Changes nothing.
        TerminalSnapshot = "terminalSnapshot",
        /// Tell how far an operator message has come. Changes nothing.
        DeliveryState = "deliveryState",
        /// Answer a request of the agent: for leave, or for words.
        Answer = "answer",
        /// Take over what is set up for the node's runtimes.
        Configure = "configure",
        /// Try whether a runtime can be reached. Changes nothing.
        TestConnection = "testConnection",
        /// Take over the command key that the headers prove, and do nothing else.
        Trust = "trust",
    }
}

open_enum! {
    /// How an operator message is to arrive.
    #[derive(Default)]
    pub enum InjectMode {
        /// After the running turn.
        Queue = "queue",
        /// Within the running turn.
        #[default]
        Steer = "steer",
        /// Instead of the running turn.
        Interrupt = "interrupt",
    }
}

open_enum! {
    /// What became of a command.
    pub enum Outcome {
        /// It is done, and what it says is proven.
        Done = "done",
        /// It is on disk and under way; its end shows in the session.
        Accepted = "accepted",
        /// It was not carried out; `refusal` says why. Nothing has changed.
        Refused = "refused",
        /// It was tried and went wrong; `refusal` says how. Something may have changed.
        Failed = "failed",
    }
}

open_enum! {
    /// Why a command was refused.
    pub enum RefusalCode {
        /// The node has no such session.
        UnknownSession = "unknownSession",
        /// The node has no such profile.
        UnknownProfile = "unknownProfile",
        /// This version of the node does not know the action.
        UnknownAction = "unknownAction",
        /// The session cannot do this.
        NotCapable = "notCapable",
        /// Not in the state the session is in.
        WrongState = "wrongState",
        /// The command came after its end of validity, or from the future.
        Expired = "expired",
        /// Addressed to another workspace or node.
        NotForMe = "notForMe",
        /// Signature missing or wrong, or by a key the node does not trust.
        BadSignature = "badSignature",
        /// The very same bytes came before: somebody sends what they have overheard.
        Replayed = "replayed",
        /// A field is missing or has a bad value.
        Invalid = "invalid",
        /// Too large.
        TooLarge = "tooLarge",
        /// The node has too much to do.
        Busy = "busy",
        /// The runtime failed.
        ProviderFailed = "providerFailed",
        /// It took too long.
        Deadline = "deadline",
    }
}

/// Why a command was not carried out, for programs and for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
#[error("{message}")]
pub struct Refusal {
    /// For programs.
    pub code: RefusalCode,
    /// For people: what is wrong and what to do.
    pub message: String,
}

impl Refusal {
    /// A refusal with its sentence.
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// A command as it stands on the wire. Which fields matter depends on `action`; see [`Verb`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Command {
    /// Carried out once.
    pub command_id: CommandId,
    /// Addressee.
    pub workspace: WorkspaceId,
    /// Addressee.
    pub node: NodeId,
    /// What to do.
    pub action: Action,
    /// To which session; absent for `spawn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// Who wants it.
    pub operator: Operator,
    /// When it was written.
    pub issued_at: Timestamp,
    /// The node refuses it after this.
    pub expires_at: Timestamp,
    /// `spawn`: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spawn: Option<Spawn>,
    /// `inject`, `deliveryState`: the operator message. `answer`: the message that asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<MessageId>,
    /// `inject`: the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// `inject`: how it is to arrive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<InjectMode>,
    /// `inject`: freeze the session before handing the message over, and leave it frozen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pause_first: bool,
    /// `input`: the bytes typed. `configure`, `testConnection`: the [`NodeSettings`](crate::NodeSettings) or the
    /// [`Connection`](crate::Connection), encoded and then sealed for the node.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "serde_bytes")]
    pub data: Option<Vec<u8>>,
    /// `resize`: the new size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<TerminalSize>,
    /// `answer`: what is answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
}

/// The answer to a request of an agent: an option, or words, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// The option chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub option_id: Option<String>,
    /// Words: the answer to a question, or why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// What to start (contract section 3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spawn {
    /// The id the session will have; given by the hub so that a repeated spawn is the same session.
    pub session_id: SessionId,
    /// Name of a profile in the node's configuration.
    pub profile: String,
    /// First message to the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The session it is a child of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_session_id: Option<SessionId>,
    /// The work item it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// Where that work item comes from.
    #[serde(default)]
    pub task_source: TaskSource,
    /// The mission it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mission_id: Option<String>,
    /// The session whose conversation it goes on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed: Option<Resumed>,
}

/// A session that is gone on with in another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resumed {
    /// The session that has ended.
    pub session_id: SessionId,
    /// What its agent calls its conversation: the session's fact `conversation`.
    pub conversation: String,
}

/// What a command asks for, with what it needs: the checked form of a [`Command`].
#[derive(Clone, Debug, PartialEq)]
pub enum Verb {
    /// Start a session.
    Spawn(Spawn),
    /// Hand over an operator message.
    Inject {
        /// To which session.
        session: SessionId,
        /// The message's id, given by the hub.
        message: MessageId,
        /// The text.
        content: String,
        /// How it is to arrive.
        mode: InjectMode,
        /// Freeze the session before, and leave it frozen.
        pause_first: bool,
    },
    /// Freeze.
    Pause(SessionId),
    /// Let go on.
    Resume(SessionId),
    /// Ask to end.
    Terminate(SessionId),
    /// End at once.
    Kill(SessionId),
    /// Type into the terminal.
    Input(SessionId, Vec<u8>),
    /// Change the terminal's size.
    Resize(SessionId, TerminalSize),
    /// Tell what the terminal shows.
    TerminalSnapshot(SessionId),
    /// Tell how far an operator message has come.
    DeliveryState(SessionId, MessageId),
    /// Answer a request: which, and what.
    Answer(SessionId, MessageId, Answer),
    /// Take over settings that are sealed for this node.
    Configure(Vec<u8>),
    /// Try a connection that is sealed for this node.
    TestConnection(Vec<u8>),
    /// Nothing: the headers have done it.
    Trust,
}

/// Largest number of bytes typed at once.
const MAX_INPUT_BYTES: usize = 64 * 1024;
/// Terminal sizes outside of this are mistakes; some programs allocate by them.
const TERMINAL_CELLS: std::ops::RangeInclusive<u16> = 2..=1000;

impl Command {
    /// Checks that everything the action needs is there and within its limits.
    ///
    /// # Errors
    /// A [`Refusal`] that can go straight back to the sender.
    pub fn verb(self) -> Result<Verb, Refusal> {
        fn need<T>(field: Option<T>, name: &str, action: &Action) -> Result<T, Refusal> {
            field.ok_or_else(|| Refusal::new(RefusalCode::Invalid, format!("{action} needs the field {name}")))
        }
        let action = self.action;
        let session = need(self.session_id, "sessionId", &action);
        Ok(match action {
            Action::Spawn => Verb::Spawn(need(self.spawn, "spawn", &action)?),
            Action::Inject => {
                let content = need(self.content, "content", &action)?;
                if content.len() > MAX_CONTENT_BYTES {
                    let text = format!("content of {} bytes is over the limit of {MAX_CONTENT_BYTES}", content.len());
                    return Err(Refusal::new(RefusalCode::TooLarge, text));
                }
                Verb::Inject {
                    session: session?,
                    message: need(self.message_id, "messageId", &action)?,
                    content,
                    mode: self.mode.unwrap_or_default(),
                    pause_first: self.pause_first,
                }
            }
            Action::Pause => Verb::Pause(session?),
            Action::Resume => Verb::Resume(session?),
            Action::Terminate => Verb::Terminate(session?),
            Action::Kill => Verb::Kill(session?),
            Action::Input => {
                let data = need(self.data, "data", &action)?;
                if data.len() > MAX_INPUT_BYTES {
                    let text = format!("input of {} bytes is over the limit of {MAX_INPUT_BYTES}", data.len());
                    return Err(Refusal::new(RefusalCode::TooLarge, text));
                }
                Verb::Input(session?, data)
            }
            Action::Resize => {
                let size = need(self.size, "size", &action)?;
                if !TERMINAL_CELLS.contains(&size.cols) || !TERMINAL_CELLS.contains(&size.rows) {
                    let text = format!("a terminal of {} by {} cells: both must be 2 to 1000", size.cols, size.rows);
                    return Err(Refusal::new(RefusalCode::Invalid, text));
                }
                Verb::Resize(session?, size)
            }
            Action::TerminalSnapshot => Verb::TerminalSnapshot(session?),
            Action::DeliveryState => Verb::DeliveryState(session?, need(self.message_id, "messageId", &action)?),
            Action::Answer => {
                let answer = need(self.answer, "answer", &action)?;
                if answer.option_id.is_none() && answer.text.is_none() {
                    return Err(Refusal::new(RefusalCode::Invalid, "an answer needs optionId or text"));
                }
                let size = answer.text.as_ref().map_or(0, String::len);
                if size > MAX_CONTENT_BYTES {
                    let text = format!("an answer of {size} bytes is over the limit of {MAX_CONTENT_BYTES}");
                    return Err(Refusal::new(RefusalCode::TooLarge, text));
                }
                Verb::Answer(session?, need(self.message_id, "messageId", &action)?, answer)
            }
            Action::Configure => Verb::Configure(need(self.data, "data", &action)?),
            Action::TestConnection => Verb::TestConnection(need(self.data, "data", &action)?),
            Action::Trust => Verb::Trust,
            Action::Unknown(word) => {
                let text = format!("this node does not know the action {word:?}; upgrade it");
                return Err(Refusal::new(RefusalCode::UnknownAction, text));
            }
        })
    }
}

/// Answer to a command. Every command gets one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommandReply {
    /// The command answered; absent where its payload could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
    /// What became of it.
    pub outcome: Outcome,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    /// The session after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    /// `inject`, `deliveryState`: how far the message has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// `terminate`, `kill`: how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<EndReport>,
    /// `terminalSnapshot`: what it shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<TerminalSnapshot>,
    /// `testConnection`: how it went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tested: Option<ConnectionTest>,
}

impl CommandReply {
    /// The answer to a command that was not carried out.
    pub fn refused(command_id: Option<CommandId>, refusal: Refusal) -> Self {
        Self { refusal: Some(refusal), ..Self::with(command_id, Outcome::Refused) }
    }

    /// The answer to a command that was.
    pub fn with(command_id: Option<CommandId>, outcome: Outcome) -> Self {
        Self {
            command_id,
            outcome,
            refusal: None,
            session: None,
            delivery: None,
            report: None,
            snapshot: None,
            tested: None,
        }
    }
}

/// How a session was brought to its end: the proof of a kill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct EndReport {
    /// How the processes were found: `cgroup`, or `processTree` where there is none to be had.
    pub containment: String,
    /// What was done, in order.
    pub steps: Vec<EndStep>,
    /// What was alive at the beginning and is dead.
    pub ended: Vec<EndedProcess>,
    /// What lives in spite of everything. Empty, or the kill has failed.
    #[serde(default)]
    pub survivors: Vec<EndedProcess>,
}

/// One step of an end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct EndStep {
    /// What was done: `thaw`, `leave` (the program's own way), `term`, `kill`, `reap`.
    pub step: String,
    /// When.
    pub at: Timestamp,
    /// In a few words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// A process of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct EndedProcess {
    /// Process id on the node's machine.
    pub pid: i32,
    /// Its program's name, without arguments.
    pub name: String,
}

/// What a terminal shows at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TerminalSnapshot {
    /// Bytes of output that it covers: continue from here.
    pub offset: u64,
    /// Bytes that paint it onto an empty terminal of `size`.
    #[serde(with = "serde_bytes")]
    pub data: Vec<u8>,
    /// Size of the terminal.
    pub size: TerminalSize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(action: Action) -> Command {
        Command {
            command_id: CommandId::new("c1").unwrap(),
            workspace: WorkspaceId::new("default").unwrap(),
            node: NodeId::new("n1").unwrap(),
            action,
            session_id: Some(SessionId::new("01JD8Z2V9Q0000000000000000").unwrap()),
            operator: Operator { id: crate::UserId::new("u1").unwrap(), name: "Ada".into() },
            issued_at: Timestamp::from_millis(0),
            expires_at: Timestamp::from_millis(1),
            spawn: None,
            message_id: None,
            content: None,
            mode: None,
            pause_first: false,
            data: None,
            size: None,
            answer: None,
        }
    }

    #[test]
    fn what_an_action_needs_is_named() {
        let refusal = command(Action::Inject).verb().unwrap_err();
        assert_eq!((refusal.code, refusal.message.as_str()), (RefusalCode::Invalid, "inject needs the field content"));
        let refusal = Command { session_id: None, ..command(Action::Pause) }.verb().unwrap_err();
        assert_eq!(refusal.message, "pause needs the field sessionId");
    }

    #[test]
    fn a_spawn_needs_no_session() {
        let refusal = Command { session_id: None, ..command(Action::Spawn) }.verb().unwrap_err();
        assert_eq!(refusal.message, "spawn needs the field spawn");
    }

    #[test]
    fn limits_are_checked() {
        let size = Some(TerminalSize { cols: 1, rows: 40 });
        assert_eq!(Command { size, ..command(Action::Resize) }.verb().unwrap_err().code, RefusalCode::Invalid);
        let content = Some("x".repeat(MAX_CONTENT_BYTES + 1));
        assert_eq!(Command { content, ..command(Action::Inject) }.verb().unwrap_err().code, RefusalCode::TooLarge);
        let data = Some(vec![0; MAX_INPUT_BYTES + 1]);
        assert_eq!(Command { data, ..command(Action::Input) }.verb().unwrap_err().code, RefusalCode::TooLarge);
    }

    #[test]
    fn an_action_of_a_newer_hub_is_refused_by_name() {
        let refusal = command(Action::from("levitate")).verb().unwrap_err();
        assert_eq!(refusal.code, RefusalCode::UnknownAction);
        assert!(refusal.message.contains("levitate"));
    }

    #[test]
    fn simple_actions_need_only_their_session() {
        let session = SessionId::new("01JD8Z2V9Q0000000000000000").unwrap();
        assert_eq!(command(Action::Pause).verb(), Ok(Verb::Pause(session.clone())));
        assert_eq!(command(Action::Kill).verb(), Ok(Verb::Kill(session)));
    }

    #[test]
    fn an_input_without_data_survives_the_wire() {
        let bytes = crate::encode(&command(Action::Input)).unwrap();
        assert_eq!(crate::decode::<Command>(&bytes, None).unwrap(), command(Action::Input));
    }
}
