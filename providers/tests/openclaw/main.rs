//! Sessions of a real OpenClaw gateway, with a scripted model behind it (`testkit::OpenClaw`).
//!
//! A gateway takes half a minute to start, so the tests that need one run scene after scene on one gateway.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod conformance;
mod family;
mod harness;
mod held;
mod older;
mod requests;
mod rest;
mod restart;
mod soft;
mod trial;
mod turns;
