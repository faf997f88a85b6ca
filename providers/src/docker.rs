//! Agents in containers, on the Docker Engine's API over its local socket.
//!
//! ```text
//!   engine ──events──► discovery ──► one session per container: keeper ──► log on our disk ──► feed ──► subscriber
//!      ▲        list       │nudge        │ inspect, logs            (fragments, notes, exit)
//!      └───────────────────┴─────────────┘
//! ```
//!
//! A container with a terminal (`docker run -t`) is also watched as one: see `docker/terminal.rs`.
//!
//! A container is an agent when it carries the label `dev.mosaic.agent=true`. Laws:
//! 1. A container without that label is never touched, whatever its name.
//! 2. The engine is asked, never believed by memory: events only say where to look, and what an inspection shows is
//!    what is told.
//! 3. What is told is on our disk first: see `docker/record.rs`. So the engine's own log may be rotated, and this
//!    program be killed, and every line is told once.
//! 4. An engine that is away ends nothing. What it does meanwhile is found out when it is back.
//!
//! A container that ended and is started again is a new session: an end is final. One that its restart policy, or
//! `docker restart`, brings back before it was seen to stay down is the same session.

mod backoff;
mod cursor;
mod discovery;
mod ending;
mod engine;
mod feed;
mod files;
pub(crate) mod fuzzing;
mod handover;
mod journal;
mod keeper;
mod labels;
mod logs;
mod moment;
mod provider;
mod record;
mod session;
mod start;
mod terminal;

pub use provider::{DockerConfig, DockerProvider};
