//! Who may depend on whom, and where versions are set.
//!
//! The table "Map" in `ops/docs/ARCHITECTURE.md` is the truth; this reads it. So it cannot become false.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use serde_json::Value;

use super::{Problem, within};
use crate::run;

const PAGE: &str = "ops/docs/ARCHITECTURE.md";
/// Crates of others that only some of ours may use: (crate, ours, why).
const GUARDED: &[(&str, &[&str], &str)] = &[
    ("surrealdb", &["hub-store"], "one crate knows the database, or every build pays for it"),
    ("surrealdb-engine-local", &["hub-store"], "one crate knows the database, or every build pays for it"),
    ("async-nats", &["hub", "node-agent", "mosaic-cli", "testkit"], "runtimes and the store know no bus"),
    ("axum", &["hub"], "only the hub serves HTTP"),
    ("portable-pty", &["providers"], "only the providers know how agents run"),
    (
        "tokio",
        &["hub", "hub-store", "node-agent", "providers", "mosaic-cli", "testkit", "e2e"],
        "the contract, the identity and the project's own commands are synchronous",
    ),
];
/// Libraries whose errors others decide on: typed ones.
const TYPED_ERRORS: [&str; 4] = ["bus-schema", "providers", "hub-store", "hub-identity"];
/// Used by tests only, whatever a table says.
const TEST_ONLY: &str = "testkit";

/// One of our crates as cargo has it.
struct Package {
    name: String,
    folder: String,
    manifest: String,
    /// (crate, true if only for tests)
    dependencies: Vec<(String, bool)>,
}

pub(super) fn check(root: &Path) -> anyhow::Result<Vec<Problem>> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root).args(["metadata", "--no-deps", "--format-version", "1", "--offline"]);
    let metadata: Value = serde_json::from_str(&run::output(&mut cargo)?).context("read cargo metadata")?;
    let packages = packages(root, &metadata);
    let page = std::fs::read_to_string(root.join(PAGE)).with_context(|| format!("read {PAGE}"))?;
    let mut problems = judge(&packages, &table(&page));
    for package in &packages {
        let text = std::fs::read_to_string(root.join(&package.manifest))?;
        problems.extend(judge_manifest(&package.manifest, &text));
    }
    Ok(problems)
}

fn packages(root: &Path, metadata: &Value) -> Vec<Package> {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let list = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let package = |package: &Value| {
        let manifest = text(package, "manifest_path");
        let manifest = Path::new(&manifest);
        let dependencies = list(package, "dependencies");
        Package {
            name: text(package, "name"),
            folder: within(root, manifest.parent().unwrap_or(root)),
            manifest: within(root, manifest),
            dependencies: dependencies.iter().map(|d| (text(d, "name"), text(d, "kind") == "dev")).collect(),
        }
    };
    list(metadata, "packages").iter().map(package).collect()
}

/// Folder → names it may import, from the rows `| `folder` | … | `name`, `name` (…) |`.
fn table(page: &str) -> BTreeMap<String, BTreeSet<String>> {
    let quoted = |cell: &str| {
        let without_remark = cell.split('(').next().unwrap_or_default().to_owned();
        without_remark.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let rows = page.lines().skip_while(|line| *line != "## Map").skip(1).take_while(|line| !line.starts_with("## "));
    rows.filter_map(|row| {
        let cells: Vec<_> = row.strip_prefix('|')?.split('|').collect();
        let [folder, _, may, ..] = cells.as_slice() else { return None };
        Some((quoted(folder).into_iter().next()?, quoted(may)))
    })
    .collect()
}

fn judge(packages: &[Package], table: &BTreeMap<String, BTreeSet<String>>) -> Vec<Problem> {
    let ours: BTreeSet<_> = packages.iter().map(|package| package.name.as_str()).collect();
    let mut problems = vec![];
    for package in packages {
        let place = &package.manifest;
        let Some(may) = table.get(&package.folder) else {
            let sentence = format!("the crate {} is not in the table \"Map\" of {PAGE}: add its row", package.name);
            problems.push(Problem::new(place, sentence));
            continue;
        };
        for (name, for_tests) in &package.dependencies {
            if ours.contains(name.as_str()) && !for_tests && !may.contains(name) {
                let sentence = format!("{} may not import {name}: see the table \"Map\" in {PAGE}", package.name);
                problems.push(Problem::new(place, sentence));
            }
            if name == TEST_ONLY && !for_tests && !may.contains(TEST_ONLY) {
                problems.push(Problem::new(place, "testkit is for [dev-dependencies] only"));
            }
            if let Some((_, allowed, why)) = GUARDED.iter().find(|(guarded, ..)| guarded == name)
                && !for_tests
                && !allowed.contains(&package.name.as_str())
            {
                let allowed = allowed.join(", ");
                problems.push(Problem::new(place, format!("{name} is for {allowed} only: {why}")));
            }
            if name == "anyhow" && !for_tests && TYPED_ERRORS.contains(&package.name.as_str()) {
                problems.push(Problem::new(place, "a library that others decide on has typed errors, not anyhow"));
            }
        }
    }
    problems
}

fn judge_manifest(place: &str, text: &str) -> Vec<Problem> {
    let mut problems = vec![];
    let mut section = "";
    let mut lints = false;
    for (n, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.starts_with('[') {
            section = line;
        } else if section == "[lints]" && line == "workspace = true" {
            lints = true;
        } else if section.ends_with("dependencies]") && line.contains('=') && !line.contains("workspace = true") {
            let sentence = "versions and features are set once, in the root Cargo.toml: write { workspace = true }";
            problems.push(Problem::new(format!("{place}:{}", n + 1), sentence));
        }
    }
    if !lints {
        problems.push(Problem::new(place, "has no [lints] workspace = true"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
## Map
| folder | what it is | may import of ours |
|---|---|---|
| `bus-schema` | the contract | nothing |
| `providers` | runtimes | `bus-schema` (its domain words, not `envelope`) |
| `hub` | the hub | `bus-schema`, `hub-store` |
| `ops/testkit` | tests | `bus-schema` |

## Next
| `hub` | not this one | `providers` |
";

    fn package(name: &str, folder: &str, dependencies: &[(&str, bool)]) -> Package {
        let dependencies = dependencies.iter().map(|(name, test)| ((*name).to_owned(), *test)).collect();
        Package { name: name.into(), folder: folder.into(), manifest: format!("{folder}/Cargo.toml"), dependencies }
    }

    fn sentences(packages: &[Package]) -> Vec<String> {
        judge(packages, &table(PAGE)).into_iter().map(|p| p.sentence).collect()
    }

    #[test]
    fn the_table_is_read_from_the_page() {
        let table = table(PAGE);
        assert_eq!(table.len(), 4);
        let row = |folder: &str| table.get(folder).unwrap().iter().map(String::as_str).collect::<Vec<_>>();
        assert!(row("bus-schema").is_empty());
        assert_eq!(row("providers"), ["bus-schema"]);
        assert_eq!(row("hub"), ["bus-schema", "hub-store"]);
    }

    #[test]
    fn an_import_that_is_not_in_the_table_is_named() {
        let packages = [
            package("bus-schema", "bus-schema", &[]),
            package("providers", "providers", &[("bus-schema", false), ("testkit", true)]),
            package("hub", "hub", &[("providers", false), ("testkit", false)]),
            package("testkit", "ops/testkit", &[]),
            package("new", "new", &[]),
        ];
        let sentences = sentences(&packages).join("\n");
        for part in ["hub may not import providers", "testkit is for [dev-dep", "the crate new is not in the table"] {
            assert!(sentences.contains(part), "{part} in {sentences}");
        }
        assert!(!sentences.contains("providers may not"), "{sentences}");
    }

    #[test]
    fn guarded_crates_are_for_their_own() {
        let packages = [package("hub", "hub", &[("surrealdb", false), ("tokio", false)])];
        assert!(sentences(&packages).join("").contains("surrealdb is for hub-store only"));
        let packages = [package("bus-schema", "bus-schema", &[("tokio", false), ("anyhow", false), ("axum", true)])];
        let sentences = sentences(&packages);
        assert_eq!(sentences.len(), 2, "{sentences:?}");
    }

    #[test]
    fn versions_and_lints_come_from_the_root() {
        let good = "[package]\nversion = \"1\"\n[lints]\nworkspace = true\n[dependencies]\na = { workspace = true }\n";
        assert_eq!(judge_manifest("x", good), []);
        assert_eq!(judge_manifest("x", "[dependencies]\na = \"1\"\n").len(), 2);
        assert_eq!(judge_manifest("x", &good.replace("{ workspace = true }", "{ version = \"1\" }")).len(), 1);
    }
}
