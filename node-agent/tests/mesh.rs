//! The node agent as it runs: the real binary, a real nats-server with our accounts and streams, and a hub that signs.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "mesh/acp.rs"]
mod acp;
#[path = "mesh/chaos.rs"]
mod chaos;
#[path = "mesh/commands.rs"]
mod commands;
#[path = "mesh/faults.rs"]
mod faults;
#[path = "mesh/harness.rs"]
mod harness;
#[path = "mesh/life.rs"]
mod life;
#[path = "mesh/terminal.rs"]
mod terminal;
