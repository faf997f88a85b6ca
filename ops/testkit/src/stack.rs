//! The whole stack as its users run it: `cargo xtask up`, from programs that are built already.

use std::io::BufRead;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::Signal;
use serde_json::Value;

use crate::api::Person;
use crate::process::KeptOnFailure;
use crate::wait::wait_until_blocking;
use crate::{find_nats_server, proc};

/// How long the stack may take to be ready, its programs being built.
const START_WITHIN: Duration = Duration::from_secs(120);
/// How long it may take to end.
const END_WITHIN: Duration = Duration::from_secs(90);

/// A running stack. Ended when dropped, and everything in its folder with it.
pub struct Stack {
    up: Option<Child>,
    dir: KeptOnFailure,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// What `up --json` said.
    pub ready: Value,
}

impl Stack {
    /// Starts a stack without a demo, with this merged over the node's configuration (TOML), and further arguments
    /// for `up`.
    ///
    /// # Errors
    /// The programs are not built, or do not become ready.
    pub fn start(node_config: &str, arguments: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<Self> {
        let dir = KeptOnFailure::new()?;
        let config = dir.path().join("node-extra.toml");
        std::fs::write(&config, node_config)?;
        let mut all = vec!["--no-demo".to_owned(), "--node-config".into(), config.to_string_lossy().into_owned()];
        all.extend(arguments.iter().map(|&a| a.to_owned()));
        let environment = environment.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        let mut stack = Self { up: None, dir, arguments: all, environment, ready: Value::Null };
        stack.run()?;
        Ok(stack)
    }

    /// Starts it once more, in the same folder.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn run(&mut self) -> anyhow::Result<()> {
        let programs = programs()?;
        let log = std::fs::File::options().create(true).append(true).open(self.dir.path().join("up.log"))?;
        let mut command = Command::new(programs.join("xtask"));
        command
            .args(["up", "--json", "--port", "0", "--nats-port", "0"])
            .arg("--bin-dir")
            .arg(&programs)
            .arg("--data")
            .arg(self.data())
            .args(&self.arguments)
            .envs(self.environment.iter().cloned())
            .env("NATS_SERVER", find_nats_server()?)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0);
        let mut up = command.spawn().context("start xtask up")?;
        let stdout = up.stdout.take().context("stdout")?;
        // One line, ever.
        let (send, receive) = std::sync::mpsc::sync_channel(1);
        let reader = std::thread::Builder::new().name("up".into()).spawn(move || {
            let mut line = String::new();
            // What cannot be read is an empty line, and an error below.
            let _ = std::io::BufReader::new(stdout).read_line(&mut line);
            let _ = send.send(line);
        })?;
        self.up = Some(up);
        let line = receive.recv_timeout(START_WITHIN).context("up is not ready in time")?;
        drop(reader);
        self.ready =
            serde_json::from_str(&line).with_context(|| format!("up did not become ready:\n{}", self.log()))?;
        Ok(())
    }

    /// What `up` told on stderr.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("up.log")).unwrap_or_default()
    }

    /// The folder of `--data`.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A scratch folder that lives as long.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Something `up --json` said, by JSON pointer.
    ///
    /// # Errors
    /// It said no such thing.
    pub fn said(&self, pointer: &str) -> anyhow::Result<&str> {
        let found = self.ready.pointer(pointer).and_then(Value::as_str);
        found.with_context(|| format!("up --json says nothing of {pointer}: {}", self.ready))
    }

    /// Address of the hub.
    ///
    /// # Errors
    /// As [`said`](Self::said).
    pub fn url(&self) -> anyhow::Result<&str> {
        self.said("/url")
    }

    /// Somebody who is not signed in, and trusts the stack's authority where it has one.
    ///
    /// # Errors
    /// As [`said`](Self::said).
    pub fn nobody(&self) -> anyhow::Result<Person> {
        let nobody = Person::nobody(self.url()?);
        match self.said("/ca") {
            Ok(ca) => nobody.trusting(Path::new(ca)),
            Err(_) => Ok(nobody),
        }
    }

    /// A person with that role, signed in.
    ///
    /// # Errors
    /// The hub does not answer.
    pub async fn person(&self, role: &str) -> anyhow::Result<Person> {
        let email = self.said(&format!("/{role}/email"))?;
        let password = self.said(&format!("/{role}/password"))?;
        self.nobody()?.sign_in(email, password).await
    }

    /// The present process id of a part: `hub`, `node` or `nats`.
    pub fn pid(&self, part: &str) -> Option<u32> {
        std::fs::read_to_string(self.data().join(format!("run/{part}.pid"))).ok()?.trim().parse().ok()
    }

    /// Kills a part as a crash would, and waits until `up` has started another one.
    ///
    /// # Errors
    /// None is started in time.
    pub fn kill9(&self, part: &str) -> anyhow::Result<()> {
        let before = self.pid(part).with_context(|| format!("{part} is not running"))?;
        proc::kill9(before);
        wait_until_blocking(&format!("{part} is started again"), START_WITHIN, || {
            self.pid(part).filter(|now| *now != before && proc::is_alive(*now))
        })?;
        Ok(())
    }

    /// Ends it as Ctrl-C does, and waits.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let Some(mut up) = self.up.take() else { return Ok(()) };
        proc::signal(up.id(), Signal::INT);
        let ended = wait_until_blocking("up ends", END_WITHIN, || up.try_wait().ok().flatten());
        if let Err(error) = ended {
            let _ = up.kill();
            let _ = up.wait();
            bail!("{error}\n{}", self.log());
        }
        Ok(())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            complain(&error.to_string());
        }
        if std::thread::panicking() {
            complain(&self.log());
        }
    }
}

#[expect(clippy::print_stderr, reason = "a failed test tells what happened around it")]
fn complain(text: &str) {
    eprintln!("--- up ---\n{text}\n---");
}

/// The folder of the built programs: that of the running test's own profile.
fn programs() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.ancestors().find(|dir| dir.join("xtask").is_file() && dir.join("mosaic-hub").is_file());
    let folder = folder.context("the programs are not built: cargo build --workspace --bins")?;
    Ok(folder.to_owned())
}
