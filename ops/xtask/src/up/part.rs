//! One part of the stack: a child process with its log and its pid file, restarted when it dies.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::files::Files;
use super::leftover;
use crate::{run, say};

/// Pause before the first restart; doubled with each further one.
const BACKOFF: Duration = Duration::from_millis(500);
/// Longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// A part that lived so long was well: the next pause is the first one again.
const WELL_AFTER: Duration = Duration::from_secs(60);
/// How long a part may take to end in order. The hub closes its store, the node sends what it has.
const END_WITHIN: Duration = Duration::from_secs(20);
/// How much of a log is shown when a part did not start.
const TAIL_BYTES: u64 = 4 * 1024;

/// One part.
pub(super) struct Part {
    name: &'static str,
    command: Command,
    log: PathBuf,
    child: Option<Child>,
    started: Instant,
    deaths: u32,
    again_at: Option<Instant>,
}

impl Part {
    pub fn new(name: &'static str, command: Command, files: &Files) -> Self {
        let log = files.log(name);
        Self { name, command, log, child: None, started: Instant::now(), deaths: 0, again_at: None }
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its process id; 0 while it does not run.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    pub fn start(&mut self, files: &Files) -> anyhow::Result<()> {
        files.turn_log(self.name);
        let log = append(&self.log)?;
        self.command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let child = self.command.spawn();
        let child = child.with_context(|| format!("start {}", self.command.get_program().to_string_lossy()))?;
        (self.started, self.again_at) = (Instant::now(), None);
        let pid = child.id();
        // Whatever happens next, it is ended with us.
        self.child = Some(child);
        leftover::remember(files, self.name, pid)?;
        files.write(&files.pid_file(self.name), &format!("{pid}\n"))
    }

    /// How it ended; `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok().flatten();
        if status.is_some() {
            self.child = None;
        }
        status
    }

    /// Starts it again if it has died, after a pause.
    pub fn keep_alive(&mut self, files: &Files) {
        if let Some(status) = self.ended() {
            self.deaths = if self.started.elapsed() > WELL_AFTER { 0 } else { self.deaths.saturating_add(1) };
            self.try_again(&format!("ended ({status})"));
        }
        if self.again_at.is_some_and(|at| Instant::now() >= at) {
            match self.start(files) {
                Ok(()) => say::good(&format!("{} runs again (pid {})", self.name, self.pid())),
                Err(error) => {
                    self.deaths = self.deaths.saturating_add(1);
                    self.try_again(&format!("does not start ({error:#})"));
                }
            }
        }
    }

    fn try_again(&mut self, why: &str) {
        let pause = pause(self.deaths, random());
        let (seconds, log) = (pause.as_secs_f32(), self.log.display());
        say::warn(&format!("{} {why}; starting it again in {seconds:.1} s; its log: {log}", self.name));
        self.again_at = Some(Instant::now() + pause);
    }

    /// Ends it, in order if it will.
    pub fn stop(&mut self, files: &Files) {
        if let Some(mut child) = self.child.take() {
            if run::end(&mut child, END_WITHIN) {
                say::good(&format!("{} has ended", self.name));
            } else {
                say::warn(&format!("{} did not end and was killed", self.name));
            }
        }
        // What is not there is found to be gone by the next start.
        let _ = std::fs::remove_file(files.pid_file(self.name));
        leftover::forget(files, self.name);
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        let tail = tail(&self.log).unwrap_or_default();
        format!("the end of {}:\n{tail}", self.log.display())
    }
}

/// Runs a program to its end, its output to a log; it must succeed within the time, or until we are told to end.
pub(super) fn run_within(command: &mut Command, log: &Path, within: Duration) -> anyhow::Result<()> {
    let log = append(log)?;
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
    let mut child = command.spawn().with_context(|| format!("start {program}"))?;
    let (begun, signals) = (Instant::now(), run::interrupts());
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => bail!("{status}"),
            None if begun.elapsed() > within || run::interrupts() > signals => {
                run::end(&mut child, Duration::ZERO);
                bail!("it took longer than {within:?}, or was interrupted");
            }
            None => std::thread::sleep(run::LOOK_EVERY),
        }
    }
}

fn append(path: &Path) -> anyhow::Result<File> {
    File::options().create(true).append(true).open(path).with_context(|| format!("open {}", path.display()))
}

fn tail(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = vec![];
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The pause before the restart after `deaths`: doubling, with a jitter of a quarter (`random` is 0 to 255).
fn pause(deaths: u32, random: u8) -> Duration {
    let doubled = BACKOFF.saturating_mul(2_u32.saturating_pow(deaths.saturating_sub(1).min(16)));
    doubled.min(BACKOFF_MAX).mul_f32(0.75 + f32::from(random) / 512.0)
}

/// Good enough to keep two stacks from restarting in step.
fn random() -> u8 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0).to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_differ() {
        assert!(pause(0, 0) >= BACKOFF.mul_f32(0.7) && pause(1, 255) <= BACKOFF.mul_f32(1.3));
        assert!(pause(4, 0) > pause(1, 255));
        assert!(pause(1000, 255) <= BACKOFF_MAX.mul_f32(1.25));
        assert_ne!(pause(3, 0), pause(3, 200));
    }
}
