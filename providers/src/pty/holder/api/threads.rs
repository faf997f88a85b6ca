//! The threads that talk to an agent's API: one listens, one asks. They know no conversation; what they hear goes to the
//! loop, which they wake.
//!
//! Laws:
//! 1. Subscribed first, read second: behind every new connection comes what there is, then what happens.
//! 2. A full queue makes the listener wait, and so the agent's own stream; nothing is dropped here.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use bus_schema::MessageId;
use serde_json::{Value, json};

use super::http::{Address, ApiError};

/// Events that wait for the loop.
pub(super) const HEARD_QUEUE: usize = 256;
/// Things to do that wait: fewer people act at once.
pub(super) const ACTS_QUEUE: usize = 64;
/// Between two tries to connect.
const AGAIN: Duration = Duration::from_millis(300);
/// How much of a conversation is read again behind a new connection.
const RECENT: usize = 200;
/// How long an agent may take to stop its turn.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Sessions of one agent that are known.
const MAX_SESSIONS: usize = 1000;

/// What was heard.
pub(super) enum Heard {
    /// Connected: its sessions that work, and what it asks.
    Open { status: Value, permissions: Value },
    /// A session as it is.
    Session { info: Value, messages: Value },
    /// Something happened.
    Event(Value),
    /// The connection is gone.
    Closed,
    /// A message was handed over, in this session, or not.
    Prompted { message_id: MessageId, result: Result<String, Trouble> },
}

/// Why something was not done.
pub(super) struct Trouble {
    /// True if it may have been done all the same.
    pub perhaps: bool,
    /// Why.
    pub reason: String,
}

/// What is to be done.
pub(super) enum Act {
    /// Hand over a message; without a session, in one that is made for it and shown.
    Prompt { message_id: MessageId, session: Option<String>, agent: Option<String>, text: String, interrupt: bool },
    /// Open this session at the terminal.
    Show { session: String },
    /// Answer a request for leave.
    Reply { permission: String, reply: String, message: Option<String> },
}

/// The way to the loop.
#[derive(Clone)]
pub(super) struct Teller {
    pub heard: SyncSender<Heard>,
    pub wake: Arc<OwnedFd>,
}

impl Teller {
    /// False once nobody listens.
    fn tell(&self, heard: Heard) -> bool {
        let told = self.heard.send(heard).is_ok();
        // If that fails, it is awake already.
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
        told
    }
}

/// Listens until nobody wants to hear.
pub(super) fn listen(address: &Address, teller: &Teller) {
    let mut known = BTreeSet::new();
    loop {
        let is_wanted = follow(address, teller, &mut known).unwrap_or(true) && teller.tell(Heard::Closed);
        if !is_wanted {
            return;
        }
        std::thread::sleep(AGAIN);
    }
}

/// Follows one connection. `Ok(false)` if nobody wants to hear.
fn follow(address: &Address, teller: &Teller, known: &mut BTreeSet<String>) -> Result<bool, ApiError> {
    let mut events = address.events("/event")?;
    for session in known.clone() {
        if !catch_up(address, teller, &session)? {
            return Ok(false);
        }
    }
    let status = address.call("GET", "/session/status", None)?;
    for session in status.as_object().into_iter().flatten().map(|(session, _)| session) {
        if remember(known, session) && !catch_up(address, teller, session)? {
            return Ok(false);
        }
    }
    let permissions = address.call("GET", "/permission", None)?;
    if !teller.tell(Heard::Open { status, permissions }) {
        return Ok(false);
    }
    loop {
        let event = events.next().map_err(ApiError::Silent)?;
        let session = event.pointer("/properties/sessionID").and_then(Value::as_str);
        let is_new = session.is_some_and(|session| remember(known, session));
        let is_created = event.get("type").and_then(Value::as_str) == Some("session.created");
        if let Some(session) = session.filter(|_| is_new && !is_created)
            && !catch_up(address, teller, session)?
        {
            return Ok(false);
        }
        if !teller.tell(Heard::Event(event)) {
            return Ok(false);
        }
    }
}

fn remember(known: &mut BTreeSet<String>, session: &str) -> bool {
    known.len() < MAX_SESSIONS && known.insert(session.into())
}

/// Reads a session as it is. One that is gone is none.
fn catch_up(address: &Address, teller: &Teller, session: &str) -> Result<bool, ApiError> {
    let path = format!("/session/{session}");
    let read = |path: &str| match address.call("GET", path, None) {
        Err(ApiError::Refused(..)) => Ok(Value::Null),
        other => other,
    };
    let info = read(&path)?;
    let messages = read(&format!("{path}/message?limit={RECENT}"))?;
    Ok(info.is_null() || teller.tell(Heard::Session { info, messages }))
}

/// Does what is to be done, one after the other.
pub(super) fn act(address: &Address, acts: &Receiver<Act>, teller: &Teller) {
    while let Ok(act) = acts.recv() {
        match act {
            Act::Prompt { message_id, session, agent, text, interrupt } => {
                let result = prompt(address, session, agent, &text, interrupt).map_err(|error| {
                    let perhaps = matches!(error, ApiError::Silent(_));
                    Trouble { perhaps, reason: error.to_string() }
                });
                if !teller.tell(Heard::Prompted { message_id, result }) {
                    return;
                }
            }
            // Whether it shows, is seen on the screen.
            Act::Show { session } => drop(show(address, &session)),
            Act::Reply { permission, reply, message } => {
                let mut body = json!({"reply": reply});
                if let (Some(message), Some(body)) = (message, body.as_object_mut()) {
                    body.insert("message".into(), message.into());
                }
                // Whether it took effect is seen by what the agent says, not by the answer.
                let _ = address.call("POST", &format!("/permission/{permission}/reply"), Some(&body));
            }
        }
    }
}

/// Hands a message over. Only the last step can have been taken without our knowing.
fn prompt(
    address: &Address,
    session: Option<String>,
    agent: Option<String>,
    text: &str,
    interrupt: bool,
) -> Result<String, ApiError> {
    let before = |error| match error {
        ApiError::Silent(source) => ApiError::Away(source),
        other => other,
    };
    let session = match session {
        Some(session) => session,
        None => {
            let made = address.call("POST", "/session", Some(&json!({}))).map_err(before)?;
            let session = made.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
            // If the terminal does not show it, the message is handed over all the same.
            let _ = show(address, &session);
            session
        }
    };
    if interrupt {
        address.call("POST", &format!("/session/{session}/abort"), None).map_err(before)?;
        let until = Instant::now() + STOP_WITHIN;
        while Instant::now() < until && is_busy(address, &session).map_err(before)? {
            std::thread::sleep(AGAIN);
        }
    }
    let mut body = json!({"parts": [{"type": "text", "text": text}]});
    if let (Some(agent), Some(body)) = (agent, body.as_object_mut()) {
        body.insert("agent".into(), agent.into());
    }
    address.call("POST", &format!("/session/{session}/prompt_async"), Some(&body))?;
    Ok(session)
}

fn show(address: &Address, session: &str) -> Result<Value, ApiError> {
    address.call("POST", "/tui/select-session", Some(&json!({"sessionID": session})))
}

fn is_busy(address: &Address, session: &str) -> Result<bool, ApiError> {
    let all = address.call("GET", "/session/status", None)?;
    let status = all.get(session).and_then(|status| status.get("type")).and_then(Value::as_str);
    Ok(status.is_some_and(|status| status != "idle"))
}
