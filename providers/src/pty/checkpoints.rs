//! States of the interpreter at the beginnings of segments, so that a log whose beginning is deleted can still be told.
//!
//! Law: a checkpoint is on disk before the segments before it may be deleted.

use std::path::{Path, PathBuf};

use super::files::replace_bytes;

fn path(dir: &Path, base: u64) -> PathBuf {
    dir.join(format!("{base:020}.ckpt"))
}

/// Keeps a checkpoint.
pub(crate) fn keep(dir: &Path, base: u64, bytes: &[u8]) -> std::io::Result<()> {
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
pub(crate) fn prune(dir: &Path, first: u64) {
    for base in places(dir).into_iter().filter(|base| *base < first) {
        // One too many does no harm.
        let _ = std::fs::remove_file(path(dir, base));
    }
}
