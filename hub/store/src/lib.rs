//! The hub's store: a projection of the bus in SurrealDB, embedded on disk or remote.
//!
//! This is the only crate that knows SurrealDB, and the only one with SurrealQL in it. It exposes plain structs and
//! non-generic functions, so that a change elsewhere does not compile the database's generic code again.
//!
//! # Laws
//!
//! 1. Everything here can be made again from the bus. What must not be lost was in JetStream before it came here.
//! 2. Every write is idempotent: the same batch twice changes nothing. Rows are keyed by their natural key.
//! 3. Rows and the position in the stream they came from are written in one transaction.
//! 4. Every write goes through one helper that retries conflicts, with jitter, a bound and a deadline
//!    ([`Store`]'s private `write`): SurrealDB's isolation is snapshot, and nothing in it retries.
//! 5. An end that was not awaited ([`Store::close`]) may have lost the last transaction (SurrealKV 0.21.4 inside
//!    SurrealDB 3.3.5, measured). A marker file tells such an end; [`Opened::unclean`] makes the hub replay.

mod audit;
mod config;
mod control;
mod db;
mod error;
mod ingest;
mod journal;
mod messages;
mod migrations;
mod parked;
mod people;
mod retention;
mod search;
mod sessions;
mod value;

pub use audit::AuditFilter;
pub use config::{StoreConfig, StoreLocation};
pub use control::{Approval, FourEyes, Holder, Wish, Writer};
pub use db::{Opened, Store};
pub use error::StoreError;
pub use ingest::{Cursor, MessageBatch, MessageRow, NodeRow, ParkedRow, ReceiptRow, SessionRow, StateBatch};
pub use journal::{
    AgentProvider, AgentProviderRow, ApiToken, Hold, Invitation, Layout, Membership, Record, RecordBody,
    RetentionPolicy, Sealed, SignIn, User,
};
pub use messages::{Head, MessagePage, PageOf};
pub use people::MembershipRow;
pub use search::{NoPlace, SearchFor, SearchPage, SearchPlace};
pub use sessions::{NodeSeen, SessionFilter};
