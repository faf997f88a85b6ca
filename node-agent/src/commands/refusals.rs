//! Tells the hub of commands that were not obeyed, so that they stand in the audit log.
//!
//! ```text
//! refused ─► room in the rate? ─► on disk (`refusals`) ─► bus, until its stream has it ─► off the disk
//!                └─ no: the latest is held, those before it are counted, and told with it when there is room
//! ```
//!
//! Laws:
//! 1. What is to be told is on disk until the bus has it; told twice, it has the same id.
//! 2. At most [`BURST`] at once and then one every [`EVERY`], whatever somebody sends: a flood costs a number.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Client;
use async_nats::client::Request;
use async_nats::connection::State as Connection;
use bus_schema::{Command, NodeId, Operator, Refusal, RefusedCommand, Subject, WorkspaceId, cut_claim};
use providers::clock;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::metrics::Counters;
use crate::publisher::headers;

/// Refusals told at once, after a quiet time.
const BURST: u32 = 20;
/// Then one in so long.
const EVERY: Duration = Duration::from_secs(6);
/// Refusals that wait for the bus; when it is away for so long, those after them are counted.
const MAX_WAITING: usize = 64;
/// Longest wait for the bus to take one.
const TOLD_WITHIN: Duration = Duration::from_secs(5);
/// How often what is held is looked at, and pause after a failure.
const TICK: Duration = Duration::from_secs(1);

/// Refusals on their way to the hub.
pub struct Refusals {
    client: Client,
    workspace: WorkspaceId,
    node: NodeId,
    path: PathBuf,
    waiting: Mutex<Waiting>,
    news: Notify,
    counters: Arc<Counters>,
}

#[derive(Default, Serialize, Deserialize)]
struct Waiting {
    queue: VecDeque<RefusedCommand>,
    #[serde(skip)]
    held: Option<RefusedCommand>,
    #[serde(skip)]
    untold: u64,
    #[serde(skip)]
    rate: Option<Rate>,
}

/// What a command says of itself beside its payload.
#[derive(Clone, Copy, Debug, Default)]
pub struct Claims<'a> {
    /// The signer's public key.
    pub key: Option<&'a str>,
    /// The HTTP request that caused it.
    pub request_id: Option<&'a str>,
}

/// A bucket of so many, filled again one by one.
struct Rate {
    left: u32,
    since: Instant,
}

impl Rate {
    fn take(&mut self, now: Instant) -> bool {
        while self.left < BURST && now.duration_since(self.since) >= EVERY {
            self.left += 1;
            self.since += EVERY;
        }
        if self.left == BURST {
            self.since = now;
        }
        let has_room = self.left > 0;
        self.left = self.left.saturating_sub(1);
        has_room
    }
}

impl Waiting {
    fn has_room(&mut self, now: Instant) -> bool {
        self.queue.len() < MAX_WAITING && self.rate.get_or_insert(Rate { left: BURST, since: now }).take(now)
    }

    /// Takes one in; true if it is to be told now.
    fn take(&mut self, refused: RefusedCommand, now: Instant) -> bool {
        if self.held.is_none() && self.has_room(now) {
            self.queue.push_back(refused);
            return true;
        }
        if self.held.replace(refused).is_some() {
            self.untold += 1;
        }
        false
    }

    /// Lets go what is held, if there is room now.
    fn release(&mut self, now: Instant) -> bool {
        if self.held.is_none() || !self.has_room(now) {
            return false;
        }
        if let Some(held) = self.held.take() {
            let untold = std::mem::take(&mut self.untold);
            self.queue.push_back(RefusedCommand { untold, ..held });
        }
        true
    }
}

impl Refusals {
    /// Refusals of this node, with what is kept at `path` from before. What cannot be read there is left out and said
    /// so.
    pub fn open(
        client: Client,
        workspace: WorkspaceId,
        node: NodeId,
        path: &Path,
        counters: Arc<Counters>,
    ) -> Arc<Self> {
        let kept = match std::fs::read(path) {
            Ok(bytes) => rmp_serde::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::error!(%error, path = %path.display(), "refusals that were kept cannot be read");
                Waiting::default()
            }),
            Err(_) => Waiting::default(),
        };
        let (path, waiting, news) = (path.to_owned(), Mutex::new(kept), Notify::new());
        Arc::new(Self { client, workspace, node, path, waiting, news, counters })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a refusal in.
    pub fn note(&self, refusal: Refusal, claims: Claims<'_>, command: Option<&Command>) {
        let operator = command.map(|command| &command.operator);
        let refused = RefusedCommand {
            refusal_id: ulid::Ulid::new().to_string(),
            workspace: self.workspace.clone(),
            node: self.node.clone(),
            refused_at: clock::now(),
            refusal: Refusal { message: cut_claim(&refusal.message), ..refusal },
            command_id: command.map(|command| command.command_id.clone()),
            action: command.map(|command| cut_claim(command.action.as_str()).as_str().into()),
            session_id: command.and_then(|command| command.session_id.clone()),
            operator: operator.map(|o| Operator { id: o.id.clone(), name: cut_claim(&o.name) }),
            key: claims.key.map(cut_claim),
            request_id: claims.request_id.map(cut_claim),
            untold: 0,
        };
        let mut waiting = self.waiting();
        if waiting.take(refused, Instant::now()) {
            self.keep(&waiting);
            self.news.notify_one();
        } else {
            self.counters.refusals_untold.increment();
        }
    }

    fn keep(&self, waiting: &Waiting) {
        let new = self.path.with_extension("new");
        let write = || {
            let bytes = rmp_serde::to_vec_named(waiting).map_err(std::io::Error::other)?;
            std::fs::write(&new, bytes)?;
            std::fs::File::open(&new)?.sync_all()?;
            std::fs::rename(&new, &self.path)
        };
        if let Err(error) = write() {
            tracing::error!(%error, "a refusal cannot be kept; it is told if the node agent lives on");
        }
    }

    /// Tells what there is to tell, until it is cancelled.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let work = async {
            loop {
                if tokio::time::timeout(TICK, self.news.notified()).await.is_err() {
                    let mut waiting = self.waiting();
                    if waiting.release(Instant::now()) {
                        self.keep(&waiting);
                    }
                }
                while self.tell_one().await {}
            }
        };
        cancel.run_until_cancelled(work).await;
    }

    /// Tells the oldest one; false if there is none, or the bus did not take it.
    async fn tell_one(&self) -> bool {
        let first = self.waiting().queue.front().cloned();
        let Some(refused) = first else { return false };
        if self.client.connection_state() != Connection::Connected || !self.is_taken(&refused).await {
            return false;
        }
        let mut waiting = self.waiting();
        waiting.queue.retain(|other| other.refusal_id != refused.refusal_id);
        self.keep(&waiting);
        true
    }

    async fn is_taken(&self, refused: &RefusedCommand) -> bool {
        #[derive(Deserialize)]
        struct Ack {
            error: Option<serde_json::Value>,
        }
        let subject = Subject::Refusal(self.workspace.clone(), self.node.clone()).to_string();
        let Ok(payload) = bus_schema::encode(refused) else {
            tracing::error!("a refusal cannot be written");
            return true;
        };
        let headers = headers(refused.refusal_id.clone());
        // An inbox of its own: an answer that never comes then costs nothing.
        let request = Request::new().payload(payload.into()).headers(headers).inbox(self.client.new_inbox());
        match timeout(TOLD_WITHIN, self.client.send_request(subject, request)).await {
            Ok(Ok(answer)) => serde_json::from_slice::<Ack>(&answer.payload).is_ok_and(|ack| ack.error.is_none()),
            Ok(Err(_)) | Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use bus_schema::RefusalCode;

    use super::*;

    fn refused(n: u64) -> RefusedCommand {
        RefusedCommand {
            refusal_id: n.to_string(),
            workspace: WorkspaceId::new("w").unwrap(),
            node: NodeId::new("n1").unwrap(),
            refused_at: bus_schema::Timestamp::from_millis(0),
            refusal: Refusal::new(RefusalCode::BadSignature, "x"),
            command_id: None,
            action: None,
            session_id: None,
            operator: None,
            key: None,
            request_id: None,
            untold: 0,
        }
    }

    #[test]
    fn a_flood_is_told_as_a_number() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        let told = (0..1_000).filter(|n| waiting.take(refused(*n), now)).count();
        assert_eq!(told, BURST as usize);
        assert!(!waiting.release(now + EVERY / 2));
        assert!(waiting.release(now + EVERY));
        let last = waiting.queue.back().unwrap();
        assert_eq!((last.refusal_id.as_str(), last.untold), ("999", 1_000 - 1 - u64::from(BURST)));
        assert!(!waiting.release(now + EVERY * 3), "there is nothing more");
        assert!(waiting.take(refused(1_000), now + EVERY * 3));
    }

    #[test]
    fn a_bus_that_is_away_fills_the_queue_to_its_bound() {
        let (mut waiting, start) = (Waiting::default(), Instant::now());
        for n in 0..200_u32 {
            waiting.take(refused(n.into()), start + EVERY * n);
        }
        assert_eq!(waiting.queue.len(), MAX_WAITING);
        assert_eq!(waiting.untold, 200 - MAX_WAITING as u64 - 1);
        waiting.queue.clear();
        assert!(waiting.release(start + EVERY * 201));
    }
}
