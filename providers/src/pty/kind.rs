//! What kind of agent a program is, where its name tells. What is known of an agent's keys, screens and files goes by
//! its kind, so that a profile needs no more than a command.

use std::path::Path;

/// The kinds of which something is known; each is the name of its program, too.
const KNOWN: [&str; 4] = ["claude", "codex", "gemini", "opencode"];

/// The kind of the program of a command, if it is one that we know.
pub(crate) fn by_name(command: &[String]) -> Option<&'static str> {
    let name = command.first().and_then(|program| Path::new(program).file_name()?.to_str())?;
    KNOWN.into_iter().find(|kind| *kind == name)
}

#[cfg(test)]
mod tests {
    use super::by_name;

    #[test]
    fn a_program_is_known_by_its_name_wherever_it_lies_and_nothing_else_is() {
        let kind = |words: &[&str]| by_name(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(kind(&["/opt/bin/codex", "--no-daemon"]), Some("codex"));
        assert_eq!(kind(&["claude"]), Some("claude"));
        assert_eq!(kind(&["codex-acp"]), None);
        assert_eq!(kind(&["bash", "codex"]), None);
        assert_eq!(kind(&[]), None);
    }
}
