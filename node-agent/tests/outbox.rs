//! The outbox keeps its promise over a crash at any byte, and its bound.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;

use bus_schema::SessionId;
use node_agent::outbox::record::{Record, RecordKind};
use node_agent::outbox::{Limits, Located, Meter, Opened, Outbox, OutboxError, Reader};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use providers::Position;

fn session() -> SessionId {
    SessionId::new("01JD8Z2V9Q0000000000000000").unwrap()
}

fn meter(session_bytes: u64, total_bytes: u64) -> Arc<Meter> {
    Meter::new(Limits { session_bytes, total_bytes })
}

fn open(dir: &Path, meter: &Arc<Meter>) -> Opened {
    Outbox::open(&session(), dir, meter.clone()).unwrap()
}

fn at(offset: u64) -> Position {
    Position { offset, index: 0 }
}

fn all(outbox: &Outbox, after: u64) -> Vec<Record> {
    let mut reader = Reader::new(outbox.files().clone(), after);
    let mut records = vec![];
    while let Some(located) = reader.read().unwrap() {
        match located {
            Located::Record(record) => records.push(record),
            Located::Damaged { after } => panic!("damaged behind {after}"),
        }
    }
    records
}

/// A session's task in small: takes the runtime's events `1, 2, 3 …` and gives each the next `seq`. What it must know
/// is its last `seq`; it is the body of a checkpoint, and of each message.
struct Task {
    outbox: Outbox,
    seq: u64,
}

impl Task {
    fn start(dir: &Path, meter: &Arc<Meter>) -> Self {
        let Opened { outbox, records } = open(dir, meter);
        let seq = records.last().map_or(0, |record| number(&record.body));
        Self { outbox, seq }
    }

    /// Takes the next events behind its position, as many as it is told, in one batch.
    fn take(&mut self, count: u64, padding: usize) {
        if self.outbox.needs_segment() {
            self.outbox.begin_segment(&self.seq.to_le_bytes()).unwrap();
        }
        for _ in 0..count {
            let event = self.outbox.position().offset + 1;
            self.seq += 1;
            assert_eq!(event, self.seq, "an event was lost or doubled");
            let mut body = self.seq.to_le_bytes().to_vec();
            body.resize(8 + padding, 0);
            self.outbox.append(RecordKind::Message, at(event), &body);
        }
        self.outbox.commit().unwrap();
    }
}

fn number(body: &[u8]) -> u64 {
    u64::from_le_bytes(body[..8].try_into().unwrap())
}

fn last_segment(dir: &Path) -> Option<std::path::PathBuf> {
    let segments = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    segments.filter(|path| path.extension().is_some_and(|e| e == "seg")).max()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    /// Killed at any byte of what it was writing, the task goes on without a loss and without a double.
    #[test]
    fn a_crash_at_any_byte_loses_and_doubles_nothing(
        lives in prop::collection::vec((prop::collection::vec((1u64..20, 0usize..200), 0..12), 0.0f64..1.0), 1..6),
        trims in prop::collection::vec(any::<bool>(), 6),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        let meter = meter(16 * 1024, u64::MAX);
        let mut trimmed = 0;
        for ((batches, cut), trim) in lives.into_iter().zip(trims) {
            let mut task = Task::start(dir, &meter);
            for (count, padding) in batches {
                task.take(count, padding);
            }
            let files = task.outbox.files().clone();
            if trim {
                // The bus has taken half of it.
                trimmed = trimmed.max(files.last() / 2);
                files.trim(trimmed).unwrap();
            }
            drop(task);
            if let Some(path) = last_segment(dir) {
                // A crash tears what was being written, never what the bus has had already.
                let first: u64 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
                if trimmed < first {
                    let length = std::fs::metadata(&path).unwrap().len();
                    let keep = (length as f64 * cut) as u64;
                    std::fs::File::options().write(true).open(&path).unwrap().set_len(keep).unwrap();
                }
            }
        }
        let task = Task::start(dir, &meter);
        let records = all(&task.outbox, trimmed);
        let numbers: Vec<u64> = records.iter().map(|record| record.number).collect();
        prop_assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
        let seqs: Vec<u64> =
            records.iter().filter(|r| r.kind == RecordKind::Message).map(|r| number(&r.body)).collect();
        prop_assert!(seqs.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{seqs:?}");
        prop_assert_eq!(seqs.last().copied().unwrap_or(task.seq), task.seq);
        if trimmed == 0 && !seqs.is_empty() && records[0].number == 1 {
            prop_assert_eq!(seqs[0], 1);
        }
    }
}

#[test]
fn a_reader_follows_the_writer_over_segments() {
    let folder = tempfile::tempdir().unwrap();
    let meter = meter(16 * 1024, u64::MAX);
    let mut task = Task::start(folder.path(), &meter);
    task.take(1, 0);
    let mut reader = Reader::new(task.outbox.files().clone(), 0);
    let mut read = vec![];
    for _ in 0..200 {
        while let Some(Located::Record(record)) = reader.read().unwrap() {
            read.extend((record.kind == RecordKind::Message).then(|| number(&record.body)));
        }
        assert!(!reader.has_more());
        task.take(3, 50);
    }
    assert_eq!(read, (1..=598).collect::<Vec<_>>());
    reader.seek(0);
    assert!(matches!(reader.read().unwrap(), Some(Located::Record(Record { number: 1, .. }))));
}

#[test]
fn what_is_trimmed_is_gone_and_what_is_not_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let meter = meter(16 * 1024, u64::MAX);
    let mut task = Task::start(folder.path(), &meter);
    for _ in 0..200 {
        task.take(3, 50);
    }
    let (files, before) = (task.outbox.files().clone(), meter.total());
    let freed = meter.freed();
    files.trim(300).unwrap();
    assert!(freed.has_changed().unwrap());
    assert!(meter.total() < before * 6 / 10, "{} of {before}", meter.total());
    let kept = all(&task.outbox, 300);
    assert_eq!(kept.first().unwrap().number, 301);
    assert_eq!(kept.last().unwrap().number, files.last());
    drop(task);
    let opened = open(folder.path(), &meter);
    assert_eq!(opened.outbox.files().floor(), 300);
    assert_eq!(all(&opened.outbox, 300), kept);
    files.trim(u64::MAX).unwrap();
    assert!(files.bytes() > 0, "the last segment stays");
}

#[test]
fn the_bounds_are_told_and_space_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let meter = meter(16 * 1024, 20 * 1024);
    let mut task = Task::start(&folder.path().join("a"), &meter);
    while !task.outbox.is_full() {
        task.take(1, 100);
    }
    assert!(task.outbox.files().bytes() >= 16 * 1024 && !task.outbox.is_reserve_full());
    // The bound of all: another session is full before its own bound.
    let mut other = Task::start(&folder.path().join("b"), &meter);
    while !other.outbox.is_full() {
        other.take(1, 100);
    }
    assert!(other.outbox.files().bytes() < 8 * 1024);
    task.outbox.files().trim(task.outbox.files().last()).unwrap();
    assert!(!task.outbox.is_full() && !other.outbox.is_full());
    let total = meter.total();
    let bytes = other.outbox.files().bytes();
    drop(other);
    assert_eq!(meter.total(), total - bytes);
}

/// After the machine ended, the log may be shorter than what the bus had. Numbers are not given twice.
#[test]
fn numbers_go_on_behind_the_floor_when_the_log_was_lost() {
    let folder = tempfile::tempdir().unwrap();
    let meter = meter(16 * 1024, u64::MAX);
    let mut task = Task::start(folder.path(), &meter);
    task.take(10, 0);
    drop(task);
    std::fs::write(folder.path().join("floor"), "500").unwrap();
    let mut outbox = open(folder.path(), &meter).outbox;
    assert!(outbox.needs_segment());
    outbox.begin_segment(&[0; 8]).unwrap();
    assert_eq!(outbox.append(RecordKind::Session, at(10), b"x"), 502);
    outbox.commit().unwrap();
    assert_eq!(all(&outbox, 500).iter().map(|r| r.number).collect::<Vec<_>>(), [501, 502]);
    drop(outbox);
    assert_eq!(open(folder.path(), &meter).records.last().unwrap().number, 502);
}

#[test]
fn a_newer_format_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let meter = meter(16 * 1024, u64::MAX);
    Task::start(folder.path(), &meter).take(1, 0);
    let path = last_segment(folder.path()).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[7] = 2;
    std::fs::write(&path, &bytes).unwrap();
    let refused = Outbox::open(&session(), folder.path(), meter.clone()).map(|_| ());
    assert!(matches!(refused, Err(OutboxError::NewerFormat { theirs: 2, .. })), "{refused:?}");
    bytes[0] = b'x';
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(Outbox::open(&session(), folder.path(), meter).map(|_| ()), Err(OutboxError::Damaged { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[tokio::test]
async fn what_was_synced_can_be_synced_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut task = Task::start(folder.path(), &meter(16 * 1024, u64::MAX));
    task.take(1, 0);
    task.outbox.sync().await.unwrap();
    task.take(1, 0);
    task.outbox.sync().await.unwrap();
}
