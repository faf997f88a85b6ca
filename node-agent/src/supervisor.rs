//! Owns every task of the node agent.
//!
//! | task | on error | when the node agent leaves |
//! |---|---|---|
//! | `commands` | started again | takes no more, ends those under way |
//! | `discovery` of a provider | started again | ends |
//! | `report` | started again | ends |
//! | `refusals` tells the hub what was not obeyed | started again | ends; what is on disk is told by the next |
//! | `keeper` with the sessions' tasks | the process ends | writes what is not written; sessions go on |
//! | `publisher` | started again | publishes what is left |
//! | `heartbeat` | started again | says that the node is leaving |
//!
//! They leave in this order, from top to bottom, each under a deadline ([`Kind::leave_within`]).

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::metrics::Counters;

/// First pause before a task is started again; doubled each time.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
/// Longest pause before a task is started again.
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// A task that ran for so long is in order: the next pause is the first one again.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// Every kind of task, in the order in which they leave.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Answers the hub.
    Commands,
    /// Finds the sessions of one provider.
    Discovery(String),
    /// Logs the counters.
    Report,
    /// Tells the hub of commands that were not obeyed.
    Refusals,
    /// Looks after the sessions.
    Keeper,
    /// Brings records onto the bus.
    Publisher,
    /// Tells the node's state.
    Heartbeat,
}

/// What is done when a task fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// It is started again.
    Restart,
    /// The process ends: whoever started it starts it again.
    Stop,
}

impl Kind {
    /// What is done when it fails.
    pub fn on_error(&self) -> OnError {
        match self {
            Kind::Commands | Kind::Discovery(_) | Kind::Report | Kind::Refusals | Kind::Publisher | Kind::Heartbeat => {
                OnError::Restart
            }
            Kind::Keeper => OnError::Stop,
        }
    }

    /// How long it may take to leave; then it is broken off.
    pub fn leave_within(&self) -> Duration {
        match self {
            Kind::Discovery(_) | Kind::Report | Kind::Refusals => Duration::from_millis(500),
            Kind::Heartbeat => Duration::from_secs(3),
            Kind::Commands | Kind::Keeper => Duration::from_secs(5),
            Kind::Publisher => Duration::from_secs(6),
        }
    }

    /// Tasks of one rank leave together.
    fn rank(&self) -> u8 {
        match self {
            Kind::Commands | Kind::Discovery(_) | Kind::Report | Kind::Refusals => 0,
            Kind::Keeper => 1,
            Kind::Publisher => 2,
            Kind::Heartbeat => 3,
        }
    }
}

const LAST_RANK: u8 = 3;

/// How a task ends.
pub type TaskResult = Result<(), Box<dyn Error + Send + Sync>>;
/// Starts a task; `None` if it cannot be started again.
pub type Start = Box<dyn FnMut(CancellationToken) -> Option<BoxFuture<'static, TaskResult>> + Send>;

/// A task that cannot be started again has failed.
#[derive(Debug, thiserror::Error)]
#[error("the task {0:?} has failed")]
pub struct Stopped(pub Kind);

/// Owns the tasks.
#[derive(Default)]
pub struct Supervisor {
    jobs: Vec<Job>,
    tasks: JoinSet<TaskResult>,
    running: HashMap<Id, usize>,
}

struct Job {
    kind: Kind,
    start: Start,
    cancel: CancellationToken,
    started_at: Instant,
    failures: u32,
    restart_at: Option<Instant>,
}

impl Supervisor {
    /// Starts a task.
    pub fn add(&mut self, kind: Kind, start: Start) {
        let cancel = CancellationToken::new();
        self.jobs.push(Job { kind, start, cancel, started_at: Instant::now(), failures: 0, restart_at: None });
        self.start(self.jobs.len() - 1);
    }

    fn start(&mut self, at: usize) -> bool {
        let Some(job) = self.jobs.get_mut(at) else { return false };
        (job.started_at, job.restart_at) = (Instant::now(), None);
        let Some(task) = (job.start)(job.cancel.clone()) else { return false };
        let handle = self.tasks.spawn(task);
        self.running.insert(handle.id(), at);
        true
    }

    /// Keeps the tasks running until `cancel`, then lets them leave in order.
    ///
    /// # Errors
    /// [`Stopped`] if a task failed without which the node agent is of no use. The others have left in order by then.
    pub async fn run(mut self, cancel: CancellationToken, counters: &Counters) -> Result<(), Stopped> {
        let result = self.watch(cancel, counters).await;
        self.leave().await;
        result
    }

    async fn watch(&mut self, cancel: CancellationToken, counters: &Counters) -> Result<(), Stopped> {
        loop {
            let restart_at = self.jobs.iter().filter_map(|job| job.restart_at).min();
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended, counters)?,
                () = sleep_until(restart_at) => {
                    let now = Instant::now();
                    let is_due = |job: &Job| job.restart_at.is_some_and(|at| at <= now);
                    let due: Vec<_> = (0..self.jobs.len()).filter(|at| self.jobs.get(*at).is_some_and(is_due)).collect();
                    for at in due {
                        self.start(at);
                    }
                }
            }
        }
    }

    fn ended(&mut self, ended: Result<(Id, TaskResult), JoinError>, counters: &Counters) -> Result<(), Stopped> {
        let (id, why) = match ended {
            Ok((id, Ok(()))) => (id, "it ended".to_owned()),
            Ok((id, Err(error))) => (id, crate::publisher::chain(&*error)),
            Err(error) => (error.id(), error.to_string()),
        };
        let Some(job) = self.running.remove(&id).and_then(|at| self.jobs.get_mut(at)) else { return Ok(()) };
        tracing::error!(task = ?job.kind, error = why, "task failed");
        if job.kind.on_error() == OnError::Stop {
            return Err(Stopped(job.kind.clone()));
        }
        counters.task_restarts.increment();
        if job.started_at.elapsed() > HEALTHY_AFTER {
            job.failures = 0;
        }
        let pause = FIRST_BACKOFF.saturating_mul(1 << job.failures.min(10)).min(MAX_BACKOFF);
        job.failures += 1;
        job.restart_at = Some(Instant::now() + pause.mul_f64(0.5 + rand::random::<f64>() / 2.0));
        Ok(())
    }

    async fn leave(&mut self) {
        for rank in 0..=LAST_RANK {
            let leaving = self.jobs.iter().filter(|job| job.kind.rank() == rank);
            let within = leaving.map(|job| {
                job.cancel.cancel();
                job.kind.leave_within()
            });
            let deadline = Instant::now() + within.max().unwrap_or_default();
            while self.running.values().any(|at| self.jobs.get(*at).is_some_and(|job| job.kind.rank() == rank)) {
                match tokio::time::timeout_at(deadline, self.tasks.join_next_with_id()).await {
                    Ok(Some(ended)) => {
                        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
                        if let Ok((_, Err(error))) = &ended {
                            tracing::warn!(error = %crate::publisher::chain(&**error), "task failed while it left");
                        }
                        self.running.remove(&id);
                    }
                    Ok(None) => break,
                    Err(_) => {
                        let late: Vec<_> =
                            self.running.values().filter_map(|at| self.jobs.get(*at)).map(|job| &job.kind).collect();
                        tracing::warn!(tasks = ?late, "the grace period is over; tasks are broken off");
                        break;
                    }
                }
            }
        }
        self.tasks.shutdown().await;
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{Arc, Mutex};

    use super::*;

    type Log = Arc<Mutex<Vec<String>>>;

    fn waits(log: &Log, name: &'static str) -> Start {
        let log = log.clone();
        Box::new(move |cancel| {
            let log = log.clone();
            Some(Box::pin(async move {
                cancel.cancelled().await;
                log.lock().unwrap().push(name.into());
                Ok(())
            }))
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_fails_is_started_again() {
        let (mut supervisor, starts, cancel) =
            (Supervisor::default(), Arc::new(AtomicU32::new(0)), CancellationToken::new());
        let (count, done) = (starts.clone(), cancel.clone());
        supervisor.add(
            Kind::Publisher,
            Box::new(move |_| {
                let (n, done) = (count.fetch_add(1, Ordering::Relaxed), done.clone());
                Some(Box::pin(async move {
                    match n {
                        0 => Err("first".into()),
                        1 => std::panic::resume_unwind(Box::new("second")),
                        _ => {
                            done.cancel();
                            Ok(())
                        }
                    }
                }))
            }),
        );
        let counters = Counters::default();
        supervisor.run(cancel, &counters).await.unwrap();
        assert_eq!(starts.load(Ordering::Relaxed), 3);
        assert!(counters.task_restarts.get() >= 2);
    }

    #[tokio::test(start_paused = true)]
    async fn without_its_keeper_the_node_ends_and_the_others_leave_in_order() {
        let (mut supervisor, log) = (Supervisor::default(), Log::default());
        supervisor.add(Kind::Heartbeat, waits(&log, "heartbeat"));
        supervisor.add(Kind::Publisher, waits(&log, "publisher"));
        supervisor.add(Kind::Commands, waits(&log, "commands"));
        supervisor.add(Kind::Keeper, Box::new(|_| Some(Box::pin(async { Err("broken".into()) }))));
        let stopped = supervisor.run(CancellationToken::new(), &Counters::default()).await.unwrap_err();
        assert_eq!(stopped.0, Kind::Keeper);
        assert_eq!(*log.lock().unwrap(), ["commands", "publisher", "heartbeat"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_leave_is_broken_off() {
        let (mut supervisor, log, cancel) = (Supervisor::default(), Log::default(), CancellationToken::new());
        supervisor.add(Kind::Commands, Box::new(|_| Some(Box::pin(std::future::pending()))));
        supervisor.add(Kind::Publisher, waits(&log, "publisher"));
        cancel.cancel();
        let begun = Instant::now();
        supervisor.run(cancel, &Counters::default()).await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), Kind::Commands.leave_within().as_secs());
        assert_eq!(*log.lock().unwrap(), ["publisher"]);
    }
}
