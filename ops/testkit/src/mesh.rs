//! The hub, its bus and several nodes as programs that the test itself starts: any of them is killed and started again
//! at a moment of the test's choice, and each node may be given a network of its own.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::api::Person;
use crate::nats::NatsServer;
use crate::process::{KeptOnFailure, Process};
use crate::wait::wait_until_blocking;
use crate::{free_port, http_get};

/// How long a part may take until it is ready.
const START_WITHIN: Duration = Duration::from_secs(60);
/// Of the variables for our own programs, those that whoever runs the tests may set.
const KEPT: [&str; 2] = ["MOSAIC_LOG", "MOSAIC_STORE_"];

/// A hub, its bus and nodes. When it is dropped everything ends, the sessions of the nodes too.
#[derive(Debug)]
pub struct Mesh {
    hub: Option<Process>,
    nodes: BTreeMap<String, Node>,
    nats: NatsServer,
    dir: KeptOnFailure,
    programs: PathBuf,
    port: u16,
}

#[derive(Debug)]
struct Node {
    process: Option<Process>,
    /// What stands before the program: how it gets into a network of its own.
    before: Vec<String>,
}

impl Mesh {
    /// A hub on loopback and its bus at `host`, with further lines of the hub's configuration (TOML, tables), and no
    /// node yet.
    ///
    /// # Errors
    /// The programs are not built, or do not become ready.
    pub fn start(host: &str, hub_lines: &str, tables: &str) -> anyhow::Result<Self> {
        let own = std::env::current_exe()?;
        let built = own.ancestors().find(|dir| dir.join("mosaic-node").is_file() && dir.join("mosaic-hub").is_file());
        let programs = built.context("the programs are not built: cargo build --workspace --bins")?.to_owned();
        let (nats, dir, port) = (NatsServer::start_at(host)?, KeptOnFailure::new()?, free_port()?);
        let mut mesh = Self { hub: None, nodes: BTreeMap::new(), nats, dir, programs, port };
        mesh.write_hub_config(hub_lines, tables)?;
        mesh.start_hub()?;
        let url = format!("{}/readyz", mesh.url());
        wait_until_blocking("the hub is ready", START_WITHIN, || match http_get(&url) {
            Ok(reply) if reply.status == 200 => Ok(()),
            Ok(reply) => Err(reply.body),
            Err(error) => Err(error.to_string()),
        })?;
        Ok(mesh)
    }

    fn write_hub_config(&mut self, hub_lines: &str, tables: &str) -> anyhow::Result<()> {
        let people = ["admin", "operator", "observer"].map(|role| {
            json!({"email": format!("{role}@example.org"), "name": role.to_uppercase(), "password": role.repeat(2),
                   "role": role})
        });
        std::fs::write(self.dir.path().join("users.json"), serde_json::to_vec(&people)?)?;
        let url = self.nats.url();
        let identity = self.nats.identity();
        let config = format!(
            "[hub]\nlisten = \"127.0.0.1:{}\"\ndata_dir = \"hub\"\nbootstrap_users = \"users.json\"\n{hub_lines}\n\
             [nats]\nurl = \"{url}\"\ncreds = {:?}\njournal_creds = {:?}\ncommand_key = {:?}\n{tables}\n",
            self.port,
            identity.hub_creds(),
            identity.identity().journal_creds(),
            identity.identity().command_key_path(),
        );
        Ok(std::fs::write(self.dir.path().join("hub.toml"), config)?)
    }

    /// A scratch folder that lives as long.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Address of the hub, the same after every start.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Somebody with that role, signed in.
    ///
    /// # Errors
    /// The hub does not answer.
    pub async fn person(&self, role: &str) -> anyhow::Result<Person> {
        Person::nobody(self.url()).sign_in(&format!("{role}@example.org"), &role.repeat(2)).await
    }

    /// Starts a node with these profiles (TOML). `before` stands before its program, such as `nsenter --net=FILE`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn add_node(&mut self, name: &str, profiles: &str, before: &[String]) -> anyhow::Result<()> {
        let (url, creds) = (self.nats.url(), self.nats.identity().node_creds(name)?);
        let key = self.nats.identity().identity().command_public_key().to_owned();
        let mut config = format!("[node]\nid = {name:?}\ndata_dir = {:?}\n", self.dir.path().join(name));
        write!(config, "detect = false\n[nats]\nurl = {url:?}\ncreds = {creds:?}\n")?;
        write!(config, "[trust]\ncommand_keys = [{key:?}]\n{profiles}")?;
        std::fs::write(self.node_config(name), config)?;
        self.nodes.insert(name.to_owned(), Node { process: None, before: before.to_vec() });
        self.start_part(name)
    }

    fn node_config(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.toml"))
    }

    fn command(&self, before: &[String], program: &str, arguments: &[&str], config: &Path) -> Command {
        let program = self.programs.join(program);
        let mut command = match before {
            [] => Command::new(program),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        };
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("MOSAIC_") && !KEPT.iter().any(|kept| name.starts_with(kept)) {
                command.env_remove(name);
            }
        }
        command.args(arguments).arg("--config").arg(config).current_dir(self.dir.path());
        command
    }

    /// Kills `hub`, `nats` or a node as a crash would; what it had started goes on.
    pub fn kill9(&mut self, part: &str) {
        match part {
            "hub" => self.hub = None,
            "nats" => self.nats.kill9(),
            node => {
                if let Some(node) = self.nodes.get_mut(node) {
                    node.process = None;
                }
            }
        }
    }

    /// Starts `hub`, `nats` or a node again, and waits until it serves.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_part(&mut self, part: &str) -> anyhow::Result<()> {
        match part {
            "hub" => self.start_hub(),
            "nats" => self.nats.restart(),
            name => {
                let before = self.nodes.get(name).map(|node| node.before.clone()).context("no such node")?;
                let mut command = self.command(&before, "mosaic-node", &["run"], &self.node_config(name));
                let process = Process::spawn(name, &mut command, &self.dir.path().join(format!("{name}.log")))?;
                if let Some(node) = self.nodes.get_mut(name) {
                    node.process = Some(process);
                }
                Ok(())
            }
        }
    }

    fn start_hub(&mut self) -> anyhow::Result<()> {
        let mut command = self.command(&[], "mosaic-hub", &[], &self.dir.path().join("hub.toml"));
        let mut hub = Process::spawn("hub", &mut command, &self.dir.path().join("hub.log"))?;
        let url = format!("{}/healthz", self.url());
        let started = wait_until_blocking("the hub serves", START_WITHIN, || match hub.exited() {
            Some(status) => Ok(Err(anyhow::anyhow!("the hub ended: {status}"))),
            None => http_get(&url).map(|_| Ok(())).map_err(|error| error.to_string()),
        });
        self.hub = Some(hub);
        started?
    }

    /// Waits until the hub hears from a node.
    ///
    /// # Errors
    /// It does not in time.
    pub async fn knows(&self, person: &Person, node: &str) -> anyhow::Result<()> {
        let is_it = |n: &Value| n["node"] == node && n["online"] == true;
        crate::wait_until(&format!("{node} is there"), START_WITHIN, async || {
            let nodes = person.get("/api/nodes").await.map_err(|e| e.to_string())?;
            let is_there = nodes["nodes"].as_array().is_some_and(|all| all.iter().any(is_it));
            if is_there { Ok(()) } else { Err(nodes.to_string()) }
        })
        .await?;
        Ok(())
    }

    /// Ends every session of a node, whose agent must not run.
    ///
    /// # Errors
    /// Something is left.
    pub fn stop_sessions(&mut self, name: &str) -> anyhow::Result<()> {
        self.kill9(name);
        let out = self.command(&[], "mosaic-node", &["stop-sessions"], &self.node_config(name)).output()?;
        ensure!(out.status.success(), "{name}: {}", String::from_utf8_lossy(&out.stderr));
        Ok(())
    }
}

impl Drop for Mesh {
    #[expect(clippy::print_stderr, reason = "what is left running is told")]
    fn drop(&mut self) {
        for name in self.nodes.keys().cloned().collect::<Vec<_>>() {
            if let Err(error) = self.stop_sessions(&name) {
                eprintln!("{error:#}");
            }
        }
    }
}
