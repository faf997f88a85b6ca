//! Fuzz targets: everything that reads bytes of others, and what must hold of it whatever they are.
//!
//! | what reads | targets |
//! |---|---|
//! | the bus | [`bus`]: payloads, subjects, headers, signed commands, the audit log and its canonical JSON |
//! | the node agent | [`node`]: join tokens, outbox records, sealed settings, configuration |
//! | the runtimes | [`providers::fuzzing`]: terminals, lines, reports, hooks, transcripts, ACP, Docker, OpenClaw |
//! | the tools and the hub | [`tools`]: `mosaic decode` and `tail`, cursors of live streams, identity files |
//!
//! `cargo xtask fuzz` builds the binary of this crate with coverage and runs it. Without the fuzzer, the tests of
//! this crate, which `cargo xtask test` runs, try every seed and every finding, and what a few dice make of them.
//!
//! Laws:
//! 1. A target takes any bytes whatsoever, depends on nothing else, and panics only where a promise is broken.
//! 2. Every finding is kept in `findings/TARGET/` and run for ever.
//! 3. Nothing here knows the database: it would be built twice.

pub mod bus;
pub mod node;
mod seeds;
pub mod tools;

// Programs without a library, and the one module of the hub that reads a viewer's own words.
#[expect(dead_code, reason = "the program's own entry is not used here")]
#[path = "../../cli/src/decode.rs"]
mod decode;
#[path = "../../cli/src/escape.rs"]
mod escape;
#[path = "../../cli/src/json.rs"]
mod json;
#[path = "../../../hub/src/live/place.rs"]
mod place;
#[path = "../../cli/src/render.rs"]
mod render;

/// One target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: what is given to `cargo xtask fuzz`.
    pub name: &'static str,
    /// Checks what must hold of any bytes.
    pub check: fn(&[u8]),
    /// How many tries are some seconds of the fuzzer; the ordinary tests make a hundredth of them.
    pub runs: u32,
    /// Longest input that is worth a try.
    pub max_bytes: u32,
}

/// All targets.
pub static TARGETS: &[Target] = &[
    target("payload", bus::payload, 60_000, 4096),
    target("subject", bus::subject, 300_000, 512),
    target("command", bus::command, 3_000, 2048),
    target("succession", bus::succession, 3_000, 2048),
    target("audit", bus::audit, 30_000, 8192),
    target("canonical", bus::canonical_json, 60_000, 4096),
    target("join", node::join, 30_000, 4096),
    target("outbox", node::outbox, 100_000, 4096),
    target("sealed", node::sealed, 3_000, 2048),
    target("node-config", node::config, 3_000, 4096),
    target("terminal", providers::fuzzing::terminal, 6_000, 4096),
    target("interpreter", providers::fuzzing::interpreter, 6_000, 8192),
    target("lines", providers::fuzzing::lines, 20_000, 4096),
    target("report", providers::fuzzing::report, 60_000, 4096),
    target("transcript", providers::fuzzing::transcript, 10_000, 8192),
    target("holder", providers::fuzzing::holder, 60_000, 4096),
    target("acp", providers::fuzzing::acp_client, 20_000, 8192),
    target("docker-log", providers::fuzzing::engine_log, 60_000, 4096),
    target("docker-labels", providers::fuzzing::container, 60_000, 2048),
    target("openclaw", providers::fuzzing::gateway, 1_500, 8192),
    target("decode", tools::decode, 60_000, 4096),
    target("tail", tools::tail, 30_000, 4096),
    target("cursor", tools::cursor, 300_000, 256),
    target("identity", tools::identity, 1_500, 4096),
];

const fn target(name: &'static str, check: fn(&[u8]), runs: u32, max_bytes: u32) -> Target {
    Target { name, check, runs, max_bytes }
}

impl Target {
    /// The target of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// What a fuzzer begins with: examples of what is really read, and everything that was ever found.
    pub fn seeds(&self) -> Vec<Vec<u8>> {
        let mut all = seeds::of(self.name);
        all.extend(seeds::findings(self.name));
        all
    }
}
