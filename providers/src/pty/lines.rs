//! Output cut into lines.

use serde::{Deserialize, Serialize};

/// Longest line that is kept whole. The mesh cuts messages at a quarter of this; the bound is for our own memory.
pub(crate) const MAX_LINE_BYTES: usize = 1024 * 1024;

/// One line of output, without its newline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Bytes of output before it.
    pub start: u64,
    /// Its bytes, at most [`MAX_LINE_BYTES`].
    pub bytes: Vec<u8>,
    /// How many more it had.
    pub dropped: u64,
}

/// Collects a line that has no end yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lines {
    start: u64,
    #[serde(with = "serde_bytes")]
    partial: Vec<u8>,
    dropped: u64,
}

impl Lines {
    /// At a place of the output that is taken for the beginning of a line.
    pub fn new(start: u64) -> Self {
        Self { start, partial: vec![], dropped: 0 }
    }

    /// Takes the next output, and gives the lines that it ends.
    pub fn feed(&mut self, data: &[u8]) -> Vec<Line> {
        let mut lines = vec![];
        let mut rest = data;
        while let Some(length) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, behind) = rest.split_at(length);
            self.extend(line);
            rest = behind.get(1..).unwrap_or_default();
            lines.push(self.take(1));
        }
        self.extend(rest);
        lines
    }

    /// The last line, if it has no newline.
    pub fn finish(&mut self) -> Option<Line> {
        self.partial().is_some().then(|| self.take(0))
    }

    /// The line so far, if there is anything of it.
    pub fn partial(&self) -> Option<Line> {
        let line = Line { start: self.start, bytes: self.partial.clone(), dropped: self.dropped };
        (!self.partial.is_empty()).then_some(line)
    }

    fn extend(&mut self, bytes: &[u8]) {
        let room = MAX_LINE_BYTES.saturating_sub(self.partial.len()).min(bytes.len());
        let (kept, dropped) = bytes.split_at(room);
        self.partial.extend_from_slice(kept);
        self.dropped += dropped.len() as u64;
    }

    fn take(&mut self, newline: u64) -> Line {
        let line = Line { start: self.start, bytes: std::mem::take(&mut self.partial), dropped: self.dropped };
        self.start += line.bytes.len() as u64 + self.dropped + newline;
        self.dropped = 0;
        line
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_know_where_they_began() {
        let mut lines = Lines::new(100);
        let found = lines.feed(b"ab\n\ncd");
        assert_eq!(
            found.iter().map(|line| (line.start, &line.bytes[..])).collect::<Vec<_>>(),
            [(100, &b"ab"[..]), (103, b"")]
        );
        assert_eq!(lines.finish().map(|line| (line.start, line.bytes)), Some((104, b"cd".to_vec())));
        assert_eq!(lines.finish(), None);
    }

    #[test]
    fn a_line_without_end_is_bounded_and_says_what_it_lost() {
        let mut lines = Lines::new(0);
        for _ in 0..3 {
            assert_eq!(lines.feed(&vec![b'x'; MAX_LINE_BYTES / 2]), []);
        }
        let line = lines.feed(b"\nnext\n");
        assert_eq!((line[0].bytes.len(), line[0].dropped), (MAX_LINE_BYTES, MAX_LINE_BYTES as u64 / 2));
        assert_eq!(line[1].start, 3 * MAX_LINE_BYTES as u64 / 2 + 1);
    }

    proptest! {
        #[test]
        fn any_cutting_gives_the_same_lines(data in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..300), cut in 1usize..9) {
            let (mut whole, mut parts) = (Lines::new(0), Lines::new(0));
            let mut expected = whole.feed(&data);
            expected.extend(whole.finish());
            let mut found: Vec<Line> = data.chunks(cut).flat_map(|part| parts.feed(part)).collect();
            found.extend(parts.finish());
            prop_assert_eq!(&found, &expected);
            let count = data.split(|byte| *byte == b'\n').count() - usize::from(data.last().is_none_or(|byte| *byte == b'\n'));
            prop_assert_eq!(found.len(), count);
        }
    }
}
