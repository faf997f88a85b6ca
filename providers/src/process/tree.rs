//! Processes as `/proc` shows them, and the family of a session: everything that descends from it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{LOOK_AGAIN, ProcessError, ProcessId};

/// One process at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    /// Which.
    pub id: ProcessId,
    /// Its parent's number.
    pub parent: i32,
    /// The number of its process group.
    pub group: i32,
    /// Its terminal session's number.
    pub session: i32,
    /// One letter: `R` running, `S` sleeping, `T` stopped, `Z` ended …
    pub state: char,
    /// Its program's name, at most 15 bytes of it.
    pub name: String,
}

impl Process {
    /// The process with this number.
    pub fn read(pid: i32) -> Option<Self> {
        let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        Self::parse(pid, &String::from_utf8_lossy(&stat))
    }

    /// `PID (NAME) STATE PPID PGRP SESSION …`: the name may itself hold spaces and brackets, so the last one counts.
    fn parse(pid: i32, stat: &str) -> Option<Self> {
        let (head, tail) = stat.rsplit_once(')')?;
        let name = head.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
        Some(Self {
            // Field 22 of the whole line is the 20th behind the name.
            id: ProcessId { pid, start: fields.get(19)?.parse().ok()? },
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            state: fields.first()?.chars().next()?,
            name,
        })
    }

    /// True if nothing of it will run any more.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }

    /// True if it was told to stop, and has.
    pub fn is_stopped(&self) -> bool {
        matches!(self.state, 'T' | 't')
    }
}

/// All processes that can be seen, at one moment.
pub(crate) struct Table(BTreeMap<i32, Process>);

impl Table {
    /// Reads `/proc`. Processes that end while it is read are left out.
    pub fn read() -> Self {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        Self(pids.filter_map(|pid| Some((pid, Process::read(pid)?))).collect())
    }

    /// All of them, by number.
    pub fn all(&self) -> impl Iterator<Item = &Process> {
        self.0.values()
    }
}

/// A process and all below it, by parent.
pub(crate) fn descendants(pid: i32) -> Vec<i32> {
    let table = Table::read();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(table.all().filter(|process| process.parent == parent).map(|process| process.id.pid));
        next += 1;
    }
    found
}

/// Number of the system call `read`.
#[cfg(target_arch = "x86_64")]
const READ: Option<&str> = Some("0");
#[cfg(target_arch = "aarch64")]
const READ: Option<&str> = Some("63");
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const READ: Option<&str> = None;

/// Whether a process of this group waits in `read` on the terminal at `tty`. `None` if that cannot be seen: no such
/// file on this system, or not ours to look at.
pub(crate) fn reads_terminal(group: i32, tty: &Path) -> Option<bool> {
    let read = READ?;
    let mut seen = None;
    for process in Table::read().all().filter(|process| process.group == group) {
        let pid = process.id.pid;
        for thread in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            // `NUMBER 0xARG 0xARG …`, or `running`.
            let Ok(call) = std::fs::read_to_string(thread.path().join("syscall")) else { continue };
            seen = seen.or(Some(false));
            let mut fields = call.split(' ');
            let descriptor = fields.next().filter(|number| *number == read).and_then(|_| fields.next());
            let descriptor = descriptor.and_then(|text| u32::from_str_radix(text.trim_start_matches("0x"), 16).ok());
            let Some(descriptor) = descriptor else { continue };
            if std::fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).is_ok_and(|file| is_terminal(&file, tty)) {
                return Some(true);
            }
        }
    }
    seen
}

/// A program may also have opened it by its other name.
fn is_terminal(file: &Path, tty: &Path) -> bool {
    file == tty || file == Path::new("/dev/tty")
}

/// The processes of one session, where no cgroup holds them together.
#[derive(Debug)]
pub(crate) struct Family {
    /// What the environment of each carries: `MOSAIC_SESSION_ID=…`.
    mark: Vec<u8>,
    /// The process that was started first; its number is also that of the terminal session.
    leader: Option<ProcessId>,
    /// The process whose children all belong to the session, because it starts nothing else: the holder.
    ancestor: Option<i32>,
    /// Those that we stopped, so that only they are told to go on.
    stopped: BTreeSet<ProcessId>,
}

impl Family {
    /// The family of a session, by the mark in its environment.
    pub fn new(session: &str, leader: Option<ProcessId>, ancestor: Option<i32>) -> Self {
        let mark = format!("MOSAIC_SESSION_ID={session}").into_bytes();
        Self { mark, leader, ancestor, stopped: BTreeSet::new() }
    }

    /// The processes of the family that have not ended and are not in `held`, in the order of their starts.
    pub fn members(&self, held: &BTreeSet<i32>) -> Vec<Process> {
        let table = Table::read();
        let own = rustix::process::getpid().as_raw_pid();
        let outside = |p: &Process| p.id.pid == own || Some(p.id.pid) == self.ancestor || p.id.pid == 1;
        let mut found: BTreeSet<i32> =
            table.all().filter(|p| !outside(p) && self.is_founder(p)).map(|p| p.id.pid).collect();
        // Children of children, until a pass adds none.
        loop {
            let more: Vec<i32> = table
                .all()
                .filter(|p| !outside(p) && found.contains(&p.parent) && !found.contains(&p.id.pid))
                .map(|p| p.id.pid)
                .collect();
            if more.is_empty() {
                break;
            }
            found.extend(more);
        }
        let mut members: Vec<Process> = table
            .all()
            .filter(|p| found.contains(&p.id.pid) && !held.contains(&p.id.pid) && !p.has_ended())
            .cloned()
            .collect();
        members.sort_by_key(|p| (p.id.start, p.id.pid));
        members
    }

    /// True for a process that belongs to the family by itself, not by its parent.
    fn is_founder(&self, process: &Process) -> bool {
        let leads = self.leader.is_some_and(|leader| {
            // The number of a terminal session is not given away while any process is in it.
            process.id == leader || (process.session == leader.pid && process.id.start >= leader.start)
        });
        leads || Some(process.parent) == self.ancestor || self.is_marked(process)
    }

    /// True if its environment, as it was when its program was started, carries the session's mark.
    fn is_marked(&self, process: &Process) -> bool {
        std::fs::read(format!("/proc/{}/environ", process.id.pid))
            .is_ok_and(|environment| environment.split(|b| *b == 0).any(|entry| entry == self.mark))
    }

    /// Stops all, and returns when one whole pass found nothing that runs.
    pub fn freeze(&mut self, within: Duration, held: &BTreeSet<i32>) -> Result<(), ProcessError> {
        let until = Instant::now() + within;
        loop {
            let members = self.members(held);
            let running: Vec<&Process> = members.iter().filter(|p| !p.is_stopped()).collect();
            if running.is_empty() {
                return Ok(());
            }
            if Instant::now() >= until {
                let (running, all, seconds) = (running.len(), members.len(), within.as_secs());
                return Err(ProcessError::NotFrozen { running, all, seconds });
            }
            for process in running {
                process.id.signal(Signal::STOP);
                self.stopped.insert(process.id);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Lets those go on that we stopped, children first: a shell that wakes before its child would take it for one
    /// that was stopped at its own terminal.
    pub fn thaw(&mut self) {
        let mut stopped: Vec<ProcessId> = std::mem::take(&mut self.stopped).into_iter().collect();
        stopped.sort_by_key(|id| std::cmp::Reverse((id.start, id.pid)));
        for id in stopped {
            id.signal(Signal::CONT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_have_any_name() {
        let fields = "S 10 11 12 34816 12 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654 1000";
        let process = Process::parse(12, &format!("12 (a) b (c)) {fields}")).unwrap();
        assert_eq!(process.name, "a) b (c)");
        assert_eq!((process.parent, process.session, process.state), (10, 12, 'S'));
        assert_eq!(process.id, ProcessId { pid: 12, start: 987_654 });
    }

    #[test]
    fn what_is_cut_short_is_no_process() {
        for text in ["", "12", "12 (x", "12 (x) S 1"] {
            assert_eq!(Process::parse(12, text), None, "{text}");
        }
    }

    #[test]
    fn a_number_alone_is_not_enough_to_be_signalled() {
        let own = ProcessId::own().unwrap();
        let other = ProcessId { start: own.start + 1, ..own };
        // Would end this test if it reached us.
        other.signal(Signal::KILL);
    }
}
