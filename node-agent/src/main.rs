//! `mosaic-node`: arguments → configuration → log → run → exit code.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use node_agent::config::Config;
use node_agent::join::{self, Places};
use node_agent::runtimes::Runtimes;
use node_agent::{node, stop, telemetry};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code for a configuration that makes no sense (`EX_CONFIG` of sysexits.h).
const BAD_CONFIG: u8 = 78;
/// Exit code after a second signal.
const AT_ONCE: i32 = 130;
/// Threads that block: file syncs and what runtimes need. Idle ones end by themselves.
const BLOCKING_THREADS: usize = 16;

/// The node agent of Mosaic Mesh.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    mode: Option<Mode>,
    #[command(flatten)]
    files: Files,
}

#[derive(clap::Args, Clone, Default)]
struct Files {
    /// Configuration; given several times, later files go over earlier ones.
    #[arg(long = "config", value_name = "FILE", global = true)]
    config: Vec<PathBuf>,
}

#[derive(Subcommand)]
enum Mode {
    /// Make this host a node: configuration and credentials, from the token that `mosaic node enroll` or the hub gave.
    Join(Join),
    /// Look after the sessions of this host until told to end (the default).
    Run,
    /// Say everything that is wrong with the configuration, and end.
    CheckConfig,
    /// End all sessions that this node has started, with or without a running node agent, and return when they are gone.
    StopSessions,
}

#[derive(clap::Args)]
struct Join {
    /// The token; `-` reads it from stdin, where no list of processes shows it.
    token: String,
    /// Folder for configuration and credentials [default: ~/.config/mosaic-node].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Folder for what must not be lost [default: ~/.local/state/mosaic-node].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

fn main() -> ExitCode {
    // Holders and their helpers are this program too. They must be small, so nothing is set up before.
    if let Some(code) = providers::pty::dispatch(std::env::args_os()) {
        return code;
    }
    let arguments = Arguments::parse();
    let env: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let mode = arguments.mode.unwrap_or(Mode::Run);
    let mode = match mode {
        // Before there is a configuration.
        Mode::Join(join) => return joined(join, &env),
        mode => mode,
    };
    let config = match Config::load(&arguments.files.config, &env) {
        Ok(config) => config,
        Err(error) => {
            tell(&mut std::io::stderr(), &error.to_string());
            return ExitCode::from(BAD_CONFIG);
        }
    };
    let done = match mode {
        Mode::Join(_) => Ok(()),
        Mode::CheckConfig => {
            let names: Vec<_> = config.profiles.keys().map(String::as_str).collect();
            let text =
                format!("node {} of workspace {}; profiles: {}", config.node, config.workspace, names.join(", "));
            tell(&mut std::io::stdout(), &text);
            Ok(())
        }
        Mode::Run => run(config),
        Mode::StopSessions => stop_sessions(&config),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&mut std::io::stderr(), &format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn joined(join: Join, env: &BTreeMap<String, String>) -> ExitCode {
    /// More than any token.
    const MAX_BYTES: u64 = 1024 * 1024;
    let token = match join.token.as_str() {
        "-" => {
            let mut text = String::new();
            let read = std::io::stdin().take(MAX_BYTES).read_to_string(&mut text);
            read.map(|_| text).context("reading the token from stdin")
        }
        _ => Ok(join.token),
    };
    let made = token.and_then(|token| Ok(join::join(&token, &Places::of(join.dir, join.data, env)?)?));
    match made {
        Ok(told) => {
            tell(&mut std::io::stdout(), &told);
            ExitCode::SUCCESS
        }
        Err(error) => {
            tell(&mut std::io::stderr(), &format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn tell(to: &mut impl Write, text: &str) {
    // Nobody to read it: the exit code says it as well.
    let _ = writeln!(to, "{text}");
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()
        .context("starting the async runtime")
}

fn run(config: Config) -> anyhow::Result<()> {
    telemetry::init(&config.log, config.log_format).context("setting up the log")?;
    let runtime = runtime()?;
    let result = runtime.block_on(async {
        let cancel = CancellationToken::new();
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let gateways = Some(config.openclaw.clone());
        let runtimes = Runtimes::start(&config.data_dir, config.has_echo, &config.docker, gateways).await?;
        let node = node::run(config, runtimes.registry.clone(), cancel.clone());
        tokio::pin!(node);
        let mut signals = 0;
        let result = loop {
            tokio::select! {
                result = &mut node => break result,
                _ = terminate.recv() => signals += 1,
                _ = interrupt.recv() => signals += 1,
            }
            if signals > 1 {
                tracing::warn!("second signal: ending at once");
                std::process::exit(AT_ONCE);
            }
            tracing::info!("leaving; a second signal ends at once");
            cancel.cancel();
        };
        runtimes.shutdown().await;
        anyhow::Ok(result?)
    });
    if let Err(error) = &result {
        tracing::error!(error = %format!("{error:#}"), "node agent has failed");
    }
    runtime.shutdown_background();
    result
}

fn stop_sessions(config: &Config) -> anyhow::Result<()> {
    telemetry::init("warn", config.log_format).context("setting up the log")?;
    let count = runtime()?.block_on(stop::stop_sessions(&config.data_dir, config.has_echo, &config.docker))?;
    tell(&mut std::io::stdout(), &format!("{count} sessions ended"));
    Ok(())
}
