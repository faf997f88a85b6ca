//! Hooks of agent CLIs: `mosaic-node report hook PROGRAM`, started by the agent with an event on standard input, tells
//! the session's socket what the event says. For a request for leave it stays until an operator has answered, and gives
//! the answer to the agent; until then the agent's own dialog is there for whoever is at the terminal.
//!
//! Law: a hook never stands in its agent's way. Whatever goes wrong, it says nothing and ends well.

pub(crate) mod claude;

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::report::{HOOK, MAX_REPORT_BYTES, Report};

/// Longest event. A tool's result is in some; one that is longer is not told.
const MAX_EVENT_BYTES: u64 = 16 * 1024 * 1024;
/// How long the session's holder may take to say that it has a report. It answers at once unless the log is full.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(5);
/// How long a request waits for an answer. Behind it the request can be answered at the terminal only.
pub(crate) const DECIDED_WITHIN: Duration = Duration::from_secs(24 * 3600);

/// What an event says, and what of it waits for an answer.
pub(crate) struct Told {
    pub reports: Vec<Report>,
    /// True if the last report asks for leave.
    pub asks: bool,
}

/// A line to who asked.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Line {
    Answer(Decision),
    Closed(#[expect(dead_code, reason = "for people who listen in")] String),
}

/// What an operator chose.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Decision {
    /// Which option.
    pub option_id: String,
    /// With which words.
    #[serde(default)]
    pub text: Option<String>,
}

/// Tells an event of this program. Always ends well.
pub(crate) fn run(program: &OsStr) -> ExitCode {
    // A hook that fails would be shown to the user, or stop the agent's turn.
    let _ = tell(program);
    ExitCode::SUCCESS
}

fn tell(program: &OsStr) -> io::Result<()> {
    let Some(socket) = std::env::var_os("MOSAIC_SOCKET") else { return Ok(()) };
    let mut text = String::new();
    io::stdin().lock().take(MAX_EVENT_BYTES).read_to_string(&mut text)?;
    let event: Value = serde_json::from_str(&text)?;
    let told = match program.to_str() {
        Some("claude") => claude::tell(&event),
        Some(_) | None => return Ok(()),
    };
    if told.reports.is_empty() {
        return Ok(());
    }
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ACCEPTED_WITHIN))?;
    stream.set_write_timeout(Some(ACCEPTED_WITHIN))?;
    (&stream).write_all(&lines(&told.reports))?;
    let mut answers = BufReader::new(&stream);
    for _ in &told.reports {
        read_line(&mut answers)?;
    }
    if told.asks {
        stream.set_read_timeout(Some(DECIDED_WITHIN))?;
        if let Line::Answer(decision) = serde_json::from_str(&read_line(&mut answers)?)? {
            let mut stdout = io::stdout().lock();
            writeln!(stdout, "{}", claude::decided(&event, &decision))?;
            stdout.flush()?;
        }
    }
    Ok(())
}

/// Reports as they are sent, each with its source. One that is too long for the socket is left out.
fn lines(reports: &[Report]) -> Vec<u8> {
    let mut all = vec![];
    for report in reports {
        let Ok(Value::Object(mut line)) = serde_json::to_value(report) else { continue };
        line.insert("source".into(), HOOK.into());
        let line = Value::Object(line).to_string();
        if line.len() < MAX_REPORT_BYTES {
            all.extend_from_slice(line.as_bytes());
            all.push(b'\n');
        }
    }
    all
}

fn read_line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pty::report::source_of;

    #[test]
    fn a_hook_names_itself_as_the_source() {
        let sent = lines(&[Report::Answers, Report::Called { call: "x\ny".into() }]);
        let sent: Vec<&[u8]> = sent.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
        assert_eq!(sent.iter().map(|line| source_of(line)).collect::<Vec<_>>(), [HOOK, HOOK]);
        assert_eq!(Report::parse(sent[1]), Ok(Report::Called { call: "x\ny".into() }));
    }

    #[test]
    fn what_is_told_to_who_asked_is_understood() {
        let line = r#"{"answer":{"optionId":"deny","text":null}}"#;
        assert!(matches!(serde_json::from_str(line), Ok(Line::Answer(Decision { text: None, .. }))));
        assert!(matches!(serde_json::from_str(r#"{"closed":"why"}"#), Ok(Line::Closed(_))));
    }
}
