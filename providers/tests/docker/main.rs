//! Sessions in containers, with a real container engine of each test's own.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod away;
mod conformance;
mod ending;
mod finding;
mod harness;
mod inject;
mod output;
mod terminal;
