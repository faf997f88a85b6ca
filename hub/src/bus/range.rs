//! Reading a range of a stream from the past, in order and whole.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, pull};
use futures::StreamExt;

use super::{API_DEADLINE, Bus, BusError, Stored, StreamName};

/// How long the server keeps a reader that does not ask any more.
const READER_LIFE: Duration = Duration::from_secs(60);
/// Largest batch in bytes: a viewer's past must not fill the memory.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// How often one batch is asked for when something is lost on the way.
const TRIES: u32 = 5;

/// Reads a stream from one sequence to another, batch by batch.
pub struct RangeReader {
    bus: Bus,
    stream: StreamName,
    next: u64,
    to: u64,
    filters: Vec<String>,
    consumer: Option<Consumer<pull::Config>>,
    delivered: u64,
}

/// What one request brought.
struct Fetched {
    batch: Vec<Stored>,
    /// True if it broke off, and there may be more.
    broken: bool,
}

impl Bus {
    /// A reader of what `stream` holds from `from` to `to`, both included, of these subjects (all if empty).
    pub fn range(&self, stream: StreamName, from: u64, to: u64, filters: Vec<String>) -> RangeReader {
        RangeReader { bus: self.clone(), stream, next: from.max(1), to, filters, consumer: None, delivered: 0 }
    }
}

impl RangeReader {
    /// The next messages in order, at most `limit`; none at the end of the range or of the stream.
    ///
    /// # Errors
    /// [`BusError`]; asked again, it goes on where it was.
    pub async fn next_batch(&mut self, limit: usize) -> Result<Vec<Stored>, BusError> {
        let doing = format!("reading the stream {}", self.stream.as_str());
        for _ in 0..TRIES {
            if self.next > self.to {
                return Ok(vec![]);
            }
            self.bus.need_connection(&doing)?;
            match tokio::time::timeout(API_DEADLINE, self.fetch(limit)).await {
                Ok(Ok(fetched)) if fetched.broken && fetched.batch.is_empty() => {}
                Ok(Ok(fetched)) => return Ok(fetched.batch),
                Ok(Err(detail)) => return Err(BusError::Refused { doing, detail }),
                Err(_) => return Err(BusError::Away { doing }),
            }
        }
        Err(BusError::Away { doing })
    }

    /// Holds the consumer only while all goes well: after an error, or dropped half way, the next call makes one that
    /// begins behind what has been handed out.
    async fn fetch(&mut self, limit: usize) -> Result<Fetched, String> {
        let consumer = match self.consumer.take() {
            Some(consumer) => consumer,
            None => self.make().await?,
        };
        let (mut batch, mut next, mut delivered) = (vec![], self.next, self.delivered);
        let asked = consumer.fetch().max_messages(limit).max_bytes(BATCH_BYTES).messages().await;
        let mut messages = asked.map_err(|e| e.to_string())?;
        let mut broken = false;
        while let Some(message) = messages.next().await {
            let Ok(message) = message else {
                broken = true;
                break;
            };
            let (place, _, stored) = Stored::from_stream(&message).ok_or("a message without its place")?;
            if place != delivered + 1 {
                broken = true;
                break;
            }
            delivered = place;
            if stored.seq > self.to {
                next = self.to + 1;
                break;
            }
            next = stored.seq + 1;
            batch.push(stored);
        }
        (self.next, self.delivered) = (next, delivered);
        if !broken {
            self.consumer = Some(consumer);
        }
        Ok(Fetched { batch, broken })
    }

    async fn make(&mut self) -> Result<Consumer<pull::Config>, String> {
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: self.next },
            ack_policy: AckPolicy::None,
            filter_subjects: self.filters.clone(),
            inactive_threshold: READER_LIFE,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        self.delivered = 0;
        let stream = self.bus.context(self.stream).get_stream_no_info(self.stream.as_str()).await;
        stream.map_err(|e| e.to_string())?.create_consumer(config).await.map_err(|e| e.to_string())
    }
}
