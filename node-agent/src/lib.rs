//! The node agent: one per host, light, replaceable under running sessions.

pub mod bus;
pub mod config;
pub mod metrics;
pub mod node_file;
pub mod outbox;
pub mod publisher;
pub mod session;
pub mod sessions;
