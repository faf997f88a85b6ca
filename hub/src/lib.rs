//! The hub of Mosaic Mesh: consumes the bus, persists it, enforces roles, keeps the audit log, and serves the API, the
//! live streams and the page. `mosaic-hub` is this library and a `main`.

pub mod actions;
pub mod agent_providers;
pub mod api;
pub mod audit;
pub mod authn;
pub mod bus;
pub mod clock;
pub mod config;
pub mod control;
pub mod deeds;
pub mod enrolment;
pub mod ingest;
pub mod journal;
pub mod limits;
pub mod live;
pub mod metrics;
pub mod owners;
pub mod policy;
pub mod refusals;
pub mod retention;
pub mod run;
pub mod secrets;
pub mod server;
pub mod supervisor;
pub mod tls;
pub mod workspace;
