//! `mosaic audit …`: the audit log checked without the hub, from an export or from the bus alone.
//!
//! Exit codes of `verify`: 0 it is whole, 1 something is wrong with it, 2 it could not be checked.

mod bus;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use bus_schema::WorkspaceId;
use clap::{Args, Subcommand};

use crate::complain;

/// Exit code where nothing could be checked.
const NOT_CHECKED: u8 = 2;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Checks an audit log: that no row was changed, taken out, put in, moved or cut off. Names the rows if one was.
    ///
    /// mosaic audit verify audit-default.jsonl --bus --key VABC…
    Verify(verify::Verify),
    /// Writes down every row as it is published, for a later `verify --against FILE`. Needs a reader's credentials
    /// only, and best runs where those who run the hub cannot reach.
    Witness(Witness),
}

/// Where the bus is, and which log.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// Server.
    #[arg(long, env = "MOSAIC_NATS_URL", default_value = "nats://127.0.0.1:4222")]
    url: String,
    /// Credentials file: the hub's to read what is kept, a reader's for `witness`. Without it, that of a stack started
    /// here by `cargo xtask up`.
    #[arg(long, env = "MOSAIC_NATS_CREDS", value_name = "FILE")]
    creds: Option<PathBuf>,
    /// Certificate of the authority of the servers: with it TLS is a must.
    #[arg(long, env = "MOSAIC_NATS_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Workspace.
    #[arg(long, env = "MOSAIC_WORKSPACE", default_value = "default")]
    workspace: WorkspaceId,
}

#[derive(Debug, Args)]
pub(crate) struct Witness {
    /// File to append to. It has the form of an export.
    file: PathBuf,
    /// Name of the user in the credentials.
    #[arg(long, default_value = "reader")]
    name: String,
    #[command(flatten)]
    place: Place,
}

pub(crate) fn run(command: Command) -> ExitCode {
    let done = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime");
    let done = done.and_then(|runtime| {
        runtime.block_on(async {
            match command {
                Command::Verify(arguments) => verify::verify(&arguments).await,
                Command::Witness(arguments) => bus::witness(&arguments).await.map(|()| ExitCode::SUCCESS),
            }
        })
    });
    done.unwrap_or_else(|error| {
        complain(&format!("{error:#}"));
        ExitCode::from(NOT_CHECKED)
    })
}
