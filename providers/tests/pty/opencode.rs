//! The real OpenCode from npm in a terminal, against a scripted model: told by its own API, which is also how operators
//! speak with it and answer it.

use std::path::PathBuf;
use std::time::Duration;

use bus_schema::{
    Answer, AttentionKind, Capability, Delivery, InjectMode, MessageId, MessageKind, OptionKind, Role, Status, Turn,
};
use providers::{AgentEvent, AgentProvider, MessageDraft, News, Profile, ProviderError};
use serde_json::{Value, json};
use testkit::{FakeModel, agent_cli, opencode_home};

use crate::harness::{Session, Stage, ada, message, signal, wait_until};

/// How long it may take to begin on a machine that does other things, too: more than 60 s were seen.
const BEGINS_WITHIN: Duration = Duration::from_secs(240);

struct OpenCode {
    stage: Stage,
    session: Session,
    model: FakeModel,
    work: PathBuf,
    _home: tempfile::TempDir,
}

/// A request for leave, with ids and kinds of its options.
struct Asked {
    request: MessageId,
    text: String,
    options: Vec<(String, OptionKind)>,
}

impl OpenCode {
    async fn start(shell: &str) -> Self {
        let program = agent_cli("opencode").unwrap();
        let model = FakeModel::start_with(&["--delay", "5"]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let home = opencode_home(folder.path(), &model.url(), shell).unwrap();
        let (work, env) = (home.work.clone(), home.env.into_iter().collect());
        let profile = Profile { cwd: Some(home.work), env, ..Profile::new("opencode", [program.to_str().unwrap()]) };
        let stage = Stage::new().await;
        let session = stage.spawn(profile).await;
        // It is slow to begin, and says nothing meanwhile.
        let begun = testkit::wait_until("its API is there", BEGINS_WITHIN, async || {
            let info = session.provider.session(&session.id).await.map_err(|error| error.to_string())?;
            if info.capabilities.contains(&Capability::Approve) { Ok(()) } else { Err(format!("{info:?}")) }
        });
        begun.await.unwrap();
        Self { stage, session, model, work, _home: folder }
    }

    async fn say(&self, id: &str, content: &str) -> MessageId {
        let message = message(id, content, InjectMode::Queue);
        let message_id = message.message_id.clone();
        self.session.provider.inject(&self.session.id, message).await.unwrap();
        message_id
    }

    /// Waits until it has said this.
    async fn says(&mut self, text: &str) -> MessageDraft {
        let said = |event: &AgentEvent| match &event.news {
            News::Message(draft) if draft.role == Role::Agent && draft.content == text => Some(draft.clone()),
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

    /// Waits until the model was seen to have a message, and gives how it came there.
    async fn taken(&mut self, id: &MessageId) -> Option<InjectMode> {
        let taken = |event: &AgentEvent| match &event.news {
            News::Receipt { message_id, outcome } if message_id == id && outcome.state == Delivery::Taken => {
                Some(outcome.mode.clone())
            }
            _ => None,
        };
        match self.session.seen.iter().find_map(taken) {
            Some(mode) => mode,
            None => self.session.until("it is taken", taken).await,
        }
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

    /// A new node agent, which goes on behind what was told.
    async fn replace(&mut self) {
        let from = self.session.seen.last().unwrap().position;
        let seen = std::mem::take(&mut self.session.seen);
        self.stage.replace().await;
        self.session = self.stage.session(&self.session.id, from).await;
        self.session.seen = seen;
    }

    /// Waits until its terminal shows this.
    async fn screen(&self, text: &str) {
        wait_until(text, async || {
            let snapshot =
                self.session.provider.terminal_snapshot(&self.session.id).await.map_err(|e| e.to_string())?;
            let shown = String::from_utf8_lossy(&snapshot.data).into_owned();
            if shown.contains(text) { Ok(()) } else { Err(shown) }
        })
        .await;
    }

    /// Messages told so far: role, kind and text.
    fn told(&self) -> Vec<String> {
        let line = |event: &AgentEvent| match &event.news {
            News::Message(draft) => {
                assert_eq!(draft.metadata["source"], json!("api"), "{draft:?}");
                Some(format!("{} {}: {}", draft.role, draft.kind, draft.content.trim()))
            }
            _ => None,
        };
        self.session.seen.iter().filter_map(line).collect()
    }

    /// The last texts that each request to the model had, newest request last.
    fn asked_of_model(&self) -> Vec<String> {
        let requests = self.model.requests().unwrap();
        requests.iter().map(|request| request["last"].to_string()).collect()
    }
}

#[tokio::test]
async fn cli_opencode_tells_a_turn_by_its_api_and_shows_it_at_its_terminal() {
    let mut it = OpenCode::start("allow").await;
    // Its API listens before its terminal does: the first message is not lost.
    let sent = it.say("m1", "SAY: looking ;; RUN: cat README.md ;; SAY: that was it").await;
    it.says("that was it").await;
    it.until_turn(Turn::Idle).await;
    it.taken(&sent).await;
    let told =
        ["agent text: looking", "agent toolCall: cat README.md", "agent toolResult: hello", "agent text: that was it"];
    assert_eq!(it.told(), told.map(str::to_owned), "no line of its screen, nothing twice, in order");
    let status = |event: &AgentEvent| match &event.news {
        News::Status { status, source, .. } => Some(format!("{status} by {source}")),
        _ => None,
    };
    let statuses: Vec<_> = it.session.seen.iter().filter_map(status).collect();
    let turn = ["running by runtime", "waiting by runtime"];
    assert!(statuses.ends_with(&turn.map(str::to_owned)), "{statuses:?}");
    let info = it.session.provider.session(&it.session.id).await.unwrap();
    assert_eq!((info.agent_type.as_deref(), info.status), (Some("opencode"), Status::Waiting));
    assert!(info.capabilities.contains(&Capability::Approve), "{:?}", info.capabilities);
    // Whoever looks at its terminal sees the same conversation.
    it.screen("that was it").await;
    // Its password is told nowhere.
    let files = ["spec.json", "state.json"].map(|file| it.stage.session_dir(&it.session.id).join(file));
    let text: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    assert!(text.contains("--port") && !text.contains("PASSWORD"), "{text}");
}

#[tokio::test]
async fn cli_opencode_is_spoken_to_in_the_middle_of_a_turn_and_what_became_of_it_is_what_the_model_got() {
    let mut it = OpenCode::start("allow").await;
    it.say("m1", "RUN: sleep 8 ;; SAY: never said").await;
    it.says("sleep 8").await;
    let steered = it.say("m2", "SAY: steered").await;
    it.says("steered").await;
    assert_eq!(it.taken(&steered).await, Some(InjectMode::Steer), "within the turn, behind the tool");
    let requests = it.asked_of_model();
    let last = requests.last().unwrap();
    assert!(last.contains("[\"tool\",") && last.ends_with("[\"user\",\"SAY: steered\"]]"), "{last}");

    it.say("m3", "SLOW: 20 200").await;
    it.until_turn(Turn::Active).await;
    it.taken(&MessageId::new("m3").unwrap()).await;
    let queued = it.say("m4", "SAY: queued").await;
    it.says("queued").await;
    assert_eq!(it.taken(&queued).await, Some(InjectMode::Queue), "behind the turn");
    let requests = it.asked_of_model();
    let last = requests.last().unwrap();
    assert!(last.contains("word20") && last.ends_with("[\"user\",\"SAY: queued\"]]"), "{last}");
    let told = it.told();
    let at = |text: &str| told.iter().position(|line| line.contains(text));
    assert!(at("word20") < at("agent text: queued"), "{told:?}");

    it.say("m5", "SLOW: 200 200 ;; SAY: never").await;
    it.taken(&MessageId::new("m5").unwrap()).await;
    let instead = message("m6", "SAY: instead", InjectMode::Interrupt);
    it.session.provider.inject(&it.session.id, instead).await.unwrap();
    it.says("instead").await;
    assert_eq!(it.taken(&MessageId::new("m6").unwrap()).await, Some(InjectMode::Interrupt));
    assert!(it.told().contains(&"system status: turn aborted".to_owned()), "{:?}", it.told());
    assert!(!it.told().iter().any(|line| line.starts_with("user")), "what operators said is theirs");
}

#[tokio::test]
async fn cli_opencode_asks_for_leave_and_is_answered_through_the_next_node_agent_and_at_its_terminal() {
    let mut it = OpenCode::start("ask").await;
    it.say("m1", "RUN: touch a.txt ;; SAY: one").await;
    let asked = it.asked().await;
    assert_eq!(asked.text, "bash: touch a.txt", "word for word");
    let offered: Vec<_> = asked.options.iter().map(|(id, kind)| (id.as_str(), kind)).collect();
    let kinds = [OptionKind::AllowOnce, OptionKind::AllowAlways, OptionKind::RejectOnce];
    assert_eq!(offered, ["once", "always", "reject"].into_iter().zip(&kinds).collect::<Vec<_>>());
    it.until_turn(Turn::Blocked).await;
    assert!(!it.work.join("a.txt").exists());

    it.replace().await;
    let refused = it.answer(&asked.request, json!({"optionId": "levitate"})).await.unwrap_err();
    assert!(matches!(&refused, ProviderError::Invalid(text) if text.contains("one of once")), "{refused}");
    it.answer(&asked.request, json!({"optionId": "once"})).await.unwrap();
    let told = it.answered(&asked.request).await;
    assert_eq!((told.content.as_str(), &told.metadata["operator"]["name"]), ("Allow once", &json!("Ada")));
    assert!(!told.metadata.contains_key("confirmed"), "it was seen to be taken: {told:?}");
    it.says("one").await;
    it.until_turn(Turn::Idle).await;
    assert!(it.work.join("a.txt").exists(), "what leave was given for is done");

    it.say("m2", "RUN: touch b.txt ;; SAY: two").await;
    let asked = it.asked().await;
    it.answer(&asked.request, json!({"text": "use another file"})).await.unwrap();
    assert_eq!(it.answered(&asked.request).await.content, "Reject: use another file");
    it.says("two").await;
    assert!(it.asked_of_model().last().unwrap().contains("use another file"), "the model was told why");

    it.say("m3", "RUN: touch c.txt ;; SAY: three").await;
    let asked = it.asked().await;
    it.screen("Allow once").await;
    it.session.provider.terminal_input(&it.session.id, b"\r", &ada()).await.unwrap();
    assert_eq!(it.answered(&asked.request).await.content, "answered at the terminal");
    it.says("three").await;
    assert!(it.work.join("c.txt").exists() && !it.work.join("b.txt").exists());
    let late = it.answer(&asked.request, json!({"optionId": "reject"})).await;
    assert!(matches!(late, Err(ProviderError::WrongState { .. })), "{late:?}");
}

#[tokio::test]
async fn cli_opencode_tells_each_message_once_though_the_node_agent_is_replaced_in_the_middle_of_turns() {
    let mut it = OpenCode::start("allow").await;
    let mut wanted = vec![];
    for number in 1..=4 {
        it.say(&format!("m{number}"), &format!("RUN: echo out{number} ;; SAY: said {number}")).await;
        it.says(&format!("echo out{number}")).await;
        it.replace().await;
        it.says(&format!("said {number}")).await;
        it.until_turn(Turn::Idle).await;
        wanted.push(format!("agent toolCall: echo out{number}"));
        wanted.push(format!("agent toolResult: out{number}"));
        wanted.push(format!("agent text: said {number}"));
    }
    assert_eq!(it.told(), wanted);
    let recent = it.session.provider.recent_messages(&it.session.id, 100).await.unwrap();
    let recent: Vec<_> = recent.iter().map(|draft| draft.content.trim().to_owned()).collect();
    assert_eq!(recent.len(), wanted.len(), "{recent:?}");

    // Its holder dies: what was said stays said, once, and the end is told.
    let holder = it.stage.pid(&it.session.id, "holder");
    signal(holder, rustix::process::Signal::KILL);
    let end = it.session.end().await;
    assert_eq!(end.status, Status::Failed);
    assert_eq!(it.told(), wanted);
    assert_eq!(it.told().iter().filter(|line| line.ends_with("said 4")).count(), 1);
    let kinds = [MessageKind::ToolCall, MessageKind::ToolResult, MessageKind::Text];
    assert!(it.session.seen.iter().all(|event| !matches!(&event.news, News::Message(d) if !kinds.contains(&d.kind))));
}
