//! Talking to the person at the terminal, on stderr.

use std::io::{IsTerminal, Write};

fn paint(code: &str, text: &str) -> String {
    if std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// Text as it is.
pub(crate) fn text(text: &str) {
    // Where stderr is closed nobody wants to know.
    let _ = write!(std::io::stderr(), "{text}");
}

/// One line.
pub(crate) fn line(line: &str) {
    text(&format!("{line}\n"));
}

/// What begins now.
pub(crate) fn step(what: &str) {
    line(&paint("1;36", &format!("── {what}")));
}

/// Something good.
pub(crate) fn good(what: &str) {
    line(&format!("{} {what}", paint("32", "✓")));
}

/// Something to know about, which stops nothing.
pub(crate) fn warn(what: &str) {
    line(&format!("{} {what}", paint("33", "!")));
}

/// What went wrong.
pub(crate) fn error(what: &str) {
    line(&format!("{} {what}", paint("31", "✗")));
}

/// The result of a command, on stdout.
pub(crate) fn result(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}
