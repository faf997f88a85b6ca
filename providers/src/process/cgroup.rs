//! A cgroup v2 directory of a session. No controller is needed: freezing and killing are in the core.
//!
//! Source: Linux `Documentation/admin-guide/cgroup-v2.rst`, "Core Interface Files". `cgroup.kill` is there since
//! Linux 5.14; without it each process is killed on its own.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::tree::Process;
use super::{LOOK_AGAIN, ProcessError};

/// One session's directory.
#[derive(Debug)]
pub(crate) struct Cgroup {
    dir: PathBuf,
}

/// The directory under which all sessions of this user have theirs.
const PARENT: &str = "mosaic";

impl Cgroup {
    /// Makes the directory for `session` below our own cgroup.
    ///
    /// # Errors
    /// [`ProcessError::NoCgroup`] if there is no cgroup v2 hierarchy, [`ProcessError::Cgroup`] if we may not.
    pub fn create(session: &str) -> Result<Self, ProcessError> {
        let dir = own_directory()?.join(PARENT).join(session);
        let failed = |source| ProcessError::Cgroup { doing: "creating", path: dir.display().to_string(), source };
        std::fs::create_dir_all(&dir).map_err(failed)?;
        for file in ["cgroup.procs", "cgroup.freeze", "cgroup.events"] {
            if !dir.join(file).exists() {
                return Err(ProcessError::NoCgroup("the kernel cannot freeze a cgroup (needs Linux 5.2)"));
            }
        }
        Ok(Self { dir })
    }

    /// The directory that was made before, perhaps by another process.
    pub fn open(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Puts this process into the cgroup at `dir`. Its children begin their lives there.
    ///
    /// # Errors
    /// The system's: usually that the subtree was not delegated to this user.
    pub fn join(dir: &Path) -> io::Result<()> {
        std::fs::write(dir.join("cgroup.procs"), "0")
    }

    /// All processes below it that have not ended.
    pub fn members(&self) -> Vec<Process> {
        let mut members = vec![];
        collect(&self.dir, &mut members);
        members.sort_by_key(|p: &Process| (p.id.start, p.id.pid));
        members
    }

    fn write(&self, file: &str, text: &str) -> Result<(), ProcessError> {
        let path = self.dir.join(file);
        std::fs::write(&path, text).map_err(|source| ProcessError::Cgroup {
            doing: "writing",
            path: path.display().to_string(),
            source,
        })
    }

    /// Stops everything below it, and returns when the kernel says so.
    pub fn freeze(&self, within: Duration) -> Result<(), ProcessError> {
        let until = Instant::now() + within;
        self.write("cgroup.freeze", "1")?;
        let mut pause = Duration::from_micros(200);
        while !self.event("frozen") {
            if Instant::now() >= until {
                let members = self.members();
                let running = members.iter().filter(|p| !p.is_stopped()).count();
                return Err(ProcessError::NotFrozen { running, all: members.len(), seconds: within.as_secs() });
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LOOK_AGAIN);
        }
        Ok(())
    }

    /// Lets everything go on.
    pub fn thaw(&self) -> Result<(), ProcessError> {
        self.write("cgroup.freeze", "0")
    }

    /// Kills everything below it.
    pub fn kill(&self) {
        if self.write("cgroup.kill", "1").is_err() {
            for process in self.members() {
                process.id.signal(Signal::KILL);
            }
        }
    }

    /// A flag of `cgroup.events`.
    fn event(&self, name: &str) -> bool {
        let events = std::fs::read_to_string(self.dir.join("cgroup.events")).unwrap_or_default();
        events.lines().any(|line| line.split_once(' ') == Some((name, "1")))
    }

    /// Takes the directory and those below it away. The kernel refuses while a process is in it, and it stays.
    pub fn remove(&self) {
        let until = Instant::now() + Duration::from_millis(500);
        // A process that has ended keeps its cgroup busy until it is collected.
        while self.dir.exists() && Instant::now() < until {
            remove_tree(&self.dir);
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

fn remove_tree(dir: &Path) {
    for child in directories(dir) {
        remove_tree(&child);
    }
    // Refused while busy: tried again by the caller, and harmless if it stays.
    let _ = std::fs::remove_dir(dir);
}

fn directories(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

fn collect(dir: &Path, members: &mut Vec<Process>) {
    let procs = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let processes = procs.lines().filter_map(|line| Process::read(line.parse().ok()?));
    members.extend(processes.filter(|p| !p.has_ended()));
    for child in directories(dir) {
        collect(&child, members);
    }
}

/// Where in the cgroup v2 hierarchy this process is.
fn own_directory() -> Result<PathBuf, ProcessError> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    locate(&mounts, &groups).ok_or(ProcessError::NoCgroup("no cgroup2 file system is mounted over our own cgroup"))
}

/// `mountinfo`: `ID PARENT MAJ:MIN ROOT MOUNTPOINT OPTIONS … - TYPE SOURCE OPTIONS`; `cgroup`: `0::/PATH`.
fn locate(mounts: &str, groups: &str) -> Option<PathBuf> {
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        if system.split(' ').next()? != "cgroup2" {
            return None;
        }
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let below = own.strip_prefix(root.trim_end_matches('/'))?;
        let point = PathBuf::from(unescape(point));
        Some(match below.trim_start_matches('/') {
            "" => point,
            below => point.join(below),
        })
    })
}

/// Blanks in a mount point are written as octal escapes.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
                          41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";

    #[test]
    fn our_place_is_found_on_hybrid_and_unified_hosts() {
        let found = |mounts: &str, groups: &str| locate(mounts, groups).map(|p| p.display().to_string());
        let groups = "4:memory:/x\n0::/user.slice/a b\n";
        assert_eq!(found(HYBRID, groups).as_deref(), Some("/sys/fs/cgroup/unified/user.slice/a b"));
        let unified = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(found(unified, "0::/").as_deref(), Some("/sys/fs/cgroup"));
    }

    #[test]
    fn a_mount_of_a_subtree_is_relative_to_it() {
        let mounts = "30 23 0:26 /docker/c1 /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        let found = locate(mounts, "0::/docker/c1/inner").unwrap();
        assert_eq!(found, Path::new("/sys/fs/cgroup/inner"));
        assert_eq!(locate(mounts, "0::/elsewhere"), None);
    }

    #[test]
    fn without_a_version_2_hierarchy_there_is_none() {
        assert_eq!(locate("32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n", "0::/"), None);
        assert_eq!(locate(HYBRID, "4:memory:/x\n"), None);
    }
}
