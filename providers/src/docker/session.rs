//! One session: its container, its log, and what is known of both.

use std::sync::{Arc, Mutex};

use bus_schema::{Capability, Metadata, Operator, SessionId, Status, StatusSource, Timestamp};
use serde_json::json;
use tokio::sync::{Notify, watch};

use super::cursor::Cursor;
use super::engine::{Container, Engine, Phase};
use super::files::{Card, Folder};
use super::journal::Journal;
use super::labels::Way;
use super::record::{Entry, Past, Record};
use super::terminal::{Screen, Terminal};
use crate::clock;
use crate::provider::{End, Position, ProviderError, SessionInfo};
use crate::pty::checkpoints::Checkpoints;
use crate::pty::entry::lock;
use crate::pty::feed::Shelf;
use crate::pty::log::{Kind, LogError, LogLimits};
use crate::pty::record::{Exit, Intent, Note, pack};

/// How much of a session's log is kept. Less than of a terminal's: the engine keeps a log too.
const MIB: u64 = 1024 * 1024;
pub(crate) const LIMITS: LogLimits = LogLimits {
    unacknowledged_bytes: 16 * MIB,
    bytes_per_second: u64::MAX,
    retained_bytes: 4 * MIB,
    segment_bytes: MIB,
};

/// What a session in a container can do at best.
pub(crate) const CAPABILITIES: [Capability; 8] = [
    Capability::Inject,
    Capability::Pause,
    Capability::Resume,
    Capability::Terminate,
    Capability::Kill,
    Capability::Terminal,
    Capability::Input,
    Capability::Resize,
];
/// What it cannot, and why.
const NOT_CAPABLE: [(Capability, &str); 1] = [(Capability::Approve, "a container asks nothing through the mesh")];
const NO_TERMINAL: &str = "its container has no terminal; start it with -t";

/// One session.
pub(crate) struct Session {
    pub id: SessionId,
    pub folder: Folder,
    pub engine: Engine,
    pub record: Record,
    pub journal: Arc<Mutex<Journal>>,
    /// Somebody should look at the container again.
    pub nudge: Notify,
    /// One operator message, one pause or resume at a time.
    pub acting: tokio::sync::Mutex<()>,
    /// How far its output is in the log. Only its keeper changes it.
    pub cursor: Mutex<Cursor>,
    /// What its terminal shows. Only its keeper changes what is shown.
    pub screen: Mutex<Screen>,
    /// A connection to its terminal that was there before its container was started.
    pub attached: Mutex<Option<Terminal>>,
    card: Mutex<Card>,
    /// Another program keeps it, and writes its files.
    is_of_another: bool,
    saving: tokio::sync::Mutex<()>,
    told: Mutex<Option<(Status, Option<String>)>>,
    /// One status is told at a time.
    telling: tokio::sync::Mutex<()>,
    /// Who paused it last, through the mesh.
    pauser: Mutex<Option<Operator>>,
    /// The exit code that an event told: the container may be gone when one looks.
    pub last_code: Mutex<Option<i64>>,
    acknowledged: watch::Sender<Position>,
    /// The furthest place that a subscriber is known to have.
    has: watch::Sender<u64>,
    pub checkpoints: Checkpoints,
}

impl Session {
    /// Opens its files, or begins them. Blocks.
    pub fn open(folder: Folder, mut card: Card, engine: Engine) -> Result<Self, LogError> {
        let io = |source| LogError::Io { doing: "writing", path: folder.path().into(), source };
        let (record, past) = Record::open(&folder.log(), LIMITS, card.after)?;
        if card.exit.is_none() && past.exit.is_some() {
            card.exit.clone_from(&past.exit);
            card.ended_at = card.ended_at.or(Some(clock::now_micros() * 1000));
            folder.write(&card).map_err(io)?;
        }
        Ok(Self::new(folder, card, engine, (record, past), false))
    }

    /// One that another program keeps: it can be looked at and ended.
    pub fn of_another(folder: Folder, card: Card, engine: Engine) -> Self {
        let record = Record::of_another(&folder.log());
        let past = Past { cursor: Cursor::new(None), stands: None, exit: None, screen: Screen::new(0) };
        Self::new(folder, card, engine, (record, past), true)
    }

    fn new(folder: Folder, card: Card, engine: Engine, (record, past): (Record, Past), is_of_another: bool) -> Self {
        let checkpoints = Checkpoints::open(card.session_id.clone(), folder.checkpoints(), folder.log());
        let Past { cursor, stands, screen, .. } = past;
        Self {
            id: card.session_id.clone(),
            journal: Arc::new(Mutex::new(Journal::open(&folder.injections()))),
            folder,
            engine,
            record,
            nudge: Notify::new(),
            acting: tokio::sync::Mutex::default(),
            cursor: Mutex::new(cursor),
            screen: Mutex::new(screen),
            attached: Mutex::default(),
            card: Mutex::new(card),
            is_of_another,
            saving: tokio::sync::Mutex::default(),
            told: Mutex::new(stands),
            telling: tokio::sync::Mutex::default(),
            pauser: Mutex::default(),
            last_code: Mutex::default(),
            acknowledged: watch::Sender::new(Position::default()),
            has: watch::Sender::new(0),
            checkpoints,
        }
    }

    pub fn card(&self) -> Card {
        let mut card = lock(&self.card);
        if self.is_of_another
            && let Ok(now) = self.folder.read()
        {
            *card = now;
        }
        card.clone()
    }

    pub fn exit(&self) -> Option<End> {
        self.card().exit
    }

    /// How it ended, once nothing is being told of it any more: a subscriber hears of the end a moment before it is on
    /// the card.
    pub async fn exit_told(&self) -> Option<End> {
        let _nothing_is_told = self.telling.lock().await;
        self.exit()
    }

    /// Its container; that of a session whose container is being created has none yet.
    pub fn container(&self) -> Option<String> {
        lock(&self.card).container.clone()
    }

    pub fn shelf(&self) -> Shelf {
        let protocol = lock(&self.card).facts.protocol;
        let (log, checkpoints) = (self.folder.log(), self.folder.checkpoints());
        Shelf { id: self.id.clone(), protocol, log, checkpoints }
    }

    /// Changes what is kept of it, on the disk too.
    pub async fn keep(&self, change: impl FnOnce(&mut Card)) -> std::io::Result<()> {
        if self.is_of_another {
            return Ok(());
        }
        let _one_at_a_time = self.saving.lock().await;
        let (card, changed) = {
            let mut card = lock(&self.card);
            let before = card.clone();
            change(&mut card);
            (card.clone(), *card != before)
        };
        if !changed {
            return Ok(());
        }
        let folder = self.folder.clone();
        let written = tokio::task::spawn_blocking(move || folder.write(&card)).await;
        // Only a shutdown of the runtime cancels it.
        written.unwrap_or(Ok(()))
    }

    /// Who wants its end, whoever wrote that down.
    pub fn intent(&self) -> Option<Intent> {
        self.folder.intent()
    }

    /// Remembers who wants its end, before anything is done.
    pub async fn intend(&self, intent: Intent) -> Result<(), ProviderError> {
        let folder = self.folder.clone();
        let written = tokio::task::spawn_blocking(move || folder.intend(&intent)).await;
        written.unwrap_or(Ok(())).map_err(|error| ProviderError::Failed {
            doing: "writing down who wants the end of the session".into(),
            source: Some(Box::new(error)),
        })
    }

    /// Who pauses it, before the engine is asked: whoever sees that it stands still says who did it.
    pub fn paused_by(&self, by: Option<Operator>) {
        *lock(&self.pauser) = by;
    }

    /// Tells where it stands, if that is news.
    pub async fn stand(&self, status: Status, reason: Option<String>, source: StatusSource) -> Result<(), LogError> {
        let _one_at_a_time = self.telling.lock().await;
        if self.exit().is_some() {
            return Ok(());
        }
        let told = lock(&self.told).clone();
        if told.as_ref().is_some_and(|(known, why)| *known == status && (*why == reason || status == Status::Paused)) {
            return Ok(());
        }
        let mut entries = vec![];
        if told.is_some_and(|(known, _)| known == Status::Paused) && status == Status::Spawning {
            // Nothing that stands still begins anew.
            entries.push(note(&Note::Stands { status: Status::Running, reason: None, source: StatusSource::Process }));
        }
        entries.push(note(&Note::Stands { status: status.clone(), reason: reason.clone(), source }));
        self.record.append(entries).await?;
        *lock(&self.told) = Some((status, reason));
        Ok(())
    }

    /// Tells what an inspection shows. True once the container has ended.
    pub async fn observe(&self, container: &Container) -> Result<bool, LogError> {
        let run = self.card().run;
        if let (Some(before), Some(now)) = (run, container.started)
            && before != now
            && container.phase != Phase::Ended
        {
            let code = lock(&self.last_code).or(container.exit_code.filter(|_| container.phase == Phase::Restarting));
            let code = code.map_or(String::new(), |code| format!(" after exit code {code}"));
            self.stand(Status::Spawning, Some(format!("restarted{code}")), StatusSource::Runtime).await?;
        }
        if container.started.is_some() && container.phase != Phase::Ended {
            let keep = |card: &mut Card| {
                card.run = container.started;
                card.started_at = card.started_at.or(container.started);
            };
            // What is not on the disk is seen again.
            if let Err(error) = self.keep(keep).await {
                tracing::warn!(session_id = %self.id, %error, "what is known of a session cannot be written");
            }
        }
        let pauser = lock(&self.pauser).clone();
        let (status, reason, source) = match container.phase {
            Phase::Created => (Status::Spawning, Some("created, not started".into()), StatusSource::Runtime),
            Phase::Running => (Status::Running, None, StatusSource::Process),
            Phase::Paused => match pauser {
                Some(by) => (Status::Paused, Some(format!("paused by {}", by.name)), StatusSource::Operator),
                None => (Status::Paused, Some("paused at the container engine".into()), StatusSource::Runtime),
            },
            Phase::Restarting => {
                let code = container.exit_code.map_or(String::new(), |code| format!(" after exit code {code}"));
                (Status::Spawning, Some(format!("restarting{code}")), StatusSource::Runtime)
            }
            Phase::Ended => return Ok(true),
        };
        self.stand(status, reason, source).await?;
        Ok(false)
    }

    /// It is over: the last that is told of it.
    pub async fn finish(&self, end: End, ended_at: Option<i64>) -> Result<(), LogError> {
        let _one_at_a_time = self.telling.lock().await;
        if self.exit().is_some() {
            return Ok(());
        }
        let exit = pack(&Exit { end: end.clone() });
        self.record.append(vec![(Kind::Exit, clock::now_micros(), exit)]).await?;
        let keep = |card: &mut Card| {
            card.exit = Some(end);
            card.ended_at = ended_at.or(Some(clock::now_micros() * 1000));
        };
        // The log has it too, and it is put right at the next start.
        if let Err(error) = self.keep(keep).await {
            tracing::warn!(session_id = %self.id, %error, "what is known of a session cannot be written");
        }
        Ok(())
    }

    /// A subscriber has everything before this place.
    pub fn has(&self, offset: u64) {
        self.has.send_if_modified(|known| {
            let is_news = offset > *known;
            *known = offset.max(*known);
            is_news
        });
    }

    /// The subscriber has everything up to here on its disk.
    pub async fn acknowledge(&self, position: Position) {
        self.has(position.offset);
        let is_news = self.acknowledged.send_if_modified(|known| {
            let is_news = position > *known;
            *known = position.max(*known);
            is_news
        });
        // Segments are deleted one at a time.
        if is_news && position.offset.saturating_sub(self.record.first()) > LIMITS.retained_bytes + LIMITS.segment_bytes
        {
            self.record.release(position.offset, self.checkpoints.before(position.offset)).await;
        }
    }

    /// Waits until the log may grow: law 2 of the trait.
    pub async fn room(&self) {
        let mut has = self.has.subscribe();
        let (end, first) = (self.record.end(), self.record.first());
        let fits = |has: &u64| end.borrow().saturating_sub((*has).max(first)) < LIMITS.unacknowledged_bytes;
        // Its sender is ours.
        let _ = has.wait_for(fits).await;
    }

    /// Why it cannot do this, if it cannot.
    pub fn refusal(&self, capability: &Capability) -> Option<String> {
        if let Some((_, reason)) = NOT_CAPABLE.iter().find(|(one, _)| one == capability) {
            return Some((*reason).to_owned());
        }
        let card = lock(&self.card);
        match (capability, &card.facts.way) {
            (Capability::Terminal | Capability::Input | Capability::Resize, _) if !card.facts.tty => {
                Some(NO_TERMINAL.into())
            }
            (Capability::Inject | Capability::Input, Way::None(reason)) => Some(reason.clone()),
            (Capability::Input, Way::Exec(_)) => Some("messages reach it through a command, single keys do not".into()),
            _ => None,
        }
    }

    /// An error unless it can do this and lives.
    pub fn must(&self, capability: Capability) -> Result<String, ProviderError> {
        if let Some(reason) = self.refusal(&capability) {
            return Err(ProviderError::NotCapable { capability, reason });
        }
        let card = lock(&self.card);
        if let Some(end) = &card.exit {
            return Err(ProviderError::WrongState { status: end.status.clone(), reason: end.reason.clone() });
        }
        card.container.clone().ok_or_else(|| ProviderError::WrongState {
            status: Status::Spawning,
            reason: "its container is being created".into(),
        })
    }

    /// The session as everybody sees it.
    pub fn info(&self) -> SessionInfo {
        let card = self.card();
        let told = lock(&self.told).clone();
        let (status, reason, source) = match (&card.exit, told) {
            (Some(end), _) => (end.status.clone(), Some(end.reason.clone()), StatusSource::Process),
            (None, Some((status, reason))) => (status, reason, StatusSource::Process),
            (None, None) => (Status::Spawning, None, StatusSource::Process),
        };
        let mut metadata = Metadata::new();
        let mut fact = |key: &str, value: serde_json::Value| {
            metadata.insert(key.into(), value);
        };
        fact("protocol", card.facts.protocol.as_str().into());
        fact("containment", "container".into());
        fact("containerName", card.container_name.into());
        fact("image", card.image.into());
        fact("managed", card.facts.is_managed.into());
        fact("tty", card.facts.tty.into());
        if let Some(container) = card.container {
            fact("containerId", container.into());
        }
        let named =
            [("taskId", card.facts.task), ("taskSource", card.facts.task_source), ("missionId", card.facts.mission)];
        for (key, value) in named.into_iter().filter_map(|(key, value)| Some((key, value?))) {
            fact(key, value.into());
        }
        if !card.facts.problems.is_empty() {
            fact("labelProblems", json!(card.facts.problems));
        }
        let able = |capability: &&Capability| self.refusal(capability).is_none();
        let refusals = NOT_CAPABLE.iter().map(|(capability, _)| capability).chain(&CAPABILITIES);
        let refusals = refusals.filter_map(|one| Some((one.as_str().to_owned(), json!(self.refusal(one)?))));
        fact("notCapable", refusals.collect::<Metadata>().into());
        SessionInfo {
            session_id: self.id.clone(),
            parent_session_id: card.facts.parent,
            status,
            status_reason: reason,
            status_source: source,
            title: card.facts.title,
            agent_type: card.facts.agent_type,
            profile: card.facts.profile,
            spawned_at: millis(card.spawned_at),
            started_at: card.started_at.map(millis),
            ended_at: card.ended_at.map(millis),
            capabilities: if card.exit.is_some() {
                vec![]
            } else {
                CAPABILITIES.iter().filter(able).cloned().collect()
            },
            metadata,
        }
    }
}

/// A note, as it is appended.
pub(crate) fn note(note: &Note) -> Entry {
    (Kind::Note, clock::now_micros(), pack(note))
}

fn millis(nanos: i64) -> Timestamp {
    Timestamp::from_millis(nanos.div_euclid(1_000_000))
}
