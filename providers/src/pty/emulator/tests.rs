//! What the emulator answers, signals and shows, over any bytes and any cuts between them.

use proptest::prelude::*;

use super::*;

const SIZE: TerminalSize = TerminalSize { cols: 20, rows: 4 };

fn replies(bytes: &[u8]) -> Vec<u8> {
    let signals = Emulator::new(SIZE, false).feed(bytes);
    let of = |signal: &Signal| if let Signal::Reply(bytes) = signal { bytes.clone() } else { vec![] };
    signals.iter().flat_map(of).collect()
}

#[test]
fn queries_are_answered_in_order_with_the_cursor_as_it_is_then() {
    let asked = b"\x1b]7501;?\x1b\\\x1b[cab\x1b[6n\r\n\x1b[6n\x1b[5n";
    assert_eq!(replies(asked), b"\x1b]7501;?\x1b\\\x1b[?62;22c\x1b[1;3R\x1b[2;1R\x1b[0n");
}

#[test]
fn modes_and_colours_are_answered() {
    assert_eq!(replies(b"\x1b[?2026$p\x1b[?2004h\x1b[?2004$p"), b"\x1b[?2026;2$y\x1b[?2004;1$y");
    assert_eq!(replies(b"\x1b[?31337$p"), b"\x1b[?31337;0$y");
    assert_eq!(replies(b"\x1b]11;?\x07"), b"\x1b]11;rgb:1010/1010/1010\x1b\\");
}

#[test]
fn the_kitty_keyboard_query_is_never_answered() {
    assert_eq!(replies(b"\x1b[?u\x1b[>7u\x1b[>q"), b"");
}

#[test]
fn a_control_character_within_a_sequence_is_carried_out_once() {
    let mut emulator = Emulator::new(SIZE, false);
    emulator.feed(b"a\r\nb\r\nc\r\nd\x1b[\r3");
    let mut restored = Emulator::restore(&emulator.save(), false);
    assert_eq!(restored.screen().contents(), emulator.screen().contents());
    emulator.feed(b"\x1b[\r\n1");
    let mut restored_behind = Emulator::restore(&emulator.save(), false);
    assert_eq!(restored_behind.screen().contents(), "b\nc\nd");
    for terminal in [&mut emulator, &mut restored, &mut restored_behind] {
        terminal.feed(b"1mx");
    }
    assert_eq!(restored_behind.screen().contents(), emulator.screen().contents());
}

#[test]
fn a_full_row_answers_with_its_last_column() {
    assert_eq!(replies(b"12345678901234567890\x1b[6n"), b"\x1b[1;20R");
}

#[test]
fn what_a_program_says_of_itself_is_understood() {
    let signals = Emulator::new(SIZE, false)
        .feed(b"\x1b]7501;state=blocked:app=claude-code:kind=permission:msg=YXBwcm92ZQ==\x1b\\\x1b]7501;state=odd\x07");
    let report = ProgramReport {
        state: ProgramState::Blocked,
        kind: Some("permission".into()),
        text: Some("approve".into()),
        child: None,
    };
    assert_eq!(signals, [Signal::Program(report)]);
}

#[test]
fn rows_that_leave_are_told_with_their_wraps() {
    let signals = Emulator::new(SIZE, true).feed(b"\x1b[31mred\x1b[m  \r\n1234567890123456789012\r\nc\r\nd\r\ne\r\n");
    let row = |text: &str, wrapped| Signal::Scrolled { text: text.into(), wrapped };
    let signals: Vec<Signal> = signals
        .into_iter()
        .map(|signal| match signal {
            Signal::Scrolled { text, wrapped } => row(text.trim_end(), wrapped),
            other => other,
        })
        .collect();
    assert_eq!(signals, [row("red", false), row("12345678901234567890", true), row("12", false)]);
}

#[test]
fn a_string_without_end_is_dropped_and_what_follows_is_shown() {
    let mut emulator = Emulator::new(SIZE, false);
    emulator.feed(b"\x1b]2;");
    for _ in 0..40 {
        emulator.feed(&[b'x'; 10_000]);
    }
    assert!(emulator.open.len() < 70_000);
    let signals = emulator.feed(b"yy\x07shown");
    assert_eq!(emulator.screen().contents(), "shown");
    assert!(matches!(&signals[..], [Signal::Title(title)] if title.len() == MAX_TEXT_BYTES));
}

fn output() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        "[a-z \u{e9}\u{4e2d}]{0,12}".prop_map(String::into_bytes),
        Just(b"\r\n".to_vec()),
        Just(b"\x1b[2;3H".to_vec()),
        Just(b"\x1b[1;32m".to_vec()),
        Just(b"\x1b[K".to_vec()),
        Just(b"\x1b]2;title\x07".to_vec()),
        Just(b"\x1b[6n".to_vec()),
        Just(b"\x1b[?2004h".to_vec()),
        prop::collection::vec(any::<u8>(), 0..3),
    ];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

proptest! {
    /// The same bytes show and tell the same, however they are cut.
    #[test]
    fn any_cutting_gives_the_same(bytes in output(), cut in 1usize..7) {
        let mut whole = Emulator::new(SIZE, true);
        let told = whole.feed(&bytes);
        let mut parts = Emulator::new(SIZE, true);
        let told_in_parts: Vec<Signal> = bytes.chunks(cut).flat_map(|part| parts.feed(part)).collect();
        prop_assert_eq!(told, told_in_parts);
        prop_assert_eq!(whole.paint(), parts.paint());
    }

    /// An emulator that was saved anywhere, also within a sequence or a character, goes on as if it had not been.
    #[test]
    fn saved_and_restored_goes_on(bytes in output(), at in any::<prop::sample::Index>(), later in output()) {
        let (before, after) = bytes.split_at(at.index(bytes.len() + 1));
        let mut emulator = Emulator::new(SIZE, false);
        emulator.feed(before);
        let mut restored = Emulator::restore(&emulator.save(), false);
        prop_assert_eq!(emulator.screen().contents(), restored.screen().contents());
        prop_assert_eq!(emulator.feed(after).len(), restored.feed(after).len());
        // A scroll region or a saved cursor is not kept; neither is used here.
        emulator.feed(&later);
        restored.feed(&later);
        prop_assert_eq!(emulator.screen().contents(), restored.screen().contents());
    }
}
