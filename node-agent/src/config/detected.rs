//! Profiles of agents that are found on this machine: what the configuration does not name and the PATH has.
//!
//! A further agent is one more entry of [`KNOWN`]. What the configuration names itself is never overwritten.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use providers::{Profile, Protocol};

/// An agent that may be there.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Name of its profile.
    pub name: &'static str,
    /// Program and arguments; the program is looked for on the PATH.
    pub command: &'static [&'static str],
    /// The runtime that starts it.
    pub provider: &'static str,
    /// How messages are taken from it.
    pub protocol: Protocol,
    /// A name for people.
    pub title: &'static str,
    /// What kind of agent it is.
    pub agent_type: &'static str,
}

/// An agent that speaks ACP.
const fn acp(
    name: &'static str,
    command: &'static [&'static str],
    title: &'static str,
    agent_type: &'static str,
) -> Known {
    Known { name, command, provider: "acp", protocol: Protocol::Acp, title, agent_type }
}

/// All that we look for. Commands as tested with codex-acp 2.6, claude-agent-acp 0.101, opencode 1.18, gemini 0.61.
pub const KNOWN: &[Known] = &[
    acp("codex-acp", &["codex-acp"], "Codex (ACP)", "codex"),
    acp("claude-acp", &["claude-agent-acp"], "Claude Code (ACP)", "claude"),
    acp("opencode-acp", &["opencode", "acp"], "opencode (ACP)", "opencode"),
    acp("gemini-acp", &["gemini", "--acp"], "Gemini (ACP)", "gemini"),
];

/// Adds the profiles of those agents out of `known` that are on `path`, and whose name is not taken.
pub fn add(profiles: &mut BTreeMap<String, Profile>, known: &[Known], path: &str) {
    for agent in known.iter().filter(|agent| is_there(agent, path)) {
        profiles.entry(agent.name.to_owned()).or_insert_with(|| Profile {
            provider: agent.provider.into(),
            protocol: agent.protocol,
            title: Some(agent.title.into()),
            agent_type: Some(agent.agent_type.into()),
            ..Profile::new(agent.name, agent.command.iter().copied())
        });
    }
}

fn is_there(agent: &Known, path: &str) -> bool {
    // An empty entry means the current folder, which is nobody's choice here.
    let folders = path.split(':').filter(|folder| !folder.is_empty());
    let program = |folder: &str| agent.command.first().map(|program| PathBuf::from(folder).join(program));
    folders.filter_map(program).any(|program| is_executable(&program))
}

fn is_executable(program: &Path) -> bool {
    std::fs::metadata(program).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(folder: &Path, name: &str, mode: u32) {
        let path = folder.join(name);
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_is_on_the_path_is_offered_and_what_is_configured_stays() {
        let folder = tempfile::tempdir().unwrap();
        for (name, mode) in [("codex-acp", 0o755), ("gemini", 0o755), ("opencode", 0o644)] {
            program(folder.path(), name, mode);
        }
        let own = Profile { title: Some("mine".into()), ..Profile::new("codex-acp", ["my-own"]) };
        let mut profiles = BTreeMap::from([("codex-acp".to_owned(), own.clone())]);
        add(&mut profiles, KNOWN, &format!("/nowhere::{}", folder.path().display()));
        assert_eq!(profiles.keys().collect::<Vec<_>>(), ["codex-acp", "gemini-acp"]);
        assert_eq!(profiles["codex-acp"], own);
        let gemini = &profiles["gemini-acp"];
        assert_eq!((gemini.provider.as_str(), gemini.protocol), ("acp", Protocol::Acp));
        assert_eq!(gemini.command, ["gemini", "--acp"]);
    }

    #[test]
    fn every_profile_makes_sense() {
        for agent in KNOWN {
            let folder = tempfile::tempdir().unwrap();
            program(folder.path(), agent.command[0], 0o755);
            let mut profiles = BTreeMap::new();
            add(&mut profiles, std::slice::from_ref(agent), folder.path().to_str().unwrap());
            assert_eq!(profiles[agent.name].problems(), []);
            assert!(super::super::PROVIDERS.contains(&agent.provider), "{agent:?}");
        }
    }
}
