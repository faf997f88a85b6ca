//! A child process with its log, ended when dropped.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use rustix::process::Signal;

use crate::proc;
use crate::wait::wait_until_blocking;

/// How many of the last lines of a log a failed test prints.
const TAIL_LINES: usize = 60;

/// A running program. Its output goes to a file, whose end is printed if the test fails. Killed when dropped.
///
/// It stays in the process group of the test, so that a runner which gives up on the test ends it too.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; stdout and stderr are appended to `log`, stdin is empty.
    ///
    /// # Errors
    /// The program cannot be started, or the log not be opened.
    pub fn spawn(name: &str, command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let open = || File::options().create(true).append(true).open(log);
        let (out, err) = open().and_then(|out| Ok((out, open()?))).context(format!("open {}", log.display()))?;
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        let child = child.with_context(|| format!("start {}", command.get_program().to_string_lossy()))?;
        Ok(Self { name: name.into(), child, log: log.to_owned() })
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// How it ended; `None` while it runs.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Ends it at once, as a crash would, and reaps it.
    pub fn kill9(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end (SIGTERM) and waits for that.
    ///
    /// # Errors
    /// It is still there after `within`; it goes on running.
    pub fn terminate(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        if self.exited().is_none() {
            proc::signal(self.pid(), Signal::TERM);
        }
        let name = self.name.clone();
        Ok(wait_until_blocking(&format!("{name} ends"), within, || self.exited())?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            print_tail(&self.name, &self.log);
        }
    }
}

#[expect(clippy::print_stderr, reason = "a failed test tells what its processes wrote")]
fn print_tail(name: &str, log: &Path) {
    let text = String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or(&[]);
    eprintln!("--- end of the log of {name} ({}) ---\n{}\n---", log.display(), tail.join("\n"));
}

/// A folder that goes when it is dropped, except after a failure: then it stays, and is named.
#[derive(Debug)]
pub(crate) struct KeptOnFailure(Option<tempfile::TempDir>);

impl KeptOnFailure {
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self(Some(tempfile::Builder::new().prefix("mosaic-test-").tempdir().context("make a folder")?)))
    }

    pub fn path(&self) -> &Path {
        self.0.as_ref().map_or(Path::new(""), tempfile::TempDir::path)
    }
}

impl Drop for KeptOnFailure {
    #[expect(clippy::print_stderr, reason = "a failed test tells where its files are")]
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(dir) = self.0.take()
        {
            eprintln!("files kept: {}", dir.keep().display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_with_its_owner_and_keeps_a_log() {
        let dir = KeptOnFailure::new().unwrap();
        let log = dir.path().join("log");
        let mut command = Command::new("sh");
        let mut process =
            Process::spawn("sh", command.args(["-c", "echo out; echo err >&2; sleep 100"]), &log).unwrap();
        wait_until_blocking("it has written", Duration::from_secs(10), || match process.log() {
            log if log.contains("out\n") && log.contains("err\n") => Ok(()),
            log => Err(log),
        })
        .unwrap();
        assert_eq!(process.exited(), None);
        let pid = process.pid();
        assert!(!process.terminate(Duration::from_secs(10)).unwrap().success());
        drop(process);
        assert!(!proc::is_alive(pid));
    }
}
