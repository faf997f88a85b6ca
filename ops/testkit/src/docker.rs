//! A container engine of the test's own: a real `dockerd` with its own folders, and a tiny image to run.
//!
//! It shares nothing with an engine that may run on the machine. It lives in a network namespace of its own, because a
//! second `dockerd` with `--bridge=none` deletes the bridge of the first (measured with Engine 20.10), and has a
//! containerd of its own, as on any machine a process beside it: so `dockerd` can be killed without it. It needs root.
//! The image is Debian's `busybox-static`: one file, no network.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use crate::process::{KeptOnFailure, Process};
use crate::wait::wait_until_blocking;

/// It is ready in a second or two on an idle machine.
const START_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take to end: it stops its own containerd.
const END_WITHIN: Duration = Duration::from_secs(20);
/// One answer of its API: a container that ignores signals is waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// The image that [`Dockerd`] has.
pub const IMAGE: &str = "mosaic-test:1";
const HOW_TO_INSTALL: &str = "apt-get install -y --no-install-recommends docker.io iptables busybox-static";
const BUSYBOX: &str = "/bin/busybox";

/// What a container engine for tests needs: `dockerd`, `busybox` and root.
///
/// # Errors
/// What is missing, and the command that installs it.
pub fn find_dockerd() -> anyhow::Result<PathBuf> {
    ensure!(rustix::process::geteuid().is_root(), "tests with containers need root: dockerd does not run without");
    ensure!(Path::new(BUSYBOX).exists(), "{BUSYBOX} is missing; install it: {HOW_TO_INSTALL}");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = places.map(|place| place.join("dockerd")).find(|program| program.is_file());
    found.with_context(|| format!("dockerd is missing; install it: {HOW_TO_INSTALL}"))
}

/// A container engine. All its containers, and itself, go when it is dropped.
#[derive(Debug)]
pub struct Dockerd {
    program: PathBuf,
    dir: KeptOnFailure,
    live_restore: bool,
    process: Option<Process>,
    /// Dropped after the engine.
    containerd: Process,
}

impl Dockerd {
    /// Starts one. With `live_restore`, its containers run on while it is away.
    ///
    /// # Errors
    /// It cannot be started, or what it needs is missing.
    pub fn start(live_restore: bool) -> anyhow::Result<Self> {
        let program = find_dockerd()?;
        let dir = KeptOnFailure::new()?;
        let containerd = start_containerd(dir.path())?;
        let mut engine = Self { program, dir, live_restore, process: None, containerd };
        engine.run()?;
        engine.import()?;
        Ok(engine)
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    /// Ends it at once, as a crash would.
    pub fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill9();
        }
    }

    /// Asks it to end, and waits for that.
    ///
    /// # Errors
    /// It does not.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        match &mut self.process {
            Some(process) => process.terminate(END_WITHIN).map(|_| ())?,
            None => return Ok(()),
        }
        self.process = None;
        Ok(())
    }

    /// Starts it, over what it left.
    ///
    /// # Errors
    /// It cannot be started, or is not ready in time.
    pub fn run(&mut self) -> anyhow::Result<()> {
        let dir = self.dir.path();
        // After a crash they are in the way.
        let _ = std::fs::remove_file(dir.join("pid"));
        let mut command = Command::new("unshare");
        command.args(["--net", "--"]).arg(&self.program);
        command.arg("--data-root").arg(dir.join("data")).arg("--exec-root").arg(dir.join("exec"));
        command.arg("--pidfile").arg(dir.join("pid"));
        command.arg("-H").arg(format!("unix://{}", dir.join("docker.sock").display()));
        command.arg("--containerd").arg(dir.join("containerd.sock"));
        command.args(["--storage-driver=vfs", "--iptables=false", "--ip6tables=false", "--bridge=none"]);
        if self.live_restore {
            command.arg("--live-restore");
        }
        let process = self.process.insert(Process::spawn("dockerd", &mut command, &dir.join("dockerd.log"))?);
        let socket = dir.join("docker.sock");
        wait_until_blocking("dockerd answers", START_WITHIN, || {
            if process.exited().is_some() {
                return Some(false);
            }
            request(&socket, "GET", "/_ping", None).ok().filter(|(status, _)| *status == 200).map(|_| true)
        })?
        .then_some(())
        .with_context(|| format!("dockerd ended at its start: {}", process.log()))
    }

    /// One request to its API, with a JSON body or none; the answer's status and body.
    ///
    /// # Errors
    /// It does not answer.
    pub fn request(&self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<(u16, String)> {
        let body = body.map(|body| ("application/json", body.to_string().into_bytes()));
        request(&self.socket(), method, path, body)
    }

    /// One request that must succeed.
    ///
    /// # Errors
    /// It does not.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<String> {
        let (status, text) = self.request(method, path, body)?;
        ensure!(status < 400, "{method} {path}: {status} {text}");
        Ok(text)
    }

    /// Creates a container and gives its id. `body` is merged over an image and no network.
    ///
    /// # Errors
    /// It is refused.
    pub fn create(&self, script: &str, labels: Value, more: Value) -> anyhow::Result<String> {
        let mut body = json!({"Image": IMAGE, "Cmd": ["/bin/sh", "-c", script], "Labels": labels});
        if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
            body.extend(more);
        }
        let made: Value = serde_json::from_str(&self.ask("POST", "/containers/create", Some(&body))?)?;
        Ok(made.get("Id").and_then(Value::as_str).context("the id of a new container")?.to_owned())
    }

    /// Creates and starts a container.
    ///
    /// # Errors
    /// It is refused.
    pub fn launch(&self, script: &str, labels: Value, more: Value) -> anyhow::Result<String> {
        let id = self.create(script, labels, more)?;
        self.ask("POST", &format!("/containers/{id}/start"), None)?;
        Ok(id)
    }

    /// What an inspection shows; `None` if there is no such container.
    ///
    /// # Errors
    /// It does not answer.
    pub fn inspect(&self, id: &str) -> anyhow::Result<Option<Value>> {
        match self.request("GET", &format!("/containers/{id}/json"), None)? {
            (404, _) => Ok(None),
            (200, text) => Ok(Some(serde_json::from_str(&text)?)),
            (status, text) => bail!("inspect {id}: {status} {text}"),
        }
    }

    /// The image: busybox under the names of its programs.
    fn import(&self) -> anyhow::Result<()> {
        let root = self.dir.path().join("root");
        std::fs::create_dir_all(root.join("bin"))?;
        std::fs::create_dir_all(root.join("tmp"))?;
        std::fs::copy(BUSYBOX, root.join("bin/busybox")).context("copy busybox")?;
        let programs = ["sh", "cat", "sleep", "echo", "seq", "head", "tail", "tr", "kill", "yes", "test", "env", "wc"];
        for program in programs {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(program))?;
        }
        let tar = Command::new("tar").arg("-C").arg(&root).args(["-c", "."]).output().context("tar")?;
        ensure!(tar.status.success(), "tar: {}", String::from_utf8_lossy(&tar.stderr));
        let path = "/images/create?fromSrc=-&repo=mosaic-test&tag=1";
        let (status, text) = request(&self.socket(), "POST", path, Some(("application/x-tar", tar.stdout)))?;
        ensure!(status == 200, "importing the test image: {status} {text}");
        Ok(())
    }

    fn clean(&mut self) -> anyhow::Result<()> {
        if self.process.is_none() {
            // Containers outlive it.
            self.run()?;
        }
        let all: Vec<Value> = serde_json::from_str(&self.ask("GET", "/containers/json?all=1", None)?)?;
        for id in all.iter().filter_map(|container| container.get("Id").and_then(Value::as_str)) {
            self.request("DELETE", &format!("/containers/{id}?force=1&v=1"), None)?;
        }
        self.stop()
    }
}

/// A containerd without what Kubernetes wants of it.
fn start_containerd(dir: &Path) -> anyhow::Result<Process> {
    let (root, state, socket) = (dir.join("containerd"), dir.join("containerd-state"), dir.join("containerd.sock"));
    let config = format!(
        "version = 2\nroot = {root:?}\nstate = {state:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
         [grpc]\naddress = {socket:?}\n[debug]\naddress = {:?}\n",
        dir.join("containerd-debug.sock")
    );
    let path = dir.join("containerd.toml");
    std::fs::write(&path, config).context("write the configuration of containerd")?;
    let mut command = Command::new("containerd");
    command.arg("--config").arg(&path);
    let mut process = Process::spawn("containerd", &mut command, &dir.join("containerd.log"))
        .with_context(|| format!("containerd comes with docker.io: {HOW_TO_INSTALL}"))?;
    let ready = wait_until_blocking("containerd listens", START_WITHIN, || {
        let ended = process.exited().is_some();
        (ended || UnixStream::connect(&socket).is_ok()).then_some(!ended)
    })?;
    ensure!(ready, "containerd ended at its start: {}", process.log());
    Ok(process)
}

impl Drop for Dockerd {
    #[expect(clippy::print_stderr, reason = "what a test leaves behind is said")]
    fn drop(&mut self) {
        if let Err(error) = self.clean() {
            eprintln!("a container engine of a test could not be cleaned: {error:#}");
        }
        // Each start that was not ended in order left a mount.
        while rustix::mount::unmount(self.dir.path().join("data"), rustix::mount::UnmountFlags::DETACH).is_ok() {}
        // It leaves in order; else it is killed when it is dropped.
        let _ = self.containerd.terminate(END_WITHIN);
    }
}

/// One request in HTTP/1.0, whose answer ends with the connection.
fn request(socket: &Path, method: &str, path: &str, body: Option<(&str, Vec<u8>)>) -> anyhow::Result<(u16, String)> {
    let mut stream = UnixStream::connect(socket).with_context(|| format!("connect to {}", socket.display()))?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    let (kind, body) = body.unwrap_or(("application/json", vec![]));
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: docker\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)?;
    let mut answer = vec![];
    stream.read_to_end(&mut answer).with_context(|| format!("{method} {path}"))?;
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("{method} {path}: no answer"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.with_context(|| format!("{method} {path}: {head}"))?, body.to_owned()))
}
