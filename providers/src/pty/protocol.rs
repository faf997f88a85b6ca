//! What a holder and its clients say to each other on `holder.sock`.
//!
//! A frame is its length (u32, big endian) and one MessagePack value. The client begins with [`ToHolder::Hello`] and
//! the range of versions it speaks; the holder answers with the one it takes, or refuses and names its own. That first
//! exchange has the same form in every version.
//!
//! Laws:
//! 1. A holder outlives the node agent that started it, so it must be understood by older and newer ones: fields are
//!    only added, with defaults; a change that an older one would misunderstand is a new version.
//! 2. Every call is answered, once, with its own number. What the holder does not know is answered with a fault.
//! 3. After [`ToHolder::Attach`] the log's own bytes follow, from the file. The holder keeps nothing for a slow client.

use std::io::{self, Read, Write};
use std::path::Path;

use bus_schema::{EndReport, InjectMode, MessageId, Operator, Status, TerminalSize, TerminalSnapshot};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::socket;
use crate::provider::InjectOutcome;

/// The oldest version of the protocol that this program speaks.
pub(crate) const OLDEST: u32 = 1;
/// The newest.
pub(crate) const NEWEST: u32 = 1;
/// Largest frame: the longest operator message (256 KiB) with room for what stands around it.
pub(crate) const MAX_FRAME_BYTES: usize = 1024 * 1024;
/// How much of the log is sent in one frame.
pub(crate) const LOG_FRAME_BYTES: usize = 64 * 1024;

/// From a client to the holder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ToHolder {
    /// First of all.
    Hello {
        /// The oldest version that the client speaks.
        oldest: u32,
        /// The newest.
        newest: u32,
    },
    /// Send the log from here on, and go on sending.
    Attach {
        /// A place between two blocks.
        from: u64,
    },
    /// The client has everything before `acknowledged` on its disk.
    Acknowledge {
        /// A place in the log.
        acknowledged: u64,
        /// Segments before this are needed no more, whatever is acknowledged.
        floor: u64,
    },
    /// Do something, and answer.
    Call {
        /// The client's number for it.
        id: u64,
        /// What.
        call: Call,
    },
    /// From the exec shim: whether it is where the session's processes belong. Answered by [`FromHolder::Go`].
    Launching {
        /// Why it could not join the cgroup that it was told to.
        error: Option<String>,
    },
    /// From the exec shim: the program could not be run.
    LaunchFailed {
        /// Why, for people.
        error: String,
    },
}

/// What a client may ask for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Call {
    /// How far the session is.
    Status,
    /// Type.
    Input {
        /// What.
        #[serde(with = "serde_bytes")]
        data: Vec<u8>,
        /// Who.
        by: Operator,
    },
    /// Change the terminal's size.
    Resize {
        /// To what.
        size: TerminalSize,
    },
    /// What the terminal shows.
    Snapshot,
    /// Stop everything.
    Freeze {
        /// Who asks.
        by: Operator,
    },
    /// Let everything go on.
    Thaw {
        /// Who asks.
        by: Operator,
    },
    /// Ask the session to end.
    Terminate {
        /// Who asks.
        by: Operator,
    },
    /// End it.
    Kill {
        /// Who asks.
        by: Operator,
    },
    /// Hand over an operator message.
    #[serde(rename_all = "camelCase")]
    Inject {
        /// Its id.
        message_id: MessageId,
        /// From whom.
        operator: Operator,
        /// The text.
        content: String,
        /// How it is to arrive.
        mode: InjectMode,
    },
    /// Answer a request of the agent.
    Answer {
        /// The message that asks.
        request: MessageId,
        /// What is answered.
        answer: bus_schema::Answer,
        /// Who answers.
        by: Operator,
    },
    /// How far an operator message has come.
    #[serde(rename_all = "camelCase")]
    Injection {
        /// Which.
        message_id: MessageId,
    },
    /// The node agent needs nothing more of a session that has ended.
    Leave,
}

/// From the holder to a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum FromHolder {
    /// The version that is spoken from here on.
    Hello {
        /// Which.
        version: u32,
    },
    /// No version in common; the connection ends.
    Refused {
        /// For people.
        reason: String,
        /// The oldest version that the holder speaks.
        oldest: u32,
        /// The newest.
        newest: u32,
    },
    /// Bytes of the log, ending anywhere.
    Log {
        /// The place of the first.
        offset: u64,
        /// The base of their segment.
        segment: u64,
        /// The bytes.
        #[serde(with = "serde_bytes")]
        data: Vec<u8>,
    },
    /// The answer to a call.
    Reply {
        /// The client's number.
        id: u64,
        /// The answer.
        result: Result<Answer, Fault>,
    },
    /// To the exec shim: run the program.
    Go,
}

/// What a call is answered with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Answer {
    /// It is done, or has begun.
    Done,
    /// How far the session is.
    Status(HolderStatus),
    /// What the terminal shows.
    Snapshot(TerminalSnapshot),
    /// How it was killed.
    Killed(EndReport),
    /// How far an operator message has come; `None` if it never got here.
    Injection(Option<InjectOutcome>),
}

/// How far a session is, as its holder knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct HolderStatus {
    /// The place behind the last block of the log.
    pub end: u64,
    /// The place where the log begins that is kept.
    pub first: u64,
    /// What the consumer has on its disk.
    pub acknowledged: u64,
    /// True while the session's output is not read, because the consumer is behind or it writes too fast.
    pub held_back: bool,
    /// Bytes typed that the session has not read.
    pub unread_input: u64,
    /// Reports that could not be read.
    pub bad_reports: u64,
    /// Answers to reports that the reporter did not read.
    pub lost_answers: u64,
}

/// Why a call was not carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Fault {
    /// For programs.
    pub kind: FaultKind,
    /// For people.
    pub reason: String,
    /// Where the session stands, for [`FaultKind::WrongState`].
    #[serde(default)]
    pub status: Option<Status>,
}

/// Why a call was not carried out, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum FaultKind {
    /// Not in the state the session is in.
    WrongState,
    /// It makes no sense.
    Invalid,
    /// The session does not read what is typed.
    NotReading,
    /// It was tried and went wrong.
    Failed,
    /// The holder does not know it.
    UnknownCall,
}

impl Fault {
    /// A fault with its sentence.
    pub fn new(kind: FaultKind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into(), status: None }
    }

    /// Not in the state the session is in.
    pub fn wrong_state(status: Status, reason: impl Into<String>) -> Self {
        Self { kind: FaultKind::WrongState, reason: reason.into(), status: Some(status) }
    }
}

/// The other side does not speak as it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProtocolError {
    /// The connection failed.
    #[error("talking to the holder")]
    Io(#[from] io::Error),
    /// A frame is larger than any of ours.
    #[error("a frame of {0} bytes is over the limit of {MAX_FRAME_BYTES}")]
    TooLarge(usize),
    /// A frame is no value of the protocol.
    #[error("a frame that cannot be read")]
    Format(#[from] rmp_serde::decode::Error),
    /// A value could not be written.
    #[error("a frame that cannot be written")]
    Encode(#[from] rmp_serde::encode::Error),
    /// The holder speaks only other versions.
    #[error(
        "the holder speaks versions {oldest} to {newest} of its protocol, this program {OLDEST} to {NEWEST}: {reason}"
    )]
    Version {
        /// What the holder said.
        reason: String,
        /// Its oldest version.
        oldest: u32,
        /// Its newest.
        newest: u32,
    },
    /// Something else than was due.
    #[error("the holder answered something else than was asked")]
    Unexpected,
}

/// The version both sides speak, or why there is none.
pub(crate) fn agree(oldest: u32, newest: u32) -> Result<u32, String> {
    let version = newest.min(NEWEST);
    if version >= oldest.max(OLDEST) {
        Ok(version)
    } else {
        Err(format!("this holder speaks versions {OLDEST} to {NEWEST}, the client {oldest} to {newest}"))
    }
}

/// A value as a frame.
pub(crate) fn frame<T: Serialize>(value: &T) -> Result<Vec<u8>, ProtocolError> {
    let body = rmp_serde::to_vec_named(value)?;
    if body.len() > MAX_FRAME_BYTES {
        return Err(ProtocolError::TooLarge(body.len()));
    }
    let mut bytes = Vec::with_capacity(4 + body.len());
    bytes.extend_from_slice(&(body.len() as u32).to_be_bytes());
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// Takes the first whole frame out of `buffer`.
pub(crate) fn take_frame<T: DeserializeOwned>(buffer: &mut Vec<u8>) -> Result<Option<T>, ProtocolError> {
    let Some(length) = buffer.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes) as usize) else {
        return Ok(None);
    };
    if length > MAX_FRAME_BYTES {
        return Err(ProtocolError::TooLarge(length));
    }
    let Some(body) = buffer.get(4..4 + length) else { return Ok(None) };
    let value = rmp_serde::from_slice(body)?;
    buffer.drain(..4 + length);
    Ok(Some(value))
}

/// A client that waits: for the exec shim, which has no runtime.
pub(crate) struct Blocking(std::os::unix::net::UnixStream);

impl Blocking {
    /// Connects to the holder of a session and agrees on a version.
    pub fn connect(dir: &Path, name: &str) -> Result<Self, ProtocolError> {
        let mut client = Self(socket::connect(dir, name)?);
        client.send(&ToHolder::Hello { oldest: OLDEST, newest: NEWEST })?;
        match client.receive()? {
            FromHolder::Hello { .. } => Ok(client),
            FromHolder::Refused { reason, oldest, newest } => Err(ProtocolError::Version { reason, oldest, newest }),
            FromHolder::Log { .. } | FromHolder::Reply { .. } | FromHolder::Go => Err(ProtocolError::Unexpected),
        }
    }

    /// Sends one frame.
    pub fn send(&mut self, value: &ToHolder) -> Result<(), ProtocolError> {
        Ok(self.0.write_all(&frame(value)?)?)
    }

    /// Waits for one frame.
    pub fn receive(&mut self) -> Result<FromHolder, ProtocolError> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_FRAME_BYTES {
            return Err(ProtocolError::TooLarge(length));
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok(rmp_serde::from_slice(&body)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_agreed_on_or_refused_with_both_ranges() {
        assert_eq!(agree(1, 9), Ok(NEWEST));
        let reason = agree(NEWEST + 1, NEWEST + 3).unwrap_err();
        assert!(reason.contains("1 to 1") && reason.contains("2 to 4"), "{reason}");
    }

    #[test]
    fn frames_come_back_in_any_portions() {
        let sent = ToHolder::Call { id: 3, call: Call::Resize { size: TerminalSize { cols: 80, rows: 24 } } };
        let mut bytes = frame(&sent).unwrap();
        bytes.extend(frame(&ToHolder::Attach { from: 9 }).unwrap());
        let (mut buffer, mut found) = (vec![], vec![]);
        for byte in bytes {
            buffer.push(byte);
            found.extend(take_frame::<ToHolder>(&mut buffer).unwrap());
        }
        assert_eq!(found, [sent, ToHolder::Attach { from: 9 }]);
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_before_it_is_taken() {
        let mut buffer = u32::MAX.to_be_bytes().to_vec();
        assert!(matches!(take_frame::<ToHolder>(&mut buffer), Err(ProtocolError::TooLarge(_))));
    }

    /// The first exchange as bytes: it must stay readable to every version there will be.
    #[test]
    fn the_hello_never_changes() {
        let bytes = frame(&ToHolder::Hello { oldest: 1, newest: 1 }).unwrap();
        assert_eq!(&bytes[4..], b"\x81\xa5hello\x82\xa6oldest\x01\xa6newest\x01");
    }
}
