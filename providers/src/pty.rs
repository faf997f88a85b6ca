//! Agents in pseudo-terminals.

pub(crate) mod ansi;
pub(crate) mod checkpoints;
pub(crate) mod emulator;
pub(crate) mod entry;
pub(crate) mod environment;
pub(crate) mod feed;
pub(crate) mod files;
pub(crate) mod holder;
pub(crate) mod hook;
pub(crate) mod interpret;
mod kind;
pub(crate) mod launch;
pub(crate) mod lines;
pub(crate) mod link;
pub(crate) mod log;
pub(crate) mod opencode;
pub(crate) mod protocol;
mod provider;
pub(crate) mod record;
pub(crate) mod recovery;
pub(crate) mod report;
mod report_client;
pub(crate) mod socket;
pub(crate) mod source;
mod start;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

pub use files::ContainmentChoice;
pub use log::LogLimits;
pub use provider::{PtyConfig, PtyProvider};

/// Runs the helper process that the arguments of this binary ask for: `holder DIR`, `launch …` or `report …`. `None` if
/// they ask for something else.
///
/// To be called first of all in `main`: a holder is one small process per session, so nothing may have been set up.
pub fn dispatch(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let [program, mode, rest @ ..] = arguments.as_slice() else { return None };
    match (mode.to_str()?, rest) {
        ("holder", [dir]) => {
            // The file may have been replaced since; what runs is what was started.
            let program = std::env::current_exe().map_or_else(|_| program.clone(), Into::into);
            Some(holder::run(Path::new(dir), &[program]))
        }
        ("launch", rest) => Some(launch::run(rest)),
        ("report", rest) => Some(report_client::run(rest)),
        _ => None,
    }
}
