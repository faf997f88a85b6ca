//! Which containers are agents, now and as they come and go.
//!
//! ```text
//! connect ─► listen to events ─► list all ─► look at each ─► events: look at that one, nudge its keeper
//!    ▲                                                            │
//!    └────────────── the engine went away: wait, again ◄──────────┘
//! ```
//! Events are listened to before the list is read, so nothing falls between; after a break they are asked for from the
//! last one on, for what the engine remembers of it.

use std::sync::Arc;
use std::time::Duration;

use bollard::models::EventMessage;
use bus_schema::SessionId;
use futures::StreamExt;
use tokio::time::{sleep, timeout};

use super::backoff::Backoff;
use super::engine::{Container, EngineError, Phase};
use super::files::Card;
use super::labels::{self, Facts};
use super::provider::Shared;
use super::session::Session;
use crate::clock;
use crate::pty::entry::lock;

/// How often all containers are listed although events come: they are a ring in the engine's memory.
const LIST_EVERY: Duration = Duration::from_secs(60);
/// A container that ended longer ago, and that nobody here ever saw, is history: as long as a node keeps what has ended.
const OLD: i64 = 24 * 3600 * 1_000_000_000;

/// Finds containers until it is cancelled.
pub(crate) async fn discover(shared: Arc<Shared>) {
    let mut backoff = Backoff::new();
    let mut last = None;
    let mut was_away = false;
    loop {
        let error = watch(&shared, &mut last, &mut backoff).await.err();
        if let Some(error) = error.filter(|_| !was_away) {
            tracing::info!(%error, "the container engine is away");
        }
        was_away = shared.engine.ping().await.is_err();
        if !was_away && last.is_some() {
            backoff.reset();
        }
        sleep(backoff.next()).await;
    }
}

/// Listens until the engine goes away.
async fn watch(shared: &Arc<Shared>, last: &mut Option<i64>, backoff: &mut Backoff) -> Result<(), EngineError> {
    // The socket of an engine that dies may linger.
    shared.engine.ping().await?;
    let mut events = shared.engine.events(*last)?;
    loop {
        for id in shared.engine.agents().await? {
            found(shared, &id).await?;
        }
        // Those whose containers are gone are not in the list.
        for session in shared.all() {
            session.nudge.notify_one();
        }
        backoff.reset();
        let listed = tokio::time::Instant::now();
        while let Ok(event) = timeout(LIST_EVERY.saturating_sub(listed.elapsed()), events.next()).await {
            let Some(event) = event else { return Ok(()) };
            let event = event?;
            *last = event.time_nano.or(*last);
            happened(shared, event).await?;
        }
    }
}

async fn happened(shared: &Arc<Shared>, event: EventMessage) -> Result<(), EngineError> {
    let (Some(action), Some(actor)) = (event.action, event.actor) else { return Ok(()) };
    let Some(id) = actor.id else { return Ok(()) };
    // What follows a colon is a command line, which is nobody's business.
    let action = action.split(':').next().unwrap_or_default().trim();
    if action.starts_with("exec_") || matches!(action, "attach" | "top" | "resize" | "rename" | "update") {
        return Ok(());
    }
    let known = shared.of_container(&id);
    if action == "die"
        && let Some(session) = &known
    {
        let code = actor.attributes.and_then(|attributes| attributes.get("exitCode")?.parse().ok());
        *lock(&session.last_code) = code;
    }
    if action == "destroy" {
        let (files, gone) = (shared.files.clone(), id.clone());
        // Only a file too many if it fails.
        let _ = tokio::task::spawn_blocking(move || files.drop_forgotten(&gone)).await;
    }
    found(shared, &id).await?;
    if let Some(session) = known {
        session.nudge.notify_one();
    }
    Ok(())
}

/// Looks at a container, and begins a session for it if it needs one.
pub(crate) async fn found(shared: &Arc<Shared>, id: &str) -> Result<(), EngineError> {
    let Some(container) = shared.engine.inspect(id).await? else { return Ok(()) };
    let session = {
        let _one_at_a_time = shared.finding.lock().await;
        let Some(card) = card_for(shared, &container) else { return Ok(()) };
        shared.begin(card).await
    };
    match session {
        Ok(session) => shared.appeared(&session.id),
        Err(error) => tracing::error!(container = %container.id, %error, "a session cannot be kept"),
    }
    Ok(())
}

/// What a container's new session is, if it is to have one.
fn card_for(shared: &Shared, container: &Container) -> Option<Card> {
    let is_live = matches!(container.phase, Phase::Running | Phase::Paused | Phase::Restarting);
    let managed = || container.labels.get(labels::SESSION).and_then(|id| SessionId::new(id.as_str()).ok());
    let facts = Facts::read(&container.labels, &container.name, container.streams);
    let own = facts.is_managed.then(managed).flatten();
    let before = shared.of_container(&container.id).map(|session| session.card());
    let (generation, after) = match before {
        // Alive, or ended in this very life.
        Some(card) if card.exit.is_none() || !is_live || card.run == container.started => return None,
        // Its log goes on behind that of the life before.
        Some(card) => (card.generation + 1, card.ended_at.max(container.started.map(|started| started - 1))),
        None => (0, None),
    };
    if generation == 0
        && let Some(id) = &own
        && shared.get(id).is_some()
    {
        // Just being created, or somebody copied the label.
        let is_ours = shared.get(id).is_some_and(|session| session.container().is_none());
        if is_ours {
            return None;
        }
    }
    if shared.files.is_forgotten(&container.id, container.started) && !is_live {
        return None;
    }
    let now = clock::now_micros() * 1000;
    if container.phase == Phase::Ended && container.finished.is_none_or(|finished| now - finished > OLD) {
        return None;
    }
    let own = own.filter(|id| generation == 0 && shared.get(id).is_none());
    let id = own.or_else(|| SessionId::new(ulid::Ulid::new().to_string()).ok())?;
    let spawned_at = if generation > 0 { container.started } else { container.created };
    let mut card = Card::new(id, facts, spawned_at.unwrap_or(now));
    card.container = Some(container.id.clone());
    card.container_name.clone_from(&container.name);
    card.image.clone_from(&container.image);
    (card.generation, card.after, card.run) = (generation, after, container.started);
    card.started_at = container.started;
    Some(card)
}

/// Looks after a session from now on.
pub(crate) fn attend(shared: &Shared, session: &Arc<Session>) {
    let (stop, session) = (shared.stop.clone(), Arc::clone(session));
    shared.tasks.spawn(async move {
        stop.run_until_cancelled(super::keeper::keep(session)).await;
    });
}
