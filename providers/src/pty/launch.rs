//! The exec shim: the first process of a session, which becomes the agent.
//!
//! It joins the session's cgroup before the agent's first instruction, so nothing of the agent is ever outside, and it
//! tells the holder when the program cannot be run. Success needs no word: the connection closes by itself when the
//! program takes over. So no code of ours runs between `fork` and `exec`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use super::files::SessionDir;
use super::protocol::{Blocking, FromHolder, ToHolder};
use crate::process::Cgroup;

/// What a shell returns for a program that it cannot run.
const CANNOT_RUN: u8 = 127;

/// What the shim is told: `launch DIR CGROUP CWD PROGRAM ARGS…`, `-` for none.
pub(crate) fn arguments(dir: &Path, cgroup: Option<&Path>, cwd: Option<&Path>, command: &[String]) -> Vec<OsString> {
    let or_none = |path: Option<&Path>| path.map_or_else(|| "-".into(), |path| path.as_os_str().to_owned());
    let mut all = vec!["launch".into(), dir.into(), or_none(cgroup), or_none(cwd)];
    all.extend(command.iter().map(Into::into));
    all
}

/// Becomes the program. Returns only if that fails.
pub(crate) fn run(arguments: &[OsString]) -> ExitCode {
    let [dir, cgroup, cwd, program, rest @ ..] = arguments else { return ExitCode::from(CANNOT_RUN) };
    // At a terminal it leads a session already; behind pipes it is to lead one of its own, away from the holder's.
    let _ = rustix::process::setsid();
    let path = |text: &OsString| (text.as_bytes() != b"-").then(|| PathBuf::from(text));
    let joined = path(cgroup).map_or(Ok(()), |dir| Cgroup::join(&dir));
    // Without the holder nobody looks after the program, so it is not run.
    let Ok(mut holder) = Blocking::connect(Path::new(dir), SessionDir::HOLDER_SOCKET) else {
        return ExitCode::from(CANNOT_RUN);
    };
    let error = joined.err().map(|error| error.to_string());
    let Ok(FromHolder::Go) = holder.send(&ToHolder::Launching { error }).and_then(|()| holder.receive()) else {
        return ExitCode::from(CANNOT_RUN);
    };
    let error = become_program(path(cwd).as_deref(), program, rest);
    // If the holder is gone, its death is what will be told.
    let _ = holder.send(&ToHolder::LaunchFailed { error });
    ExitCode::from(CANNOT_RUN)
}

/// Why the program could not be run, for people.
fn become_program(cwd: Option<&Path>, program: &OsStr, arguments: &[OsString]) -> String {
    if let Some(cwd) = cwd
        && let Err(error) = std::env::set_current_dir(cwd)
    {
        return format!("the working folder {} cannot be entered: {error}", cwd.display());
    }
    let error = Command::new(program).args(arguments).exec();
    let name = program.display();
    match error.kind() {
        io::ErrorKind::NotFound if program.as_bytes().contains(&b'/') && Path::new(program).exists() => {
            format!("{name} cannot be run: the interpreter that it names is not there")
        }
        io::ErrorKind::NotFound if program.as_bytes().contains(&b'/') => format!("the program {name} is not there"),
        io::ErrorKind::NotFound => format!("the program {name} was not found in PATH"),
        io::ErrorKind::PermissionDenied => format!("{name} may not be run: it is not executable"),
        _ => format!("{name} cannot be run: {error}"),
    }
}
