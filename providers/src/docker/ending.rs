//! Pause, resume, terminate and kill: asked of the engine, and proven by an inspection. Law 4 of the trait.

use std::sync::Arc;
use std::time::Duration;

use bus_schema::{Capability, EndReport, EndStep, EndedProcess, Operator, Status, StatusSource};
use tokio::time::{Instant, sleep};

use super::backoff::Backoff;
use super::engine::{Container, EngineError, Phase, Process};
use super::session::Session;
use crate::clock;
use crate::provider::ProviderError;
use crate::pty::log::LogError;
use crate::pty::record::{EndAction, Intent};

/// How long a pause or resume may wait for a message that is being handed over.
const TURN_WITHIN: Duration = Duration::from_secs(10);
/// How long a container may take to be what it was asked to be.
const PROVEN_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How often an end is asked for again, where the engine goes away in between.
const ATTEMPTS: u32 = 20;
/// How processes are held together here.
const CONTAINMENT: &str = "container";

fn disk(error: LogError) -> ProviderError {
    ProviderError::Failed { doing: "writing the session's log".into(), source: Some(Box::new(error)) }
}

async fn look(session: &Session, id: &str) -> Result<Option<Container>, EngineError> {
    session.engine.inspect(id).await
}

fn has_ended(found: Option<&Container>) -> bool {
    found.is_none_or(|container| container.phase == Phase::Ended)
}

/// Stops all processes of the container where they are, or lets them go on.
pub(crate) async fn freeze(session: &Session, by: &Operator, is_pause: bool) -> Result<(), ProviderError> {
    let Ok(_turn) = tokio::time::timeout(TURN_WITHIN, session.acting.lock()).await else {
        let doing = "waiting for a message that is being handed over".into();
        return Err(ProviderError::Deadline { doing, seconds: TURN_WITHIN.as_secs() });
    };
    let capability = if is_pause { Capability::Pause } else { Capability::Resume };
    let id = session.must(capability)?;
    let wanted = if is_pause { Phase::Paused } else { Phase::Running };
    let found = look(session, &id).await?;
    match found.as_ref().map(|container| container.phase) {
        Some(Phase::Running | Phase::Paused) => {}
        Some(Phase::Created | Phase::Restarting | Phase::Ended) | None => {
            let reason = "its container does not run now".into();
            return Err(ProviderError::WrongState { status: session.info().status, reason });
        }
    }
    session.paused_by(is_pause.then(|| by.clone()));
    if found.is_some_and(|container| container.phase != wanted) {
        let asked = if is_pause { session.engine.pause(&id).await } else { session.engine.unpause(&id).await };
        if let Err(error) = asked {
            session.paused_by(None);
            return Err(error.into());
        }
    }
    let until = Instant::now() + PROVEN_WITHIN;
    loop {
        let now = look(session, &id).await?;
        let Some(container) = now.filter(|container| container.phase != Phase::Ended) else {
            let reason = "its container has ended".into();
            return Err(ProviderError::WrongState { status: session.info().status, reason });
        };
        if container.phase == wanted {
            session.observe(&container).await.map_err(disk)?;
            return Ok(());
        }
        if Instant::now() >= until {
            let doing = "waiting for the container engine to confirm it".into();
            return Err(ProviderError::Deadline { doing, seconds: PROVEN_WITHIN.as_secs() });
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// Writes down that somebody wants the end. `None` if it has ended already.
pub(crate) async fn intend(
    session: &Session,
    action: EndAction,
    by: &Operator,
) -> Result<Option<String>, ProviderError> {
    let capability = match action {
        EndAction::Terminate => Capability::Terminate,
        EndAction::Kill => Capability::Kill,
    };
    let id = session.must(capability)?;
    // One that ended by itself, and is not told yet, was ended by nobody.
    if has_ended(look(session, &id).await?.as_ref()) {
        session.nudge.notify_one();
        return Ok(None);
    }
    session.intend(Intent { action, by: by.clone(), at: clock::now_micros() }).await?;
    Ok(Some(id))
}

/// Asks the container to end, ever more firmly, until it has. For a task of its own: the engine may be away meanwhile.
pub(crate) async fn terminate(session: Arc<Session>, id: String) {
    let mut backoff = Backoff::new();
    let mut asked = false;
    for _ in 0..ATTEMPTS {
        match step(&session, &id, &mut asked).await {
            Ok(()) => break,
            Err(error) => {
                tracing::warn!(session_id = %session.id, %error, "a container could not be stopped yet");
                sleep(backoff.next()).await;
            }
        }
    }
    session.nudge.notify_one();
}

async fn step(session: &Session, id: &str, asked: &mut bool) -> Result<(), EngineError> {
    let found = look(session, id).await?;
    let Some(container) = found.filter(|container| container.phase != Phase::Ended) else { return Ok(()) };
    if container.phase == Phase::Paused {
        // What stands still hears nothing.
        session.engine.unpause(id).await?;
    }
    let card = session.card();
    if let Some(leave) = card.leave.filter(|_| !*asked && container.phase != Phase::Created) {
        *asked = true;
        session.engine.signal(id, &leave.signal).await?;
        let until = Instant::now() + Duration::from_millis(leave.grace_ms);
        while Instant::now() < until {
            if has_ended(look(session, id).await?.as_ref()) {
                return Ok(());
            }
            sleep(LOOK_AGAIN).await;
        }
    }
    session.engine.stop(id, card.facts.stop_seconds).await
}

/// Ends the container at once.
pub(crate) async fn kill(session: &Session, id: &str) -> Result<EndReport, ProviderError> {
    let mut steps = vec![];
    let mut did = |step: &str, detail: String| steps.push(EndStep { step: step.into(), at: clock::now(), detail });
    // Without `ps` on its host the engine cannot tell them; its first one it knows.
    let mut processes = session.engine.processes(id).await.unwrap_or_default();
    let found = look(session, id).await?;
    if processes.is_empty()
        && let Some(pid) = found.as_ref().and_then(|container| i32::try_from(container.pid?).ok())
    {
        processes.push(Process { pid, name: "init".into() });
    }
    did("kill", format!("{} processes", processes.len()));
    session.engine.kill(id).await?;
    let until = Instant::now() + PROVEN_WITHIN;
    let ended = loop {
        if has_ended(look(session, id).await?.as_ref()) {
            break true;
        }
        if Instant::now() >= until {
            break false;
        }
        sleep(LOOK_AGAIN).await;
    };
    let named = processes.into_iter().map(|Process { pid, name }| EndedProcess { pid, name }).collect();
    let (ended, survivors) = if ended {
        // With the first process of a container the kernel ends all others in it.
        did("reap", "the container engine says that it has ended".into());
        (named, vec![])
    } else {
        (vec![], named)
    };
    let report = EndReport { containment: CONTAINMENT.into(), steps, ended, survivors };
    let kept = report.clone();
    session.keep(|card| card.report = Some(kept)).await.map_err(|error| ProviderError::Failed {
        doing: "writing down the end of the session".into(),
        source: Some(Box::new(error)),
    })?;
    session.nudge.notify_one();
    Ok(report)
}

/// Tells that a container that was asked for is there.
pub(crate) async fn begun(session: &Session) -> Result<(), ProviderError> {
    session.stand(Status::Spawning, None, StatusSource::Operator).await.map_err(disk)
}
