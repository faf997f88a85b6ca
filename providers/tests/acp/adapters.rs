//! The adapters of Codex and Claude Code from npm, against a scripted model, without a network.

use std::path::Path;
use std::time::Duration;

use bus_schema::{AttentionKind, Delivery, InjectMode, OptionKind, Role, Status, Turn};
use providers::{AgentProvider, News, Position, Profile};
use serde_json::json;
use testkit::{FakeModel, agent_cli, claude_home, codex_home, proc, wait_until};

use crate::harness::{Session, Stage, ada, signal};
use crate::stage::{acp, acp_stage, answer, attention, fact, go_on, inject, receipt, status, times, told, turn};

const WITHIN: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Cli {
    /// Runs every command.
    Codex,
    /// Asks before what its sandbox does not allow.
    CarefulCodex,
    /// Runs every command.
    Claude,
    /// Asks before each.
    CarefulClaude,
}

impl Cli {
    /// Its profile; what it wants to find in its home is written there.
    fn profile(self, home: &Path, model: &str) -> Profile {
        let (program, set_up, more) = match self {
            Cli::Codex => ("codex-acp", codex_home(home, model, "never", "danger-full-access"), None),
            // In its own mode, `agent`, a model reviews what needs leave, and nobody is asked (seen with 2.6).
            Cli::CarefulCodex => {
                let mode = Some(("INITIAL_AGENT_MODE", "read-only"));
                ("codex-acp", codex_home(home, model, "on-request", "workspace-write"), mode)
            }
            Cli::Claude | Cli::CarefulClaude => {
                let allowed: &[&str] = if self == Cli::Claude { &["Bash"] } else { &[] };
                // It offers to skip all questions, and as root does not start then.
                ("claude-agent-acp", claude_home(home, model, Some(allowed)), Some(("IS_SANDBOX", "1")))
            }
        };
        let set_up = set_up.unwrap();
        let mut profile = acp(&[agent_cli(program).unwrap().to_str().unwrap()]);
        profile.cwd = Some(set_up.work);
        profile.env = set_up.env.into_iter().collect();
        profile.env.extend(more.map(|(key, value)| (key.to_owned(), value.to_owned())));
        profile
    }
}

struct Running {
    stage: Stage,
    model: FakeModel,
    session: Session,
    home: tempfile::TempDir,
}

impl Running {
    async fn start(cli: Cli) -> Self {
        let model = FakeModel::start_with(&["--delay", "5"]).unwrap();
        let home = tempfile::tempdir().unwrap();
        let stage = acp_stage().await;
        let mut session = stage.spawn(cli.profile(home.path(), &model.url())).await;
        status(&mut session, Status::Waiting).await;
        Self { stage, model, session, home }
    }

    /// Every process of the session, however it hides: they all carry its id in their environment.
    fn tree(&self) -> Vec<proc::Stat> {
        let mark = format!("MOSAIC_SESSION_ID={}", self.session.id);
        proc::with_env(&mark).into_iter().filter(|p| p.state != 'Z').collect()
    }

    /// Waits until a message of this kind contains this.
    async fn kind(&mut self, kind: &str, text: &str) -> providers::MessageDraft {
        self.session
            .until(text, |event| match &event.news {
                News::Message(draft) if draft.kind.as_str() == kind && draft.content.contains(text) => {
                    Some(draft.clone())
                }
                _ => None,
            })
            .await
    }

    async fn ends(mut self) {
        self.session.provider.terminate(&self.session.id, &ada()).await.unwrap();
        assert_eq!(self.session.end().await.status, Status::Killed);
        assert_eq!(self.tree(), [], "nothing is left");
    }
}

async fn a_turn_with_a_tool_is_stepped_into(cli: Cli) {
    let mut it = Running::start(cli).await;
    let prompt = "THINK: hmm ;; SAY: looking ;; RUN: sleep 4 && cat README.md ;; SAY: never";
    let (id, outcome) = inject(&it.session, prompt, InjectMode::Steer).await;
    assert_eq!(outcome.state, Delivery::Written);
    let call = it.kind("toolCall", "cat README.md").await;
    assert_eq!(call.metadata["toolKind"], "execute");
    receipt(&mut it.session, &id, Delivery::Taken).await;
    let (_, outcome) = inject(&it.session, "SAY: operator heard", InjectMode::Steer).await;
    assert_eq!((outcome.state, outcome.mode), (Delivery::Taken, Some(InjectMode::Steer)));
    // Claude Code may put a running command into the background when somebody says something (seen with 0.101).
    let output = if cli == Cli::Claude { "" } else { "hello" };
    let result = it.kind("toolResult", output).await;
    assert_eq!(result.metadata["toolCallId"], call.metadata["toolCallId"]);
    it.kind("text", "operator heard").await;
    turn(&mut it.session, Turn::Idle).await;
    let asked = serde_json::to_string(&it.model.requests().unwrap()).unwrap();
    assert!(asked.contains("SAY: operator heard"), "it reached the model: {asked}");
    let told = told(&it.session);
    let said: Vec<_> = told.iter().filter(|(role, ..)| *role == Role::Agent).collect();
    let kinds: Vec<_> = said.iter().map(|(_, kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["reasoning", "text", "toolCall", "toolResult", "text"], "{told:?}");
    assert_eq!((times(&it.session, "hmm"), times(&it.session, "looking")), (1, 1), "{told:?}");
    it.ends().await;
}

/// Keeps a processor busy, and hides from simple kills in three ways.
const BUSY: &str = "SAY: busy ;; RUN: setsid nohup sleep 3001 & (setsid sh -c '(sleep 3002 &)' &) ; \
                    while true; do true; done ;; SAY: never";

async fn a_frozen_tree_stands_still_and_a_killed_one_is_gone(cli: Cli) {
    let mut it = Running::start(cli).await;
    inject(&it.session, BUSY, InjectMode::Steer).await;
    wait_until("the tool runs with all it hides", WITHIN, async || {
        let names: Vec<_> = it.tree().into_iter().map(|p| p.comm).collect();
        if names.iter().filter(|n| *n == "sleep").count() == 2 { Ok(()) } else { Err(names) }
    })
    .await
    .unwrap();
    let spent = proc::cpu(&it.tree());
    wait_until("it works", WITHIN, async || proc::cpu(&it.tree()) > spent + Duration::from_millis(300)).await.unwrap();
    let (provider, id) = (it.session.provider.clone(), it.session.id.clone());
    provider.pause(&id, &ada()).await.unwrap();
    let frozen = proc::cpu(&it.tree());
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(proc::cpu(&it.tree()), frozen, "no time was spent in three seconds");
    provider.resume(&id, &ada()).await.unwrap();
    wait_until("it goes on", WITHIN, async || proc::cpu(&it.tree()) > frozen + Duration::from_millis(300))
        .await
        .unwrap();
    let report = provider.kill(&id, &ada()).await.unwrap();
    assert_eq!(report.survivors, []);
    assert!(report.ended.iter().filter(|p| p.name == "sleep").count() >= 2, "{report:?}");
    assert_eq!(it.session.end().await.status, Status::Killed);
    assert_eq!(it.tree(), [], "nothing is left");
}

async fn an_interrupt_ends_the_turn_and_begins_another(cli: Cli) {
    let mut it = Running::start(cli).await;
    inject(&it.session, "RUN: sleep 300 ;; SAY: never", InjectMode::Steer).await;
    it.kind("toolCall", "sleep 300").await;
    let (id, outcome) = inject(&it.session, "SAY: instead", InjectMode::Interrupt).await;
    assert_eq!((outcome.state, outcome.mode), (Delivery::Written, Some(InjectMode::Interrupt)));
    it.session.message("the turn was interrupted").await;
    it.kind("text", "instead").await;
    receipt(&mut it.session, &id, Delivery::Taken).await;
    turn(&mut it.session, Turn::Idle).await;
    assert_eq!(times(&it.session, "never"), 0);
    it.ends().await;
}

async fn a_failure_of_the_model_is_no_fine_turn(cli: Cli) {
    let mut it = Running::start(cli).await;
    inject(&it.session, "FAIL: 400 broken on purpose", InjectMode::Steer).await;
    turn(&mut it.session, Turn::Error).await;
    let needed = attention(&mut it.session).await;
    assert!(needed.kind == AttentionKind::Error && needed.text.contains("broken on purpose"), "{needed:?}");
    inject(&it.session, "SAY: well again", InjectMode::Steer).await;
    it.kind("text", "well again").await;
    turn(&mut it.session, Turn::Idle).await;
    it.ends().await;
}

async fn a_replaced_node_agent_tells_every_message_once(cli: Cli) {
    let mut it = Running::start(cli).await;
    let prompt = "SAY: one ;; RUN: sleep 3 ;; SAY: two ;; RUN: sleep 1 ;; SAY: three";
    inject(&it.session, prompt, InjectMode::Steer).await;
    let first = it.kind("toolCall", "sleep 3").await;
    let from = it.session.seen.last().unwrap().position;
    it.stage.provider.shutdown().await;
    it.stage.replace().await;
    let mut again = it.stage.session(&it.session.id, from).await;
    again.message("three").await;
    turn(&mut again, Turn::Idle).await;
    let mut all = told(&it.session);
    all.extend(told(&again));
    let said: Vec<_> = all.iter().filter(|(role, kind, _)| *role == Role::Agent && kind == "text").collect();
    let said: Vec<_> = said.iter().map(|(.., text)| text.as_str()).collect();
    assert_eq!(said, ["one", "two", "three"], "{all:?}");
    assert_eq!(all.iter().filter(|(.., text)| *text == first.content).count(), 1);
    it.session = again;
    it.ends().await;
}

async fn a_killed_agents_conversation_goes_on_in_another_session(cli: Cli) {
    let mut it = Running::start(cli).await;
    inject(&it.session, "THINK: hmm ;; SAY: one ;; RUN: cat README.md ;; SAY: two", InjectMode::Steer).await;
    it.kind("text", "two").await;
    turn(&mut it.session, Turn::Idle).await;
    let conversation = fact(&it.session, "conversation").as_str().unwrap().to_owned();
    for process in it.tree() {
        signal(process.pid.try_into().unwrap(), rustix::process::Signal::KILL);
    }
    let end = it.session.end().await;
    assert_eq!(end.status, Status::Failed, "{end:?}");
    let profile = cli.profile(it.home.path(), &it.model.url());
    it.session = go_on(&it.stage, profile.clone(), &conversation).await;
    it.session.message("goes on with an earlier conversation").await;
    status(&mut it.session, Status::Waiting).await;
    inject(&it.session, "SAY: three", InjectMode::Steer).await;
    it.kind("text", "three").await;
    turn(&mut it.session, Turn::Idle).await;
    // What was said before reached the model again, and is no news of this session.
    let asked = it.model.requests().unwrap();
    let is_whole = |asked: &serde_json::Value| {
        let last = asked["last"].to_string();
        last.contains("[\"assistant\",\"two\"]") && last.contains("[\"user\",\"SAY: three\"]")
    };
    assert!(asked.iter().any(is_whole), "{asked:?}");
    let told = told(&it.session);
    let said: Vec<_> = told.iter().filter(|(role, ..)| *role == Role::Agent).map(|(.., text)| text.as_str()).collect();
    assert_eq!(said, ["three"], "{told:?}");
    assert_eq!(fact(&it.session, "conversation"), conversation.as_str(), "and on, and on");
    it.ends().await;
}

async fn a_conversation_that_is_not_there_is_told_so(cli: Cli) {
    let mut it = Running::start(cli).await;
    let profile = cli.profile(it.home.path(), &it.model.url());
    let mut lost = go_on(&it.stage, profile, "00000000-0000-4000-8000-000000000000").await;
    let end = lost.end().await;
    assert_eq!(end.status, Status::Failed);
    assert!(end.error.as_ref().is_some_and(|error| error.contains("it opened no session")), "{end:?}");
    turn(&mut it.session, Turn::Idle).await;
    it.ends().await;
}

async fn a_sub_agent_is_a_child_with_words_of_its_own(cli: Cli) {
    let mut it = Running::start(cli).await;
    let prompt =
        "SAY: delegating ;; SPAWN: SAY: child here && RUN: cat README.md && SAY: child done ;; SAY: parent done";
    inject(&it.session, prompt, InjectMode::Steer).await;
    let child = it.session.until("a child", |event| match &event.news {
        News::Child(child) => Some(child.clone()),
        _ => None,
    });
    let child = child.await;
    assert!(child.title.is_some_and(|title| !title.is_empty()));
    let info = it.session.provider.session(&child.session_id).await.unwrap();
    assert_eq!(info.parent_session_id, Some(it.session.id.clone()));
    let mut kid = it.stage.session(&child.session_id, Position::default()).await;
    assert_eq!(kid.end().await.status, Status::Completed);
    let words: Vec<_> = told(&kid).into_iter().filter(|(role, ..)| *role == Role::Agent).collect();
    let kinds: Vec<_> = words.iter().map(|(_, kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["text", "toolCall", "toolResult", "text"], "{words:?}");
    assert_eq!((times(&kid, "child here"), times(&kid, "child done")), (1, 1), "{words:?}");
    it.kind("text", "parent done").await;
    let parents = told(&it.session);
    assert!(!parents.iter().any(|(_, kind, text)| kind == "text" && text.starts_with("child ")), "{parents:?}");
    it.ends().await;
}

#[tokio::test]
async fn cli_codex_acp_goes_on_in_another_session_when_it_was_killed() {
    a_killed_agents_conversation_goes_on_in_another_session(Cli::Codex).await;
}

#[tokio::test]
async fn cli_claude_acp_goes_on_in_another_session_when_it_was_killed() {
    a_killed_agents_conversation_goes_on_in_another_session(Cli::Claude).await;
}

#[tokio::test]
async fn cli_codex_acp_says_that_it_has_no_such_conversation() {
    a_conversation_that_is_not_there_is_told_so(Cli::Codex).await;
}

#[tokio::test]
async fn cli_claude_acp_says_that_it_has_no_such_conversation() {
    a_conversation_that_is_not_there_is_told_so(Cli::Claude).await;
}

#[tokio::test]
async fn cli_codex_acp_has_sub_agents_as_children() {
    a_sub_agent_is_a_child_with_words_of_its_own(Cli::Codex).await;
}

#[tokio::test]
async fn cli_claude_acp_has_sub_agents_as_children() {
    a_sub_agent_is_a_child_with_words_of_its_own(Cli::Claude).await;
}

#[tokio::test]
async fn cli_codex_acp_is_stepped_into() {
    a_turn_with_a_tool_is_stepped_into(Cli::Codex).await;
}

#[tokio::test]
async fn cli_claude_acp_is_stepped_into() {
    a_turn_with_a_tool_is_stepped_into(Cli::Claude).await;
}

#[tokio::test]
async fn cli_codex_acp_is_frozen_and_killed() {
    a_frozen_tree_stands_still_and_a_killed_one_is_gone(Cli::Codex).await;
}

#[tokio::test]
async fn cli_claude_acp_is_frozen_and_killed() {
    a_frozen_tree_stands_still_and_a_killed_one_is_gone(Cli::Claude).await;
}

#[tokio::test]
async fn cli_codex_acp_is_interrupted() {
    an_interrupt_ends_the_turn_and_begins_another(Cli::Codex).await;
}

#[tokio::test]
async fn cli_claude_acp_is_interrupted() {
    an_interrupt_ends_the_turn_and_begins_another(Cli::Claude).await;
}

#[tokio::test]
async fn cli_codex_acp_tells_a_failure_of_the_model() {
    a_failure_of_the_model_is_no_fine_turn(Cli::Codex).await;
}

#[tokio::test]
async fn cli_claude_acp_tells_a_failure_of_the_model() {
    a_failure_of_the_model_is_no_fine_turn(Cli::Claude).await;
}

#[tokio::test]
async fn cli_codex_acp_outlives_the_node_agent() {
    a_replaced_node_agent_tells_every_message_once(Cli::Codex).await;
}

#[tokio::test]
async fn cli_claude_acp_outlives_the_node_agent() {
    a_replaced_node_agent_tells_every_message_once(Cli::Claude).await;
}

#[tokio::test]
async fn cli_codex_acp_gets_leave_and_goes_on_and_is_refused_and_stops() {
    let mut it = Running::start(Cli::CarefulCodex).await;
    let made = it.home.path().join("work/made");
    let wish = json!({"cmd": "touch made", "sandbox_permissions": "require_escalated", "justification": "to make it"});
    let prompt = format!("SAY: making ;; TOOL: exec_command {wish} ;; SAY: made it");
    for (kind, label, is_allowed) in [
        (OptionKind::RejectOnce, "No, and tell Codex what to do differently", false),
        (OptionKind::AllowOnce, "Yes, proceed", true),
    ] {
        inject(&it.session, &prompt, InjectMode::Steer).await;
        let needed = attention(&mut it.session).await;
        assert_eq!((needed.kind, needed.text.as_str()), (AttentionKind::Permission, "touch made"));
        assert_eq!(it.session.provider.session(&it.session.id).await.unwrap().status, Status::Waiting);
        // Its options as it worded them.
        let request = needed.request.unwrap();
        let kinds: Vec<_> = request.options.iter().map(|option| option.kind.clone()).collect();
        assert_eq!(kinds, [OptionKind::AllowOnce, OptionKind::AllowAlways, OptionKind::RejectOnce]);
        let option = request.options.iter().find(|option| option.kind == kind).unwrap();
        assert_eq!(option.label, label);
        assert!(!made.exists(), "nothing is done before it was answered");
        answer(&it.session, &request.request_id, &option.option_id).await.unwrap();
        let decision = it.kind("permission", label).await;
        assert_eq!(
            (&decision.metadata["answers"], &decision.metadata["operator"]["name"]),
            (&request.request_id.as_str().into(), &"Ada".into())
        );
        let result = it.kind("toolResult", "").await;
        assert_eq!(result.metadata["status"], if is_allowed { "completed" } else { "failed" });
        // What it does about a refusal is to end its turn and say so.
        it.session.message(if is_allowed { "made it" } else { "the turn was interrupted" }).await;
        turn(&mut it.session, Turn::Idle).await;
        assert_eq!((made.exists(), times(&it.session, "made it") == 1), (is_allowed, is_allowed));
    }
    it.ends().await;
}

#[tokio::test]
async fn cli_claude_acp_gets_leave_and_refusal() {
    let mut it = Running::start(Cli::CarefulClaude).await;
    let made = it.home.path().join("work/made");
    for (kind, exists) in [(OptionKind::RejectOnce, false), (OptionKind::AllowOnce, true)] {
        inject(&it.session, "SAY: making ;; RUN: touch made ;; SAY: made it", InjectMode::Steer).await;
        let request = attention(&mut it.session).await.request.unwrap();
        if exists {
            // In between, the node agent is another one.
            it.stage.provider.shutdown().await;
            it.stage.replace().await;
            let from = it.session.seen.last().unwrap().position;
            it.session = it.stage.session(&it.session.id, from).await;
        }
        let option = request.options.iter().find(|option| option.kind == kind).unwrap().option_id.clone();
        answer(&it.session, &request.request_id, &option).await.unwrap();
        it.session.message("made it").await;
        turn(&mut it.session, Turn::Idle).await;
        assert_eq!(made.exists(), exists, "{:?}", it.session.messages());
    }
    it.ends().await;
}
