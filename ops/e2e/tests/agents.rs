//! Real agent CLIs from npm, against a scripted model: a turn with a tool, stepped into, frozen, ended.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{FakeModel, Person, Stack, npm_with, proc, wait_until};

const WITHIN: Duration = Duration::from_secs(90);
const PACKAGES: [&str; 2] = ["@openai/codex@0.169.0", "@anthropic-ai/claude-code@2.1.330"];

/// An agent CLI, set up to run without questions and without a network.
#[derive(Clone, Copy)]
enum Cli {
    Codex,
    Claude,
}

impl Cli {
    fn name(self) -> &'static str {
        match self {
            Cli::Codex => "codex",
            Cli::Claude => "claude",
        }
    }

    /// Its profile; what it wants to find in its home is written there.
    fn profile(self, bin: &Path, home: &Path, model: &str) -> String {
        let work = home.join("work");
        std::fs::create_dir_all(&work).unwrap();
        std::fs::write(work.join("README.md"), "hello\n").unwrap();
        let program = bin.join(self.name());
        let (command, env) = match self {
            Cli::Codex => {
                let config = format!(
                    "model = \"gpt-5.1-codex\"\nmodel_provider = \"fake\"\napproval_policy = \"never\"\n\
                     sandbox_mode = \"danger-full-access\"\n\
                     [model_providers.fake]\nname = \"fake\"\nbase_url = \"{model}/v1\"\nenv_key = \"FAKE_API_KEY\"\n\
                     wire_api = \"responses\"\n[projects.{work:?}]\ntrust_level = \"trusted\"\n"
                );
                std::fs::write(home.join("config.toml"), config).unwrap();
                // Its daemon would outlive the terminal.
                (format!("[{program:?}, \"--no-daemon\"]"), format!("CODEX_HOME = {home:?}, FAKE_API_KEY = \"x\""))
            }
            Cli::Claude => {
                let state = json!({
                    "hasCompletedOnboarding": true, "theme": "dark",
                    "customApiKeyResponses": {"approved": ["sk-fake"], "rejected": []},
                    "projects": {work.to_str().unwrap(): {
                        "hasTrustDialogAccepted": true, "hasCompletedProjectOnboarding": true,
                    }},
                });
                std::fs::write(home.join(".claude.json"), state.to_string()).unwrap();
                (
                    format!("[{program:?}, \"--permission-mode\", \"default\", \"--allowedTools\", \"Bash\"]"),
                    format!(
                        "CLAUDE_CONFIG_DIR = {home:?}, ANTHROPIC_BASE_URL = \"{model}\", ANTHROPIC_API_KEY = \"sk-fake\", \
                         DISABLE_AUTOUPDATER = \"1\", CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC = \"1\""
                    ),
                )
            }
        };
        let name = self.name();
        format!(
            "[[profile]]\nname = \"{name}\"\nagent_type = \"{name}\"\ncwd = {work:?}\ncommand = {command}\n\
             env = {{ {env} }}\n"
        )
    }
}

struct Running {
    _stack: Stack,
    model: FakeModel,
    operator: Person,
    session: String,
    _home: tempfile::TempDir,
}

impl Running {
    async fn start(cli: Cli) -> Self {
        let bin = npm_with("agents", &PACKAGES).unwrap().join("node_modules/.bin");
        let model = FakeModel::start_with(&["--delay", "5"]).unwrap();
        let home = tempfile::tempdir().unwrap();
        let stack = Stack::start(&cli.profile(&bin, home.path(), &model.url()), &[], &[]).unwrap();
        let operator = stack.person("operator").await.unwrap();
        let session = operator.spawn(stack.said("/node").unwrap(), cli.name()).await.unwrap();
        let running = Self { _stack: stack, model, operator, session, _home: home };
        running.until_status("waiting").await;
        running
    }

    async fn until_status(&self, status: &str) {
        wait_until(&format!("it is {status}"), WITHIN, async || {
            let session = self.operator.session(&self.session).await.map_err(|e| e.to_string())?;
            if session["status"] == status { Ok(()) } else { Err(session.to_string()) }
        })
        .await
        .unwrap();
    }

    async fn say(&self, content: &str) -> String {
        let path = format!("/api/mission-control/sessions/{}/inject", self.session);
        let (status, answer) = self.operator.post(&path, json!({"content": content})).await.unwrap();
        assert_eq!(status, 202, "{answer}");
        answer["messageId"].as_str().unwrap().to_owned()
    }

    async fn until_message(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        wait_until(what, WITHIN, async || {
            let messages = self.operator.messages(&self.session, 0).await.map_err(|e| e.to_string())?;
            let found = messages.iter().find(|m| is_it(m)).cloned();
            found.ok_or_else(|| messages.iter().map(|m| format!("\n  {m}")).collect::<String>())
        })
        .await
        .unwrap()
    }

    /// Every process of the session, however it hides: they all carry its id in their environment.
    fn tree(&self) -> Vec<proc::Stat> {
        let mark = format!("MOSAIC_SESSION_ID={}", self.session);
        proc::with_env(&mark).into_iter().filter(|p| p.state != 'Z').collect()
    }
}

async fn a_turn_is_stepped_into(cli: Cli) {
    let it = Running::start(cli).await;
    it.say("SAY: looking ;; RUN: sleep 6 && cat README.md ;; SAY: that was it").await;
    it.until_message("the tool is called", |m| m["kind"] == "toolCall").await;
    it.until_status("running").await;
    // In the middle of the turn, while the tool runs.
    let sent = it.say("SAY: operator heard").await;
    let message =
        it.until_message("it was taken", |m| m["messageId"] == sent && m["metadata"]["delivery"] == "taken").await;
    assert_eq!((&message["role"], &message["metadata"]["operator"]["name"]), (&json!("operator"), &json!("Operator")));
    it.until_message("the tool's result", |m| {
        m["kind"] == "toolResult" && m["content"].as_str().is_some_and(|c| c.contains("hello"))
    })
    .await;
    it.until_message("the answer to it", |m| m["role"] == "agent" && m["content"] == "operator heard").await;
    let asked = serde_json::to_string(&it.model.requests().unwrap()).unwrap();
    assert!(asked.contains("SAY: operator heard"), "it reached the model: {asked}");
    // What was typed for the operator is not told again as somebody else's words.
    let messages = it.operator.messages(&it.session, 0).await.unwrap();
    let said = messages.iter().filter(|m| m["content"].as_str().is_some_and(|c| c.contains("SAY: operator heard")));
    assert_eq!(said.count(), 1, "{messages:?}");
    let (status, answer) = it.operator.act(&it.session, "terminate").await.unwrap();
    assert_eq!(status, 200, "{answer}");
    it.until_status("killed").await;
    assert_eq!(it.tree(), [], "nothing is left");
}

/// Keeps a processor busy, and hides from simple kills in three ways.
const BUSY: &str = "SAY: busy ;; RUN: setsid nohup sleep 3001 & (setsid sh -c '(sleep 3002 &)' &) ; \
                    while true; do true; done ;; SAY: never";

async fn a_frozen_tree_stands_still_and_a_killed_one_is_gone(cli: Cli) {
    let it = Running::start(cli).await;
    it.say(BUSY).await;
    wait_until("the tool runs with all it hides", WITHIN, async || {
        let names: Vec<_> = it.tree().into_iter().map(|p| p.comm).collect();
        if names.iter().filter(|n| *n == "sleep").count() == 2 { Ok(()) } else { Err(names) }
    })
    .await
    .unwrap();
    let spent = proc::cpu(&it.tree());
    wait_until("it works", WITHIN, async || proc::cpu(&it.tree()) > spent + Duration::from_millis(300)).await.unwrap();

    let (status, answer) = it.operator.act(&it.session, "pause").await.unwrap();
    assert_eq!((status, &answer["session"]["status"]), (200, &json!("paused")), "{answer}");
    let (tree, frozen) = (it.tree(), proc::cpu(&it.tree()));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(proc::cpu(&it.tree()), frozen, "no time was spent in ten seconds");
    assert_eq!(it.tree().len(), tree.len());

    let (status, answer) = it.operator.act(&it.session, "resume").await.unwrap();
    assert_eq!(status, 200, "{answer}");
    assert_ne!(answer["session"]["status"], "paused", "{answer}");
    wait_until("it goes on", WITHIN, async || proc::cpu(&it.tree()) > frozen + Duration::from_millis(300))
        .await
        .unwrap();

    let (status, answer) = it.operator.act(&it.session, "kill").await.unwrap();
    assert_eq!((status, &answer["session"]["status"]), (200, &json!("killed")), "{answer}");
    assert_eq!(answer["report"]["survivors"], json!([]), "{answer}");
    let ended = answer["report"]["ended"].as_array().unwrap();
    assert!(ended.iter().filter(|p| p["name"] == "sleep").count() >= 2, "{answer}");
    assert_eq!(it.tree(), [], "nothing is left");
}

#[tokio::test]
async fn cli_codex_is_stepped_into() {
    a_turn_is_stepped_into(Cli::Codex).await;
}

#[tokio::test]
async fn cli_claude_is_stepped_into() {
    a_turn_is_stepped_into(Cli::Claude).await;
}

#[tokio::test]
async fn cli_codex_is_frozen_and_killed() {
    a_frozen_tree_stands_still_and_a_killed_one_is_gone(Cli::Codex).await;
}

#[tokio::test]
async fn cli_claude_is_frozen_and_killed() {
    a_frozen_tree_stands_still_and_a_killed_one_is_gone(Cli::Claude).await;
}
