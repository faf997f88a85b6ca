//! A file that grows, line by line.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use bus_schema::SessionId;
use serde_json::Value;

use super::{Program, claude, codex};
use crate::pty::report::Report;

/// How much is read of one file at one look; the rest at the next.
const READ_AT_ONCE: u64 = 1024 * 1024;
/// Longest line. Tool results with pictures in them are longer, and are left out.
const MAX_LINE_BYTES: usize = 4 * 1024 * 1024;

/// One file, and what must be remembered of its lines.
pub(super) struct Tail {
    file: File,
    partial: Vec<u8>,
    /// True within a line that is too long.
    skipping: bool,
    /// The child whose conversation it is, if it is not the session's own.
    pub child: Option<SessionId>,
    /// True once the child was told of.
    pub is_told: bool,
    /// Calls whose result was told already.
    pub answered: BTreeSet<String>,
    /// True once messages came as completed items: then the older form of the same is passed over.
    pub has_items: bool,
    /// Where a child's facts are, beside its conversation.
    pub facts: PathBuf,
}

impl Tail {
    /// Follows a file from its beginning. `None` if it cannot be read.
    pub fn open(path: PathBuf, child: Option<SessionId>) -> Option<Self> {
        let file = File::open(&path).ok()?;
        Some(Self {
            file,
            partial: vec![],
            skipping: false,
            child,
            is_told: false,
            answered: BTreeSet::new(),
            has_items: false,
            facts: path.with_extension("meta.json"),
        })
    }

    /// The lines that are complete now and were not before.
    pub fn read(&mut self) -> Vec<Vec<u8>> {
        let mut bytes = vec![];
        // What cannot be read now is read later, or never was ours to read.
        let _ = (&mut self.file).take(READ_AT_ONCE).read_to_end(&mut bytes);
        let mut lines = vec![];
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let is_whole = part.ends_with(b"\n");
            if !self.skipping {
                self.partial.extend_from_slice(part);
                self.skipping = self.partial.len() > MAX_LINE_BYTES;
            }
            if self.skipping {
                self.partial.clear();
            }
            if is_whole {
                let line = std::mem::take(&mut self.partial);
                if !std::mem::take(&mut self.skipping) {
                    lines.push(line);
                }
            }
        }
        lines
    }

    /// What a line says.
    pub fn take(&mut self, line: &Value, program: Program) -> Vec<Report> {
        match program {
            Program::Codex => codex::take(self, line),
            Program::Claude => claude::take(self, line),
        }
    }

    /// A line of before: whose conversation it is may still stand in it.
    pub fn old(&mut self, line: &Value, program: Program) {
        if program == Program::Codex && self.child.is_none() {
            self.child = codex::child(line);
        }
    }
}
