//! `cargo xtask up`: builds and runs everything on this machine.
//!
//! ```text
//! up ──┬── nats-server    the bus: real, with JetStream and authentication
//!      ├── mosaic-hub     the page, the API, the embedded store
//!      └── mosaic-node    this machine's node agent, which starts the agents
//! ```
//!
//! Laws:
//! 1. Everything lies in one folder (`--data`), survives restarts, and is readable by its owner only.
//! 2. A part that dies is restarted with a growing, jittered pause, and said so; `run/{hub,node,nats}.pid` always hold
//!    the present process ids.
//! 3. Ctrl-C and SIGTERM end it in order: agents, node, hub, bus, each with a deadline, then by force. No process is
//!    left, not even of an earlier `up` that was killed itself.
//! 4. Loopback only.

mod files;
mod hub;
mod leftover;
mod options;
mod part;
mod ready;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::dashboard::Dashboard;
use crate::{project, run, say, test, tools};
use files::{Files, NODE_ID, Programs, WORKSPACE};
use hub::Hub;
use options::Options;
use part::Part;

/// How long the parts may take to be ready. The hub may have a large store to open.
const NATS_WITHIN: Duration = Duration::from_secs(30);
const HUB_WITHIN: Duration = Duration::from_secs(180);
const NODE_WITHIN: Duration = Duration::from_secs(60);
/// How long all agents may take to end before they are left to the node's own means.
const SESSIONS_WITHIN: Duration = Duration::from_secs(45);

/// `cargo xtask up`
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let options = Options::parse(arguments)?;
    run::listen()?;
    let files = Files::new(&options)?;
    let _alone = leftover::lock(&files)?;
    leftover::end_all(&files)?;
    options.check_ports()?;

    let programs = programs(&options)?;
    let agents = files::agents();
    files.write_identity(&programs)?;
    let accounts = files.write_accounts()?;

    let further = options.node_config.iter().cloned().collect();
    let mut stack = Stack { parts: vec![], files, programs, further, stop_sessions: options.stop_sessions };
    let done = stack.start(&options, &accounts, &agents).and_then(|()| stack.watch());
    stack.stop();
    match done {
        Err(error) if error.is::<run::Interrupted>() => Ok(()),
        done => done,
    }
}

/// Builds the programs, or takes them from where they were built.
fn programs(options: &Options) -> anyhow::Result<Programs> {
    let nats = match std::env::var_os("NATS_SERVER") {
        Some(path) => path.into(),
        None => tools::NATS_SERVER.get()?,
    };
    if let Some(dir) = &options.bin_dir {
        return Ok(Programs::in_dir(dir, nats));
    }
    match Dashboard::find()? {
        Some(page) => page.build()?,
        None => say::warn("no dashboard in this tree: the hub serves no page"),
    }
    say::step(&format!("building (profile {}; the first time takes a while)", options.profile));
    run::run(test::cargo().args(["build", "--workspace", "--bins", "--profile", &options.profile]))?;
    Ok(Programs::in_dir(&project::profile_dir(&options.profile), nats))
}

/// Everything that runs.
struct Stack {
    /// In the order of their start.
    parts: Vec<Part>,
    files: Files,
    programs: Programs,
    /// Merged over the node's configuration.
    further: Vec<PathBuf>,
    stop_sessions: bool,
}

impl Stack {
    fn start(&mut self, options: &Options, accounts: &files::Accounts, agents: &files::Agents) -> anyhow::Result<()> {
        say::step("starting");
        let files = &self.files;
        files.write_nats_config(&self.programs, options.nats_port)?;
        files.clear_ports();
        let nats_port = self.begin("nats", NATS_WITHIN, |stack, pid| ready::nats_port(&stack.files, pid))?;
        say::good(&format!("bus on port {nats_port}"));
        let files = &self.files;
        // From here on the ports are fixed, so that a restart keeps them.
        files.write_nats_config(&self.programs, nats_port)?;
        files.write_hub_config(options.port, nats_port)?;
        files.write_node_config(&self.programs, nats_port, agents)?;
        let _ = std::fs::remove_file(files.hub_listen());
        let port = options.port;
        let url = self.begin("hub", HUB_WITHIN, |stack, _| ready::hub_url(&stack.files, port))?;
        self.files.write_hub_config(ready::port_of(&url)?, nats_port)?;

        let mut hub = Hub::new(&url, self.files.ca().as_deref())?;
        self.wait("hub", HUB_WITHIN, |_| hub.is_ready())?;
        say::good(&format!("hub at {url}"));
        hub.sign_in(&accounts.admin)?;
        self.begin("node", NODE_WITHIN, |_, _| hub.node_online(NODE_ID))?;
        say::good(&format!("node {NODE_ID}"));
        if options.demo {
            match &agents.demo {
                Ok(()) => hub.ensure_session(NODE_ID).unwrap_or_else(|error| say::warn(&format!("no demo: {error:#}"))),
                Err(reason) => say::warn(&format!("no demo: {reason}")),
            }
        }
        let pids = self.parts.iter().map(|part| (part.name(), part.pid())).collect();
        ready::tell(
            options,
            &self.files,
            &ready::Ready { url: &url, nats_port, accounts, agents, pids, mosaic: &self.programs.mosaic },
            &hub,
        )
    }

    /// Starts a part and waits until it is ready.
    fn begin<T>(
        &mut self,
        name: &'static str,
        within: Duration,
        mut look: impl FnMut(&Self, u32) -> Option<T>,
    ) -> anyhow::Result<T> {
        run::check()?;
        let mut part = Part::new(name, self.programs.command(name, &self.files, &self.further), &self.files);
        part.start(&self.files)?;
        let pid = part.pid();
        self.parts.push(part);
        self.wait(name, within, |stack| look(stack, pid))
    }

    /// Waits for something of a part; whichever part ends meanwhile ends the waiting.
    fn wait<T>(&mut self, name: &str, within: Duration, mut look: impl FnMut(&Self) -> Option<T>) -> anyhow::Result<T> {
        let begun = std::time::Instant::now();
        loop {
            if let Some(value) = look(self) {
                return Ok(value);
            }
            run::check()?;
            for part in &mut self.parts {
                if let Some(status) = part.ended() {
                    bail!("{} ended: {status}\n{}", part.name(), part.log_tail());
                }
            }
            if begun.elapsed() > within {
                let part = self.parts.iter().find(|part| part.name() == name);
                bail!("{name} was not ready within {within:?}\n{}", part.map(Part::log_tail).unwrap_or_default());
            }
            std::thread::sleep(run::LOOK_EVERY);
        }
    }

    /// Restarts what dies, until we are told to end.
    fn watch(&mut self) -> anyhow::Result<()> {
        loop {
            run::check()?;
            for part in &mut self.parts {
                part.keep_alive(&self.files);
            }
            std::thread::sleep(run::LOOK_EVERY);
        }
    }

    /// Ends everything, in the opposite order of its start.
    fn stop(&mut self) {
        if self.parts.is_empty() {
            return;
        }
        say::step("ending (once more to end at once)");
        if self.parts.iter().any(|part| part.name() == "node") {
            if self.stop_sessions {
                self.end_sessions();
            } else {
                say::line("the agents go on; the next `cargo xtask up` with the same data takes them up again");
            }
        }
        while let Some(mut part) = self.parts.pop() {
            part.stop(&self.files);
        }
        say::good("ended");
    }

    fn end_sessions(&self) {
        let mut command = self.programs.node(&["stop-sessions"], &self.files, &self.further);
        match part::run_within(&mut command, &self.files.log("node"), SESSIONS_WITHIN) {
            Ok(()) => say::good("agents have ended"),
            Err(error) => say::warn(&format!("not all agents may have ended: {error:#}")),
        }
    }
}

/// Reads the whole of a file of ours.
fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// The workspace that `up` sets up.
fn workspace() -> &'static str {
    WORKSPACE
}
