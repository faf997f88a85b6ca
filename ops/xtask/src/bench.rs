//! `cargo xtask bench`: how fast and how light it is, each figure beside its baseline from the same run.
//!
//! The optimised build of the database takes some 50 minutes of processor time when it is made for the first time.

use std::process::Command;

use crate::{project, run, say, test, tools};

/// `cargo xtask bench`
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    crate::no_arguments(arguments)?;
    run::listen()?;
    let nats = tools::NATS_SERVER.get()?;
    say::step("building (profile release; the first time takes long)");
    run::run(test::cargo().args(["build", "--release", "--workspace", "--bins", "--examples"]))?;
    say::step("measuring; leave the machine alone for two minutes");
    let program = project::profile_dir("release").join("examples/bench");
    run::run(Command::new(program).current_dir(project::root()).env("NATS_SERVER", nats))
}
