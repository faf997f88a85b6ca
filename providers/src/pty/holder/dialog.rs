//! The dialog in which Codex asks for leave, as it stands on the screen: it has no other way to say so. Seen with
//! codex-cli 0.169.0:
//!
//! ```text
//!   Would you like to run the following command?
//!
//!   Reason: May I make the file a.txt?
//!
//!   $ touch a.txt
//!
//! › 1. Yes, proceed (y)
//!   2. Yes, and don't ask again for commands that start with `touch a.txt` (p)
//!   3. No, and tell Codex what to do differently (esc)
//!
//!   Press enter to confirm or esc to cancel
//! ```
//!
//! Laws:
//! 1. What does not look like this is no request that can be answered: better none than a wrong key.
//! 2. A key is pressed only while the dialog that offered it is there.

use bus_schema::{AnswerOption, OptionKind};

use crate::pty::report::MAX_OPTIONS;

/// How the question begins.
const QUESTIONS: [&str; 2] = ["Would you like to ", "Do you want to "];
/// What stands below the options.
const FOOT: &str = "Press enter to confirm";
/// What marks the option that Enter would choose.
const CURSOR: char = '›';

/// A dialog that can be answered with keys.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Dialog {
    /// What it asks, paragraph by paragraph.
    pub text: String,
    /// What can be chosen; the id of each is its key as the screen names it.
    pub options: Vec<AnswerOption>,
}

impl Dialog {
    /// The dialog on a screen with these rows, if there is one and all of it is there.
    pub fn on(rows: &[String]) -> Option<Self> {
        let rows: Vec<&str> = rows.iter().map(|row| row.trim()).collect();
        let foot = rows.iter().rposition(|row| row.starts_with(FOOT))?;
        let rows = rows.get(..foot)?;
        let question = rows.iter().rposition(|row| QUESTIONS.iter().any(|question| row.starts_with(question)))?;
        let rows = rows.get(question..)?;
        let first = rows.iter().position(|row| label(row).is_some())?;
        let (text, below) = rows.split_at_checked(first)?;
        let mut labels: Vec<String> = vec![];
        for row in below.iter().filter(|row| !row.is_empty()) {
            match (label(row), labels.last_mut()) {
                (Some(text), _) => labels.push(text.into()),
                (None, Some(last)) => *last = format!("{last} {row}"),
                (None, None) => {}
            }
        }
        let options: Vec<AnswerOption> = labels.iter().filter_map(|label| option(label)).collect();
        if options.len() != labels.len() || options.len() > MAX_OPTIONS {
            return None;
        }
        Some(Self { text: paragraphs(text), options })
    }

    /// Puts the command as it was called in the place of what the screen shows of it: that is broken at its edge.
    pub fn with_call(mut self, call: Option<&str>) -> Self {
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let Some((before, shown)) = self.text.split_once("\n$ ") else { return self };
        let shown = words(shown.trim_end_matches('…'));
        if let Some(call) = call.filter(|call| !shown.is_empty() && words(call).starts_with(&shown)) {
            self.text = format!("{before}\n$ {call}");
        }
        self
    }
}

/// The bytes of a key.
pub(crate) fn key(option_id: &str) -> &[u8] {
    if option_id == "esc" { b"\x1b" } else { option_id.as_bytes() }
}

/// The text of a numbered row.
fn label(row: &str) -> Option<&str> {
    let (number, text) = row.trim_start_matches(CURSOR).trim_start().split_once(". ")?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(text.trim())
}

/// `Yes, proceed (y)`: a label and its key.
fn option(label: &str) -> Option<AnswerOption> {
    let (label, key) = label.strip_suffix(')')?.rsplit_once(" (")?;
    let is_letter = key.len() == 1 && key.bytes().all(|byte| byte.is_ascii_lowercase());
    let kind = match key {
        "esc" => OptionKind::RejectOnce,
        "y" => OptionKind::AllowOnce,
        _ if !is_letter => return None,
        _ if label.starts_with("Yes") => OptionKind::AllowAlways,
        _ => OptionKind::RejectOnce,
    };
    Some(AnswerOption { option_id: key.into(), label: label.into(), kind })
}

/// Rows as paragraphs: what an empty row divides, one line each.
fn paragraphs(rows: &[&str]) -> String {
    let parts = rows.split(|row| row.is_empty()).filter(|part| !part.is_empty());
    parts.map(|part| part.join(" ")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    const SCREEN: &str = "
• Running touch b.txt && echo a command that is long…

  Would you like to run the following command?

  Environment: local

  Reason: Second?

  $ touch b.txt && echo a command that is long and does
  not fit

› 1. Yes, proceed (y)
  2. Yes, and don't ask again for commands that start with
     `touch b.txt` (p)
  3. No, and tell Codex what to do differently (esc)

  Press enter to confirm or esc to cancel
";

    #[test]
    fn it_is_read_with_its_options_and_the_command_word_for_word() {
        let dialog = Dialog::on(&rows(SCREEN)).unwrap();
        let ids: Vec<_> = dialog.options.iter().map(|o| (o.option_id.as_str(), o.kind.clone())).collect();
        let kinds = [OptionKind::AllowOnce, OptionKind::AllowAlways, OptionKind::RejectOnce];
        assert_eq!(ids, ["y", "p", "esc"].into_iter().zip(kinds).collect::<Vec<_>>());
        assert_eq!(dialog.options[1].label, "Yes, and don't ask again for commands that start with `touch b.txt`");
        assert_eq!(key("esc"), b"\x1b");
        let head = "Would you like to run the following command?\nEnvironment: local\nReason: Second?\n$ ";
        let shown = "touch b.txt && echo a command that is long and does not fit";
        assert_eq!(dialog.text, format!("{head}{shown}"));
        let call = "touch b.txt  && echo a command that is long and does not fit";
        assert_eq!(dialog.clone().with_call(Some(call)).text, format!("{head}{call}"));
        assert_eq!(dialog.clone().with_call(Some("ls")), dialog, "of another call it takes nothing");
    }

    #[test]
    fn what_is_not_whole_or_not_known_is_no_request() {
        for (cut, with) in [(FOOT, ""), ("Would you like to", "Hm"), (" (p)", ""), ("(y)", "(ctrl-y)"), ("1.", "-")] {
            let screen = SCREEN.replacen(cut, with, 1);
            let found = Dialog::on(&rows(&screen));
            assert!(found.is_none() || cut == "1.", "{cut}: {found:?}");
        }
        assert_eq!(Dialog::on(&rows("$ ls\nPress enter to confirm")), None);
    }
}
