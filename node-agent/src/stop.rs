//! Ends all sessions that this node has started: for a developer's stack that is put away, not for upgrades.
//!
//! Laws:
//! 1. It works with a node agent beside it and without one: the runtimes are asked, not the node agent.
//! 2. Every end has a recorded intent, so the sessions end as `killed` and not as failed.
//! 3. It returns when they are gone, with their holders, or says which are not.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bus_schema::{Operator, ProviderName, SessionId, Status, UserId};
use providers::{AgentProvider, ProviderError, SessionInfo};
use tokio::time::Instant;

use crate::node_file;
use crate::publisher::chain;
use crate::runtimes::{Docker, Runtimes, RuntimesError};
use crate::session::ops::{ACT_DEADLINE, ASK_DEADLINE, within};

/// How long sessions may take to end when they are asked to; then they are killed.
const ASKED_WITHIN: Duration = Duration::from_secs(15);
/// Between two looks whether a session has ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Sessions could not be ended.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// The runtimes cannot be set up.
    #[error(transparent)]
    Runtimes(#[from] RuntimesError),
    /// A name is none.
    #[error(transparent)]
    Name(#[from] bus_schema::IdError),
    /// Some live on.
    #[error("not ended: {}", .0.join("; "))]
    Left(Vec<String>),
}

/// Ends all sessions of the data folder. Gives their number.
///
/// # Errors
/// [`StopError`].
pub async fn stop_sessions(data_dir: &Path, has_echo: bool, docker: &Docker) -> Result<usize, StopError> {
    // Echo agents live within a running node agent, and end with its sessions' folder otherwise.
    let is_beside = node_file::is_in_use(data_dir);
    let docker = Docker { is_beside, ..docker.clone() };
    // Sessions of gateways are not this node's: they go on where they are. Gateways that it holds itself are ended.
    let runtimes = Runtimes::start(data_dir, has_echo && !is_beside, &docker, None).await?;
    let by = Operator { id: UserId::new("node-host")?, name: "the node's host".into() };
    let all = runtimes.registry.sessions().await;
    let mut left: Vec<String> =
        all.failures.iter().map(|(name, error)| format!("sessions of {name}: {}", chain(error))).collect();
    let ours = |(_, info): &(ProviderName, SessionInfo)| info.profile.is_some() && !info.status.is_terminal();
    let ends = all.sessions.into_iter().filter(ours).filter_map(|(name, info)| {
        let provider = runtimes.registry.get(name.as_str())?;
        let by = by.clone();
        Some(async move { end(provider, info.session_id, &by).await })
    });
    let ended = futures::future::join_all(ends).await;
    let count = ended.len();
    left.extend(ended.into_iter().filter_map(Result::err));
    if let Err(error) = runtimes.dismiss_ended().await {
        left.push(chain(&error));
    }
    runtimes.shutdown().await;
    if left.is_empty() { Ok(count) } else { Err(StopError::Left(left)) }
}

/// Asks a session to end, and kills it if it does not.
async fn end(provider: Arc<dyn AgentProvider>, id: SessionId, by: &Operator) -> Result<(), String> {
    match within(ACT_DEADLINE, "asking a session to end", provider.terminate(&id, by)).await {
        Ok(()) => {}
        Err(ProviderError::WrongState { status, .. }) if status.is_terminal() => return Ok(()),
        Err(error) => tracing::warn!(session_id = %id, error = %chain(&error), "the session cannot be asked to end"),
    }
    if ended_within(&*provider, &id, ASKED_WITHIN).await {
        return Ok(());
    }
    match within(ACT_DEADLINE, "killing a session", provider.kill(&id, by)).await {
        Ok(report) if report.survivors.is_empty() => {}
        Ok(report) => return Err(format!("{id}: {} processes survived the kill", report.survivors.len())),
        Err(ProviderError::WrongState { status, .. }) if status.is_terminal() => return Ok(()),
        Err(error) => return Err(format!("{id}: {}", chain(&error))),
    }
    if ended_within(&*provider, &id, ASKED_WITHIN).await { Ok(()) } else { Err(format!("{id}: still there")) }
}

async fn ended_within(provider: &dyn AgentProvider, id: &SessionId, limit: Duration) -> bool {
    let until = Instant::now() + limit;
    loop {
        match within(ASK_DEADLINE, "looking at a session", provider.session(id)).await {
            Ok(info) if info.status.is_terminal() => return true,
            Err(ProviderError::UnknownSession(_)) => return true,
            Ok(SessionInfo { status: Status::Unknown(_), .. }) | Ok(_) | Err(_) if Instant::now() >= until => {
                return false;
            }
            Ok(_) | Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}
