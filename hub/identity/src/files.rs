//! Files of an identity: private, and there whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::IdentityError;

fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> IdentityError {
    let path = path.to_owned();
    move |source| IdentityError::Io { doing, path, source }
}

/// Makes a folder that only its owner may enter, with all above it.
pub(crate) fn make_dir(path: &Path) -> Result<(), IdentityError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io("make the folder", path))
}

/// Writes a file that only its owner may read; a reader sees the old content or the new one.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> Result<(), IdentityError> {
    if let Some(parent) = path.parent() {
        make_dir(parent)?;
    }
    // Beside the target, or the rename could cross a file system. Writers hold the lock, so one name is enough.
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    // Left behind by a writer that was killed, perhaps with other rights.
    remove(&temporary)?;
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).map_err(io("make", &temporary))?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(io("write", &temporary))?;
    fs::rename(&temporary, path).map_err(io("put in place", path))
}

/// Removes a file, if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), IdentityError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The content of a file; `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<String>, IdentityError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io("read", path)(error)),
    }
}

/// Gives a file another name.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), IdentityError> {
    fs::rename(from, to).map_err(io("rename", from))
}

/// The files of a folder; none if it is not there.
pub(crate) fn list(dir: &Path) -> Result<Vec<PathBuf>, IdentityError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(io("list", dir)(error)),
    };
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(io("list", dir))).collect()
}

/// The lock in this file, if nobody else has it.
pub(crate) fn try_lock(path: &Path) -> Result<Option<Lock>, IdentityError> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
    let file = file.map_err(io("open", path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Lock(file))),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(io("lock", path)(error)),
    }
}

/// Held by whoever changes an identity, hub or command line; let go when dropped.
pub(crate) struct Lock(#[expect(dead_code, reason = "holding it is its use")] File);

/// Waits until nobody else changes the identity in `dir`. Changes take milliseconds.
pub(crate) fn lock(dir: &Path) -> Result<Lock, IdentityError> {
    make_dir(dir)?;
    let path = dir.join("identity.lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(io("open", &path))?;
    file.lock().map_err(io("lock", &path))?;
    Ok(Lock(file))
}
