//! Operator messages on their way into a container. Law 5 of the trait: once.

use std::sync::Arc;
use std::time::Duration;

use bollard::container::AttachContainerResults;
use bollard::exec::StartExecResults;
use bus_schema::{Capability, Delivery, InjectMode, MessageId, Status};
use futures::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep, timeout};

use super::engine::{EngineError, Phase};
use super::journal::Journal;
use super::labels::Way;
use super::session::{Session, note};
use crate::profile::Protocol;
use crate::provider::{InjectOutcome, OperatorMessage, ProviderError};
use crate::pty::entry::lock;
use crate::pty::holder::{json_line, sanitised};
use crate::pty::record::{Injecting, Note};

/// How long a message may wait for those before it.
const TURN_WITHIN: Duration = Duration::from_secs(10);
/// How long a message waits for a paused container to be resumed: the engine attaches to none that is. The caller comes
/// again later.
const RESUMED_WITHIN: Duration = Duration::from_secs(5);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long the agent's input may take to have room. Afterwards nobody can say how much of the message is in it.
const TAKEN_WITHIN: Duration = Duration::from_secs(5);
/// How long a command that hands a message over may run.
const COMMAND_WITHIN: Duration = Duration::from_secs(20);
/// How much of what such a command says is told.
const MAX_SAID_BYTES: usize = 2048;
/// A terminal takes no longer lines (`N_TTY_BUF_SIZE`).
const MAX_TERMINAL_LINE: usize = 4095;

/// Nothing of the message was handed over.
#[derive(Debug)]
struct NotGiven(EngineError);

/// Hands a message over, unless that was done before.
pub(crate) async fn hand_over(
    session: &Arc<Session>,
    message: OperatorMessage,
) -> Result<InjectOutcome, ProviderError> {
    let until = Instant::now() + RESUMED_WITHIN;
    loop {
        let Ok(turn) = timeout(TURN_WITHIN, session.acting.lock()).await else {
            let doing = "waiting for the messages before it".into();
            return Err(ProviderError::Deadline { doing, seconds: TURN_WITHIN.as_secs() });
        };
        if let Some(known) = lock(&session.journal).outcome(&message.message_id) {
            return Ok(known);
        }
        let container = session.must(Capability::Inject)?;
        let now = session.engine.inspect(&container).await?;
        match now.map_or(Phase::Ended, |now| now.phase) {
            Phase::Running => return give(session, &container, message).await,
            Phase::Paused => {}
            Phase::Created | Phase::Restarting => {
                let reason = "its container does not run yet".into();
                return Err(ProviderError::WrongState { status: Status::Spawning, reason });
            }
            Phase::Ended => {
                let reason = "its container does not run".into();
                return Err(ProviderError::WrongState { status: session.info().status, reason });
            }
        }
        if Instant::now() >= until {
            let what = "the container is paused: the message can be handed over once it is resumed".into();
            return Err(ProviderError::Unavailable { what, source: None });
        }
        // Whoever resumes it needs the turn.
        drop(turn);
        sleep(LOOK_AGAIN).await;
    }
}

/// Hands a message over to a container that runs.
async fn give(
    session: &Arc<Session>,
    container: &str,
    message: OperatorMessage,
) -> Result<InjectOutcome, ProviderError> {
    let card = session.card();
    let OperatorMessage { message_id, operator, content, mode } = message;
    let injecting = Injecting { message_id: message_id.clone(), operator, content, mode };
    let text = match card.facts.protocol {
        Protocol::Jsonl => json_line(&injecting),
        Protocol::Lines | Protocol::Acp | Protocol::Terminal => {
            format!("{}\n", sanitised(&injecting.content)).into_bytes()
        }
    };
    if card.facts.tty && text.split(|byte| *byte == b'\n').any(|line| line.len() > MAX_TERMINAL_LINE) {
        let reason = format!("its terminal takes lines of at most {MAX_TERMINAL_LINE} bytes");
        return Ok(InjectOutcome { state: Delivery::Refused, mode: None, reason: Some(reason) });
    }
    write_down(session, &message_id, Journal::begin).await?;
    append(session, &Note::Injecting(injecting)).await?;
    let given = match &card.facts.way {
        Way::Stdin => to_stdin(session, container, &text, card.facts.tty).await,
        Way::Exec(argv) => to_command(session, container, argv.clone(), &text).await,
        Way::None(_) => Ok(outcome(Delivery::Refused, Some("it takes no messages".into()))),
    };
    match given {
        Ok(outcome) => {
            let kept = outcome.clone();
            write_down(session, &message_id, |journal, id| journal.done(id, kept)).await?;
            append(session, &Note::Injected { message_id, outcome: outcome.clone() }).await?;
            Ok(outcome)
        }
        Err(NotGiven(error)) => {
            write_down(session, &message_id, Journal::withdraw).await?;
            Err(error.into())
        }
    }
}

fn outcome(state: Delivery, reason: Option<String>) -> InjectOutcome {
    // A container takes what it is given when it likes: that is a queue, whatever was asked.
    InjectOutcome { state, mode: Some(InjectMode::Queue), reason }
}

async fn write_down(
    session: &Arc<Session>,
    message: &MessageId,
    write: impl FnOnce(&mut Journal, &MessageId) -> std::io::Result<()> + Send + 'static,
) -> Result<(), ProviderError> {
    let (journal, message) = (Arc::clone(&session.journal), message.clone());
    let written = tokio::task::spawn_blocking(move || write(&mut lock(&journal), &message)).await;
    written.unwrap_or(Ok(())).map_err(|error| ProviderError::Failed {
        doing: "writing down that a message is handed over".into(),
        source: Some(Box::new(error)),
    })
}

async fn append(session: &Session, told: &Note) -> Result<(), ProviderError> {
    session.record.append(vec![note(told)]).await.map(|_| ()).map_err(|error| ProviderError::Failed {
        doing: "writing the session's log".into(),
        source: Some(Box::new(error)),
    })
}

/// Writes to the container's standard input. The engine closes the connection once it has written all of it there
/// (measured with Engine 20.10), which is the proof that the message is in.
async fn to_stdin(session: &Session, id: &str, text: &[u8], tty: bool) -> Result<InjectOutcome, NotGiven> {
    // A terminal's Enter.
    let enter = |byte: &u8| if tty && *byte == b'\n' { b'\r' } else { *byte };
    write_in(session, id, &text.iter().map(enter).collect::<Vec<_>>()).await
}

/// Types keys into a container's terminal.
pub(crate) async fn type_in(session: &Session, id: &str, keys: &[u8]) -> Result<(), ProviderError> {
    let Ok(_turn) = timeout(TURN_WITHIN, session.acting.lock()).await else {
        let doing = "waiting for what is typed before".into();
        return Err(ProviderError::Deadline { doing, seconds: TURN_WITHIN.as_secs() });
    };
    let outcome = write_in(session, id, keys).await.map_err(|NotGiven(error)| error)?;
    match outcome.reason {
        None => Ok(()),
        Some(reason) => Err(ProviderError::Failed { doing: format!("typing: {reason}"), source: None }),
    }
}

async fn write_in(session: &Session, id: &str, text: &[u8]) -> Result<InjectOutcome, NotGiven> {
    let AttachContainerResults { mut output, mut input } = session.engine.attach(id).await.map_err(NotGiven)?;
    let give = async {
        input.write_all(text).await?;
        input.shutdown().await
    };
    match timeout(TAKEN_WITHIN, give).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Ok(outcome(Delivery::NotKnown, Some(format!("its input broke: {error}")))),
        Err(_) => return Ok(outcome(Delivery::NotKnown, Some("it does not read its input".into()))),
    }
    let closed = async { while output.next().await.is_some() {} };
    match timeout(TAKEN_WITHIN, closed).await {
        Ok(()) => Ok(outcome(Delivery::Written, None)),
        Err(_) => Ok(outcome(Delivery::NotKnown, Some("it does not read its input".into()))),
    }
}

/// Gives the message to a command within the container, on its standard input.
async fn to_command(session: &Session, id: &str, argv: Vec<String>, text: &[u8]) -> Result<InjectOutcome, NotGiven> {
    let program = argv.first().cloned().unwrap_or_default();
    let exec = session.engine.exec(id, argv).await.map_err(NotGiven)?;
    let (mut output, mut input) = match session.engine.start_exec(&exec).await {
        Ok(StartExecResults::Attached { output, input }) => (output, input),
        Ok(StartExecResults::Detached) => {
            return Ok(outcome(Delivery::NotKnown, Some("it could not be followed".into())));
        }
        // A program that is not there: the engine says so here, and nothing ran.
        Err(EngineError::Refused { message, .. }) => return Ok(outcome(Delivery::Refused, Some(message))),
        Err(error) => return Ok(outcome(Delivery::NotKnown, Some(error.to_string()))),
    };
    let work = async {
        // A command that does not read all of it has its reason, and says so by its exit code.
        let _ = input.write_all(text).await;
        let _ = input.shutdown().await;
        let mut said: Vec<u8> = vec![];
        while let Some(Ok(piece)) = output.next().await {
            let room = MAX_SAID_BYTES.saturating_sub(said.len());
            said.extend(piece.into_bytes().iter().take(room));
        }
        String::from_utf8_lossy(&said).trim().to_owned()
    };
    let Ok(said) = timeout(COMMAND_WITHIN, work).await else {
        let reason = format!("{program} did not end within {} s", COMMAND_WITHIN.as_secs());
        return Ok(outcome(Delivery::NotKnown, Some(reason)));
    };
    match session.engine.exec_code(&exec).await {
        Ok(Some(0)) => Ok(outcome(Delivery::Written, None)),
        Ok(Some(code)) => {
            let said = if said.is_empty() { String::new() } else { format!(": {said}") };
            Ok(outcome(Delivery::Refused, Some(format!("{program} ended with code {code}{said}"))))
        }
        Ok(None) => Ok(outcome(Delivery::NotKnown, Some(format!("nobody saw how {program} ended")))),
        Err(error) => Ok(outcome(Delivery::NotKnown, Some(error.to_string()))),
    }
}
