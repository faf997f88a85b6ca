//! `cargo xtask tidy`: the rules of the house that a compiler does not check, each told by the sentence to read.
//!
//! | rule | where it is checked |
//! |---|---|
//! | the top level has its eight names and nothing else | [`layout`] |
//! | who may import whom: the table of `ops/docs/ARCHITECTURE.md` is the truth | [`manifests`] |
//! | versions, features and lints are set once, in the root manifest | [`manifests`] |
//! | one crate knows the database; the contract does no I/O; libraries have typed errors | [`manifests`] |
//! | each module says what it is for; nothing unfinished, nothing ignored | [`sources`] |
//! | subjects are formatted by `bus-schema` alone; `providers` uses its domain words only | [`sources`] |

mod layout;
mod manifests;
mod sources;

use std::path::{Path, PathBuf};

use crate::{project, say};

/// Something that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Where: a path within the repository, with a line if there is one.
    place: String,
    /// What is wrong and what to do.
    sentence: String,
    /// True if it is only worth a thought.
    mild: bool,
}

impl Problem {
    fn new(place: impl Into<String>, sentence: impl Into<String>) -> Self {
        Self { place: place.into(), sentence: sentence.into(), mild: false }
    }

    fn mild(place: impl Into<String>, sentence: impl Into<String>) -> Self {
        Self { mild: true, ..Self::new(place, sentence) }
    }
}

/// `cargo xtask tidy`
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    crate::no_arguments(arguments)?;
    check()?;
    say::good("tidy");
    Ok(())
}

/// Tells every problem; fails if one of them is not mild.
pub(crate) fn check() -> anyhow::Result<()> {
    let root = project::root();
    let mut problems = layout::check(&root)?;
    problems.extend(manifests::check(&root)?);
    problems.extend(sources::check(&root)?);
    let broken = problems.iter().filter(|problem| !problem.mild).count();
    for problem in &problems {
        let text = format!("{}: {}", problem.place, problem.sentence);
        if problem.mild { say::warn(&text) } else { say::error(&text) }
    }
    anyhow::ensure!(broken == 0, "{broken} rules broken");
    Ok(())
}

/// `path` as it is written in the repository.
fn within(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned()
}

/// All files below `dir` that `wanted` says yes to, in order; what is fetched or built is left out.
fn files(dir: &Path, wanted: &dyn Fn(&Path) -> bool) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = vec![];
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_symlink() || name.starts_with('.') || ["target", "node_modules", "dist"].contains(&&*name) {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else if wanted(&path) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
