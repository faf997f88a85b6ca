//! The engine's API: the few calls that are needed, each with a deadline, each error judged once.
//!
//! The log of a container is read past the client library: that takes only whole seconds, and keeps a terminal's output
//! in memory for as long as it has no newline.

mod wire;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error as Bollard;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum, EventMessage, ExecConfig,
};
use bollard::query_parameters::{
    AttachContainerOptions, CreateContainerOptions, EventsOptions, KillContainerOptions, ListContainersOptions,
    RemoveContainerOptions, ResizeContainerTTYOptions, StopContainerOptions, TopOptions,
};
use bus_schema::TerminalSize;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::time::timeout;

pub(crate) use self::wire::LogBody;
use super::labels::{self, Streams};
use super::moment;
use crate::provider::ProviderError;

/// How long a call may take that the engine answers from memory.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long one may take that has the kernel do something: a busy machine takes seconds to start a container.
const WORK_WITHIN: Duration = Duration::from_secs(30);
/// How long one look whether the engine is there may take.
const PING_WITHIN: Duration = Duration::from_secs(2);
/// Deadline of the library, over ours: seconds.
const LIBRARY_SECONDS: u64 = 120;
/// Signals are named as the engine wants them.
const KILL: &str = "SIGKILL";

/// A call to the engine went wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    /// There is nothing to call.
    #[error(
        "no container engine found at {tried}; start it (systemctl start docker), or set [docker] socket in the node's \
         configuration"
    )]
    NoSocket {
        /// Where it was looked for.
        tried: String,
    },
    /// `DOCKER_HOST` names something else than a local socket.
    #[error("DOCKER_HOST={0} is not a local socket; only unix:///path is used")]
    NotLocal(String),
    /// It does not answer.
    #[error("{doing}: the container engine at {} does not answer; is it running, and may this user use it?", socket.display())]
    Away {
        /// What we were doing.
        doing: &'static str,
        /// Where.
        socket: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It took too long.
    #[error("{doing}: the container engine took longer than {seconds} s")]
    Slow {
        /// What we were doing.
        doing: &'static str,
        /// The bound.
        seconds: u64,
    },
    /// It answered that it will not.
    #[error("{doing}: the container engine says: {message}")]
    Refused {
        /// What we were doing.
        doing: &'static str,
        /// Its HTTP status.
        status: u16,
        /// Its words.
        message: String,
    },
}

impl EngineError {
    /// True if it may be there later.
    pub fn is_away(&self) -> bool {
        matches!(self, EngineError::NoSocket { .. } | EngineError::Away { .. } | EngineError::Slow { .. })
    }

    /// The HTTP status that it answered with.
    pub fn status(&self) -> Option<u16> {
        if let EngineError::Refused { status, .. } = self { Some(*status) } else { None }
    }
}

impl From<EngineError> for ProviderError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Slow { doing, seconds } => ProviderError::Deadline { doing: doing.into(), seconds },
            EngineError::Refused { doing, ref message, .. } => {
                ProviderError::Failed { doing: format!("{doing}: {message}"), source: Some(Box::new(error)) }
            }
            EngineError::NoSocket { .. } | EngineError::NotLocal(_) | EngineError::Away { .. } => {
                ProviderError::Unavailable { what: error.to_string(), source: Some(Box::new(error)) }
            }
        }
    }
}

/// Where a container stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Created,
    Running,
    Paused,
    Restarting,
    Ended,
}

/// A container, as an inspection shows it.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    pub id: String,
    pub name: String,
    pub image: String,
    pub labels: BTreeMap<String, String>,
    pub streams: Streams,
    pub phase: Phase,
    pub exit_code: Option<i64>,
    pub oom_killed: bool,
    /// What went wrong at its start.
    pub error: Option<String>,
    pub created: Option<i64>,
    /// When it last started; `None` if it never did. ns since 1970, as all times here.
    pub started: Option<i64>,
    pub finished: Option<i64>,
    pub pid: Option<i64>,
}

/// A process in a container, seen from the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub pid: i32,
    pub name: String,
}

/// Where the engine is looked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sockets {
    /// From the configuration: this one and no other.
    pub configured: Option<PathBuf>,
    /// The variable `DOCKER_HOST`.
    pub docker_host: Option<String>,
    /// The variable `XDG_RUNTIME_DIR`, below which Podman has a user's socket.
    pub runtime_dir: Option<PathBuf>,
}

/// The engine. Connects anew for every call, so it may come and go.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    sockets: Sockets,
}

impl Engine {
    pub fn new(sockets: Sockets) -> Self {
        Self { sockets }
    }

    /// The socket that is there now.
    pub fn socket(&self) -> Result<PathBuf, EngineError> {
        let Sockets { configured, docker_host, runtime_dir } = &self.sockets;
        let candidates = match (configured, docker_host.as_deref()) {
            (Some(path), _) => vec![path.clone()],
            (None, Some(host)) => match host.strip_prefix("unix://") {
                Some(path) => vec![path.into()],
                None => return Err(EngineError::NotLocal(host.into())),
            },
            (None, None) => {
                let podman = runtime_dir.iter().map(|dir| dir.join("podman/podman.sock"));
                let docker = std::iter::once(PathBuf::from("/var/run/docker.sock"));
                docker.chain(podman).chain(std::iter::once("/run/podman/podman.sock".into())).collect()
            }
        };
        candidates.iter().find(|path| path.exists()).cloned().ok_or_else(|| {
            let tried = candidates.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
            EngineError::NoSocket { tried }
        })
    }

    fn client(&self, doing: &'static str) -> Result<(Docker, PathBuf), EngineError> {
        let socket = self.socket()?;
        let path = socket.to_string_lossy();
        match Docker::connect_with_unix(&path, LIBRARY_SECONDS, bollard::API_DEFAULT_VERSION) {
            Ok(client) => Ok((client, socket)),
            Err(error) => Err(judge(doing, &socket, error)),
        }
    }

    /// One call under a deadline.
    async fn call<T, F>(
        &self,
        doing: &'static str,
        within: Duration,
        call: impl FnOnce(Docker) -> F,
    ) -> Result<T, EngineError>
    where
        F: Future<Output = Result<T, Bollard>>,
    {
        let (client, socket) = self.client(doing)?;
        match timeout(within, call(client)).await {
            Ok(result) => result.map_err(|error| judge(doing, &socket, error)),
            Err(_) => Err(EngineError::Slow { doing, seconds: within.as_secs() }),
        }
    }

    /// Whether it is there.
    pub async fn ping(&self) -> Result<(), EngineError> {
        let call = |client: Docker| async move { client.ping().await };
        self.call("looking whether it is there", PING_WITHIN, call).await.map(|_| ())
    }

    /// Ids of all containers that are agents, those that have ended too.
    pub async fn agents(&self) -> Result<Vec<String>, EngineError> {
        let filters = HashMap::from([("label".to_owned(), vec![format!("{}=true", labels::AGENT)])]);
        let options = ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
        let call = |client: Docker| async move { client.list_containers(Some(options)).await };
        let found = self.call("listing containers", WORK_WITHIN, call).await?;
        Ok(found.into_iter().filter_map(|container| container.id).collect())
    }

    /// A container by id or name; `None` if there is none, or it is not an agent.
    pub async fn inspect(&self, id: &str) -> Result<Option<Container>, EngineError> {
        let call = |client: Docker| async move { client.inspect_container(id, None).await };
        match self.call("looking at a container", ANSWER_WITHIN, call).await {
            Ok(found) => Ok(Some(container(found)).filter(|container| labels::is_agent(&container.labels))),
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What happens to agents from now on, or from this time on (ns since 1970), as far as the engine remembers.
    pub fn events(
        &self,
        since: Option<i64>,
    ) -> Result<BoxStream<'static, Result<EventMessage, EngineError>>, EngineError> {
        const DOING: &str = "listening for containers";
        let (client, socket) = self.client(DOING)?;
        let filters = HashMap::from([
            ("label".to_owned(), vec![format!("{}=true", labels::AGENT)]),
            ("type".to_owned(), vec!["container".to_owned()]),
        ]);
        let since =
            since.map(|nanos| format!("{}.{:09}", nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000)));
        let events = client.events(Some(EventsOptions { since, until: None, filters: Some(filters) }));
        Ok(events.map(move |event| event.map_err(|error| judge(DOING, &socket, error))).boxed())
    }

    /// The log of a container from a time on, in seconds since 1970.
    pub async fn logs(&self, id: &str, follow: bool, since_seconds: i64) -> Result<LogBody, EngineError> {
        let path = format!(
            "/containers/{id}/logs?stdout=1&stderr=1&timestamps=1&follow={}&since={since_seconds}",
            u8::from(follow)
        );
        self.stream("reading a container's log", hyper::Method::GET, &path).await
    }

    /// A call whose answer is a stream without end.
    async fn stream(&self, doing: &'static str, method: hyper::Method, path: &str) -> Result<LogBody, EngineError> {
        let socket = self.socket()?;
        match timeout(ANSWER_WITHIN, wire::ask(&socket, method, path)).await {
            Err(_) => Err(EngineError::Slow { doing, seconds: ANSWER_WITHIN.as_secs() }),
            Ok(Ok(body)) => Ok(body),
            Ok(Err(wire::WireError::Status { status, message })) => {
                Err(EngineError::Refused { doing, status, message })
            }
            Ok(Err(error)) => Err(EngineError::Away { doing, socket, source: Box::new(error) }),
        }
    }

    pub async fn pause(&self, id: &str) -> Result<(), EngineError> {
        let call = |client: Docker| async move { client.pause_container(id).await };
        already(self.call("pausing", WORK_WITHIN, call).await)
    }

    pub async fn unpause(&self, id: &str) -> Result<(), EngineError> {
        let call = |client: Docker| async move { client.unpause_container(id).await };
        // 500 by Engine 20.10, 409 by later ones, for one that is not paused. An inspection tells what is so.
        match self.call("resuming", WORK_WITHIN, call).await {
            Err(error) if matches!(error.status(), Some(409 | 500)) => Ok(()),
            other => other,
        }
    }

    /// Asks it to end, and ends it after that time. Returns when it has ended.
    pub async fn stop(&self, id: &str, seconds: u64) -> Result<(), EngineError> {
        let t = i32::try_from(seconds).ok();
        let call = |client: Docker| async move {
            client.stop_container(id, Some(StopContainerOptions { signal: None, t })).await
        };
        let within = WORK_WITHIN + Duration::from_secs(seconds);
        already(self.call("stopping", within, call).await)
    }

    /// Sends a signal, such as `SIGKILL`.
    pub async fn signal(&self, id: &str, signal: &str) -> Result<(), EngineError> {
        let signal = signal.to_owned();
        let call =
            |client: Docker| async move { client.kill_container(id, Some(KillContainerOptions { signal })).await };
        already(self.call("sending a signal", WORK_WITHIN, call).await)
    }

    pub async fn kill(&self, id: &str) -> Result<(), EngineError> {
        self.signal(id, KILL).await
    }

    /// Its processes now.
    pub async fn processes(&self, id: &str) -> Result<Vec<Process>, EngineError> {
        let options = TopOptions { ps_args: "-eo pid,comm".into() };
        let call = |client: Docker| async move { client.top_processes(id, Some(options)).await };
        let top = self.call("listing processes", ANSWER_WITHIN, call).await?;
        let row = |row: Vec<String>| {
            Some(Process { pid: row.first()?.trim().parse().ok()?, name: row.get(1)?.trim().to_owned() })
        };
        Ok(top.processes.unwrap_or_default().into_iter().filter_map(row).collect())
    }

    pub async fn has_image(&self, image: &str) -> Result<bool, EngineError> {
        let call = |client: Docker| async move { client.inspect_image(image).await };
        match self.call("looking for an image", ANSWER_WITHIN, call).await {
            Ok(_) => Ok(true),
            Err(error) if error.status() == Some(404) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes a container, and gives its id.
    pub async fn create(&self, name: &str, body: ContainerCreateBody) -> Result<String, EngineError> {
        let options = CreateContainerOptions { name: Some(name.into()), ..Default::default() };
        let call = |client: Docker| async move { client.create_container(Some(options), body).await };
        self.call("creating a container", WORK_WITHIN, call).await.map(|made| made.id)
    }

    pub async fn start(&self, id: &str) -> Result<(), EngineError> {
        let call = |client: Docker| async move { client.start_container(id, None).await };
        already(self.call("starting a container", WORK_WITHIN, call).await)
    }

    /// Removes one, with its anonymous volumes.
    pub async fn remove(&self, id: &str, force: bool) -> Result<(), EngineError> {
        let options = RemoveContainerOptions { v: true, force, link: false };
        let call = |client: Docker| async move { client.remove_container(id, Some(options)).await };
        match self.call("removing a container", WORK_WITHIN, call).await {
            Err(error) if error.status() == Some(404) => Ok(()),
            other => other,
        }
    }

    /// What its terminal shows from now on, as raw bytes. The client library keeps them until there is a newline.
    pub async fn watch(&self, id: &str) -> Result<LogBody, EngineError> {
        let path = format!("/containers/{id}/attach?stream=1&stdout=1&stderr=1");
        self.stream("watching a container's terminal", hyper::Method::POST, &path).await
    }

    /// Changes the size of its terminal.
    pub async fn resize(&self, id: &str, size: TerminalSize) -> Result<(), EngineError> {
        let options = ResizeContainerTTYOptions { h: i32::from(size.rows), w: i32::from(size.cols) };
        let call = |client: Docker| async move { client.resize_container_tty(id, options).await };
        self.call("changing the size of a terminal", ANSWER_WITHIN, call).await
    }

    /// Its standard input.
    pub async fn attach(&self, id: &str) -> Result<bollard::container::AttachContainerResults, EngineError> {
        let options = AttachContainerOptions { stdin: true, stream: true, ..Default::default() };
        let call = |client: Docker| async move { client.attach_container(id, Some(options)).await };
        self.call("attaching to a container", ANSWER_WITHIN, call).await
    }

    /// Prepares a command in a container, with input and output.
    pub async fn exec(&self, id: &str, argv: Vec<String>) -> Result<String, EngineError> {
        let config = ExecConfig {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(argv),
            ..Default::default()
        };
        let call = |client: Docker| async move { client.create_exec(id, config).await };
        self.call("preparing a command in a container", ANSWER_WITHIN, call).await.map(|made| made.id)
    }

    pub async fn start_exec(&self, exec: &str) -> Result<bollard::exec::StartExecResults, EngineError> {
        let call = |client: Docker| async move { client.start_exec(exec, None).await };
        self.call("running a command in a container", WORK_WITHIN, call).await
    }

    /// Its exit code, once it has one.
    pub async fn exec_code(&self, exec: &str) -> Result<Option<i64>, EngineError> {
        let call = |client: Docker| async move { client.inspect_exec(exec).await };
        let found = self.call("looking at a command in a container", ANSWER_WITHIN, call).await?;
        Ok(found.exit_code.filter(|_| found.running != Some(true)))
    }
}

/// What is so already was done.
fn already(result: Result<(), EngineError>) -> Result<(), EngineError> {
    match result {
        Err(error) if matches!(error.status(), Some(304 | 409)) => Ok(()),
        other => other,
    }
}

fn judge(doing: &'static str, socket: &Path, error: Bollard) -> EngineError {
    match error {
        Bollard::DockerResponseServerError { status_code: status, message } => {
            EngineError::Refused { doing, status, message }
        }
        error => EngineError::Away { doing, socket: socket.into(), source: Box::new(error) },
    }
}

fn container(found: ContainerInspectResponse) -> Container {
    let config = found.config.unwrap_or_default();
    let state = found.state.unwrap_or_default();
    let phase = match state.status {
        Some(ContainerStateStatusEnum::RUNNING | ContainerStateStatusEnum::STOPPING) => Phase::Running,
        Some(ContainerStateStatusEnum::PAUSED) => Phase::Paused,
        Some(ContainerStateStatusEnum::RESTARTING) => Phase::Restarting,
        Some(ContainerStateStatusEnum::CREATED) => Phase::Created,
        Some(_) | None => Phase::Ended,
    };
    let time = |text: Option<String>| text.and_then(|text| moment::nanos(text.as_bytes())).filter(|nanos| *nanos > 0);
    Container {
        id: found.id.unwrap_or_default(),
        name: found.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        image: config.image.unwrap_or_default(),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        streams: Streams {
            tty: config.tty.unwrap_or_default(),
            open_stdin: config.open_stdin.unwrap_or_default(),
            stdin_once: config.stdin_once.unwrap_or_default(),
        },
        phase,
        exit_code: state.exit_code,
        oom_killed: state.oom_killed.unwrap_or_default(),
        error: state.error.filter(|error| !error.is_empty()),
        created: time(found.created),
        started: time(state.started_at),
        finished: time(state.finished_at),
        pid: state.pid.filter(|pid| *pid > 0),
    }
}
