//! What stands in a session's directory, and who may touch it.
//!
//! ```text
//! pty/ID/              0700
//!   spec.json          what was to be started, without the environment: that may hold secrets
//!   state.json         how far it is; replaced as a whole by the holder
//!   lock               held by the holder for as long as it lives
//!   log/               see the log module
//!   checkpoints/       states of the interpreter at the beginnings of segments, written by the node agent
//!   forgotten/         children that nobody needs any more, by id
//!   holder.sock        the holder's protocol
//!   agent.sock         what the session finds as MOSAIC_SOCKET, where its path is short enough
//!   hooks.json         settings of an agent CLI whose hooks report to us
//!   holder.err         what a holder says that dies
//! ```
//!
//! Laws:
//! 1. Only who has the lock writes `state.json` and the log. The lock is the system's own, so it falls with its
//!    holder, however that dies.
//! 2. A schema newer than ours is refused with both versions named, and nothing in the directory is touched.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bus_schema::{Operator, SessionId, TerminalSize};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::log::LogLimits;
use super::record::{Exit, Intent};
use crate::process::ProcessId;
use crate::profile::{Protocol, StopRule};

/// Version of `spec.json` and `state.json`.
pub(crate) const SCHEMA: u32 = 1;
/// Size of a terminal where the profile does not say.
pub(crate) const DEFAULT_SIZE: TerminalSize = TerminalSize { cols: 120, rows: 40 };

/// How the processes of a session are to be held together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ContainmentChoice {
    /// By a cgroup where one can be had.
    #[default]
    Best,
    /// By what can be found in `/proc`, as on hosts without cgroup v2.
    ProcessTree,
}

/// What is to be started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Spec {
    /// See [`SCHEMA`].
    pub schema: u32,
    /// The session.
    pub session_id: SessionId,
    /// The session it is a child of.
    pub parent_session_id: Option<SessionId>,
    /// The profile's name.
    pub profile: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// The agent's own name of the conversation that it goes on with, if it does not begin one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<String>,
    /// Where it starts.
    pub cwd: Option<PathBuf>,
    /// How messages are taken from its output.
    pub protocol: Protocol,
    /// Size of its terminal.
    pub size: TerminalSize,
    /// How it is asked to end.
    pub stop: StopRule,
    /// A name for people.
    pub title: Option<String>,
    /// What kind of agent it is.
    pub agent_type: Option<String>,
    /// When its start was asked for, in µs since 1970.
    pub spawned_at: i64,
    /// How its processes are held together.
    pub containment: ContainmentChoice,
    /// How much of its log is kept, and how fast it may grow.
    pub limits: LogLimits,
    /// Where its reports are taken: `MOSAIC_SOCKET`.
    pub agent_socket: PathBuf,
    /// The port on loopback on which it was told to serve its API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_port: Option<u16>,
}

/// How far a session is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State {
    /// See [`SCHEMA`].
    pub schema: u32,
    /// The session.
    pub session_id: SessionId,
    /// The process that holds it.
    pub holder: ProcessId,
    /// The holder's socket.
    pub socket: PathBuf,
    /// Its first process, once it is there.
    pub child: Option<ProcessId>,
    /// `cgroup` or `processTree`, once that is known.
    pub containment: Option<String>,
    /// Its cgroup, if it has one.
    pub cgroup: Option<PathBuf>,
    /// When its program ran, in µs since 1970.
    pub started_at: Option<i64>,
    /// When it ended.
    pub ended_at: Option<i64>,
    /// Who paused it, while it stands still.
    pub frozen_by: Option<Operator>,
    /// Who wants its end.
    pub intent: Option<Intent>,
    /// How it ended.
    pub exit: Option<Exit>,
    /// The sessions that it said it started, by id.
    #[serde(default)]
    pub children: BTreeMap<SessionId, ChildState>,
    /// True once it was seen to ask for leave in a way that can be answered through the mesh.
    #[serde(default)]
    pub answers: bool,
}

/// A session that another one said it started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChildState {
    /// A name for people.
    pub title: Option<String>,
    /// What kind of agent it is.
    pub agent_type: Option<String>,
    /// When it was told of first, in µs since 1970.
    pub since: i64,
    /// When it was said to be over.
    pub ended_at: Option<i64>,
}

/// A file of a session could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// The system refused.
    #[error("{doing} {path}")]
    Io {
        /// What we were doing.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Not what we wrote.
    #[error("reading {path}")]
    Format {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// Written by a newer version of this program.
    #[error("{path} has schema {found}, this program knows up to {SCHEMA}; use the newer one, or remove the directory")]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its schema.
        found: u32,
    },
}

impl FileError {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| FileError::Io { doing, path: path.into(), source }
    }

    /// True if the file is not there.
    pub fn is_missing(&self) -> bool {
        matches!(self, FileError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// The directory of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionDir(PathBuf);

impl SessionDir {
    /// The directory at `path`, there or not.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Makes it, for this user only.
    pub fn create(&self) -> Result<(), FileError> {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&self.0).map_err(FileError::io("creating", &self.0))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The log.
    pub fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// The interpreter's checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.0.join("checkpoints")
    }

    /// Marks of the children that nobody needs any more.
    pub fn forgotten(&self) -> PathBuf {
        self.0.join("forgotten")
    }

    /// The name of the holder's socket in it.
    pub const HOLDER_SOCKET: &'static str = "holder.sock";

    /// What a holder says that dies.
    pub fn holder_errors(&self) -> PathBuf {
        self.0.join("holder.err")
    }

    /// Settings of an agent CLI whose hooks report to us.
    pub fn hooks(&self) -> PathBuf {
        self.0.join("hooks.json")
    }

    /// What is to be started.
    pub fn spec(&self) -> Result<Spec, FileError> {
        read(&self.0.join("spec.json"))
    }

    /// Writes down what is to be started.
    pub fn write_spec(&self, spec: &Spec) -> Result<(), FileError> {
        replace(&self.0.join("spec.json"), spec)
    }

    /// How far the session is.
    pub fn state(&self) -> Result<State, FileError> {
        read(&self.0.join("state.json"))
    }

    /// Writes down how far the session is.
    pub fn write_state(&self, state: &State) -> Result<(), FileError> {
        replace(&self.0.join("state.json"), state)
    }

    /// Takes the lock if nobody has it. It is given back when the file is dropped.
    pub fn try_lock(&self) -> Result<Option<File>, FileError> {
        let path = self.0.join("lock");
        let mut options = File::options();
        let file = options.create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.map_err(FileError::io("opening", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(source)) => Err(FileError::Io { doing: "locking", path, source }),
        }
    }

    /// True while a holder lives.
    pub fn is_held(&self) -> bool {
        matches!(self.try_lock(), Ok(None))
    }
}

/// Only the version, which stands in every schema.
#[derive(Deserialize)]
struct Versioned {
    schema: u32,
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, FileError> {
    let text = std::fs::read(path).map_err(FileError::io("reading", path))?;
    let format = |source| FileError::Format { path: path.into(), source };
    let Versioned { schema } = serde_json::from_slice(&text).map_err(format)?;
    if schema > SCHEMA {
        return Err(FileError::Newer { path: path.into(), found: schema });
    }
    serde_json::from_slice(&text).map_err(format)
}

/// Replaces a file as a whole: a reader sees the old one or the new one.
fn replace<T: Serialize>(path: &Path, value: &T) -> Result<(), FileError> {
    let text = serde_json::to_vec_pretty(value).map_err(|source| FileError::Format { path: path.into(), source })?;
    replace_bytes(path, &text).map_err(FileError::io("writing", path))
}

/// Replaces a file as a whole, durably.
pub(crate) fn replace_bytes(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    std::fs::rename(&draft, path)
}
