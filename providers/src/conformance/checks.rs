//! The checks, one function each. Each starts what it needs and leaves nothing behind when it passes.

use bus_schema::{Capability, Delivery, Status, TerminalSize};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::timeout;

use super::probe::{
    Checked, Probe, bad, broken, ensure, good, in_time, new_message_id, new_session_id, operator, request, says,
};
use super::{Bench, Law, Short};
use crate::provider::{AgentEvent, InjectOutcome, News, OperatorMessage, Position, ProviderError};

type Check = for<'a> fn(&'a Bench) -> BoxFuture<'a, Checked<()>>;

pub(super) const ALL: &[(&str, Check)] = &[
    ("health_is_told", |b| health_is_told(b).boxed()),
    ("a_session_is_known_until_forgotten", |b| a_session_is_known_until_forgotten(b).boxed()),
    ("an_unknown_session_is_unknown", |b| an_unknown_session_is_unknown(b).boxed()),
    ("the_same_events_every_time", |b| the_same_events_every_time(b).boxed()),
    ("a_silent_subscriber_hurts_only_itself", |b| a_silent_subscriber_hurts_only_itself(b).boxed()),
    ("what_cannot_be_done_is_refused", |b| what_cannot_be_done_is_refused(b).boxed()),
    ("a_message_is_handed_over_once", |b| a_message_is_handed_over_once(b).boxed()),
    ("a_pause_is_proven_and_told", |b| a_pause_is_proven_and_told(b).boxed()),
    ("a_kill_is_proven_and_told_last", |b| a_kill_is_proven_and_told_last(b).boxed()),
    ("a_terminated_session_is_killed", |b| a_terminated_session_is_killed(b).boxed()),
    ("an_ended_session_refuses", |b| an_ended_session_refuses(b).boxed()),
    ("sessions_outlive_the_provider", |b| sessions_outlive_the_provider(b).boxed()),
];

const UNKNOWN: (&str, fn(&ProviderError) -> bool) =
    ("UnknownSession", |e| matches!(e, ProviderError::UnknownSession(_)));
const WRONG_STATE: (&str, fn(&ProviderError) -> bool) =
    ("WrongState", |e| matches!(e, ProviderError::WrongState { .. }));
const NOT_CAPABLE: (&str, fn(&ProviderError) -> bool) =
    ("NotCapable with a reason", |e| matches!(e, ProviderError::NotCapable { reason, .. } if !reason.is_empty()));
const SIZE: TerminalSize = TerminalSize { cols: 100, rows: 30 };

async fn health_is_told(bench: &Bench) -> Checked<()> {
    let health = in_time(bench, "health", bench.provider.health()).await?;
    match health.error {
        None => Ok(()),
        Some(error) => broken(Law::Sessions, format!("it cannot be used: {error}")),
    }
}

async fn a_session_is_known_until_forgotten(bench: &Bench) -> Checked<()> {
    let probe = Probe::spawn(bench, &bench.talker).await?;
    let id = probe.id.clone();
    let again = request(id.clone(), &bench.talker);
    let again = good(bench, Law::Sessions, "spawn of the same id", bench.provider.spawn(again)).await?;
    ensure(again.session_id == id, Law::Sessions, || "a spawn of the same id gave another session".into())?;
    let all = good(bench, Law::Sessions, "sessions", bench.provider.sessions()).await?;
    let count = all.iter().filter(|info| info.session_id == id).count();
    ensure(count == 1, Law::Sessions, || format!("a live session is listed {count} times"))?;
    bad(bench, Law::Sessions, "forget of a live session", WRONG_STATE, bench.provider.forget(&id)).await?;
    probe.end().await?;
    bad(bench, Law::Sessions, "session after forget", UNKNOWN, bench.provider.session(&id)).await?;
    let all = good(bench, Law::Sessions, "sessions", bench.provider.sessions()).await?;
    ensure(all.iter().all(|info| info.session_id != id), Law::Sessions, || "a forgotten session is listed".into())
}

async fn an_unknown_session_is_unknown(bench: &Bench) -> Checked<()> {
    let (p, id, by, message_id) = (&bench.provider, new_session_id()?, operator()?, new_message_id()?);
    let message = OperatorMessage {
        message_id: message_id.clone(),
        operator: by.clone(),
        content: "x".into(),
        mode: Default::default(),
    };
    let law = Law::Sessions;
    bad(bench, law, "session", UNKNOWN, p.session(&id)).await?;
    bad(bench, law, "recent_messages", UNKNOWN, p.recent_messages(&id, 1)).await?;
    bad(bench, law, "subscribe", UNKNOWN, p.subscribe(&id, Position::default())).await?;
    bad(bench, law, "inject", UNKNOWN, p.inject(&id, message)).await?;
    bad(bench, law, "injection", UNKNOWN, p.injection(&id, &message_id)).await?;
    bad(bench, law, "pause", UNKNOWN, p.pause(&id, &by)).await?;
    bad(bench, law, "resume", UNKNOWN, p.resume(&id, &by)).await?;
    bad(bench, law, "terminate", UNKNOWN, p.terminate(&id, &by)).await?;
    bad(bench, law, "kill", UNKNOWN, p.kill(&id, &by)).await?;
    bad(bench, law, "terminal_input", UNKNOWN, p.terminal_input(&id, b"x", &by)).await?;
    bad(bench, law, "resize", UNKNOWN, p.resize(&id, SIZE)).await?;
    bad(bench, law, "terminal_snapshot", UNKNOWN, p.terminal_snapshot(&id)).await?;
    bad(bench, law, "forget", UNKNOWN, p.forget(&id)).await?;
    in_time(bench, "acknowledge", p.acknowledge(&id, Position::default())).await
}

/// Reads the events of a flood, from the start or from behind `from`, until its last message.
async fn read_flood(probe: &Probe<'_>, from: Position, count: usize) -> Checked<Vec<AgentEvent>> {
    let mut events = probe.subscribe(from).await?;
    let mut left = count;
    let done = |event: &AgentEvent| {
        left -= usize::from(matches!(event.news, News::Message(_)));
        (left == 0).then_some(())
    };
    Ok(probe.until(&mut events, Law::Positions, "the whole flood", done).await?.0)
}

async fn the_same_events_every_time(bench: &Bench) -> Checked<()> {
    let (profile, count) = &bench.flood;
    let probe = Probe::spawn(bench, profile).await?;
    let first: Vec<_> = kept(read_flood(&probe, Position::default(), *count).await?);
    for pair in first.windows(2) {
        if let [before, after] = pair
            && before.position >= after.position
        {
            return broken(Law::Positions, format!("{after:?} does not stand behind {before:?}"));
        }
    }
    let again = kept(read_flood(&probe, Position::default(), *count).await?);
    same(&first, &again, "from the beginning")?;

    // From the middle, and after the first half was acknowledged: exactly the rest.
    let half = first.len() / 2;
    let (Some(middle), Some(rest)) = (first.get(half.saturating_sub(1)), first.get(half..)) else {
        return broken(Law::Positions, format!("a flood of {count} messages gave {} events", first.len()));
    };
    let messages = rest.iter().filter(|event| matches!(event.news, News::Message(_))).count();
    same(rest, &kept(read_flood(&probe, middle.position, messages).await?), "from the middle")?;
    in_time(bench, "acknowledge", bench.provider.acknowledge(&probe.id, middle.position)).await?;
    same(rest, &kept(read_flood(&probe, middle.position, messages).await?), "behind what was acknowledged")?;
    probe.end().await
}

/// Deltas may be lost, and terminal output may be cut in other places.
fn kept(events: Vec<AgentEvent>) -> Vec<AgentEvent> {
    events.into_iter().filter(|event| !matches!(event.news, News::Delta(_) | News::Terminal(_))).collect()
}

fn same(expected: &[AgentEvent], seen: &[AgentEvent], from: &str) -> Checked<()> {
    let differ = expected.iter().zip(seen).find(|(a, b)| a != b);
    match differ {
        Some((a, b)) => broken(Law::Positions, format!("subscribed {from}: expected {a:?}, got {b:?}")),
        None if expected.len() > seen.len() => {
            broken(Law::Positions, format!("subscribed {from}: {} events instead of {}", seen.len(), expected.len()))
        }
        None => Ok(()),
    }
}

async fn a_silent_subscriber_hurts_only_itself(bench: &Bench) -> Checked<()> {
    let (profile, count) = &bench.flood;
    let flood = Probe::spawn(bench, profile).await?;
    let silent = flood.subscribe(Position::default()).await?;
    // Another session works as ever, and so does every call to the one that nobody reads.
    let other = Probe::spawn(bench, profile).await?;
    read_flood(&other, Position::default(), *count).await?;
    flood.info().await?;
    // Whoever begins to read has lost nothing.
    let mut silent = silent;
    let mut left = *count;
    let done = |event: &AgentEvent| {
        left -= usize::from(matches!(event.news, News::Message(_)));
        (left == 0).then_some(())
    };
    let read = kept(flood.until(&mut silent, Law::Wait, "the whole flood", done).await?.0);
    same(&read, &kept(read_flood(&flood, Position::default(), *count).await?), "after a silence")?;
    other.end().await?;
    flood.end().await
}

async fn what_cannot_be_done_is_refused(bench: &Bench) -> Checked<()> {
    let probe = Probe::spawn(bench, &bench.talker).await?;
    let can = probe.info().await?.capabilities;
    let (p, id, by) = (&bench.provider, &probe.id, &probe.by);
    for capability in Capability::ALL.iter().filter(|capability| !can.contains(capability)) {
        let doing = format!("{capability} of a session that does not offer it");
        let message = OperatorMessage {
            message_id: new_message_id()?,
            operator: by.clone(),
            content: "x".into(),
            mode: Default::default(),
        };
        let law = Law::Refuse;
        match capability {
            Capability::Inject => bad(bench, law, &doing, NOT_CAPABLE, p.inject(id, message)).await?,
            Capability::Pause => bad(bench, law, &doing, NOT_CAPABLE, p.pause(id, by)).await?,
            Capability::Resume => bad(bench, law, &doing, NOT_CAPABLE, p.resume(id, by)).await?,
            Capability::Terminate => bad(bench, law, &doing, NOT_CAPABLE, p.terminate(id, by)).await?,
            Capability::Kill => bad(bench, law, &doing, NOT_CAPABLE, p.kill(id, by)).await?,
            Capability::Terminal => bad(bench, law, &doing, NOT_CAPABLE, p.terminal_snapshot(id)).await?,
            Capability::Input => bad(bench, law, &doing, NOT_CAPABLE, p.terminal_input(id, b"x", by)).await?,
            Capability::Resize => bad(bench, law, &doing, NOT_CAPABLE, p.resize(id, SIZE)).await?,
            // Answered through a message; there is no call that could be refused.
            Capability::Approve | Capability::Unknown(_) => {}
        }
    }
    probe.end().await
}

/// Injects a line and waits until the agent has said it.
async fn say(probe: &Probe<'_>, text: &str) -> Checked<()> {
    let mut events = probe.subscribe(Position::default()).await?;
    probe.inject(&new_message_id()?, text).await?;
    let told = |event: &AgentEvent| says(event, text).then_some(());
    probe.until(&mut events, Law::Once, "the answer to a line", told).await.map(|_| ())
}

async fn a_message_is_handed_over_once(bench: &Bench) -> Checked<()> {
    let probe = Probe::spawn(bench, &bench.talker).await?;
    probe.needs(&Capability::Inject).await?;
    let mut events = probe.subscribe(Position::default()).await?;
    let (first, last) = (new_message_id()?, new_message_id()?);
    let asked = good(bench, Law::Once, "injection", bench.provider.injection(&probe.id, &first)).await?;
    ensure(asked.is_none(), Law::Once, || format!("a message that was never given is {asked:?}"))?;
    let outcome = probe.inject(&first, "first-line").await?;
    ensure(arrived(&outcome), Law::Once, || format!("a line to a live agent is {outcome:?}"))?;
    probe.inject(&first, "first-line").await?;
    let asked = good(bench, Law::Once, "injection", bench.provider.injection(&probe.id, &first)).await?;
    let known = asked.as_ref().is_some_and(arrived);
    ensure(known, Law::Once, || format!("a message that was handed over is {asked:?}"))?;
    probe.inject(&last, "last-line").await?;
    let told = |event: &AgentEvent| says(event, "last-line").then_some(());
    let (read, ()) = probe.until(&mut events, Law::Once, "the answer to the last line", told).await?;
    let times = read.iter().filter(|event| says(event, "first-line")).count();
    ensure(times == 1, Law::Once, || format!("a line injected twice under one id was said {times} times"))?;
    let recent = good(bench, Law::Sessions, "recent_messages", bench.provider.recent_messages(&probe.id, 1)).await?;
    let fits = recent.len() == 1 && recent.iter().all(|draft| draft.content.contains("last-line"));
    ensure(fits, Law::Sessions, || format!("the last message is {recent:?}"))?;
    probe.end().await
}

fn arrived(outcome: &InjectOutcome) -> bool {
    matches!(outcome.state, Delivery::Written | Delivery::Taken | Delivery::NotKnown)
}

async fn a_pause_is_proven_and_told(bench: &Bench) -> Checked<()> {
    let probe = Probe::spawn(bench, &bench.talker).await?;
    probe.needs(&Capability::Pause).await?;
    probe.needs(&Capability::Inject).await?;
    say(&probe, "before-pause").await?;
    let (p, id, by) = (&bench.provider, &probe.id, &probe.by);
    let mut events = probe.subscribe(Position::default()).await?;
    for doing in ["pause", "pause of a paused session"] {
        good(bench, Law::Proof, doing, p.pause(id, by)).await?;
    }
    let status = probe.info().await?.status;
    ensure(status == Status::Paused, Law::Proof, || format!("a paused session is {status}"))?;
    let paused = |e: &AgentEvent| matches!(&e.news, News::Status { status: Status::Paused, .. }).then_some(());
    probe.until(&mut events, Law::Proof, "the pause", paused).await?;

    // A line given to a frozen agent is not answered until it goes on. The injection may wait for that too.
    let message_id = new_message_id()?;
    let inject = probe.inject(&message_id, "while-paused");
    let watch = async {
        let quiet = bench.deadline.min(std::time::Duration::from_millis(500));
        let spoken = timeout(quiet, async {
            while let Some(event) = events.recv().await {
                if says(&event, "while-paused") {
                    return true;
                }
            }
            false
        });
        let spoken = spoken.await.unwrap_or(false);
        ensure(!spoken, Law::Proof, || "an agent spoke while it was paused".into())?;
        for doing in ["resume", "resume of one that is not paused"] {
            good(bench, Law::Proof, doing, p.resume(id, by)).await?;
        }
        let status = probe.info().await?.status;
        ensure(status != Status::Paused, Law::Proof, || "a resumed session is paused".into())?;
        let mut events = probe.subscribe(Position::default()).await?;
        let mut was_paused = false;
        let resumed = |e: &AgentEvent| match &e.news {
            News::Status { status: Status::Paused, .. } => {
                was_paused = true;
                None
            }
            News::Status { .. } => was_paused.then_some(()),
            _ => None,
        };
        probe.until(&mut events, Law::Proof, "the resume", resumed).await
    };
    let (injected, watched) = futures::join!(inject, watch);
    injected?;
    watched?;
    say(&probe, "after-pause").await?;
    probe.end().await
}

async fn a_kill_is_proven_and_told_last(bench: &Bench) -> Checked<()> {
    let probe = Probe::spawn(bench, &bench.talker).await?;
    probe.needs(&Capability::Kill).await?;
    let mut events = probe.subscribe(Position::default()).await?;
    let report = good(bench, Law::Proof, "kill", bench.provider.kill(&probe.id, &probe.by)).await?;
    ensure(report.survivors.is_empty(), Law::Proof, || format!("a kill left {:?}", report.survivors))?;
    let ended = |event: &AgentEvent| match &event.news {
        News::Ended(end) => Some(end.clone()),
        _ => None,
    };
    let (_, end) = probe.until(&mut events, Law::End, "the end", ended).await?;
    ensure(end.status == Status::Killed, Law::End, || format!("a killed session ended as {}", end.status))?;
    let more = in_time(bench, "the end of the events", events.recv()).await?;
    ensure(more.is_none(), Law::End, || format!("after the end came {more:?}"))?;
    let status = probe.info().await?.status;
    ensure(status == Status::Killed, Law::End, || format!("a killed session is {status}"))?;
    probe.end().await
}

async fn a_terminated_session_is_killed(bench: &Bench) -> Checked<()> {
    let probe = Probe::spawn(bench, &bench.talker).await?;
    probe.needs(&Capability::Terminate).await?;
    let mut events = probe.subscribe(Position::default()).await?;
    good(bench, Law::Proof, "terminate", bench.provider.terminate(&probe.id, &probe.by)).await?;
    let ended = |event: &AgentEvent| match &event.news {
        News::Ended(end) => Some(end.status.clone()),
        _ => None,
    };
    let (_, status) = probe.until(&mut events, Law::End, "the end", ended).await?;
    ensure(status == Status::Killed, Law::End, || format!("a session that was asked to end ended as {status}"))?;
    probe.end().await
}

async fn an_ended_session_refuses(bench: &Bench) -> Checked<()> {
    let probe = Probe::spawn(bench, &bench.talker).await?;
    probe.needs(&Capability::Kill).await?;
    let can = probe.info().await?.capabilities;
    let (p, id, by) = (&bench.provider, &probe.id, &probe.by);
    good(bench, Law::Proof, "kill", p.kill(id, by)).await?;
    let mut events = probe.subscribe(Position::default()).await?;
    let ended = |event: &AgentEvent| matches!(event.news, News::Ended(_)).then_some(());
    probe.until(&mut events, Law::End, "the end", ended).await?;
    let message = OperatorMessage {
        message_id: new_message_id()?,
        operator: by.clone(),
        content: "x".into(),
        mode: Default::default(),
    };
    if can.contains(&Capability::Inject) {
        bad(bench, Law::Refuse, "inject into an ended session", WRONG_STATE, p.inject(id, message)).await?;
    }
    if can.contains(&Capability::Pause) {
        bad(bench, Law::Refuse, "pause of an ended session", WRONG_STATE, p.pause(id, by)).await?;
    }
    bad(bench, Law::Refuse, "kill of an ended session", WRONG_STATE, p.kill(id, by)).await?;
    probe.end().await
}

async fn sessions_outlive_the_provider(bench: &Bench) -> Checked<()> {
    let Some(reopen) = &bench.reopen else {
        return Err(Short::NotApplicable("its sessions end with it".into()));
    };
    let probe = Probe::spawn(bench, &bench.talker).await?;
    probe.needs(&Capability::Inject).await?;
    let message_id = new_message_id()?;
    let mut events = probe.subscribe(Position::default()).await?;
    probe.inject(&message_id, "before-restart").await?;
    let told = |event: &AgentEvent| says(event, "before-restart").then_some(());
    let (before, ()) = probe.until(&mut events, Law::Positions, "the answer to a line", told).await?;
    drop(events);

    let provider = reopen().await;
    let new = Bench { provider, talker: bench.talker.clone(), flood: bench.flood.clone(), reopen: None, ..*bench };
    let again = Probe { bench: &new, id: probe.id.clone(), by: probe.by.clone() };
    let asked = good(&new, Law::Once, "injection", new.provider.injection(&again.id, &message_id)).await?;
    ensure(asked.as_ref().is_some_and(arrived), Law::Once, || format!("after a restart a message is {asked:?}"))?;
    again.inject(&message_id, "before-restart").await?;
    let mut events = again.subscribe(Position::default()).await?;
    again.inject(&new_message_id()?, "after-restart").await?;
    let told = |event: &AgentEvent| says(event, "after-restart").then_some(());
    let (after, ()) = again.until(&mut events, Law::Positions, "the answer to a line", told).await?;
    let (before, after) = (kept(before), kept(after));
    same(&before, &after, "after a restart")?;
    let times = after.iter().filter(|event| says(event, "before-restart")).count();
    ensure(times == 1, Law::Once, || format!("over a restart a line was said {times} times"))?;
    again.end().await
}
