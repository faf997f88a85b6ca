//! Unix sockets below directories of any depth: the system takes paths of at most 107 bytes.
//!
//! Our own programs reach a socket through a descriptor of its directory (`/proc/self/fd/N/NAME`), which is always
//! short. Foreign programs need a plain path (`MOSAIC_SOCKET`), so where the directory is too deep that socket lies in
//! a short directory of the user's own.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use bus_schema::SessionId;

/// Longest path a foreign program is given. The system's bound is 107 on Linux and 103 elsewhere.
const MAX_PLAIN_PATH: usize = 100;

/// A path to `name` in an open directory. Valid while `dir` is open.
pub(crate) fn short_path(dir: &File, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))
}

/// Listens on the socket `name` in `dir`, for this user only. Replaces one that a dead process left behind.
pub(crate) fn listen(dir: &Path, name: &str) -> io::Result<UnixListener> {
    let open = File::open(dir)?;
    let path = short_path(&open, name);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Connects to the socket `name` in `dir`.
pub(crate) fn connect(dir: &Path, name: &str) -> io::Result<UnixStream> {
    let open = File::open(dir)?;
    UnixStream::connect(short_path(&open, name))
}

/// Where the session's reports are to be taken: in its directory if a foreign program can connect there.
pub(crate) fn agent_socket(session_dir: &Path, session: &SessionId) -> io::Result<PathBuf> {
    let plain = session_dir.join("agent.sock");
    if plain.is_absolute() && plain.as_os_str().len() <= MAX_PLAIN_PATH {
        return Ok(plain);
    }
    Ok(user_directory()?.join(format!("{session}.sock")))
}

/// A short directory that belongs to this user alone.
fn user_directory() -> io::Result<PathBuf> {
    let user = rustix::process::geteuid().as_raw();
    let dir = PathBuf::from(format!("/tmp/mosaic-{user}"));
    let mut builder = std::fs::DirBuilder::new();
    match builder.mode(0o700).create(&dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    // It may have been laid there for us by somebody else.
    let found = std::fs::symlink_metadata(&dir)?;
    if !found.is_dir() || found.uid() != user || found.mode() & 0o077 != 0 {
        let text = format!("{} must be a directory of user {user} alone; remove it", dir.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_in_a_deep_directory_can_be_reached() {
        let base = tempfile::tempdir().unwrap();
        let deep = base.path().join("d".repeat(100)).join("e".repeat(100));
        std::fs::create_dir_all(&deep).unwrap();
        let listener = listen(&deep, "holder.sock").unwrap();
        connect(&deep, "holder.sock").unwrap();
        listener.accept().unwrap();
        // A second one takes its place.
        listen(&deep, "holder.sock").unwrap();
        let mode = std::fs::metadata(deep.join("holder.sock")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn foreign_programs_get_a_path_that_they_can_use() {
        let session = SessionId::new("01JD8Z2V9Q0000000000000000").unwrap();
        let near = Path::new("/srv/node/pty/01JD8Z2V9Q0000000000000000");
        assert_eq!(agent_socket(near, &session).unwrap(), near.join("agent.sock"));
        let deep = PathBuf::from(format!("/{}", "d".repeat(120)));
        assert!(agent_socket(&deep, &session).unwrap().as_os_str().len() <= MAX_PLAIN_PATH);
        // A relative path means something else to a program that changes its directory.
        assert!(agent_socket(Path::new("data/pty/x"), &session).unwrap().is_absolute());
    }
}
