//! A session that is asked for: its container is created and started.
//!
//! On the disk first: a node agent that is killed in between finds by the card what it was about to start, and takes
//! away what never ran.

use std::collections::HashMap;
use std::sync::Arc;

use bollard::models::{ContainerCreateBody, HostConfig};
use bus_schema::{SessionId, Status};

use super::engine::{Engine, EngineError, Phase};
use super::files::{Card, Leave};
use super::labels::{self, Facts, Streams};
use super::provider::Shared;
use super::session::Session;
use super::terminal::Terminal;
use crate::clock;
use crate::profile::{Profile, Protocol};
use crate::provider::{End, ProviderError, SpawnRequest};
use crate::pty::entry::lock;

/// Signals by which a program leaves in its own way; TERM is the engine's way, which comes behind it.
const ENGINES_OWN: [&str; 2] = ["TERM", "none"];

/// The name of the container of a session.
fn container_name(id: &SessionId) -> String {
    format!("mosaic-{}", id.as_str().to_ascii_lowercase())
}

/// What is to be started.
pub(crate) fn card(request: &SpawnRequest) -> Result<Card, ProviderError> {
    let profile = &request.profile;
    if profile.provider != "docker" {
        let text = format!("profile {} is for provider {}, not for docker", profile.name, profile.provider);
        return Err(ProviderError::Invalid(text));
    }
    if let Some(problem) = profile.problems().first() {
        return Err(ProviderError::Invalid(problem.to_string()));
    }
    if profile.protocol == Protocol::Acp {
        let text = format!(
            "profile {}: the protocol acp is not spoken to containers; use lines or jsonl, or provider = \"acp\"",
            profile.name
        );
        return Err(ProviderError::Invalid(text));
    }
    request.check()?;
    let streams = streams(profile);
    let facts = Facts::read(&labels_of(request).into_iter().collect(), &container_name(&request.session_id), streams);
    let mut card = Card::new(request.session_id.clone(), facts, clock::now_micros() * 1000);
    card.container_name = container_name(&request.session_id);
    card.size = profile.size.filter(|_| streams.tty);
    card.image = profile.image.clone().unwrap_or_default();
    card.leave = (!ENGINES_OWN.contains(&profile.stop.signal.as_str()))
        .then(|| Leave { signal: format!("SIG{}", profile.stop.signal), grace_ms: profile.stop.grace_ms });
    Ok(card)
}

fn streams(profile: &Profile) -> Streams {
    Streams { tty: profile.protocol == Protocol::Terminal, open_stdin: true, stdin_once: false }
}

fn labels_of(request: &SpawnRequest) -> HashMap<String, String> {
    let profile = &request.profile;
    let mut all: HashMap<String, String> = profile.labels.clone().into_iter().collect();
    let mut label = |label: &str, value: String| {
        all.insert(label.into(), value);
    };
    let title = request.title.clone().or_else(|| profile.title.clone());
    let seconds = profile.stop.grace_ms.div_ceil(1000).max(1);
    label(labels::AGENT, "true".into());
    label(labels::MANAGED, "true".into());
    label(labels::SESSION, request.session_id.to_string());
    label(labels::PROFILE, profile.name.clone());
    label(labels::INJECT, "stdin".into());
    label(labels::PROTOCOL, if profile.protocol == Protocol::Jsonl { "jsonl" } else { "lines" }.into());
    label(labels::STOP_TIMEOUT, seconds.to_string());
    if let Some(title) = title {
        label(labels::NAME, title);
    }
    if let Some(kind) = &profile.agent_type {
        label(labels::KIND, kind.clone());
    }
    if let Some(parent) = &request.parent_session_id {
        label(labels::PARENT, parent.to_string());
    }
    all
}

fn body(request: &SpawnRequest) -> ContainerCreateBody {
    let profile = &request.profile;
    let streams = streams(profile);
    let mut env = profile.env.clone();
    env.extend(request.env.clone());
    env.insert("MOSAIC_SESSION_ID".into(), request.session_id.to_string());
    if let Some(parent) = &request.parent_session_id {
        env.insert("MOSAIC_PARENT_SESSION_ID".into(), parent.to_string());
    }
    let limits = profile.limits.clone().unwrap_or_default();
    let size = profile.size.filter(|_| streams.tty);
    let host = HostConfig {
        binds: (!profile.mounts.is_empty()).then(|| profile.mounts.clone()),
        // A first process that reaps and passes signals on: without it, most programs do not hear SIGTERM.
        init: Some(true),
        memory: limits.memory_bytes.and_then(|bytes| i64::try_from(bytes).ok()),
        // Measured in 1e-9 processors; the profile's bounds keep it far from the type's.
        nano_cpus: limits.cpus.map(|cpus| (cpus * 1e9) as i64),
        pids_limit: limits.pids.map(i64::from),
        console_size: size.map(|size| vec![usize::from(size.rows), usize::from(size.cols)]),
        ..Default::default()
    };
    ContainerCreateBody {
        image: profile.image.clone(),
        cmd: (!profile.command.is_empty()).then(|| profile.command.clone()),
        env: Some(env.into_iter().map(|(key, value)| format!("{key}={value}")).collect()),
        working_dir: profile.cwd.as_ref().map(|cwd| cwd.to_string_lossy().into_owned()),
        labels: Some(labels_of(request)),
        tty: Some(streams.tty),
        open_stdin: Some(true),
        stdin_once: Some(false),
        host_config: Some(host),
        ..Default::default()
    }
}

/// Creates and starts the container of a session that is on the disk.
pub(crate) async fn start(session: &Arc<Session>, request: &SpawnRequest) -> Result<(), ProviderError> {
    let engine = &session.engine;
    let image = request.profile.image.clone().unwrap_or_default();
    if !engine.has_image(&image).await? {
        let doing = format!("image {image} is not on this machine; get it with: docker pull {image}");
        return Err(ProviderError::Failed { doing, source: None });
    }
    super::ending::begun(session).await?;
    let name = container_name(&session.id);
    let id = engine.create(&name, body(request)).await?;
    let started = async {
        let kept = id.clone();
        session.keep(|card| card.container = Some(kept)).await.map_err(|error| ProviderError::Failed {
            doing: "writing down which container belongs to the session".into(),
            source: Some(Box::new(error)),
        })?;
        if session.card().facts.tty {
            // Before anything is written to it.
            *lock(&session.attached) = Terminal::attach(session, &id).await;
        }
        engine.start(&id).await?;
        Ok(())
    };
    if let Err(error) = started.await {
        // It never ran, and is ours. If it stays, the next start finds it by its label.
        let _ = engine.remove(&id, true).await;
        return Err(error);
    }
    session.nudge.notify_one();
    Ok(())
}

/// Takes up a session whose start was broken off by our end.
pub(crate) async fn recover(shared: &Shared, session: &Arc<Session>) {
    let engine: &Engine = &session.engine;
    let mut backoff = super::backoff::Backoff::new();
    loop {
        match settle(engine, session).await {
            Ok(()) => return super::discovery::attend(shared, session),
            Err(error) => {
                tracing::debug!(session_id = %session.id, %error, "a start that was broken off is not settled yet");
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }
}

async fn settle(engine: &Engine, session: &Arc<Session>) -> Result<(), EngineError> {
    let name = container_name(&session.id);
    let found = engine.inspect(&name).await?;
    let ours = |container: &super::engine::Container| {
        container.labels.get(labels::SESSION).is_some_and(|id| id == session.id.as_str())
    };
    let reason = "the node agent ended while it started the container";
    match found.filter(ours) {
        // It runs, or ran: only the card was not written.
        Some(container) if container.phase != Phase::Created => {
            let id = container.id;
            if let Err(error) = session.keep(|card| card.container = Some(id)).await {
                tracing::error!(session_id = %session.id, %error, "what is known of a session cannot be written");
            }
            return Ok(());
        }
        Some(container) => engine.remove(&container.id, true).await?,
        None => {}
    }
    let error = Some(reason.to_owned());
    let end = End { status: Status::Failed, reason: reason.into(), exit_code: None, error, report: None };
    if let Err(error) = session.finish(end, None).await {
        tracing::error!(session_id = %session.id, %error, "the end of a session cannot be written");
    }
    Ok(())
}
