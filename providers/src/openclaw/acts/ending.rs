//! The end of a session at a gateway: abort, verify, fence, tell.
//!
//! ```text
//! kill       abort (with descendants, queued inputs withdrawn) ─► verify ─► abort what still runs ─► verify ─► archive
//! terminate  idle: as kill · at work: wait for the end of the step, at most so long, then as kill
//! ```
//!
//! Why archive: to the mesh `killed` is for ever, and to a gateway an aborted conversation goes on with the next
//! message. Archived, it takes none; somebody who restores it there begins a new session here. An agent's main session
//! cannot be archived: it stays open, and is a new session here once it works again.

use std::sync::Arc;
use std::time::Duration;

use bus_schema::{EndReport, EndStep, EndedProcess, Operator, Status};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{LOOK_AGAIN, abort, gateway_of};
use crate::clock;
use crate::openclaw::core::Core;
use crate::openclaw::gateway::{CALL_WITHIN, Gateway, look_once};
use crate::openclaw::link::{Link, LinkError};
use crate::openclaw::session::Session;
use crate::provider::{End, ProviderError};

/// How long the gateway may take to have stopped everything, each of two times (measured: 45 to 200 ms).
const STOPPED_WITHIN: Duration = Duration::from_secs(6);
/// How long a step may take to end by itself before it is ended.
const STEP_WITHIN: Duration = Duration::from_secs(30);
/// Sessions looked at for descendants; the gateway gives the youngest first.
const ROWS: usize = 500;

/// One session in the family of the one that ends.
pub(super) struct Member {
    pub key: String,
    pub generation: Option<String>,
    pub is_active: bool,
}

struct Steps(Vec<EndStep>);

impl Steps {
    fn add(&mut self, step: &str, detail: impl Into<String>) {
        self.0.push(EndStep { step: step.into(), at: clock::now(), detail: detail.into() });
    }
}

/// Ends a session and its descendants, and proves it.
pub(in crate::openclaw) async fn kill(
    core: &Arc<Core>,
    session: &Arc<Session>,
    by: &Operator,
) -> Result<EndReport, ProviderError> {
    let gateway = gateway_of(core, session)?;
    let link = gateway.link().await?;
    let key = session.birth().key;
    let failed = |error| gateway.failed("killing a session", error);
    let mut steps = Steps(vec![]);

    let before = family(core, &gateway, &link, &key).await.map_err(failed)?;
    let ours: Vec<_> = before.iter().map(|member| ours_of(core, &gateway, session, member)).collect();
    let _ending = Ending::of(&ours);
    abort(&gateway, &link, &key, true).await.map_err(failed)?;
    steps.add("abort", format!("{} and its descendants: {}", key, before.len().saturating_sub(1)));
    let mut living = stopped(core, &gateway, &link, &key).await.map_err(failed)?;
    if !living.is_empty() {
        for member in &living {
            abort(&gateway, &link, &member.key, true).await.map_err(failed)?;
            steps.add("abort", format!("{} once more", member.key));
        }
        living = stopped(core, &gateway, &link, &key).await.map_err(failed)?;
    }
    steps.add(
        "verify",
        format!("{} of {} have no run any more", before.len().saturating_sub(living.len()), before.len()),
    );
    for of in ours.iter().flatten() {
        // What it said last, before nothing more is taken.
        look_once(&gateway, core, &link, of).await;
    }
    for member in before.iter().filter(|member| !living.iter().any(|l| l.key == member.key)) {
        match archive(&link, member).await {
            Ok(()) => steps.add("archive", member.key.clone()),
            Err(why) => steps.add("archive", format!("{} stays open: {why}", member.key)),
        }
    }
    let host = match core.held.alive(gateway.id()).await {
        Some(id) => format!("they end with it, which is session {id} of this node"),
        None => "only its host can end them".to_owned(),
    };
    let what = "processes that the agent's exec tool left in the background are the gateway's";
    steps.add("beyond reach", format!("{what}: {host}"));
    let process = |key: &str| EndedProcess { pid: 0, name: key.to_owned() };
    let report = EndReport {
        containment: "gateway".into(),
        steps: steps.0,
        ended: before.iter().filter(|member| member.is_active).map(|member| process(&member.key)).collect(),
        survivors: living.iter().map(|member| process(&member.key)).collect(),
    };
    if living.iter().any(|member| member.key == key) {
        let doing = "killing a session: the gateway says that it still runs; restart the gateway".into();
        return Err(ProviderError::Failed { doing, source: None });
    }
    for (member, of) in before.iter().zip(&ours).rev() {
        let Some(of) = of.as_ref().filter(|_| !living.iter().any(|l| l.key == member.key)) else { continue };
        let reason = if of.id == session.id { "killed" } else { "killed with the session that started it," };
        of.end(End {
            status: Status::Killed,
            reason: format!("{reason} by {}", by.name),
            exit_code: None,
            error: None,
            report: Some(report.clone()),
        });
    }
    Ok(report)
}

/// Our living session of a member.
fn ours_of(core: &Core, gateway: &Gateway, session: &Arc<Session>, member: &Member) -> Option<Arc<Session>> {
    if member.key == session.birth().key {
        return Some(session.clone());
    }
    core.by_key(gateway.id(), &member.key).filter(|of| of.ended_at().is_none())
}

/// Holds the sessions as being ended by us, until it is dropped.
struct Ending(Vec<Arc<Session>>);

impl Ending {
    fn of(sessions: &[Option<Arc<Session>>]) -> Self {
        let sessions: Vec<_> = sessions.iter().flatten().cloned().collect();
        sessions.iter().for_each(|session| session.set_ending(true));
        Self(sessions)
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.iter().for_each(|session| session.set_ending(false));
    }
}

/// Lets a session finish its step, then ends it. The body of a task.
pub(in crate::openclaw) async fn leave(core: Arc<Core>, session: Arc<Session>, by: Operator) {
    step_ends(&session, STEP_WITHIN).await;
    // A gateway that is away comes back; the wish stands until it is fulfilled or nobody is there to fulfil it.
    while session.ended_at().is_none() {
        match kill(&core, &session, &by).await {
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(session_id = %session.id, %error, "a session that was asked to end does not yet");
                sleep(Duration::from_secs(2)).await;
            }
        }
    }
}

/// Waits until the step under way has ended, or the run, or the time is up.
pub(super) async fn step_ends(session: &Session, within: Duration) {
    let (mut changed, steps) = (session.changed(), session.steps());
    let boundary = async {
        while session.is_active() && session.steps() == steps && session.ended_at().is_none() {
            if changed.changed().await.is_err() {
                return;
            }
        }
    };
    // That the time is up is as good a reason.
    let _ = tokio::time::timeout(within, boundary).await;
}

/// The session and all that descend from it by `spawnedBy`, itself first.
pub(super) async fn family(core: &Core, gateway: &Gateway, link: &Link, key: &str) -> Result<Vec<Member>, LinkError> {
    let answer = link.call("sessions.list", json!({ "limit": ROWS }), CALL_WITHIN).await?;
    let rows = answer.get("sessions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let text = |row: &Value, name: &str| row.get(name).and_then(Value::as_str).map(str::to_owned);
    let member = |row: &Value| {
        let is_active = match row.get("hasActiveRun").and_then(Value::as_bool) {
            Some(is_active) => is_active,
            // Older releases tell only this, or nothing but the beginning and the end of runs.
            None => {
                let ours = text(row, "key").and_then(|key| core.by_key(gateway.id(), &key));
                row.get("status").and_then(Value::as_str) == Some("running") || ours.is_some_and(|of| of.has_run())
            }
        };
        Some(Member { key: text(row, "key")?, generation: text(row, "sessionId"), is_active })
    };
    let own = rows.iter().find(|row| text(row, "key").as_deref() == Some(key)).and_then(member);
    let mut all = vec![own.unwrap_or(Member { key: key.to_owned(), generation: None, is_active: false })];
    let mut at = 0;
    while let Some(parent) = all.get(at).map(|member| member.key.clone()) {
        for row in rows.iter().filter(|row| text(row, "spawnedBy").as_deref() == Some(parent.as_str())) {
            if let Some(child) = member(row).filter(|child| !all.iter().any(|known| known.key == child.key)) {
                all.push(child);
            }
        }
        at += 1;
    }
    Ok(all)
}

/// Waits until none of the family has a run. Those that still have one when the time is up.
pub(super) async fn stopped(core: &Core, gateway: &Gateway, link: &Link, key: &str) -> Result<Vec<Member>, LinkError> {
    let until = Instant::now() + STOPPED_WITHIN;
    loop {
        let mut living = family(core, gateway, link, key).await?;
        living.retain(|member| member.is_active);
        // Asked anew each time: a child may have been born while we looked, and is to be stopped too.
        if living.is_empty() || Instant::now() >= until {
            return Ok(living);
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// Fences a conversation against further input.
pub(super) async fn archive(link: &Link, member: &Member) -> Result<(), String> {
    let Some(generation) = &member.generation else { return Err("the gateway does not list it".into()) };
    set_archived(link, &member.key, generation, true).await.map_err(|error| error.to_string())
}

/// Puts up the fence, or takes it away: of this generation of the conversation, which must be named (2026.9.6).
pub(super) async fn set_archived(link: &Link, key: &str, generation: &str, archived: bool) -> Result<(), LinkError> {
    let params = json!({"key": key, "archived": archived, "expectedSessionId": generation});
    match link.call("sessions.patch", params, CALL_WITHIN).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_unknown("expectedSessionId") => {
            let params = json!({"key": key, "archived": archived});
            link.call("sessions.patch", params, CALL_WITHIN).await.map(|_| ())
        }
        Err(error) => Err(error),
    }
}
