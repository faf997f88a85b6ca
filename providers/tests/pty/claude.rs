//! The real Claude Code from npm against a scripted model: what its hooks tell, and its requests answered from outside.

use std::path::Path;
use std::time::Duration;

use bus_schema::{
    Answer, AttentionKind, Capability, Delivery, InjectMode, MessageId, MessageKind, Role, Status, StatusSource, Turn,
};
use providers::{AgentEvent, AgentProvider, MessageDraft, News, OperatorMessage, Profile, ProviderError};
use serde_json::{Value, json};
use testkit::{FakeModel, npm_with};

use crate::harness::{Session, Stage, ada};

/// The same as in the tests of the whole stack, so that they are fetched once.
const PACKAGES: [&str; 2] = ["@openai/codex@0.169.0", "@anthropic-ai/claude-code@2.1.330"];

/// How long a dialog may take over a key.
const AGAIN: Duration = Duration::from_secs(5);

struct Claude {
    stage: Stage,
    session: Session,
    model: FakeModel,
    home: tempfile::TempDir,
}

/// What is asked for, with how it can be answered.
struct Asked {
    request: MessageId,
    text: String,
    options: Vec<String>,
}

impl Claude {
    async fn start(arguments: &[&str]) -> Self {
        let program = npm_with("agents", &PACKAGES).unwrap().join("node_modules/.bin/claude");
        let model = FakeModel::start_with(&["--delay", "5"]).unwrap();
        let home = tempfile::tempdir().unwrap();
        let work = home.path().join("work");
        std::fs::create_dir_all(&work).unwrap();
        let trusted = json!({"hasTrustDialogAccepted": true, "hasCompletedProjectOnboarding": true});
        let state = json!({
            "hasCompletedOnboarding": true, "theme": "dark",
            "customApiKeyResponses": {"approved": ["sk-fake"], "rejected": []},
            "projects": {work.to_str().unwrap(): trusted},
        });
        std::fs::write(home.path().join(".claude.json"), state.to_string()).unwrap();
        let env = [
            ("CLAUDE_CONFIG_DIR", home.path().to_str().unwrap()),
            ("ANTHROPIC_BASE_URL", &model.url()),
            ("ANTHROPIC_API_KEY", "sk-fake"),
            ("DISABLE_AUTOUPDATER", "1"),
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
        ];
        let command = [program.to_str().unwrap(), "--permission-mode", "default"];
        let profile = Profile {
            cwd: Some(work),
            env: env.map(|(key, value)| (key.into(), value.into())).into(),
            ..Profile::new("claude", command.iter().chain(arguments).copied())
        };
        let stage = Stage::new().await;
        let mut session = stage.spawn(profile).await;
        session.until("it is ready", |event| is_turn(event, &Turn::Idle)).await;
        Self { stage, session, model, home }
    }

    fn work(&self, file: &str) -> std::path::PathBuf {
        Path::new(self.home.path()).join("work").join(file)
    }

    async fn say(&self, id: &str, content: &str) -> MessageId {
        let message_id = MessageId::new(id).unwrap();
        let message = OperatorMessage {
            message_id: message_id.clone(),
            operator: ada(),
            content: content.into(),
            mode: InjectMode::Queue,
        };
        self.session.provider.inject(&self.session.id, message).await.unwrap();
        message_id
    }

    /// Waits until it asks for leave.
    async fn asked(&mut self) -> Asked {
        let wanted = |event: &AgentEvent| match &event.news {
            News::Attention(Some(attention)) if attention.kind == AttentionKind::Permission => {
                let request = attention.request.clone()?;
                let options = request.options.into_iter().map(|option| option.option_id).collect();
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

    /// What was told to answer a request.
    async fn answered(&mut self, request: &MessageId) -> MessageDraft {
        let answers = |event: &AgentEvent| match &event.news {
            News::Message(draft) if draft.metadata.get("answers") == Some(&json!(request)) => Some(draft.clone()),
            _ => None,
        };
        self.session.until("the answer is told", answers).await
    }

    /// Presses a key in its dialog until that has answered the request: a dialog that is just being drawn takes none.
    async fn press(&mut self, key: &[u8], request: &MessageId) -> MessageDraft {
        loop {
            self.session.provider.terminal_input(&self.session.id, key, &ada()).await.unwrap();
            let until = tokio::time::Instant::now() + AGAIN;
            while let Ok(event) = tokio::time::timeout_at(until, self.session.events.recv()).await {
                let event = event.unwrap();
                self.session.seen.push(event.clone());
                match event.news {
                    News::Message(draft) if draft.metadata.get("answers") == Some(&json!(request)) => return draft,
                    _ => {}
                }
            }
        }
    }

    async fn says(&mut self, text: &str) {
        let said = |event: &AgentEvent| match &event.news {
            News::Message(draft) => (draft.role == Role::Agent && draft.content == text).then_some(()),
            _ => None,
        };
        self.session.until(text, said).await;
    }

    /// Waits until its turn stands so: that may be told before the conversation, which is read a moment later.
    async fn until_turn(&mut self, turn: Turn) {
        let last = |event: &AgentEvent| match &event.news {
            News::Turn(turn) => Some(turn.clone()),
            _ => None,
        };
        while self.session.seen.iter().rev().find_map(last).flatten() != Some(turn.clone()) {
            assert!(self.session.next().await.is_some(), "it ended before its turn was {turn}");
        }
    }

    /// Waits until it has this status, as its hooks tell.
    async fn until_status(&mut self, status: Status) {
        while self.statuses().last() != Some(&(status.clone(), StatusSource::Runtime)) {
            assert!(self.session.next().await.is_some(), "it ended before it was {status}");
        }
    }

    /// Statuses told so far, with their sources.
    fn statuses(&self) -> Vec<(Status, StatusSource)> {
        let status = |event: &AgentEvent| match &event.news {
            News::Status { status, source, .. } => Some((status.clone(), source.clone())),
            _ => None,
        };
        self.session.seen.iter().filter_map(status).collect()
    }
}

fn is_turn(event: &AgentEvent, wanted: &Turn) -> Option<()> {
    matches!(&event.news, News::Turn(Some(turn)) if turn == wanted).then_some(())
}

#[tokio::test]
async fn cli_claude_asks_for_leave_and_an_operator_gives_it_to_the_next_node_agent() {
    let mut it = Claude::start(&[]).await;
    let sent = it.say("m1", "RUN: touch a.txt ;; SAY: that was it").await;
    let asked = it.asked().await;
    assert_eq!(asked.text, "Bash: touch a.txt", "word for word");
    assert_eq!(asked.options, ["allow", "always", "deny"]);
    assert!(it.statuses().contains(&(Status::Running, StatusSource::Runtime)), "{:?}", it.statuses());
    assert_eq!(it.statuses().last(), Some(&(Status::Waiting, StatusSource::Runtime)));
    let taken = it.session.seen.iter().filter(|event| {
        matches!(&event.news, News::Receipt { message_id, outcome } if *message_id == sent && outcome.state == Delivery::Taken)
    });
    assert!(taken.count() > 0, "the receipt came");
    let info = it.session.provider.session(&it.session.id).await.unwrap();
    assert!(info.capabilities.contains(&Capability::Approve), "{info:?}");
    assert!(!it.work("a.txt").exists());
    let message = it.session.seen.iter().find_map(|event| match &event.news {
        News::Message(draft) if draft.message_id == asked.request => Some(draft.clone()),
        _ => None,
    });
    let message = message.unwrap();
    assert_eq!(
        (message.role, message.kind, message.content.as_str()),
        (Role::System, MessageKind::Permission, "Bash: touch a.txt")
    );

    // The node agent is replaced while the request is open.
    let from = it.session.seen.last().unwrap().position;
    it.stage.replace().await;
    it.session = it.stage.session(&it.session.id, from).await;
    let refused = it.answer(&asked.request, json!({"optionId": "levitate"})).await.unwrap_err();
    assert!(
        matches!(&refused, ProviderError::Invalid(text) if text.contains("one of allow, always, deny")),
        "{refused}"
    );
    it.answer(&asked.request, json!({"optionId": "allow"})).await.unwrap();
    it.answer(&asked.request, json!({"optionId": "deny"})).await.unwrap();
    let told = it.answered(&asked.request).await;
    assert_eq!(
        (told.role.clone(), told.kind.clone(), told.content.as_str()),
        (Role::System, MessageKind::Permission, "Yes")
    );
    assert_eq!((&told.metadata["optionId"], &told.metadata["operator"]["name"]), (&json!("allow"), &json!("Ada")));
    assert!(!told.metadata.contains_key("confirmed"), "{told:?}");
    it.says("that was it").await;
    it.until_turn(Turn::Idle).await;
    assert!(it.work("a.txt").exists(), "what leave was given for is done");
    assert!(it.session.seen.iter().any(|event| matches!(event.news, News::Attention(None))));
    it.until_status(Status::Waiting).await;
    // What was typed for the operator is nobody else's message.
    let told = it.session.provider.recent_messages(&it.session.id, 100).await.unwrap();
    assert!(!told.iter().any(|draft| draft.role == Role::User), "{told:?}");
    let late = it.answer(&MessageId::new("nobody-asked").unwrap(), json!({"optionId": "allow"})).await;
    assert!(matches!(late, Err(ProviderError::WrongState { .. })), "{late:?}");
}

#[tokio::test]
async fn cli_claude_is_told_no_in_words() {
    let mut it = Claude::start(&[]).await;
    it.say("m1", "RUN: touch a.txt ;; SAY: understood").await;
    let asked = it.asked().await;
    it.answer(&asked.request, json!({"text": "use another file"})).await.unwrap();
    assert_eq!(it.answered(&asked.request).await.content, "No: use another file");
    it.says("understood").await;
    assert!(!it.work("a.txt").exists());
    let requests = serde_json::to_string(&it.model.requests().unwrap()).unwrap();
    assert!(requests.contains("use another file"), "the model was told why");
}

#[tokio::test]
async fn cli_claude_answered_at_its_terminal_asks_nobody_else() {
    let mut it = Claude::start(&[]).await;
    it.say("m1", "RUN: touch a.txt ;; SAY: one ;; RUN: touch b.txt ;; SAY: two").await;
    let asked = it.asked().await;
    assert_eq!(it.press(b"1", &asked.request).await.content, "answered at the terminal");
    let late = it.answer(&asked.request, json!({"optionId": "deny"})).await;
    assert!(matches!(late, Err(ProviderError::WrongState { .. })), "{late:?}");
    // Esc interrupts the turn; no hook tells that it is over.
    let asked = it.asked().await;
    assert_eq!(asked.text, "Bash: touch b.txt");
    assert_eq!(it.press(b"\x1b", &asked.request).await.content, "it asks no longer");
    it.until_turn(Turn::Idle).await;
    assert!(it.work("a.txt").exists() && !it.work("b.txt").exists());
}

#[tokio::test]
async fn cli_claude_with_work_in_the_background_does_not_wait() {
    let mut it = Claude::start(&["--allowedTools", "Bash"]).await;
    it.say("m1", "SPAWN: RUN: sleep 3 && SAY: sub here ;; SAY: sent").await;
    let child = it.session.until("a child is told of", |event| match &event.news {
        News::Child(child) => Some(child.session_id.clone()),
        _ => None,
    });
    let child = child.await;
    let running = |event: &AgentEvent| match &event.news {
        News::Status { status: Status::Running, reason: Some(reason), source: StatusSource::Runtime } => {
            reason.contains("background").then_some(())
        }
        _ => None,
    };
    it.session.until("it runs on behind its turn", running).await;
    // In the end it waits: the notice that its sub-agent is done is a turn of its own.
    let waiting = |event: &AgentEvent| match &event.news {
        News::Status { status: Status::Waiting, source: StatusSource::Runtime, .. } => Some(()),
        _ => None,
    };
    it.session.until("it waits", waiting).await;
    let mut child = it.stage.session(&child, Default::default()).await;
    child.message("sub here").await;
    child.until("its turn is over", |event| is_turn(event, &Turn::Idle)).await;
}
