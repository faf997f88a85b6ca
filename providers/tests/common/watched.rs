//! A session of any provider, watched: what it tells, waited for.

use std::sync::Arc;
use std::time::Duration;

use bus_schema::{InjectMode, MessageId, Operator, SessionId, Status, UserId};
use providers::{
    AgentEvent, AgentProvider, End, EventStream, InjectOutcome, MessageDraft, News, OperatorMessage, Position,
    ProviderError,
};

/// How long anything may take that a test waits for. Long, because the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Who does things in tests.
pub fn ada() -> Operator {
    Operator { id: UserId::new("u-ada").unwrap(), name: "Ada".into() }
}

/// A message of Ada's.
pub fn message(id: &str, content: &str, mode: InjectMode) -> OperatorMessage {
    OperatorMessage { message_id: MessageId::new(id).unwrap(), operator: ada(), content: content.into(), mode }
}

/// A session, watched.
pub struct Session<P> {
    pub id: SessionId,
    pub events: EventStream,
    pub provider: Arc<P>,
    pub seen: Vec<AgentEvent>,
    pub acknowledges: bool,
}

impl<P: AgentProvider> Session<P> {
    /// Watches a session from a place.
    pub async fn watch(provider: &Arc<P>, id: &SessionId, from: Position) -> Self {
        let events = provider.subscribe(id, from).await.unwrap();
        Self { id: id.clone(), events, provider: Arc::clone(provider), seen: vec![], acknowledges: true }
    }

    /// The next event.
    pub async fn next(&mut self) -> Option<AgentEvent> {
        let seen = self.seen.len();
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
        let event = event.unwrap_or_else(|_| panic!("no event behind {seen}, last: {:?}", self.seen.last()))?;
        if self.acknowledges {
            self.provider.acknowledge(&self.id, event.position).await;
        }
        self.seen.push(event.clone());
        Some(event)
    }

    /// Waits for an event.
    pub async fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(&AgentEvent) -> Option<T>) -> T {
        loop {
            let Some(event) = self.next().await else {
                panic!("{what}: the events ended first; seen {:?}", self.messages());
            };
            if let Some(found) = wanted(&event) {
                return found;
            }
        }
    }

    /// Waits for a message that contains this.
    pub async fn message(&mut self, text: &str) -> MessageDraft {
        self.until(text, |event| match &event.news {
            News::Message(draft) if draft.content.contains(text) => Some(draft.clone()),
            _ => None,
        })
        .await
    }

    /// Waits for the end.
    pub async fn end(&mut self) -> End {
        let end = self.until("the end", |event| match &event.news {
            News::Ended(end) => Some(end.clone()),
            _ => None,
        });
        let end = end.await;
        assert_eq!(self.next().await, None, "an event behind the end");
        end
    }

    /// The texts of all messages so far.
    pub fn messages(&self) -> Vec<String> {
        let text = |event: &AgentEvent| match &event.news {
            News::Message(draft) => Some(draft.content.clone()),
            _ => None,
        };
        self.seen.iter().filter_map(text).collect()
    }

    /// The output so far.
    pub fn output(&self) -> Vec<u8> {
        let bytes = |event: &AgentEvent| match &event.news {
            News::Terminal(piece) => piece.data.to_vec(),
            _ => vec![],
        };
        self.seen.iter().flat_map(bytes).collect()
    }

    /// Waits until the output contains this.
    pub async fn shows(&mut self, text: &str) {
        while !String::from_utf8_lossy(&self.output()).contains(text) {
            assert!(self.next().await.is_some(), "ended before it showed {text:?}");
        }
    }

    /// Waits for a status, and gives the reason.
    pub async fn status(&mut self, wanted: Status) -> Option<String> {
        self.until(wanted.as_str(), |event| match &event.news {
            News::Status { status, reason, .. } if *status == wanted => Some(reason.clone()),
            _ => None,
        })
        .await
    }

    /// All statuses so far.
    pub fn statuses(&self) -> Vec<Status> {
        let status = |event: &AgentEvent| match &event.news {
            News::Status { status, .. } => Some(status.clone()),
            News::Ended(end) => Some(end.status.clone()),
            _ => None,
        };
        self.seen.iter().filter_map(status).collect()
    }

    /// Says something to it, to be queued where it is at work.
    pub async fn inject(&self, id: &str, text: &str) -> Result<InjectOutcome, ProviderError> {
        self.provider.inject(&self.id, message(id, text, InjectMode::Queue)).await
    }
}
