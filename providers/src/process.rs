//! The processes of a session: found, frozen, thawed, signalled and killed as a whole.
//!
//! A process group is not an agent: every agent CLI runs its tools in sessions of their own, so a signal to its group
//! misses them. Two strengths of [`Containment`]:
//! - `cgroup`: a cgroup v2 directory per session. Nothing escapes it, and freezing and killing are one write each.
//! - `processTree`, where no cgroup can be had: the session's processes are found in `/proc` by parent, by session id
//!   and by the mark `MOSAIC_SESSION_ID` in their environment, and stopped or killed again and again until a pass
//!   finds nothing new.
//!
//! Laws:
//! 1. *Proof.* [`freeze`](Containment::freeze) returns `Ok` only when every process is seen to stand still,
//!    [`kill_all`](Containment::kill_all) names whatever is still there.
//! 2. *The right process.* A process is its id *and* its start time; signals go through a pidfd that was opened before
//!    the start time was compared, so an id that was given to another process is never hit.
//! 3. Everything here blocks for a bounded time, given by the caller.

mod cgroup;
mod sys;
mod tree;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bus_schema::EndedProcess;
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};

pub(crate) use cgroup::Cgroup;
pub(crate) use sys::{close_inherited, duplicate};
pub(crate) use tree::{Family, Process, descendants, reads_terminal};

/// How long between two looks at processes that were told to stop or die: short against a person's patience, long
/// against the cost of reading `/proc`.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A process that cannot be confused with a later one of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number.
    pub pid: i32,
    /// When it was started, in clock ticks since boot (`/proc/PID/stat`, field 22).
    pub start: u64,
}

impl ProcessId {
    /// The process that has this number now; `None` if there is none.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        Process::read(pid).map(|process| process.id)
    }

    /// This process.
    pub(crate) fn own() -> Option<Self> {
        Self::of(rustix::process::getpid().as_raw_pid())
    }

    /// Sends a signal, if this very process is still there.
    pub(crate) fn signal(self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid) else { return };
        match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            // The pidfd holds whatever had the number just now; if that is ours, the signal can only reach ours.
            Ok(pidfd) if Self::of(self.pid) == Some(self) => {
                // It may have ended in between, which is as good.
                let _ = rustix::process::pidfd_send_signal(&pidfd, signal);
            }
            Ok(_) | Err(rustix::io::Errno::SRCH) => {}
            // No pidfds here (a seccomp filter, an old kernel): the gap between look and signal stays.
            Err(_) if Self::of(self.pid) == Some(self) => {
                let _ = rustix::process::kill_process(pid, signal);
            }
            Err(_) => {}
        }
    }
}

/// The processes of a session could not be brought to where they should be.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// A file of the cgroup could not be read or written.
    #[error("{doing} {path}")]
    Cgroup {
        /// What we were doing.
        doing: &'static str,
        /// With which file.
        path: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// No cgroup v2 hierarchy that we may use.
    #[error("no cgroup v2 here: {0}")]
    NoCgroup(&'static str),
    /// Not every process stood still in time.
    #[error("{running} of {all} processes were not seen to stop within {seconds} s")]
    NotFrozen {
        /// How many did not.
        running: usize,
        /// How many there are.
        all: usize,
        /// The bound.
        seconds: u64,
    },
}

/// What holds the processes of a session together.
///
/// Beside a cgroup the family is looked at too: a login shell or a privileged program may move itself elsewhere.
#[derive(Debug)]
pub(crate) struct Containment {
    cgroup: Option<Cgroup>,
    family: Family,
}

impl Containment {
    /// By a cgroup if there is one, and by family.
    pub fn new(cgroup: Option<Cgroup>, family: Family) -> Self {
        Self { cgroup, family }
    }

    /// Goes on without the cgroup, which holds nothing.
    pub fn without_cgroup(&mut self) {
        self.remove();
        self.cgroup = None;
    }

    /// `cgroup` or `processTree`.
    pub fn name(&self) -> &'static str {
        if self.cgroup.is_some() { "cgroup" } else { "processTree" }
    }

    /// All processes of the session that have not ended, in the order of their starts.
    pub fn members(&self) -> Vec<Process> {
        let mut members = self.cgroup.as_ref().map(Cgroup::members).unwrap_or_default();
        members.extend(self.family.members(&numbers(&members)));
        members.sort_by_key(|p| (p.id.start, p.id.pid));
        members
    }

    /// Stops everything and returns when it is seen to stand still.
    pub fn freeze(&mut self, within: Duration) -> Result<(), ProcessError> {
        let held = match &self.cgroup {
            Some(cgroup) => {
                cgroup.freeze(within)?;
                numbers(&cgroup.members())
            }
            None => BTreeSet::new(),
        };
        self.family.freeze(within, &held)
    }

    /// Lets everything go on.
    pub fn thaw(&mut self) -> Result<(), ProcessError> {
        self.family.thaw();
        self.cgroup.as_ref().map_or(Ok(()), Cgroup::thaw)
    }

    /// Sends a signal to every process.
    pub fn signal_all(&self, signal: Signal) {
        for process in self.members() {
            process.id.signal(signal);
        }
    }

    /// Kills everything, frozen or not, and returns what is still there when the time is up.
    pub fn kill_all(&mut self, within: Duration) -> Vec<Process> {
        let until = Instant::now() + within;
        // Standing still first, so that nothing is started while we look. What does not stop is killed all the same.
        let _ = self.freeze(within / 4);
        loop {
            if let Some(cgroup) = &self.cgroup {
                cgroup.kill();
            }
            let left = self.members();
            if left.is_empty() || Instant::now() >= until {
                return left;
            }
            for process in &left {
                process.id.signal(Signal::KILL);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Takes away what was set up for the session. Only when nothing is left in it.
    pub fn remove(&self) {
        if let Some(cgroup) = &self.cgroup {
            cgroup.remove();
        }
    }
}

fn numbers(processes: &[Process]) -> BTreeSet<i32> {
    processes.iter().map(|p| p.id.pid).collect()
}

/// The processes as a report names them.
pub(crate) fn ended(processes: &[Process]) -> Vec<EndedProcess> {
    processes.iter().map(|p| EndedProcess { pid: p.id.pid, name: p.name.clone() }).collect()
}
