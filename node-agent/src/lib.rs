//! The node agent: one per host, light, replaceable under running sessions.

pub mod bus;
pub mod metrics;
pub mod outbox;
pub mod publisher;
pub mod session;
