//! One session of a gateway: its record, and what is only shown (the text being written).
//!
//! ```text
//!  spawning ──► waiting ◄──► running      by the gateway's `hasActiveRun`, never by its `status`, which lies after a crash
//!                  │ paused: a soft pause, see `pause`
//!                  └──────────┴────► completed (archived, deleted, begun anew) · killed (an operator's kill, proven)
//! ```
//!
//! Laws:
//! 1. Whatever happens is in the record, on disk, before anybody is told.
//! 2. That the gateway is away changes no status: it is a fact beside it.
//! 3. A status that follows a row is told behind it.

mod delivery;
mod pause;
mod requests;

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bus_schema::{
    Capability, Delivery, InjectMode, MessageId, MessageKind, Metadata, Role, SessionId, Status, StatusSource,
    Timestamp, Turn,
};
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::record::{Birth, Kept, Record};
use super::rows::{Part, message_id, result_name};
use crate::clock;
use crate::provider::{
    AgentEvent, DeltaDraft, End, InjectOutcome, MessageDraft, News, Position, ProviderError, SessionInfo,
};

/// Events on their way to a subscriber: a moment's worth, so that a silent one is felt soon.
const SUBSCRIBER_QUEUE: usize = 64;
/// What a session of a gateway can do.
pub(super) const CAPABILITIES: [Capability; 4] =
    [Capability::Inject, Capability::Terminate, Capability::Kill, Capability::Approve];

pub(super) struct Session {
    pub id: SessionId,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

struct State {
    record: Record,
    /// The text being written, with a number that grows.
    delta: Option<Writing>,
    deltas: u64,
    /// Runs that were seen to begin and not to end, for gateways that do not tell `hasActiveRun`.
    runs: HashSet<String>,
    /// Steps that were seen to end: a boundary at which a run may be stopped.
    steps: u64,
    /// True while we end it ourselves: that it is archived then is our own doing.
    is_ending: bool,
    /// True if the last history said that it is idle now: its rows may have been read before the last one was written.
    was_idle: bool,
    /// True if the last history said that it is at work in its soft pause.
    was_busy: bool,
    /// True while a soft pause begins or ends.
    is_pausing: bool,
    /// Messages that wait for the end of a soft pause; the node has them.
    held_back: BTreeSet<MessageId>,
}

struct Writing {
    run: String,
    number: u64,
    draft: DeltaDraft,
}

/// What became of the rows of a history.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Taken {
    /// The gateway began the conversation anew: these rows belong to the next session.
    pub anew: Option<Vec<Part>>,
    /// The oldest row was not known: there may be more before it.
    pub is_open: bool,
    /// The rest has to wait until the node has taken some.
    pub is_full: bool,
}

impl Session {
    /// A new one, on disk when this returns.
    pub fn begin(dir: &Path, birth: Birth) -> std::io::Result<Arc<Self>> {
        Ok(Self::of(Record::begin(dir, birth)?))
    }

    /// One from an earlier node agent.
    pub fn open(path: &Path) -> std::io::Result<Option<Arc<Self>>> {
        Ok(Record::open(path)?.map(Self::of))
    }

    fn of(record: Record) -> Arc<Self> {
        let id = record.birth.session_id.clone();
        let state = State {
            record,
            delta: None,
            deltas: 0,
            runs: HashSet::new(),
            steps: 0,
            is_ending: false,
            was_idle: false,
            was_busy: false,
            is_pausing: false,
            held_back: BTreeSet::new(),
        };
        Arc::new(Self { id, state: Mutex::new(state), changed: watch::Sender::new(0) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and tells whoever waits. A disk that refuses is an error for the log: the rows are still at
    /// the gateway and come again.
    fn change<T: Default>(&self, change: impl FnOnce(&mut State) -> std::io::Result<T>) -> T {
        let done = change(&mut self.lock());
        self.changed.send_modify(|version| *version = version.wrapping_add(1));
        done.unwrap_or_else(|error| {
            tracing::error!(session_id = %self.id, %error, "the record of a session cannot be written");
            T::default()
        })
    }

    pub fn birth(&self) -> Birth {
        self.lock().record.birth.clone()
    }

    pub fn path(&self) -> std::path::PathBuf {
        self.lock().record.path().to_owned()
    }

    pub fn status(&self) -> Status {
        self.lock().record.status()
    }

    pub fn ended_at(&self) -> Option<Timestamp> {
        self.lock().record.facts.ended_at
    }

    pub fn generation(&self) -> String {
        self.lock().record.facts.generation.clone()
    }

    pub fn is_active(&self) -> bool {
        self.lock().record.facts.is_active
    }

    /// Number of steps seen to end.
    pub fn steps(&self) -> u64 {
        self.lock().steps
    }

    pub fn is_ending(&self) -> bool {
        self.lock().is_ending
    }

    pub fn set_ending(&self, is_ending: bool) {
        self.lock().is_ending = is_ending;
    }

    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub fn info(&self, parent: Option<SessionId>) -> SessionInfo {
        let state = self.lock();
        let (birth, facts) = (&state.record.birth, &state.record.facts);
        let mut metadata = facts.metadata.clone();
        metadata.insert("gatewayKey".into(), birth.key.clone().into());
        metadata.insert("containment".into(), "gateway".into());
        SessionInfo {
            session_id: self.id.clone(),
            parent_session_id: birth.parent.clone().or(parent),
            status: state.record.status(),
            status_reason: facts.reason.clone(),
            status_source: StatusSource::Runtime,
            title: facts.title.clone(),
            agent_type: Some("openclaw".into()),
            profile: birth.profile.clone(),
            spawned_at: birth.at,
            started_at: facts.started_at,
            ended_at: facts.ended_at,
            capabilities: if state.record.is_ended() { vec![] } else { CAPABILITIES.to_vec() },
            metadata,
        }
    }

    /// Refuses what the session cannot do, or cannot do any more.
    pub fn require(&self, capability: Capability) -> Result<(), ProviderError> {
        // Whether it can be paused, its gateway's configuration says.
        let is_pause = matches!(capability, Capability::Pause | Capability::Resume);
        if !is_pause && !CAPABILITIES.contains(&capability) {
            let reason = "a session of a gateway has no terminal".into();
            return Err(ProviderError::NotCapable { capability, reason });
        }
        let status = self.status();
        if status.is_terminal() {
            return Err(ProviderError::WrongState { status, reason: "it has ended".into() });
        }
        Ok(())
    }

    /// What a list, a description or an event says of it.
    pub fn take_row(&self, row: &Value, is_certain: bool) {
        self.change(|state| {
            if state.record.is_ended() {
                return Ok(());
            }
            let text = |key: &str| row.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
            if let Some(generation) = text("sessionId").filter(|g| *g != state.record.facts.generation) {
                state.record.set_generation(generation)?;
            }
            if let Some(title) = text("label").or_else(|| text("displayName"))
                && state.record.facts.title.as_deref() != Some(title)
                && state.record.birth.title.is_none()
            {
                state.record.add(clock::now(), Kept::Title(title.to_owned()), None)?;
            }
            match row.get("hasActiveRun").and_then(Value::as_bool) {
                Some(false) => {
                    state.runs.clear();
                    if is_certain { state.settle(&self.id, false) } else { Ok(()) }
                }
                Some(true) if state.is_paused() && !is_certain => Ok(()),
                Some(true) => state.settle(&self.id, true),
                None if is_certain => {
                    let is_active = !state.runs.is_empty();
                    state.settle(&self.id, is_active)
                }
                None => Ok(()),
            }
        });
    }

    /// True if what a history says of the run may be believed. A gateway reads rows first and standing later, on a busy
    /// machine a second apart: that a run has ended is believed when the next history says so too.
    pub fn believes(&self, info: &Value) -> bool {
        let mut state = self.lock();
        let is_idle = match info.get("hasActiveRun").and_then(Value::as_bool) {
            Some(is_active) => !is_active,
            None => state.runs.is_empty(),
        };
        if is_idle {
            state.was_busy = false;
        } else if state.is_paused() {
            return std::mem::replace(&mut state.was_busy, true);
        }
        if !is_idle || !state.record.facts.is_active {
            state.was_idle = false;
            return true;
        }
        std::mem::replace(&mut state.was_idle, true)
    }

    /// A run of it was seen to begin, or to end. The end shows when the history has been looked at.
    pub fn take_run(&self, run: &str, begins: bool, error: Option<String>) {
        self.change(|state| {
            if begins {
                state.runs.insert(run.to_owned());
                state.record.facts.last_error = None;
                return state.settle(&self.id, true);
            }
            state.runs.remove(run);
            state.record.facts.last_error = error;
            Ok(())
        });
    }

    /// True while a run of it was seen to begin and not to end.
    pub fn has_run(&self) -> bool {
        !self.lock().runs.is_empty()
    }

    /// The connection is new: what was seen of runs is old, and over if the gateway began to run after them.
    pub fn forget_runs(&self, began_at: Option<Timestamp>) {
        self.change(|state| {
            state.runs.clear();
            let is_over = began_at.zip(state.record.status_since()).is_some_and(|(began, since)| since < began);
            if is_over && state.record.facts.is_active {
                state.record.facts.last_error = Some("the gateway was restarted in the middle of it".into());
            }
            Ok(())
        });
    }

    /// What ran at the gateway in one of these lives of it runs no more: they are over.
    pub fn end_runs_of(&self, lives: &[(Timestamp, Timestamp)]) {
        self.change(|state| {
            let since = state.record.status_since();
            let is_of = |(from, to): &(Timestamp, Timestamp)| since.is_some_and(|since| *from <= since && since <= *to);
            if !state.record.facts.is_active || !lives.iter().any(is_of) {
                return Ok(());
            }
            state.runs.clear();
            state.record.facts.last_error = Some("its gateway was ended on this node in the middle of it".into());
            state.settle(&self.id, false)
        });
    }

    /// A step of the run has ended: a tool has answered.
    pub fn take_step(&self) {
        self.change(|state| {
            state.steps += 1;
            Ok(())
        });
    }

    /// The messages of a history, in its order: those that are new are told.
    pub fn take_parts(&self, parts: Vec<Part>) -> Taken {
        self.change(|state| {
            let mut taken = Taken::default();
            let since = state.record.birth.since;
            let mut parts =
                parts.into_iter().filter(|part| since.is_none_or(|since| part.timestamp > since)).peekable();
            taken.is_open = parts.peek().is_some_and(|part| !state.record.has_seen(&part.row));
            while let Some(part) = parts.next() {
                if state.record.has_seen(&part.row) {
                    continue;
                }
                if part.is_reset && state.record.has_rows() {
                    taken.anew = Some(std::iter::once(part).chain(parts).collect());
                    break;
                }
                if state.record.is_full() {
                    taken.is_full = true;
                    break;
                }
                state.take(&self.id, part)?;
            }
            Ok(taken)
        })
    }

    /// True if these rows reach back to one that is known, or to where the session begins.
    pub fn knows_first(&self, parts: &[Part]) -> bool {
        let state = self.lock();
        let since = state.record.birth.since;
        parts.first().is_none_or(|first| {
            state.record.has_seen(&first.row) || since.is_some_and(|since| first.timestamp <= since) || first.is_reset
        })
    }

    /// True if rows before those of a history were never seen, although the session was followed.
    pub fn is_missing_rows(&self, history: &Value) -> bool {
        history.get("hasMore").and_then(Value::as_bool) == Some(true)
    }

    /// The text of a run so far.
    pub fn take_delta(&self, run: &str, text: String) {
        self.change(|state| {
            let number = state.record.end();
            let name = match &state.delta {
                Some(writing) if writing.run == run && writing.draft.kind == MessageKind::Text => None,
                _ => Some(format!("delta:{run}:{number}")),
            };
            let kept = state.delta.take().filter(|_| name.is_none()).map(|writing| writing.draft.message_id);
            let id = kept.or_else(|| message_id(&self.id, &name.unwrap_or_default()));
            if let Some(message_id) = id {
                let draft = DeltaDraft { message_id, role: Role::Agent, kind: MessageKind::Text, content: text };
                state.show(run, draft);
            }
            Ok(())
        });
    }

    /// What a tool has put out so far.
    pub fn take_progress(&self, run: &str, call: &str, text: String) {
        self.change(|state| {
            if let Some(message_id) = message_id(&self.id, &result_name(run, call)) {
                let draft = DeltaDraft { message_id, role: Role::Agent, kind: MessageKind::ToolResult, content: text };
                state.show(run, draft);
            }
            Ok(())
        });
    }

    /// A fact beside the status; nothing if it is so already.
    pub fn note(&self, key: &str, value: Value) {
        self.change(|state| {
            let before = state.record.facts.metadata.get(key).cloned().unwrap_or_default();
            if before == value {
                return Ok(());
            }
            state.record.add(clock::now(), Kept::Facts(Metadata::from_iter([(key.to_owned(), value)])), None)
        });
    }

    /// It is over.
    pub fn end(&self, end: End) {
        self.change(|state| {
            state.delta = None;
            state.record.add(clock::now(), Kept::Ended(end), None)
        });
    }

    pub fn recent(&self, limit: usize) -> Vec<MessageDraft> {
        self.lock().record.recent(limit)
    }

    /// True if that made room for rows that had to wait.
    pub fn acknowledge(&self, position: Position) -> bool {
        self.change(|state| state.record.acknowledge(position.offset))
    }

    /// A subscriber's end of the events, and the work of filling it: the body of a task.
    pub fn subscribe(
        self: &Arc<Self>,
        from: Position,
    ) -> (mpsc::Receiver<AgentEvent>, impl Future<Output = ()> + use<>) {
        let (tx, rx) = mpsc::channel(SUBSCRIBER_QUEUE);
        let session = self.clone();
        (rx, async move { session.feed(tx, from.offset).await })
    }

    async fn feed(&self, tx: mpsc::Sender<AgentEvent>, mut at: u64) {
        let mut changed = self.changed.subscribe();
        let mut shown = 0;
        loop {
            changed.borrow_and_update();
            let (first, batch, delta, is_ended) = {
                let state = self.lock();
                let (first, batch) = state.record.read(at, SUBSCRIBER_QUEUE);
                let delta = state.delta.as_ref().filter(|writing| batch.is_empty() && writing.number > shown);
                let delta = delta.map(|writing| (writing.number, writing.draft.clone()));
                (first, batch, delta, state.record.is_ended())
            };
            at = at.max(first);
            if batch.is_empty() && delta.is_none() {
                if is_ended {
                    return;
                }
                tokio::select! {
                    changed = changed.changed() => if changed.is_err() { return },
                    () = tx.closed() => return,
                }
            }
            for logged in batch {
                at += 1;
                if tx.send(logged.event(at)).await.is_err() {
                    return;
                }
            }
            if let Some((number, draft)) = delta {
                shown = number;
                let position = Position { offset: at, index: 0 };
                let event = AgentEvent { position, at: clock::now(), news: News::Delta(draft) };
                if tx.send(event).await.is_err() {
                    return;
                }
            }
        }
    }
}

impl State {
    fn show(&mut self, run: &str, draft: DeltaDraft) {
        if !self.record.is_ended() {
            self.deltas += 1;
            self.delta = Some(Writing { run: run.to_owned(), number: self.deltas, draft });
        }
    }

    fn take(&mut self, id: &SessionId, part: Part) -> std::io::Result<()> {
        let now = clock::now();
        if let Some(message_id) = self.arrived(&part)
            && let Some(given) = self.record.facts.given.get(&message_id)
        {
            // The node has told the operator's words already: here is only how they arrived.
            let mode = match (part.is_steered, &given.asked) {
                (true, _) => InjectMode::Steer,
                (false, InjectMode::Interrupt) => InjectMode::Interrupt,
                (false, _) => InjectMode::Queue,
            };
            let outcome = InjectOutcome { state: Delivery::Taken, mode: Some(mode), reason: None };
            return self.record.add(now, Kept::Receipt { message_id, outcome }, Some(part.row));
        }
        let replaces = |writing: &Writing| {
            let is_its_run = part.run.as_ref().is_none_or(|run| *run == writing.run);
            let begins_so = part.content.trim().starts_with(writing.draft.content.trim());
            is_its_run && writing.draft.kind == part.kind && begins_so
        };
        let own = message_id(id, &part.name);
        let message_id = match self.delta.take_if(|writing| replaces(writing)) {
            Some(writing) => Some(writing.draft.message_id),
            None => own,
        };
        let Some(message_id) = message_id else { return Ok(()) };
        let Part { row, role, kind, content, timestamp, metadata, .. } = part;
        if kind == MessageKind::ToolResult {
            self.steps += 1;
        }
        let draft = MessageDraft { message_id, role, kind, content, timestamp, metadata };
        self.record.add(now, Kept::Message(draft), Some(row))
    }

    /// Tells where it stands, if that has changed.
    fn settle(&mut self, id: &SessionId, is_active: bool) -> std::io::Result<()> {
        let now = clock::now();
        self.record.set_active(is_active)?;
        if !is_active {
            self.delta = None;
        }
        if self.is_pausing {
            return Ok(());
        }
        self.look_at_pause(id, is_active)?;
        let of_pause = self.told_of_pause(is_active);
        let facts = &self.record.facts;
        let open = facts.requests.iter().filter(|(_, request)| request.decided.is_none());
        let open = open.min_by_key(|(_, request)| request.at).filter(|_| is_active);
        let (status, reason, turn) = match (is_active, &open, &facts.last_error) {
            (true, Some((_, request)), _) => (Status::Waiting, Some(request.waits_for().to_owned()), Turn::Blocked),
            (true, None, _) => (Status::Running, None, Turn::Active),
            (false, _, Some(error)) => (Status::Waiting, Some(format!("the last turn failed: {error}")), Turn::Error),
            (false, _, None) => (Status::Waiting, Some("nothing to do".to_owned()), Turn::Idle),
        };
        let (status, reason, turn) = match of_pause {
            Some(told) if open.is_none() => told,
            _ => (status, reason, turn),
        };
        let attention = open.map(|(id, request)| request.attention(id));
        let has_status = facts.status.as_ref() == Some(&status) && facts.reason == reason;
        let (has_turn, has_attention) = (facts.turn.as_ref() == Some(&turn), facts.attention == attention);
        if !has_status {
            self.record.add(now, Kept::Status { status, reason }, None)?;
        }
        if !has_turn {
            self.record.add(now, Kept::Turn(turn), None)?;
        }
        if !has_attention {
            self.record.add(now, Kept::Attention(attention), None)?;
        }
        Ok(())
    }
}
