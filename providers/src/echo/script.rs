//! What an echo agent does with a line it is given: a pure function, so that an agent whose process was killed goes on
//! at the step where it was.
//!
//! | line | what the agent does |
//! |---|---|
//! | `flood N [BYTES]` | N messages, `1` to `N`, filled up to BYTES |
//! | `spell TEXT` | the text as it grows, word by word, then the message |
//! | `think` · `wait TEXT` · `work` | tells an open turn · asks for somebody · goes on |
//! | `print TEXT` · `flood-terminal N BYTES` | terminal output |
//! | `title TEXT` · `fact KEY VALUE` · `child TITLE` | a better title · a fact · another session |
//! | `exit CODE` | ends |
//! | anything else | one message that repeats it |

/// One step of an echo agent.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Act {
    /// Says something.
    Say(String),
    /// Shows the text so far of what it is about to say.
    Spell(String),
    /// Tells that a turn is open.
    Think,
    /// Asks for somebody.
    Wait(String),
    /// Goes on by itself.
    Work,
    /// Writes to its terminal.
    Print(Vec<u8>),
    /// Gives itself a better title.
    Title(String),
    /// Tells a fact.
    Fact(String, String),
    /// Starts another session.
    Child(String),
    /// Ends.
    Exit(i32),
}

/// The steps of one line.
pub(super) type Steps = Box<dyn Iterator<Item = Act> + Send>;

/// What the agent does with `line`, step by step. The same line gives the same steps.
pub(super) fn steps(line: &str) -> Steps {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let rest = rest.to_owned();
    let (first, second) = rest.split_once(' ').unwrap_or((&rest, ""));
    match (word, first.parse::<u64>()) {
        ("flood", Ok(count)) => {
            let bytes: usize = second.parse().unwrap_or(0);
            Box::new((1..=count).map(move |n| Act::Say(filled(n, bytes))))
        }
        ("flood-terminal", Ok(count)) => {
            let bytes: usize = second.parse().unwrap_or(80);
            Box::new((1..=count).map(move |n| Act::Print(filled(n, bytes).into_bytes())))
        }
        ("exit", Ok(code)) => one(Act::Exit(i32::try_from(code).unwrap_or(i32::MAX))),
        ("spell", _) => {
            let ends: Vec<usize> = rest.match_indices(' ').map(|(at, _)| at).collect();
            let parts: Vec<Act> = ends.iter().map(|end| Act::Spell(rest.get(..*end).unwrap_or(&rest).into())).collect();
            Box::new(parts.into_iter().chain([Act::Say(rest)]))
        }
        ("think", _) => one(Act::Think),
        ("wait", _) => one(Act::Wait(rest)),
        ("work", _) => one(Act::Work),
        ("print", _) => one(Act::Print(rest.into_bytes())),
        ("title", _) => one(Act::Title(rest)),
        ("fact", _) => one(Act::Fact(first.to_owned(), second.to_owned())),
        ("child", _) => one(Act::Child(rest)),
        _ => one(Act::Say(line.to_owned())),
    }
}

fn one(act: Act) -> Steps {
    Box::new(std::iter::once(act))
}

/// `n` as text, filled up with dots to `bytes`.
fn filled(n: u64, bytes: usize) -> String {
    format!("{n:.<bytes$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_line_is_repeated() {
        assert_eq!(steps("floods of rain").collect::<Vec<_>>(), [Act::Say("floods of rain".into())]);
    }

    #[test]
    fn a_flood_counts() {
        let said: Vec<_> = steps("flood 3 4").collect();
        assert_eq!(said, ["1...", "2...", "3..."].map(|text| Act::Say(text.into())));
    }

    #[test]
    fn a_spelled_text_grows_to_the_whole() {
        let said: Vec<_> = steps("spell one two three").collect();
        let say = |text: &str| Act::Spell(text.into());
        assert_eq!(said, [say("one"), say("one two"), Act::Say("one two three".into())]);
    }
}
