//! The only unsafe code of the project: two things about file descriptors that no safe wrapper offers.
#![expect(unsafe_code, reason = "see each SAFETY comment")]

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

/// Closes every descriptor above standard error that this process was started with, so that a holder keeps nothing
/// of the node agent's open. To be called first of all in `main`.
pub(crate) fn close_inherited() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<RawFd>().ok());
    // Collected first: the directory that is read is itself among them, and is closed when the reading ends.
    let open: Vec<RawFd> = names.filter(|fd| *fd > 2).collect();
    for fd in open {
        // SAFETY: called before this process has opened anything itself, so no object of ours owns a descriptor that is
        // closed here; a number without a file behind it is only asked for, which does nothing.
        unsafe {
            if rustix::io::fcntl_getfd(BorrowedFd::borrow_raw(fd)).is_ok() {
                rustix::io::close(fd);
            }
        }
    }
}

/// A descriptor of our own for the same open file as `fd`.
///
/// # Errors
/// The system's, such as too many open files.
pub(crate) fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: borrowed for this one call only; the caller holds the object that owns `fd` during it.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    borrowed.try_clone_to_owned()
}
