//! Where the store is and how much it may use.

use std::path::PathBuf;
use std::time::Duration;

use bus_schema::Secret;

/// Where the store is.
#[derive(Clone, Debug)]
pub enum StoreLocation {
    /// In this process, on disk, in a folder of its own.
    Embedded(PathBuf),
    /// In this process, in memory, for tests. Gone with the process.
    Memory,
    /// A SurrealDB server, version 3, as a database user.
    Remote {
        /// `ws://` or `wss://` address.
        url: String,
        /// Namespace.
        namespace: String,
        /// Database.
        database: String,
        /// User defined on that database, with role EDITOR.
        user: String,
        /// Their password.
        password: Secret,
    },
}

/// Settings of the store.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Where.
    pub location: StoreLocation,
    /// Embedded: bytes of writes kept in memory before they go to a sorted file. A transaction must fit. The default
    /// of 16 MiB is about 12,000 messages; SurrealDB's own default would be a gigabyte.
    pub memtable_bytes: u64,
    /// Embedded: bytes of blocks kept in memory for reading.
    pub block_cache_bytes: u64,
    /// Longest time for one call, retries included.
    pub deadline: Duration,
}

impl StoreConfig {
    /// The usual settings for a place.
    pub fn new(location: StoreLocation) -> Self {
        Self {
            location,
            memtable_bytes: 16 * 1024 * 1024,
            block_cache_bytes: 64 * 1024 * 1024,
            deadline: Duration::from_secs(20),
        }
    }
}
