//! `cargo xtask fuzz`: libFuzzer on the targets of `ops/fuzz`, guided by coverage, with the compiler that builds all
//! else.
//!
//! Our own crates are instrumented, and those of others are the ones that are built already: so a first run costs
//! minutes of building and not an hour. With `--whole` all of them are, in a folder of their own.
//!
//! What is found is put into `ops/fuzz/findings/TARGET/`: mended, it is committed with the cure, and runs for ever.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::{project, run, say, test};

/// What the compiler adds to every crate: counters at each edge, and what is compared with what.
const INSTRUMENTED: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
/// Our crates in the fuzzer: what reads the bytes, and so is worth being fast.
const OURS: [&str; 5] = ["bus-schema", "fuzz", "hub-identity", "node-agent", "providers"];
/// Set where cargo takes this program for the compiler of our crates.
const AS_COMPILER: &str = "MOSAIC_FUZZ_COMPILER";
/// How long a target is run unless it is said.
const SECONDS: u64 = 60;
/// One input that takes longer is a finding.
const SLOW_SECONDS: u64 = 10;
/// The process may not take more memory than this. What one input may take is bounded by the targets' own allocator.
const MOST_MB: u64 = 1024;

/// One target, as the list of `ops/fuzz` has it.
struct Target {
    name: String,
    max_bytes: u64,
}

/// The compiler with instrumentation, where cargo asks for that: `xtask RUSTC ARGUMENTS…`.
pub(crate) fn compile() -> Option<std::process::ExitCode> {
    std::env::var_os(AS_COMPILER)?;
    let mut arguments = std::env::args_os().skip(1);
    let mut rustc = Command::new(arguments.next()?);
    // It returns only if it could not be started.
    let error = std::os::unix::process::CommandExt::exec(rustc.args(arguments).args(INSTRUMENTED));
    say::error(&format!("start the compiler: {error}"));
    Some(std::process::ExitCode::FAILURE)
}

/// `cargo xtask fuzz [TARGET…] [--seconds N] [--whole]`
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let (mut names, mut seconds, mut whole) = (vec![], SECONDS, false);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seconds" => {
                let number = arguments.next().and_then(|number| number.parse().ok());
                seconds = number.filter(|n| *n > 0).context("--seconds wants a number")?;
            }
            "--whole" => whole = true,
            other if other.starts_with('-') => bail!("unknown argument {other:?}; there are --seconds N and --whole"),
            name => names.push(name.to_owned()),
        }
    }
    run::listen()?;
    let fuzzer = Fuzzer::build(whole)?;
    let all = fuzzer.targets()?;
    if let Some(unknown) = names.iter().find(|name| !all.iter().any(|target| target.name == **name)) {
        let known: Vec<_> = all.iter().map(|target| target.name.as_str()).collect();
        bail!("no target {unknown:?}; there are {}", known.join(", "));
    }
    let chosen = all.iter().filter(|target| names.is_empty() || names.contains(&target.name));
    let mut found = vec![];
    for target in chosen {
        match fuzzer.run(target, seconds) {
            Ok(line) => say::good(&line),
            Err(error) => {
                run::check()?;
                say::error(&format!("{error:#}"));
                found.push(target.name.as_str());
            }
        }
    }
    anyhow::ensure!(found.is_empty(), "something was found in {}", found.join(", "));
    Ok(())
}

/// Fails with what to install where there is no compiler for libFuzzer itself.
fn compiler() -> anyhow::Result<()> {
    let given = std::env::var_os("CXX").is_some_and(|cxx| !cxx.is_empty());
    let found = given || ["c++", "g++", "clang++"].iter().any(|name| project::on_path(name).is_some());
    anyhow::ensure!(found, "no C++ compiler for the fuzzer: apt-get install g++");
    Ok(())
}

/// The built fuzzer.
struct Fuzzer {
    program: PathBuf,
    /// Where corpora and logs go.
    dir: PathBuf,
}

impl Fuzzer {
    fn build(whole: bool) -> anyhow::Result<Self> {
        compiler()?;
        let dir = project::target().join("fuzzing");
        let program = if whole { build_whole(&dir)? } else { build_ours()? };
        Ok(Self { program, dir })
    }

    fn targets(&self) -> anyhow::Result<Vec<Target>> {
        let text = run::output(Command::new(&self.program).env("MOSAIC_FUZZ_TARGET", "list"))?;
        let target = |line: &str| {
            let mut words = line.split(' ');
            let max_bytes = words.next()?.parse().ok()?;
            Some(Target { name: words.next()?.to_owned(), max_bytes })
        };
        text.lines().map(|line| target(line).with_context(|| format!("not a target: {line}"))).collect()
    }

    /// Runs a target; in one line, how far it came.
    fn run(&self, target: &Target, seconds: u64) -> anyhow::Result<String> {
        let name = target.name.as_str();
        let findings = project::root().join("ops/fuzz/findings").join(name);
        let corpus = self.dir.join("corpus").join(name);
        let log = self.dir.join("logs").join(format!("{name}.log"));
        for dir in [&corpus, &self.dir.join("logs"), &findings] {
            std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        }
        let begun = Instant::now();
        let mut fuzz = Command::new(&self.program);
        fuzz.arg(&corpus).env("MOSAIC_FUZZ_TARGET", name).env("MOSAIC_FUZZ_SEEDS", &corpus);
        fuzz.arg(format!("-artifact_prefix={}/", findings.display()));
        fuzz.arg(format!("-max_len={}", target.max_bytes));
        fuzz.args([format!("-timeout={SLOW_SECONDS}"), format!("-rss_limit_mb={MOST_MB}")]);
        fuzz.args(["-print_final_stats=1", "-verbosity=1"]);
        fuzz.arg(format!("-max_total_time={seconds}"));
        let file = std::fs::File::create(&log).with_context(|| format!("make {}", log.display()))?;
        let ended = run::status(fuzz.stderr(file));
        // Where nothing was found the folder stays empty, and goes.
        let _ = std::fs::remove_dir(&findings);
        let text = String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()).into_owned();
        let status = ended?;
        if !status.success() {
            bail!("{name}: {} ({status}); the input is in {}", what_failed(&text), findings.display());
        }
        Ok(format!("{name}: {}", summary(&text, begun.elapsed(), &corpus)))
    }
}

/// Our crates instrumented, with the crates of others as every build has them: the whole workspace is named, so that
/// their features are the same.
fn build_ours() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("our own path")?;
    let mut build = test::cargo();
    build.args(["build", "--workspace", "--bin", "fuzz", "--features", "fuzz/libfuzzer"]);
    for name in OURS {
        build.arg("--config").arg(format!("profile.dev.package.{name}.opt-level=2"));
    }
    run::run(build.env("RUSTC_WORKSPACE_WRAPPER", own).env(AS_COMPILER, "1"))?;
    Ok(project::profile_dir("dev").join("fuzz"))
}

/// Everything instrumented and optimised. Named by its target, so that what runs while it is built is not.
fn build_whole(dir: &Path) -> anyhow::Result<PathBuf> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = run::output(Command::new(rustc).arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    let mut build = test::cargo();
    build.args(["build", "--package", "fuzz", "--features", "libfuzzer", "--profile", "fuzz", "--target", host]);
    let flags = format!("--cfg fuzzing {}", INSTRUMENTED.join(" "));
    run::run(build.env("CARGO_TARGET_DIR", dir).env("RUSTFLAGS", flags))?;
    Ok(dir.join(host).join("fuzz/fuzz"))
}

/// The line in which a finding says what is wrong.
fn what_failed(log: &str) -> String {
    let panics = log.lines().skip_while(|line| !line.contains("panicked at")).take(3).collect::<Vec<_>>().join(" ");
    let others = || log.lines().find(|line| line.contains("ERROR: libFuzzer")).unwrap_or("it ended early").to_owned();
    if panics.is_empty() { others() } else { panics.chars().take(600).collect() }
}

fn summary(log: &str, time: Duration, corpus: &Path) -> String {
    let runs = log.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:")).unwrap_or("?").trim();
    let covered = log.lines().rev().find_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| *word != "cov:");
        words.nth(1)
    });
    let inputs = std::fs::read_dir(corpus).map_or(0, Iterator::count);
    format!("{runs} runs in {} s, {} edges, {inputs} inputs kept", time.as_secs(), covered.unwrap_or("?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_says_how_far_it_came_and_what_was_wrong() {
        let log = "#2\tINITED cov: 8 ft: 8 corp: 1/1b\n#9\tDONE   cov: 91 ft: 8\nstat::number_of_executed_units: 12\n";
        let line = summary(log, Duration::from_secs(3), Path::new("/nonexistent"));
        assert_eq!(line, "12 runs in 3 s, 91 edges, 0 inputs kept");
        let log =
            "x\nthread '<unnamed>' panicked at a.rs:1:2:\nwhy\nmore\nnot this\n==1== ERROR: libFuzzer: deadly signal\n";
        assert_eq!(what_failed(log), "thread '<unnamed>' panicked at a.rs:1:2: why more");
        assert_eq!(
            what_failed("==1== ERROR: libFuzzer: timeout after 10 s\n"),
            "==1== ERROR: libFuzzer: timeout after 10 s"
        );
    }
}
