//! One gateway: connects, looks at everything, listens, and begins again when the connection is lost.
//!
//! ```text
//! connecting ─► subscribe ─► list ─► histories ─► listening ──► lost ─► (pause, doubled) ─► connecting
//!                               ▲                    │ events lost, or 5 minutes
//!                               └────────────────────┘
//! ```
//!
//! Laws:
//! 1. Events wake; histories tell. A message is taken from the history only, so nothing depends on an event that was
//!    lost, or on what a release leaves out of its events.
//! 2. The events' loop waits for nothing but events: calls run beside it.
//! 3. A connection that was changed or removed is over at once.

mod events;
mod listen;
mod requests;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bus_schema::{Connection, Timestamp};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

pub(super) use self::listen::look_once;
use super::OpenClawGateway;
use super::core::{Core, lock};
use super::link::{self, Endpoint, Link, LinkError};
use super::rest;
use crate::provider::ProviderError;

/// How long a connection may take to come about. A gateway that starts says so at once.
const OPEN_WITHIN: Duration = Duration::from_secs(12);
/// Pauses between attempts: a gateway needs half a minute to start.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const MAX_PAUSE: Duration = Duration::from_secs(15);
/// How long a call may take that the gateway answers at once; long, because it may be busy with models.
pub(super) const CALL_WITHIN: Duration = Duration::from_secs(10);
/// Rows looked at first, then where they do not reach back far enough, and at most (the gateway's own limit).
const LOOK_BACK: [usize; 3] = [40, 200, 1_000];
/// Characters of one message (contract section 4: 256 KiB).
const MAX_CHARS: usize = 262_144;

/// A connection and what it has come to.
pub(super) struct Gateway {
    pub connection: Connection,
    /// True if its sessions offer a soft pause.
    pub soft_pause: bool,
    /// The only authority that is trusted for it.
    ca: Option<PathBuf>,
    pub cancel: CancellationToken,
    /// Looks at a session, or (`None`) at all, as soon as possible.
    pub look: Notify,
    /// It may be there now: the next attempt is not waited for.
    hurry: Notify,
    link: watch::Sender<Option<Link>>,
    rest: watch::Sender<Option<rest::Client>>,
    standing: Mutex<Option<String>>,
    quirks: Mutex<Quirks>,
}

/// What a gateway of an older release does not know, learnt from its refusals.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Quirks {
    pub no_queue_mode: bool,
    pub no_suppress: bool,
    pub no_clear_queued: bool,
    pub no_abort: bool,
    pub no_subscribe: bool,
    pub no_describe: bool,
    pub no_max_chars: bool,
    /// It keeps neither our id nor what waits on disk, does not tell `hasActiveRun`, and its live text runs on over the
    /// steps of a turn: protocol 3 (measured: 2026.4.15).
    pub is_old: bool,
    /// When it began to run, where it is old.
    pub began_at: Option<Timestamp>,
}

impl Gateway {
    pub fn new(of: OpenClawGateway, cancel: CancellationToken) -> Arc<Self> {
        let OpenClawGateway { connection, soft_pause, ca } = of;
        Arc::new(Self {
            connection,
            soft_pause,
            ca,
            cancel,
            look: Notify::new(),
            hurry: Notify::new(),
            link: watch::Sender::new(None),
            rest: watch::Sender::new(None),
            standing: Mutex::new(Some("not connected yet".into())),
            quirks: Mutex::default(),
        })
    }

    pub fn id(&self) -> &str {
        &self.connection.id
    }

    /// Where it is, and whom we trust there.
    pub fn endpoint(&self) -> Result<Endpoint, LinkError> {
        Ok(Endpoint::parse(&self.connection.url)?.trusting(self.ca.clone()))
    }

    /// Looks for it at once, and often for a while: it was started just now.
    pub fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// What is wrong, if anything.
    pub fn error(&self) -> Option<String> {
        lock(&self.standing).clone()
    }

    pub fn quirks(&self) -> Quirks {
        *lock(&self.quirks)
    }

    pub fn learn(&self, learn: impl FnOnce(&mut Quirks)) {
        learn(&mut lock(&self.quirks));
    }

    pub fn rest(&self) -> Option<rest::Client> {
        self.rest.borrow().clone()
    }

    pub fn set_rest(&self, client: Option<rest::Client>) {
        self.rest.send_replace(client);
    }

    /// The connection, or why there is none. Waits a moment for one that is just coming about.
    pub async fn link(&self) -> Result<Link, ProviderError> {
        let mut link = self.link.subscribe();
        let there = async { link.wait_for(Option::is_some).await.ok().and_then(|link| link.clone()) };
        match tokio::time::timeout(Duration::from_secs(2), there).await {
            Ok(Some(link)) => Ok(link),
            _ => Err(self.unavailable()),
        }
    }

    pub fn unavailable(&self) -> ProviderError {
        let why = self.error().unwrap_or_else(|| "the connection is being made".into());
        ProviderError::Unavailable {
            what: format!("the gateway {} cannot be reached: {why}", self.connection.name),
            source: None,
        }
    }

    /// A call; the error is the provider's.
    pub async fn call(&self, doing: &str, method: &'static str, params: Value) -> Result<Value, ProviderError> {
        let link = self.link().await?;
        link.call(method, params, CALL_WITHIN).await.map_err(|error| self.failed(doing, error))
    }

    /// What a failed call is to the caller of the provider.
    pub fn failed(&self, doing: &str, error: LinkError) -> ProviderError {
        match error {
            LinkError::Deadline(within) => ProviderError::Deadline { doing: doing.into(), seconds: within.as_secs() },
            LinkError::Refused { .. } => ProviderError::Failed { doing: doing.into(), source: Some(Box::new(error)) },
            error => ProviderError::Unavailable {
                what: format!("the gateway {} cannot be reached", self.connection.name),
                source: Some(Box::new(error)),
            },
        }
    }

    fn stands(&self, core: &Core, error: Option<String>) {
        let before = std::mem::replace(&mut *lock(&self.standing), error.clone());
        if before == error {
            return;
        }
        let name = &self.connection.name;
        match &error {
            Some(error) => tracing::warn!(gateway = %name, error, "gateway is away"),
            None => tracing::info!(gateway = %name, "gateway is there"),
        }
        for session in core.living(self.id()) {
            session.note("gatewayAway", error.clone().map_or(Value::Null, Value::from));
        }
    }

    /// What a new connection says of runs that were seen on the one before.
    fn meet(&self, core: &Core) {
        let began_at = self.quirks().began_at;
        core.living(self.id()).iter().for_each(|session| session.forget_runs(began_at));
    }

    /// Keeps the connection until it is cancelled.
    pub async fn run(self: Arc<Self>, core: Arc<Core>) {
        let cancel = self.cancel.clone();
        let endpoint = match self.endpoint() {
            Ok(endpoint) => endpoint,
            Err(error) => {
                self.stands(&core, Some(error.to_string()));
                return;
            }
        };
        let mut pause = FIRST_PAUSE;
        while !cancel.is_cancelled() {
            let token = &self.connection.token;
            let opened = cancel.run_until_cancelled(link::open(&endpoint, token, &core.key, OPEN_WITHIN)).await;
            let begun = Instant::now();
            match opened {
                None => break,
                Some(Ok(opened)) => {
                    self.learn(|quirks| {
                        // Another release may answer than the last time. None of the releases of protocol 3 knows
                        // these (measured: 2026.1.30 to 2026.4.15).
                        let is_old = opened.link.hello.protocol < 4;
                        let began_at = opened.link.hello.began_at.filter(|_| is_old);
                        let (no_queue_mode, no_suppress, no_clear_queued) = (is_old, is_old, is_old);
                        let quirk = Quirks { no_queue_mode, no_suppress, no_clear_queued, ..Quirks::default() };
                        *quirks = Quirks { is_old, began_at, ..quirk };
                    });
                    self.meet(&core);
                    let why = listen::listen(&self, &core, opened).await;
                    self.link.send_replace(None);
                    if !cancel.is_cancelled() {
                        self.stands(&core, Some(format!("the connection was lost: {why}")));
                    }
                }
                Some(Err(error)) => {
                    if matches!(error, LinkError::NotAGateway { .. })
                        && let Some(client) = rest::Client::probe(&endpoint, token).await
                    {
                        self.stands(&core, None);
                        let why = cancel.run_until_cancelled(rest::poll(&self, &core, client)).await;
                        self.set_rest(None);
                        self.stands(&core, why);
                    } else {
                        self.stands(&core, Some(chain(&error)));
                    }
                }
            }
            if begun.elapsed() > MAX_PAUSE {
                pause = FIRST_PAUSE;
            }
            core.settle_what_has_gone(&self).await;
            tokio::select! {
                () = cancel.cancelled() => {}
                () = self.hurry.notified() => pause = FIRST_PAUSE,
                () = sleep(pause) => pause = (pause * 2).min(MAX_PAUSE),
            }
        }
        if !core.cancel.is_cancelled() {
            self.stands(&core, Some("it is not set up any more".into()));
        }
    }
}

/// What an event leads to, but for looking at sessions. For fuzzing.
pub(super) fn take_event(gateway: &Gateway, core: &Core, event: &link::Event) {
    let _ = events::take(gateway, core, event);
}

pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

/// A history, as far back as it has to be: until a row that is known, or to the limit.
pub(super) async fn history(
    gateway: &Gateway,
    link: &Link,
    key: &str,
    is_enough: impl Fn(&[Value]) -> bool,
) -> Result<Value, LinkError> {
    let mut last = Value::Null;
    for limit in LOOK_BACK {
        let ask = |with_chars: bool| {
            let mut params = json!({"sessionKey": key, "limit": limit});
            if let (true, Some(params)) = (with_chars, params.as_object_mut()) {
                params.insert("maxChars".into(), MAX_CHARS.into());
            }
            link.call("chat.history", params, CALL_WITHIN)
        };
        let with_chars = !gateway.quirks().no_max_chars;
        last = match ask(with_chars).await {
            Err(error) if with_chars && error.is_unknown("maxChars") => {
                gateway.learn(|quirks| quirks.no_max_chars = true);
                ask(false).await?
            }
            other => other?,
        };
        let rows = last.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let has_more = last.get("hasMore").and_then(Value::as_bool).unwrap_or(rows.len() >= limit);
        if !has_more || is_enough(rows) {
            break;
        }
    }
    Ok(last)
}
