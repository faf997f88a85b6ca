//! The time of one connection: everything is looked at once, then whatever an event points to.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bus_schema::SessionId;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::events::{self, Wake};
use super::{CALL_WITHIN, Gateway, history, requests};
use crate::openclaw::acts::abort;
use crate::openclaw::core::{Core, ended};
use crate::openclaw::link::{Link, LinkError, Opened};
use crate::openclaw::record::RequestKind;
use crate::openclaw::rows::{Part, parts};
use crate::openclaw::session::Session;

/// Between two looks at everything, whatever was told.
const LOOK_EVERY: Duration = Duration::from_secs(300);
/// The same where a gateway tells too little of itself: without `sessions.subscribe`.
const POLL_EVERY: Duration = Duration::from_secs(5);
/// Between two looks at sessions whose rows had to wait for the node.
const STARVED_EVERY: Duration = Duration::from_secs(1);
/// Histories asked for at the same time.
const PULLS_MAX: usize = 4;
/// Sessions of one page of a list, and pages at most: whoever has more sees the youngest.
const PAGE: usize = 100;
const PAGES_MAX: usize = 10;

enum Done {
    Subscribed,
    Listed(Result<Listing, LinkError>),
    Pulled(Arc<Session>, Result<Value, LinkError>),
    Looked(Arc<Session>, Result<Value, LinkError>),
    Stopped(Result<(), LinkError>),
}

struct Listing {
    rows: Vec<Value>,
    is_whole: bool,
    requests: Vec<(RequestKind, Vec<Value>)>,
}

/// Sessions to be looked at, each once, and again if something happened meanwhile.
#[derive(Default)]
struct Pulls {
    /// True if it is to be looked at once more.
    running: HashMap<SessionId, bool>,
    waiting: Vec<Arc<Session>>,
    starved: Vec<Arc<Session>>,
}

/// Listens until the connection is lost; says why.
pub(super) async fn listen(gateway: &Arc<Gateway>, core: &Arc<Core>, opened: Opened) -> String {
    let Opened { link, mut events, lost, pump } = opened;
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let mut pumping = JoinSet::new();
    pumping.spawn(pump.run(stop));
    let mut work = JoinSet::new();
    let mut pulls = Pulls::default();
    let (mut is_listing, mut list_again) = (true, false);
    {
        let (link, gateway) = (link.clone(), gateway.clone());
        work.spawn(async move { subscribe(&gateway, &link).await });
    }
    let mut look = interval(LOOK_EVERY);
    let mut poll = interval(POLL_EVERY);
    let mut starved = interval(STARVED_EVERY);
    for timer in [&mut look, &mut poll, &mut starved] {
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        timer.reset();
    }
    let why = loop {
        let mut wants_list = false;
        tokio::select! {
            () = gateway.cancel.cancelled() => break "closed by us".to_owned(),
            why = pumping.join_next() => {
                break why.and_then(Result::ok).unwrap_or_else(|| "the connection's task has gone".into());
            }
            Some(event) = events.recv() => match events::take(gateway, core, &event) {
                Wake::Nothing => {}
                Wake::Session(session) => pulls.want(session),
                Wake::Everything => wants_list = true,
                Wake::Risen(key) => {
                    tracing::warn!(gateway = %gateway.connection.name, key, "what was killed works again; stopping it");
                    let (link, gateway) = (link.clone(), gateway.clone());
                    work.spawn(async move { Done::Stopped(abort(&gateway, &link, &key, true).await.map(|_| ())) });
                }
            },
            count = lost.happened() => {
                tracing::warn!(gateway = %gateway.connection.name, count, "events were lost; looking at everything");
                wants_list = true;
            }
            Some(done) = work.join_next() => match done {
                Ok(Done::Subscribed) => {
                    is_listing = false;
                    wants_list = true;
                }
                Ok(Done::Listed(listed)) => {
                    is_listing = false;
                    wants_list = std::mem::take(&mut list_again);
                    match listed {
                        Ok(listing) => {
                            gateway.link.send_replace(Some(link.clone()));
                            gateway.stands(core, None);
                            let (all, gone) = take_listing(gateway, core, listing);
                            all.into_iter().for_each(|session| pulls.want(session));
                            for session in gone {
                                let (link, gateway) = (link.clone(), gateway.clone());
                                work.spawn(async move { look_at(&gateway, &link, session).await });
                            }
                        }
                        Err(error @ LinkError::Gone) => break error.to_string(),
                        Err(error) => {
                            tracing::warn!(gateway = %gateway.connection.name, %error, "sessions cannot be listed");
                            // Too busy, or starting: the next poll asks again.
                            list_again = true;
                        }
                    }
                }
                Ok(Done::Pulled(session, pulled)) => {
                    let mut again = pulls.done(&session);
                    match pulled {
                        Ok(history) => {
                            let looked = take_history(core, &session, &history);
                            again |= looked.again;
                            if looked.is_full {
                                pulls.starved.push(session.clone());
                            }
                            if let Some(next) = looked.next {
                                pulls.want(next);
                            }
                        }
                        Err(error) => {
                            tracing::warn!(session_id = %session.id, %error, "no history of a session");
                            // Too busy, as a gateway is behind its start: asked again soon.
                            if !error.is_refusal() {
                                pulls.starved.push(session.clone());
                            }
                        }
                    }
                    if again {
                        pulls.want(session);
                    }
                }
                Ok(Done::Looked(session, looked)) => take_look(&session, looked),
                Ok(Done::Stopped(Ok(()))) => {}
                Ok(Done::Stopped(Err(error))) => {
                    tracing::error!(gateway = %gateway.connection.name, %error, "what was killed could not be stopped");
                }
                Err(error) => tracing::error!(%error, "a look at a gateway failed"),
            },
            () = gateway.look.notified() => wants_list = true,
            _ = look.tick() => wants_list = true,
            _ = poll.tick() => wants_list = list_again || gateway.quirks().no_subscribe,
            _ = starved.tick() => std::mem::take(&mut pulls.starved).into_iter().for_each(|s| pulls.want(s)),
        }
        if wants_list && is_listing {
            list_again = true;
        } else if wants_list {
            (is_listing, list_again) = (true, false);
            let (link, may_approve) = (link.clone(), link.hello.may("operator.approvals"));
            work.spawn(async move { Done::Listed(list(&link, may_approve).await) });
        }
        while let Some(session) = pulls.next() {
            let (link, gateway, of) = (link.clone(), gateway.clone(), session.clone());
            work.spawn(async move {
                let key = of.birth().key;
                let is_enough = |rows: &[Value]| of.knows_first(&parts(rows));
                Done::Pulled(session, history(&gateway, &link, &key, is_enough).await)
            });
        }
    };
    work.shutdown().await;
    why
}

impl Pulls {
    fn want(&mut self, session: Arc<Session>) {
        if session.ended_at().is_some() {
            return;
        }
        if let Some(again) = self.running.get_mut(&session.id) {
            *again = true;
        } else if !self.waiting.iter().any(|other| other.id == session.id) {
            self.waiting.push(session);
        }
    }

    fn next(&mut self) -> Option<Arc<Session>> {
        if self.running.len() >= PULLS_MAX || self.waiting.is_empty() {
            return None;
        }
        let session = self.waiting.remove(0);
        self.running.insert(session.id.clone(), false);
        Some(session)
    }

    fn done(&mut self, session: &Session) -> bool {
        self.running.remove(&session.id).unwrap_or(false)
    }
}

async fn subscribe(gateway: &Gateway, link: &Link) -> Done {
    if let Err(error) = link.call("sessions.subscribe", json!({}), CALL_WITHIN).await {
        let is_old = error.is_unknown("sessions.subscribe");
        gateway.learn(|quirks| quirks.no_subscribe = true);
        tracing::warn!(gateway = %gateway.connection.name, %error, is_old, "no subscription; polling instead");
    }
    Done::Subscribed
}

async fn list(link: &Link, may_approve: bool) -> Result<Listing, LinkError> {
    let mut rows = vec![];
    let mut is_whole = false;
    for page in 0..PAGES_MAX {
        let mut params = json!({"limit": PAGE});
        if let (true, Some(params)) = (page > 0, params.as_object_mut()) {
            params.insert("offset".into(), (page * PAGE).into());
        }
        let mut answer = link.call("sessions.list", params, CALL_WITHIN).await?;
        let has_more = answer.get("hasMore").and_then(Value::as_bool) == Some(true);
        if let Some(Value::Array(more)) = answer.get_mut("sessions").map(Value::take) {
            rows.extend(more);
        }
        if !has_more {
            // A release that does not say whether there is more, and gave a full page, may have more.
            is_whole = answer.get("hasMore").is_some() || rows.len() < PAGE;
            break;
        }
    }
    // Parents before their children.
    rows.sort_by_key(|row| row.get("spawnDepth").and_then(Value::as_u64).unwrap_or(0));
    let requests = if may_approve { requests::list(link).await } else { vec![] };
    Ok(Listing { rows, is_whole, requests })
}

/// The sessions to be looked at, and those that are not in the list any more.
fn take_listing(gateway: &Gateway, core: &Core, listing: Listing) -> (Vec<Arc<Session>>, Vec<Arc<Session>>) {
    let before = core.living(gateway.id());
    let rows = listing.rows.iter();
    let found: Vec<_> = rows.filter_map(|row| core.take_row(gateway.id(), row, false)).collect();
    let is_gone = |session: &Arc<Session>| {
        listing.is_whole && session.ended_at().is_none() && !found.iter().any(|other| other.id == session.id)
    };
    let gone = before.into_iter().filter(is_gone).collect();
    requests::take_list(gateway, core, listing.requests);
    (found, gone)
}

/// A session that is not in the list: where has it gone?
async fn look_at(gateway: &Gateway, link: &Link, session: Arc<Session>) -> Done {
    let key = session.birth().key;
    let answer = link.call("sessions.describe", json!({"key": key}), CALL_WITHIN).await;
    if answer.as_ref().is_err_and(|error| error.is_unknown("sessions.describe")) {
        gateway.learn(|quirks| quirks.no_describe = true);
        return Done::Looked(session, Ok(json!({"session": null})));
    }
    Done::Looked(session, answer)
}

fn take_look(session: &Session, looked: Result<Value, LinkError>) {
    let Ok(looked) = looked else { return };
    match looked.get("session") {
        // That it is archived, or begins to be, is our own doing.
        _ if session.is_ending() || session.is_soft_paused() => {}
        // One that is being started is not there yet.
        Some(Value::Null) if !session.generation().is_empty() => session.end(ended("deleted at the gateway")),
        Some(row) if row.get("archived").and_then(Value::as_bool) == Some(true) => {
            session.end(ended("archived at the gateway"));
        }
        _ => {}
    }
}

/// One look at a session, outside of the turn of things.
pub(in crate::openclaw) async fn look_once(gateway: &Gateway, core: &Core, link: &Link, session: &Arc<Session>) {
    let key = session.birth().key;
    match history(gateway, link, &key, |rows| session.knows_first(&parts(rows))).await {
        Ok(history) => {
            take_history(core, session, &history);
        }
        Err(error) => tracing::warn!(session_id = %session.id, %error, "no history of a session"),
    }
}

/// What a look at a history leads to.
#[derive(Default)]
struct Seen {
    /// The session that follows, if the conversation was begun anew.
    next: Option<Arc<Session>>,
    /// The rest waits for the node.
    is_full: bool,
    /// It has to be looked at once more.
    again: bool,
}

/// Tells what is new in a history.
fn take_history(core: &Core, session: &Arc<Session>, history: &Value) -> Seen {
    let rows = history.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let found: Vec<Part> = parts(rows);
    let taken = session.take_parts(found);
    let began_at = core.gateway(&session.birth().connection).and_then(|gateway| gateway.quirks().began_at);
    if let Some(began_at) = began_at.filter(|_| !taken.is_full) {
        session.lose_given(began_at);
    }
    let info = history.get("sessionInfo").filter(|info| info.is_object());
    if let Some(anew) = taken.anew {
        let birth = session.birth();
        let mut row = info.cloned().unwrap_or_else(|| json!({}));
        if let Some(row) = row.as_object_mut() {
            row.insert("key".into(), birth.key.into());
            row.entry("sessionId").or_insert_with(|| session.generation().into());
        }
        let next = core.begin_anew(session, &row);
        if let Some(next) = &next {
            next.take_parts(anew);
        }
        return Seen { next, ..Seen::default() };
    }
    if taken.is_open && session.is_missing_rows(history) {
        session.note(
            "olderMessages",
            "more than 1000 rows were missed; the oldest of them are only at the gateway".into(),
        );
    }
    if let Some(run) = history.get("inFlightRun") {
        let text = |key: &str| run.get(key).and_then(Value::as_str).unwrap_or_default();
        if !text("text").is_empty() {
            session.take_delta(text("runId"), text("text").to_owned());
        }
    }
    if taken.is_full {
        return Seen { is_full: true, ..Seen::default() };
    }
    let nothing = json!({});
    let info = info.unwrap_or(&nothing);
    let is_believed = session.believes(info);
    session.take_row(info, is_believed);
    Seen { again: !is_believed, ..Seen::default() }
}
