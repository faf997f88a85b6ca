//! What a node knows of one session, and how it changes: pure, without I/O and without a clock.
//!
//! ```text
//!  provider news ─┐                      ┌─► messages, receipts      (records)
//!  operators     ─┼─► State::… ─ Effect ─┼─► snapshots               (records)
//!  loss, reboot  ─┘                      └─► deltas, terminal output (not kept)
//! ```
//!
//! Laws:
//! 1. The status changes by [`Status::transition`] only: a terminal one never does. What the provider tells that must
//!    not happen is passed over.
//! 2. `seq` grows by one with every message, `rev` with every snapshot.
//! 3. A pause that the provider has proven shows at once, and events that happened before it but are read after it do
//!    not undo it ([`Hold`]).
//! 4. Every change is in a record: [`recover`](super::recover::recover) gives the same state again.

mod deliveries;

use std::collections::VecDeque;

use bus_schema::limits::{MAX_DELTA_BYTES, MAX_LINE_BYTES, MAX_METADATA_BYTES};
use bus_schema::{
    Attention, Capability, Delivery, Delta, EndReport, Message, MessageId, MessageKind, Metadata, NodeId, Operator,
    ProviderName, Receipt, Role, Session, SessionId, Spawn, Status, StatusSource, TaskSource, Timestamp, Turn,
    WorkspaceId, truncate_content,
};
use providers::{Child, DeltaDraft, End, InjectOutcome, MessageDraft, News, SessionInfo, TerminalPiece};
use serde::{Deserialize, Serialize};

use self::deliveries::Known;
pub use self::deliveries::Pending;

/// How far `rev` jumps after the machine was restarted: snapshots that the bus has may be gone from the disk.
const REV_JUMP: u64 = 1_000_000;

/// What a node knows of one session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// As everybody sees it.
    pub session: Session,
    /// Operator messages that are on disk and not handed over, or handed over unverified. In order.
    pub pending: Vec<Pending>,
    /// How far the last operator messages came, oldest first.
    deliveries: VecDeque<Known>,
    /// Set while messages are being dropped.
    pub gap: Option<Gap>,
    /// True if nothing more will be told of it. A session that was killed has ended, and is not over until the runtime
    /// has told all that happened before.
    pub is_over: bool,
    /// Whether the status is ours or the provider's.
    #[serde(skip)]
    hold: Hold,
}

/// Messages that were dropped, told by one message in their place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    /// How many.
    pub count: u64,
    /// Their size.
    pub bytes: u64,
    /// When the first of them was written.
    pub from: Timestamp,
    /// When the last of them was written.
    pub to: Timestamp,
}

/// In a session's metadata: an operator gave the title, and a runtime does not take it away.
const TITLE_GIVEN: &str = "titleGiven";
/// In a session's metadata: the title that the runtime would give, where an operator gave another.
const RUNTIME_TITLE: &str = "runtimeTitle";

/// Whose word counts on whether the session is paused. `pause` and `resume` return when they are proven; the events
/// that tell the same come later, behind older ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Hold {
    /// The provider's events.
    #[default]
    None,
    /// An operator's pause, not yet seen among the events.
    Paused,
    /// An operator's resume of a pause that was not yet seen among the events.
    Resumed,
}

/// What a change asks of the session's task.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Nothing.
    None,
    /// Record a snapshot.
    Snapshot,
    /// Record a receipt.
    Receipt(Receipt),
    /// Show the text so far.
    Delta(Delta),
    /// Show terminal output.
    Terminal(TerminalPiece),
    /// Look after another session.
    Child(Child),
    /// Record these and a snapshot: it has ended.
    Ended(Vec<Receipt>),
}

/// Where a session belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// Its workspace.
    pub workspace: WorkspaceId,
    /// The node that looks after it.
    pub node: NodeId,
    /// The runtime it lives in.
    pub provider: ProviderName,
}

impl State {
    /// A session that an operator asked for.
    pub fn spawning(home: Home, spawn: &Spawn, by: &Operator, now: Timestamp) -> Self {
        let mut session = blank(home, spawn.session_id.clone(), now);
        session.parent_session_id = spawn.parent_session_id.clone();
        session.title = spawn.title.clone().map(|title| cut(title, MAX_LINE_BYTES));
        session.task_id = spawn.task_id.clone();
        session.task_source = spawn.task_source.clone();
        session.mission_id = spawn.mission_id.clone();
        session.profile = Some(spawn.profile.clone());
        let resumed = spawn.resumed.as_ref().map(|resumed| resumed.session_id.as_str());
        session.metadata.extend(resumed.map(|id| ("resumes".to_owned(), id.into())));
        session.metadata.insert("spawnedBy".into(), serde_json::json!({ "id": by.id, "name": by.name }));
        if session.title.is_some() {
            session.metadata.insert(TITLE_GIVEN.into(), true.into());
        }
        Self::of(session)
    }

    /// A session that the runtime has and this node did not know. Its events tell the rest, its end in any case; where
    /// they do not go back to its beginning, it is what the runtime says it is.
    pub fn adopted(home: Home, info: SessionInfo) -> Self {
        let mut state = Self::of(blank(home, info.session_id.clone(), info.spawned_at));
        let session = &mut state.session;
        session.profile = info.profile.clone();
        if !info.status.is_terminal() {
            (session.status, session.status_reason) = (info.status.clone(), info.status_reason.clone());
            (session.status_source, session.started_at) = (info.status_source.clone(), info.started_at);
        }
        state.learn(info);
        state
    }

    fn of(session: Session) -> Self {
        Self { session, pending: vec![], deliveries: VecDeque::new(), gap: None, is_over: false, hold: Hold::None }
    }

    /// True if it has ended.
    pub fn is_ended(&self) -> bool {
        self.session.status.is_terminal()
    }

    /// Takes over what the runtime says of the session as a whole. The status is not part of it: that is told by
    /// events, in their order. True if anything changed.
    pub fn learn(&mut self, info: SessionInfo) -> bool {
        if self.is_ended() {
            return false;
        }
        let before = self.session.clone();
        let session = &mut self.session;
        session.parent_session_id = session.parent_session_id.take().or(info.parent_session_id);
        session.title = session.title.take().or(info.title.map(|title| cut(title, MAX_LINE_BYTES)));
        session.agent_type = info.agent_type.or(session.agent_type.take());
        session.capabilities = info.capabilities;
        learn_work(session, &info.metadata);
        merge(&mut session.metadata, info.metadata);
        before != *session
    }

    /// Applies what the provider tells, except for messages: those are [taken](Self::take) or [dropped](Self::drop).
    pub fn apply(&mut self, at: Timestamp, news: News) -> Effect {
        let session = &mut self.session;
        let before = match &news {
            News::Turn(_) | News::Attention(_) | News::Title(_) | News::Capabilities(_) | News::Facts(_) => {
                if session.status.is_terminal() {
                    return Effect::None;
                }
                Some(session.clone())
            }
            _ => None,
        };
        match news {
            News::Status { status, reason, source } => return self.told(at, status, reason, source),
            News::Turn(turn) => session.turn = turn,
            News::Attention(attention) => session.attention = attention.map(cut_attention),
            News::Title(title) => entitle(session, cut(title, MAX_LINE_BYTES)),
            News::Capabilities(capabilities) => session.capabilities = capabilities,
            News::Facts(facts) => merge(&mut session.metadata, facts),
            News::Delta(draft) => return Effect::Delta(self.delta(at, draft)),
            News::Terminal(piece) => return Effect::Terminal(piece),
            News::Receipt { message_id, outcome } => {
                return self.delivered(&message_id, &outcome, at).map_or(Effect::None, Effect::Receipt);
            }
            News::Child(child) => return Effect::Child(child),
            News::Ended(end) => return self.over(at, end),
            News::Message(_) => return Effect::None,
        }
        if before.as_ref() == Some(&self.session) { Effect::None } else { Effect::Snapshot }
    }

    /// The provider's word on the status.
    fn told(&mut self, at: Timestamp, status: Status, reason: Option<String>, source: StatusSource) -> Effect {
        if status.is_terminal() {
            return Effect::None;
        }
        match (self.hold, &status) {
            // The event of the operator's pause: from here on the events count again. What kind of pause it is, the
            // runtime may say; who asked for it, we know.
            (Hold::Paused, Status::Paused) => {
                self.hold = Hold::None;
                return match reason {
                    Some(reason) if self.session.status == Status::Paused => {
                        self.go(at, status, Some(reason), StatusSource::Operator)
                    }
                    _ => Effect::None,
                };
            }
            // Happened before the pause.
            (Hold::Paused, _) => return Effect::None,
            // The event of a pause that was ended since.
            (Hold::Resumed, Status::Paused) => {
                self.hold = Hold::None;
                return Effect::None;
            }
            (Hold::None | Hold::Resumed, _) => {}
        }
        self.go(at, status, reason, source)
    }

    /// Changes the status if it may change so.
    fn go(&mut self, at: Timestamp, status: Status, reason: Option<String>, source: StatusSource) -> Effect {
        let session = &mut self.session;
        let reason = reason.map(|reason| cut(reason, MAX_LINE_BYTES));
        if session.status.is_terminal() || session.status.transition(&status).is_err() {
            return Effect::None;
        }
        if session.status == status {
            if session.status_reason == reason && session.status_source == source {
                return Effect::None;
            }
        } else {
            session.status_since = at;
            if session.started_at.is_none() && !matches!(status, Status::Spawning | Status::Failed) {
                session.started_at = Some(at);
            }
        }
        (session.status, session.status_reason, session.status_source) = (status, reason, source);
        Effect::Snapshot
    }

    /// The provider has proven a pause.
    pub fn paused(&mut self, by: &Operator, now: Timestamp) -> Effect {
        let told = self.session.status_reason.clone().filter(|_| self.session.status == Status::Paused);
        if self.session.status != Status::Paused {
            self.hold = Hold::Paused;
        }
        let reason = told.unwrap_or_else(|| format!("paused by {}", by.name));
        self.go(now, Status::Paused, Some(reason), StatusSource::Operator)
    }

    /// The provider lets it go on.
    pub fn resumed(&mut self, by: &Operator, now: Timestamp) -> Effect {
        if self.session.status != Status::Paused {
            return Effect::None;
        }
        self.hold = if self.hold == Hold::Paused { Hold::Resumed } else { Hold::None };
        self.go(now, Status::Running, Some(format!("resumed by {}", by.name)), StatusSource::Operator)
    }

    /// The provider has proven a kill. Messages from before it may still come.
    pub fn killed(&mut self, by: &Operator, now: Timestamp) -> Effect {
        let end = End {
            status: Status::Killed,
            reason: format!("killed by {}", by.name),
            exit_code: None,
            error: None,
            report: None,
        };
        self.ended(now, end)
    }

    /// It is not there any more, and nobody told how it ended.
    pub fn lost(&mut self, reason: impl Into<String>, now: Timestamp) -> Effect {
        let reason = reason.into();
        let error = Some(reason.clone());
        self.over(now, End { status: Status::Failed, reason, exit_code: None, error, report: None })
    }

    /// The machine was restarted: what is on disk may be older than what the bus has.
    pub fn machine_restarted(&mut self, now: Timestamp) -> Effect {
        self.session.rev += REV_JUMP;
        self.lost("host restarted", now)
    }

    fn over(&mut self, at: Timestamp, end: End) -> Effect {
        self.is_over = true;
        self.ended(at, end)
    }

    fn ended(&mut self, at: Timestamp, end: End) -> Effect {
        let status = if end.status.is_terminal() { end.status } else { Status::Failed };
        let source = if status == Status::Killed { StatusSource::Operator } else { StatusSource::Process };
        let was_ended = self.is_ended();
        if !was_ended {
            self.go(at, status, Some(end.reason), source);
            self.session.completed_at = Some(at);
            self.session.error = end.error.map(|error| cut(error, MAX_LINE_BYTES));
            (self.session.turn, self.session.attention) = (None, None);
            self.session.capabilities.retain(|capability| *capability == Capability::Terminal);
        }
        // After a kill that was shown at once, the event brings the rest.
        self.session.exit_code = self.session.exit_code.or(end.exit_code);
        if let Some(report) = end.report {
            self.note_report(&report);
        }
        let waiting = std::mem::take(&mut self.pending);
        let outcome = InjectOutcome { state: Delivery::Refused, mode: None, reason: Some("the session ended".into()) };
        let refused = waiting.iter().filter(|pending| !pending.is_unverified);
        let ids: Vec<_> = refused.map(|pending| pending.message_id.clone()).collect();
        Effect::Ended(ids.iter().filter_map(|id| self.delivered(id, &outcome, at)).collect())
    }

    /// Keeps the proof of an end with the session.
    pub fn note_report(&mut self, report: &EndReport) {
        if let Ok(report) = serde_json::to_value(report) {
            merge(&mut self.session.metadata, Metadata::from_iter([("endReport".to_owned(), report)]));
        }
    }

    /// Takes a message in: gives it its `seq`.
    pub fn take(&mut self, draft: MessageDraft) -> Message {
        let role = if draft.role == Role::Operator { Role::User } else { draft.role };
        let MessageDraft { message_id, kind, content, timestamp, metadata, .. } = draft;
        self.message(message_id, role, kind, content, timestamp, metadata)
    }

    fn message(
        &mut self,
        message_id: MessageId,
        role: Role,
        kind: MessageKind,
        mut content: String,
        timestamp: Timestamp,
        mut metadata: Metadata,
    ) -> Message {
        if size(&metadata) > MAX_METADATA_BYTES {
            metadata = Metadata::from_iter([("metadataTruncated".to_owned(), true.into())]);
        }
        truncate_content(&mut content, &mut metadata);
        self.session.last_seq += 1;
        self.session.last_message_at = Some(timestamp);
        let (session_id, seq) = (self.session.session_id.clone(), self.session.last_seq);
        Message { message_id, session_id, seq, role, content, timestamp, kind, metadata }
    }

    /// Lets a message fall, and counts it into the gap.
    pub fn drop(&mut self, draft: &MessageDraft) {
        let at = draft.timestamp;
        let gap = self.gap.get_or_insert(Gap { count: 0, bytes: 0, from: at, to: at });
        gap.count += 1;
        gap.bytes += draft.content.len() as u64;
        gap.to = at.max(gap.to);
    }

    /// The one message that tells what was dropped, if anything was.
    pub fn close_gap(&mut self, message_id: MessageId, now: Timestamp) -> Option<Message> {
        let gap = self.gap.take()?;
        let content = format!("{} messages were dropped: the bus was away and the outbox full", gap.count);
        let facts = serde_json::json!({
            "count": gap.count, "bytes": gap.bytes, "from": gap.from, "to": gap.to, "reason": "outboxFull",
        });
        let metadata = Metadata::from_iter([("gap".to_owned(), facts), ("source".to_owned(), "node".into())]);
        Some(self.message(message_id, Role::System, MessageKind::Status, content, now, metadata))
    }

    fn delta(&self, at: Timestamp, draft: DeltaDraft) -> Delta {
        let DeltaDraft { message_id, role, kind, mut content } = draft;
        // The end is what one wants to see.
        let over = content.len().saturating_sub(MAX_DELTA_BYTES);
        let cut = over > 0;
        content.drain(..content.ceil_char_boundary(over));
        Delta { message_id, session_id: self.session.session_id.clone(), role, content, cut, timestamp: at, kind }
    }

    /// The next snapshot, with its own `rev`.
    pub fn snapshot(&mut self) -> Session {
        self.session.rev += 1;
        self.session.clone()
    }
}

fn blank(home: Home, session_id: SessionId, spawned_at: Timestamp) -> Session {
    Session {
        session_id,
        parent_session_id: None,
        workspace: home.workspace,
        node: home.node,
        provider: home.provider,
        title: None,
        status: Status::Spawning,
        status_reason: None,
        status_source: StatusSource::Process,
        status_since: spawned_at,
        turn: None::<Turn>,
        task_id: None,
        task_source: Default::default(),
        mission_id: None,
        agent_type: None,
        profile: None,
        spawned_at,
        started_at: None,
        completed_at: None,
        exit_code: None,
        error: None,
        last_seq: 0,
        last_message_at: None,
        attention: None,
        capabilities: vec![],
        stale: false,
        stale_since: None,
        rev: 0,
        metadata: Metadata::new(),
    }
}

/// What a runtime knows of the work that a session is for, as far as the one who started it did not say.
fn learn_work(session: &mut Session, facts: &Metadata) {
    let text = |key: &str| facts.get(key).and_then(|value| value.as_str()).filter(|text| !text.is_empty());
    let text = |key: &str| text(key).map(|text| cut(text.to_owned(), MAX_LINE_BYTES));
    if session.task_id.is_none()
        && let Some(task) = text("taskId")
    {
        session.task_id = Some(task);
        // It says where the task is from, so it counts for this task only.
        if let Some(source) = text("taskSource") {
            session.task_source = TaskSource::from(source.as_str());
        }
    }
    session.mission_id = session.mission_id.take().or(text("missionId"));
}

fn cut(mut text: String, limit: usize) -> String {
    text.truncate(text.floor_char_boundary(limit));
    text
}

fn cut_attention(attention: Attention) -> Attention {
    Attention { text: cut(attention.text, MAX_LINE_BYTES), ..attention }
}

/// Takes the runtime's title, beside the one of an operator if there is one.
fn entitle(session: &mut Session, title: String) {
    if session.metadata.contains_key(TITLE_GIVEN) {
        merge(&mut session.metadata, Metadata::from_iter([(RUNTIME_TITLE.to_owned(), title.into())]));
    } else {
        session.title = Some(title);
    }
}

fn size(metadata: &Metadata) -> usize {
    serde_json::to_vec(metadata).map_or(usize::MAX, |bytes| bytes.len())
}

/// Merges facts; `null` takes one away. Facts that do not fit any more are left out.
fn merge(into: &mut Metadata, facts: Metadata) {
    for (key, value) in facts {
        if value.is_null() {
            into.remove(&key);
            continue;
        }
        let before = into.insert(key.clone(), value);
        if size(into) > MAX_METADATA_BYTES {
            match before {
                Some(before) => into.insert(key, before),
                None => into.remove(&key),
            };
        }
    }
}
