//! `cargo xtask test`: everything that must hold. What CI runs, and what one runs before a commit.
//!
//! The quick checks come first. The first failure ends it: what comes behind would only say the same again.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::dashboard::Dashboard;
use crate::{advisories, project, run, say, tidy, tools};

/// `cargo xtask codegen`: makes what is generated and committed.
pub(crate) fn codegen(arguments: &[String]) -> anyhow::Result<()> {
    crate::no_arguments(arguments)?;
    run::listen()?;
    run::run(cargo().args(["build", "--workspace", "--bins"]))?;
    let page = Dashboard::find()?.context("no dashboard in this tree")?;
    page.install()?;
    page.types(&project::profile_dir("dev").join("mosaic-hub"), false)?;
    run::run(cargo().args(["test", "--workspace", "--test", "subjects_page"]).env("MOSAIC_SUBJECTS", "write"))
}

/// How long the whole stack may take to be ready once it is built.
const READY_WITHIN: Duration = Duration::from_secs(600);
/// How long it may take to end.
const END_WITHIN: Duration = Duration::from_secs(90);

/// `cargo xtask test [--fast]`
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let mut fast = false;
    for argument in arguments {
        match argument.as_str() {
            "--fast" => fast = true,
            other => bail!("unknown argument {other:?}; there is --fast"),
        }
    }
    run::listen()?;
    // Asked now: the build may put another file in its place, and then the system says that it is deleted.
    let own = std::env::current_exe().context("our own path")?;
    let begun = Instant::now();
    let programs = Programs::find(fast)?;
    let page = Dashboard::find()?;

    step("format", || run::run(cargo().args(["fmt", "--all", "--check"])))?;
    step("tidy", tidy::check)?;
    step("licences and sources", || {
        let mut deny = Command::new(&programs.deny);
        deny.current_dir(project::root()).args(["--locked", "check", "--hide-inclusion-graph"]);
        // The database names its licence in a file only; deny.toml lists its crates.
        run::run(deny.args(["--allow", "no-license-field", "licenses", "bans", "sources"]))
    })?;
    step("known against our crates", || advisories::crates(&programs.deny))?;
    match &page {
        None => say::warn("no dashboard in this tree: its checks are left out"),
        Some(page) => {
            step("page: packages", || page.install())?;
            step("page: known against its packages", || advisories::page(page))?;
            step("page: types and lints", || page.script("check"))?;
            step("page: unit tests", || page.script("test"))?;
            step("page: build", || page.build())?;
        }
    }
    step("clippy", || run::run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])))?;
    step("build", || run::run(cargo().args(["build", "--workspace", "--bins"])))?;
    if let Some(page) = &page {
        let hub = project::profile_dir("dev").join("mosaic-hub");
        step("page: types are those of the hub", || page.types(&hub, true))?;
    }
    step("tests", || {
        let mut nextest = Command::new(&programs.nextest);
        nextest.current_dir(project::root()).args(["nextest", "run", "--workspace"]);
        if fast {
            nextest.args(["--profile", "fast"]);
        }
        if let Some(chromium) = &programs.chromium {
            nextest.env("MOSAIC_CHROMIUM", chromium);
        }
        // Agent CLIs come from npm, and the npm that they come by is ours.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let node = tools::NODE.get()?.parent().map(Path::to_owned).unwrap_or_default();
        nextest.env("PATH", std::env::join_paths(std::iter::once(node).chain(std::env::split_paths(&path)))?);
        run::run(nextest.env("NATS_SERVER", &programs.nats))
    })?;
    step("examples in the documentation", || {
        run::run(cargo().args(["test", "--workspace", "--doc"]).env("NATS_SERVER", &programs.nats))
    })?;
    match (&page, &programs.chromium) {
        (Some(page), Some(chromium)) => {
            step("page: in a real browser, on the whole stack", || browser(&own, page, chromium))?
        }
        _ if fast => say::warn("--fast: browser, Docker and OpenClaw were left out"),
        _ => {}
    }
    say::good(&format!("all of it, in {}", spoken(begun.elapsed())));
    Ok(())
}

/// The programs that the tests need, all of them looked for before anything long begins.
struct Programs {
    nats: std::path::PathBuf,
    nextest: std::path::PathBuf,
    deny: std::path::PathBuf,
    chromium: Option<std::path::PathBuf>,
}

impl Programs {
    fn find(fast: bool) -> anyhow::Result<Self> {
        project::on_path("python3").context("python3 is missing: apt-get install python3 python3-venv")?;
        if !fast {
            tools::container_engine()?;
        }
        let needs_browser = !fast && project::dashboard().is_some();
        Ok(Self {
            chromium: needs_browser.then(tools::chromium).transpose()?,
            nats: match std::env::var_os("NATS_SERVER") {
                Some(path) => path.into(),
                None => tools::NATS_SERVER.get()?,
            },
            nextest: tools::NEXTEST.get()?,
            deny: tools::DENY.get()?,
        })
    }
}

/// Cargo, at the root of the workspace.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(project::root());
    cargo
}

fn step(what: &str, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    run::check()?;
    say::step(what);
    let begun = Instant::now();
    work().with_context(|| format!("failed: {what}"))?;
    say::good(&format!("{what} ({})", spoken(begun.elapsed())));
    Ok(())
}

fn spoken(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        s @ 1..=119 => format!("{s} s"),
        s => format!("{} min {} s", s / 60, s % 60),
    }
}

/// Runs the page's end-to-end tests against the whole stack, started as a newcomer would start it.
fn browser(own: &Path, page: &Dashboard, chromium: &Path) -> anyhow::Result<()> {
    let data = std::env::temp_dir().join(format!("mosaic-e2e-{}", std::process::id()));
    let mut up = Command::new(own);
    up.args(["up", "--json", "--port", "0", "--nats-port", "0", "--profile", "dev", "--data"]).arg(&data);
    up.arg("--node-config").arg(page.e2e_node_config());
    let tested = with_stack(&mut up, |ready| {
        let mut e2e = page.script_command("e2e")?;
        for (variable, pointer) in [
            ("MOSAIC_URL", "/url"),
            ("MOSAIC_NODE", "/node"),
            ("MOSAIC_ADMIN_EMAIL", "/admin/email"),
            ("MOSAIC_ADMIN_PASSWORD", "/admin/password"),
            ("MOSAIC_OPERATOR_EMAIL", "/operator/email"),
            ("MOSAIC_OPERATOR_PASSWORD", "/operator/password"),
            ("MOSAIC_OBSERVER_EMAIL", "/observer/email"),
            ("MOSAIC_OBSERVER_PASSWORD", "/observer/password"),
        ] {
            let value = ready.pointer(pointer).and_then(Value::as_str);
            e2e.env(variable, value.with_context(|| format!("up --json says nothing of {pointer}"))?);
        }
        // One of them kills the hub.
        e2e.env("MOSAIC_HUB_PID_FILE", data.join("run/hub.pid"));
        run::run(e2e.env("MOSAIC_CHROMIUM", chromium))
    });
    if tested.is_ok() {
        // Kept after a failure, with the logs in it.
        let _ = std::fs::remove_dir_all(&data);
    }
    tested.with_context(|| format!("the stack's files and logs are in {}", data.display()))
}

/// Starts the stack, waits for its line of JSON, does the work, and ends the stack whatever came of it.
fn with_stack(up: &mut Command, work: impl FnOnce(&Value) -> anyhow::Result<()>) -> anyhow::Result<()> {
    use std::io::BufRead;
    use std::os::unix::process::CommandExt;

    let mut child = up.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0).spawn().context("start up")?;
    let stdout = child.stdout.take().context("stdout of up")?;
    // One line, ever.
    let (send, receive) = std::sync::mpsc::sync_channel(1);
    std::thread::Builder::new().name("up".into()).spawn(move || {
        let mut line = String::new();
        let _ = std::io::BufReader::new(stdout).read_line(&mut line);
        let _ = send.send(line);
    })?;
    let begun = Instant::now();
    let done = loop {
        match receive.recv_timeout(run::LOOK_EVERY) {
            Ok(line) => {
                let ready = serde_json::from_str(&line).context("cargo xtask up did not become ready");
                break ready.and_then(|ready| work(&ready));
            }
            Err(_) if run::interrupts() > 0 => break Err(run::Interrupted.into()),
            Err(_) if begun.elapsed() > READY_WITHIN => {
                break Err(anyhow::anyhow!("cargo xtask up is not ready in time"));
            }
            Err(_) => {}
        }
    };
    if !run::end(&mut child, END_WITHIN) && done.is_ok() {
        bail!("cargo xtask up did not end in time");
    }
    done
}
