//! Streams and consumers: made and kept to the settings in `bus_schema::jetstream`.

use std::sync::PoisonError;
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, pull};
use async_nats::jetstream::context::{CreateStreamErrorKind, PublishErrorKind};
use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use async_nats::jetstream::stream::{
    Config, DirectGetErrorKind, DiscardPolicy, RawMessageErrorKind, Republish, StorageType,
};
use bus_schema::jetstream::{self as spec, ConsumerSpec, StreamSpec};
use bus_schema::{SCHEMA_VERSION, Timestamp, header};

use super::{API_DEADLINE, Bus, BusError, Stored};

/// The hub's own stream, in the hub's own account: its records, each the last of its subject.
pub const JOURNAL_STREAM: &str = "MOSAIC_JOURNAL";
/// Subjects of the hub's own records.
pub const JOURNAL_SUBJECTS: &str = "mosaic.hub.v1.record.>";

/// The subject of a record of the hub's own.
pub fn journal_subject(table: &str, key: &str) -> String {
    format!("mosaic.hub.v1.record.{table}.{key}")
}

/// Makes the server compare the last sequence of these subjects instead of the message's own (nats-server 2.11,
/// `JSExpectedLastSubjSeqSubj`).
const EXPECTED_AMONG: &str = "Nats-Expected-Last-Subject-Sequence-Subject";

/// What a message must be the next one behind.
#[derive(Clone, Debug)]
pub struct Behind {
    /// The last sequence we know; 0 for none.
    pub seq: u64,
    /// Of which subjects; the message's own if absent.
    pub among: Option<String>,
}

impl Behind {
    /// The last message of the same subject.
    pub fn own(seq: u64) -> Self {
        Self { seq, among: None }
    }
}

/// A stream that the hub reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StreamName {
    /// Nodes and sessions.
    State,
    /// Messages and receipts.
    Messages,
    /// Terminal output.
    Terminal,
    /// Commands that nodes did not obey.
    Refusals,
    /// The audit log.
    Audit,
    /// The hub's own records.
    Journal,
}

impl StreamName {
    /// Its name on the server.
    pub fn as_str(self) -> &'static str {
        match self {
            StreamName::State => spec::STATE.name,
            StreamName::Messages => spec::MESSAGES.name,
            StreamName::Terminal => spec::TERMINAL.name,
            StreamName::Refusals => spec::REFUSALS.name,
            StreamName::Audit => spec::AUDIT.name,
            StreamName::Journal => JOURNAL_STREAM,
        }
    }

    /// The stream of that name.
    pub fn parse(name: &str) -> Option<Self> {
        use StreamName::{Audit, Journal, Messages, Refusals, State, Terminal};
        [State, Messages, Terminal, Refusals, Audit, Journal].into_iter().find(|s| s.as_str() == name)
    }
}

/// What a stream holds now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamBounds {
    /// When it was made: another time is another stream.
    pub created: String,
    /// First sequence it still holds; one behind the last if it is empty.
    pub first: u64,
    /// Last sequence it gave out.
    pub last: u64,
}

/// Where a message stands that was published to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its sequence.
    pub seq: u64,
    /// True if one of the same id was there already; this one was not stored.
    pub was_there: bool,
}

/// Sizes that configuration may lower.
pub(super) struct Limits {
    pub(super) messages: Option<i64>,
    pub(super) terminal: Option<i64>,
}

impl Bus {
    /// Makes the streams that are missing and brings the others to their settings, and checks the server's version.
    ///
    /// # Errors
    /// [`BusError`].
    pub async fn ensure_streams(&self) -> Result<(), BusError> {
        let made = self.make_streams().await;
        let obstacle = match &made {
            Err(error @ (BusError::NoRoom { .. } | BusError::Refused { .. })) => Some(error.to_string()),
            Ok(()) | Err(_) => None,
        };
        *self.inner.obstacle.lock().unwrap_or_else(PoisonError::into_inner) = obstacle;
        made
    }

    async fn make_streams(&self) -> Result<(), BusError> {
        self.need_connection("making streams")?;
        self.check_version()?;
        for stream in spec::STREAMS {
            create(&self.inner.streams, stream_config(stream, &self.inner.limits)).await?;
        }
        let journal = Config {
            name: JOURNAL_STREAM.into(),
            description: Some(
                "the hub's own records: people, roles, sign-ins, layouts, what is set up for runtimes".into(),
            ),
            subjects: vec![JOURNAL_SUBJECTS.into()],
            max_messages_per_subject: 1,
            storage: StorageType::File,
            allow_direct: true,
            allow_message_ttl: true,
            ..Config::default()
        };
        create(&self.inner.journal, journal).await
    }

    /// Lets the streams of messages and terminals forget what is older than so many days, or than their own age if
    /// that is less.
    ///
    /// # Errors
    /// [`BusError`].
    pub async fn keep_messages(&self, days: u64) -> Result<(), BusError> {
        self.need_connection("setting the age of messages")?;
        for stream in [&spec::MESSAGES, &spec::TERMINAL] {
            let mut config = stream_config(stream, &self.inner.limits);
            config.max_age = config.max_age.min(Duration::from_secs(days.saturating_mul(24 * 3600)));
            create(&self.inner.streams, config).await?;
        }
        Ok(())
    }

    fn check_version(&self) -> Result<(), BusError> {
        let found = self.inner.client.server_info().version;
        let mut numbers = found.split(['.', '-']).map(|n| n.parse::<u64>().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        let (major, minor, patch) = spec::MIN_SERVER_VERSION;
        if (next(), next(), next()) < (major, minor, patch) {
            return Err(BusError::TooOld { found, wanted: format!("{major}.{minor}.{patch}") });
        }
        Ok(())
    }

    pub(super) fn context(&self, stream: StreamName) -> &async_nats::jetstream::Context {
        match stream {
            StreamName::Journal => &self.inner.journal,
            StreamName::State
            | StreamName::Messages
            | StreamName::Terminal
            | StreamName::Refusals
            | StreamName::Audit => &self.inner.streams,
        }
    }

    /// What a stream holds now.
    ///
    /// # Errors
    /// [`BusError`].
    pub async fn bounds(&self, stream: StreamName) -> Result<StreamBounds, BusError> {
        let doing = format!("asking for the stream {}", stream.as_str());
        let found = self.ask(&doing, self.context(stream).get_stream(stream.as_str())).await?;
        let info = found.cached_info();
        Ok(StreamBounds {
            created: info.created.unix_timestamp_nanos().to_string(),
            first: info.state.first_sequence.max(1),
            last: info.state.last_sequence,
        })
    }

    /// The hub's durable consumer, made if it is not there, and the last sequence that it has handed out.
    ///
    /// # Errors
    /// [`BusError`].
    pub async fn consumer(&self, spec: &ConsumerSpec, start: u64) -> Result<(Consumer<pull::Config>, u64), BusError> {
        let doing = format!("making the consumer {}", spec.durable);
        let config = pull::Config {
            durable_name: Some(spec.durable.into()),
            description: Some("mosaic-hub".into()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: Duration::from_secs(spec.ack_wait_s),
            max_ack_pending: spec.max_ack_pending,
            max_deliver: -1,
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: start.max(1) },
            ..pull::Config::default()
        };
        let stream = self.ask(&doing, self.inner.streams.get_stream(spec.stream.name)).await?;
        // An existing one is taken as it is: where it starts was settled when it was made.
        let made = match self.ask(&doing, stream.get_consumer(spec.durable)).await {
            Ok(found) => found,
            Err(BusError::Refused { .. }) => self.ask(&doing, stream.create_consumer(config)).await?,
            Err(error) => return Err(error),
        };
        let delivered = made.cached_info().delivered.stream_sequence;
        Ok((made, delivered))
    }

    /// The last message of a subject in a stream, if there is one.
    ///
    /// # Errors
    /// [`BusError`].
    pub async fn last_of(&self, stream: StreamName, subject: &str) -> Result<Option<Stored>, BusError> {
        let doing = format!("reading the last message of {subject}");
        self.need_connection(&doing)?;
        let handle = self.ask(&doing, self.context(stream).get_stream_no_info(stream.as_str())).await?;
        let asked = tokio::time::timeout(API_DEADLINE, handle.direct_get_last_for_subject(subject)).await;
        let message = match asked.map_err(|_| BusError::Away { doing: doing.clone() })? {
            Ok(message) => message,
            Err(e) if matches!(e.kind(), DirectGetErrorKind::NotFound) => return Ok(None),
            Err(e) => return Err(BusError::Refused { doing, detail: e.to_string() }),
        };
        Ok(Some(stored(message)))
    }

    /// Sequence and content of the last message on any subject that a filter (with wildcards) matches. Asked of the
    /// stream's leader, so that it is the last one for certain.
    ///
    /// # Errors
    /// [`BusError`].
    pub async fn last_among(&self, stream: StreamName, filter: &str) -> Result<Option<Stored>, BusError> {
        let doing = format!("reading the last message of {filter}");
        self.need_connection(&doing)?;
        let handle = self.ask(&doing, self.context(stream).get_stream_no_info(stream.as_str())).await?;
        let asked = tokio::time::timeout(API_DEADLINE, handle.get_last_raw_message_by_subject(filter)).await;
        let message = match asked.map_err(|_| BusError::Away { doing: doing.clone() })? {
            Ok(message) => message,
            Err(e) if matches!(e.kind(), RawMessageErrorKind::NoMessageFound) => return Ok(None),
            Err(e) => return Err(BusError::Refused { doing, detail: e.to_string() }),
        };
        Ok(Some(stored(message)))
    }

    /// The message at a sequence of a stream, if it is still there.
    ///
    /// # Errors
    /// [`BusError`].
    pub async fn message_at(&self, stream: StreamName, seq: u64) -> Result<Option<Stored>, BusError> {
        let mut reader = self.range(stream, seq, seq, vec![]);
        Ok(reader.next_batch(1).await?.pop())
    }

    /// Publishes to a stream and waits for its ack; only if nothing came behind what we know ([`Behind`]). With a `ttl` the stream forgets it after that time. Returns where it stands.
    ///
    /// # Errors
    /// [`BusError::Conflict`] if it is not; [`BusError::Away`] if there was no ack: then the message may be stored
    /// all the same.
    pub async fn publish_behind(
        &self,
        stream: StreamName,
        subject: String,
        id: &str,
        payload: Vec<u8>,
        behind: Behind,
        ttl: Option<Duration>,
    ) -> Result<Published, BusError> {
        let doing = format!("publishing to {subject}");
        self.need_connection(&doing)?;
        let message = PublishMessage::build()
            .payload(payload.into())
            .header(header::CONTENT_TYPE, header::MSGPACK)
            .header(header::SCHEMA, SCHEMA_VERSION.to_string().as_str())
            .message_id(id)
            .expected_last_subject_sequence(behind.seq);
        let message = match behind.among {
            Some(filter) => message.header(EXPECTED_AMONG, filter.as_str()),
            None => message,
        };
        let message = match ttl {
            Some(ttl) => message.ttl(ttl),
            None => message,
        };
        let publish = async { self.context(stream).send_publish(subject.clone(), message).await?.await };
        match tokio::time::timeout(API_DEADLINE, publish).await {
            Err(_) => Err(BusError::Away { doing }),
            Ok(Ok(ack)) => Ok(Published { seq: ack.sequence, was_there: ack.duplicate }),
            Ok(Err(e)) => match e.kind() {
                PublishErrorKind::WrongLastSequence => Err(BusError::Conflict { subject }),
                PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => Err(BusError::Away { doing }),
                _ => Err(BusError::Refused { doing, detail: e.to_string() }),
            },
        }
    }

    /// One request to JetStream, with the deadline that all of them have.
    async fn ask<T, E: std::fmt::Display>(
        &self,
        doing: &str,
        request: impl Future<Output = Result<T, E>>,
    ) -> Result<T, BusError> {
        self.need_connection(doing)?;
        let asked = tokio::time::timeout(API_DEADLINE, request).await;
        asked
            .map_err(|_| BusError::Away { doing: doing.to_owned() })?
            .map_err(|e| BusError::Refused { doing: doing.to_owned(), detail: e.to_string() })
    }
}

fn stored(message: StreamMessage) -> Stored {
    let millis = message.time.unix_timestamp_nanos() / 1_000_000;
    Stored {
        seq: message.sequence,
        subject: message.subject.to_string(),
        schema: message.headers.get(header::SCHEMA).map(|v| v.as_str().to_owned()),
        payload: message.payload,
        at: Timestamp::from_millis(i64::try_from(millis).unwrap_or_default()),
    }
}

fn stream_config(stream: &StreamSpec, limits: &Limits) -> Config {
    let configured = match stream.name {
        name if name == spec::MESSAGES.name => limits.messages,
        name if name == spec::TERMINAL.name => limits.terminal,
        _ => None,
    };
    Config {
        name: stream.name.into(),
        description: Some(stream.description.into()),
        subjects: stream.subjects(),
        max_messages_per_subject: stream.max_messages_per_subject,
        max_age: Duration::from_secs(stream.max_age_s),
        max_bytes: configured.unwrap_or(stream.max_bytes),
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        duplicate_window: Duration::from_secs(stream.duplicate_window_s),
        deny_delete: stream.append_only,
        deny_purge: stream.append_only,
        allow_direct: true,
        republish: Some(Republish {
            source: spec::republish_source(),
            destination: spec::republish_destination(),
            headers_only: false,
        }),
        ..Config::default()
    }
}

async fn create(context: &async_nats::jetstream::Context, config: Config) -> Result<(), BusError> {
    let doing = format!("making the stream {}", config.name);
    let (stream, max_mib) = (config.name.clone(), config.max_bytes / (1024 * 1024));
    let asked = tokio::time::timeout(API_DEADLINE, context.create_or_update_stream(config)).await;
    match asked.map_err(|_| BusError::Away { doing: doing.clone() })? {
        Ok(_) => Ok(()),
        Err(error) => match error.kind() {
            CreateStreamErrorKind::JetStream(said) if said.error_code() == ErrorCode::STORAGE_RESOURCES_EXCEEDED => {
                Err(BusError::NoRoom { stream, max_mib })
            }
            _ => Err(BusError::Refused { doing, detail: error.to_string() }),
        },
    }
}
