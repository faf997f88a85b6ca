//! Commands of the hub: a service on the bus that checks each, has it carried out once, and always answers.
//!
//! Laws:
//! 1. Nothing is done that is not verified ([`verify`]), and nothing without somebody to answer to. What is refused
//!    for that is told to the hub ([`refusals`]).
//! 2. The same bytes are obeyed once: a second time they are a replay, and refused.
//! 3. The same command id is carried out once: a repeat, written and signed anew, gets the same answer, and one that
//!    comes while the first is under way waits for it ([`done`]).
//! 4. One slow command holds up no other: each is a task of its own, and sessions have their own queues.

pub mod done;
pub mod refusals;
pub mod trust;
pub mod verify;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Client;
use async_nats::service::{Request, ServiceExt};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bus_schema::{
    Command, CommandId, CommandReply, NODE_SERVICE, NodeId, Outcome, Refusal, RefusalCode, Timestamp, Verb,
    WorkspaceId, header, signed_bytes,
};
use bytes::Bytes;
use futures::StreamExt;
use providers::clock;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::done::{DoneLog, Seen};
use self::refusals::{Claims, Refusals};
use self::trust::Trust;
use self::verify::{Rejected, Signed, Verifier, keep_until};
use crate::metrics::Counters;
use crate::publisher::{chain as chain_of, plain_headers};
use crate::sessions::Sessions;
use crate::settings::Settings;

/// Commands under way at once. Each waits for a provider or a disk, and holds little.
const MAX_RUNNING: usize = 256;
/// Longest time for one command, whatever it is: longer than every call it may make.
const DEADLINE: Duration = Duration::from_secs(100);
/// Longest time to hand an answer to the client: it waits only while it is not connected.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long commands under way may go on when the node agent leaves.
const LEAVE_GRACE: Duration = Duration::from_secs(4);

/// What the service works with; it can be started again from it.
#[derive(Clone)]
pub struct Commands {
    client: Client,
    node: NodeId,
    workspace: WorkspaceId,
    verifier: Arc<Verifier>,
    trust: Arc<Trust>,
    refusals: Arc<Refusals>,
    sessions: Sessions,
    settings: Arc<Settings>,
    counters: Arc<Counters>,
    memory: Arc<Mutex<Memory>>,
}

struct Memory {
    /// By the hash of their bytes.
    heard: DoneLog,
    done: DoneLog,
    /// Commands under way, for repeats of them.
    running: HashMap<CommandId, watch::Receiver<Option<Bytes>>>,
}

/// The service cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum CommandsError {
    /// The log of commands cannot be read.
    #[error("opening {path:?}")]
    Log {
        /// The log.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The bus does not take the service.
    #[error("{doing}: {problem}")]
    Service {
        /// What we were doing.
        doing: &'static str,
        /// What the client says.
        problem: String,
    },
    /// The client has ended.
    #[error("the client of the bus has ended")]
    Closed,
}

impl Commands {
    /// A service for these sessions that obeys these keys, and remembers its commands in the folder `dir`.
    ///
    /// # Errors
    /// [`CommandsError::Log`].
    pub fn new(
        client: Client,
        sessions: Sessions,
        settings: Arc<Settings>,
        trust: Arc<Trust>,
        refusals: Arc<Refusals>,
        dir: &Path,
        counters: Arc<Counters>,
    ) -> Result<Self, CommandsError> {
        let open = |name: &str| {
            let path = dir.join(name);
            DoneLog::open(&path, clock::now()).map_err(|source| CommandsError::Log { path, source })
        };
        let (heard, done) = (open("heard-commands.log")?, open("done-commands.log")?);
        let (workspace, node) = (sessions.rules().workspace.clone(), sessions.rules().node.clone());
        let verifier = Arc::new(Verifier::new(workspace.clone(), node.clone()));
        let memory = Arc::new(Mutex::new(Memory { heard, done, running: HashMap::new() }));
        Ok(Self { client, node, workspace, verifier, trust, refusals, sessions, settings, counters, memory })
    }

    /// Serves until it is cancelled, then lets the commands under way end.
    ///
    /// # Errors
    /// [`CommandsError`]; it can be started again.
    pub async fn run(self, cancel: CancellationToken) -> Result<(), CommandsError> {
        let failed =
            |doing| move |error: async_nats::Error| CommandsError::Service { doing, problem: error.to_string() };
        let metadata = HashMap::from([
            ("node".to_owned(), self.node.to_string()),
            ("workspace".to_owned(), self.workspace.to_string()),
        ]);
        let service = self
            .client
            .service_builder()
            .description("node agent of Mosaic Mesh")
            .metadata(metadata)
            .queue_group(&self.node)
            .start(NODE_SERVICE, env!("CARGO_PKG_VERSION"))
            .await
            .map_err(failed("starting the service"))?;
        let endpoint = service.endpoint_builder().name("command").add(self.verifier.subject()).await;
        let mut endpoint = endpoint.map_err(failed("subscribing to commands"))?;

        let mut running = JoinSet::new();
        let result = loop {
            tokio::select! {
                () = cancel.cancelled() => break Ok(()),
                request = endpoint.next() => match request {
                    Some(request) => self.arrived(request, &mut running).await,
                    None => break Err(CommandsError::Closed),
                },
                Some(_) = running.join_next() => {}
            }
        };
        // No new ones; those under way are answered if they end soon.
        let _ = endpoint.stop().await;
        let rest = async { while running.join_next().await.is_some() {} };
        if tokio::time::timeout(LEAVE_GRACE, rest).await.is_err() {
            tracing::warn!(running = running.len(), "commands under way are left behind");
        }
        running.shutdown().await;
        let _ = service.stop().await;
        result
    }

    async fn arrived(&self, request: Request, running: &mut JoinSet<()>) {
        self.counters.commands.increment();
        if request.message.reply.is_none() {
            self.counters.commands_refused.increment();
            tracing::warn!("a command without a place for the answer was not carried out");
            let refusal = Refusal::new(RefusalCode::Invalid, "it names no place for the answer");
            self.refusals.note(refusal, Claims::default(), None);
            return;
        }
        if running.len() >= MAX_RUNNING {
            let refusal = Refusal::new(RefusalCode::Busy, "the node has too many commands under way; try again");
            self.refuse(&request, None, refusal).await;
            return;
        }
        let commands = self.clone();
        running.spawn(async move { commands.handle(request).await });
    }

    async fn handle(&self, request: Request) {
        let text = |name: &str| {
            request
                .message
                .headers
                .as_ref()
                .and_then(|headers| headers.get(name))
                .map(|value| value.as_str().to_owned())
        };
        let (key, signature) = (text(header::KEY), text(header::SIGNATURE));
        let (schema, request_id) = (text(header::SCHEMA), text(header::REQUEST_ID));
        let signed = Signed { key: key.as_deref(), signature: signature.as_deref(), schema: schema.as_deref() };
        let now = clock::now();
        if let Some(chain) = text(header::KEY_CHAIN) {
            match self.trust.learn(&chain, now) {
                Ok(true) => tracing::info!(keys = ?self.trust.keys(now), "a command key took another's place"),
                Ok(false) => {}
                // The command is then refused for its key, unless that counts anyway.
                Err(error) => tracing::warn!(error = %chain_of(&error), "no key was learned"),
            }
        }
        let payload = &request.message.payload;
        let verified = self.verifier.verify(&self.trust, signed, payload, now);
        let verified = verified.and_then(|command| match self.hear(&command, payload, now) {
            Ok(()) => Ok(command),
            Err(refusal) => Err(Rejected { command: Some(Box::new(command)), refusal }),
        });
        let command = match verified {
            Ok(command) => command,
            Err(Rejected { command, refusal }) => {
                tracing::warn!(request_id, code = %refusal.code, reason = %refusal, "command refused");
                if refusal.code != RefusalCode::Busy {
                    let claims = Claims { key: key.as_deref(), request_id: request_id.as_deref() };
                    self.refusals.note(refusal.clone(), claims, command.as_deref());
                }
                self.refuse(&request, command.map(|command| command.command_id), refusal).await;
                return;
            }
        };
        let (id, action) = (command.command_id.clone(), command.action.clone());
        let (session, operator) = (command.session_id.clone(), command.operator.id.clone());
        let reply = self.carry_out(command).await;
        tracing::info!(
            command_id = %id, action = %action, session_id = session.as_ref().map(|id| id.as_str()),
            operator = %operator, request_id, bytes = reply.len(), "command answered"
        );
        self.respond(&request, reply).await;
    }

    /// Notes the very bytes of a command, which must not come again as long as they would be obeyed.
    fn hear(&self, command: &Command, payload: &[u8], now: Timestamp) -> Result<(), Refusal> {
        let digest = Sha256::digest(signed_bytes(&self.verifier.subject(), payload));
        let id = CommandId::new(URL_SAFE_NO_PAD.encode(digest));
        let id = id.map_err(|error| Refusal::new(RefusalCode::Invalid, error.to_string()))?;
        match self.memory().heard.begin(&id, keep_until(command), now) {
            Ok(Seen::Never) => Ok(()),
            Ok(Seen::Begun | Seen::Answered(_)) => {
                let text = "this command was here before, to the letter: it is a replay, and was not carried out";
                Err(Refusal::new(RefusalCode::Replayed, text))
            }
            Ok(Seen::Full) => {
                Err(Refusal::new(RefusalCode::Busy, "the node remembers too many commands; try again in a minute"))
            }
            Err(error) => {
                let text = format!("the node cannot note the command, and so does not carry it out: {error}");
                Err(Refusal::new(RefusalCode::Busy, text))
            }
        }
    }

    /// Carries a verified command out, unless that was done before. Gives the encoded answer.
    async fn carry_out(&self, command: Command) -> Bytes {
        let (id, by, until) = (command.command_id.clone(), command.operator.clone(), keep_until(&command));
        let verb = match command.verb() {
            Ok(verb) => verb,
            Err(refusal) => {
                self.counters.commands_refused.increment();
                return encode(CommandReply::refused(Some(id), refusal));
            }
        };
        if verb == Verb::Trust {
            return encode(CommandReply::with(Some(id), Outcome::Done));
        }
        // What changes nothing need not be remembered, and is asked anew each time.
        if matches!(verb, Verb::TerminalSnapshot(_) | Verb::DeliveryState(..) | Verb::TestConnection(_)) {
            return encode(CommandReply { command_id: Some(id), ..self.perform(verb, by).await });
        }
        let (answered, done) = match self.begin(&id, until, &verb) {
            Begun::New(answered) => (answered, None),
            Begun::Answer(reply) => (watch::Sender::new(None), Some(reply)),
            Begun::Wait(mut running) => {
                self.counters.commands_repeated.increment();
                let waited = running.wait_for(Option::is_some).await.ok().and_then(|reply| reply.clone());
                let lost =
                    || failed(&id, RefusalCode::ProviderFailed, "the command was broken off; ask for the session");
                return waited.unwrap_or_else(lost);
            }
        };
        if let Some(reply) = done {
            return reply;
        }
        let reply = self.perform(verb, by).await;
        let is_refused = reply.outcome == Outcome::Refused;
        let reply = encode(CommandReply { command_id: Some(id.clone()), ..reply });
        let mut memory = self.memory();
        memory.running.remove(&id);
        if is_refused {
            // Nothing was done; asked again, it may go better.
            self.counters.commands_refused.increment();
            memory.done.forget(&id);
        } else if let Err(error) = memory.done.answered(&id, reply.clone()) {
            tracing::error!(error = %error, "the answer to a command cannot be noted");
        }
        drop(memory);
        answered.send_replace(Some(reply.clone()));
        reply
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks a command up in memory and on disk, and notes it if it is new.
    fn begin(&self, id: &CommandId, until: bus_schema::Timestamp, verb: &Verb) -> Begun {
        let mut memory = self.memory();
        if let Some(running) = memory.running.get(id) {
            return Begun::Wait(running.clone());
        }
        match memory.done.begin(id, until, clock::now()) {
            Ok(Seen::Answered(reply)) => {
                self.counters.commands_repeated.increment();
                return Begun::Answer(reply);
            }
            // Typing is the one thing that must not be done again on a guess. All else finds out what is done already.
            Ok(Seen::Begun) if matches!(verb, Verb::Input(..)) => {
                let text = "the node agent was restarted while it typed this; nobody knows whether it arrived";
                return Begun::Answer(failed(id, RefusalCode::ProviderFailed, text));
            }
            Ok(Seen::Never | Seen::Begun) => {}
            Ok(Seen::Full) => {
                let text = "the node remembers too many commands; try again in some minutes";
                return Begun::Answer(encode(CommandReply::refused(
                    Some(id.clone()),
                    Refusal::new(RefusalCode::Busy, text),
                )));
            }
            Err(error) => {
                tracing::error!(error = %error, "a command cannot be noted and is not carried out");
                let text = format!("the node cannot write to its disk: {error}");
                return Begun::Answer(failed(id, RefusalCode::ProviderFailed, &text));
            }
        }
        let answered = watch::Sender::new(None);
        memory.running.insert(id.clone(), answered.subscribe());
        Begun::New(answered)
    }

    /// Has it done by the session's task.
    async fn perform(&self, verb: Verb, by: bus_schema::Operator) -> CommandReply {
        let asked = async {
            match verb {
                Verb::Configure(sealed) => Ok(self.settings.configure(&sealed).await),
                Verb::TestConnection(sealed) => Ok(self.settings.test(&sealed).await),
                verb => self.sessions.ask(verb, by).await.await,
            }
        };
        let (code, text) = match tokio::time::timeout(DEADLINE, asked).await {
            Ok(Ok(reply)) => return reply,
            Ok(Err(_)) => {
                (RefusalCode::ProviderFailed, "the session's task ended before it answered; ask for the session")
            }
            Err(_) => (RefusalCode::Deadline, "the command took too long; it may still be carried out"),
        };
        let refusal = Some(Refusal::new(code, text));
        CommandReply { refusal, ..CommandReply::with(None, Outcome::Failed) }
    }

    async fn refuse(&self, request: &Request, id: Option<CommandId>, refusal: Refusal) {
        self.counters.commands_refused.increment();
        self.respond(request, encode(CommandReply::refused(id, refusal))).await;
    }

    async fn respond(&self, request: &Request, reply: Bytes) {
        let sending = request.respond_with_headers(Ok(reply), plain_headers());
        match tokio::time::timeout(ANSWER_WITHIN, sending).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error = %chain_of(&error), "an answer could not be sent"),
            Err(_) => tracing::warn!("an answer could not be sent: the bus is away"),
        }
    }
}

enum Begun {
    New(watch::Sender<Option<Bytes>>),
    Answer(Bytes),
    Wait(watch::Receiver<Option<Bytes>>),
}

fn failed(id: &CommandId, code: RefusalCode, text: &str) -> Bytes {
    let refusal = Some(Refusal::new(code, text));
    encode(CommandReply { refusal, ..CommandReply::with(Some(id.clone()), Outcome::Failed) })
}

/// The answer as a payload. One that is too large is answered by saying so.
fn encode(reply: CommandReply) -> Bytes {
    let id = reply.command_id.clone();
    let text = match bus_schema::encode(&reply) {
        Ok(payload) => return payload.into(),
        Err(error) => error.to_string(),
    };
    let refusal = Some(Refusal::new(RefusalCode::TooLarge, text));
    let reply = CommandReply { refusal, ..CommandReply::with(id, Outcome::Failed) };
    bus_schema::encode(&reply).unwrap_or_default().into()
}
