//! The real Codex from npm in a terminal, against a scripted model: its requests for leave, read off its screen and
//! answered from outside.

use std::path::PathBuf;

use bus_schema::{Answer, AttentionKind, InjectMode, MessageId, MessageKind, OptionKind, Role, Turn};
use providers::{AgentEvent, AgentProvider, MessageDraft, News, OperatorMessage, Profile, ProviderError};
use serde_json::{Value, json};
use testkit::{FakeModel, npm_with};

use crate::harness::{Session, Stage, ada};

/// The same as in other tests, so that they are fetched once.
const AGENTS: [&str; 2] = ["@openai/codex@0.169.0", "@anthropic-ai/claude-code@2.1.330"];

struct Codex {
    stage: Stage,
    session: Session,
    _model: FakeModel,
    home: tempfile::TempDir,
}

/// A request for leave, with ids and kinds of its options.
struct Asked {
    request: MessageId,
    text: String,
    options: Vec<(String, OptionKind)>,
}

impl Codex {
    async fn codex() -> Self {
        let program = npm_with("agents", &AGENTS).unwrap().join("node_modules/.bin/codex");
        Self::start(vec![program.to_str().unwrap().into(), "--no-daemon".into()], |home, work, model| {
            let config = format!(
                "model = \"gpt-5.1-codex\"\nmodel_provider = \"fake\"\napproval_policy = \"on-request\"\n\
                 sandbox_mode = \"workspace-write\"\n\
                 [model_providers.fake]\nname = \"fake\"\nbase_url = \"{model}/v1\"\nenv_key = \"FAKE_API_KEY\"\n\
                 wire_api = \"responses\"\n[projects.{work:?}]\ntrust_level = \"trusted\"\n"
            );
            std::fs::write(home.join("config.toml"), config).unwrap();
            vec![("CODEX_HOME".into(), home.to_str().unwrap().into()), ("FAKE_API_KEY".into(), "x".into())]
        })
        .await
    }

    async fn start(
        command: Vec<String>,
        set_up: impl FnOnce(PathBuf, PathBuf, String) -> Vec<(String, String)>,
    ) -> Self {
        let model = FakeModel::start_with(&["--delay", "5"]).unwrap();
        let home = tempfile::tempdir().unwrap();
        let work = home.path().join("work");
        std::fs::create_dir_all(&work).unwrap();
        let env = set_up(home.path().into(), work.clone(), model.url());
        let agent_type = command[0].rsplit('/').next().map(Into::into);
        let profile =
            Profile { cwd: Some(work), env: env.into_iter().collect(), agent_type, ..Profile::new("cli", command) };
        let stage = Stage::new().await;
        let mut session = stage.spawn(profile).await;
        session.until("it is ready", |event| is_turn(event, &Turn::Idle)).await;
        Self { stage, session, _model: model, home }
    }

    fn work(&self, file: &str) -> PathBuf {
        self.home.path().join("work").join(file)
    }

    async fn say(&self, id: &str, content: &str) -> MessageId {
        let message_id = MessageId::new(id).unwrap();
        let (content, mode) = (content.into(), InjectMode::Queue);
        let message = OperatorMessage { message_id: message_id.clone(), operator: ada(), content, mode };
        self.session.provider.inject(&self.session.id, message).await.unwrap();
        message_id
    }

    async fn asked(&mut self) -> Asked {
        let wanted = |event: &AgentEvent| match &event.news {
            News::Attention(Some(attention)) if attention.kind == AttentionKind::Permission => {
                let request = attention.request.clone()?;
                let options = request.options.into_iter().map(|option| (option.option_id, option.kind)).collect();
                Some(Asked { request: request.request_id, text: attention.text.clone(), options })
            }
            _ => None,
        };
        self.session.until("it asks for leave", wanted).await
    }

    async fn answer(&self, request: &MessageId, answer: Value) -> Result<(), ProviderError> {
        let answer: Answer = serde_json::from_value(answer).unwrap();
        self.session.provider.answer(&self.session.id, request, &answer, &ada()).await
    }

    async fn answered(&mut self, request: &MessageId) -> MessageDraft {
        let answers = |event: &AgentEvent| match &event.news {
            News::Message(draft) if draft.metadata.get("answers") == Some(&json!(request)) => Some(draft.clone()),
            _ => None,
        };
        self.session.until("the answer is told", answers).await
    }

    async fn says(&mut self, kind: MessageKind, text: &str) -> MessageDraft {
        let said = |event: &AgentEvent| match &event.news {
            News::Message(draft) if draft.role == Role::Agent && draft.kind == kind && draft.content.contains(text) => {
                Some(draft.clone())
            }
            _ => None,
        };
        match self.session.seen.iter().find_map(said) {
            Some(draft) => draft,
            None => self.session.until(text, said).await,
        }
    }

    async fn until_turn(&mut self, turn: Turn) {
        let last = |event: &AgentEvent| match &event.news {
            News::Turn(turn) => Some(turn.clone()),
            _ => None,
        };
        while self.session.seen.iter().rev().find_map(last).flatten() != Some(turn.clone()) {
            assert!(self.session.next().await.is_some(), "it ended before its turn was {turn}");
        }
    }

    /// A new node agent, which goes on behind what was told.
    async fn replace(&mut self) {
        let from = self.session.seen.last().unwrap().position;
        let seen = std::mem::take(&mut self.session.seen);
        self.stage.replace().await;
        self.session = self.stage.session(&self.session.id, from).await;
        self.session.seen = seen;
    }

    /// How often the agent said this.
    fn times(&self, text: &str) -> usize {
        self.session.messages().iter().filter(|content| content.as_str() == text).count()
    }
}

fn is_turn(event: &AgentEvent, wanted: &Turn) -> Option<()> {
    matches!(&event.news, News::Turn(Some(turn)) if turn == wanted).then_some(())
}

/// What makes Codex ask: a command that wants out of its sandbox.
fn escalated(command: &str, why: &str) -> String {
    let call = json!({"cmd": command, "sandbox_permissions": "require_escalated", "justification": why});
    format!("TOOL: exec_command {call}")
}

#[tokio::test]
async fn cli_codex_asks_for_leave_on_its_screen_and_an_operator_presses_the_key_through_the_next_node_agent() {
    let mut it = Codex::codex().await;
    let long = format!("touch a.txt  && echo {}", "word ".repeat(40).trim());
    it.say("m1", &format!("{} ;; SAY: that was it", escalated(&long, "May I?"))).await;
    let asked = it.asked().await;
    assert!(asked.text.starts_with("Would you like to run the following command?\n"), "{}", asked.text);
    assert!(asked.text.contains("Reason: May I?"), "{}", asked.text);
    assert!(asked.text.ends_with(&format!("$ {long}")), "word for word: {}", asked.text);
    let offered: Vec<_> = asked.options.iter().map(|(id, kind)| (id.as_str(), kind)).collect();
    assert_eq!((offered[0], offered.last()), (("y", &OptionKind::AllowOnce), Some(&("esc", &OptionKind::RejectOnce))));
    assert!(!it.work("a.txt").exists());

    it.replace().await;
    let refused = it.answer(&asked.request, json!({"optionId": "x"})).await.unwrap_err();
    assert!(matches!(&refused, ProviderError::Invalid(text) if text.contains("one of y")), "{refused}");
    it.answer(&asked.request, json!({"optionId": "y"})).await.unwrap();
    let told = it.answered(&asked.request).await;
    assert_eq!((told.kind.clone(), &told.metadata["source"]), (MessageKind::Permission, &json!("screen")));
    assert!(!told.metadata.contains_key("confirmed"), "the agent went on: {told:?}");
    it.says(MessageKind::Text, "that was it").await;
    it.until_turn(Turn::Idle).await;
    assert!(it.work("a.txt").exists(), "what leave was given for is done");
    assert_eq!(it.times("that was it"), 1, "told once, though the node agent was replaced");
    let late = it.answer(&MessageId::new("nobody-asked").unwrap(), json!({"optionId": "y"})).await;
    assert!(matches!(late, Err(ProviderError::WrongState { .. })), "{late:?}");
}

#[tokio::test]
async fn cli_codex_is_told_no_and_for_good_yes_and_what_is_answered_at_its_terminal_is_closed() {
    let mut it = Codex::codex().await;
    it.say("m1", &format!("{} ;; SAY: never", escalated("touch a.txt", "One?"))).await;
    let asked = it.asked().await;
    it.answer(&asked.request, json!({"optionId": "esc"})).await.unwrap();
    assert!(!it.answered(&asked.request).await.metadata.contains_key("confirmed"));
    it.until_turn(Turn::Idle).await;
    assert!(!it.work("a.txt").exists());

    it.say("m2", &format!("{} ;; SAY: two", escalated("touch b.txt", "Two?"))).await;
    let asked = it.asked().await;
    assert!(asked.text.ends_with("$ touch b.txt"), "{}", asked.text);
    it.answer(&asked.request, json!({"optionId": "p"})).await.unwrap();
    it.says(MessageKind::Text, "two").await;
    assert!(it.work("b.txt").exists());

    it.say("m3", &format!("{} ;; SAY: three", escalated("mkdir c", "Three?"))).await;
    let asked = it.asked().await;
    it.session.provider.terminal_input(&it.session.id, b"y", &ada()).await.unwrap();
    assert_eq!(it.answered(&asked.request).await.content, "answered at the terminal");
    it.says(MessageKind::Text, "three").await;
    let late = it.answer(&asked.request, json!({"optionId": "esc"})).await;
    assert!(matches!(late, Err(ProviderError::WrongState { .. })), "{late:?}");
}
