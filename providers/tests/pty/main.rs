//! Terminal sessions, with real processes, real terminals and real holders.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod agent;
mod claude;
mod codex;
mod conformance;
mod containment;
mod dialog;
mod ending;
mod flow;
mod harness;
mod inject;
mod lines;
mod opencode;
mod protocol;
mod restart;
mod terminal;
