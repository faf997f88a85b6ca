//! `mosaic-hub`: arguments, configuration, logs, run, exit code.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use hub::config::Config;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Exit code for a configuration that cannot be used (sysexits: EX_CONFIG).
const EXIT_CONFIG: u8 = 78;
/// The database's own needs (measured).
const STACK_BYTES: usize = 10 * 1024 * 1024;

/// The hub of Mosaic Mesh.
#[derive(Parser)]
#[command(version, about)]
struct Args {
    /// Configuration file.
    #[arg(long, env = "MOSAIC_HUB_CONFIG", default_value = "hub.toml")]
    config: PathBuf,
    /// Logs as JSON, one object a line.
    #[arg(long, env = "MOSAIC_LOG_JSON")]
    log_json: bool,
    #[command(subcommand)]
    command: Option<What>,
}

#[derive(Subcommand)]
enum What {
    /// Serve (the default).
    Run,
    /// Check the configuration and say everything that is wrong with it.
    CheckConfig,
    /// Put a new key before those that seal what is kept secret; the hub seals anew under it when it is started again.
    RotateSecretKey,
    /// Print the API's OpenAPI document.
    Openapi,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(What::Openapi) = args.command {
        return print(&hub::api::openapi().to_pretty_json().unwrap_or_default());
    }
    let config = match Config::load(&args.config, &|name| std::env::var(name).ok()) {
        Ok(config) => config,
        Err(error) => return complain(&error.to_string(), EXIT_CONFIG),
    };
    if let Some(What::CheckConfig) = args.command {
        return print("the configuration is fine");
    }
    if let Some(What::RotateSecretKey) = args.command {
        return match hub::secrets::rotate(&config.secret_key) {
            Ok(id) => print(&format!(
                "the key {id} now seals (in {}); start every hub again with this file. Keys behind it can go once \
                 the audit log shows resealAgentProvider for all that they sealed",
                config.secret_key.display()
            )),
            Err(error) => complain(&format!("mosaic-hub: {}", hub::supervisor::chain(&error)), 1),
        };
    }
    telemetry(args.log_json);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(STACK_BYTES).build();
    let ran = match runtime {
        Ok(runtime) => runtime.block_on(async {
            let stop = CancellationToken::new();
            let mut signals = tokio::task::JoinSet::new();
            signals.spawn(watch_signals(stop.clone()));
            hub::run::run(config, stop).await
        }),
        Err(error) => Err(error.into()),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("mosaic-hub: {error:#}"), 1),
    }
}

/// The first signal drains, the second ends at once.
async fn watch_signals(stop: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return;
    };
    for times in 0.. {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        if times > 0 {
            tracing::warn!("second signal: ending at once");
            std::process::exit(1);
        }
        stop.cancel();
    }
}

fn telemetry(json: bool) {
    let filter = EnvFilter::try_from_env("MOSAIC_LOG").unwrap_or_else(|_| EnvFilter::new("info,surrealdb=warn"));
    let colours = std::io::stderr().is_terminal();
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    if json {
        logs.json().init()
    } else {
        logs.init()
    }
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a task panicked")));
}

#[expect(clippy::print_stdout, reason = "what was asked for")]
fn print(text: &str) -> ExitCode {
    println!("{text}");
    ExitCode::SUCCESS
}

#[expect(clippy::print_stderr, reason = "there is no log yet, and a person waits")]
fn complain(text: &str, code: u8) -> ExitCode {
    eprintln!("{text}");
    ExitCode::from(code)
}
