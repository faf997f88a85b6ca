//! What is kept of a session on disk.
//!
//! ```text
//! DATA/docker/
//!   lock                         held by the one program that keeps the sessions
//!   sessions/ULID/card.json      which container, which of its lives, how it ended
//!                 intent.json    who wants its end; written by whoever asks for it, in a program beside us too
//!                 log/           see pty/log.rs
//!                 checkpoints/   see pty/checkpoints.rs
//!                 injections     operator messages that were handed over: see journal.rs
//!   forgotten/CONTAINER          the life of a container that nobody wants to see any more
//! ```
//! The cards together are the mapping of containers to sessions.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use bus_schema::{EndReport, SessionId, TerminalSize};
use serde::{Deserialize, Serialize};

use super::labels::Facts;
use crate::provider::End;
use crate::pty::files::replace_bytes;
use crate::pty::record::{EndAction, Intent};

/// Version of the card. A newer one is left alone.
const CARD_VERSION: u32 = 1;

/// A session and its container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Card {
    pub version: u32,
    pub session_id: SessionId,
    /// `None` while it is being created for a session that was asked for.
    pub container: Option<String>,
    pub container_name: String,
    pub image: String,
    /// Which of the container's lives, from 0.
    pub generation: u32,
    /// Output up to here (the engine's stamp, ns) belongs to an earlier life.
    pub after: Option<i64>,
    pub facts: Facts,
    /// The size that its terminal is to have, if somebody gave it one.
    #[serde(default)]
    pub size: Option<TerminalSize>,
    /// The program's own way to be asked, tried before the engine's: a signal, and how long it may take.
    pub leave: Option<Leave>,
    /// All times in ns since 1970.
    pub spawned_at: i64,
    pub started_at: Option<i64>,
    /// The start of the container that was seen last: another one is a restart.
    pub run: Option<i64>,
    pub ended_at: Option<i64>,
    /// The proof of a kill.
    pub report: Option<EndReport>,
    pub exit: Option<End>,
}

/// How a program is asked to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Leave {
    /// Such as `SIGINT`.
    pub signal: String,
    pub grace_ms: u64,
}

impl Card {
    pub fn new(session_id: SessionId, facts: Facts, spawned_at: i64) -> Self {
        Self {
            version: CARD_VERSION,
            session_id,
            container: None,
            container_name: String::new(),
            image: String::new(),
            generation: 0,
            after: None,
            facts,
            size: None,
            leave: None,
            spawned_at,
            started_at: None,
            run: None,
            ended_at: None,
            report: None,
            exit: None,
        }
    }
}

/// The folder of one session.
#[derive(Clone, Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    pub fn checkpoints(&self) -> PathBuf {
        self.0.join("checkpoints")
    }

    pub fn injections(&self) -> PathBuf {
        self.0.join("injections")
    }

    /// Who wants the end of the session.
    pub fn intent(&self) -> Option<Intent> {
        serde_json::from_slice(&std::fs::read(self.0.join("intent.json")).ok()?).ok()
    }

    /// Somebody does. The firmer wish stays.
    pub fn intend(&self, intent: &Intent) -> io::Result<()> {
        if self.intent().is_some_and(|known| known.action == EndAction::Kill) {
            return Ok(());
        }
        replace_bytes(&self.0.join("intent.json"), &serde_json::to_vec(intent).map_err(io::Error::other)?)
    }

    fn card(&self) -> PathBuf {
        self.0.join("card.json")
    }

    pub fn write(&self, card: &Card) -> io::Result<()> {
        std::fs::create_dir_all(&self.0)?;
        replace_bytes(&self.card(), &serde_json::to_vec_pretty(card).map_err(io::Error::other)?)
    }

    pub fn read(&self) -> io::Result<Card> {
        let card: Card = serde_json::from_slice(&std::fs::read(self.card())?).map_err(io::Error::other)?;
        if card.version > CARD_VERSION {
            let text = format!("version {} is newer than {CARD_VERSION}; use the newer program", card.version);
            return Err(io::Error::other(text));
        }
        Ok(card)
    }
}

/// The folder of all sessions.
#[derive(Clone, Debug)]
pub(crate) struct Files(PathBuf);

impl Files {
    pub fn open(dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir.join("sessions"))?;
        std::fs::create_dir_all(dir.join("forgotten"))?;
        Ok(Self(dir.into()))
    }

    /// Becomes the one who keeps the sessions, for as long as the file is held. `None` if somebody else is.
    pub fn lock(&self) -> io::Result<Option<File>> {
        let file = File::options().create(true).truncate(false).write(true).open(self.0.join("lock"))?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub fn folder(&self, id: &SessionId) -> Folder {
        Folder(self.0.join("sessions").join(id.as_str()))
    }

    /// All cards. What cannot be read is named and left alone.
    pub fn cards(&self) -> io::Result<Vec<(Folder, Card)>> {
        let mut cards = vec![];
        for entry in std::fs::read_dir(self.0.join("sessions"))?.flatten() {
            let folder = Folder(entry.path());
            match folder.read() {
                Ok(card) => cards.push((folder, card)),
                // Nothing was started: the first thing written is the card.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(folder = %folder.path().display(), %error, "session is left alone");
                }
            }
        }
        Ok(cards)
    }

    fn forgotten_path(&self, container: &str) -> PathBuf {
        self.0.join("forgotten").join(container)
    }

    /// This life of a container is not to be shown again.
    pub fn forget(&self, container: &str, run: Option<i64>) -> io::Result<()> {
        replace_bytes(&self.forgotten_path(container), run.unwrap_or_default().to_string().as_bytes())
    }

    /// True for a life that is not to be shown.
    pub fn is_forgotten(&self, container: &str, run: Option<i64>) -> bool {
        let text = std::fs::read_to_string(self.forgotten_path(container)).unwrap_or_default();
        text.parse() == Ok(run.unwrap_or_default())
    }

    /// The container is gone: nothing more needs to be known of it.
    pub fn drop_forgotten(&self, container: &str) {
        // One that stays does no harm: ids are not used twice.
        let _ = std::fs::remove_file(self.forgotten_path(container));
    }
}
