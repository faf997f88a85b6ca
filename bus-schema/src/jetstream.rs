//! Streams and consumers, as data. The hub makes them; nobody else may.
//!
//! What was measured of JetStream, and why the settings are as they are, stands beside each of them.

use crate::subject::{Kind, LIVE, ROOT};

/// Settings of one stream in a workspace's account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSpec {
    /// Its name.
    pub name: &'static str,
    /// What it holds, for people who look with `nats stream ls`.
    pub description: &'static str,
    /// The kinds it keeps, over all workspaces and nodes of the account.
    pub kinds: &'static [Kind],
    /// Most messages per subject; -1 for no bound.
    pub max_messages_per_subject: i64,
    /// Longest time a message is kept, in seconds; 0 for ever.
    pub max_age_s: u64,
    /// Largest size, in bytes; -1 for no bound. The oldest go first. May be lowered by the hub's configuration.
    pub max_bytes: i64,
    /// How long an id (`Nats-Msg-Id`) is remembered, in seconds. About 300 bytes of server memory each.
    pub duplicate_window_s: u64,
    /// True if nothing may be deleted from it by anybody.
    pub append_only: bool,
}

impl StreamSpec {
    /// The subjects it takes.
    pub fn subjects(&self) -> Vec<String> {
        self.kinds.iter().map(|kind| kind.filter(None, None)).collect()
    }
}

/// Every stream republishes what it stored: from this …
pub fn republish_source() -> String {
    format!("{ROOT}.>")
}

/// … to this.
pub fn republish_destination() -> String {
    format!("{LIVE}.{ROOT}.>")
}

const MIB: i64 = 1024 * 1024;
const DAY_S: u64 = 24 * 3600;
/// Longest outage after which a repeated publish is still recognised by the server. Later ones are recognised by
/// the hub, whose writes are keyed by session and `seq`.
const DUPLICATE_WINDOW_S: u64 = 3600;

/// Last state of every node and session. A session's last snapshot outlives the store's 30 days of messages.
pub const STATE: StreamSpec = StreamSpec {
    name: "MOSAIC_STATE",
    description: "last state of every node and session",
    kinds: &[Kind::Node, Kind::Session],
    max_messages_per_subject: 1,
    max_age_s: 40 * DAY_S,
    max_bytes: 512 * MIB,
    duplicate_window_s: 120,
    append_only: false,
};

/// Messages and their receipts: the ledger of what was said.
pub const MESSAGES: StreamSpec = StreamSpec {
    name: "MOSAIC_MESSAGES",
    description: "messages of all sessions, and receipts of operator messages",
    kinds: &[Kind::Message, Kind::Receipt],
    max_messages_per_subject: -1,
    max_age_s: 7 * DAY_S,
    max_bytes: 4096 * MIB,
    duplicate_window_s: DUPLICATE_WINDOW_S,
    append_only: false,
};

/// Terminal bytes, bounded per session: 2,000 pieces of at most 64 KiB. Apart from the messages, so that a flood of
/// output cannot push them out; as long as them, so that a session that has ended can be replayed with both.
pub const TERMINAL: StreamSpec = StreamSpec {
    name: "MOSAIC_TERMINAL",
    description: "terminal output, bounded per session",
    kinds: &[Kind::Terminal],
    max_messages_per_subject: 2_000,
    max_age_s: 7 * DAY_S,
    max_bytes: 1024 * MIB,
    duplicate_window_s: 120,
    append_only: false,
};

/// Commands that nodes did not obey, until the hub has written them into the audit log. Bounded per node, so that one
/// node cannot push out what others tell.
pub const REFUSALS: StreamSpec = StreamSpec {
    name: "MOSAIC_REFUSALS",
    description: "commands that nodes did not obey, on their way into the audit log",
    kinds: &[Kind::Refusal],
    max_messages_per_subject: 1_000,
    max_age_s: 30 * DAY_S,
    max_bytes: 64 * MIB,
    duplicate_window_s: DUPLICATE_WINDOW_S,
    append_only: false,
};

/// The audit log: for ever, and no message can be taken out again.
pub const AUDIT: StreamSpec = StreamSpec {
    name: "MOSAIC_AUDIT",
    description: "audit log: every action of every operator",
    kinds: &[Kind::Audit],
    max_messages_per_subject: -1,
    max_age_s: 0,
    max_bytes: -1,
    duplicate_window_s: DUPLICATE_WINDOW_S,
    append_only: true,
};

/// Every stream of a workspace.
pub const STREAMS: &[&StreamSpec] = &[&STATE, &MESSAGES, &TERMINAL, &REFUSALS, &AUDIT];

/// Settings of the hub's durable pull consumers, one per stream it persists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerSpec {
    /// The stream it reads.
    pub stream: &'static StreamSpec,
    /// Its durable name.
    pub durable: &'static str,
    /// How long a message may be worked on before it is sent again, in seconds. A transaction takes milliseconds;
    /// a store that has to be reopened takes seconds.
    pub ack_wait_s: u64,
    /// Most messages in work at once.
    pub max_ack_pending: i64,
}

/// Reads nodes and sessions into the store.
pub const STATE_CONSUMER: ConsumerSpec =
    ConsumerSpec { stream: &STATE, durable: "hub-state", ack_wait_s: 60, max_ack_pending: 5_000 };
/// Reads messages and receipts into the store.
pub const MESSAGES_CONSUMER: ConsumerSpec =
    ConsumerSpec { stream: &MESSAGES, durable: "hub-messages", ack_wait_s: 60, max_ack_pending: 5_000 };

/// Brings refusals into the audit log, one by one; what a hub that was killed had in work comes soon to the next.
pub const REFUSALS_CONSUMER: ConsumerSpec =
    ConsumerSpec { stream: &REFUSALS, durable: "hub-refusals", ack_wait_s: 15, max_ack_pending: 100 };

/// Oldest nats-server that understands what we ask of it. Older ones ignore fields they do not know, in silence.
pub const MIN_SERVER_VERSION: (u64, u64, u64) = (2, 12, 1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kept_kind_is_in_exactly_one_stream() {
        for kind in Kind::ALL {
            let holders = STREAMS.iter().filter(|s| s.kinds.contains(kind)).count();
            let kept = !matches!(kind, Kind::Delta | Kind::Command);
            assert_eq!(holders, usize::from(kept), "{kind:?}");
        }
    }

    #[test]
    fn everything_bounded_but_the_audit_log() {
        for stream in STREAMS {
            assert_eq!(stream.append_only, stream.max_bytes < 0, "{}", stream.name);
            assert!(stream.max_age_s == 0 || stream.duplicate_window_s <= stream.max_age_s, "{}", stream.name);
        }
    }
}
