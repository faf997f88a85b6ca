//! Sessions of OpenClaw gateways: read, written to and ended over the gateway's WebSocket (protocols 3 and 4).
//!
//! | file | what |
//! |---|---|
//! | `provider` | the trait's calls; which connections run |
//! | `core` | the sessions by our names and the gateways' |
//! | `session`, `record` | one session: what is said to it, what it asks; its events on disk, served from there |
//! | `rows` | a gateway's rows as messages |
//! | `gateway` | one connection over its lives: connect, look at everything, listen |
//! | `link`, `key` | one WebSocket: handshake, calls, events; who we are |
//! | `acts` | inject, answer, start, kill, terminate, soft pause |
//! | `held` | gateways that this node starts from a profile and holds in a cgroup |
//! | `rest`, `trial` | the older REST form; trying a connection |
//!
//! What ends a session: archived, deleted or begun anew (reset) at the gateway is `completed`; our own kill, proven and
//! then fenced by archiving, is `killed`. That a turn ends, fails or is aborted ends no session, and that the gateway is
//! away changes none (`gatewayAway` in the metadata says so). A conversation that comes to life again after its end is
//! a new session, with what is younger than that end.
//!
//! Files: `device.key` · `sessions/ID.jsonl` (its first line is the map from the gateway's names) · `forgotten.json`.
//!
//! Protocol 3 is spoken as far as it goes. It keeps no id of ours: an operator's words are known again by their digest and
//! our name beside them. Its list tells of no runs: they are followed by their events. It cannot steer, forgets on a restart
//! what waits (told as refused), drops a turn that a restart cut (told as failed), and has no archive: what waited behind
//! a kill is stopped when it begins. `limits` in a session's metadata says so. The kill there is seen by hand and coded so;
//! no test has shown the provider's part of it yet.
//!
//! Measured on openclaw 2026.9.6 (protocol 4) and 2026.4.15 (protocol 3), November 2026.

mod acts;
mod core;
pub(crate) mod fuzzing;
mod gateway;
mod held;
mod key;
mod link;
mod provider;
mod record;
mod rest;
mod rows;
mod session;
mod trial;

pub use self::provider::{OpenClawConfig, OpenClawGateway, OpenClawProvider};
