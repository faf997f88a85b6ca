//! Checking an audit log. Pure: rows and checkpoints in, what is wrong with which row out.
//!
//! What each part can show:
//! - the chain: a row that was changed, taken out, put in or moved, by somebody who did not compute everything anew;
//! - a signed checkpoint: that too, up to its row, and a tail that was cut off before it;
//! - another copy (the bus, a witness): all of it, in the rows that both have.

use std::collections::{BTreeMap, BTreeSet};

use super::{AuditEntry, AuditHash, AuditLine, CheckpointLine, GENESIS};
use crate::id::WorkspaceId;
use crate::open_enum::open_enum;

/// Faults that are told one by one; more are counted.
const FAULTS_TOLD: usize = 1_000;

open_enum! {
    /// What is wrong.
    pub enum FaultKind {
        /// A line that is no row.
        Unreadable = "unreadable",
        /// Rows that are not there.
        Missing = "missing",
        /// A row that stands behind a later one, or is there twice.
        OutOfOrder = "outOfOrder",
        /// A row whose hash is not that of its content.
        Altered = "altered",
        /// A row that does not follow the one before it.
        Broken = "broken",
        /// A row without a hash behind rows that have one.
        Unchained = "unchained",
        /// A row of another workspace.
        Foreign = "foreign",
        /// A signed checkpoint that says another hash.
        Checkpoint = "checkpoint",
        /// A checkpoint whose signature does not hold, or not with a key that is trusted.
        Signature = "signature",
        /// A row that another copy has with other content.
        Differs = "differs",
        /// A row that a complete copy does not have.
        Extra = "extra",
    }
}

/// Something that is wrong with a row, or with several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditFault {
    /// What.
    pub kind: FaultKind,
    /// The row; 0 if it cannot be told.
    pub row: u64,
    /// The last row, where it is about several.
    pub to: u64,
    /// In words.
    pub detail: String,
}

impl AuditFault {
    fn new(kind: FaultKind, row: u64, detail: impl Into<String>) -> Self {
        Self { kind, row, to: row, detail: detail.into() }
    }

    fn missing(row: u64, to: u64, detail: impl Into<String>) -> Self {
        Self { kind: FaultKind::Missing, row, to, detail: detail.into() }
    }
}

/// Whether a checkpoint's signature holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureCheck {
    /// It holds, with a key that is trusted.
    Trusted,
    /// It holds, with a key that nobody has vouched for.
    Unknown,
    /// It does not hold.
    Bad,
}

/// Checks that each row follows the one before it.
#[derive(Debug, Default)]
pub struct ChainCheck {
    last: Option<Last>,
    chained: bool,
}

#[derive(Debug)]
struct Last {
    n: u64,
    hash: AuditHash,
    claimed: Option<String>,
}

impl ChainCheck {
    /// For rows behind that one, which is known to be whole.
    pub fn behind(n: u64, hash: AuditHash) -> Self {
        Self { last: Some(Last { n, hash, claimed: Some(hash.to_string()) }), chained: true }
    }

    /// What is wrong with the next row; it is the last one then, unless it stands behind a later one or its number
    /// cannot be believed.
    pub fn next(&mut self, line: &AuditLine) -> Option<AuditFault> {
        let (row, n) = (&line.row, line.row.n);
        let expected = self.last.as_ref().map_or(1, |last| last.n.saturating_add(1));
        if n < expected {
            let detail = format!("stands behind row {}", expected - 1);
            return Some(AuditFault::new(FaultKind::OutOfOrder, n, detail));
        }
        let altered = row.hash.as_ref().is_some_and(|claimed| *claimed != line.hash.to_string());
        if altered && n > expected {
            // It may be its number that was altered: the chain goes on as if it were not there.
            return Some(AuditFault::new(FaultKind::Altered, n, "was altered, or is another row with this number"));
        }
        let last = self.last.replace(Last { n, hash: line.hash, claimed: row.hash.clone() });
        let Some(claimed) = &row.hash else {
            let detail = "has no hash, and rows before it have";
            let fault = self.chained.then(|| AuditFault::new(FaultKind::Unchained, n, detail));
            return fault.or_else(|| missing(expected, n));
        };
        self.chained = true;
        if altered {
            let detail = format!("was altered: its hash is {}, and it says {claimed}", line.hash);
            return Some(AuditFault::new(FaultKind::Altered, n, detail));
        }
        if let Some(fault) = missing(expected, n) {
            return Some(fault);
        }
        let before = last.as_ref().map_or(GENESIS, |last| last.hash).to_string();
        // Behind a row that was altered and keeps its old hash only that one is at fault.
        let kept = last.as_ref().and_then(|last| last.claimed.as_ref());
        if row.prev.as_ref() != Some(&before) && (row.prev.is_none() || row.prev.as_ref() != kept) {
            let detail = format!("does not follow row {}: one of the two was replaced", n - 1);
            return Some(AuditFault::new(FaultKind::Broken, n, detail));
        }
        None
    }

    /// Number and hash of the last row.
    pub fn last(&self) -> Option<(u64, AuditHash)> {
        self.last.as_ref().map(|last| (last.n, last.hash))
    }
}

fn missing(expected: u64, n: u64) -> Option<AuditFault> {
    (n > expected).then(|| AuditFault::missing(expected, n - 1, "not there"))
}

/// What came of a check.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AuditReport {
    /// The workspace, from the first row.
    pub workspace: Option<WorkspaceId>,
    /// How many rows there are.
    pub rows: u64,
    /// The first row; 0 if there is none.
    pub first: u64,
    /// The last row; 0 if there is none.
    pub last: u64,
    /// Rows at the beginning that an older version wrote without hashes.
    pub unchained: u64,
    /// How many checkpoints hold.
    pub checkpoints: u64,
    /// The last row that a checkpoint covers, signed with a trusted key or, if none was given, with any.
    pub signed_to: u64,
    /// Keys that signed and that nobody vouched for.
    pub unknown_keys: BTreeSet<String>,
    /// What is wrong, by row; at most 1,000 of them.
    pub faults: Vec<AuditFault>,
    /// How many faults there are.
    pub faults_total: u64,
}

/// Checks a whole log, from its first row to its last.
pub struct Verifier<'a> {
    signature: Box<dyn Fn(&CheckpointLine) -> SignatureCheck + 'a>,
    chain: ChainCheck,
    known: BTreeMap<u64, AuditHash>,
    checkpoints: Vec<CheckpointLine>,
    report: AuditReport,
}

impl<'a> Verifier<'a> {
    /// With a judge of signatures.
    pub fn new(signature: impl Fn(&CheckpointLine) -> SignatureCheck + 'a) -> Self {
        let (chain, known, checkpoints) = (ChainCheck::default(), BTreeMap::new(), vec![]);
        Self { signature: Box::new(signature), chain, known, checkpoints, report: AuditReport::default() }
    }

    /// The next row or checkpoint.
    pub fn push(&mut self, entry: AuditEntry) {
        let line = match entry {
            AuditEntry::Checkpoint(line) => return self.checkpoints.push(*line),
            AuditEntry::Row(line) => line,
        };
        let n = line.row.n;
        let workspace = self.report.workspace.get_or_insert_with(|| line.row.workspace.clone());
        if *workspace != line.row.workspace {
            let detail = format!("is of workspace {}, not of {workspace}", line.row.workspace);
            self.fault(AuditFault::new(FaultKind::Foreign, n, detail));
        }
        self.report.rows += 1;
        if self.report.first == 0 {
            self.report.first = n;
        }
        if line.row.hash.is_none() && !self.chain.chained {
            self.report.unchained += 1;
        }
        let fault = self.chain.next(&line);
        match self.known.get(&n) {
            Some(first) if *first == line.hash => {
                self.fault(AuditFault::new(FaultKind::OutOfOrder, n, "is there twice"));
            }
            Some(_) => self.fault(AuditFault::new(FaultKind::Extra, n, "is there twice, with different content")),
            None => {
                let taken = self.chain.last().is_some_and(|(last, _)| last >= n);
                if taken {
                    self.known.insert(n, line.hash);
                }
                // What is missing is told at the end: it may come later.
                if let Some(fault) = fault.filter(|fault| fault.kind != FaultKind::Missing) {
                    self.fault(fault);
                }
            }
        }
    }

    /// A line that cannot be read, with its place.
    pub fn unreadable(&mut self, place: &str, reason: &str) {
        let row = self.chain.last().map_or(1, |(n, _)| n.saturating_add(1));
        let detail = format!("{place}, where row {row} may have been, cannot be read: {reason}");
        self.fault(AuditFault::new(FaultKind::Unreadable, row, detail));
    }

    /// The hashes of all rows so far, by number.
    pub fn known(&self) -> &BTreeMap<u64, AuditHash> {
        &self.known
    }

    /// Compares with the rows of another copy. `complete`: what it does not have was never written.
    pub fn compare(&mut self, name: &str, other: &BTreeMap<u64, AuditHash>, complete: bool) {
        let mut faults = vec![];
        let mut gone: Option<(u64, u64)> = None;
        for (n, theirs) in other {
            match self.known.get(n) {
                Some(ours) if ours == theirs => {}
                Some(_) => {
                    let detail = format!("is another one in {name}");
                    faults.push(AuditFault::new(FaultKind::Differs, *n, detail));
                }
                None => match &mut gone {
                    Some((_, to)) if *to + 1 == *n => *to = *n,
                    _ => {
                        faults.extend(gone.take().map(|(a, b)| in_other(a, b, name)));
                        gone = Some((*n, *n));
                    }
                },
            }
        }
        faults.extend(gone.map(|(a, b)| in_other(a, b, name)));
        if complete {
            let extra = self.known.keys().filter(|n| !other.contains_key(n));
            let fault = |n: &u64| AuditFault::new(FaultKind::Extra, *n, format!("is not in {name}"));
            faults.extend(extra.map(fault));
        }
        faults.into_iter().for_each(|fault| self.fault(fault));
    }

    fn fault(&mut self, fault: AuditFault) {
        self.report.faults_total += 1;
        if self.report.faults.len() < FAULTS_TOLD {
            self.report.faults.push(fault);
        }
    }

    /// All is in: what came of it.
    pub fn finish(mut self) -> AuditReport {
        self.report.last = self.known.keys().next_back().copied().unwrap_or(0);
        let mut expected = 1;
        let mut gaps = vec![];
        for n in self.known.keys() {
            gaps.extend(missing(expected, *n));
            expected = n.saturating_add(1);
        }
        gaps.into_iter().for_each(|gap| self.fault(gap));
        for line in std::mem::take(&mut self.checkpoints) {
            self.judge(&line);
        }
        let AuditReport { faults, faults_total, .. } = &mut self.report;
        faults.sort_by_key(|fault| fault.row);
        faults.dedup_by(|b, a| {
            // The same rows may be missed by several checks: told once.
            let same = a.kind == FaultKind::Missing && b.kind == FaultKind::Missing && a.row == b.row;
            if same {
                a.to = a.to.max(b.to);
                *faults_total -= 1;
            }
            same
        });
        self.report
    }

    fn judge(&mut self, line: &CheckpointLine) {
        let (said, n) = (&line.checkpoint, line.checkpoint.checkpoint);
        let trust = (self.signature)(line);
        if trust == SignatureCheck::Bad {
            let detail = format!("the signature of its checkpoint does not hold (key {})", said.key);
            return self.fault(AuditFault::new(FaultKind::Signature, n, detail));
        }
        let workspace = self.report.workspace.get_or_insert_with(|| said.workspace.clone());
        if *workspace != said.workspace {
            let detail = format!("its checkpoint is of workspace {}, not of {workspace}", said.workspace);
            return self.fault(AuditFault::new(FaultKind::Foreign, n, detail));
        }
        if trust == SignatureCheck::Unknown {
            self.report.unknown_keys.insert(said.key.clone());
        }
        match self.known.get(&n) {
            Some(hash) if hash.to_string() == said.hash => {
                self.report.checkpoints += 1;
                self.report.signed_to = self.report.signed_to.max(n);
            }
            Some(hash) => {
                let detail = format!(
                    "is not what was signed: it, or a row before it, was replaced (hash {hash}, signed {})",
                    said.hash
                );
                self.fault(AuditFault::new(FaultKind::Checkpoint, n, detail));
            }
            None if n > self.report.last => {
                let detail = format!("not there: a checkpoint of row {n} was signed at {}", said.timestamp);
                self.fault(AuditFault::missing(self.report.last + 1, n, detail));
            }
            // A gap in the middle has been told.
            None => {}
        }
    }
}

fn in_other(row: u64, to: u64, name: &str) -> AuditFault {
    AuditFault::missing(row, to, format!("not there, and in {name}"))
}
