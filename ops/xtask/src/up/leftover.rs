//! One `up` per folder, and an end to what an earlier one left running because it was killed itself.
//!
//! `run/parts.json` says which processes are ours: id, start time and boot of the machine, so that a process which
//! merely has the same id is never touched.

use std::fs::File;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::Signal;
use serde_json::{Map, Value, json};

use super::files::Files;
use crate::{run, say};

/// How long what was left may take to end in order.
const END_WITHIN: Duration = Duration::from_secs(15);
/// How long the kernel may take to remove a killed process.
const GONE_WITHIN: Duration = Duration::from_secs(10);
/// The order in which leftovers are ended.
const ORDER: [&str; 3] = ["node", "hub", "nats"];

/// Held as long as this `up` runs; the kernel lets it go however we end.
pub(super) struct Alone(#[expect(dead_code, reason = "holding it is its use")] File);

/// Makes sure that no other `up` works in this folder.
pub(super) fn lock(files: &Files) -> anyhow::Result<Alone> {
    let path = files.run_dir().join("up.lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(Alone(file)),
        Err(std::fs::TryLockError::WouldBlock) => {
            bail!("another `cargo xtask up` runs in {}; end it, or choose --data DIR", files.data().display())
        }
        Err(std::fs::TryLockError::Error(error)) => Err(error).context(format!("lock {}", path.display())),
    }
}

/// Remembers a process of ours.
pub(super) fn remember(files: &Files, part: &str, pid: u32) -> anyhow::Result<()> {
    let mut parts = load(files);
    parts.insert(part.into(), json!({"pid": pid, "start": start_ticks(pid), "boot": boot_id()}));
    save(files, parts)
}

/// Forgets a process that has ended.
pub(super) fn forget(files: &Files, part: &str) {
    let mut parts = load(files);
    parts.remove(part);
    // Left in the file it is found to be gone by the next start.
    let _ = save(files, parts);
}

/// Ends whatever an earlier `up` left.
pub(super) fn end_all(files: &Files) -> anyhow::Result<()> {
    let parts = load(files);
    for name in ORDER {
        let Some(pid) = parts.get(name).and_then(living) else { continue };
        say::warn(&format!("{name} of an earlier run is still there (pid {pid}): ending it"));
        run::signal_group(pid, Signal::TERM);
        let same = || parts.get(name).and_then(living).is_some();
        if !gone_within(END_WITHIN, same) {
            run::signal_group(pid, Signal::KILL);
            if !gone_within(GONE_WITHIN, same) {
                bail!("{name} of an earlier run (pid {pid}) does not end");
            }
        }
    }
    save(files, Map::new())
}

fn gone_within(within: Duration, same: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while same() {
        if begun.elapsed() > within {
            return false;
        }
        std::thread::sleep(run::LOOK_EVERY);
    }
    true
}

/// The id of a remembered process, if it is that very process.
fn living(part: &Value) -> Option<u32> {
    let pid = part.get("pid")?.as_u64().and_then(|pid| u32::try_from(pid).ok())?;
    let same = part.get("boot")?.as_str()? == boot_id() && part.get("start")?.as_u64()? == start_ticks(pid)?;
    same.then_some(pid)
}

fn load(files: &Files) -> Map<String, Value> {
    let text = std::fs::read_to_string(files.run_dir().join("parts.json")).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn save(files: &Files, parts: Map<String, Value>) -> anyhow::Result<()> {
    files.write(&files.run_dir().join("parts.json"), &format!("{}\n", Value::from(parts)))
}

/// When a process started, in ticks since the machine did; `None` if it is gone or only waits to be reaped.
fn start_ticks(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which stands in parentheses and may hold anything.
    let fields: Vec<_> = text.get(text.rfind(')')? + 1..)?.split_whitespace().collect();
    let ended = matches!(*fields.first()?, "Z" | "X");
    if ended { None } else { fields.get(19)?.parse().ok() }
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_process_is_ours() {
        let me = std::process::id();
        let part = json!({"pid": me, "start": start_ticks(me), "boot": boot_id()});
        assert_eq!(living(&part), Some(me));
        for (key, value) in [("start", json!(1)), ("boot", json!("another")), ("pid", json!(u32::MAX))] {
            let mut other = part.clone();
            other[key] = value;
            assert_eq!(living(&other), None, "{key}");
        }
    }
}
