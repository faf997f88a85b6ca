//! The configuration of a node: TOML files, later over earlier, and over those the environment.
//!
//! ```toml
//! [node]
//! id = "local"                     # MOSAIC_NODE_ID
//! workspace = "default"            # MOSAIC_WORKSPACE
//! data_dir = "/var/lib/mosaic-node"  # MOSAIC_DATA_DIR
//! shell = true                     # offers the profile `shell`: the user's shell
//! detect = true                    # offers a profile for each known agent on the PATH: codex, claude, codex-acp, …
//! echo = false                     # offers the provider `echo`, for trying out
//! max_sessions = 200               # alive at once
//! keep_ended_s = 86400             # how long a session that is over is kept
//! log = "info"                     # MOSAIC_LOG; as in `info,node_agent=debug`
//! log_format = "text"              # MOSAIC_LOG_FORMAT: text or json
//! [nats]
//! url = "nats://127.0.0.1:4222"    # MOSAIC_NATS_URL; or a list (there: separated by commas)
//! creds = "/etc/mosaic/node.creds" # MOSAIC_NATS_CREDS
//! ca = "/etc/mosaic/ca.pem"        # MOSAIC_NATS_CA; the only authority that is trusted, and TLS is a must; by default as the server asks
//! [trust]
//! command_keys = ["VABC…"]         # MOSAIC_COMMAND_KEYS; public nkeys whose commands are obeyed
//! [outbox]
//! max_bytes_per_session = 268435456
//! max_bytes = 2147483648
//! lag_s = 30                       # kept after the bus has it: longer than the server's sync_interval
//! [terminal]
//! max_bytes_per_s = 524288         # published per session; what is over is only in the log of the session
//! [docker]
//! enabled = true                   # containers with the label dev.mosaic.agent=true are sessions
//! socket = "/var/run/docker.sock"  # by default DOCKER_HOST, this one, or Podman's
//! [[openclaw]]                     # a gateway; further ones are set up from afar
//! name = "home"
//! url = "ws://127.0.0.1:18789/"
//! token_file = "/etc/mosaic/gateway.token"   # readable by the node only; none if the gateway wants none
//! ca = "/etc/mosaic/gateway-ca.pem" # the only authority trusted for wss:// and https://; by default the machine's own
//! soft_pause = false               # offers a soft pause: the run is ended and the conversation fenced
//! [[profile]]                      # what may be started: see `providers::Profile`
//! name = "counter"
//! command = ["bash", "-c", "seq 1 20000"]
//! protocol = "lines"
//! ```
//! Laws: all problems are told at once; no secret is in what is told.

pub mod detected;
mod openclaw;
mod read;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bus_schema::{NodeId, WorkspaceId};
use providers::{OpenClawGateway, Profile};
use serde::Deserialize;

pub use self::read::Problem;
use crate::outbox::Limits;
use crate::runtimes::Docker;

const MIB: u64 = 1024 * 1024;
/// Of one session, by default: hours of talk, or some minutes of an agent that writes as fast as it can.
const DEFAULT_SESSION_BYTES: u64 = 256 * MIB;
/// Of all sessions, by default.
const DEFAULT_TOTAL_BYTES: u64 = 2048 * MIB;
/// Least that works: several segments, each of which can hold a few of the largest messages.
const MIN_OUTBOX_BYTES: u64 = 4 * MIB;
/// How long what the bus has is kept, by default: three times the `sync_interval` of our servers.
const DEFAULT_LAG_S: u64 = 30;
const MAX_LAG_S: u64 = 3_600;
/// Terminal output published per second and session, by default: some ten full screens.
const DEFAULT_TERMINAL_RATE: u64 = 512 * 1024;
/// Least that works: one piece of the largest size per second.
const MIN_TERMINAL_RATE: u64 = 64 * 1024;
/// Sessions alive at once, by default and at most: each needs some files and some hundred kilobytes.
const DEFAULT_SESSIONS: usize = 200;
const MAX_SESSIONS: usize = 2_000;
/// How long a session that is over is kept, by default.
const DEFAULT_KEEP_ENDED_S: u64 = 24 * 3600;
/// Runtimes this program has.
pub const PROVIDERS: &[&str] = &["pty", "acp", "docker", "openclaw", "echo"];
/// Name of the profile that is the user's shell.
pub const SHELL: &str = "shell";

/// What the files say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    node: RawNode,
    nats: RawNats,
    trust: RawTrust,
    outbox: RawOutbox,
    terminal: RawTerminal,
    docker: RawDocker,
    openclaw: Vec<openclaw::Raw>,
    profile: Vec<Profile>,
}

macro_rules! section {
    ($name:ident { $($field:ident: $type:ty),+ $(,)? }) => {
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        struct $name { $($field: Option<$type>,)+ }

        impl $name {
            /// Takes over what the later file says.
            fn merge(&mut self, later: Self) {
                $(self.$field = later.$field.or(self.$field.take());)+
            }
        }
    };
}

section!(RawNode {
    id: String,
    workspace: String,
    data_dir: PathBuf,
    shell: bool,
    detect: bool,
    echo: bool,
    max_sessions: usize,
    keep_ended_s: u64,
    log: String,
    log_format: LogFormat,
});
section!(RawNats { url: Urls, creds: PathBuf, ca: PathBuf });
section!(RawTrust { command_keys: Vec<String>, });
section!(RawOutbox { max_bytes_per_session: u64, max_bytes: u64, lag_s: u64 });
section!(RawTerminal { max_bytes_per_s: u64 });
section!(RawDocker { enabled: bool, socket: PathBuf });

/// One address, or several.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "the address of a server, such as \"nats://127.0.0.1:4222\", or a list of them")]
enum Urls {
    One(String),
    Many(Vec<String>),
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The configuration of a node, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its name.
    pub node: NodeId,
    /// Its workspace.
    pub workspace: WorkspaceId,
    /// Where it keeps what must not be lost.
    pub data_dir: PathBuf,
    /// Whether it has the provider `echo`.
    pub has_echo: bool,
    /// Sessions alive at once.
    pub max_sessions: usize,
    /// How long a session that is over is kept.
    pub keep_ended: Duration,
    /// Which log lines.
    pub log: String,
    /// How they look.
    pub log_format: LogFormat,
    /// Servers of the bus.
    pub nats_urls: Vec<String>,
    /// Credentials for them.
    pub creds: PathBuf,
    /// The authority of the servers: with it TLS is a must.
    pub ca: Option<PathBuf>,
    /// Public nkeys whose commands are obeyed.
    pub command_keys: Vec<String>,
    /// Bounds of the outboxes.
    pub limits: Limits,
    /// How long what the bus has is kept here, in case it forgets it.
    pub lag: Duration,
    /// Terminal output published per second and session, in bytes.
    pub terminal_rate: u64,
    /// Whether and where containers are looked for.
    pub docker: Docker,
    /// OpenClaw gateways.
    pub openclaw: Vec<OpenClawGateway>,
    /// What may be started, by name.
    pub profiles: BTreeMap<String, Profile>,
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError(pub Vec<Problem>);

impl Config {
    /// Reads the files, later over earlier, and `env` over those.
    ///
    /// # Errors
    /// [`ConfigError`] with everything that is wrong.
    pub fn load(files: &[PathBuf], env: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let mut problems = vec![];
        let mut raw = Raw::default();
        let mut profiles = BTreeMap::new();
        for path in files {
            match std::fs::read_to_string(path) {
                Ok(text) => {
                    let later: Raw = read::read(path, &text, &mut problems);
                    check_profiles(path, &later.profile, &mut problems);
                    profiles.extend(later.profile.iter().map(|profile| (profile.name.clone(), profile.clone())));
                    raw.merge(later);
                }
                Err(error) => {
                    let text = format!("cannot be read: {error}");
                    problems.push(Problem { place: None, key: path.display().to_string(), text });
                }
            }
        }
        raw.merge(from_env(env, &mut problems));
        raw.check(profiles, env, problems)
    }
}

fn check_profiles(path: &Path, profiles: &[Profile], problems: &mut Vec<Problem>) {
    for (at, profile) in profiles.iter().enumerate() {
        let mut wrong = |text: String| {
            problems.push(Problem {
                place: None,
                key: format!("{}: profile {:?}", path.display(), profile.name),
                text,
            });
        };
        for problem in profile.problems() {
            wrong(problem.problem);
        }
        if !PROVIDERS.contains(&profile.provider.as_str()) {
            wrong(format!("provider {:?} is not known; one of {}", profile.provider, PROVIDERS.join(", ")));
        }
        if profiles.iter().take(at).any(|other| other.name == profile.name) {
            wrong("there are two of that name in this file; rename one".into());
        }
    }
}

/// What the environment says. Variables of sessions (`MOSAIC_SESSION_ID` and the like) are not ours.
fn from_env(env: &BTreeMap<String, String>, problems: &mut Vec<Problem>) -> Raw {
    let get = |name: &str| env.get(name).filter(|value| !value.is_empty()).cloned();
    let list = |name: &str| get(name).map(|text| text.split(',').map(|part| part.trim().to_owned()).collect());
    let mut raw = Raw::default();
    raw.node.id = get("MOSAIC_NODE_ID");
    raw.node.workspace = get("MOSAIC_WORKSPACE");
    raw.node.data_dir = get("MOSAIC_DATA_DIR").map(Into::into);
    raw.node.log = get("MOSAIC_LOG");
    raw.node.log_format = match get("MOSAIC_LOG_FORMAT").as_deref() {
        None => None,
        Some("text") => Some(LogFormat::Text),
        Some("json") => Some(LogFormat::Json),
        Some(other) => {
            let text = format!("{other:?} is neither text nor json");
            problems.push(Problem { place: None, key: "MOSAIC_LOG_FORMAT".into(), text });
            None
        }
    };
    raw.nats.url = list("MOSAIC_NATS_URL").map(Urls::Many);
    raw.nats.creds = get("MOSAIC_NATS_CREDS").map(Into::into);
    raw.nats.ca = get("MOSAIC_NATS_CA").map(Into::into);
    raw.trust.command_keys = list("MOSAIC_COMMAND_KEYS");
    raw
}

impl Raw {
    fn merge(&mut self, later: Raw) {
        self.node.merge(later.node);
        self.nats.merge(later.nats);
        self.trust.merge(later.trust);
        self.outbox.merge(later.outbox);
        self.terminal.merge(later.terminal);
        self.docker.merge(later.docker);
        self.openclaw.retain(|earlier| later.openclaw.iter().all(|gateway| gateway.name != earlier.name));
        self.openclaw.extend(later.openclaw);
    }

    fn check(
        self,
        mut profiles: BTreeMap<String, Profile>,
        env: &BTreeMap<String, String>,
        mut problems: Vec<Problem>,
    ) -> Result<Config, ConfigError> {
        let mut wrong = |key: &str, text: String| problems.push(Problem { place: None, key: key.into(), text });
        let Raw { node, nats, trust, outbox, terminal, docker, openclaw, .. } = self;
        let openclaw = openclaw::check(openclaw, &mut wrong);
        let id = node.id.unwrap_or_else(|| {
            wrong("node.id", "is missing; give the node a name, such as id = \"local\"".into());
            "missing".into()
        });
        let id = NodeId::new(&id).map_err(|error| wrong("node.id", error.to_string())).ok();
        let workspace = WorkspaceId::new(node.workspace.as_deref().unwrap_or("default"));
        let workspace = workspace.map_err(|error| wrong("node.workspace", error.to_string())).ok();
        let data_dir = node.data_dir.unwrap_or_else(|| {
            wrong("node.data_dir", "is missing; give a folder that survives restarts".into());
            PathBuf::new()
        });
        let nats_urls = match nats.url {
            Some(Urls::One(url)) => vec![url],
            Some(Urls::Many(urls)) => urls,
            None => vec![],
        };
        if nats_urls.is_empty() {
            wrong("nats.url", "is missing; give the address of a server, such as \"nats://127.0.0.1:4222\"".into());
        }
        for url in &nats_urls {
            if url.parse::<async_nats::ServerAddr>().is_err() {
                wrong("nats.url", format!("{url:?} is not the address of a server"));
            }
        }
        let creds = nats.creds.unwrap_or_else(|| {
            let text = "is missing; the bus has no open mode: enrol the node and give the file it got";
            wrong("nats.creds", text.into());
            PathBuf::new()
        });
        if !creds.as_os_str().is_empty()
            && let Err(error) = crate::bus::check_credentials(&creds)
        {
            wrong("nats.creds", error.to_string());
        }
        if let Some(ca) = nats.ca.as_ref().filter(|ca| !ca.is_file()) {
            wrong("nats.ca", format!("{ca:?} is not a file"));
        }
        let command_keys = trust.command_keys.unwrap_or_default();
        for key in &command_keys {
            let kind = nkeys::KeyPair::from_public_key(key).map(|key| key.key_pair_type());
            if !matches!(kind, Ok(nkeys::KeyPairType::Service)) {
                let text = format!("{:?} is not a public nkey of a service; it begins with V", shorten(key));
                wrong("trust.command_keys", text);
            }
        }
        let limits = Limits {
            session_bytes: outbox.max_bytes_per_session.unwrap_or(DEFAULT_SESSION_BYTES),
            total_bytes: outbox.max_bytes.unwrap_or(DEFAULT_TOTAL_BYTES),
        };
        if limits.session_bytes < MIN_OUTBOX_BYTES {
            let text = format!("{} is too small; at least {MIN_OUTBOX_BYTES}", limits.session_bytes);
            wrong("outbox.max_bytes_per_session", text);
        }
        if limits.total_bytes < limits.session_bytes {
            wrong("outbox.max_bytes", format!("{} is less than max_bytes_per_session", limits.total_bytes));
        }
        let lag_s = outbox.lag_s.unwrap_or(DEFAULT_LAG_S);
        if !(1..=MAX_LAG_S).contains(&lag_s) {
            wrong("outbox.lag_s", format!("{lag_s} must be 1 to {MAX_LAG_S}"));
        }
        let terminal_rate = terminal.max_bytes_per_s.unwrap_or(DEFAULT_TERMINAL_RATE);
        if terminal_rate < MIN_TERMINAL_RATE {
            let text = format!("{terminal_rate} is too small; at least {MIN_TERMINAL_RATE}");
            wrong("terminal.max_bytes_per_s", text);
        }
        let max_sessions = node.max_sessions.unwrap_or(DEFAULT_SESSIONS);
        if !(1..=MAX_SESSIONS).contains(&max_sessions) {
            wrong("node.max_sessions", format!("{max_sessions} must be 1 to {MAX_SESSIONS}"));
        }
        let log = node.log.unwrap_or_else(|| "info".into());
        if let Err(error) = log.parse::<tracing_subscriber::EnvFilter>() {
            wrong("node.log", format!("{log:?}: {error}"));
        }
        let has_echo = node.echo.unwrap_or(false);
        for profile in profiles.values().filter(|profile| profile.provider == "echo" && !has_echo) {
            wrong(&format!("profile {:?}", profile.name), "needs echo = true in [node]".into());
        }
        let docker = Docker { is_enabled: docker.enabled.unwrap_or(true), socket: docker.socket, is_beside: false };
        for profile in profiles.values().filter(|profile| profile.provider == "docker" && !docker.is_enabled) {
            wrong(&format!("profile {:?}", profile.name), "needs enabled = true in [docker]".into());
        }
        if node.shell.unwrap_or(true) && !profiles.contains_key(SHELL) {
            profiles.insert(SHELL.into(), shell(env));
        }
        if node.detect.unwrap_or(true) {
            detected::add(&mut profiles, detected::KNOWN, env);
        }
        match (id, workspace) {
            (Some(node_id), Some(workspace)) if problems.is_empty() => Ok(Config {
                node: node_id,
                workspace,
                data_dir,
                has_echo,
                max_sessions,
                keep_ended: Duration::from_secs(node.keep_ended_s.unwrap_or(DEFAULT_KEEP_ENDED_S)),
                log,
                log_format: node.log_format.unwrap_or_default(),
                nats_urls,
                creds,
                ca: nats.ca,
                command_keys,
                limits,
                lag: Duration::from_secs(lag_s),
                terminal_rate,
                docker,
                openclaw,
                profiles,
            }),
            _ => Err(ConfigError(problems)),
        }
    }
}

/// What somebody may have put where a public key belongs could be a secret one.
fn shorten(key: &str) -> String {
    key.chars().take(4).chain("…".chars()).collect()
}

/// The user's own shell.
fn shell(env: &BTreeMap<String, String>) -> Profile {
    let program = env.get("SHELL").filter(|shell| shell.starts_with('/')).cloned();
    Profile {
        cwd: env.get("HOME").map(Into::into),
        title: Some("shell".into()),
        agent_type: Some("shell".into()),
        stop: providers::StopRule { signal: "HUP".into(), ..Default::default() },
        ..Profile::new(SHELL, [program.unwrap_or_else(|| "/bin/sh".into()), "-l".into()])
    }
}
