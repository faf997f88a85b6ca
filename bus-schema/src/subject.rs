//! Subjects: built here, read back here, and nowhere else.
//!
//! `mosaic.v1.{workspace}.{node}.{kind}[.{session}]`; behind `live.` what a stream has stored.

use std::fmt;
use std::str::FromStr;

use crate::id::{IdError, NodeId, SessionId, WorkspaceId};

/// Root of every subject of this major version.
pub const ROOT: &str = "mosaic.v1";
/// Prefix under which a stream republishes what it has stored.
pub const LIVE: &str = "live";

/// What a subject carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// State of a node.
    Node,
    /// Snapshot of a session.
    Session,
    /// One complete message.
    Message,
    /// Partial text of the message being written.
    Delta,
    /// Terminal bytes.
    Terminal,
    /// A signed command to a node.
    Command,
    /// Delivery state of an injected message.
    Receipt,
    /// A command that the node did not obey.
    Refusal,
    /// A row of the audit log.
    Audit,
}

impl Kind {
    /// Every kind.
    pub const ALL: &'static [Kind] = &[
        Kind::Node,
        Kind::Session,
        Kind::Message,
        Kind::Delta,
        Kind::Terminal,
        Kind::Command,
        Kind::Receipt,
        Kind::Refusal,
        Kind::Audit,
    ];

    /// The token in the subject.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Node => "node",
            Kind::Session => "session",
            Kind::Message => "message",
            Kind::Delta => "delta",
            Kind::Terminal => "terminal",
            Kind::Command => "command",
            Kind::Receipt => "receipt",
            Kind::Refusal => "refusal",
            Kind::Audit => "audit",
        }
    }

    /// True if the subject ends in a session id.
    pub fn has_session(self) -> bool {
        match self {
            Kind::Session | Kind::Message | Kind::Delta | Kind::Terminal | Kind::Receipt => true,
            Kind::Node | Kind::Command | Kind::Refusal | Kind::Audit => false,
        }
    }

    /// The subject filter for all of this kind, in one workspace or (`None`) in all, for one node or all.
    ///
    /// `mosaic.v1.default.*.message.*` is `Kind::Message.filter(Some(&default), None)`.
    pub fn filter(self, workspace: Option<&WorkspaceId>, node: Option<&NodeId>) -> String {
        let workspace = workspace.map_or("*", |w| w.as_str());
        let node = if self == Kind::Audit { HUB } else { node.map_or("*", |n| n.as_str()) };
        let tail = if self.has_session() { ".*" } else { "" };
        format!("{ROOT}.{workspace}.{node}.{}{tail}", self.as_str())
    }

    /// As [`filter`](Self::filter), for what the streams have stored: the one to watch.
    pub fn live_filter(self, workspace: Option<&WorkspaceId>, node: Option<&NodeId>) -> String {
        format!("{LIVE}.{}", self.filter(workspace, node))
    }
}

/// The hub's place where a node's name stands otherwise.
const HUB: &str = "hub";

/// One subject of the protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// `mosaic.v1.W.N.node`
    Node(WorkspaceId, NodeId),
    /// `mosaic.v1.W.N.session.S`
    Session(WorkspaceId, NodeId, SessionId),
    /// `mosaic.v1.W.N.message.S`
    Message(WorkspaceId, NodeId, SessionId),
    /// `mosaic.v1.W.N.delta.S`
    Delta(WorkspaceId, NodeId, SessionId),
    /// `mosaic.v1.W.N.terminal.S`
    Terminal(WorkspaceId, NodeId, SessionId),
    /// `mosaic.v1.W.N.command`
    Command(WorkspaceId, NodeId),
    /// `mosaic.v1.W.N.receipt.S`
    Receipt(WorkspaceId, NodeId, SessionId),
    /// `mosaic.v1.W.N.refusal`
    Refusal(WorkspaceId, NodeId),
    /// `mosaic.v1.W.hub.audit`
    Audit(WorkspaceId),
}

/// A text is not a subject of this protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// It does not begin with `mosaic.v1.`, or has too few or too many tokens for its kind.
    #[error("subject does not have the form {ROOT}.WORKSPACE.NODE.KIND[.SESSION]")]
    Form,
    /// The kind is not one that this version knows.
    #[error("subject has the unknown kind {0:?}")]
    UnknownKind(String),
    /// One of its tokens is not the identifier it should be.
    #[error(transparent)]
    Id(#[from] IdError),
}

impl Subject {
    /// The subject of a kind; what that kind does not name is left out.
    pub fn of(kind: Kind, workspace: WorkspaceId, node: NodeId, session: SessionId) -> Self {
        let (w, n, s) = (workspace, node, session);
        match kind {
            Kind::Node => Subject::Node(w, n),
            Kind::Session => Subject::Session(w, n, s),
            Kind::Message => Subject::Message(w, n, s),
            Kind::Delta => Subject::Delta(w, n, s),
            Kind::Terminal => Subject::Terminal(w, n, s),
            Kind::Command => Subject::Command(w, n),
            Kind::Receipt => Subject::Receipt(w, n, s),
            Kind::Refusal => Subject::Refusal(w, n),
            Kind::Audit => Subject::Audit(w),
        }
    }

    /// What this subject carries.
    pub fn kind(&self) -> Kind {
        match self {
            Subject::Node(..) => Kind::Node,
            Subject::Session(..) => Kind::Session,
            Subject::Message(..) => Kind::Message,
            Subject::Delta(..) => Kind::Delta,
            Subject::Terminal(..) => Kind::Terminal,
            Subject::Command(..) => Kind::Command,
            Subject::Receipt(..) => Kind::Receipt,
            Subject::Refusal(..) => Kind::Refusal,
            Subject::Audit(..) => Kind::Audit,
        }
    }

    /// The workspace it belongs to.
    pub fn workspace(&self) -> &WorkspaceId {
        match self {
            Subject::Node(w, _)
            | Subject::Session(w, ..)
            | Subject::Message(w, ..)
            | Subject::Delta(w, ..)
            | Subject::Terminal(w, ..)
            | Subject::Command(w, _)
            | Subject::Receipt(w, ..)
            | Subject::Refusal(w, _)
            | Subject::Audit(w) => w,
        }
    }

    /// The node it belongs to; none for the hub's own.
    pub fn node(&self) -> Option<&NodeId> {
        match self {
            Subject::Node(_, n)
            | Subject::Session(_, n, _)
            | Subject::Message(_, n, _)
            | Subject::Delta(_, n, _)
            | Subject::Terminal(_, n, _)
            | Subject::Command(_, n)
            | Subject::Receipt(_, n, _)
            | Subject::Refusal(_, n) => Some(n),
            Subject::Audit(_) => None,
        }
    }

    /// The session it belongs to, where its kind has one.
    pub fn session(&self) -> Option<&SessionId> {
        match self {
            Subject::Session(.., s)
            | Subject::Message(.., s)
            | Subject::Delta(.., s)
            | Subject::Terminal(.., s)
            | Subject::Receipt(.., s) => Some(s),
            Subject::Node(..) | Subject::Command(..) | Subject::Refusal(..) | Subject::Audit(_) => None,
        }
    }

    /// The subject under which the stream republishes what it stored here: the one to watch.
    pub fn live(&self) -> String {
        format!("{LIVE}.{self}")
    }

    /// Reads a subject back from what [`Subject::live`] gives.
    ///
    /// # Errors
    /// [`SubjectError`] if it does not begin with `live.` or the rest is not a subject of ours.
    pub fn parse_live(text: &str) -> Result<Self, SubjectError> {
        text.strip_prefix(LIVE).and_then(|t| t.strip_prefix('.')).ok_or(SubjectError::Form)?.parse()
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = self.node().map_or(HUB, |n| n.as_str());
        write!(f, "{ROOT}.{}.{node}.{}", self.workspace(), self.kind().as_str())?;
        match self.session() {
            Some(session) => write!(f, ".{session}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Subject {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        let rest = text.strip_prefix(ROOT).and_then(|t| t.strip_prefix('.')).ok_or(SubjectError::Form)?;
        let mut tokens = rest.split('.');
        let mut next = || tokens.next().ok_or(SubjectError::Form);
        let (workspace, node, word) = (WorkspaceId::new(next()?)?, next()?, next()?);
        let kind = Kind::ALL.iter().copied().find(|k| k.as_str() == word);
        let kind = kind.ok_or_else(|| SubjectError::UnknownKind(word.chars().take(80).collect()))?;
        let session = if kind.has_session() { Some(SessionId::new(next()?)?) } else { None };
        if tokens.next().is_some() {
            return Err(SubjectError::Form);
        }
        match (kind, session) {
            (Kind::Audit, None) if node == HUB => Ok(Subject::Audit(workspace)),
            (Kind::Audit, _) => Err(SubjectError::Form),
            (Kind::Node, None) => Ok(Subject::Node(workspace, NodeId::new(node)?)),
            (Kind::Command, None) => Ok(Subject::Command(workspace, NodeId::new(node)?)),
            (Kind::Refusal, None) => Ok(Subject::Refusal(workspace, NodeId::new(node)?)),
            (Kind::Session, Some(s)) => Ok(Subject::Session(workspace, NodeId::new(node)?, s)),
            (Kind::Message, Some(s)) => Ok(Subject::Message(workspace, NodeId::new(node)?, s)),
            (Kind::Delta, Some(s)) => Ok(Subject::Delta(workspace, NodeId::new(node)?, s)),
            (Kind::Terminal, Some(s)) => Ok(Subject::Terminal(workspace, NodeId::new(node)?, s)),
            (Kind::Receipt, Some(s)) => Ok(Subject::Receipt(workspace, NodeId::new(node)?, s)),
            (Kind::Node | Kind::Command | Kind::Refusal, Some(_)) => Err(SubjectError::Form),
            (Kind::Session | Kind::Message | Kind::Delta | Kind::Terminal | Kind::Receipt, None) => {
                Err(SubjectError::Form)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: &str = "01JD8Z2V9Q0000000000000000";

    #[test]
    fn every_kind_goes_there_and_back() {
        let texts = [
            "mosaic.v1.default.n1.node".to_owned(),
            format!("mosaic.v1.default.n1.session.{S}"),
            format!("mosaic.v1.default.n1.message.{S}"),
            format!("mosaic.v1.default.n1.delta.{S}"),
            format!("mosaic.v1.default.n1.terminal.{S}"),
            "mosaic.v1.default.n1.command".to_owned(),
            format!("mosaic.v1.default.n1.receipt.{S}"),
            "mosaic.v1.default.n1.refusal".to_owned(),
            "mosaic.v1.default.hub.audit".to_owned(),
        ];
        assert_eq!(texts.len(), Kind::ALL.len());
        for (text, kind) in texts.iter().zip(Kind::ALL) {
            let subject: Subject = text.parse().unwrap();
            assert_eq!(subject.kind(), *kind);
            assert_eq!(&subject.to_string(), text);
            assert_eq!(Subject::parse_live(&subject.live()).unwrap(), subject);
        }
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        for text in [
            "",
            "mosaic.v1",
            "mosaic.v1.",
            "mosaic.v2.default.n1.node",
            "mosaic.v1x.default.n1.node",
            "mosaic.v1.default.n1.node.extra",
            "mosaic.v1.default.n1.message",
            "mosaic.v1.default.n1.message.not-a-ulid",
            "mosaic.v1.default.hub.node",
            "mosaic.v1.default.n1.audit",
            "mosaic.v1.default.*.node",
            "mosaic.v1..n1.node",
            "live.mosaic.v1.default.n1.node",
        ] {
            assert!(text.parse::<Subject>().is_err(), "{text}");
        }
        assert_eq!("mosaic.v1.d.n.poem".parse::<Subject>(), Err(SubjectError::UnknownKind("poem".into())));
    }

    #[test]
    fn filters_name_what_they_cover() {
        let workspace = WorkspaceId::new("default").unwrap();
        let node = NodeId::new("n1").unwrap();
        assert_eq!(Kind::Message.filter(None, None), "mosaic.v1.*.*.message.*");
        assert_eq!(Kind::Delta.filter(Some(&workspace), None), "mosaic.v1.default.*.delta.*");
        assert_eq!(Kind::Command.filter(Some(&workspace), Some(&node)), "mosaic.v1.default.n1.command");
        assert_eq!(Kind::Audit.filter(None, Some(&node)), "mosaic.v1.*.hub.audit");
        assert_eq!(Kind::Node.live_filter(Some(&workspace), None), "live.mosaic.v1.default.*.node");
    }
}
