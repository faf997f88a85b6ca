//! The soft pause: what comes nearest to a pause at a gateway, which has none.
//!
//! ```text
//! pause   wait for the end of the step, at most so long ─► abort, with descendants ─► verify ─► archive (the fence) ─► paused
//! resume  restore ─► a message of an operator's that waits, else "go on", if a run was cut ─► running
//! ```
//!
//! What it is not: the step under way when the time is up is lost, runs of sub-agents are ended and do not come back,
//! and what the agent left in the background goes on. It is offered only where the node's configuration says so.
//! Measured on openclaw 2026.9.6.

use std::sync::Arc;
use std::time::Duration;

use bus_schema::{Delivery, InjectMode, MessageId, Operator};

use super::ending::{archive, family, set_archived, step_ends, stopped};
use super::{abort, gateway_of, look_for, send};
use crate::clock;
use crate::openclaw::core::Core;
use crate::openclaw::gateway::{Gateway, look_once};
use crate::openclaw::record::Paused;
use crate::openclaw::rows::RESUME;
use crate::openclaw::session::Session;
use crate::provider::ProviderError;

/// How long the step may take to end by itself: an operator waits for the answer.
const STEP_WITHIN: Duration = Duration::from_secs(10);
/// What a session says of it that can be paused so.
pub(in crate::openclaw) const WHAT_IT_IS: &str = "pause is a soft pause: the run is ended with its step (after 10 s at once), those of its sub-agents too, and the \
     conversation is fenced; resume goes on with a new run";
/// What takes up a run that was cut.
const GO_ON: &str = "Go on where you left off. An operator had paused your work and has resumed it; the last step may not \
                     be finished.";

/// Why a session cannot be paused, not even softly.
pub(in crate::openclaw) fn unable(gateway: Option<&Gateway>, session: &Session) -> Option<&'static str> {
    let Some(gateway) = gateway else { return Some("the connection of this session is not set up any more") };
    if !gateway.soft_pause {
        return Some(
            "a gateway has no pause: its runs go on, or end (terminate lets the step finish); soft_pause = true in \
             the node's [[openclaw]] offers a soft pause, which ends the run and fences the conversation",
        );
    }
    if gateway.rest().is_some() {
        return Some("its gateway only speaks the older REST interface, which can read and send and no more");
    }
    if gateway.quirks().is_old {
        return Some("this gateway's release cannot fence a conversation, so not even a soft pause would hold");
    }
    let is_child = session.info(None).metadata.contains_key("spawnedBy");
    is_child.then_some("a sub-agent cannot be paused by itself, for its parent waits for its report; pause the parent")
}

/// Ends what runs of a session, fences it, and tells it as paused.
pub(in crate::openclaw) async fn pause(
    core: &Arc<Core>,
    session: &Arc<Session>,
    by: &Operator,
) -> Result<(), ProviderError> {
    if session.soft_pause().is_some() {
        return Ok(());
    }
    let gateway = gateway_of(core, session)?;
    let link = gateway.link().await?;
    let failed = |error| gateway.failed("pausing a session", error);
    let key = session.birth().key;
    step_ends(session, STEP_WITHIN).await;
    let quiet = session.quiet();
    let all = family(core, &gateway, &link, &key).await.map_err(failed)?;
    let cut = session.is_active() || all.iter().any(|member| member.key == key && member.is_active);
    abort(&gateway, &link, &key, true).await.map_err(failed)?;
    let mut living = stopped(core, &gateway, &link, &key).await.map_err(failed)?;
    if !living.is_empty() {
        for member in &living {
            abort(&gateway, &link, &member.key, true).await.map_err(failed)?;
        }
        living = stopped(core, &gateway, &link, &key).await.map_err(failed)?;
    }
    if !living.is_empty() {
        let doing = "pausing a session: the gateway says that it still runs".into();
        return Err(ProviderError::Failed { doing, source: None });
    }
    let fence = match all.first() {
        Some(own) => archive(&link, own).await,
        None => Err("the gateway does not list it".into()),
    };
    if let Err(why) = &fence {
        tracing::warn!(session_id = %session.id, why, "a session in a soft pause is not fenced");
    }
    look_once(&gateway, core, &link, session).await;
    for id in session.undelivered() {
        // Of what cannot be asked now, the gateway's history tells later.
        let found = look_for(&gateway, session, &id).await.ok().flatten();
        if found.is_some_and(|found| found.state == Delivery::Refused) {
            session.refuse_given(&id, "the soft pause came before the agent had begun with it; send it again");
        }
    }
    let (by, at, is_fenced) = (by.clone(), clock::now(), fence.is_ok());
    quiet.paused(Paused { by, at, cut, is_fenced, resume: None, is_over: false });
    Ok(())
}

/// Takes the fence away, and lets the agent go on.
pub(in crate::openclaw) async fn resume(
    core: &Arc<Core>,
    session: &Arc<Session>,
    by: &Operator,
) -> Result<(), ProviderError> {
    let Some(mut pause) = session.soft_pause() else { return Ok(()) };
    let gateway = gateway_of(core, session)?;
    let link = gateway.link().await?;
    let failed = |error| gateway.failed("resuming a session", error);
    let quiet = session.quiet();
    if pause.is_fenced {
        set_archived(&link, &session.birth().key, &session.generation(), false).await.map_err(failed)?;
        pause.is_fenced = false;
        session.resuming(pause.clone());
    }
    let mut run = None;
    // Whatever an operator has said meanwhile says how to go on.
    if pause.cut && !session.has_held_back() {
        let id = pause.resume.clone().unwrap_or_else(|| format!("{RESUME}{}", ulid::Ulid::new()));
        pause.resume = Some(id.clone());
        // On disk first: asked again, it is the same one, and arrives once.
        session.resuming(pause);
        let message = MessageId::new(&id).map_err(|error| ProviderError::Invalid(error.to_string()))?;
        send(&gateway, &link, session, &message, GO_ON, &InjectMode::Queue).await.map_err(failed)?;
        run = Some(id);
    }
    tracing::info!(session_id = %session.id, by = %by.name, "a soft pause has ended");
    quiet.resumed(run);
    gateway.look.notify_one();
    Ok(())
}
