//! `mosaic-node report`: sends one report to the session's socket, for hooks and scripts. `mosaic-node report hook PROGRAM`
//! is what the hooks of a known program run: see [`hook`](super::hook).

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use super::hook;
use super::report::MAX_REPORT_BYTES;

/// A hook must not hold its agent up.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Sends the report given as the only argument, or on standard input, and prints the answer.
pub(crate) fn run(arguments: &[OsString]) -> ExitCode {
    if let [mode, program] = arguments
        && mode == "hook"
    {
        return hook::run(program);
    }
    match send(arguments) {
        Ok(answer) => {
            // The answer is for whoever cares to read it.
            let _ = writeln!(std::io::stdout(), "{answer}");
            if answer.contains("\"ok\":true") { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "report: {error}");
            ExitCode::FAILURE
        }
    }
}

fn send(arguments: &[OsString]) -> Result<String, String> {
    let socket = std::env::var_os("MOSAIC_SOCKET").ok_or("MOSAIC_SOCKET is not set: not in a session")?;
    let line = match arguments {
        [report] => report.to_string_lossy().into_owned(),
        [] => {
            let mut text = String::new();
            let mut input = std::io::stdin().lock().take(MAX_REPORT_BYTES as u64);
            input.read_to_string(&mut text).map_err(|error| format!("reading standard input: {error}"))?;
            text
        }
        _ => return Err("give one JSON object, as the argument or on standard input".into()),
    };
    let line = line.trim().replace('\n', " ");
    let at = |doing: &'static str| move |error: std::io::Error| format!("{doing}: {error}");
    let mut stream = UnixStream::connect(&socket).map_err(at("connecting to the session's socket"))?;
    stream.set_read_timeout(Some(ANSWER_WITHIN)).map_err(at("setting a deadline"))?;
    stream.set_write_timeout(Some(ANSWER_WITHIN)).map_err(at("setting a deadline"))?;
    stream.write_all(format!("{line}\n").as_bytes()).map_err(at("sending the report"))?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).map_err(at("waiting for the answer"))?;
    Ok(answer.trim_end().to_owned())
}
