//! A place for ACP sessions, what is done to them, and what they tell.

use std::path::{Path, PathBuf};

use bus_schema::{Answer, Attention, InjectMode, MessageId, Role, Status, Turn};
use providers::pty::PtyConfig;
use providers::{
    AgentProvider, InjectOutcome, News, OperatorMessage, Position, Profile, Protocol, ProviderError, SpawnRequest,
};

use crate::harness::{Session, Stage, ada, new_id, request};

/// A stage whose provider is `acp`.
pub async fn acp_stage() -> Stage {
    Stage::with(|config| *config = PtyConfig::acp(config.dir.clone(), config.program.clone())).await
}

/// A profile of an agent that speaks ACP.
pub fn acp(command: &[&str]) -> Profile {
    let provider = "acp".into();
    Profile { provider, protocol: Protocol::Acp, ..Profile::new("acp", command.iter().copied()) }
}

/// The scripted agent.
pub fn scripted(flags: &[&str]) -> Profile {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/acp_agent.py");
    let mut command = vec!["python3", script.to_str().unwrap()];
    command.extend(flags);
    acp(&command)
}

/// Starts a session that goes on with an earlier conversation.
pub async fn go_on(stage: &Stage, profile: Profile, conversation: &str) -> Session {
    let id = new_id();
    let request = SpawnRequest { conversation: Some(conversation.into()), ..request(&id, profile) };
    stage.provider.spawn(request).await.unwrap();
    stage.session(&id, Position::default()).await
}

/// A fact that the session has told so far.
pub fn fact(session: &Session, name: &str) -> serde_json::Value {
    let facts = session.seen.iter().rev().filter_map(|event| match &event.news {
        News::Facts(facts) => facts.get(name).cloned(),
        _ => None,
    });
    let mut facts = facts;
    facts.next().unwrap_or_default()
}

/// Hands a message over.
pub async fn inject(session: &Session, text: &str, mode: InjectMode) -> (MessageId, InjectOutcome) {
    let id = MessageId::new(new_id().as_str()).unwrap();
    let message = OperatorMessage { message_id: id.clone(), operator: ada(), content: text.into(), mode };
    let outcome = session.provider.inject(&session.id, message).await.unwrap();
    (id, outcome)
}

/// Answers a request with an option.
pub async fn answer(session: &Session, request: &MessageId, option: &str) -> Result<(), ProviderError> {
    let answer = Answer { option_id: Some(option.into()), text: None };
    session.provider.answer(&session.id, request, &answer, &ada()).await
}

/// Waits until the session waits for somebody, and gives what it waits for.
pub async fn attention(session: &mut Session) -> Attention {
    session
        .until("somebody is needed", |event| match &event.news {
            News::Attention(attention) => attention.clone(),
            _ => None,
        })
        .await
}

/// Waits until the turn stands so.
pub async fn turn(session: &mut Session, wanted: Turn) {
    session.until(wanted.as_str(), |event| (event.news == News::Turn(Some(wanted.clone()))).then_some(())).await;
}

/// Waits until the session has this status.
pub async fn status(session: &mut Session, wanted: Status) {
    let is_it = |news: &News| matches!(news, News::Status { status, .. } if *status == wanted);
    session.until(wanted.as_str(), |event| is_it(&event.news).then_some(())).await;
}

/// Waits until the operator message has come so far.
pub async fn receipt(session: &mut Session, message: &MessageId, wanted: bus_schema::Delivery) -> InjectOutcome {
    let known = session.seen.iter().find_map(|event| match &event.news {
        News::Receipt { message_id, outcome } if message_id == message && outcome.state == wanted => Some(outcome),
        _ => None,
    });
    if let Some(known) = known {
        return known.clone();
    }
    session
        .until("the receipt", |event| match &event.news {
            News::Receipt { message_id, outcome } if message_id == message && outcome.state == wanted => {
                Some(outcome.clone())
            }
            _ => None,
        })
        .await
}

/// Role, kind and text of all messages so far, without what it wrote to its standard error.
pub fn told(session: &Session) -> Vec<(Role, String, String)> {
    let text = |event: &providers::AgentEvent| match &event.news {
        News::Message(draft) if draft.metadata.get("stream").is_none_or(|stream| stream != "stderr") => {
            Some((draft.role.clone(), draft.kind.as_str().to_owned(), draft.content.clone()))
        }
        _ => None,
    };
    session.seen.iter().filter_map(text).collect()
}

/// How often a message with exactly this text was told.
pub fn times(session: &Session, text: &str) -> usize {
    session.messages().iter().filter(|message| *message == text).count()
}

/// Makes a file whose being there an agent waits for.
pub fn touch(path: &Path) {
    std::fs::write(path, "").unwrap();
}
