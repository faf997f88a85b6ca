//! A session's own log, in the form of `pty/log.rs`: what everything that is told of the session is derived from.
//!
//! Laws:
//! 1. What is appended is on the disk before anybody reads it: after a crash, of the machine too, nothing that was told
//!    is missing, so positions stay what they were.
//! 2. It is bounded. What is acknowledged is deleted beyond a rest for whoever looks back; what is not makes the reading
//!    of the engine's log wait.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bus_schema::{Status, TerminalSize};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::cursor::Cursor;
use super::terminal::Screen;
use crate::provider::End;
use crate::pty::entry::lock;
use crate::pty::log::{Kind, LogError, LogLimits, LogReader, LogWriter, segments};
use crate::pty::record::{Exit, Fragment, Note, unpack};

/// The size of a terminal that nobody gave one; a log without a terminal has it all the same.
pub(crate) const SIZE: TerminalSize = TerminalSize { cols: 80, rows: 24 };

/// Something to append: kind, time in µs, payload.
pub(crate) type Entry = (Kind, i64, Vec<u8>);

/// The log of one session.
#[derive(Debug)]
pub(crate) struct Record {
    /// `None` where another program keeps it.
    writer: Option<Arc<Mutex<LogWriter>>>,
    /// The place up to which it is on the disk.
    end: watch::Sender<u64>,
    dir: PathBuf,
    /// Appends that whoever asked for them may have given up.
    appending: TaskTracker,
}

/// What a log that is found says.
pub(crate) struct Past {
    /// How far the container's output is in it.
    pub cursor: Cursor,
    /// The status that was told last.
    pub stands: Option<(Status, Option<String>)>,
    /// How it ended.
    pub exit: Option<End>,
    /// What its terminal shows.
    pub screen: Screen,
}

impl Record {
    /// Opens a log, or begins it. Blocks: it reads files.
    pub fn open(dir: &Path, limits: LogLimits, after: Option<i64>) -> Result<(Self, Past), LogError> {
        let found = if dir.exists() { LogWriter::recover(dir, limits)? } else { None };
        let writer = match found {
            Some(writer) => writer,
            None => LogWriter::create(dir, limits, SIZE)?,
        };
        let past = past(dir, after)?;
        let end = watch::Sender::new(writer.end());
        let writer = Some(Arc::new(Mutex::new(writer)));
        Ok((Self { writer, end, dir: dir.into(), appending: TaskTracker::new() }, past))
    }

    /// One that another program keeps: nothing can be appended.
    pub fn of_another(dir: &Path) -> Self {
        Self { writer: None, end: watch::Sender::new(0), dir: dir.into(), appending: TaskTracker::new() }
    }

    /// The place up to which it can be read, as it grows.
    pub fn end(&self) -> watch::Receiver<u64> {
        self.end.subscribe()
    }

    /// The place where what is kept begins.
    pub fn first(&self) -> u64 {
        self.writer.as_ref().map_or(0, |writer| lock(writer).first())
    }

    /// Appends, and returns once it is on the disk. Entries that are given together stand together.
    pub async fn append(&self, entries: Vec<Entry>) -> Result<u64, LogError> {
        let dir = self.dir.clone();
        let Some(writer) = self.writer.clone() else {
            let source = std::io::ErrorKind::PermissionDenied.into();
            return Err(LogError::Io { doing: "writing what another program keeps in", path: dir, source });
        };
        let write = move || {
            let mut writer = lock(&writer);
            for (kind, time, data) in &entries {
                writer.append(*kind, *time, data)?;
            }
            // Whoever waits for the lock wants to append too, and would wait for the disk anyway.
            let synced = writer.file().sync_data();
            synced.map_err(|source| LogError::Io { doing: "syncing", path: dir, source })?;
            Ok(writer.end())
        };
        // Only a shutdown of the runtime cancels it.
        let end = self.appending.spawn_blocking(write).await.unwrap_or_else(|_| Ok(*self.end.borrow()))?;
        self.end.send_if_modified(|known| {
            let grew = end > *known;
            *known = end.max(*known);
            grew
        });
        Ok(end)
    }

    /// Waits until nothing is being appended any more.
    pub async fn settle(&self) {
        self.appending.close();
        self.appending.wait().await;
    }

    /// Deletes what nobody needs: acknowledged up to the one place, with a checkpoint at the other.
    pub async fn release(&self, acknowledged: u64, floor: u64) {
        let Some(writer) = self.writer.clone() else { return };
        // What stays is deleted the next time.
        let _ = tokio::task::spawn_blocking(move || lock(&writer).release(acknowledged, floor)).await;
    }
}

/// Reads from the end of a log as much as tells how far it is.
fn past(dir: &Path, after: Option<i64>) -> Result<Past, LogError> {
    let bases: Vec<u64> = segments(dir)?.into_iter().map(|(base, _)| base).collect();
    let mut from = bases.len().saturating_sub(2);
    // Not less than what its terminal has shown, should that be said by no block.
    let shown = LogReader::first(dir)?.map_or(0, |header| header.output);
    loop {
        let screen = Screen::new(shown);
        let mut past = Past { cursor: Cursor::new(after), stands: None, exit: None, screen };
        let Some(base) = bases.get(from) else { return Ok(past) };
        // Stamps of each stream: a single one may go on before what was read.
        let mut stamps = [None::<(i64, bool)>; 2];
        let mut reader = LogReader::open(dir, *base)?;
        while let Some(block) = reader.next()? {
            match block.kind {
                Kind::Fragment => {
                    let Some(Fragment { stream, nanos, .. }) = Fragment::decode(&block.data) else { continue };
                    past.cursor.wrote(stream, nanos);
                    let stamp = &mut stamps[usize::from(stream == 2)];
                    *stamp = Some(stamp.map_or((nanos, false), |(first, differs)| (first, differs || first != nanos)));
                }
                Kind::Note => {
                    if let Some(Note::Stands { status, reason, .. }) = unpack(&block.data) {
                        past.stands = Some((status, reason));
                    }
                }
                Kind::Exit => past.exit = unpack::<Exit>(&block.data).map(|exit| exit.end),
                Kind::Shown | Kind::Resize => past.screen.block(block.kind, &block.data),
                Kind::Output | Kind::Errors | Kind::Input | Kind::Report | Kind::Quiet | Kind::Other(_) => {}
            }
        }
        let is_whole = stamps.iter().all(|stamp| stamp.is_some_and(|(_, differs)| differs)) && past.stands.is_some();
        if is_whole || from == 0 {
            return Ok(past);
        }
        from = from.saturating_sub(bases.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_log_that_is_found_again_knows_how_far_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let limits = LogLimits { segment_bytes: 100, ..LogLimits::default() };
        let (record, _) = Record::open(&path, limits, None).unwrap();
        let piece = |stream, nanos| (Kind::Fragment, 1, Fragment { stream, nanos, bytes: b"some text\n" }.encode());
        let mut expected = Cursor::new(None);
        for (stream, nanos) in [(2, 3), (1, 5), (1, 7), (1, 7), (1, 7), (1, 7), (1, 7), (1, 7)] {
            record.append(vec![piece(stream, nanos)]).await.unwrap();
            expected.wrote(stream, nanos);
        }
        drop(record);
        let (record, past) = Record::open(&path, limits, None).unwrap();
        assert!(segments(&path).unwrap().len() > 2);
        assert_eq!(past.cursor, expected);
        assert_eq!(past.exit, None);
        assert!(*record.end().borrow() > 0);
    }
}
