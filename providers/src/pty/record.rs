//! What stands in the blocks of a log that are not plain output: MessagePack maps with named fields, so that a newer
//! holder and an older node agent, and the other way round, understand each other.

use bus_schema::{InjectMode, MessageId, Operator, Status, StatusSource};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::provider::{End, InjectOutcome};

/// Who typed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Typist {
    /// An operator at the terminal.
    Operator(Operator),
    /// A message that is handed over, by its id.
    Message(MessageId),
    /// The terminal itself, answering a query.
    Terminal,
    /// Our side of a protocol, doing what that asks for.
    Client,
    /// Of a newer version.
    #[serde(other)]
    Other,
}

/// Payload of an input block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Input {
    /// Who.
    pub by: Typist,
    /// What; empty where the terminal did not show it either (a password).
    #[serde(with = "serde_bytes")]
    pub data: Vec<u8>,
    /// True if `data` was left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
}

/// Payload of a note block: something that was done to the session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Note {
    /// Its program runs.
    #[serde(rename_all = "camelCase")]
    Started {
        /// Its process.
        pid: i32,
        /// What holds its processes together.
        containment: String,
    },
    /// It stands still, and is seen to.
    Frozen {
        /// Who asked.
        by: Operator,
    },
    /// It goes on.
    Thawed {
        /// Who asked.
        by: Operator,
    },
    /// Somebody wants its end.
    Intent(Intent),
    /// An operator message is to be handed over.
    Injecting(Injecting),
    /// How far an operator message has come.
    #[serde(rename_all = "camelCase")]
    Injected {
        /// Which.
        message_id: MessageId,
        /// How far.
        outcome: InjectOutcome,
    },
    /// A request of the session was answered through the mesh.
    Answered(Answered),
    /// Where it stands, as its runtime has it.
    #[serde(rename_all = "camelCase")]
    Stands {
        /// The status; never a terminal one.
        status: Status,
        /// Why.
        reason: Option<String>,
        /// How we know.
        source: StatusSource,
    },
    /// Something that whoever reads the conversation must know.
    #[serde(rename_all = "camelCase")]
    Told {
        /// What.
        text: String,
    },
    /// Of a newer version.
    #[serde(other)]
    Other,
}

/// A request of the session was answered through the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answered {
    /// Which.
    pub request: String,
    /// The option chosen.
    pub option: String,
    /// What that says, for people.
    pub label: String,
    /// Words.
    #[serde(default)]
    pub text: Option<String>,
    /// By whom.
    pub by: Operator,
    /// True if the agent was seen to go on.
    pub confirmed: bool,
    /// Where it was asked.
    #[serde(default = "hook")]
    pub source: String,
}

fn hook() -> String {
    super::report::HOOK.into()
}

/// Somebody wants the end of the session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Intent {
    /// How.
    pub action: EndAction,
    /// Who.
    pub by: Operator,
    /// When, in µs since 1970.
    pub at: i64,
}

/// How a session is brought to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum EndAction {
    /// Asked, ever more firmly.
    Terminate,
    /// At once.
    Kill,
}

/// An operator message that is to be handed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Injecting {
    /// Which.
    pub message_id: MessageId,
    /// From whom.
    pub operator: Operator,
    /// The text.
    pub content: String,
    /// How it is to arrive.
    pub mode: InjectMode,
}

/// Payload of a fragment block: one piece of output as the runtime keeps it. A line may be of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fragment<'a> {
    /// 1 for standard output or a terminal, 2 for standard error.
    pub stream: u8,
    /// The runtime's stamp, in ns since 1970.
    pub nanos: i64,
    /// What was written.
    pub bytes: &'a [u8],
}

impl<'a> Fragment<'a> {
    /// As it stands in the block.
    pub fn encode(&self) -> Vec<u8> {
        [&[self.stream], &self.nanos.to_le_bytes()[..], self.bytes].concat()
    }

    /// From a block.
    pub fn decode(data: &'a [u8]) -> Option<Self> {
        let (stream, rest) = data.split_first()?;
        let (nanos, bytes) = rest.split_first_chunk::<8>()?;
        Some(Self { stream: *stream, nanos: i64::from_le_bytes(*nanos), bytes })
    }
}

/// Payload of a block of what a terminal showed whose lines come as fragments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shown<'a> {
    /// Bytes that it had shown before.
    pub offset: u64,
    /// What it showed.
    pub bytes: &'a [u8],
}

impl<'a> Shown<'a> {
    /// As it stands in the block.
    pub fn encode(&self) -> Vec<u8> {
        [&self.offset.to_le_bytes()[..], self.bytes].concat()
    }

    /// From a block.
    pub fn decode(data: &'a [u8]) -> Option<Self> {
        let (offset, bytes) = data.split_first_chunk::<8>()?;
        Some(Self { offset: u64::from_le_bytes(*offset), bytes })
    }
}

/// Payload of the exit block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Exit {
    /// How it ended, as the provider tells it.
    pub end: End,
}

/// A payload as bytes. Cannot fail for the types above; an empty payload reads as of a newer version.
pub(crate) fn pack<T: Serialize>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec_named(value).unwrap_or_default()
}

/// The value of a payload; `None` if it is not one that this version knows.
pub(crate) fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    rmp_serde::from_slice(bytes).ok()
}

#[cfg(test)]
mod tests {
    use bus_schema::{Delivery, UserId};

    use super::*;

    #[test]
    fn payloads_come_back_as_they_were() {
        let by = Operator { id: UserId::new("u1").unwrap(), name: "Ada".into() };
        let input = Input { by: Typist::Operator(by.clone()), data: vec![0, 0xff, 3], hidden: false };
        assert_eq!(unpack::<Input>(&pack(&input)), Some(input));
        let outcome = InjectOutcome { state: Delivery::Written, mode: Some(InjectMode::Queue), reason: None };
        let notes = [
            Note::Answered(Answered {
                request: "r".into(),
                option: "allow".into(),
                label: "Yes".into(),
                text: None,
                by: by.clone(),
                confirmed: true,
                source: hook(),
            }),
            Note::Started { pid: 7, containment: "cgroup".into() },
            Note::Intent(Intent { action: EndAction::Kill, by, at: 5 }),
            Note::Injected { message_id: MessageId::new("m1").unwrap(), outcome },
        ];
        for note in notes {
            assert_eq!(unpack::<Note>(&pack(&note)), Some(note));
        }
    }

    #[test]
    fn what_a_newer_version_wrote_is_passed_over() {
        assert_eq!(unpack::<Note>(&pack(&"levitated")), Some(Note::Other));
        assert_eq!(unpack::<Note>(b"\xc1"), None);
    }
}
