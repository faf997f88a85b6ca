//! The task that looks after one session: keeps its log, tells where it stands, and brings it to its end.
//!
//! ```text
//!        ┌───────────── nudge · stream ended · engine was away ─────────────┐
//!        ▼                                                                  │
//!     inspect ──► created ──► wait                                          │
//!        │   └──► running, paused, restarting ──► read the log as it grows ─┘
//!        └──────► ended, and stays so ──► read the rest ──► end
//! ```

use std::sync::Arc;
use std::time::Duration;

use bus_schema::Status;
use bytes::Bytes;
use tokio::time::{Instant, sleep, sleep_until};

use super::backoff::Backoff;
use super::cursor::{CatchUp, Known};
use super::engine::{Container, EngineError, LogBody, Phase};
use super::logs::{Garbled, Piece, Pieces};
use super::record::Entry;
use super::session::{Session, note};
use super::terminal::{Terminal, show};
use crate::provider::End;
use crate::pty::entry::lock;
use crate::pty::log::{Kind, LogError};
use crate::pty::record::{EndAction, Fragment, Note};

/// How long a container must stay down before its end is told: `docker restart` takes it down and up again, and looks
/// like an end in between. What an operator of ours ended is not brought back.
const STAYS_DOWN: Duration = Duration::from_millis(1500);
/// How often a container is looked at that nothing is heard of: events can be lost with the engine.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Between two readings of a log that ended although its container runs.
const READ_AGAIN: Duration = Duration::from_millis(250);
/// How long the rest of a log may take without a byte before it is taken for whole.
const REST_WITHIN: Duration = Duration::from_secs(20);

/// How long the last of a terminal may take to come: the engine ends the connection with the container.
const SHOWN_WITHIN: Duration = Duration::from_secs(2);

/// What went wrong on the way from the engine's log to ours.
#[derive(Debug, thiserror::Error)]
enum Broken {
    /// The engine does not give it.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// It broke off.
    #[error("the container's log broke off")]
    Cut(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It is none.
    #[error(transparent)]
    Garbled(#[from] Garbled),
    /// Ours cannot be written.
    #[error("writing the session's log")]
    Disk(#[from] LogError),
}

/// Looks after a session until it has ended. Cancelled at any time, it goes on later.
pub(crate) async fn keep(session: Arc<Session>) {
    let mut backoff = Backoff::new();
    let mut down_since = None;
    let mut unreadable = false;
    while session.exit().is_none() {
        let Some(id) = session.container() else {
            // It is being created; whoever does that nudges.
            session.nudge.notified().await;
            continue;
        };
        let found = match session.engine.inspect(&id).await {
            Ok(found) => found,
            Err(error) => {
                if !error.is_away() {
                    tracing::warn!(session_id = %session.id, %error, "a container cannot be looked at");
                }
                wait(&session, backoff.next()).await;
                continue;
            }
        };
        let Some(container) = found else {
            end(&session, None, &mut backoff).await;
            continue;
        };
        let ended = match session.observe(&container).await {
            Ok(ended) => ended,
            Err(error) => {
                tracing::error!(session_id = %session.id, %error, "the session's log cannot be written");
                wait(&session, backoff.next()).await;
                continue;
            }
        };
        if ended {
            let since = *down_since.get_or_insert_with(Instant::now);
            if session.intent().is_none() && since.elapsed() < STAYS_DOWN {
                wait(&session, STAYS_DOWN.saturating_sub(since.elapsed())).await;
                continue;
            }
            end(&session, Some(&container), &mut backoff).await;
            continue;
        }
        down_since = None;
        if container.phase == Phase::Created || unreadable {
            backoff.reset();
            wait(&session, LOOK_EVERY).await;
            continue;
        }
        match follow(&session, &container).await {
            Ok(()) => {
                backoff.reset();
                sleep(READ_AGAIN).await;
            }
            Err(Broken::Engine(EngineError::Refused { message, .. })) => {
                // A log driver that cannot be read from: everything but the conversation still works.
                unreadable = true;
                tell(&session, format!("the output of this container cannot be read: {message}")).await;
            }
            Err(Broken::Garbled(error)) => {
                unreadable = true;
                tell(&session, format!("the output of this container cannot be read: {error}")).await;
            }
            Err(error @ Broken::Disk(_)) => {
                tracing::error!(session_id = %session.id, %error, "the session's log cannot be written");
                wait(&session, backoff.next()).await;
            }
            Err(error @ (Broken::Engine(_) | Broken::Cut(_))) => {
                tracing::debug!(session_id = %session.id, %error, "a container's log broke off");
                wait(&session, backoff.next()).await;
            }
        }
    }
}

/// Waits, or until somebody nudges.
async fn wait(session: &Session, time: Duration) {
    tokio::select! {
        () = sleep(time) => {}
        () = session.nudge.notified() => {}
    }
}

async fn tell(session: &Session, text: String) {
    if let Err(error) = session.record.append(vec![note(&Note::Told { text })]).await {
        tracing::error!(session_id = %session.id, %error, "the session's log cannot be written");
    }
}

/// What came of a container that runs.
enum Came {
    Lines(Result<Option<Bytes>, Broken>),
    Shown(Option<Vec<Bytes>>),
}

/// Shows what a terminal has shown before its container ended.
async fn show_rest(session: &Session, terminal: Option<Terminal>) -> Result<(), Broken> {
    let Some(mut terminal) = terminal else { return Ok(()) };
    loop {
        // Waiting for the subscriber has no bound.
        session.room().await;
        match tokio::time::timeout(SHOWN_WITHIN, terminal.next(session)).await {
            Ok(Some(pieces)) => show(session, &pieces).await?,
            Ok(None) | Err(_) => return Ok(()),
        }
    }
}

/// Reads the log as it grows, and looks at the container when nudged. Returns when the log ends.
async fn follow(session: &Session, container: &Container) -> Result<(), Broken> {
    let mut reading = Reading::open(session, container, true).await?;
    let mut terminal = Terminal::follow(session, container).await?;
    let mut look_at = Instant::now() + LOOK_EVERY;
    loop {
        let came = async {
            tokio::select! {
                bytes = reading.bytes() => Came::Lines(bytes),
                Some(shown) = async { Some(terminal.as_mut()?.next(session).await) } => Came::Shown(shown),
            }
        };
        tokio::select! {
            // In this order, so that a flood does not hide what happens to the container.
            biased;
            () = session.nudge.notified() => {}
            () = sleep_until(look_at) => {}
            came = came => {
                match came {
                    Came::Lines(bytes) => match bytes? {
                        Some(bytes) => reading.take_in(&bytes).await?,
                        None => {
                            show_rest(session, terminal).await?;
                            return reading.finish().await;
                        }
                    },
                    Came::Shown(Some(pieces)) => show(session, &pieces).await?,
                    Came::Shown(None) => terminal = None,
                }
                continue;
            }
        }
        look_at = Instant::now() + LOOK_EVERY;
        match session.engine.inspect(&container.id).await {
            // Its log is about to end, and is read to that end.
            Ok(None) => {}
            Ok(Some(now)) => {
                session.observe(&now).await?;
                if terminal.is_none() {
                    terminal = Terminal::follow(session, &now).await?;
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads what is left of the log of a container that has ended.
async fn rest(session: &Session, container: &Container) -> Result<(), Broken> {
    let mut reading = Reading::open(session, container, false).await?;
    loop {
        // Waiting for the subscriber has no bound.
        session.room().await;
        match tokio::time::timeout(REST_WITHIN, reading.bytes()).await {
            Ok(Ok(Some(bytes))) => reading.take_in(&bytes).await?,
            Ok(Ok(None)) => return reading.finish().await,
            Ok(Err(error)) => return Err(error),
            Err(error) => return Err(Broken::Cut(Box::new(error))),
        }
    }
}

/// The engine's log on its way into ours.
struct Reading<'a> {
    session: &'a Session,
    body: LogBody,
    pieces: Pieces,
    catch_up: CatchUp,
}

impl<'a> Reading<'a> {
    async fn open(session: &'a Session, container: &Container, follow: bool) -> Result<Self, Broken> {
        let cursor = lock(&session.cursor).clone();
        let body = session.engine.logs(&container.id, follow, cursor.since_seconds()).await?;
        Ok(Self { session, body, pieces: Pieces::new(container.streams.tty), catch_up: cursor.catch_up() })
    }

    /// The next bytes, once there is room for them; `None` at the end.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    async fn bytes(&mut self) -> Result<Option<Bytes>, Broken> {
        self.session.room().await;
        self.body.next().await.map_err(|error| Broken::Cut(Box::new(error)))
    }

    /// Takes them into our log.
    ///
    /// # Cancel safety
    /// None: a reading in which this was cancelled must be given up.
    async fn take_in(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let pieces = self.pieces.push(bytes)?;
        self.take(pieces).await
    }

    async fn finish(mut self) -> Result<(), Broken> {
        let last = self.pieces.finish()?;
        self.take(last.into_iter().collect()).await
    }

    async fn take(&mut self, pieces: Vec<Piece>) -> Result<(), Broken> {
        let mut entries: Vec<Entry> = vec![];
        let mut cursor = lock(&self.session.cursor).clone();
        for Piece { stream, nanos, bytes } in pieces {
            match self.catch_up.judge(stream, nanos) {
                Known::Old => continue,
                Known::New => {}
                Known::NewBehindGap => {
                    let text = "output of this container is missing here: the container engine had rotated its log \
                                away before it could be read";
                    entries.push(note(&Note::Told { text: text.into() }));
                }
            }
            cursor.wrote(stream, nanos);
            entries.push((Kind::Fragment, nanos.div_euclid(1000), Fragment { stream, nanos, bytes: &bytes }.encode()));
        }
        if !entries.is_empty() {
            self.session.record.append(entries).await?;
            *lock(&self.session.cursor) = cursor;
        }
        Ok(())
    }
}

/// The container has ended, or is gone: tells the rest and then how.
async fn end(session: &Session, container: Option<&Container>, backoff: &mut Backoff) {
    if let Some(container) = container {
        match rest(session, container).await {
            Ok(()) | Err(Broken::Engine(EngineError::Refused { .. }) | Broken::Garbled(_)) => {}
            Err(error) => {
                tracing::debug!(session_id = %session.id, %error, "the rest of a container's log broke off");
                return wait(session, backoff.next()).await;
            }
        }
    }
    let ended = how_it_ended(session, container);
    if let Err(error) = session.finish(ended, container.and_then(|container| container.finished)).await {
        tracing::error!(session_id = %session.id, %error, "the end of a session cannot be written");
        wait(session, backoff.next()).await;
    }
}

fn how_it_ended(session: &Session, container: Option<&Container>) -> End {
    let card = session.card();
    let code = container.and_then(|container| container.exit_code).or(*lock(&session.last_code));
    let exit_code = code.and_then(|code| i32::try_from(code).ok());
    let report = card.report;
    if let Some(intent) = session.intent() {
        let done = match intent.action {
            EndAction::Terminate => "terminated",
            EndAction::Kill => "killed",
        };
        let reason = format!("{done} by {}", intent.by.name);
        return End { status: Status::Killed, reason, exit_code, error: None, report };
    }
    let failed = |reason: String| {
        let error = Some(reason.clone());
        End { status: Status::Failed, reason, exit_code, error, report: None }
    };
    match container {
        Some(container) if container.oom_killed => failed("out of memory: the kernel killed it".into()),
        Some(Container { error: Some(error), .. }) => failed(format!("it could not run: {error}")),
        _ => match exit_code {
            Some(0) => {
                let reason = "exited with code 0".into();
                End { status: Status::Completed, reason, exit_code, error: None, report: None }
            }
            Some(code) => failed(format!("exited with code {code}")),
            None => failed("its container was removed, and nobody saw how it ended".into()),
        },
    }
}
