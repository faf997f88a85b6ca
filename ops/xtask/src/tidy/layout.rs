//! What may lie at the top of the repository.

use std::path::Path;

use super::Problem;

/// The eight names. A newcomer sees them first, so there are no others.
const NAMES: [&str; 8] =
    ["Cargo.toml", "README.md", "bus-schema", "dashboard", "hub", "node-agent", "ops", "providers"];
/// What tools insist on finding there.
const TOOLS: [&str; 6] = ["Cargo.lock", "LICENSE", "clippy.toml", "deny.toml", "rust-toolchain.toml", "rustfmt.toml"];
/// What is built there, and not part of the repository.
const BUILT: [&str; 2] = ["target", "node_modules"];

pub(super) fn check(root: &Path) -> anyhow::Result<Vec<Problem>> {
    let mut names = vec![];
    for entry in std::fs::read_dir(root)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    Ok(judge(names))
}

fn judge(mut names: Vec<String>) -> Vec<Problem> {
    names.sort();
    let known =
        |name: &str| name.starts_with('.') || NAMES.contains(&name) || TOOLS.contains(&name) || BUILT.contains(&name);
    let strange = names.iter().filter(|name| !known(name));
    let strange = strange.map(|name| {
        Problem::new(name, "does not belong at the top level; the eight names there are in ops/docs/ARCHITECTURE.md")
    });
    let missing = NAMES.iter().filter(|name| !names.iter().any(|have| have == *name));
    let missing = missing.map(|name| Problem::new(*name, "is missing at the top level"));
    strange.chain(missing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eight_names_and_nothing_else() {
        let names = |extra: &[&str]| NAMES.iter().chain(extra).map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(judge(names(&["Cargo.lock", ".gitignore", "target"])), []);
        let problems = judge(names(&["scripts"]));
        assert_eq!(problems.len(), 1);
        assert_eq!(problems.first().map(|p| p.place.as_str()), Some("scripts"));
        let without = names(&[]).into_iter().filter(|name| name != "hub").collect();
        assert_eq!(judge(without).first().map(|p| p.place.as_str()), Some("hub"));
    }
}
