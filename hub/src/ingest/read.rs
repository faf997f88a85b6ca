//! What a message of a stream says, or why it cannot be read. Pure.

use bus_schema::{
    DecodeError, Message, NodeId, NodeState, Receipt, Session, SessionId, Subject, SubjectError, WorkspaceId, decode,
    limits,
};

use crate::bus::Stored;

/// What a message of a stream says.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// A message of a session.
    Message(NodeId, Message),
    /// How far an operator message has come.
    Receipt(NodeId, Receipt),
    /// A session's snapshot.
    Session(Box<Session>),
    /// A node's state.
    Node(Box<NodeState>),
}

impl Said {
    /// Who speaks for which session; none for a node's own state.
    pub fn claim(&self) -> Option<(&SessionId, &NodeId)> {
        match self {
            Said::Message(node, message) => Some((&message.session_id, node)),
            Said::Receipt(node, receipt) => Some((&receipt.session_id, node)),
            Said::Session(session) => Some((&session.session_id, &session.node)),
            Said::Node(_) => None,
        }
    }
}

/// Why a message cannot be read. It is set aside with this.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// Its subject is not one of ours.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// Its payload is not what belongs there.
    #[error(transparent)]
    Payload(#[from] DecodeError),
    /// Its payload speaks of something else than its subject.
    #[error("the subject says {field} {subject}, the payload {payload}")]
    Mismatch {
        /// Which field.
        field: &'static str,
        /// What the subject says.
        subject: String,
        /// What the payload says.
        payload: String,
    },
    /// A field is outside of its limits.
    #[error("{0}")]
    Limit(String),
    /// Its session belongs to another node.
    #[error("session {session} belongs to node {owner}, not to {node}")]
    Foreign {
        /// The session.
        session: SessionId,
        /// Whose it is.
        owner: NodeId,
        /// Who spoke.
        node: NodeId,
    },
    /// Its session belongs to another workspace; which one is not for this one to know.
    #[error("session {0} belongs to another workspace")]
    Elsewhere(SessionId),
    /// Nothing of this kind belongs into this stream.
    #[error("nothing of this kind belongs into this stream")]
    Kind,
    /// The database refused it.
    #[error("the store refused it: {0}")]
    Refused(String),
}

impl Unreadable {
    /// A word for the counter.
    pub fn word(&self) -> &'static str {
        match self {
            Unreadable::Subject(_) | Unreadable::Kind => "subject",
            Unreadable::Payload(_) => "payload",
            Unreadable::Mismatch { .. } => "mismatch",
            Unreadable::Limit(_) => "limit",
            Unreadable::Foreign { .. } | Unreadable::Elsewhere(_) => "foreign",
            Unreadable::Refused(_) => "refused",
        }
    }
}

/// Reads a message of one of the streams that are persisted.
///
/// # Errors
/// [`Unreadable`].
pub fn read(stored: &Stored) -> Result<Said, Unreadable> {
    let schema = stored.schema.as_deref();
    let subject: Subject = stored.subject.parse()?;
    match subject {
        Subject::Message(_, node, session) => {
            let message: Message = decode(&stored.payload, schema)?;
            same("session", &session, &message.session_id)?;
            if message.seq == 0 {
                return Err(Unreadable::Limit("seq is 0: it counts from 1".into()));
            }
            if i64::try_from(message.seq).is_err() {
                return Err(Unreadable::Limit(format!("seq {} is out of range", message.seq)));
            }
            if message.content.len() > limits::MAX_CONTENT_BYTES {
                let text = format!("content of {} bytes is over the limit", message.content.len());
                return Err(Unreadable::Limit(text));
            }
            Ok(Said::Message(node, message))
        }
        Subject::Receipt(_, node, session) => {
            let receipt: Receipt = decode(&stored.payload, schema)?;
            same("session", &session, &receipt.session_id)?;
            Ok(Said::Receipt(node, receipt))
        }
        Subject::Session(workspace, node, id) => {
            let session: Session = decode(&stored.payload, schema)?;
            same("session", &id, &session.session_id)?;
            same_place(&workspace, &node, &session.workspace, &session.node)?;
            if i64::try_from(session.rev).is_err() {
                return Err(Unreadable::Limit(format!("rev {} is out of range", session.rev)));
            }
            Ok(Said::Session(Box::new(session)))
        }
        Subject::Node(workspace, node) => {
            let state: NodeState = decode(&stored.payload, schema)?;
            same_place(&workspace, &node, &state.workspace, &state.node)?;
            Ok(Said::Node(Box::new(state)))
        }
        Subject::Delta(..)
        | Subject::Terminal(..)
        | Subject::Command(..)
        | Subject::Refusal(..)
        | Subject::Audit(_) => Err(Unreadable::Kind),
    }
}

fn same_place(w1: &WorkspaceId, n1: &NodeId, w2: &WorkspaceId, n2: &NodeId) -> Result<(), Unreadable> {
    same("workspace", w1, w2)?;
    same("node", n1, n2)
}

fn same<T: PartialEq + ToString>(field: &'static str, subject: &T, payload: &T) -> Result<(), Unreadable> {
    if subject == payload {
        return Ok(());
    }
    Err(Unreadable::Mismatch { field, subject: subject.to_string(), payload: payload.to_string() })
}

#[cfg(test)]
mod tests {
    use bus_schema::{MessageId, MessageKind, Metadata, Role, Timestamp, encode};

    use super::*;

    const S: &str = "01JD8Z2V9Q0000000000000001";

    fn message(session: &str, seq: u64, content: &str) -> Message {
        Message {
            message_id: MessageId::new("m").unwrap(),
            session_id: SessionId::new(session).unwrap(),
            seq,
            role: Role::Agent,
            content: content.into(),
            timestamp: Timestamp::from_millis(0),
            kind: MessageKind::Text,
            metadata: Metadata::new(),
        }
    }

    fn stored(subject: &str, payload: Vec<u8>) -> Stored {
        let at = Timestamp::from_millis(0);
        Stored { seq: 1, subject: subject.into(), schema: None, payload: payload.into(), at }
    }

    fn word(subject: &str, payload: Vec<u8>) -> &'static str {
        read(&stored(subject, payload)).map_or_else(|e| e.word(), |_| "fine")
    }

    #[test]
    fn each_mistake_has_its_reason() {
        let subject = format!("mosaic.v1.default.n1.message.{S}");
        let good = encode(&message(S, 1, "hi")).unwrap();
        assert_eq!(word(&subject, good.clone()), "fine");
        assert_eq!(word(&subject, b"\xc1garbage".to_vec()), "payload");
        assert_eq!(word(&subject, vec![]), "payload");
        assert_eq!(word("mosaic.v1.default.n1.message.nonsense", good.clone()), "subject");
        assert_eq!(word(&format!("mosaic.v1.default.n1.terminal.{S}"), good), "subject");
        let other = encode(&message("01JD8Z2V9Q0000000000000002", 1, "hi")).unwrap();
        assert_eq!(word(&subject, other), "mismatch");
        assert_eq!(word(&subject, encode(&message(S, 0, "hi")).unwrap()), "limit");
        assert_eq!(word(&subject, encode(&message(S, u64::MAX, "hi")).unwrap()), "limit");
        let long = "x".repeat(limits::MAX_CONTENT_BYTES + 1);
        assert_eq!(word(&subject, encode(&message(S, 1, &long)).unwrap()), "limit");
    }

    #[test]
    fn a_newer_schema_is_named() {
        let mut newer = stored(&format!("mosaic.v1.default.n1.message.{S}"), encode(&message(S, 1, "hi")).unwrap());
        newer.schema = Some("7".into());
        assert!(read(&newer).unwrap_err().to_string().contains("schema 7"));
    }
}
