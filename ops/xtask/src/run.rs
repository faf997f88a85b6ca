//! Running other programs, and ending them when we are told to end.
//!
//! Laws:
//! 1. A child has a process group of its own: Ctrl-C on the terminal reaches us alone, and we decide what ends when.
//! 2. What a child writes goes to stderr, so that stdout stays ours.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// How often we look whether a child has ended or a signal has come.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long a build may take to end once it is told to.
const END_WITHIN: Duration = Duration::from_secs(5);

/// We were told to end (Ctrl-C, SIGTERM, or the terminal was closed).
#[derive(Debug)]
pub(crate) struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// How often we were told to end.
static SIGNALS: AtomicUsize = AtomicUsize::new(0);

/// Begins to listen for signals. Until then they end us as usual.
pub(crate) fn listen() -> anyhow::Result<()> {
    static STARTED: OnceLock<()> = OnceLock::new();
    if STARTED.set(()).is_err() {
        return Ok(());
    }
    // Started by `nohup`, we are to survive the terminal.
    let wanted: &[_] = if hangup_is_ignored() { &[SIGINT, SIGTERM] } else { &[SIGINT, SIGTERM, SIGHUP] };
    let mut signals = Signals::new(wanted).context("listen for signals")?;
    // Lives as long as the program; it only counts.
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for _ in signals.forever() {
                SIGNALS.fetch_add(1, Ordering::SeqCst);
            }
        })
        .context("start the signal thread")?;
    Ok(())
}

/// True if whoever started us has asked that a closed terminal be ignored.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    ignored & 1 != 0 // the lowest bit is signal 1, SIGHUP
}

/// How often we were told to end so far.
pub(crate) fn interrupts() -> usize {
    SIGNALS.load(Ordering::SeqCst)
}

/// Fails if we were told to end.
pub(crate) fn check() -> anyhow::Result<()> {
    if interrupts() > 0 { Err(Interrupted.into()) } else { Ok(()) }
}

/// Runs a program to its end; it must succeed.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let shown = shown(command);
    let status = status(command)?;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}

/// Runs a program to its end. If we are told to end, so is it, with all it started.
pub(crate) fn status(command: &mut Command) -> anyhow::Result<ExitStatus> {
    listen()?;
    check()?;
    let shown = shown(command);
    command.stdin(Stdio::null()).stdout(Stdio::from(std::io::stderr())).process_group(0);
    let mut child = command.spawn().with_context(|| format!("start {shown}"))?;
    loop {
        if let Some(status) = child.try_wait().with_context(|| format!("wait for {shown}"))? {
            check()?;
            return Ok(status);
        }
        if interrupts() > 0 {
            end(&mut child, END_WITHIN);
            return Err(Interrupted.into());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// What a program writes to stdout, trimmed; it must succeed. For programs that answer at once.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let shown = shown(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("start {shown}"))?;
    if !output.status.success() {
        bail!("{shown}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

/// Asks a child and its group to end, and ends them if they do not within `within` or a second signal comes. Reaps the
/// child. False if it had to be killed.
pub(crate) fn end(child: &mut Child, within: Duration) -> bool {
    let group = child.id();
    signal_group(group, Signal::TERM);
    let (begun, signals) = (Instant::now(), interrupts());
    let polite = loop {
        if matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
            break true;
        }
        if begun.elapsed() > within || interrupts() > signals {
            break false;
        }
        std::thread::sleep(LOOK_EVERY);
    };
    // Whatever of the group is left, also where its leader went in order.
    signal_group(group, Signal::KILL);
    // Killed or gone: this cannot last.
    let _ = child.wait();
    polite
}

/// Sends a signal to a process group. Gone already is as good.
pub(crate) fn signal_group(group: u32, signal: Signal) {
    if let Some(group) = i32::try_from(group).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, signal);
    }
}
