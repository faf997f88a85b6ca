//! States of the interpreter at the beginnings of segments, so that a log whose beginning is deleted can still be told.
//!
//! Law: a checkpoint is on disk before the segments before it may be deleted.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bus_schema::SessionId;

use super::files::replace_bytes;
use super::log::LogReader;

/// Those of one session, as they are on disk.
pub(crate) struct Checkpoints {
    id: SessionId,
    dir: PathBuf,
    log: PathBuf,
    places: Mutex<Vec<u64>>,
}

impl Checkpoints {
    /// Those in `dir`, of the log in `log`.
    pub fn open(id: SessionId, dir: PathBuf, log: PathBuf) -> Self {
        let places = Mutex::new(places(&dir));
        Self { id, dir, log, places }
    }

    fn places(&self) -> MutexGuard<'_, Vec<u64>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place of the newest before an offset; 0 if there is none.
    pub fn before(&self, offset: u64) -> u64 {
        self.places().iter().rev().find(|base| **base < offset).copied().unwrap_or(0)
    }

    /// Puts one on disk, and drops those of what the log has no more. If that fails, the log is kept for longer.
    pub async fn keep(&self, base: u64, bytes: Vec<u8>) {
        if self.places().contains(&base) {
            return;
        }
        let (kept, log) = (self.dir.clone(), self.log.clone());
        let written = tokio::task::spawn_blocking(move || {
            if let Ok(Some(header)) = LogReader::first(&log) {
                prune(&kept, header.base);
            }
            keep(&kept, base, &bytes).map(|()| places(&kept))
        });
        match written.await {
            Ok(Ok(places)) => *self.places() = places,
            Ok(Err(error)) => tracing::warn!(session_id = %self.id, %error, "checkpoint not written"),
            Err(_) => {}
        }
    }
}

fn path(dir: &Path, base: u64) -> PathBuf {
    dir.join(format!("{base:020}.ckpt"))
}

fn keep(dir: &Path, base: u64, bytes: &[u8]) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    replace_bytes(&path(dir, base), bytes)
}

/// The places of all that are kept, in order.
pub(crate) fn places(dir: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let place = |name: std::ffi::OsString| name.to_str()?.strip_suffix(".ckpt")?.parse().ok();
    let mut places: Vec<u64> = entries.filter_map(|entry| place(entry.file_name())).collect();
    places.sort_unstable();
    places
}

/// One that was kept.
pub(crate) fn read(dir: &Path, base: u64) -> Option<Vec<u8>> {
    std::fs::read(path(dir, base)).ok()
}

/// Drops those before `first`, the place where the log begins now.
fn prune(dir: &Path, first: u64) {
    for base in places(dir).into_iter().filter(|base| *base < first) {
        // One too many does no harm.
        let _ = std::fs::remove_file(path(dir, base));
    }
}
