//! Profiles: what a node may start (contract section 6). A hub can start nothing else.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bus_schema::{ProfileInfo, ProviderName, TerminalSize};
use serde::{Deserialize, Serialize};

/// How messages are taken from an agent's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// From a structured source, status sequences or the screen, whichever is best.
    #[default]
    Terminal,
    /// One message per line of output.
    Lines,
    /// Lines that are JSON objects with `role` and `content` are messages; all others are text.
    Jsonl,
    /// The Agent Client Protocol over standard input and output.
    Acp,
}

impl Protocol {
    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Terminal => "terminal",
            Protocol::Lines => "lines",
            Protocol::Jsonl => "jsonl",
            Protocol::Acp => "acp",
        }
    }
}

/// How an agent is asked to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopRule {
    /// The program's own way, tried first: `INT`, `TERM`, `HUP`, `QUIT`, or `none` to begin with TERM.
    #[serde(default = "default_signal")]
    pub signal: String,
    /// How long it may take over each step, in milliseconds.
    #[serde(default = "default_grace_ms")]
    pub grace_ms: u64,
}

fn default_signal() -> String {
    "INT".into()
}

fn default_grace_ms() -> u64 {
    5_000
}

impl Default for StopRule {
    fn default() -> Self {
        Self { signal: default_signal(), grace_ms: default_grace_ms() }
    }
}

/// Something a node may start.
///
/// The values of `env` may be secrets: they are never shown, and leave the node only into the process itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its name: 1 to 64 characters out of `A-Z a-z 0-9 _ -`.
    pub name: String,
    /// The runtime that starts it.
    #[serde(default = "default_provider")]
    pub provider: String,
    /// Program and arguments.
    #[serde(default)]
    pub command: Vec<String>,
    /// How messages are taken from its output.
    #[serde(default)]
    pub protocol: Protocol,
    /// Where it starts; the node's own working folder if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<PathBuf>,
    /// Environment, over the node's own, from which the node's secrets are taken away.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Size of its terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<TerminalSize>,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What kind of agent it is: `codex`, `claude`, … Without one, the name of its program tells, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_type: Option<String>,
    /// How it is asked to end.
    #[serde(default)]
    pub stop: StopRule,
    /// `docker`: the image of its container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// `docker`: what of the host it sees, each as `/host/path:/container/path` or with `:ro` behind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<String>,
    /// `docker`: what it may use at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ContainerLimits>,
    /// `docker`: further labels of its container. Those of the mesh are set by the node.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `openclaw`: name of the connection through which it is started, or of the gateway that `command` starts; the only
    /// one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// `openclaw`: the gateway's agent that it is a session of; `main` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
}

/// What a container may use at most.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerLimits {
    /// Memory, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Processors, such as 1.5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// Processes and threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
}

/// Such a thing as 0 processors is not a number that differs from itself.
impl Eq for ContainerLimits {}

fn default_provider() -> String {
    "pty".into()
}

/// A profile makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("profile {name:?}: {problem}")]
pub struct ProfileError {
    /// Which.
    pub name: String,
    /// What is wrong and what to do.
    pub problem: String,
}

/// Signals a stop rule may name.
const STOP_SIGNALS: [&str; 5] = ["INT", "TERM", "HUP", "QUIT", "none"];
/// Longest grace for one step of a stop: an operator is waiting.
const MAX_GRACE_MS: u64 = 10 * 60 * 1000;

/// The least memory a container may be given (Docker Engine: 6 MiB).
const MIN_MEMORY_BYTES: u64 = 6 * 1024 * 1024;

fn is_mount(text: &str) -> bool {
    let text = text.strip_suffix(":ro").unwrap_or(text);
    text.split_once(':').is_some_and(|(host, inside)| {
        [host, inside].iter().all(|path| path.starts_with('/')) && !inside.contains(':') && !text.contains('\0')
    })
}

impl Profile {
    /// One of a terminal program, with everything else as it is by default.
    pub fn new(name: impl Into<String>, command: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            name: name.into(),
            provider: default_provider(),
            command: command.into_iter().map(Into::into).collect(),
            protocol: Protocol::default(),
            cwd: None,
            env: BTreeMap::new(),
            size: None,
            title: None,
            agent_type: None,
            stop: StopRule::default(),
            image: None,
            mounts: vec![],
            limits: None,
            labels: BTreeMap::new(),
            gateway: None,
            agent: None,
        }
    }

    /// Everything that is wrong with it, at once.
    pub fn problems(&self) -> Vec<ProfileError> {
        let mut problems = vec![];
        let mut wrong = |problem: String| problems.push(ProfileError { name: self.name.clone(), problem });
        if let Err(error) = ProviderName::new(&self.name) {
            wrong(format!("the name must be a token: {error}"));
        }
        if let Err(error) = ProviderName::new(&self.provider) {
            wrong(format!("provider: {error}"));
        }
        // A container has a command in its image, and a gateway's agent is no program (the gateway is).
        let has_own_command = matches!(self.provider.as_str(), "docker" | "openclaw");
        match self.command.first() {
            None if has_own_command => {}
            None => wrong("command is empty; give program and arguments, such as command = [\"bash\", \"-l\"]".into()),
            Some(program) if program.is_empty() => wrong("the first word of command, the program, is empty".into()),
            Some(_) => {}
        }
        if self.command.iter().any(|word| word.contains('\0')) {
            wrong("command has a zero byte in it".into());
        }
        for (key, value) in &self.env {
            if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
                wrong(format!("env {key:?}: a name must have no '=', and neither may have a zero byte"));
            }
            if key.starts_with("MOSAIC_") {
                wrong(format!("env {key:?}: names that begin with MOSAIC_ are set by the node"));
            }
        }
        if let Some(size) = self.size
            && !((2..=1000).contains(&size.cols) && (2..=1000).contains(&size.rows))
        {
            wrong(format!("size {} by {}: both must be 2 to 1000", size.cols, size.rows));
        }
        if !STOP_SIGNALS.contains(&self.stop.signal.as_str()) {
            wrong(format!("stop.signal {:?}: one of {}", self.stop.signal, STOP_SIGNALS.join(", ")));
        }
        if self.provider == "docker" {
            if self.image.as_ref().is_none_or(|image| image.trim().is_empty()) {
                wrong("image is missing; give the image of the container, such as image = \"debian:12\"".into());
            }
            for mount in self.mounts.iter().filter(|mount| !is_mount(mount)) {
                wrong(format!("mount {mount:?} is not of the form /host/path:/container/path or …:ro"));
            }
            if self.labels.keys().any(|label| label.starts_with("dev.mosaic.")) {
                wrong("labels that begin with dev.mosaic. are set by the node".into());
            }
            let limits = self.limits.clone().unwrap_or_default();
            if limits.cpus.is_some_and(|cpus| !(0.01..=1024.0).contains(&cpus)) {
                wrong("limits.cpus must be 0.01 to 1024".into());
            }
            if limits.memory_bytes.is_some_and(|bytes| bytes < MIN_MEMORY_BYTES) {
                wrong(format!("limits.memory_bytes is under {MIN_MEMORY_BYTES}, the least that Docker takes"));
            }
        } else if self.image.is_some() || !self.mounts.is_empty() || self.limits.is_some() || !self.labels.is_empty() {
            wrong("image, mounts, limits and labels belong to provider = \"docker\"".into());
        }
        if self.provider != "openclaw" && (self.gateway.is_some() || self.agent.is_some()) {
            wrong("gateway and agent belong to provider = \"openclaw\"".into());
        }
        if self.provider == "openclaw" && self.agent.is_some() && !self.command.is_empty() {
            wrong("with a command it starts a gateway, which is no agent: take command or agent away".into());
        }
        if (self.protocol == Protocol::Acp) != (self.provider == "acp") && self.provider != "docker" {
            wrong("provider = \"acp\" and protocol = \"acp\" go together".into());
        }
        if self.stop.grace_ms > MAX_GRACE_MS {
            wrong(format!("stop.grace_ms {} is over {MAX_GRACE_MS} (10 minutes)", self.stop.grace_ms));
        }
        problems
    }

    /// What the rest of the mesh may know of it: no arguments and no environment, which may hold secrets.
    pub fn info(&self) -> Option<ProfileInfo> {
        Some(ProfileInfo {
            name: self.name.clone(),
            provider: ProviderName::new(&self.provider).ok()?,
            title: self.title.clone(),
            agent_type: self.agent_type.clone(),
            program: self.command.first().cloned(),
            protocol: Some(self.protocol.as_str().into()),
        })
    }
}

impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Profile")
            .field("name", &self.name)
            .field("provider", &self.provider)
            .field("program", &self.command.first())
            .field("env", &self.env.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(toml_like: serde_json::Value) -> Profile {
        serde_json::from_value(toml_like).unwrap()
    }

    #[test]
    fn a_name_and_a_command_are_enough() {
        let profile = profile(serde_json::json!({"name": "shell", "command": ["bash"]}));
        assert_eq!((profile.provider.as_str(), profile.protocol), ("pty", Protocol::Terminal));
        assert_eq!(profile.problems(), []);
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let profile = profile(serde_json::json!({
            "name": "a b", "command": [], "env": {"MOSAIC_NODE": "x"}, "size": {"cols": 0, "rows": 40},
            "stop": {"signal": "KILL", "grace_ms": 99_999_999},
        }));
        let text = profile.problems().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        for part in ["token", "command is empty", "MOSAIC_", "size 0 by 40", "\"KILL\"", "grace_ms"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let profile = profile(serde_json::json!({"name": "x", "command": ["p", "--key=s3"], "env": {"K": "s3"}}));
        assert!(!format!("{profile:?}").contains("s3"));
        assert!(!serde_json::to_string(&profile.info().unwrap()).unwrap().contains("s3"));
    }
}
