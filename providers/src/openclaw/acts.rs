//! What operators do, in the gateway's own calls.
//!
//! Laws:
//! 1. A message is written down before it is sent, under its own id as the gateway's idempotency key: sent twice, it
//!    arrives once. Where nobody knows whether it arrived, the gateway's history and its waiting inputs are asked.
//! 2. What an operator types is text. A gateway that would take a word as a command (`stop`, `/reset`) and cannot be
//!    told otherwise does not get that word.
//! 3. A kill is believed when the gateway's rows say that neither the session nor a descendant has a run.

mod answer;
mod ending;
pub(super) mod soft;

use std::time::Duration;

use bus_schema::{Delivery, InjectMode, MessageId, SessionId, Status};
use serde_json::{Value, json};

use super::core::{Core, our_key};
use super::gateway::{CALL_WITHIN, Gateway};
use super::link::LinkError;
use super::record::Birth;
use super::rows::parts;
use super::session::Session;
use crate::clock;
use crate::provider::{InjectOutcome, OperatorMessage, ProviderError, SpawnRequest};

pub(super) use self::answer::answer;
pub(super) use self::ending::{kill, leave};

/// Between two looks whether something has come true.
const LOOK_AGAIN: Duration = Duration::from_millis(150);
/// What a message is told that waits where nothing can be steered into a turn.
const NO_STEERING: &str = "this gateway's release cannot put it into the turn that runs; it begins when that ends";
/// Phrases that end a run when they are the whole message (openclaw 2026.9.6, `abort-trigger-text`).
const STOP_WORDS: [&str; 43] = [
    "stop",
    "esc",
    "abort",
    "exit",
    "interrupt",
    "detente",
    "deten",
    "detén",
    "arrete",
    "arrête",
    "停止",
    "停下来",
    "暂停",
    "やめて",
    "止めて",
    "रुको",
    "توقف",
    "стоп",
    "остановись",
    "останови",
    "остановить",
    "прекрати",
    "halt",
    "anhalten",
    "aufhören",
    "hoer auf",
    "stopp",
    "pare",
    "stop openclaw",
    "openclaw stop",
    "stop action",
    "stop current action",
    "stop run",
    "stop current run",
    "stop agent",
    "stop the agent",
    "stop don't do anything",
    "stop dont do anything",
    "stop do not do anything",
    "stop doing anything",
    "do not do that",
    "please stop",
    "stop please",
];
/// What such a phrase may end with.
const PUNCTUATION: &str = ".!?！？…,，。;；:：'\"’”)]}";

/// The gateway of a session.
pub(super) fn gateway_of(core: &Core, session: &Session) -> Result<std::sync::Arc<Gateway>, ProviderError> {
    core.gateway(&session.birth().connection).ok_or_else(|| ProviderError::Unavailable {
        what: "the connection of this session is not set up any more".into(),
        source: None,
    })
}

/// True for a text that a gateway takes as an order to itself.
fn is_a_command(text: &str) -> bool {
    let text = text.trim().to_lowercase().replace(['’', '`'], "'");
    let text = text.trim_end_matches(|c| PUNCTUATION.contains(c)).split_whitespace().collect::<Vec<_>>().join(" ");
    text.starts_with('/') || STOP_WORDS.contains(&text.as_str())
}

fn outcome(state: Delivery, mode: Option<InjectMode>, reason: Option<&str>) -> InjectOutcome {
    InjectOutcome { state, mode, reason: reason.map(str::to_owned) }
}

/// Hands a message over.
pub(super) async fn inject(
    core: &Core,
    session: &Session,
    message: OperatorMessage,
) -> Result<InjectOutcome, ProviderError> {
    let gateway = gateway_of(core, session)?;
    let OperatorMessage { message_id, content, mode, .. } = message;
    if session.hold_back(&message_id) {
        let reason = "it is in a soft pause: the message is handed over when it is resumed".into();
        return Err(ProviderError::WrongState { status: Status::Paused, reason });
    }
    match session.given(&message_id) {
        Some(given) if given.outcome.is_some() => {
            return Ok(given.outcome.unwrap_or(outcome(Delivery::NotKnown, None, None)));
        }
        Some(_) => {
            if let Some(outcome) = look_for(&gateway, session, &message_id).await? {
                session.set_given(&message_id, outcome.clone());
                return Ok(outcome);
            }
        }
        None => {}
    }
    if let Some(client) = gateway.rest() {
        session.giving(&message_id, mode, &content);
        let outcome = client.send(&session.birth().key, &message_id, &content).await;
        session.set_given(&message_id, outcome.clone());
        return Ok(outcome);
    }
    let link = gateway.link().await?;
    session.giving(&message_id, mode.clone(), &content);
    let waits = gateway.quirks().no_queue_mode && session.is_active() && mode != InjectMode::Interrupt;
    let done = match send(&gateway, &link, session, &message_id, &content, &mode).await {
        Ok(answer) if answer.get("aborted").is_some() => {
            outcome(Delivery::Refused, None, Some("the gateway took it as an order to stop, and obeyed"))
        }
        Ok(_) if waits => outcome(Delivery::Written, Some(InjectMode::Queue), Some(NO_STEERING)),
        Ok(_) => outcome(Delivery::Written, None, None),
        Err(LinkError::Refused { code, message, .. }) if code != "UNAVAILABLE" => {
            outcome(Delivery::Refused, None, Some(&message))
        }
        // Not taken, or nobody knows: asked again, the same id arrives once.
        Err(error @ (LinkError::Refused { .. } | LinkError::Gone | LinkError::Deadline(_))) => {
            tracing::warn!(session_id = %session.id, %message_id, %error, "a message is not confirmed");
            match look_for(&gateway, session, &message_id).await {
                Ok(Some(outcome)) => outcome,
                Ok(None) => return Err(gateway.failed("handing a message over", error)),
                Err(_) => return Err(gateway.failed("handing a message over", error)),
            }
        }
        Err(error) => return Err(gateway.failed("handing a message over", error)),
    };
    session.set_given(&message_id, done.clone());
    gateway.look.notify_one();
    // It may have arrived while we were told that it will.
    Ok(session.given(&message_id).and_then(|given| given.outcome).unwrap_or(done))
}

async fn send(
    gateway: &Gateway,
    link: &super::link::Link,
    session: &Session,
    message_id: &MessageId,
    content: &str,
    mode: &InjectMode,
) -> Result<Value, LinkError> {
    let key = session.birth().key;
    // Two things may have to be learnt of an older release; the third attempt knows them.
    for _ in 0..3 {
        let quirks = gateway.quirks();
        if quirks.no_suppress && is_a_command(content) {
            let message = "this gateway's release would take the text as an order to itself (stop words, and whatever \
                           begins with /); word it differently"
                .to_owned();
            return Err(LinkError::Refused { code: "COMMAND".into(), detail: String::new(), message });
        }
        let mut params = json!({"sessionKey": key, "message": content, "idempotencyKey": message_id.as_str()});
        if let Some(params) = params.as_object_mut() {
            if !quirks.no_queue_mode {
                let mode = match mode {
                    InjectMode::Queue => "followup",
                    InjectMode::Interrupt => "interrupt",
                    InjectMode::Steer | InjectMode::Unknown(_) => "steer",
                };
                params.insert("queueMode".into(), mode.into());
            }
            if !quirks.no_suppress {
                params.insert("suppressCommandInterpretation".into(), true.into());
            }
        }
        if quirks.no_queue_mode && *mode == InjectMode::Interrupt && session.is_active() {
            // What an interrupt is there: the run is stopped, then the text begins another one.
            abort(gateway, link, &key, false).await?;
        }
        match link.call("chat.send", params, CALL_WITHIN).await {
            Err(error) if !quirks.no_queue_mode && error.is_unknown("queueMode") => {
                gateway.learn(|quirks| quirks.no_queue_mode = true);
            }
            Err(error) if !quirks.no_suppress && error.is_unknown("suppressCommandInterpretation") => {
                gateway.learn(|quirks| quirks.no_suppress = true);
            }
            other => return other,
        }
    }
    Err(LinkError::Refused {
        code: "VERSION".into(),
        detail: String::new(),
        message: "its release is not known".into(),
    })
}

/// Stops whatever runs in a session and in its descendants.
pub(super) async fn abort(
    gateway: &Gateway,
    link: &super::link::Link,
    key: &str,
    clears: bool,
) -> Result<Value, LinkError> {
    let quirks = gateway.quirks();
    if !quirks.no_abort {
        let mut params = json!({ "key": key });
        if let (true, false, Some(params)) = (clears, quirks.no_clear_queued, params.as_object_mut()) {
            params.insert("clearQueued".into(), true.into());
        }
        match link.call("sessions.abort", params.clone(), CALL_WITHIN).await {
            Err(error) if error.is_unknown("clearQueued") => {
                gateway.learn(|quirks| quirks.no_clear_queued = true);
                return link.call("sessions.abort", json!({ "key": key }), CALL_WITHIN).await;
            }
            Err(error) if error.is_unknown("sessions.abort") => gateway.learn(|quirks| quirks.no_abort = true),
            other => return other,
        }
    }
    link.call("chat.abort", json!({ "sessionKey": key }), CALL_WITHIN).await
}

/// How far a message came, from our record and, where that does not know, from the gateway's.
pub(super) async fn injection(
    core: &Core,
    session: &Session,
    message: &MessageId,
) -> Result<Option<InjectOutcome>, ProviderError> {
    match session.given(message) {
        None => Ok(None),
        Some(given) if given.outcome.is_some() => Ok(given.outcome),
        Some(_) => {
            let gateway = gateway_of(core, session)?;
            look_for(&gateway, session, message).await
        }
    }
}

/// Looks for a message in the history of its session and among its waiting inputs.
async fn look_for(
    gateway: &Gateway,
    session: &Session,
    message: &MessageId,
) -> Result<Option<InjectOutcome>, ProviderError> {
    if gateway.rest().is_some() {
        return Ok(None);
    }
    let params = json!({"sessionKey": session.birth().key, "limit": 200});
    let history = gateway.call("looking for a message", "chat.history", params).await?;
    let key = format!("{message}:user");
    let rows = history.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let is_it = |row: &Value| {
        let key_of = |pointer: &str| row.pointer(pointer).and_then(Value::as_str) == Some(key.as_str());
        key_of("/idempotencyKey") || key_of("/__openclaw/idempotencyKey")
    };
    if rows.iter().any(is_it) || session.holds_words(message, &parts(rows)) {
        return Ok(Some(outcome(Delivery::Taken, None, None)));
    }
    let waiting = history.pointer("/pendingInputs/items").and_then(Value::as_array).cloned().unwrap_or_default();
    let found = waiting.iter().find(|item| item.get("runId").and_then(Value::as_str) == Some(message.as_str()));
    Ok(found.map(|item| match item.get("state").and_then(Value::as_str) {
        Some("cancelled" | "interrupted") => outcome(Delivery::Refused, None, Some("it was withdrawn at the gateway")),
        _ => outcome(Delivery::Written, None, None),
    }))
}

/// Starts a session: on our disk first, then at the gateway, under a key that holds its id.
pub(super) async fn spawn(core: &Core, request: SpawnRequest) -> Result<std::sync::Arc<Session>, ProviderError> {
    let SpawnRequest { session_id, profile, parent_session_id, title, .. } = request;
    let gateway = choose(core, profile.gateway.as_deref())?;
    let agent = profile.agent.clone().unwrap_or_else(|| "main".into());
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if agent.is_empty() || !agent.chars().all(is_plain) {
        return Err(ProviderError::Invalid(format!("profile {:?}: agent {agent:?} is no agent's id", profile.name)));
    }
    if gateway.rest().is_some() {
        return Err(ProviderError::Invalid(
            "a gateway that only speaks REST cannot be asked to start a session".into(),
        ));
    }
    let link = gateway.link().await?;
    let title = title.or_else(|| profile.title.clone());
    let key = our_key(&agent, &session_id);
    let birth = Birth {
        session_id: session_id.clone(),
        connection: gateway.id().to_owned(),
        key: key.clone(),
        agent: agent.clone(),
        profile: Some(profile.name.clone()),
        title: title.clone(),
        parent: parent_session_id,
        at: clock::now(),
        since: None,
    };
    let session = core.begin(birth)?;
    session.note("gateway", gateway.connection.name.clone().into());
    match create(&link, &agent, &key, title.as_deref(), &session_id).await {
        Ok(mut made) => {
            // No run of it can be under way: nobody has said anything yet.
            let mut row = made.get_mut("entry").map(Value::take).unwrap_or_default();
            if let Some(row) = row.as_object_mut() {
                row.remove("label");
                row.insert("hasActiveRun".into(), false.into());
                if let Some(id) = made.get("sessionId") {
                    row.insert("sessionId".into(), id.clone());
                }
            }
            session.take_row(&row, true);
            Ok(session)
        }
        Err(error) => {
            if error.is_refusal() {
                core.withdraw(&session)?;
            }
            Err(gateway.failed("starting a session", error))
        }
    }
}

async fn create(
    link: &super::link::Link,
    agent: &str,
    key: &str,
    title: Option<&str>,
    id: &SessionId,
) -> Result<Value, LinkError> {
    let mut params = json!({"agentId": agent, "key": key});
    if let (Some(title), Some(params)) = (title, params.as_object_mut()) {
        // Labels are unique at a gateway; the end of the id makes them so.
        let tail = id.as_str().get(20..).unwrap_or_default();
        let title: String = title.chars().take(60).collect();
        params.insert("label".into(), format!("{title} {tail}").into());
    }
    link.call("sessions.create", params, CALL_WITHIN).await
}

/// The gateway a profile names, or the only one.
pub(super) fn choose(core: &Core, name: Option<&str>) -> Result<std::sync::Arc<Gateway>, ProviderError> {
    let mut all = core.gateways();
    let names: Vec<_> = all.iter().map(|gateway| gateway.connection.name.clone()).collect();
    if let Some(name) = name {
        let found = all.into_iter().find(|gateway| gateway.connection.name == name);
        return found.ok_or_else(|| {
            ProviderError::Invalid(format!("no gateway {name:?} is set up here; there are: {}", names.join(", ")))
        });
    }
    match (all.pop(), all.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(_), false) => {
            Err(ProviderError::Invalid(format!("the profile must name its gateway: one of {}", names.join(", "))))
        }
        (None, _) => Err(ProviderError::Invalid("no gateway is set up on this node".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_old_gateways_obey_are_known() {
        for text in ["stop", " Stop! ", "PLEASE   stop…", "/reset", "停止。", "stop don’t do anything"] {
            assert!(is_a_command(text), "{text}");
        }
        for text in ["stop the build and report", "what does /etc hold?", "", "go on"] {
            assert!(!is_a_command(text), "{text}");
        }
    }
}
