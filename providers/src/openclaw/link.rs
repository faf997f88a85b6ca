//! One WebSocket to a gateway: handshake, calls and their answers, events in their order.
//!
//! Laws:
//! 1. Every call has a deadline, and every call is answered when the socket is gone.
//! 2. Reading never waits for whoever handles the events: what does not fit is dropped, counted, and [`Lost`] says that
//!    everything is to be looked at again. Nothing that must be kept comes from events alone.
//! 3. A frame number that is skipped, and silence over two ticks, end in the same: look again, or connect again.
//! 4. The token is in no error.

mod handshake;
mod tls;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;

pub(super) use self::handshake::{Endpoint, Hello, SCOPES, open, read_hello};

pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Calls on their way to the socket; whoever calls waits.
const CALL_QUEUE: usize = 32;
/// Calls without an answer yet. The gateway refuses several hundred at once.
const CALLS_OPEN: usize = 128;
/// Events on their way to their handler, which does not wait for anything: some seconds of a busy gateway.
const EVENT_QUEUE: usize = 2_048;
/// How long one frame may take to be written.
const WRITE_WITHIN: Duration = Duration::from_secs(10);

/// Why there is no connection, or why a call went wrong.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The address makes no sense.
    #[error("the address of the gateway is not one: {0}")]
    Address(String),
    /// Nobody answers.
    #[error("nobody answers at {at}")]
    Unreachable {
        /// Where.
        at: String,
        /// Why.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The encryption could not be set up.
    #[error("no encrypted connection to {at}: {what}")]
    Tls {
        /// Where.
        at: String,
        /// What went wrong.
        what: String,
    },
    /// Somebody answers, and not as a gateway does.
    #[error("what answers at {at} is not an OpenClaw gateway: {what}")]
    NotAGateway {
        /// Where.
        at: String,
        /// What was seen.
        what: String,
    },
    /// It does not let us in.
    #[error("the gateway does not let us in: {0}")]
    Unauthorized(String),
    /// It lets us in, and not to what is needed.
    #[error("the gateway does not let us do what is needed: {0}")]
    Forbidden(String),
    /// The versions do not understand each other.
    #[error("the gateway speaks another version of the protocol: {0}")]
    Version(String),
    /// It is starting.
    #[error("the gateway is not ready yet")]
    NotReady,
    /// It said no to a call.
    #[error("the gateway refuses: {message} ({code})")]
    Refused {
        /// For programs.
        code: String,
        /// For programs, finer: `details.reason` or `details.code`.
        detail: String,
        /// For people.
        message: String,
    },
    /// The connection is gone; what was asked may have been done.
    #[error("the connection to the gateway was lost")]
    Gone,
    /// No answer in time; what was asked may have been done.
    #[error("the gateway did not answer within {0:?}")]
    Deadline(Duration),
}

impl LinkError {
    /// True if the gateway turned the call down, so that nothing has changed.
    pub fn is_refusal(&self) -> bool {
        matches!(self, LinkError::Refused { code, .. } if code != "UNAVAILABLE")
    }

    /// True if the refusal names this parameter or method as unknown.
    pub fn is_unknown(&self, word: &str) -> bool {
        let LinkError::Refused { code, message, .. } = self else { return false };
        let unknown = ["unexpected property", "unknown method", "additional properties"];
        code == "INVALID_REQUEST" && message.contains(word) && unknown.iter().any(|u| message.contains(u))
    }
}

/// Something the gateway tells by itself.
#[derive(Debug)]
pub(super) struct Event {
    pub name: String,
    pub payload: Value,
}

struct Call {
    method: &'static str,
    params: Value,
    reply: oneshot::Sender<Result<Value, LinkError>>,
}

/// Set when events were lost.
#[derive(Default)]
pub(super) struct Lost {
    is_lost: AtomicBool,
    told: Notify,
    count: AtomicU64,
}

impl Lost {
    fn tell(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.is_lost.store(true, Ordering::Release);
        self.told.notify_one();
    }

    /// Returns when events were lost since the last time. Cancel-safe.
    pub async fn happened(&self) -> u64 {
        while !self.is_lost.swap(false, Ordering::AcqRel) {
            self.told.notified().await;
        }
        self.count.load(Ordering::Relaxed)
    }
}

/// A connection that was let in.
#[derive(Clone)]
pub(super) struct Link {
    pub hello: Arc<Hello>,
    calls: mpsc::Sender<Call>,
}

/// What is to be run and listened to.
pub(super) struct Opened {
    pub link: Link,
    pub events: mpsc::Receiver<Event>,
    pub lost: Arc<Lost>,
    pub pump: Pump,
}

impl Link {
    /// Around a socket on which the handshake is done.
    fn around(socket: Socket, hello: Hello) -> Opened {
        let (calls, to_call) = mpsc::channel(CALL_QUEUE);
        let (to_events, events) = mpsc::channel(EVENT_QUEUE);
        let lost = Arc::new(Lost::default());
        let silence = hello.tick.saturating_mul(2);
        let pump = Pump {
            socket,
            calls: to_call,
            events: to_events,
            lost: lost.clone(),
            open: HashMap::new(),
            next: 1,
            seq: None,
            silence,
        };
        Opened { link: Link { hello: Arc::new(hello), calls }, events, lost, pump }
    }

    /// Calls a method.
    pub async fn call(&self, method: &'static str, params: Value, within: Duration) -> Result<Value, LinkError> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.calls.send(Call { method, params, reply }).await.map_err(|_| LinkError::Gone)?;
            answer.await.unwrap_or(Err(LinkError::Gone))
        };
        timeout(within, asked).await.unwrap_or(Err(LinkError::Deadline(within)))
    }
}

/// Moves frames between socket, calls and events. Whoever opened the link runs it.
pub(super) struct Pump {
    socket: Socket,
    calls: mpsc::Receiver<Call>,
    events: mpsc::Sender<Event>,
    lost: Arc<Lost>,
    open: HashMap<String, oneshot::Sender<Result<Value, LinkError>>>,
    next: u64,
    seq: Option<u64>,
    silence: Duration,
}

impl Pump {
    /// Runs until the socket is gone or it is cancelled; says why in a few words.
    pub async fn run(mut self, cancel: CancellationToken) -> String {
        let why = loop {
            let has_room = self.open.len() < CALLS_OPEN;
            tokio::select! {
                () = cancel.cancelled() => {
                    // A good-bye; whoever does not listen any more needs none.
                    let _ = timeout(WRITE_WITHIN, self.socket.close(None)).await;
                    break "closed by us".to_owned();
                }
                read = timeout(self.silence, self.socket.next()) => match read {
                    Err(_) => break format!("the gateway was silent for {:?}", self.silence),
                    Ok(None) => break "the gateway closed the connection".to_owned(),
                    Ok(Some(Err(error))) => break error.to_string(),
                    Ok(Some(Ok(Message::Text(text)))) => self.frame(&text),
                    Ok(Some(Ok(Message::Close(close)))) => {
                        let why = close.map(|c| format!("{} {}", u16::from(c.code), c.reason));
                        break format!("the gateway closed the connection: {}", why.unwrap_or_default());
                    }
                    Ok(Some(Ok(_))) => {}
                },
                Some(call) = self.calls.recv(), if has_room => {
                    if let Err(why) = self.call(call).await {
                        break why;
                    }
                }
            }
        };
        for (_, reply) in self.open.drain() {
            // Whoever has gone needs no answer.
            let _ = reply.send(Err(LinkError::Gone));
        }
        why
    }

    async fn call(&mut self, call: Call) -> Result<(), String> {
        // Callers that gave up are not waited for.
        self.open.retain(|_, reply| !reply.is_closed());
        let id = self.next.to_string();
        self.next += 1;
        let text = serde_json::json!({"type": "req", "id": id, "method": call.method, "params": call.params});
        self.open.insert(id, call.reply);
        match timeout(WRITE_WITHIN, self.socket.send(Message::text(text.to_string()))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the gateway does not read".into()),
        }
    }

    fn frame(&mut self, text: &str) {
        let Ok(mut frame) = serde_json::from_str::<Value>(text) else { return };
        match frame.get("type").and_then(Value::as_str) {
            Some("res") => {
                let id = frame.get("id").and_then(Value::as_str).unwrap_or_default();
                if let Some(reply) = self.open.remove(id) {
                    // Whoever gave up needs no answer.
                    let _ = reply.send(answer(frame));
                }
            }
            Some("event") => {
                if let Some(seq) = frame.get("seq").and_then(Value::as_u64) {
                    if self.seq.is_some_and(|before| !follows(before, seq)) {
                        self.lost.tell();
                    }
                    self.seq = Some(seq);
                }
                let name = frame.get("event").and_then(Value::as_str).unwrap_or_default().to_owned();
                let payload = frame.get_mut("payload").map(Value::take).unwrap_or_default();
                if self.events.try_send(Event { name, payload }).is_err() {
                    self.lost.tell();
                }
            }
            _ => {}
        }
    }
}

/// Whether an event with this number comes directly behind one with that. The numbers are the gateway's own word.
pub(super) fn follows(before: u64, seq: u64) -> bool {
    before.checked_add(1) == Some(seq)
}

/// The answer in a `res` frame.
pub(super) fn answer(mut frame: Value) -> Result<Value, LinkError> {
    if frame.get("ok").and_then(Value::as_bool) == Some(true) {
        return Ok(frame.get_mut("payload").map(Value::take).unwrap_or_default());
    }
    let text = |path: &str| frame.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let detail = [text("/error/details/reason"), text("/error/details/code")];
    let detail = detail.into_iter().find(|detail| !detail.is_empty()).unwrap_or_default();
    Err(LinkError::Refused { code: text("/error/code"), detail, message: text("/error/message") })
}

/// How long until `at`, for a deadline over several steps.
pub(super) fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}
