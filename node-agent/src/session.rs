//! One session.

pub mod recover;
pub mod state;
