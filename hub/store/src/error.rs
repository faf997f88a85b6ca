//! What can go wrong with the store, classified once, where it enters.

use std::path::PathBuf;

/// The store did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be opened.
    #[error("cannot open the store at {place}")]
    Open {
        /// Folder or address.
        place: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Written by a newer program.
    #[error(
        "the store at {place} has schema {theirs}, this program knows up to {ours}: start the newer version, or restore \
         a copy from before the upgrade"
    )]
    NewerSchema {
        /// Folder or address.
        place: String,
        /// Schema of the store.
        theirs: i64,
        /// Schema of this program.
        ours: i64,
    },
    /// The marker of a running store cannot be written or removed.
    #[error("cannot write the marker {path}")]
    Marker {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is away, or did not answer in time. What was asked may still happen: ask again, writes are idempotent.
    #[error("the store did not answer within {seconds} s while {doing}")]
    Away {
        /// What was asked.
        doing: &'static str,
        /// The deadline.
        seconds: u64,
    },
    /// Others wrote the same rows every time it was tried.
    #[error("the store had conflicting writes {tries} times while {doing}")]
    Conflict {
        /// What was asked.
        doing: &'static str,
        /// How often it was tried.
        tries: u32,
    },
    /// The database refused it: a mistake of ours, or a row that it cannot take.
    #[error("the store failed while {doing}: {detail}")]
    Refused {
        /// What was asked.
        doing: &'static str,
        /// The database's words.
        detail: String,
    },
    /// A row does not have the form that this program writes.
    #[error("the store has a row of an unknown form in {table}: {detail}")]
    Form {
        /// Which table.
        table: &'static str,
        /// What is wrong with it.
        detail: String,
    },
}

impl StoreError {
    /// True if asking again later may help.
    pub fn is_passing(&self) -> bool {
        matches!(self, StoreError::Away { .. } | StoreError::Conflict { .. })
    }
}
