//! Real agent CLIs from npm, against a scripted model: a turn with a tool, stepped into, frozen, ended.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{FakeModel, Person, Stack, agent_cli, claude_home, codex_home, proc, wait_until};

const WITHIN: Duration = Duration::from_secs(90);

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

    /// Its profile, with a home of its own.
    fn profile(self, home: &Path, model: &str) -> String {
        let name = self.name();
        let program = agent_cli(name).unwrap();
        let (command, set_up) = match self {
            // Its daemon would outlive the terminal.
            Cli::Codex => {
                (format!("[{program:?}, \"--no-daemon\"]"), codex_home(home, model, "never", "danger-full-access"))
            }
            Cli::Claude => (
                format!("[{program:?}, \"--permission-mode\", \"default\", \"--allowedTools\", \"Bash\"]"),
                claude_home(home, model, None),
            ),
        };
        let set_up = set_up.unwrap();
        format!(
            "[[profile]]\nname = \"{name}\"\nagent_type = \"{name}\"\ncwd = {:?}\ncommand = {command}\nenv = {}\n",
            set_up.work,
            set_up.env_toml()
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
        let model = FakeModel::start_with(&["--delay", "5"]).unwrap();
        let home = tempfile::tempdir().unwrap();
        let stack = Stack::start(&cli.profile(home.path(), &model.url()), &[], &[]).unwrap();
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
