//! `[limits]`: how much anybody may ask for.

use std::num::NonZeroU32;

use serde::Deserialize;

/// Everything that is limited. Each has a default; none can be switched off, all can be raised.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Messages to one session by one operator, each minute.
    pub inject_per_minute: NonZeroU32,
    /// Requests of everybody together, each second; five seconds' worth may come at once.
    pub requests_per_second: NonZeroU32,
    /// Requests of one person, with their tokens, each second; five seconds' worth may come at once.
    pub user_requests_per_second: NonZeroU32,
    /// Sign-ins that may fail for one account, each minute.
    pub failed_sign_ins_per_minute: NonZeroU32,
    /// Sign-ins that may fail from one address (IPv6: one /64), each minute.
    pub failed_sign_ins_per_address: NonZeroU32,
    /// Streams that one person may have open.
    pub streams_per_user: u32,
    /// Connections of everybody together.
    pub connections: u32,
    /// Connections from one address (IPv6: one /64). Of a trusted proxy all may come.
    pub connections_per_address: u32,
    /// Largest body, in bytes. The largest that is useful is a message of 256 KiB with all of it escaped.
    pub body_bytes: usize,
    /// Largest request line with headers, in bytes.
    pub header_bytes: usize,
    /// How long headers may take, in seconds; as long may a connection be idle.
    pub header_timeout_s: u64,
    /// How long a body may take, in seconds.
    pub body_timeout_s: u64,
    /// How long a terminal stays somebody's after their last key, in seconds.
    pub control_s: u64,
    /// How long a second person may take to decide what needs two, in seconds.
    pub approval_s: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let number = |n: u32| NonZeroU32::MIN.saturating_add(n - 1);
        Self {
            inject_per_minute: number(10),
            requests_per_second: number(2_000),
            user_requests_per_second: number(200),
            failed_sign_ins_per_minute: number(10),
            failed_sign_ins_per_address: number(30),
            streams_per_user: 100,
            connections: 1_024,
            connections_per_address: 256,
            body_bytes: 2 * 1024 * 1024,
            header_bytes: 32 * 1024,
            header_timeout_s: 30,
            body_timeout_s: 30,
            control_s: 60,
            approval_s: 600,
        }
    }
}

impl LimitsConfig {
    /// Names every number that cannot work.
    pub(super) fn check(&self, problems: &mut Vec<String>) {
        let least = [
            ("streams_per_user", u64::from(self.streams_per_user), 1),
            ("connections", u64::from(self.connections), 8),
            ("connections_per_address", u64::from(self.connections_per_address), 1),
            ("body_bytes", self.body_bytes as u64, 1_024),
            // Less is not taken by the HTTP server.
            ("header_bytes", self.header_bytes as u64, 8_192),
            ("header_timeout_s", self.header_timeout_s, 1),
            ("body_timeout_s", self.body_timeout_s, 1),
            ("control_s", self.control_s, 1),
            ("approval_s", self.approval_s, 1),
        ];
        for (key, found, least) in least {
            if found < least {
                problems.push(format!("limits.{key} {found} must be at least {least}"));
            }
        }
    }
}
