//! The hub's only NATS client: a connection in the account of each workspace and one in the hub's own; and a short one
//! in the system account when an account has changed.
//!
//! Laws:
//! 1. Every call has a deadline, and answers [`BusError::Away`] at once while there is no connection: async-nats
//!    itself would wait without one.
//! 2. A request uses an inbox of its own: one that is never answered leaks nothing (nats.rs #1617).
//! 3. A reader of a range counts what the server says it delivered; what was lost on the way is read again.

mod accounts;
mod range;
mod request;
mod streams;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream;
use bus_schema::{Timestamp, WorkspaceId};
use bytes::Bytes;

use crate::config::NatsConfig;
use crate::metrics::Metrics;

pub use accounts::push_accounts;
pub use range::RangeReader;
pub use request::CommandError;
pub use streams::{Behind, JOURNAL_STREAM, JOURNAL_SUBJECTS, Published, StreamBounds, StreamName, journal_subject};

/// How long a request to JetStream may take.
pub(crate) const API_DEADLINE: Duration = Duration::from_secs(5);
/// When the library gives a request up by itself. Behind ours, so that it is always ours that passes: the library tells
/// it in the same words as what the server refused.
const LIBRARY_DEADLINE: Duration = Duration::from_secs(8);
/// How long the server may be silent before it is asked for a sign of life.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// Longest pause between two attempts to connect.
const RECONNECT_MAX_MS: u64 = 2_000;
/// Messages that a core subscription may hold for us. What is lost beyond is seen by its sequence and read again.
const SUBSCRIPTION_CAPACITY: usize = 16 * 1024;

/// The bus, as the hub sees it.
#[derive(Clone)]
pub struct Bus {
    inner: Arc<Inner>,
}

struct Inner {
    workspace: WorkspaceId,
    client: async_nats::Client,
    streams: jetstream::Context,
    journal: jetstream::Context,
    signer: nkeys::KeyPair,
    /// How nodes come to trust the signer, as it stands in a header; empty if it is the first one.
    key_chain: String,
    limits: streams::Limits,
    /// Why the streams could not be made.
    obstacle: Mutex<Option<String>>,
}

/// A message of a stream, or republished by it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its sequence in the stream.
    pub seq: u64,
    /// The subject it was published on.
    pub subject: String,
    /// The header [`bus_schema::header::SCHEMA`], where it has one.
    pub schema: Option<String>,
    /// Its payload.
    pub payload: Bytes,
    /// When the stream stored it.
    pub at: Timestamp,
}

/// The bus did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The credentials or the key cannot be used.
    #[error("cannot use the credentials {path}")]
    Credentials {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// There is no connection, or no answer within the deadline.
    #[error("the bus is away: {doing}")]
    Away {
        /// What was asked.
        doing: String,
    },
    /// The server is too old: it would ignore settings it does not know.
    #[error("nats-server {found} is older than {wanted}; install a newer one")]
    TooOld {
        /// Version of the server.
        found: String,
        /// Oldest one that will do.
        wanted: String,
    },
    /// The server keeps no room for a stream on its disk.
    #[error(
        "the bus has no room for the stream {stream}, which may grow to {max_mib} MiB: JetStream promises no more than its \
         `max_file_store`, or else three quarters of what was free on its disk when nats-server started. Free disk \
         space and start nats-server again, or set `messages_max_bytes` and `terminal_max_bytes` under [nats] of the \
         hub's configuration lower"
    )]
    NoRoom {
        /// Which stream.
        stream: String,
        /// How large it may grow.
        max_mib: i64,
    },
    /// Somebody else wrote first; read and try again.
    #[error("somebody else wrote to {subject} first")]
    Conflict {
        /// Where.
        subject: String,
    },
    /// The server refused it.
    #[error("the bus refused {doing}: {detail}")]
    Refused {
        /// What was asked.
        doing: String,
        /// The server's words.
        detail: String,
    },
}

/// The connection in the hub's own account, which all workspaces share.
#[derive(Clone)]
pub struct OwnAccount(jetstream::Context);

impl OwnAccount {
    /// Connects, now and for ever, as [`Bus::connect`] does.
    ///
    /// # Errors
    /// [`BusError::Credentials`] only.
    pub async fn connect(config: &NatsConfig, metrics: &Metrics) -> Result<Self, BusError> {
        let inbox = bus_schema::inbox_prefix("journal");
        Ok(Self(context(client(config, &config.journal_creds, "journal", &inbox, metrics).await?)))
    }
}

fn context(client: async_nats::Client) -> jetstream::Context {
    jetstream::ContextBuilder::new().timeout(LIBRARY_DEADLINE).ack_timeout(LIBRARY_DEADLINE).build(client)
}

impl Bus {
    /// Connects, now and for ever: while the server is away it is tried again, and calls answer [`BusError::Away`].
    ///
    /// # Errors
    /// [`BusError::Credentials`] only.
    pub async fn connect(
        config: &NatsConfig,
        workspace: WorkspaceId,
        own: &OwnAccount,
        metrics: &Metrics,
    ) -> Result<Self, BusError> {
        let client = client(config, &config.creds, "workspace", &bus_schema::inbox_prefix("hub"), metrics).await?;
        let signer = nkeys::KeyPair::from_seed(config.command_key.expose()).map_err(|e| BusError::Credentials {
            path: "command key".into(),
            source: std::io::Error::new(std::io::ErrorKind::InvalidData, e),
        })?;
        let limits = streams::Limits { messages: config.messages_max_bytes, terminal: config.terminal_max_bytes };
        let (streams, journal) = (context(client.clone()), own.0.clone());
        let key_chain = bus_schema::KeySuccession::chain_text(&config.key_chain);
        let inner =
            Inner { workspace, client, streams, journal, signer, key_chain, limits, obstacle: Mutex::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The workspace whose bus it is.
    pub fn workspace(&self) -> &WorkspaceId {
        &self.inner.workspace
    }

    /// The public half of the key that signs commands.
    pub fn command_key(&self) -> String {
        self.inner.signer.public_key()
    }

    /// True if that key took another's place.
    pub fn has_key_chain(&self) -> bool {
        !self.inner.key_chain.is_empty()
    }

    /// Why the streams could not be made the last time that it was tried; none once they are there.
    pub fn obstacle(&self) -> Option<String> {
        self.inner.obstacle.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// True while both connections are up.
    pub fn is_connected(&self) -> bool {
        self.inner.client.connection_state() == State::Connected
            && self.inner.journal.client().connection_state() == State::Connected
    }

    /// How often the workspace's connection was made: it grows with every new one.
    pub fn connects(&self) -> u64 {
        self.inner.client.statistics().connects.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Subscribes to a subject, outside of any stream.
    ///
    /// # Errors
    /// [`BusError::Away`], [`BusError::Refused`].
    pub async fn subscribe(&self, subject: String) -> Result<async_nats::Subscriber, BusError> {
        let doing = || format!("subscribing to {subject}");
        let asked = tokio::time::timeout(API_DEADLINE, self.inner.client.subscribe(subject.clone())).await;
        asked
            .map_err(|_| BusError::Away { doing: doing() })?
            .map_err(|e| BusError::Refused { doing: doing(), detail: e.to_string() })
    }

    fn need_connection(&self, doing: &str) -> Result<(), BusError> {
        if self.is_connected() { Ok(()) } else { Err(BusError::Away { doing: doing.to_owned() }) }
    }

    /// Ends both connections, after what was published has gone out.
    pub async fn close(&self) {
        for client in [self.inner.client.clone(), self.inner.journal.client()] {
            if tokio::time::timeout(Duration::from_secs(2), client.drain()).await.is_err() {
                tracing::warn!("a connection to the bus did not drain in time");
            }
        }
    }
}

impl Stored {
    /// What a stream republished under `live.`; none if the server's headers are missing.
    pub fn from_live(message: async_nats::Message) -> Option<(StreamName, Self)> {
        let headers = message.headers.as_ref()?;
        let text = |name: &str| headers.get(name).map(|v| v.as_str());
        let stream = StreamName::parse(text("Nats-Stream")?)?;
        let stored = Stored {
            seq: text("Nats-Sequence")?.parse().ok()?,
            subject: text("Nats-Subject")?.to_owned(),
            schema: text(bus_schema::header::SCHEMA).map(str::to_owned),
            at: text("Nats-Time-Stamp").and_then(|t| t.parse().ok()).unwrap_or(Timestamp::from_millis(0)),
            payload: message.payload,
        };
        Some((stream, stored))
    }

    fn from_stream(message: &jetstream::Message) -> Option<(u64, u64, Self)> {
        let info = message.info().ok()?;
        let schema = message.headers.as_ref().and_then(|h| h.get(bus_schema::header::SCHEMA));
        let nanos = info.published.unix_timestamp_nanos();
        let stored = Stored {
            seq: info.stream_sequence,
            subject: message.subject.to_string(),
            schema: schema.map(|v| v.as_str().to_owned()),
            payload: message.payload.clone(),
            at: Timestamp::from_millis(i64::try_from(nanos / 1_000_000).unwrap_or_default()),
        };
        Some((info.consumer_sequence, info.pending, stored))
    }

    /// The same for a message of a pull consumer.
    pub fn from_consumer(message: &jetstream::Message) -> Option<Self> {
        Self::from_stream(message).map(|(_, _, stored)| stored)
    }
}

/// What all connections have in common: who we are, and whom we trust.
async fn options(config: &NatsConfig, creds: &std::path::Path) -> Result<async_nats::ConnectOptions, BusError> {
    let wrong = |source| BusError::Credentials { path: creds.display().to_string(), source };
    // Several are built in, and the client asks for the one of the process; whoever came first has chosen.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let options = async_nats::ConnectOptions::with_credentials_file(creds).await.map_err(wrong)?;
    Ok(match &config.ca {
        Some(ca) => options.add_root_certificates(ca.clone()).require_tls(true),
        None => options,
    })
}

async fn client(
    config: &NatsConfig,
    creds: &std::path::Path,
    name: &'static str,
    inbox: &str,
    metrics: &Metrics,
) -> Result<async_nats::Client, BusError> {
    let wrong = |source| BusError::Credentials { path: creds.display().to_string(), source };
    let events = metrics.bus_events.clone();
    let options = options(config, creds).await?;
    let connected = options
        .name(format!("mosaic-hub {name}"))
        .custom_inbox_prefix(inbox)
        .retry_on_initial_connect()
        .ping_interval(PING_INTERVAL)
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        .reconnect_delay_callback(|attempt| {
            use rand::Rng;
            let top = RECONNECT_MAX_MS.min(25_u64 << attempt.min(10));
            Duration::from_millis(rand::rng().random_range(top / 2..=top))
        })
        .event_callback(move |event| {
            let events = events.clone();
            async move {
                events.count(&event);
                match event {
                    async_nats::Event::Connected => tracing::info!(connection = name, "connected to the bus"),
                    async_nats::Event::Disconnected => tracing::warn!(connection = name, "the bus is away"),
                    async_nats::Event::Draining | async_nats::Event::Closed => {
                        tracing::debug!(connection = name, %event, "ending the connection");
                    }
                    other => tracing::warn!(connection = name, event = %other, "event of the bus"),
                }
            }
        })
        .connect(config.servers().as_slice())
        .await;
    connected.map_err(|e| wrong(std::io::Error::other(e)))
}
