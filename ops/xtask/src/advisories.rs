//! What is known against the packages that we use, as far as somebody answers: a registry or a network that says
//! nothing is told as such, and stops nobody. What is known and grave does.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::Signal;
use serde_json::Value;

use crate::dashboard::Dashboard;
use crate::{project, run, say};

/// How long a registry may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// What `npm audit` says.
#[derive(Debug, PartialEq)]
enum Verdict {
    /// Nothing, and why.
    NotAnswered(String),
    /// What is grave, a line each, and how much is not.
    Answered { grave: Vec<String>, mild: u64 },
}

/// The page's packages, by npm's registry.
pub(crate) fn page(page: &Dashboard) -> anyhow::Result<()> {
    let mut npm = page.npm()?;
    npm.args(["audit", "--json", "--fetch-retries=0"]);
    let Some((_, said)) = answer(&mut npm)? else {
        say::warn(&format!("not answered: npm's registry says nothing within {} s", ANSWER_WITHIN.as_secs()));
        return Ok(());
    };
    match judge(&said) {
        Verdict::NotAnswered(why) => say::warn(&format!("not answered: {why}")),
        Verdict::Answered { grave, mild } if grave.is_empty() => {
            if mild > 0 {
                say::warn(&format!("{mild} packages of the page have something mild against them: npm audit"));
            }
        }
        Verdict::Answered { grave, .. } => bail!("known against packages of the page:\n  {}", grave.join("\n  ")),
    }
    Ok(())
}

fn judge(said: &str) -> Verdict {
    let Ok(said) = serde_json::from_str::<Value>(said) else {
        return Verdict::NotAnswered("npm audit says nothing that can be read".into());
    };
    let Some(packages) = said.get("vulnerabilities").and_then(Value::as_object) else {
        let words = ["/message", "/error/summary"].iter().find_map(|at| said.pointer(at)?.as_str());
        return Verdict::NotAnswered(
            words.filter(|words| !words.is_empty()).unwrap_or("npm audit does not say why").into(),
        );
    };
    let (mut grave, mut mild) = (vec![], 0);
    for (name, package) in packages {
        match package.get("severity").and_then(Value::as_str).unwrap_or_default() {
            severity @ ("high" | "critical") => {
                let via = package.get("via").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
                let title = via.iter().find_map(|via| via.get("title")?.as_str()).unwrap_or("by what it depends on");
                grave.push(format!("{name} ({severity}): {title}"));
            }
            _ => mild += 1,
        }
    }
    Verdict::Answered { grave, mild }
}

/// Our crates, by the database of RustSec.
pub(crate) fn crates(deny: &Path) -> anyhow::Result<()> {
    let deny = || {
        let mut command = Command::new(deny);
        command.current_dir(project::root()).arg("--locked");
        command
    };
    let fetched = answer(deny().args(["fetch", "db"]))?.is_some_and(|(is_good, _)| is_good);
    if !fetched {
        say::warn("not answered: the database of RustSec cannot be fetched (github.com/rustsec/advisory-db)");
        return Ok(());
    }
    run::run(deny().args(["check", "--hide-inclusion-graph", "--disable-fetch", "advisories"]))
}

/// Runs a program to its end, and gives whether it went well and what it wrote to stdout; none if it took too long.
fn answer(command: &mut Command) -> anyhow::Result<Option<(bool, String)>> {
    run::listen()?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .with_context(|| format!("start {}", command.get_program().to_string_lossy()))?;
    let mut stdout = child.stdout.take().context("its stdout")?;
    let reader = std::thread::Builder::new().name("answer".into()).spawn(move || {
        let mut said = String::new();
        // What cannot be read is no answer.
        let _ = stdout.read_to_string(&mut said);
        said
    })?;
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if begun.elapsed() > ANSWER_WITHIN || run::interrupts() > 0 {
            run::signal_group(child.id(), Signal::KILL);
            child.wait()?;
            break None;
        }
        std::thread::sleep(run::LOOK_EVERY);
    };
    run::check()?;
    let said = reader.join().unwrap_or_default();
    Ok(status.map(|status| (status.success(), said)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_grave_is_named_and_silence_is_no_answer() {
        let refused = r#"{"message":"405 Method Not Allowed - POST https://registry.npmjs.org/x","statusCode":405,"error":{"summary":""}}"#;
        assert_eq!(
            judge(refused),
            Verdict::NotAnswered("405 Method Not Allowed - POST https://registry.npmjs.org/x".into())
        );
        assert!(matches!(judge(""), Verdict::NotAnswered(_)));
        assert!(matches!(judge("{}"), Verdict::NotAnswered(_)));
        let clean = r#"{"auditReportVersion":2,"vulnerabilities":{},"metadata":{}}"#;
        assert_eq!(judge(clean), Verdict::Answered { grave: vec![], mild: 0 });
        let found = r#"{"vulnerabilities":{"a":{"severity":"critical","via":[{"title":"takes over"}]},
            "b":{"severity":"high","via":["a"]},"c":{"severity":"moderate","via":[]}}}"#;
        let grave = vec!["a (critical): takes over".to_owned(), "b (high): by what it depends on".to_owned()];
        assert_eq!(judge(found), Verdict::Answered { grave, mild: 1 });
    }

    #[test]
    fn what_a_program_says_is_its_answer() {
        let said = answer(Command::new("sh").args(["-c", "echo yes; exit 3"])).unwrap();
        assert_eq!(said, Some((false, "yes\n".to_owned())));
    }
}
