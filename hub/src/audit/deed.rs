//! What is written into the audit log, in words that are short to say where something is done:
//!
//! ```text
//! let deed = Deed::by(&asker, "setRole").with("user", id.as_str()).with("role", "admin");
//! let intent = audit.intend(deed).await?;          // before: no intent, no action
//! audit.conclude(intent, DeedResult::of(&done)).await;
//!
//! audit.note(Deed::new("signIn", actor, request_id), DeedResult::ok()).await?;   // it has happened already
//! audit.refused(Deed::by(&asker, "refused"), "your role does not allow this").await;
//! ```

use bus_schema::{Actor, Metadata, NodeId, SessionId};
use serde_json::Value;

use crate::actions::Asker;

/// What is to be written down.
#[derive(Clone, Debug)]
pub struct Deed {
    /// What: `inject`, `kill`, …
    pub action: &'static str,
    /// Who.
    pub user: Actor,
    /// On which session.
    pub session_id: Option<SessionId>,
    /// On which node.
    pub node: Option<NodeId>,
    /// What was sent, word for word.
    pub content: Option<String>,
    /// The HTTP request that caused it; empty if none did.
    pub request_id: String,
    /// Further facts. Never a password, a token or a key.
    pub metadata: Metadata,
}

impl Deed {
    /// Something that somebody does, in an HTTP request.
    pub fn new(action: &'static str, user: Actor, request_id: impl Into<String>) -> Self {
        let (request_id, metadata) = (request_id.into(), Metadata::new());
        Self { action, user, session_id: None, node: None, content: None, request_id, metadata }
    }

    /// Something that a signed-in person does.
    pub fn by(asker: &Asker, action: &'static str) -> Self {
        Self::new(action, asker.principal.actor(), asker.request_id.clone())
    }

    /// Something that the hub does by itself.
    pub fn by_hub(action: &'static str) -> Self {
        Self::new(action, Actor { id: None, name: "mosaic-hub".into(), email: None, role: None }, "")
    }

    /// On a session.
    pub fn on_session(mut self, session: SessionId) -> Self {
        self.session_id = Some(session);
        self
    }

    /// With a further fact.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.metadata.insert(key.to_owned(), value.into());
        self
    }
}

/// What became of a deed.
#[derive(Clone, Debug)]
pub struct DeedResult {
    /// `ok`, `refused`, `failed`, `unknown`.
    pub result: &'static str,
    /// Why, in a few words.
    pub detail: Option<String>,
    /// Further facts.
    pub metadata: Metadata,
}

impl DeedResult {
    /// It was done.
    pub fn ok() -> Self {
        Self { result: "ok", detail: None, metadata: Metadata::new() }
    }

    /// It was not done, or not all of it.
    pub fn not(result: &'static str, detail: impl Into<String>) -> Self {
        Self { result, detail: Some(detail.into()), metadata: Metadata::new() }
    }

    /// It was done, or it failed with an error whose text may be read by every observer.
    pub fn of<T, E: std::fmt::Display>(done: &Result<T, E>) -> Self {
        match done {
            Ok(_) => Self::ok(),
            Err(error) => Self::not("failed", error.to_string()),
        }
    }

    /// With a further fact.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.metadata.insert(key.to_owned(), value.into());
        self
    }
}
