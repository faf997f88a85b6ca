//! What `mosaic-node` is to terminal sessions, and nothing else: the helper modes, and a small node agent that prints
//! what happens. Used by the tests, which kill it.
//!
//! `pty_host holder|launch|report …` are the helper modes. `pty_host run DIR SESSION -- COMMAND…` starts a session of
//! protocol `lines` and prints one JSON line for each of its messages.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use providers::pty::{PtyConfig, PtyProvider, dispatch};
use providers::{AgentProvider, News, Position, Profile, Protocol, SpawnRequest};

fn main() -> ExitCode {
    if let Some(code) = dispatch(std::env::args_os()) {
        return code;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, dir, session, dashes, command @ ..] = arguments.as_slice() else { return ExitCode::FAILURE };
    if mode != "run" || dashes != "--" {
        return ExitCode::FAILURE;
    }
    let Ok(runtime) = tokio::runtime::Runtime::new() else { return ExitCode::FAILURE };
    match runtime.block_on(run(dir, session, command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever started us reads it.
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(dir: &str, session: &str, command: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let program: OsString = std::env::current_exe()?.into();
    let provider = PtyProvider::start(PtyConfig::new(dir, [program])).await?;
    let profile = Profile { protocol: Protocol::Lines, ..Profile::new("run", command) };
    let session_id = session.parse()?;
    let request = SpawnRequest {
        session_id,
        profile,
        parent_session_id: None,
        title: None,
        env: Default::default(),
        default_cwd: None,
        conversation: None,
    };
    let id = provider.spawn(request).await?.session_id;
    let mut events = provider.subscribe(&id, Position::default()).await?;
    while let Some(event) = events.recv().await {
        if let News::Message(draft) = event.news {
            let line = serde_json::json!({"position": event.position, "content": draft.content});
            writeln!(std::io::stdout(), "{line}")?;
        }
        provider.acknowledge(&id, event.position).await;
    }
    provider.shutdown().await;
    Ok(())
}
