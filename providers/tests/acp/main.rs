//! Agents that speak ACP, with real processes, real pipes and real holders: a scripted one, and the adapters of Codex
//! and Claude Code.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod adapters;
mod conformance;
#[path = "../pty/harness.rs"]
#[expect(dead_code, reason = "shared with the tests of terminal sessions, which need more of it")]
mod harness;
mod scripted;
mod stage;
