//! A directory of sessions, a provider for it, and what its sessions tell. Whatever is left is killed at the end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bus_schema::SessionId;
use providers::pty::{ContainmentChoice, LogLimits, PtyConfig, PtyProvider};
use providers::{AgentProvider, Position, Profile, Protocol, SpawnRequest};

#[path = "../common/watched.rs"]
#[expect(dead_code, reason = "shared with the tests of containers, which need more of it")]
pub mod watched;

pub use watched::{PATIENCE, ada};

/// A session in a terminal, watched.
pub type Session = watched::Session<PtyProvider>;

/// The binary with the helper modes, built with the tests.
pub fn host_program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.parent().and_then(Path::parent).unwrap().join("examples/pty_host");
    assert!(path.exists(), "{} is missing; build it: cargo build -p providers --examples", path.display());
    path
}

/// A session id that no other test has.
pub fn new_id() -> SessionId {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let id = ulid::Ulid::from_parts(u64::from(std::process::id()) << 20 | number, 7);
    SessionId::new(id.to_string()).unwrap()
}

/// A profile that runs this.
pub fn profile(protocol: Protocol, command: &[&str]) -> Profile {
    Profile { protocol, ..Profile::new("test", command.iter().copied()) }
}

/// A profile that runs a line of bash.
pub fn script(protocol: Protocol, script: &str) -> Profile {
    profile(protocol, &["bash", "--norc", "-c", script])
}

/// Waits until `probe` gives something, and shows what was last seen if it does not.
pub async fn wait_until<T>(what: &str, probe: impl AsyncFnMut() -> Result<T, String>) -> T {
    testkit::wait_until(what, PATIENCE, probe).await.unwrap()
}

/// A place for sessions.
pub struct Stage {
    pub dir: tempfile::TempDir,
    pub provider: Arc<PtyProvider>,
    pub config: PtyConfig,
}

impl Stage {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// With other settings than the usual ones.
    pub async fn with(change: impl FnOnce(&mut PtyConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = PtyConfig::new(dir.path().join("pty"), [host_program().into()]);
        change(&mut config);
        let provider = PtyProvider::start(config.clone()).await.unwrap();
        Self { dir, provider, config }
    }

    pub async fn tree() -> Self {
        Self::with(|config| config.containment = ContainmentChoice::ProcessTree).await
    }

    pub async fn limited(limits: LogLimits) -> Self {
        Self::with(|config| config.limits = limits).await
    }

    /// A new node agent in the place of the old one, which gets no chance to say good-bye.
    pub async fn replace(&mut self) {
        let fresh = PtyProvider::start(self.config.clone()).await.unwrap();
        self.provider = fresh;
    }

    pub async fn spawn(&self, profile: Profile) -> Session {
        let id = new_id();
        self.provider.spawn(request(&id, profile)).await.unwrap();
        self.session(&id, Position::default()).await
    }

    /// Watches a session from a place.
    pub async fn session(&self, id: &SessionId, from: Position) -> Session {
        Session::watch(&self.provider, id, from).await
    }

    pub fn session_dir(&self, id: &SessionId) -> PathBuf {
        self.config.dir.join(id.as_str())
    }

    /// A number in a session's `state.json`.
    pub fn pid(&self, id: &SessionId, who: &str) -> i32 {
        let text = std::fs::read_to_string(self.session_dir(id).join("state.json")).unwrap();
        let state: serde_json::Value = serde_json::from_str(&text).unwrap();
        i32::try_from(state[who]["pid"].as_i64().unwrap()).unwrap()
    }
}

pub fn request(id: &SessionId, profile: Profile) -> SpawnRequest {
    SpawnRequest {
        session_id: id.clone(),
        profile,
        parent_session_id: None,
        title: None,
        env: Default::default(),
        default_cwd: None,
        conversation: None,
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(&self.config.dir).into_iter().flatten().flatten() {
            let Ok(text) = std::fs::read_to_string(entry.path().join("state.json")) else { continue };
            let Ok(state) = serde_json::from_str::<serde_json::Value>(&text) else { continue };
            let id = entry.file_name().to_string_lossy().into_owned();
            let holder = state["holder"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
            let mut left = marked(&id);
            if command_line(holder).contains(&id) {
                left.extend(descendants(holder));
                left.push(holder);
            }
            for pid in left {
                signal(pid, rustix::process::Signal::KILL);
            }
            let cgroup = state["cgroup"].as_str().map(PathBuf::from);
            // Busy as long as those that were killed are not collected; the next run of the tests has other names.
            cgroup.map(std::fs::remove_dir);
        }
    }
}

/// Processes whose environment carries the session's mark.
pub fn marked(id: &str) -> Vec<i32> {
    let mark = format!("MOSAIC_SESSION_ID={id}").into_bytes();
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ.split(|byte| *byte == 0).any(|entry| entry == mark)
        })
        .collect()
}

/// All processes below this one.
fn descendants(pid: i32) -> Vec<i32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children: Vec<i32> = children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    let below = children.iter().flat_map(|child| descendants(*child)).collect::<Vec<_>>();
    children.into_iter().chain(below).collect()
}

pub fn command_line(pid: i32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

pub fn signal(pid: i32, signal: rustix::process::Signal) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        // It may be gone already.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// State letter and CPU ticks of a process; `None` once it is gone or has ended.
pub fn process(pid: i32) -> Option<(char, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let state = fields[0].chars().next()?;
    let ticks = fields[11].parse::<u64>().ok()? + fields[12].parse::<u64>().ok()?;
    (!matches!(state, 'Z' | 'X')).then_some((state, ticks))
}
