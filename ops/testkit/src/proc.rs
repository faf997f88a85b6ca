//! Processes as the kernel tells of them (`/proc`), and signals to them.

use std::fs;
use std::time::Duration;

use rustix::process::Pid;
pub use rustix::process::Signal;

/// One line of `/proc/PID/stat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its id.
    pub pid: u32,
    /// Name of its program, at most 15 characters.
    pub comm: String,
    /// `R`, `S`, `D`, `T` (stopped), `Z` (ended, not reaped) …
    pub state: char,
    /// Its parent.
    pub ppid: u32,
    /// Its process group.
    pub pgrp: u32,
    /// Its session.
    pub sid: u32,
    /// Processor time it has used, user and system, in ticks of 10 ms.
    pub cpu_ticks: u64,
    /// When it started, in ticks since boot: tells two processes with the same id apart.
    pub start_ticks: u64,
    /// Resident memory in pages.
    pub rss_pages: u64,
}

/// What the kernel says of a process; `None` if there is none of this id.
pub fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold any character, parentheses too.
    let (open, close) = (text.find('(')?, text.rfind(')')?);
    let comm = text.get(open + 1..close)?.to_owned();
    let rest: Vec<&str> = text.get(close + 1..)?.split_whitespace().collect();
    let number = |field: usize| rest.get(field.checked_sub(3)?)?.parse::<u64>().ok();
    let id = |field: usize| number(field).and_then(|n| u32::try_from(n).ok());
    Some(Stat {
        pid,
        comm,
        state: rest.first()?.chars().next()?,
        ppid: id(4)?,
        pgrp: id(5)?,
        sid: id(6)?,
        cpu_ticks: number(14)?.saturating_add(number(15)?),
        start_ticks: number(22)?,
        rss_pages: number(24)?,
    })
}

/// Every process there is.
pub fn all() -> Vec<Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| stat(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// A process and all that descend from it, itself first. Those whose parent has ended are not found this way.
pub fn tree(pid: u32) -> Vec<Stat> {
    let all = all();
    let mut found: Vec<Stat> = all.iter().filter(|p| p.pid == pid).cloned().collect();
    let mut next = 0;
    while let Some(parent) = found.get(next).map(|p| p.pid) {
        found.extend(all.iter().filter(|p| p.ppid == parent && p.pid != parent).cloned());
        next += 1;
    }
    found
}

/// Every living process whose environment has this entry, such as `MOSAIC_SESSION_ID=01J…`: also those that have left
/// their tree.
pub fn with_env(entry: &str) -> Vec<Stat> {
    let has = |pid: u32| {
        fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|env| env.split(|b| *b == 0).any(|field| field == entry.as_bytes()))
    };
    all().into_iter().filter(|p| is_running(p.state) && has(p.pid)).collect()
}

/// True while the process is there and not merely waiting to be reaped.
pub fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|p| is_running(p.state))
}

fn is_running(state: char) -> bool {
    !matches!(state, 'Z' | 'X')
}

/// Processor time that the processes have used so far.
pub fn cpu(processes: &[Stat]) -> Duration {
    // USER_HZ is 100 on every Linux of ours.
    Duration::from_millis(processes.iter().map(|p| p.cpu_ticks.saturating_mul(10)).sum())
}

/// Resident memory of a process in KiB; 0 if it is gone.
pub fn rss_kib(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Sends a signal. False if there is no such process any more.
pub fn signal(pid: u32, signal: Signal) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::kill_process(pid, signal).is_ok())
}

/// Ends a process at once, without a chance to clean up. False if it was gone already.
pub fn kill9(pid: u32) -> bool {
    signal(pid, Signal::KILL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_are_among_the_processes() {
        let me = std::process::id();
        assert!(is_alive(me));
        assert!(rss_kib(me) > 0);
        assert_eq!(tree(me).first().map(|p| p.pid), Some(me));
    }

    #[test]
    fn no_process_is_no_process() {
        assert_eq!(stat(u32::MAX), None);
        assert!(!is_alive(u32::MAX) && !kill9(u32::MAX));
    }
}
