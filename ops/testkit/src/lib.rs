//! What tests stand on: real servers on free ports, waiting on conditions, and faults on purpose.
//!
//! | need | here |
//! |---|---|
//! | a real `nats-server` with our accounts, killed and restarted at will | [`NatsServer`], [`TestIdentity`] |
//! | a client of it, with what the server told it | [`Bus`] |
//! | the whole stack, as `cargo xtask up` runs it | [`Stack`] |
//! | the hub, its bus and several nodes, each killed and started at will | [`Mesh`] |
//! | a person at the hub's API, and what its streams tell | [`Person`], [`Events`] |
//! | a scripted model server for agent CLIs | [`FakeModel`] |
//! | a container engine of its own, killed and restarted at will | [`Dockerd`] |
//! | a real OpenClaw gateway with a scripted model | [`OpenClaw`] |
//! | a network that fails | [`FaultProxy`] |
//! | hosts that are cut off | [`Networks`] |
//! | any other program, with its log | [`Process`] |
//! | until something is so | [`wait_until`] |
//! | process trees, memory, processor time | [`mod@proc`] |
//!
//! Laws:
//! 1. Nothing is left running: whatever starts a process or a task ends it when dropped.
//! 2. Nothing waits for a fixed time: every wait is for a condition and has a deadline, and says what it saw last.
//! 3. What a failed test needs to be understood is kept: logs are printed, folders stay and are named.
//! 4. A missing program is an error that says how to install it, never a skipped test.
//!
//! Only ever a dev-dependency.

mod agent_cli;
mod api;
mod bus;
pub mod docker;
mod fake_model;
mod fault_proxy;
mod http;
mod mesh;
mod nats;
mod networks;
mod openclaw;
mod packages;
pub mod proc;
mod process;
mod sse;
mod stack;
mod wait;

pub use agent_cli::{AgentHome, agent_cli, claude_home, codex_home, opencode_home};
pub use api::Person;
pub use bus::Bus;
pub use docker::Dockerd;
pub use fake_model::FakeModel;
pub use fault_proxy::FaultProxy;
pub use http::{HttpReply, http_get, http_post};
pub use mesh::Mesh;
pub use nats::{NatsServer, TestIdentity, find_nats_server};
pub use networks::Networks;
pub use openclaw::{OPENCLAW_VERSION, OpenClaw};
pub use packages::{npm_with, python_with};
pub use process::Process;
pub use sse::{Event, Events};
pub use stack::Stack;
pub use wait::{Seen, WaitError, wait_until, wait_until_blocking};

/// A TCP port of the loopback interface that was free a moment ago. Prefer port 0 wherever a program can take it and
/// tell the port it got: somebody else may be quicker with this one.
///
/// # Errors
/// No port is free.
pub fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
