//! Where escape sequences begin and end in a stream of terminal bytes.
//!
//! The emulator understands sequences; this only tells them from text, byte by byte: to strip them from lines, to know
//! whether the stream stands within one (a checkpoint there must keep its beginning), and to bound them, because an
//! emulator collects a string sequence of any length. The states are those of the VT500 parser (Paul Williams'
//! diagram), as the `vte` crate has them.

use serde::{Deserialize, Serialize};

/// Longest string sequence that is passed on. OSC 7501 allows 4 KiB; hyperlinks and titles are shorter.
pub(crate) const MAX_STRING_BYTES: u32 = 64 * 1024;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    #[default]
    Ground,
    Escape,
    EscapeIntermediate,
    Control,
    /// OSC, which also BEL ends.
    Command,
    /// DCS, SOS, PM, APC.
    Text,
}

/// What one byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Byte {
    /// Part of the text, or of a character of it.
    Text,
    /// A control character that stands by itself.
    Control,
    /// Part of a sequence.
    Sequence,
    /// Of a string sequence beyond [`MAX_STRING_BYTES`].
    Excess,
}

/// Follows a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Scanner {
    state: State,
    string_bytes: u32,
}

impl Scanner {
    /// True between sequences.
    pub fn is_ground(&self) -> bool {
        self.state == State::Ground
    }

    /// True if `byte`, the next one, is a control character within a sequence: it is carried out at once, and the
    /// sequence goes on.
    pub fn is_carried_out(&self, byte: u8) -> bool {
        let takes = matches!(self.state, State::Escape | State::EscapeIntermediate | State::Control);
        takes && matches!(byte, 0x00..=0x17 | 0x19 | 0x1c..=0x1f)
    }

    /// What `byte`, the next one, is.
    pub fn step(&mut self, byte: u8) -> Byte {
        let before = self.state;
        self.state = next(before, byte);
        match before {
            State::Ground if self.state == State::Ground => match byte {
                0x20..=0x7e | 0x80.. => Byte::Text,
                0x00..=0x1f | 0x7f => Byte::Control,
            },
            State::Command | State::Text if self.state == before => {
                self.string_bytes += 1;
                if self.string_bytes > MAX_STRING_BYTES {
                    self.string_bytes = MAX_STRING_BYTES;
                    return Byte::Excess;
                }
                Byte::Sequence
            }
            _ => {
                self.string_bytes = 0;
                // A control character within a sequence is carried out, but a line does not end there.
                Byte::Sequence
            }
        }
    }
}

fn next(state: State, byte: u8) -> State {
    match (state, byte) {
        (_, 0x1b) => State::Escape,
        (_, 0x18 | 0x1a) => State::Ground,
        (State::Ground, _) => State::Ground,
        (State::Escape, b'[') => State::Control,
        (State::Escape, b']') => State::Command,
        (State::Escape, b'P' | b'X' | b'^' | b'_') => State::Text,
        (State::Escape | State::EscapeIntermediate, 0x20..=0x2f) => State::EscapeIntermediate,
        (State::Escape | State::EscapeIntermediate, 0x30..=0x7e) => State::Ground,
        (State::Control, 0x40..=0x7e) => State::Ground,
        (State::Command, 0x07) => State::Ground,
        (same, _) => same,
    }
}

/// The text of `bytes` without escape sequences and control characters, tabs excepted.
pub(crate) fn strip(bytes: &[u8]) -> Vec<u8> {
    let mut scanner = Scanner::default();
    bytes
        .iter()
        .copied()
        .filter(|byte| scanner.step(*byte) == Byte::Text || (scanner.is_ground() && *byte == b'\t'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_stripped_and_text_is_kept() {
        for (bytes, text) in [
            (&b"plain \xc3\xa9\ttext"[..], &b"plain \xc3\xa9\ttext"[..]),
            (b"\x1b[1;31mred\x1b[0m.", b"red."),
            (b"\x1b]0;title\x07a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\b", b"alinkb"),
            (b"\x1bPq#0\x1b\\a\x1b(Bb\x1b7c\x1b[?2026hd", b"abcd"),
            (b"a\x08\x07\x00b\x7f", b"ab"),
            (b"a\x1b[3\x18b", b"ab"),
            (b"cut \x1b[3", b"cut "),
        ] {
            assert_eq!(strip(bytes), text, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_string_without_end_is_bounded() {
        let mut scanner = Scanner::default();
        for byte in *b"\x1b]0;" {
            scanner.step(byte);
        }
        let all = (0..2 * MAX_STRING_BYTES).filter(|_| scanner.step(b'x') == Byte::Sequence).count();
        assert!(all as u32 <= MAX_STRING_BYTES);
        assert_eq!((scanner.step(0x07), scanner.step(b'a')), (Byte::Sequence, Byte::Text));
    }
}
