//! The holder: one small process per session, which owns its terminal, its log and its processes, so that the node
//! agent can be killed and replaced under running sessions.
//!
//! ```text
//!            ┌───────────────────────── holder ─────────────────────────┐
//! agent ◄──► terminal ─► emulator (answers queries)                      │
//!            │   └─► log (files) ─► clients (node agent) on holder.sock  │
//!   reports ─► agent.sock ──┘   ◄── calls: type, freeze, kill, inject …  │
//!            │ keeper thread: stop, thaw, end   collector thread: reap   │
//!            └───────────────────────────────────────────────────────────┘
//! ```
//!
//! One loop waits for everything and never for anything in particular; what may take time is done by the keeper, and
//! making the log durable by a thread of its own. No runtime, no timer while nothing happens.
//!
//! Laws:
//! 1. It is in the log before anybody is told.
//! 2. The agent's output is read only as fast as it may be ([`flow`](self)), and a slow client costs nobody anything.
//! 3. The holder ends when the session has ended, that is in the log, and the node agent has it, or a grace has passed:
//!    the files tell the rest.

mod agent;
mod api;
mod asks;
mod calls;
mod channel;
mod clients;
mod dialog;
mod expected;
mod flow;
mod inject;
mod keeper;
mod outcomes;
mod output;
mod pipes;
mod reporters;
mod session;
mod terminal;
mod unread;
mod wire;

pub(crate) use self::inject::{json_line, sanitised};

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use bus_schema::Timestamp;
use rustix::event::{EventfdFlags, eventfd};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

pub(crate) use self::api::Address;
use self::api::Api;
use self::channel::Channel;
use self::clients::Clients;
use self::keeper::{KEEPER_QUEUE, Keeper, Teller, collect, describe};
pub(crate) use self::outcomes::Outcomes;
use self::reporters::Reporters;
use self::session::{Parts, Session};
use super::files::{ContainmentChoice, FileError, SCHEMA, SessionDir, Spec, State};
use super::launch;
use super::log::{LogError, LogWriter};
use super::opencode;
use super::socket;
use crate::process::{Cgroup, Containment, Family, ProcessId, close_inherited};

/// How long the lock may be held by somebody who only looks whether it is.
const LOCK_WITHIN: Duration = Duration::from_secs(2);
/// Largest environment: Linux itself takes no more for one program.
const MAX_ENVIRONMENT_BYTES: u64 = 6 * 1024 * 1024;
/// Stack of a thread: they do little, and memory that is never touched costs nothing but its number.
const STACK_BYTES: usize = 256 * 1024;

/// The environment of a session, as it comes on the holder's standard input.
pub(crate) type Environment = Vec<(ByteBuf, ByteBuf)>;

/// What a holder says on its standard output, once: one line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Ready {
    /// It holds the session.
    Holding,
    /// It could not.
    Failed(String),
}

/// A holder could not begin.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("another holder has this session")]
    Held,
    #[error("this session was started before")]
    StartedBefore,
    #[error("{doing}")]
    System {
        doing: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("reading the environment")]
    Environment(#[from] rmp_serde::decode::Error),
}

impl StartError {
    fn system(doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| StartError::System { doing, source }
    }
}

/// Holds the session in `dir` until it is over. `program` starts this binary again, for the exec shim.
pub(crate) fn run(dir: &Path, program: &[OsString]) -> ExitCode {
    close_inherited();
    // Fails only where it is one already; then it has its own session all the same.
    let _ = rustix::process::setsid();
    match start(dir, program) {
        Ok(mut session) => {
            say(&Ready::Holding);
            leave_standard_streams();
            session.run();
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&Ready::Failed(describe(&error)));
            ExitCode::FAILURE
        }
    }
}

/// Tells whoever started us. If that is gone, it will find us by our files.
fn say(ready: &Ready) {
    let line = serde_json::to_string(ready).unwrap_or_default();
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// From here on nobody reads what we would write there.
fn leave_standard_streams() {
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
    }
}

fn start(path: &Path, program: &[OsString]) -> Result<Session, StartError> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|error| StartError::System { doing: "becoming a sub-reaper", source: error.into() })?;
    let dir = SessionDir::new(path);
    let lock = lock(&dir)?;
    let spec = dir.spec()?;
    let mut bytes = vec![];
    let stdin = std::io::stdin().lock().take(MAX_ENVIRONMENT_BYTES);
    { stdin }.read_to_end(&mut bytes).map_err(StartError::system("reading the environment"))?;
    let environment: Environment = rmp_serde::from_slice(&bytes)?;
    let api = spec.api_port.map(|port| opencode::address(port, &environment));
    if dir.log().exists() {
        return Err(StartError::StartedBefore);
    }
    let log = LogWriter::create(&dir.log(), spec.limits, spec.size)?;
    let clients = Clients::new(
        socket::listen(path, SessionDir::HOLDER_SOCKET).map_err(StartError::system("opening the holder's socket"))?,
    );
    let agent = spec.agent_socket.parent().zip(spec.agent_socket.file_name().and_then(|name| name.to_str()));
    let (agent_dir, agent_name) = agent.unwrap_or((path, "agent.sock"));
    let reporters = Reporters::new(
        socket::listen(agent_dir, agent_name).map_err(StartError::system("opening the session's socket"))?,
    );

    let mut channel =
        Channel::open(spec.size, spec.protocol).map_err(StartError::system("opening the way to the agent"))?;
    let cgroup = match spec.containment {
        ContainmentChoice::Best => Cgroup::create(spec.session_id.as_str()).ok(),
        ContainmentChoice::ProcessTree => None,
    };
    let shim = launch::arguments(path, cgroup.as_ref().map(Cgroup::dir), spec.cwd.as_deref(), &spec.command);
    let shim: Vec<OsString> = program.iter().cloned().chain(shim).collect();
    let environment: Vec<(OsString, OsString)> =
        environment.into_iter().map(|(key, value)| (os(key), os(value))).collect();
    let leader = channel.spawn(&shim, &environment).map_err(StartError::system("starting a process"))?;
    // What else the agent may know is its own; here it would only lie around.
    drop(environment);

    let state = State {
        schema: SCHEMA,
        session_id: spec.session_id.clone(),
        holder: ProcessId::own().unwrap_or(leader),
        socket: path.join(SessionDir::HOLDER_SOCKET),
        child: Some(leader),
        containment: None,
        cgroup: cgroup.as_ref().map(|cgroup| cgroup.dir().to_owned()),
        started_at: None,
        ended_at: None,
        frozen_by: None,
        intent: None,
        exit: None,
        children: Default::default(),
        answers: false,
    };
    dir.write_state(&state)?;
    let threads = threads(&spec, leader, cgroup)?;
    let since = Timestamp::from_millis(spec.spawned_at.div_euclid(1000));
    let wake = Arc::clone(&threads.wake);
    let api = api.map(|address| Api::start(address, wake, since, Instant::now())).transpose()?;
    Ok(Session::new(Parts { dir, spec, state, lock, log, channel, clients, reporters, threads }, api))
}

/// The ends of the channels to the threads, as the loop has them.
pub(crate) struct Threads {
    pub keeper: std::sync::mpsc::SyncSender<keeper::Command>,
    pub events: std::sync::mpsc::Receiver<keeper::Happened>,
    pub wake: Arc<OwnedFd>,
    pub sync: std::sync::mpsc::SyncSender<Arc<File>>,
}

fn threads(spec: &Spec, leader: ProcessId, cgroup: Option<Cgroup>) -> Result<Threads, StartError> {
    let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
    let wake =
        eventfd(0, flags).map_err(|error| StartError::System { doing: "making an event", source: error.into() })?;
    let wake = Arc::new(wake);
    let (tell, events) = sync_channel(KEEPER_QUEUE);
    let (keeper, commands) = sync_channel(KEEPER_QUEUE);
    // One file waits while another is written out; the next is the same file, or will be.
    let (sync, files) = sync_channel::<Arc<File>>(1);
    let teller = Teller { events: tell, wake: Arc::clone(&wake) };

    let family = Family::new(spec.session_id.as_str(), Some(leader), ProcessId::own().map(|own| own.pid));
    let containment = Containment::new(cgroup, family);
    let keep = Keeper {
        containment,
        leader,
        stop: spec.stop.clone(),
        commands,
        teller: teller.clone(),
        steps: vec![],
        seen: vec![],
    };
    let thread = |name: &str| std::thread::Builder::new().name(name.into()).stack_size(STACK_BYTES);
    let failed = StartError::system("starting a thread");
    // Not joined: they end with their channels or with the last child, at the latest with this process.
    thread("keeper").spawn(|| keep.run()).map_err(failed)?;
    thread("collector").spawn(move || collect(leader, &teller)).map_err(StartError::system("starting a thread"))?;
    let write_out = move || {
        for file in files {
            // If the disk fails, the next write will tell.
            let _ = file.sync_data();
        }
    };
    thread("sync").spawn(write_out).map_err(StartError::system("starting a thread"))?;
    Ok(Threads { keeper, events, wake, sync })
}

fn lock(dir: &SessionDir) -> Result<File, StartError> {
    let until = Instant::now() + LOCK_WITHIN;
    loop {
        match dir.try_lock()? {
            Some(lock) => return Ok(lock),
            None if Instant::now() >= until => return Err(StartError::Held),
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn os(bytes: ByteBuf) -> OsString {
    std::os::unix::ffi::OsStringExt::from_vec(bytes.into_vec())
}
