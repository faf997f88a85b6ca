//! Recordings of real agents, one turn each, through emulator and interpreter.

use super::*;
use crate::pty::emulator::{Emulator, ProgramState, Signal};
use crate::pty::record::pack;
use bus_schema::{InjectMode, Operator, UserId};

const SIZE: TerminalSize = TerminalSize { cols: 100, rows: 30 };
const NAMES: [&str; 5] = ["claude-2.1-classic", "claude-2.1", "codex-0.169", "gemini-0.61", "opencode-1.18"];

/// Seconds since the one before, what (`o` output, `i` input), and which bytes.
fn capture(name: &str) -> Vec<(f64, String, Vec<u8>)> {
    let path = format!("{}/tests/captures/{name}.cast", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let event = |line: &str| {
        let (after, what, data): (f64, String, String) = serde_json::from_str(line).unwrap();
        (after, what, data.into_bytes())
    };
    text.lines().skip(1).map(event).collect()
}

/// All output until the agent is asked to leave.
fn output(name: &str) -> Vec<u8> {
    let events = capture(name);
    let end = events.iter().position(|(_, what, data)| what == "i" && data == b"\x03").unwrap();
    events[..end].iter().filter(|(_, what, _)| what == "o").flat_map(|(_, _, data)| data.clone()).collect()
}

fn signals(name: &str) -> Vec<Signal> {
    Emulator::new(SIZE, false).feed(&output(name))
}

/// The log that a holder would have written, output cut into pieces of at most `cut` bytes.
fn blocks(name: &str, cut: usize) -> Vec<Block> {
    let mut blocks: Vec<(Kind, Vec<u8>)> = vec![];
    let mut quiet = 0.0;
    for (after, what, data) in capture(name) {
        for (millis, at) in [(400u32, 0.4), (2000, 2.0)] {
            if quiet < at && quiet + after >= at {
                blocks.push((Kind::Quiet, millis.to_le_bytes().to_vec()));
            }
        }
        quiet += after;
        match what.as_str() {
            "o" => {
                blocks.extend(data.chunks(cut).map(|part| (Kind::Output, part.to_vec())));
                quiet = 0.0;
            }
            "i" if data.starts_with(b"\x1b[200~") => {
                let text = String::from_utf8_lossy(&data).replace("\x1b[200~", "").replace("\x1b[201~", "");
                let operator = Operator { id: UserId::new("u").unwrap(), name: "Ada".into() };
                let message_id = MessageId::new("m1").unwrap();
                let note = Note::Injecting(Injecting { message_id, operator, content: text, mode: InjectMode::Steer });
                blocks.push((Kind::Note, pack(&note)));
            }
            _ => {}
        }
    }
    let mut end = 0;
    let block = |(kind, data): (Kind, Vec<u8>)| {
        end += 17 + data.len() as u64;
        Block { kind, time: 0, data, end, segment: 0 }
    };
    blocks.into_iter().map(block).collect()
}

fn messages(name: &str, cut: usize) -> Vec<String> {
    let header = SegmentHeader { base: 0, output: 0, size: SIZE };
    let session = SessionId::new("01JD8Z2V9Q0000000000000000").unwrap();
    let mut interpreter = Interpreter::new(&session, Protocol::Terminal, header);
    let events = blocks(name, cut).iter().flat_map(|block| interpreter.block(block)).collect::<Vec<_>>();
    let text = |event: AgentEvent| match event.news {
        News::Message(draft) => Some(draft.content),
        _ => None,
    };
    events.into_iter().filter_map(text).collect()
}

#[test]
fn any_cutting_of_a_capture_gives_the_same() {
    for name in NAMES {
        let bytes = output(name);
        let mut whole = Emulator::new(SIZE, true);
        let told = whole.feed(&bytes);
        for cut in [1, 3, 4096] {
            let mut parts = Emulator::new(SIZE, true);
            let again: Vec<Signal> = bytes.chunks(cut).flat_map(|part| parts.feed(part)).collect();
            assert!(again == told && parts.paint() == whole.paint(), "{name} cut by {cut}");
        }
        assert_eq!(messages(name, 5), messages(name, 100_000), "{name}");
    }
}

/// What stood on the screen when the agent was asked to leave.
#[test]
fn the_last_screens_are_right() {
    for (name, lines) in [
        ("claude-2.1-classic", ["● There are two files; notes.txt has 2 lines.", "? for shortcuts"]),
        ("claude-2.1", ["● There are two files; notes.txt has 2 lines.", "? for shortcuts"]),
        ("codex-0.169", ["• There are two files; notes.txt has 2 lines.", "gpt-5.1-codex default"]),
        ("gemini-0.61", ["✦ There are two files; notes.txt has 2 lines.", "│ 2 notes.txt"]),
        ("opencode-1.18", ["There are two files; notes.txt has 2 lines.", "$ ls -1; wc -l notes.txt"]),
    ] {
        let mut emulator = Emulator::new(SIZE, false);
        emulator.feed(&output(name));
        let screen = emulator.screen().contents();
        for line in lines {
            assert!(screen.contains(line), "{line} on\n{screen}");
        }
        assert!(screen.contains("naïve café, 漢字, ✓."), "{name}: wide characters");
    }
}

#[test]
fn agents_tell_where_they_stand() {
    let states = |name| {
        let mut states: Vec<ProgramState> = vec![];
        for signal in signals(name) {
            if let Signal::Program(report) = signal
                && states.last() != Some(&report.state)
            {
                states.push(report.state);
            }
        }
        states
    };
    use ProgramState::{Done, Idle, Working};
    assert_eq!(states("codex-0.169"), [Idle, Working, Idle, Working, Done]);
    assert_eq!(states("claude-2.1"), [Idle, Working, Done]);
    assert_eq!(states("claude-2.1-classic"), [Idle, Working, Done]);
    let titles = signals("gemini-0.61").into_iter().filter_map(|signal| match signal {
        Signal::Title(title) => title.chars().next(),
        _ => None,
    });
    assert_eq!(titles.collect::<String>(), "◇◇✦◇");
}

/// Claude Code asks for OSC 7501 and takes the answer to DA1 for the end of the answers.
#[test]
fn the_answer_that_claude_waits_for_comes_first() {
    let replies = signals("claude-2.1").into_iter().filter_map(|signal| match signal {
        Signal::Reply(bytes) => Some(bytes),
        _ => None,
    });
    let replies = replies.collect::<Vec<_>>().concat();
    let at = |part: &[u8]| replies.windows(part.len()).position(|bytes| bytes == part).unwrap();
    assert!(at(b"\x1b]7501;?") < at(b"\x1b[?62;22c"), "{}", replies.escape_ascii());
}

/// The last resort: what was said is there, and what was injected is not.
#[test]
fn screens_give_what_was_said() {
    for name in NAMES {
        let told = messages(name, 100_000).join("\n");
        assert_eq!(told.matches("There are two files; notes.txt has 2 lines.").count(), 1, "{name}:\n{told}");
        assert!(told.contains("Let me look at the files – naïve café, 漢字, ✓."), "{name}:\n{told}");
        assert!(!told.contains(";; RUN"), "{name}:\n{told}");
    }
}
