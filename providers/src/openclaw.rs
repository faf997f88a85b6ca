//! Sessions of OpenClaw gateways: read, written to and ended over the gateway's WebSocket (protocols 3 and 4).
//!
//! | file | what |
//! |---|---|
//! | `provider` | the trait's calls; which connections run |
//! | `core` | the sessions by our names and the gateways' |
//! | `session`, `record` | one session; its events on disk, from which every subscription is served |
//! | `rows` | a gateway's rows as messages |
//! | `gateway` | one connection over its lives: connect, look at everything, listen |
//! | `link`, `key` | one WebSocket: handshake, calls, events; who we are |
//! | `acts` | inject, answer, start, kill, terminate |
//! | `rest`, `trial` | the older REST form; trying a connection |
//!
//! What ends a session: archived, deleted or begun anew (reset) at the gateway is `completed`; our own kill, proven and
//! then fenced by archiving, is `killed`. That a turn ends, fails or is aborted ends no session, and that the gateway is
//! away changes none (`gatewayAway` in the metadata says so). A conversation that comes to life again after its end is
//! a new session, with what is younger than that end.
//!
//! Files: `device.key` · `sessions/ID.jsonl` (its first line is the map from the gateway's names) · `forgotten.json`.
//!
//! Measured on openclaw 2026.9.6, November 2026. For protocol 3 what the packages and earlier measurements say; no test yet.

mod acts;
mod core;
mod gateway;
mod key;
mod link;
mod provider;
mod record;
mod rest;
mod rows;
mod session;
mod trial;

pub use self::provider::{OpenClawConfig, OpenClawProvider};
