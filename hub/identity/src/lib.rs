//! The identity of a mesh on NATS: one operator, one account per workspace, users as signed JWTs in credentials files
//! that every NATS client understands, and the key by which nodes know a command of the hub.
//!
//! Synchronous and without a network: it makes files. The hub and `mosaic identity` use it, NATS servers and clients
//! read what it makes. Nodes can reconnect while every hub is down, since no hub is asked when they sign in.
//!
//! ```text
//! operator ── signs ──► account SYSTEM      creds/sys.creds      pushes changed accounts to running servers
//!                  ├──► account HUB         creds/journal.creds  the hub's own journal stream
//!                  └──► account WORKSPACE   three scoped signing keys, each with its row of the permission table:
//!                         ├ hub     ──────► creds/hub.creds
//!                         ├ node    ──────► creds/node-NAME.creds
//!                         └ reader  ──────► creds/reader.creds
//! command.nk                                signs commands; its public half is what nodes trust
//! ```
//!
//! # On disk
//! ```text
//! IDENTITY/
//!   identity.json        what exists: public keys, workspaces, users, revocations. No secrets
//!   operator.jwt         the root of trust, as a server wants it
//!   accounts/KEY.jwt     one per account: the directory of the server's resolver
//!   keys/KEY.nk          seeds of operator, accounts and signing keys
//!   command.nk           seed of the command key, in a file of its own
//!   command.chain        statements of the keys before it, each that the next took its place. No secrets
//!   deeds/ID.json        what was done here by hand, until a hub has it in the audit log. No secrets
//!   tls/…                certificates for every link, where they were asked for
//!   creds/…              of the first workspace; those of further ones are in creds/WORKSPACE/
//! ```
//!
//! # Laws
//! 1. What a client may do stands in the table of [`bus_schema::Permissions`] and nowhere else. It is bound to the
//!    signing key, not to the user: a user carries a name and nothing more.
//! 2. Everything is made at most once: to ask again gives the same. Files are 0600 and appear by rename; folders are
//!    0700. `identity.json` is written last of all seeds, so what it names exists.
//! 3. A seed is a [`Secret`]: it cannot be printed, logged or put into an error.
//! 4. Names are unique in a workspace over all roles, since the inbox of a client is made of its name.

mod claims;
mod clock;
mod command_key;
mod deeds;
mod error;
mod files;
mod identity;
mod jwt;
mod server;
mod signing;
mod state;
mod tls;

pub use bus_schema::Secret;
pub use command_key::{CommandKey, command_chain, is_signed_by_its_key};
pub use deeds::{BROKEN_OFF_AFTER_S, Deed, WaitingDeeds, waiting_deeds};
pub use error::IdentityError;
pub use identity::{ACCOUNT_UPDATE_SUBJECT, AccountUpdate, Credentials, HUB_NAME, Identity, READER_NAME};
pub use server::ServerConfig;
pub use signing::{Rotation, SigningKey};
pub use tls::{RENEW_BEFORE_S, TlsFiles};
