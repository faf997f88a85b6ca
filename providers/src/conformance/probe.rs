//! A session under examination: every call under the deadline, every event read with one.

use std::fmt::Debug;
use std::future::Future;

use bus_schema::{Capability, InjectMode, MessageId, Operator, SessionId, UserId};
use tokio::time::timeout;

use super::{Bench, Law, Short};
use crate::profile::Profile;
use crate::provider::{
    AgentEvent, EventStream, InjectOutcome, News, OperatorMessage, Position, ProviderError, SessionInfo, SpawnRequest,
};

pub(super) type Checked<T> = Result<T, Short>;

/// Breaks off the check.
pub(super) fn broken<T>(law: Law, what: impl Into<String>) -> Checked<T> {
    Err(Short::Broken(law, what.into()))
}

/// Breaks off the check unless `holds`.
pub(super) fn ensure(holds: bool, law: Law, what: impl FnOnce() -> String) -> Checked<()> {
    if holds { Ok(()) } else { broken(law, what()) }
}

/// A call under the deadline.
pub(super) async fn in_time<T>(bench: &Bench, doing: &str, call: impl Future<Output = T>) -> Checked<T> {
    match timeout(bench.deadline, call).await {
        Ok(value) => Ok(value),
        Err(_) => broken(Law::Deadlines, format!("{doing} did not return within {:?}", bench.deadline)),
    }
}

/// A call that must succeed.
pub(super) async fn good<T>(
    bench: &Bench,
    law: Law,
    doing: &str,
    call: impl Future<Output = Result<T, ProviderError>>,
) -> Checked<T> {
    match in_time(bench, doing, call).await? {
        Ok(value) => Ok(value),
        Err(error) => broken(law, format!("{doing}: {}", chain(&error))),
    }
}

/// A call that must fail in the way that `expected` names.
pub(super) async fn bad<T: Debug>(
    bench: &Bench,
    law: Law,
    doing: &str,
    expected: (&str, fn(&ProviderError) -> bool),
    call: impl Future<Output = Result<T, ProviderError>>,
) -> Checked<()> {
    match in_time(bench, doing, call).await? {
        Err(error) if expected.1(&error) => Ok(()),
        other => broken(law, format!("{doing}: expected {}, got {other:?}", expected.0)),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

pub(super) fn operator() -> Checked<Operator> {
    match UserId::new("conformance") {
        Ok(id) => Ok(Operator { id, name: "conformance suite".into() }),
        Err(error) => broken(Law::Sessions, error.to_string()),
    }
}

pub(super) fn new_session_id() -> Checked<SessionId> {
    SessionId::new(ulid::Ulid::new().to_string()).or_else(|error| broken(Law::Sessions, error.to_string()))
}

pub(super) fn new_message_id() -> Checked<MessageId> {
    MessageId::new(ulid::Ulid::new().to_string()).or_else(|error| broken(Law::Once, error.to_string()))
}

pub(super) fn request(session_id: SessionId, profile: &Profile) -> SpawnRequest {
    SpawnRequest {
        session_id,
        profile: profile.clone(),
        parent_session_id: None,
        title: None,
        env: Default::default(),
        default_cwd: None,
        conversation: None,
    }
}

/// A session that the suite started. [`end`](Self::end) it, or it stays.
pub(super) struct Probe<'a> {
    pub bench: &'a Bench,
    pub id: SessionId,
    pub by: Operator,
}

impl<'a> Probe<'a> {
    pub async fn spawn(bench: &'a Bench, profile: &Profile) -> Checked<Probe<'a>> {
        let (id, by) = (new_session_id()?, operator()?);
        let info = good(bench, Law::Sessions, "spawn", bench.provider.spawn(request(id.clone(), profile))).await?;
        ensure(info.session_id == id, Law::Sessions, || format!("spawn of {id} gave {}", info.session_id))?;
        Ok(Self { bench, id, by })
    }

    pub async fn info(&self) -> Checked<SessionInfo> {
        good(self.bench, Law::Sessions, "session", self.bench.provider.session(&self.id)).await
    }

    /// The check does not apply to sessions that cannot do this.
    pub async fn needs(&self, capability: &Capability) -> Checked<()> {
        if self.info().await?.capabilities.contains(capability) {
            return Ok(());
        }
        Err(Short::NotApplicable(format!("its sessions cannot {capability}")))
    }

    pub async fn subscribe(&self, from: Position) -> Checked<EventStream> {
        good(self.bench, Law::Positions, "subscribe", self.bench.provider.subscribe(&self.id, from)).await
    }

    pub async fn inject(&self, message_id: &MessageId, text: &str) -> Checked<InjectOutcome> {
        let message = OperatorMessage {
            message_id: message_id.clone(),
            operator: self.by.clone(),
            content: text.into(),
            mode: InjectMode::Queue,
        };
        good(self.bench, Law::Once, "inject", self.bench.provider.inject(&self.id, message)).await
    }

    /// Reads until `wanted` finds what it looks for. The events before it come too.
    pub async fn until<T>(
        &self,
        events: &mut EventStream,
        law: Law,
        what: &str,
        mut wanted: impl FnMut(&AgentEvent) -> Option<T>,
    ) -> Checked<(Vec<AgentEvent>, T)> {
        let mut read = vec![];
        loop {
            match timeout(self.bench.deadline, events.recv()).await {
                Ok(Some(event)) => {
                    let found = wanted(&event);
                    read.push(event);
                    if let Some(found) = found {
                        return Ok((read, found));
                    }
                }
                Ok(None) => return broken(law, format!("the events ended before {what}; seen: {}", last(&read))),
                Err(_) => {
                    let deadline = self.bench.deadline;
                    return broken(law, format!("{what} was not told within {deadline:?}; seen: {}", last(&read)));
                }
            }
        }
    }

    /// Kills it if it lives, and lets the provider forget it.
    pub async fn end(self) -> Checked<()> {
        let provider = &self.bench.provider;
        if !self.info().await?.status.is_terminal() {
            in_time(self.bench, "kill", provider.kill(&self.id, &self.by)).await?.ok();
            let mut events = self.subscribe(Position::default()).await?;
            self.until(&mut events, Law::End, "the end", |e| matches!(e.news, News::Ended(_)).then_some(())).await?;
        }
        good(self.bench, Law::Sessions, "forget", provider.forget(&self.id)).await
    }
}

fn last(events: &[AgentEvent]) -> String {
    let tail: Vec<_> = events.iter().rev().take(5).rev().map(|event| &event.news).collect();
    format!("{} events, the last ones {tail:?}", events.len())
}

/// True for a message that contains `text`.
pub(super) fn says(event: &AgentEvent, text: &str) -> bool {
    matches!(&event.news, News::Message(draft) if draft.content.contains(text))
}
