//! `cargo xtask`: the commands of the project itself.
//!
//! | command | what it does |
//! |---|---|
//! | `cargo xtask up` | builds and runs everything on this machine, with one live session to look at |
//! | `cargo xtask test` | all tests against the real components; `--fast` leaves out the browser |
//! | `cargo xtask bench` | how fast and how light it is, each figure beside its baseline |
//! | `cargo xtask fuzz` | bytes of others, guided by coverage, at everything that reads them |
//! | `cargo xtask codegen` | makes what is generated and committed: the page's types, the page of subjects |
//! | `cargo xtask tidy` | the rules of the house that a compiler does not check |
//! | `cargo xtask tools` | fetches the programs that the others need into a cache folder |
//!
//! Laws:
//! 1. Results go to stdout, everything said to people to stderr, so that scripts can read the one and people the other.
//! 2. Whatever is started is ended: no child outlives its command, unless it was asked for.
//! 3. What is missing is fetched, or named with the command that installs it.
//! 4. Cargo is always asked for the whole workspace, so that features never change between two commands (a different
//!    set would rebuild the database).

mod advisories;
mod bench;
mod dashboard;
mod fuzz;
mod project;
mod run;
mod say;
mod test;
mod tidy;
mod tools;
mod up;

use std::process::ExitCode;

use anyhow::bail;

const USAGE: &str = "\
cargo xtask COMMAND

  up      builds and runs everything here, with one live session to look at
            --data DIR            where it keeps its things          (.mosaic)
            --port N              the page and the API; 0 = any      (7420)
            --nats-port N         the bus; 0 = any                   (4222)
            --node-config FILE    merged over the node's configuration
            --profile NAME        up, release or dev                 (up)
            --no-demo             no session to begin with
            --tls                 bus and page with TLS, by an authority that is made for them
            --stop-sessions=false leaves the agents running at the end, for the next start
            --json                one line of JSON on stdout when ready
  test    everything that must hold, against the real components
            --fast                without the browser, Docker and OpenClaw
  bench   how fast and how light it is, with the baselines of the same run
  fuzz    [TARGET…] looks for inputs that break a promise
            --seconds N           how long at each target            (60)
            --whole               with the crates of others instrumented too; builds them all
  codegen makes what is generated and committed
  tidy    the rules of the house that a compiler does not check
  tools   fetches the programs that up and test need
";

fn main() -> ExitCode {
    if let Some(code) = fuzz::compile() {
        return code;
    }
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let arguments: Vec<String> = arguments.collect();
    let done = match command.as_str() {
        "up" => up::run(&arguments),
        "test" => test::run(&arguments),
        "bench" => bench::run(&arguments),
        "fuzz" => fuzz::run(&arguments),
        "codegen" => test::codegen(&arguments),
        "tidy" => tidy::run(&arguments),
        "tools" => tools::run(&arguments),
        "" | "help" | "--help" | "-h" => {
            say::text(USAGE);
            Ok(())
        }
        other => Err(anyhow::anyhow!("no command {other:?}\n\n{USAGE}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<run::Interrupted>() => {
            say::line("ended");
            ExitCode::from(130)
        }
        Err(error) => {
            say::error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// For commands without arguments.
fn no_arguments(arguments: &[String]) -> anyhow::Result<()> {
    match arguments.first() {
        None => Ok(()),
        Some(argument) => bail!("unknown argument {argument:?}\n\n{USAGE}"),
    }
}
