//! Profiles that need no configuration: agent CLIs that are on the PATH. A profile of the same name in the
//! configuration takes the place of one of these; `detect = false` in `[node]` takes all of them away.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use providers::{Profile, Protocol};

/// An agent CLI that is known.
struct Known {
    /// Name of the profile.
    name: &'static str,
    /// Program that is looked for.
    program: &'static str,
    arguments: &'static [&'static str],
    provider: &'static str,
    protocol: Protocol,
    agent_type: &'static str,
    title: &'static str,
}

/// All of them. A further one is a further entry.
const KNOWN: &[Known] = &[
    Known {
        name: "codex",
        program: "codex",
        // Its daemon is shared and in a session of its own: the agent would go on behind the end of its terminal (seen
        // with 0.169.0).
        arguments: &["--no-daemon"],
        provider: "pty",
        protocol: Protocol::Terminal,
        agent_type: "codex",
        title: "Codex",
    },
    Known {
        name: "claude",
        program: "claude",
        arguments: &[],
        provider: "pty",
        protocol: Protocol::Terminal,
        agent_type: "claude",
        title: "Claude Code",
    },
    Known {
        name: "opencode",
        program: "opencode",
        arguments: &[],
        provider: "pty",
        protocol: Protocol::Terminal,
        agent_type: "opencode",
        title: "OpenCode",
    },
];

/// Adds a profile for each agent CLI that is on the PATH of `env`, unless there is one of that name.
pub(super) fn add(profiles: &mut BTreeMap<String, Profile>, env: &BTreeMap<String, String>) {
    for known in KNOWN.iter().filter(|known| super::PROVIDERS.contains(&known.provider)) {
        if profiles.contains_key(known.name) {
            continue;
        }
        // What is started is what was found, and not what another PATH would give.
        let Some(program) = find(known.program, env).and_then(|path| path.to_str().map(str::to_owned)) else {
            continue;
        };
        let arguments = known.arguments.iter().map(|word| (*word).to_owned());
        let profile = Profile {
            provider: known.provider.into(),
            protocol: known.protocol,
            cwd: env.get("HOME").map(Into::into),
            title: Some(known.title.into()),
            agent_type: Some(known.agent_type.into()),
            ..Profile::new(known.name, [program].into_iter().chain(arguments))
        };
        profiles.insert(known.name.into(), profile);
    }
}

/// The program with this name that a shell would start.
fn find(program: &str, env: &BTreeMap<String, String>) -> Option<PathBuf> {
    // An empty entry means the working folder, which is nobody's choice here.
    let folders = std::env::split_paths(env.get("PATH")?).filter(|folder| folder.is_absolute());
    folders
        .map(|folder| folder.join(program))
        .find(|path| path.metadata().is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files, and whether each can be run.
    fn folder(files: &[(&str, bool)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, runs) in files {
            let path = dir.path().join(name);
            std::fs::write(&path, "#!/bin/sh\n").unwrap();
            let mode = if *runs { 0o755 } else { 0o644 };
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        dir
    }

    fn detected(path: String, mut profiles: BTreeMap<String, Profile>) -> BTreeMap<String, Profile> {
        add(&mut profiles, &[("PATH".to_owned(), path)].into());
        profiles
    }

    #[test]
    fn what_is_on_the_path_can_be_started() {
        let (first, second) = (folder(&[("codex", false), ("claude", true)]), folder(&[("codex", true)]));
        let path = format!("relative::{}:{}", first.path().display(), second.path().display());
        let profiles = detected(path, BTreeMap::new());
        assert_eq!(profiles.keys().collect::<Vec<_>>(), ["claude", "codex"]);
        let codex = &profiles["codex"];
        let program = second.path().join("codex").to_str().unwrap().to_owned();
        assert_eq!(codex.command, [program, "--no-daemon".to_owned()]);
        assert!(profiles.values().all(|profile| profile.problems().is_empty()));
    }

    #[test]
    fn the_configuration_comes_first() {
        let dir = folder(&[("claude", true)]);
        let own = Profile::new("claude", ["/opt/my/claude"]);
        let profiles = detected(dir.path().display().to_string(), [("claude".to_owned(), own.clone())].into());
        assert_eq!(profiles["claude"], own);
        assert!(detected(String::new(), BTreeMap::new()).is_empty());
    }

    #[test]
    fn names_are_there_once() {
        let names: std::collections::BTreeSet<_> = KNOWN.iter().map(|known| known.name).collect();
        assert_eq!(names.len(), KNOWN.len());
    }
}
