//! The node agent: one per host, light, replaceable under running sessions.

pub mod bus;
pub mod commands;
pub mod config;
pub mod heartbeat;
pub mod join;
pub mod metrics;
pub mod node;
pub mod node_file;
pub mod outbox;
pub mod publisher;
pub mod runtimes;
pub mod session;
pub mod sessions;
pub mod settings;
pub mod stop;
pub mod supervisor;
pub mod telemetry;
