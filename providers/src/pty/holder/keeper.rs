//! The thread that stops, thaws and ends processes, and the one that collects those that have ended.
//!
//! Both may wait, so the loop that reads the terminal is neither. The keeper does one thing after the other, with one
//! exception: a kill breaks into the waiting of a termination.
//!
//! ```text
//! terminate:  thaw ─► leave (its own signal, or the end of its input) ─grace─► term (to all) ─grace─► kill ─► leader gone
//! kill:       freeze ─► list ─► kill until nothing is left                                 ─► leader gone
//! leader gone, for whatever reason: kill what it left behind ─► Cleaned
//! ```

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use bus_schema::{EndReport, EndStep};
use rustix::process::{Pid, Signal, WaitOptions};

use crate::clock;
use crate::process::{Containment, Process, ProcessId, ended};
use crate::profile::StopRule;

/// How long processes may take to stand still: the kernel freezes within milliseconds, but a process in an
/// uninterruptible wait is only frozen when that ends.
const FREEZE_WITHIN: Duration = Duration::from_secs(5);
/// How long killed processes may take to be gone.
const KILL_WITHIN: Duration = Duration::from_secs(5);
/// Capacity of the channels to and from the keeper: commands come from people, one at a time.
pub(crate) const KEEPER_QUEUE: usize = 64;

/// What the keeper is to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Stop everything.
    Freeze,
    /// Let everything go on.
    Thaw,
    /// Ask for the end.
    Terminate {
        /// The process group in front of the terminal.
        foreground: Option<i32>,
    },
    /// It was asked to end in its own way, and has a grace for that.
    Leave {
        /// How, or for what reason.
        why: &'static str,
    },
    /// End everything.
    Kill,
    /// The first process is gone.
    LeaderGone,
    /// The first process could not join the cgroup.
    WithoutCgroup,
}

/// What has happened.
#[derive(Debug)]
pub(crate) enum Happened {
    /// The first process ended, with this code; 128 + n for signal n.
    LeaderExit {
        /// The code.
        code: i32,
        /// True if a signal ended it.
        signalled: bool,
    },
    /// An answer to [`Command::Freeze`].
    Frozen(Result<(), KeepError>),
    /// An answer to [`Command::Thaw`].
    Thawed(Result<(), KeepError>),
    /// An answer to [`Command::Kill`].
    Killed(EndReport),
    /// Nothing is left of the session; with what had to be done for it, if anything.
    Cleaned(Option<EndReport>),
}

/// Why processes were not stopped or thawed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    /// It is being ended.
    #[error("it is being ended")]
    Ending,
    /// It was tried and went wrong.
    #[error("{0}")]
    Failed(String),
}

/// Tells the loop what has happened, and wakes it.
#[derive(Clone)]
pub(crate) struct Teller {
    pub events: SyncSender<Happened>,
    pub wake: Arc<OwnedFd>,
}

impl Teller {
    fn tell(&self, what: Happened) {
        // The loop ends last, so there is somebody to tell; and a wake-up more or less is nothing.
        let _ = self.events.send(what);
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
    }
}

/// Collects every process that ends below us, until there is none. The holder is a sub-reaper, so all that the session
/// ever started comes here in the end.
pub(crate) fn collect(leader: ProcessId, teller: &Teller) {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_pid() == leader.pid => {
                let signal = status.terminating_signal();
                let code = signal.map_or_else(|| status.exit_status().unwrap_or(-1), |signal| 128 + signal);
                teller.tell(Happened::LeaderExit { code, signalled: signal.is_some() });
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// Stops, thaws and ends the processes of a session.
pub(crate) struct Keeper {
    pub containment: Containment,
    pub leader: ProcessId,
    pub stop: StopRule,
    pub commands: Receiver<Command>,
    pub teller: Teller,
    /// What was done to end it.
    pub steps: Vec<EndStep>,
    /// Who was alive when that began, and who came later.
    pub seen: Vec<Process>,
}

/// How a program is asked to end in its own way.
enum Way {
    /// By its signal, to the process group in front of the terminal.
    Signal { foreground: Option<i32> },
    /// By the end of its input, which the loop has brought about; how.
    EndOfInput(&'static str),
}

/// How a wait within a termination ended.
enum Waited {
    TimeIsUp,
    LeaderGone,
    Kill,
    HolderGone,
}

impl Keeper {
    /// Does what it is told, until the session is over or the holder.
    pub fn run(mut self) {
        while let Ok(command) = self.commands.recv() {
            match command {
                Command::Freeze => {
                    let result = self.containment.freeze(FREEZE_WITHIN).map_err(|e| KeepError::Failed(describe(&e)));
                    if result.is_err() {
                        // Half frozen is neither: the caller is told that it runs.
                        let _ = self.containment.thaw();
                    }
                    self.teller.tell(Happened::Frozen(result));
                }
                Command::Thaw => self.thaw(),
                Command::Kill => self.kill(),
                Command::LeaderGone => return self.clean(),
                Command::WithoutCgroup => self.containment.without_cgroup(),
                Command::Terminate { foreground } => match self.terminate(Way::Signal { foreground }) {
                    Waited::LeaderGone => return self.clean(),
                    over => self.after(&over),
                },
                Command::Leave { why } => match self.terminate(Way::EndOfInput(why)) {
                    Waited::LeaderGone => return self.clean(),
                    over => self.after(&over),
                },
            }
        }
    }

    fn after(&mut self, termination: &Waited) {
        match termination {
            Waited::Kill => self.kill(),
            // Grace is over. Nobody waits for this one.
            Waited::TimeIsUp => drop(self.kill_now()),
            Waited::LeaderGone | Waited::HolderGone => {}
        }
    }

    fn thaw(&mut self) {
        let result = self.containment.thaw().map_err(|e| KeepError::Failed(describe(&e)));
        self.teller.tell(Happened::Thawed(result));
    }

    fn step(&mut self, step: &str, detail: impl Into<String>) {
        self.steps.push(EndStep { step: step.into(), at: clock::now(), detail: detail.into() });
    }

    /// Remembers who is alive now.
    fn look(&mut self) -> usize {
        let members = self.containment.members();
        let count = members.len();
        for process in members {
            if !self.seen.iter().any(|seen| seen.id == process.id) {
                self.seen.push(process);
            }
        }
        count
    }

    fn terminate(&mut self, way: Way) -> Waited {
        let grace = Duration::from_millis(self.stop.grace_ms);
        self.look();
        match self.containment.thaw() {
            Ok(()) => self.step("thaw", ""),
            Err(error) => self.step("thaw", describe(&error)),
        }
        if let Some(detail) = self.go_its_way(way) {
            self.step("leave", detail);
            match self.wait(grace) {
                Waited::TimeIsUp => {}
                other => return other,
            }
        }
        let count = self.look();
        self.containment.signal_all(Signal::TERM);
        self.step("term", format!("SIGTERM to {count} processes"));
        self.wait(grace)
    }

    /// Asks it to end in its own way, if it has one. Says how.
    fn go_its_way(&self, way: Way) -> Option<String> {
        let foreground = match way {
            // The loop did that.
            Way::EndOfInput(why) => return Some(format!("end of its input: {why}")),
            Way::Signal { foreground } => foreground,
        };
        let signal = signal_named(&self.stop.signal)?;
        if let Some(group) = foreground.and_then(Pid::from_raw) {
            // A group that is gone is as good.
            let _ = rustix::process::kill_process_group(group, signal);
        }
        if foreground != Some(self.leader.pid) {
            self.leader.signal(signal);
        }
        Some(format!("SIG{} to the program in front", self.stop.signal))
    }

    /// Waits within a termination. Of what comes meanwhile, a kill ends the wait, all else is answered.
    fn wait(&mut self, within: Duration) -> Waited {
        let until = Instant::now() + within;
        loop {
            match self.commands.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Command::Kill) => return Waited::Kill,
                Ok(Command::LeaderGone) => return Waited::LeaderGone,
                Ok(Command::Freeze) => self.teller.tell(Happened::Frozen(Err(KeepError::Ending))),
                Ok(Command::Thaw) => self.thaw(),
                Ok(Command::Terminate { .. } | Command::Leave { .. } | Command::WithoutCgroup) => {}
                Err(RecvTimeoutError::Timeout) => return Waited::TimeIsUp,
                Err(RecvTimeoutError::Disconnected) => return Waited::HolderGone,
            }
        }
    }

    fn kill(&mut self) {
        let report = self.kill_now();
        self.teller.tell(Happened::Killed(report));
    }

    fn kill_now(&mut self) -> EndReport {
        // Frozen first, so that the list is whole.
        let frozen = self.containment.freeze(FREEZE_WITHIN);
        let count = self.look();
        self.step("freeze", frozen.map_or_else(|error| describe(&error), |()| format!("{count} processes")));
        let survivors = self.containment.kill_all(KILL_WITHIN);
        self.step("kill", format!("{} left", survivors.len()));
        self.report(&survivors)
    }

    /// Kills what the first process left behind.
    fn clean(mut self) {
        let report = if self.containment.members().is_empty() {
            (!self.steps.is_empty()).then(|| self.report(&[]))
        } else {
            Some(self.kill_now())
        };
        self.containment.remove();
        self.teller.tell(Happened::Cleaned(report));
    }

    fn report(&self, survivors: &[Process]) -> EndReport {
        let dead: Vec<Process> =
            self.seen.iter().filter(|seen| !survivors.iter().any(|left| left.id == seen.id)).cloned().collect();
        EndReport {
            containment: self.containment.name().into(),
            steps: self.steps.clone(),
            ended: ended(&dead),
            survivors: ended(survivors),
        }
    }
}

fn signal_named(name: &str) -> Option<Signal> {
    match name {
        "INT" => Some(Signal::INT),
        "TERM" => Some(Signal::TERM),
        "HUP" => Some(Signal::HUP),
        "QUIT" => Some(Signal::QUIT),
        _ => None,
    }
}

/// An error with its causes, in one line.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
