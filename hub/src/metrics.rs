//! What the hub counts, as Prometheus reads it. Labels are bounded: never an id.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// One word.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Of {
    /// Which stream, event, reason, … ; see the metric's help.
    pub of: &'static str,
}

/// An HTTP answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Answer {
    /// The route's pattern, never the path.
    pub route: String,
    /// Status code.
    pub status: u16,
}

/// An action of an operator.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ActionOf {
    /// Which action.
    pub action: &'static str,
    /// What became of it.
    pub result: &'static str,
}

/// Events of the connections to the bus.
#[derive(Clone, Default)]
pub struct BusEvents(Family<Of, Counter>);

impl BusEvents {
    /// Counts one.
    pub fn count(&self, event: &async_nats::Event) {
        let of = match event {
            async_nats::Event::Connected => "connected",
            async_nats::Event::Disconnected => "disconnected",
            async_nats::Event::LameDuckMode => "lame_duck",
            async_nats::Event::Draining => "draining",
            async_nats::Event::Closed => "closed",
            async_nats::Event::SlowConsumer(_) => "slow_consumer",
            async_nats::Event::ServerError(_) => "server_error",
            async_nats::Event::ClientError(_) => "client_error",
        };
        self.0.get_or_create(&Of { of }).inc();
    }
}

/// A part of a gauge that several add to: what it said last is taken away before it says something else.
#[derive(Default)]
pub struct Share(AtomicI64);

impl Share {
    /// Now it is so many.
    pub fn set(&self, of: &Gauge, now: i64) {
        of.inc_by(now - self.0.swap(now, Ordering::Relaxed));
    }
}

/// Everything the hub counts.
pub struct Metrics {
    registry: Registry,
    /// Events of the connections to the bus.
    pub bus_events: BusEvents,
    /// Messages of streams that are in the store.
    pub ingested: Family<Of, Counter>,
    /// Messages of streams that could not be read and were set aside, by reason.
    pub parked: Family<Of, Counter>,
    /// Messages that were delivered again.
    pub redelivered: Counter,
    /// Time of one transaction of ingestion.
    pub commit_seconds: Histogram,
    /// Messages in one transaction.
    pub batch_messages: Histogram,
    /// Messages of streams that reached the live path by reading them again.
    pub live_repaired: Counter,
    /// Events handed to the live path.
    pub live_events: Counter,
    /// Open streams to viewers.
    pub viewers: Gauge,
    /// Viewers that were cut off because they did not keep up.
    pub viewers_cut: Counter,
    /// HTTP answers.
    pub answers: Family<Answer, Counter>,
    /// Actions of operators.
    pub actions: Family<ActionOf, Counter>,
    /// Nodes that are there.
    pub nodes_online: Gauge,
    /// Sessions that have not ended.
    pub sessions_active: Gauge,
    /// Resident memory of the hub.
    pub resident_bytes: Gauge<i64>,
    /// Restarts of background tasks after an error.
    pub restarts: Family<Of, Counter>,
    /// What a limit refused, by limit.
    pub limited: Family<Of, Counter>,
    /// Open connections.
    pub connections: Gauge,
    /// Sign-ins by result.
    pub sign_ins: Family<Of, Counter>,
    /// Events dropped at a viewer's terminal.
    pub terminal_gaps: Counter<u64, AtomicU64>,
    /// Refusals that are not in the audit log, because one person had too many of them.
    pub refusals_unwritten: Counter,
    /// Actions that stay without an outcome in the audit log, because too many waited for the bus.
    pub outcomes_lost: Counter,
    /// Rows of the audit log that are not what they should be, by what is wrong.
    pub audit_faults: Family<Of, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All counters at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("mosaic_hub");
        macro_rules! metric {
            ($name:literal, $help:literal, $value:expr) => {{
                let metric = $value;
                registry.register($name, $help, metric.clone());
                metric
            }};
        }
        let seconds = Histogram::new(exponential_buckets(0.001, 2.0, 14));
        registry.register_with_unit("commit", "Time of one transaction of ingestion", Unit::Seconds, seconds.clone());
        let bus_events = BusEvents::default();
        registry.register("bus_events", "Events of the connections to the bus", bus_events.0.clone());
        Self {
            bus_events,
            ingested: metric!("ingested_messages", "Messages now in the store, by stream", Family::default()),
            parked: metric!("parked_messages", "Messages set aside because they cannot be read", Family::default()),
            redelivered: metric!("redelivered_messages", "Messages delivered again", Counter::default()),
            commit_seconds: seconds,
            batch_messages: metric!(
                "batch_messages",
                "Messages in one transaction",
                Histogram::new(exponential_buckets(1.0, 2.0, 11))
            ),
            live_repaired: metric!(
                "live_repaired_messages",
                "Live messages read again from a stream",
                Counter::default()
            ),
            live_events: metric!("live_events", "Events handed to viewers' queue", Counter::default()),
            viewers: metric!("viewers", "Open streams to viewers", Gauge::default()),
            viewers_cut: metric!("viewers_cut", "Viewers cut off because they did not keep up", Counter::default()),
            answers: metric!("http_answers", "HTTP answers by route and status", Family::default()),
            actions: metric!("actions", "Actions of operators and their results", Family::default()),
            nodes_online: metric!("nodes_online", "Nodes that are there", Gauge::default()),
            sessions_active: metric!("sessions_active", "Sessions that have not ended", Gauge::default()),
            resident_bytes: metric!("resident_bytes", "Resident memory", Gauge::default()),
            restarts: metric!("task_restarts", "Restarts of background tasks after an error", Family::default()),
            limited: metric!("limited", "What a limit refused, by limit", Family::default()),
            connections: metric!("http_connections", "Open connections", Gauge::default()),
            sign_ins: metric!("sign_ins", "Sign-ins by result", Family::default()),
            terminal_gaps: metric!("terminal_gaps", "Gaps in terminals shown to viewers", Counter::default()),
            refusals_unwritten: metric!(
                "refusals_unwritten",
                "Refusals not written into the audit log, one person having too many of them",
                Counter::default()
            ),
            outcomes_lost: metric!(
                "audit_outcomes_lost",
                "Actions without an outcome in the audit log, too many having waited for the bus",
                Counter::default()
            ),
            audit_faults: metric!("audit_faults", "Rows of the audit log that are not right", Family::default()),
            registry,
        }
    }

    /// The text that Prometheus reads.
    pub fn render(&self) -> String {
        self.resident_bytes.set(resident_bytes().unwrap_or(0));
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(_) => String::new(),
        }
    }
}

/// Resident memory of this process, from the second number in `/proc/self/statm` (pages of 4 KiB).
fn resident_bytes() -> Option<i64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    text.split_whitespace().nth(1)?.parse::<i64>().ok().map(|pages| pages * 4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_can_be_read() {
        let metrics = Metrics::new();
        metrics.ingested.get_or_create(&Of { of: "messages" }).inc_by(3);
        let text = metrics.render();
        assert!(text.contains("mosaic_hub_ingested_messages_total{of=\"messages\"} 3"), "{text}");
        assert!(text.contains("mosaic_hub_resident_bytes "), "{text}");
    }
}
