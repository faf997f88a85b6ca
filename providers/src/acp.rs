//! Agents that speak the Agent Client Protocol: JSON-RPC over their standard input and output.
//!
//! ```text
//!  agent ◄─ pipes ─► holder: client (asks, answers, queues) ─► log of both directions
//!                                                                │ the node agent, now or after a restart
//!                                                                ▼
//!                                          interpreter: conversation ─► messages, status, requests
//! ```
//!
//! An ACP session is held like a terminal session, by the same holder and the same provider, with pipes in place of the
//! terminal: so it outlives the node agent, and is frozen and killed with all it started. Two pure machines share the
//! work. The [`client`] lives in the holder and does what must go on while no node agent is there: it opens the
//! session, sends what waits, cancels. The [`conversation`] lives in the node agent and tells what was said, derived
//! from the log alone.
//!
//! The connection of the crate `agent-client-protocol` is not used: it keeps its state in futures, which end with their
//! process, and it cannot say what has happened from a log. Its types are strict where a fleet must be lenient (an
//! update of an unknown kind fails its whole line), and bring `serde_json/preserve_order` into every crate that is built
//! with them, so the few lines that we write are written here.

pub(crate) mod client;
pub(crate) mod conversation;
mod family;
mod tool;
mod wire;

/// Where these messages were taken from.
const SOURCE: &str = "acp";
