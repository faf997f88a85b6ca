//! Making text safe to show.
//!
//! A terminal obeys control characters, some of them also in their eight-bit forms (C1); line separators break the
//! promise of one line per message; and bidirectional controls make a text look like another one.

/// True for characters that are never written as they are.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control() // C0, DEL and C1
        || matches!(c,
            '\u{2028}' | '\u{2029}' // line and paragraph separator
            | '\u{200E}' | '\u{200F}' | '\u{061C}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' // direction
            | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' // invisible marks
            | '\u{E0000}'..='\u{E007F}') // tags: invisible text
}

/// The text on one line, with everything unsafe spelled out: `\n`, `\t`, `\u{1b}`.
pub(crate) fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_nothing_to_obey() {
        assert_eq!(line("a\x1b[31mb\u{9b}1mc\r\n\t\u{7f}"), r"a\u{1b}[31mb\u{9b}1mc\r\n\t\u{7f}");
        assert_eq!(line("one\u{2028}two\u{202e}three"), r"one\u{2028}two\u{202e}three");
        assert_eq!(line("äöü 🛑 \\ \""), "äöü 🛑 \\ \"");
    }
}
