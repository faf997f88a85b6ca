//! `mosaic`: what people and scripts beside the hub need.
//!
//! | command | what it does |
//! |---|---|
//! | `mosaic decode` | one MessagePack payload on stdin → one JSON line on stdout; made for `nats sub --translate` |
//! | `mosaic tail` | watches the mesh with a reader's credentials, without the NATS command line |
//! | `mosaic node …` | lets nodes in and shuts them out |
//! | `mosaic audit …` | checks the audit log without the hub, or writes down what is published of it |
//! | `mosaic identity …` | makes and extends the NATS identity of a mesh |
//!
//! Laws:
//! 1. What comes from an agent or from the bus never reaches a terminal unescaped.
//! 2. `decode` starts in a few milliseconds and always succeeds: it runs once per message.
//! 3. Results go to stdout, everything said to people to stderr.

mod audit;
mod decode;
mod deeds;
mod escape;
mod identity;
mod json;
mod node;
mod render;
mod servers;
mod tail;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Mosaic Mesh on the command line.
#[derive(Debug, Parser)]
#[command(name = "mosaic", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Turns one MessagePack payload on stdin into one line of JSON on stdout.
    ///
    /// nats sub 'live.mosaic.v1.default.>' --translate 'mosaic decode'
    Decode,
    /// Watches what happens in a workspace.
    Tail(tail::Arguments),
    /// Lets nodes in and shuts them out.
    #[command(subcommand)]
    Node(node::Command),
    /// Checks the audit log.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Makes and extends the NATS identity of a mesh.
    #[command(subcommand)]
    Identity(identity::Command),
}

fn main() -> ExitCode {
    // Before anything else is set up: this runs once per message.
    if std::env::args_os().nth(1).is_some_and(|word| word == "decode") && std::env::args_os().len() == 2 {
        return decode::run();
    }
    let done = match Arguments::parse().command {
        Command::Decode => return decode::run(),
        Command::Tail(arguments) => tail::run(arguments),
        Command::Node(command) => node::run(command),
        Command::Audit(command) => return audit::run(command),
        Command::Identity(command) => identity::run(command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Says something to the person at the terminal.
fn complain(text: &str) {
    // Where stderr is closed nobody wants to know.
    let _ = writeln!(std::io::stderr(), "mosaic: {}", escape::line(text));
}
