//! Agents in pseudo-terminals.

pub(crate) mod ansi;
pub(crate) mod emulator;
pub(crate) mod files;
pub(crate) mod log;
pub(crate) mod protocol;
pub(crate) mod record;
pub(crate) mod socket;
