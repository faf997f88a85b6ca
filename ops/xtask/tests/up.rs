//! `cargo xtask up` as people and scripts use it: the real bus and command line, a hub and a node that only pretend.
//! (The whole stack with the real ones is tested in `ops/e2e`.)

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use testkit::{find_nats_server, http_get, proc, wait_until_blocking};

const WITHIN: Duration = Duration::from_secs(60);
const PARTS: [&str; 3] = ["hub", "node", "nats"];

/// A folder for a stack, and the programs that run in it.
struct Place {
    dir: tempfile::TempDir,
}

/// A running `up`. Ended, with all it started, when dropped.
struct Up {
    child: std::process::Child,
    out: PathBuf,
    err: PathBuf,
    data: PathBuf,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).unwrap();
        let fake = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake");
        // Built with the workspace, beside ourselves.
        let mosaic = Path::new(env!("CARGO_BIN_EXE_xtask")).with_file_name("mosaic");
        assert!(mosaic.is_file(), "{} is missing: cargo build --workspace --bins", mosaic.display());
        for program in [fake.join("mosaic-hub"), fake.join("mosaic-node"), mosaic] {
            std::os::unix::fs::symlink(&program, bin.join(program.file_name().unwrap())).unwrap();
        }
        Self { dir }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.arg("up").arg("--data").arg(self.data()).arg("--bin-dir").arg(self.dir.path().join("bin"));
        command.args(["--port", "0", "--nats-port", "0"]).args(arguments).stdin(Stdio::null());
        command.env("NATS_SERVER", find_nats_server().unwrap());
        command
    }

    fn start(&self, arguments: &[&str]) -> Up {
        self.start_with(arguments, &[])
    }

    fn start_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Up {
        let (out, err) = (self.dir.path().join("out"), self.dir.path().join("err"));
        let mut command = self.command(arguments);
        command
            .arg("--json")
            .envs(environment.iter().copied())
            .stdout(fs::File::create(&out).unwrap())
            .stderr(fs::File::create(&err).unwrap());
        Up { child: command.spawn().unwrap(), out, err, data: self.data() }
    }

    fn fails(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = self.command(arguments);
        let output = command.envs(environment.iter().copied()).output().unwrap();
        assert!(!output.status.success(), "{output:?}");
        output
    }
}

impl Up {
    /// The line of JSON, once it is there.
    fn ready(&mut self) -> Value {
        wait_until_blocking("up tells that it is ready", WITHIN, || {
            let text = fs::read_to_string(&self.out).unwrap();
            if let Some(status) = self.child.try_wait().unwrap() {
                return Ok(Err(format!("{status}\n{}", fs::read_to_string(&self.err).unwrap())));
            }
            if text.ends_with('\n') { Ok(Ok(serde_json::from_str(&text).unwrap())) } else { Err(text) }
        })
        .unwrap()
        .unwrap()
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.err).unwrap()
    }

    fn pid(&self, part: &str) -> Option<u32> {
        fs::read_to_string(self.data.join("run").join(format!("{part}.pid"))).ok()?.trim().parse().ok()
    }

    fn pids(&self) -> Vec<u32> {
        PARTS.iter().map(|part| self.pid(part).unwrap()).collect()
    }

    fn end(&mut self) {
        proc::signal(self.child.id(), Signal::TERM);
        let status = wait_until_blocking("up ends", WITHIN, || self.child.try_wait().unwrap()).unwrap();
        assert!(status.success(), "{status}\n{}", self.said());
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let pids: Vec<_> = PARTS.iter().filter_map(|part| self.pid(part)).collect();
        let _ = self.child.kill();
        let _ = self.child.wait();
        // What it could not end itself any more.
        for pid in pids {
            proc::kill9(pid);
        }
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap()
}

#[test]
fn it_becomes_ready_says_so_once_and_leaves_nothing() {
    let place = Place::new();
    let more = place.dir.path().join("more.toml");
    fs::write(&more, "").unwrap();
    // As within a session of an agent: its variables are not for the parts, which would take them for settings.
    let session = [("MOSAIC_NODE_ID", "another"), ("MOSAIC_SESSION_ID", "01JD8Z2V9Q0000000000000000")];
    let mut up = place.start_with(&["--node-config", more.to_str().unwrap()], &session);
    let ready = up.ready();

    assert_eq!(http_get(&format!("{}/readyz", text(&ready, "/url"))).unwrap().status, 200);
    assert!(text(&ready, "/natsUrl").starts_with("nats://127.0.0.1:"));
    assert_eq!((text(&ready, "/node"), text(&ready, "/workspace")), ("local", "default"));
    for part in PARTS {
        let pid = u32::try_from(ready["pid"][part].as_u64().unwrap()).unwrap();
        assert_eq!(Some(pid), up.pid(part), "{part}");
        assert!(proc::is_alive(pid), "{part}");
    }
    for file in ["reader", "node", "hub"] {
        let meta = fs::metadata(text(&ready, &format!("/creds/{file}"))).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o600, "{file}");
    }
    for file in ["users.json", "hub.toml", "node.toml", "nats.conf"] {
        assert_eq!(fs::metadata(up.data.join(file)).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
    }
    for user in ["admin", "operator", "observer"] {
        assert!(text(&ready, &format!("/{user}/email")).contains('@'));
        assert_eq!(text(&ready, &format!("/{user}/password")).len(), 20);
        assert!(!up.said().contains(text(&ready, &format!("/{user}/password"))), "a password on stderr");
    }
    let session = fs::read_to_string(up.data.join("hub/sessions.json")).unwrap();
    assert!(session.contains("\"profile\": \"demo\""), "{session}");
    assert!(fs::read_to_string(up.data.join("node/configs")).unwrap().ends_with("more.toml"));

    let pids = up.pids();
    up.end();
    assert!(pids.into_iter().all(|pid| !proc::is_alive(pid)), "{}", up.said());
    assert!(PARTS.iter().all(|part| up.pid(part).is_none()), "pid files are left");
    assert!(up.data.join("node/stopped").exists(), "the sessions were not stopped");
    assert_eq!(fs::read_to_string(&up.out).unwrap().lines().count(), 1);

    // The next start takes everything up again.
    let mut up = place.start(&["--no-demo", "--stop-sessions=false"]);
    fs::remove_file(up.data.join("node/stopped")).unwrap();
    let again = up.ready();
    assert_eq!(again["admin"], ready["admin"]);
    assert_eq!(again["creds"], ready["creds"]);
    assert!(!up.data.join("hub/sessions.json").exists(), "--no-demo");
    up.end();
    assert!(!up.data.join("node/stopped").exists(), "--stop-sessions=false");
}

#[test]
fn with_tls_the_hub_is_spoken_to_by_its_authority_only() {
    let place = Place::new();
    let mut up = place.start(&["--tls"]);
    // It has signed in to be ready.
    let ready = up.ready();
    let url = text(&ready, "/url");
    assert!(
        url.starts_with("https://127.0.0.1:") && text(&ready, "/natsUrl").starts_with("tls://127.0.0.1:"),
        "{ready}"
    );
    assert!(fs::read_to_string(text(&ready, "/ca")).unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    assert!(http_get(&format!("{}/readyz", url.replace("https", "http"))).is_err(), "in plain");
    up.end();
}

#[test]
fn a_part_that_dies_is_started_again_on_its_port() {
    let place = Place::new();
    let mut up = place.start(&[]);
    let ready = up.ready();
    for part in PARTS {
        let dead = up.pid(part).unwrap();
        proc::kill9(dead);
        wait_until_blocking(&format!("{part} runs again"), WITHIN, || match up.pid(part) {
            Some(pid) if pid != dead && proc::is_alive(pid) => Ok(()),
            other => Err(other),
        })
        .unwrap();
        assert!(up.said().contains(&format!("{part} ended")), "{}", up.said());
    }
    let url = text(&ready, "/url");
    wait_until_blocking("the hub answers where it did", WITHIN, || http_get(&format!("{url}/readyz"))).unwrap();
    let nats = text(&ready, "/natsUrl").strip_prefix("nats://").unwrap();
    wait_until_blocking("the bus answers where it did", WITHIN, || std::net::TcpStream::connect(nats)).unwrap();
    up.end();
}

#[test]
fn two_in_one_folder_are_one_too_many() {
    let place = Place::new();
    let mut up = place.start(&[]);
    up.ready();
    let pids = up.pids();
    let output = place.fails(&[], &[]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("another `cargo xtask up` runs in"));
    assert_eq!(pids, up.pids(), "the first one was disturbed");
    up.end();
}

#[test]
fn what_a_killed_one_left_is_ended_by_the_next() {
    let place = Place::new();
    let mut up = place.start(&[]);
    up.ready();
    let left = up.pids();
    up.child.kill().unwrap();
    up.child.wait().unwrap();
    assert!(left.iter().all(|pid| proc::is_alive(*pid)));
    let mut next = place.start(&[]);
    next.ready();
    assert!(left.iter().all(|pid| !proc::is_alive(*pid)), "{}", next.said());
    assert!(next.said().contains("of an earlier run"), "{}", next.said());
    next.end();
}

#[test]
fn a_part_that_does_not_start_is_shown_and_the_rest_is_ended() {
    let place = Place::new();
    let output = place.fails(&[], &[("FAKE_HUB", "broken")]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("hub ended") && said.contains("the fake hub is broken"), "{said}");
    let data = place.data().to_string_lossy().into_owned();
    let left = proc::all().into_iter().filter(|process| {
        fs::read(format!("/proc/{}/cmdline", process.pid))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&data))
    });
    assert_eq!(left.collect::<Vec<_>>(), []);
}

#[test]
fn a_second_signal_ends_at_once_also_what_does_not_end() {
    let place = Place::new();
    let mut up = place.start_with(&[], &[("FAKE_HUB", "stubborn")]);
    up.ready();
    let (pids, hub) = (up.pids(), up.pid("hub").unwrap());
    proc::signal(up.child.id(), Signal::TERM);
    // The node goes before the hub, which stays.
    wait_until_blocking("the node has ended", WITHIN, || up.said().contains("node has ended")).unwrap();
    assert!(proc::is_alive(hub));
    up.end();
    assert!(pids.into_iter().all(|pid| !proc::is_alive(pid)), "{}", up.said());
    assert!(up.said().contains("hub did not end and was killed"), "{}", up.said());
}

#[test]
fn a_taken_port_is_named_before_anything_is_started() {
    let place = Place::new();
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let said = String::from_utf8(place.fails(&["--port", &port], &[]).stderr).unwrap();
    assert!(said.contains(&format!("port {port} is taken")) && !said.contains("starting"), "{said}");
}
