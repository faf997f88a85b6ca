//! The fuzzer: libFuzzer around one target, which `MOSAIC_FUZZ_TARGET` names. Started by `cargo xtask fuzz`.
//!
//! With `MOSAIC_FUZZ_SEEDS` it first writes the target's seeds into that folder. What a target allocates is bounded, so
//! that a claimed length cannot take the machine's memory unnoticed.

#![no_main]

use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;

use cap::Cap;
use fuzz::Target;
use libfuzzer_sys::fuzz_target;

/// How much one input may have allocated at one time: sixteen times the largest payload of the bus.
const MOST_BYTES: usize = 64 * 1024 * 1024;

#[global_allocator]
static MEMORY: Cap<std::alloc::System> = Cap::new(std::alloc::System, usize::MAX);

fn target() -> &'static Target {
    static TARGET: OnceLock<&'static Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let name = std::env::var("MOSAIC_FUZZ_TARGET").unwrap_or_default();
        Target::named(&name).unwrap_or_else(|| list(&name))
    })
}

/// Tells all targets on stdout: `max_bytes name`. Ends well if it is what was wanted.
fn list(name: &str) -> ! {
    let lines: String = fuzz::TARGETS.iter().map(|target| format!("{} {}\n", target.max_bytes, target.name)).collect();
    // Who does not listen does not need it.
    let _ = std::io::stdout().write_all(lines.as_bytes());
    std::process::exit(if name == "list" { 0 } else { 2 })
}

fn write_seeds() {
    let target = target();
    let Some(dir) = std::env::var_os("MOSAIC_FUZZ_SEEDS").map(PathBuf::from) else { return };
    for (n, seed) in target.seeds().iter().enumerate() {
        // A seed that is not there is one less to begin with.
        let _ = std::fs::write(dir.join(format!("seed-{n:04}")), seed);
    }
}

fuzz_target!(
    init: write_seeds(),
    |data: &[u8]| {
        let check = target().check;
        // More than this and the allocator says no, which ends the run as a finding.
        let _ = MEMORY.set_limit(MEMORY.allocated().saturating_add(MOST_BYTES));
        check(data);
        let _ = MEMORY.set_limit(usize::MAX);
    }
);
