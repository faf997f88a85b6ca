//! A real agent CLI from npm in a terminal session, against a scripted model: what a test says to it, and waits to hear.
//! It has a home of its own, with all that it needs.

use std::path::PathBuf;

use bus_schema::{
    Answer, AttentionKind, Delivery, InjectMode, MessageId, OptionKind, Role, Status, StatusSource, Turn,
};
use providers::{AgentEvent, AgentProvider, MessageDraft, News, Profile, ProviderError};
use serde_json::{Value, json};
use testkit::{AgentHome, FakeModel, agent_cli};

use crate::harness::watched::message;
use crate::harness::{PATIENCE, Session, Stage, ada};

/// A running agent.
pub struct Agent {
    pub stage: Stage,
    pub session: Session,
    pub model: FakeModel,
    work: PathBuf,
    _home: tempfile::TempDir,
}

/// A request for leave, with ids and kinds of its options.
pub struct Asked {
    pub request: MessageId,
    pub text: String,
    pub options: Vec<(String, OptionKind)>,
}

impl Asked {
    /// The ids of its options, in their order.
    pub fn ids(&self) -> Vec<&str> {
        self.options.iter().map(|(id, _)| id.as_str()).collect()
    }
}

/// Whether it is told here that the turn stands so.
pub fn is_turn(event: &AgentEvent, wanted: &Turn) -> Option<()> {
    matches!(&event.news, News::Turn(Some(turn)) if turn == wanted).then_some(())
}

impl Agent {
    /// Starts `program` with `arguments`, in the home that `set_up` makes of a folder and the URL of the model. It may
    /// not be ready yet.
    pub async fn start(
        program: &str,
        arguments: &[&str],
        set_up: impl FnOnce(&std::path::Path, &str) -> anyhow::Result<AgentHome>,
    ) -> Self {
        let command = agent_cli(program).unwrap();
        let model = FakeModel::start_with(&["--delay", "5"]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let home = set_up(folder.path(), &model.url()).unwrap();
        let command = [command.to_str().unwrap()];
        let profile = Profile {
            cwd: Some(home.work.clone()),
            env: home.env.into_iter().collect(),
            ..Profile::new(program, command.iter().chain(arguments).copied())
        };
        let stage = Stage::new().await;
        let session = stage.spawn(profile).await;
        Self { stage, session, model, work: home.work, _home: folder }
    }

    /// A file in the folder where it works.
    pub fn work(&self, file: &str) -> PathBuf {
        self.work.join(file)
    }

    /// Says something to it, to be queued where it is at work.
    pub async fn say(&self, id: &str, content: &str) -> MessageId {
        let message = message(id, content, InjectMode::Queue);
        let message_id = message.message_id.clone();
        self.session.provider.inject(&self.session.id, message).await.unwrap();
        message_id
    }

    /// Waits until it has said this.
    pub async fn says(&mut self, text: &str) -> MessageDraft {
        let said = |event: &AgentEvent| match &event.news {
            News::Message(draft) if draft.role == Role::Agent && draft.content == text => Some(draft.clone()),
            _ => None,
        };
        match self.session.seen.iter().find_map(said) {
            Some(draft) => draft,
            None => self.session.until(text, said).await,
        }
    }

    /// How often it said this.
    pub fn times(&self, text: &str) -> usize {
        self.session.messages().iter().filter(|content| content.as_str() == text).count()
    }

    /// Waits until its turn stands so: that may be told before the conversation, which is read a moment later.
    pub async fn until_turn(&mut self, turn: Turn) {
        let last = |event: &AgentEvent| match &event.news {
            News::Turn(turn) => Some(turn.clone()),
            _ => None,
        };
        while self.session.seen.iter().rev().find_map(last).flatten() != Some(turn.clone()) {
            assert!(self.session.next().await.is_some(), "it ended before its turn was {turn}");
        }
    }

    /// Statuses told so far, with their sources.
    pub fn statuses(&self) -> Vec<(Status, StatusSource)> {
        let status = |event: &AgentEvent| match &event.news {
            News::Status { status, source, .. } => Some((status.clone(), source.clone())),
            _ => None,
        };
        self.session.seen.iter().filter_map(status).collect()
    }

    /// Waits until it has this status, as it tells itself.
    pub async fn until_status(&mut self, status: Status) {
        while self.statuses().last() != Some(&(status.clone(), StatusSource::Runtime)) {
            assert!(self.session.next().await.is_some(), "it ended before it was {status}");
        }
    }

    /// Waits until the model was seen to have a message, and gives how it came there.
    pub async fn taken(&mut self, id: &MessageId) -> Option<InjectMode> {
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

    /// Waits until it asks for leave.
    pub async fn asked(&mut self) -> Asked {
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

    /// Answers a request, as a JSON [`Answer`].
    pub async fn answer(&self, request: &MessageId, answer: Value) -> Result<(), ProviderError> {
        let answer: Answer = serde_json::from_value(answer).unwrap();
        self.session.provider.answer(&self.session.id, request, &answer, &ada()).await
    }

    /// What was told to answer a request.
    pub async fn answered(&mut self, request: &MessageId) -> MessageDraft {
        self.session.until("the answer is told", |event| answers(event, request)).await
    }

    /// Types at its terminal.
    pub async fn types(&self, keys: &[u8]) {
        self.session.provider.terminal_input(&self.session.id, keys, &ada()).await.unwrap();
    }

    /// A new node agent, which goes on behind what was told.
    pub async fn replace(&mut self) {
        let from = self.session.seen.last().unwrap().position;
        let seen = std::mem::take(&mut self.session.seen);
        self.stage.replace().await;
        self.session = self.stage.session(&self.session.id, from).await;
        self.session.seen = seen;
    }

    /// Waits until its terminal shows this.
    pub async fn screen(&self, text: &str) {
        let shown = testkit::wait_until(text, PATIENCE, async || {
            let snapshot =
                self.session.provider.terminal_snapshot(&self.session.id).await.map_err(|e| e.to_string())?;
            let shown = String::from_utf8_lossy(&snapshot.data).into_owned();
            if shown.contains(text) { Ok(()) } else { Err(shown) }
        });
        shown.await.unwrap();
    }

    /// The last texts that each request to the model had, newest request last.
    pub fn asked_of_model(&self) -> Vec<String> {
        let requests = self.model.requests().unwrap();
        requests.iter().map(|request| request["last"].to_string()).collect()
    }
}

/// The message in which a request is answered, if it is told here.
pub fn answers(event: &AgentEvent, request: &MessageId) -> Option<MessageDraft> {
    match &event.news {
        News::Message(draft) if draft.metadata.get("answers") == Some(&json!(request)) => Some(draft.clone()),
        _ => None,
    }
}
