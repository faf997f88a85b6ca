//! Starting a session: what is to be started is written down, then a holder is started for it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use super::entry::Entry;
use super::environment::environment;
use super::files::{DEFAULT_SIZE, FileError, SCHEMA, SessionDir, Spec};
use super::holder::Ready;
use super::hook::claude;
use super::kind;
use super::opencode;
use super::provider::PtyProvider;
use super::socket;
use crate::clock;
use crate::profile::Protocol;
use crate::provider::{ProviderError, SpawnRequest};

/// How long a holder may take to begin. It is a small process, but the machine may be busy.
const START_WITHIN: Duration = Duration::from_secs(20);
impl PtyProvider {
    /// Starts the holder of a session, and waits until it holds it.
    pub(super) async fn start_holder(&self, entry: &Entry, request: &SpawnRequest) -> Result<(), ProviderError> {
        let failed = |what: &'static str| {
            move |error: std::io::Error| ProviderError::Failed { doing: what.into(), source: Some(Box::new(error)) }
        };
        let Some((program, arguments)) = self.config.program.split_first() else {
            return Err(ProviderError::Invalid("no program is configured that could hold a session".into()));
        };
        let file_failed = |error: FileError| ProviderError::Failed {
            doing: "writing down what is to be started".into(),
            source: Some(Box::new(error)),
        };
        entry.dir.create().map_err(file_failed)?;
        entry.dir.write_spec(&entry.spec).map_err(file_failed)?;
        if entry.spec.api_port.is_none() && entry.spec.command != request.profile.command {
            let settings = claude::settings(&self.config.program).to_string();
            std::fs::write(entry.dir.hooks(), settings).map_err(failed("writing the session's hooks"))?;
        }
        let errors = std::fs::File::create(entry.dir.holder_errors()).map_err(failed("opening the holder's errors"))?;
        let mut command = Command::new(program);
        command.args(arguments).arg("holder").arg(entry.dir.path());
        // Nothing of ours is the session's business; what is, goes through the pipe.
        command.env_clear().current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        let mut child = command.spawn().map_err(failed("starting the session's holder"))?;
        let mut environment = environment(std::env::vars_os(), &request.profile.env, &request.env, &entry.spec);
        if entry.spec.api_port.is_some() {
            opencode::guard(&mut environment).map_err(failed("making a password for the agent's API"))?;
        }
        let ready = tokio::time::timeout(START_WITHIN, hand_over(&mut child, super::record::pack(&environment))).await;
        let result = match ready {
            Ok(Ok(Ready::Holding)) => Ok(()),
            Ok(Ok(Ready::Failed(reason))) => {
                Err(ProviderError::Failed { doing: format!("starting the session: {reason}"), source: None })
            }
            Ok(Err(error)) => Err(failed("starting the session's holder")(error)),
            Err(_) => {
                // It may have started something; the recovery below finds that.
                let _ = child.start_kill();
                let seconds = START_WITHIN.as_secs();
                Err(ProviderError::Deadline { doing: "starting the session's holder".into(), seconds })
            }
        };
        let stop = self.stop.clone();
        // It is collected when it ends. If we end first, it is somebody else's child.
        self.tasks.spawn(async move {
            stop.run_until_cancelled(child.wait()).await;
        });
        result
    }

    /// What is to be started.
    pub(super) fn spec(&self, request: &SpawnRequest, dir: &Path) -> Result<Spec, ProviderError> {
        let profile = &request.profile;
        if profile.provider != self.name.as_str() {
            let text = format!("profile {} is for provider {}, not for {}", profile.name, profile.provider, self.name);
            return Err(ProviderError::Invalid(text));
        }
        if let Some(problem) = profile.problems().first() {
            return Err(ProviderError::Invalid(problem.to_string()));
        }
        request.check()?;
        let agent_socket = socket::agent_socket(dir, &request.session_id).map_err(|error| ProviderError::Failed {
            doing: "choosing a place for the session's socket".into(),
            source: Some(Box::new(error)),
        })?;
        let is_open = profile.protocol == Protocol::Terminal && opencode::is_ours(&profile.command);
        let api_port = is_open.then(opencode::free_port).flatten();
        let command = match profile.protocol {
            Protocol::Terminal if let Some(port) = api_port => opencode::with_api(&profile.command, port),
            Protocol::Terminal if claude::is_ours(&profile.command, profile.agent_type.as_deref()) => {
                claude::with_hooks(&profile.command, &SessionDir::new(dir).hooks(), &request.session_id)
            }
            Protocol::Terminal | Protocol::Lines | Protocol::Jsonl | Protocol::Acp => profile.command.clone(),
        };
        Ok(Spec {
            schema: SCHEMA,
            session_id: request.session_id.clone(),
            parent_session_id: request.parent_session_id.clone(),
            profile: profile.name.clone(),
            command,
            conversation: request.conversation.clone(),
            cwd: profile.cwd.clone().or_else(|| request.default_cwd.clone()).or_else(|| std::env::current_dir().ok()),
            protocol: profile.protocol,
            size: profile.size.unwrap_or(DEFAULT_SIZE),
            stop: profile.stop.clone(),
            title: request.title.clone().or_else(|| profile.title.clone()),
            // What is known of its files and keys goes by its kind.
            agent_type: profile.agent_type.clone().or_else(|| kind::by_name(&profile.command).map(str::to_owned)),
            spawned_at: clock::now_micros(),
            containment: self.config.containment,
            limits: self.config.limits,
            agent_socket,
            api_port,
        })
    }
}

/// Gives the holder the session's environment, and waits for its word.
async fn hand_over(child: &mut Child, environment: Vec<u8>) -> std::io::Result<Ready> {
    let gone = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
    let (mut stdin, stdout) = child.stdin.take().zip(child.stdout.take()).ok_or_else(gone)?;
    stdin.write_all(&environment).await?;
    drop(stdin);
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).await?;
    if line.is_empty() {
        return Ok(Ready::Failed("the holder ended without a word; see holder.err in the session's directory".into()));
    }
    Ok(serde_json::from_str(&line)?)
}
