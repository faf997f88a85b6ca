//! The agent CLIs of others, from npm, set up to run without questions and without a network: their programs, and what
//! they want to find in a home of their own and in their environment. The model is a [`FakeModel`](crate::FakeModel).

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::json;

use crate::packages::npm_with;

/// Codex and Claude Code.
const CLIS: [&str; 2] = ["@openai/codex@0.169.0", "@anthropic-ai/claude-code@2.1.330"];
/// What makes them speak ACP.
const ADAPTERS: [&str; 2] = ["@agentclientprotocol/codex-acp@2.6.0", "@agentclientprotocol/claude-agent-acp@0.101.0"];

/// OpenCode, which is 350 MB: in a folder of its own, so that who needs the others does not fetch it.
const OPENCODE: [&str; 1] = ["opencode-ai@1.18.33"];

/// A CLI that is set up.
#[derive(Clone, Debug)]
pub struct AgentHome {
    /// Where it works: a folder that it trusts, with a `README.md` that says `hello`.
    pub work: PathBuf,
    /// Its environment.
    pub env: Vec<(String, String)>,
}

impl AgentHome {
    /// The environment as a table of TOML.
    pub fn env_toml(&self) -> String {
        let pairs: Vec<_> = self.env.iter().map(|(key, value)| format!("{key} = {value:?}")).collect();
        format!("{{ {} }}", pairs.join(", "))
    }
}

/// The program of a CLI (`codex`, `claude`, `opencode`) or of an adapter (`codex-acp`, `claude-agent-acp`), fetched on
/// first use.
///
/// # Errors
/// npm is missing, or the packages cannot be had.
pub fn agent_cli(program: &str) -> anyhow::Result<PathBuf> {
    let (name, packages): (_, &[&str]) = match program {
        "opencode" => ("opencode", &OPENCODE),
        _ if program.ends_with("-acp") => ("acp", &ADAPTERS),
        _ => ("agents", &CLIS),
    };
    Ok(npm_with(name, packages)?.join("node_modules/.bin").join(program))
}

/// A home for Codex, with its `approval_policy` and `sandbox_mode`, and the URL of the model.
///
/// # Errors
/// Files cannot be written.
pub fn codex_home(home: &Path, model: &str, policy: &str, sandbox: &str) -> anyhow::Result<AgentHome> {
    let work = work_in(home)?;
    let config = format!(
        "model = \"gpt-5.1-codex\"\nmodel_provider = \"fake\"\napproval_policy = {policy:?}\n\
         sandbox_mode = {sandbox:?}\n[model_providers.fake]\nname = \"fake\"\nbase_url = \"{model}/v1\"\n\
         env_key = \"FAKE_API_KEY\"\nwire_api = \"responses\"\n[projects.{work:?}]\ntrust_level = \"trusted\"\n"
    );
    std::fs::write(home.join("config.toml"), config)?;
    let env = [("CODEX_HOME", text(home)?), ("FAKE_API_KEY", "x".into())];
    Ok(AgentHome { work, env: owned(home, env)? })
}

/// A home for Claude Code, with the tools that it may use without asking (such as `Bash`), and the URL of the model.
/// With `None` it has no settings of its own: at a terminal it asks whether a mode that they name is to be another one
/// (seen with 2.1.330); without them its ACP adapter asks for no leave.
///
/// # Errors
/// Files cannot be written.
pub fn claude_home(home: &Path, model: &str, allowed: Option<&[&str]>) -> anyhow::Result<AgentHome> {
    let work = work_in(home)?;
    if let Some(allowed) = allowed {
        let settings = json!({"permissions": {"defaultMode": "default", "allow": allowed}});
        std::fs::write(home.join("settings.json"), settings.to_string())?;
    }
    let trusted = json!({"hasTrustDialogAccepted": true, "hasCompletedProjectOnboarding": true});
    let state = json!({
        "hasCompletedOnboarding": true, "theme": "dark",
        "customApiKeyResponses": {"approved": ["sk-fake"], "rejected": []},
        "projects": {text(&work)?: trusted},
    });
    std::fs::write(home.join(".claude.json"), state.to_string())?;
    let env = [
        ("CLAUDE_CONFIG_DIR", text(home)?),
        ("ANTHROPIC_BASE_URL", model.into()),
        ("ANTHROPIC_API_KEY", "sk-fake".into()),
        ("DISABLE_AUTOUPDATER", "1".into()),
        ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1".into()),
    ];
    Ok(AgentHome { work, env: owned(home, env)? })
}

/// A home for OpenCode, with what it does about its shell tool (`allow`, `ask`), and the URL of the model.
///
/// # Errors
/// Files cannot be written.
pub fn opencode_home(home: &Path, model: &str, shell: &str) -> anyhow::Result<AgentHome> {
    let work = work_in(home)?;
    let provider = json!({
        "npm": "@ai-sdk/openai-compatible", "name": "Fake", "models": {"fake": {"name": "fake"}},
        "options": {"baseURL": format!("{model}/v1"), "apiKey": "x"},
    });
    let config = json!({
        "provider": {"fake": provider}, "enabled_providers": ["fake"], "model": "fake/fake", "small_model": "fake/fake",
        "autoupdate": false, "share": "disabled", "permission": {"bash": shell},
    });
    let file = home.join("opencode.json");
    std::fs::write(&file, config.to_string())?;
    let env = [
        ("OPENCODE_CONFIG", text(&file)?),
        ("XDG_CONFIG_HOME", text(&home.join("config"))?),
        ("XDG_DATA_HOME", text(&home.join("data"))?),
        ("XDG_STATE_HOME", text(&home.join("state"))?),
        ("XDG_CACHE_HOME", text(&home.join("cache"))?),
        ("OPENCODE_DISABLE_AUTOUPDATE", "1".into()),
        ("OPENCODE_DISABLE_MODELS_FETCH", "1".into()),
    ];
    Ok(AgentHome { work, env: owned(home, env)? })
}

fn work_in(home: &Path) -> anyhow::Result<PathBuf> {
    let work = home.join("work");
    std::fs::create_dir_all(&work)?;
    std::fs::write(work.join("README.md"), "hello\n")?;
    Ok(work)
}

fn text(path: &Path) -> anyhow::Result<String> {
    Ok(path.to_str().context("the home's path is not UTF-8")?.to_owned())
}

/// With `HOME`, too: these CLIs run their commands in a login shell, or in what one left behind, and the profile of
/// whoever runs the tests has no part in a test. (A shell killed in the middle of such a profile has left a lock behind
/// for which every later one waited a minute.)
fn owned<const N: usize>(home: &Path, env: [(&str, String); N]) -> anyhow::Result<Vec<(String, String)>> {
    let mut env: Vec<_> = env.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    env.push(("HOME".to_owned(), text(home)?));
    Ok(env)
}
