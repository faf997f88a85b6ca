//! The node agent: one per host, light, replaceable under running sessions.

pub mod outbox;
pub mod session;
