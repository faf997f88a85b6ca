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

/// An agent that runs in a terminal.
const fn terminal(
    name: &'static str,
    command: &'static [&'static str],
    title: &'static str,
    agent_type: &'static str,
) -> Known {
    Known { name, command, provider: "pty", protocol: Protocol::Terminal, title, agent_type }
}

/// All that we look for. Commands as tested with codex-acp 2.6, claude-agent-acp 0.101, opencode 1.18, gemini 0.61.
pub const KNOWN: &[Known] = &[
    // Codex's daemon is shared and in a session of its own: the agent would go on behind the end of its terminal (seen
    // with 0.169.0).
    terminal("codex", &["codex", "--no-daemon"], "Codex", "codex"),
    terminal("claude", &["claude"], "Claude Code", "claude"),
    terminal("opencode", &["opencode"], "OpenCode", "opencode"),
    acp("codex-acp", &["codex-acp"], "Codex (ACP)", "codex"),
    acp("claude-acp", &["claude-agent-acp"], "Claude Code (ACP)", "claude"),
    acp("opencode-acp", &["opencode", "acp"], "opencode (ACP)", "opencode"),
    acp("gemini-acp", &["gemini", "--acp"], "Gemini (ACP)", "gemini"),
];

/// Adds the profiles of those agents out of `known` that are on the PATH of `env`, and whose name is not taken.
pub fn add(profiles: &mut BTreeMap<String, Profile>, known: &[Known], env: &BTreeMap<String, String>) {
    for agent in known.iter().filter(|agent| !profiles.contains_key(agent.name)).collect::<Vec<_>>() {
        let [program, arguments @ ..] = agent.command else { continue };
        // What is started is what was found, and not what another PATH would give.
        let Some(program) = find(program, env).and_then(|path| path.to_str().map(str::to_owned)) else { continue };
        let arguments = arguments.iter().map(|word| (*word).to_owned());
        let profile = Profile {
            provider: agent.provider.into(),
            protocol: agent.protocol,
            cwd: env.get("HOME").map(Into::into),
            title: Some(agent.title.into()),
            agent_type: Some(agent.agent_type.into()),
            ..Profile::new(agent.name, std::iter::once(program).chain(arguments))
        };
        profiles.insert(agent.name.into(), profile);
    }
}

/// The program with this name that a shell would start.
fn find(program: &str, env: &BTreeMap<String, String>) -> Option<PathBuf> {
    // An empty entry means the working folder, which is nobody's choice here.
    let folders = std::env::split_paths(env.get("PATH")?).filter(|folder| folder.is_absolute());
    folders.map(|folder| folder.join(program)).find(|path| is_executable(path))
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

    fn on_path(path: impl std::fmt::Display) -> BTreeMap<String, String> {
        BTreeMap::from([("PATH".to_owned(), path.to_string())])
    }

    #[test]
    fn what_is_on_the_path_is_offered_and_what_is_configured_stays() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        program(first.path(), "codex", 0o644);
        for name in ["codex", "codex-acp", "gemini"] {
            program(second.path(), name, 0o755);
        }
        let own = Profile { title: Some("mine".into()), ..Profile::new("codex-acp", ["my-own"]) };
        let mut profiles = BTreeMap::from([("codex-acp".to_owned(), own.clone())]);
        let path = format!("relative::{}:{}", first.path().display(), second.path().display());
        add(&mut profiles, KNOWN, &on_path(path));
        assert_eq!(profiles.keys().collect::<Vec<_>>(), ["codex", "codex-acp", "gemini-acp"]);
        assert_eq!(profiles["codex-acp"], own);
        let gemini = &profiles["gemini-acp"];
        assert_eq!((gemini.provider.as_str(), gemini.protocol), ("acp", Protocol::Acp));
        let found = |name: &str| second.path().join(name).to_str().unwrap().to_owned();
        assert_eq!(gemini.command, [found("gemini"), "--acp".into()]);
        assert_eq!(profiles["codex"].command, [found("codex"), "--no-daemon".into()]);
    }

    #[test]
    fn every_profile_makes_sense() {
        let names: std::collections::BTreeSet<_> = KNOWN.iter().map(|agent| agent.name).collect();
        assert_eq!(names.len(), KNOWN.len(), "names are there once");
        for agent in KNOWN {
            let folder = tempfile::tempdir().unwrap();
            program(folder.path(), agent.command[0], 0o755);
            let mut profiles = BTreeMap::new();
            add(&mut profiles, std::slice::from_ref(agent), &on_path(folder.path().display()));
            assert_eq!(profiles[agent.name].problems(), []);
            assert!(super::super::PROVIDERS.contains(&agent.provider), "{agent:?}");
        }
    }
}
