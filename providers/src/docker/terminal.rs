//! The terminal of a container that has one, as it is written: a prompt without a newline, a screen that is painted.
//!
//! The engine's log has only whole lines (and pieces of 16 KiB of longer ones), so messages come from there, and what a
//! viewer sees from a connection of its own. Laws:
//! 1. What is shown is in our log first, with its place in the terminal's output, as everything that is told.
//! 2. What the terminal showed while nobody was connected is not to be had, and that is said; its lines are in the log.
//! 3. A subscriber that does not take what is shown makes the container wait, as a terminal makes any program wait.

use bus_schema::{TerminalSize, TerminalSnapshot};
use bytes::Bytes;
use futures::FutureExt;

use super::engine::{Container, LogBody, Phase};
use super::record::SIZE;
use super::session::{Session, note};
use crate::clock;
use crate::provider::ProviderError;
use crate::pty::emulator::Emulator;
use crate::pty::entry::lock;
use crate::pty::log::{Kind, LogError, size_bytes};
use crate::pty::record::{Note, Shown};

/// Largest piece in one block, and so in one event.
const MAX_PIECE_BYTES: usize = 64 * 1024;
/// Rows or columns of the largest terminal that anybody has.
const MAX_SIDE: u16 = 1000;

/// What it shows now.
pub(crate) struct Screen {
    emulator: Emulator,
    /// Bytes that it has shown so far.
    offset: u64,
}

impl Screen {
    /// An empty one, behind so many bytes.
    pub fn new(offset: u64) -> Self {
        Self { emulator: Emulator::new(SIZE, false), offset }
    }

    /// A block of our log says this of it.
    pub fn block(&mut self, kind: Kind, data: &[u8]) {
        match (kind, Shown::decode(data), crate::pty::log::parse_size(data)) {
            (Kind::Shown, Some(shown), _) => self.show(&shown),
            (Kind::Resize, _, Some(size)) => {
                self.emulator.resize(size);
            }
            _ => {}
        }
    }

    fn show(&mut self, shown: &Shown<'_>) {
        // Nobody answers what it asks of its terminal: the container is not typed to by itself.
        self.emulator.feed(shown.bytes);
        self.offset = shown.offset + shown.bytes.len() as u64;
    }

    /// What paints it.
    pub fn snapshot(&self) -> TerminalSnapshot {
        TerminalSnapshot { offset: self.offset, data: self.emulator.paint(), size: self.emulator.size() }
    }
}

/// A connection to a terminal.
#[derive(Debug)]
pub(crate) struct Terminal(LogBody);

impl Terminal {
    /// Connects to the terminal of a container, if it has one. It may have been created only.
    pub async fn attach(session: &Session, id: &str) -> Option<Self> {
        match session.engine.watch(id).await {
            Ok(body) => Some(Self(body)),
            Err(error) => {
                tracing::debug!(session_id = %session.id, %error, "a container's terminal cannot be watched");
                None
            }
        }
    }

    /// Connects to one that runs, and gives it the size that was asked for.
    pub async fn follow(session: &Session, container: &Container) -> Result<Option<Self>, LogError> {
        if !container.streams.tty || container.phase != Phase::Running {
            return Ok(None);
        }
        let early = lock(&session.attached).take();
        let is_late = early.is_none() && lock(&session.screen).offset > 0;
        let terminal = match early {
            Some(terminal) => Some(terminal),
            None => Self::attach(session, &container.id).await,
        };
        if terminal.is_none() {
            return Ok(None);
        }
        if is_late {
            let text = "what its terminal showed while nobody watched is not kept, but its lines are";
            session.record.append(vec![note(&Note::Told { text: text.into() })]).await?;
        }
        if let Some(size) = session.card().size {
            // A container that was started again has a new terminal.
            if let Err(error) = session.engine.resize(&container.id, size).await {
                tracing::debug!(session_id = %session.id, %error, "a container's terminal keeps its size");
            }
            resized(session, size).await?;
        }
        Ok(terminal)
    }

    /// What it shows next, once there is room for it; `None` if the connection ended.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn next(&mut self, session: &Session) -> Option<Vec<Bytes>> {
        session.room().await;
        let first = self.0.next().await.ok().flatten()?;
        let (mut length, mut pieces) = (first.len(), vec![first]);
        // What is there already is written down together: the disk is waited for once.
        while length < MAX_PIECE_BYTES
            && let Some(Ok(Some(more))) = self.0.next().now_or_never()
        {
            length += more.len();
            pieces.push(more);
        }
        Some(pieces)
    }
}

/// Writes down what a terminal has shown.
pub(crate) async fn show(session: &Session, pieces: &[Bytes]) -> Result<(), LogError> {
    let (mut offset, all) = (lock(&session.screen).offset, pieces.concat());
    let mut entries = vec![];
    for bytes in all.chunks(MAX_PIECE_BYTES) {
        entries.push((Kind::Shown, clock::now_micros(), Shown { offset, bytes }.encode()));
        offset += bytes.len() as u64;
    }
    session.record.append(entries.clone()).await?;
    let mut screen = lock(&session.screen);
    entries.iter().for_each(|(kind, _, data)| screen.block(*kind, data));
    Ok(())
}

/// Changes its size for as long as it lives.
pub(crate) async fn resize(session: &Session, id: &str, size: TerminalSize) -> Result<(), ProviderError> {
    if !(1..=MAX_SIDE).contains(&size.cols) || !(1..=MAX_SIDE).contains(&size.rows) {
        return Err(ProviderError::Invalid(format!("a terminal has 1 to {MAX_SIDE} rows and columns")));
    }
    session.engine.resize(id, size).await?;
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| ProviderError::Failed {
        doing: "writing down the size of its terminal".into(),
        source: Some(error),
    };
    session.keep(|card| card.size = Some(size)).await.map_err(|error| failed(Box::new(error)))?;
    resized(session, size).await.map_err(|error| failed(Box::new(error)))
}

async fn resized(session: &Session, size: TerminalSize) -> Result<(), LogError> {
    if lock(&session.screen).emulator.size() == size {
        return Ok(());
    }
    let bytes = size_bytes(size);
    session.record.append(vec![(Kind::Resize, clock::now_micros(), bytes.to_vec())]).await?;
    lock(&session.screen).block(Kind::Resize, &bytes);
    Ok(())
}
