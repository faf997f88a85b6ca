//! One session: its task, which alone changes it.
//!
//! ```text
//!   provider ── events ──► ┌──────┐ ── records ──► outbox ──► publisher
//!            ◄── calls ─── │ Task │ ── deltas, terminal ────► publisher
//!   commands ── asks ────► └──────┘ ── answers ──► commands
//! ```
//!
//! Laws:
//! 1. What the provider tells is on disk, with its position, before it is published, and acknowledged to the provider
//!    only after that. A task that is started again goes on behind the last record.
//! 2. A full outbox makes the task stop reading while the bus takes records, which slows this agent and no other;
//!    while the bus is away, messages are dropped and told by one gap.
//! 3. Calls to the provider never hold up the events: each is a future of its own ([`ops`]). Pause, resume and terminate
//!    go one after the other, so do messages handed over and so does typing; a kill goes past all of them.
//! 4. Every ask is answered.

mod asks;
mod attach;
mod hand_over;
pub mod ops;
pub mod recover;
pub mod state;
mod write;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bus_schema::{CommandReply, MessageId, Operator, Outcome, Session, SessionId, Spawn, Verb};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use providers::{AgentEvent, AgentProvider, Child, News, Position, SpawnRequest, clock};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::asks::Controls;
use self::attach::{Attach, Feed};
use self::hand_over::HandOver;
use self::ops::{ASK_DEADLINE, Done, Op, ReplyTo, answer, within};
use self::state::{Effect, State};
use self::write::Unwritten;
use crate::metrics::Counters;
use crate::outbox::{Files, Meter, Outbox};
use crate::publisher::{Live, Outgoing, Outlet};

/// Events taken from the provider at once: they are written together.
const BATCH: usize = 64;
/// Commands for one session that wait to be looked at; beyond that the hub is told that it is busy.
pub const ASK_QUEUE: usize = 32;
/// The provider is told what it may forget at most so often …
const ACKNOWLEDGE_EVERY: Duration = Duration::from_secs(1);
/// … but after so many events at the latest: some keep only a few thousand.
const ACKNOWLEDGE_EVENTS: u64 = 1_000;
/// How long running calls may go on when the session is over or the node agent leaves.
const LEAVE_GRACE: Duration = Duration::from_secs(3);

/// What every session's task works with.
pub struct Context {
    /// To the publisher.
    pub outgoing: Arc<Outgoing>,
    /// Bytes of all outboxes.
    pub meter: Arc<Meter>,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// Sessions that other sessions started, to be looked after. The sender waits.
    pub children: mpsc::Sender<Born>,
    /// Bytes of terminal output published per second and session.
    pub terminal_rate: u64,
}

/// A session that another one started.
#[derive(Clone, Debug)]
pub struct Born {
    /// Who started it.
    pub parent: SessionId,
    /// In which runtime.
    pub provider: bus_schema::ProviderName,
    /// What is known of it.
    pub child: Child,
}

/// A command for one session.
pub struct Ask {
    /// What is wanted.
    pub verb: Verb,
    /// By whom.
    pub by: Operator,
    /// Where the answer goes.
    pub reply: ReplyTo,
}

/// The task cannot go on. Started again, it goes on from what is on disk.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The outbox failed.
    #[error(transparent)]
    Outbox(#[from] crate::outbox::OutboxError),
    /// Something cannot be written for the bus.
    #[error(transparent)]
    Encode(#[from] bus_schema::EncodeError),
    /// The checkpoint cannot be written.
    #[error("writing a checkpoint")]
    Checkpoint(#[from] rmp_serde::encode::Error),
    /// An id cannot be made.
    #[error(transparent)]
    Id(#[from] bus_schema::IdError),
}

/// How a task ended.
pub enum Left {
    /// The session is over; this is what remains of it.
    Over(Box<State>, Arc<Files>),
    /// The node agent leaves; the session goes on without it.
    Cancelled,
}

/// How a task begins.
pub enum Begin {
    /// The session has to be started.
    Spawn {
        /// What was asked for.
        spawn: Box<Spawn>,
        /// By whom.
        by: Operator,
        /// For the provider.
        request: Box<SpawnRequest>,
        /// Where the answer goes.
        reply: ReplyTo,
    },
    /// The runtime has it, and nothing of it is on disk yet.
    Adopt,
    /// It was there when it was last looked after.
    Attach,
}

/// What the rest of the node sees of a session.
#[derive(Clone)]
pub struct Handle {
    /// For commands.
    pub asks: mpsc::Sender<Ask>,
    /// As it was last written.
    pub shown: watch::Receiver<Session>,
}

/// The task of one session.
pub struct Task {
    id: SessionId,
    context: Arc<Context>,
    provider: Arc<dyn AgentProvider>,
    state: State,
    outbox: Outbox,
    live: Arc<Live>,
    shown: watch::Sender<Session>,
    asks: mpsc::Receiver<Ask>,
    taking: watch::Receiver<bool>,
    feed: Feed,
    attach: Attach,
    /// Events read and not processed: there was no room.
    unread: VecDeque<AgentEvent>,
    /// Behind the last event processed.
    read_to: Position,
    ops: FuturesUnordered<Op>,
    controls: Controls,
    hand_over: HandOver,
    unwritten: Unwritten,
    acknowledged: Acknowledged,
}

#[derive(Default)]
struct Acknowledged {
    to: Position,
    at: Option<Instant>,
    events: u64,
    is_running: bool,
}

impl Task {
    /// A task over an outbox, and how to reach it.
    pub fn new(
        context: Arc<Context>,
        provider: Arc<dyn AgentProvider>,
        state: State,
        outbox: Outbox,
    ) -> (Self, Handle) {
        let (ask_tx, asks) = mpsc::channel(ASK_QUEUE);
        let shown = watch::Sender::new(state.session.clone());
        let handle = Handle { asks: ask_tx, shown: shown.subscribe() };
        let live = Arc::new(Live::new(context.terminal_rate));
        let read_to = outbox.position();
        let task = Self {
            id: state.session.session_id.clone(),
            taking: context.outgoing.taking(),
            context,
            provider,
            hand_over: HandOver::recovered(&state),
            state,
            outbox,
            live,
            shown,
            asks,
            feed: Feed::None,
            attach: Attach::default(),
            unread: VecDeque::new(),
            read_to,
            ops: FuturesUnordered::new(),
            controls: Controls::default(),
            unwritten: Unwritten::default(),
            // What was on disk before is acknowledged again: the provider may not have heard it.
            acknowledged: Acknowledged::default(),
        };
        (task, handle)
    }

    /// Looks after the session until it is over or the node agent leaves.
    ///
    /// # Errors
    /// [`SessionError`] if its disk fails. Whoever waits for an answer is told so.
    pub async fn run(mut self, begin: Begin, cancel: CancellationToken) -> Result<Left, SessionError> {
        let outlet = Outlet { files: self.outbox.files().clone(), live: self.live.clone() };
        self.context.outgoing.open(outlet);
        match begin {
            Begin::Spawn { spawn, by, request, reply } => self.spawn(*spawn, by, *request, reply).await?,
            Begin::Adopt => {
                self.attach.newborn = Some(Instant::now());
                self.change(Effect::Snapshot).await?;
                self.attach();
            }
            Begin::Attach => {
                // Messages may have come after the last snapshot on disk.
                self.unwritten.is_snapshot_due = true;
                self.attach();
            }
        }
        let mut freed = self.context.meter.freed();
        let mut batch = Vec::with_capacity(BATCH);
        while !self.state.is_over {
            self.process().await?;
            self.acknowledge();
            let must_wait = !self.unread.is_empty();
            let due = self.due();
            tokio::select! {
                biased;
                () = cancel.cancelled() => return self.leave().await,
                Some(ask) = self.asks.recv() => self.asked(ask).await?,
                Some(done) = self.ops.next(), if !self.ops.is_empty() => self.done(done).await?,
                read = self.feed.read(&mut batch), if !must_wait => match read {
                    0 => self.detached().await?,
                    _ => {
                        self.attach.attempts = 0;
                        self.unread.extend(batch.drain(..));
                    }
                },
                changed = freed.changed(), if must_wait => changed.unwrap_or_default(),
                changed = self.taking.changed() => {
                    changed.unwrap_or_default();
                    self.bus_changed()?;
                }
                () = tokio::time::sleep_until(due.into()) => self.tick()?,
            }
        }
        self.finish().await
    }

    /// Works off what was read, as far as there is room.
    async fn process(&mut self) -> Result<(), SessionError> {
        if self.unread.is_empty() {
            return Ok(());
        }
        while !self.must_wait()
            && let Some(event) = self.unread.pop_front()
        {
            self.acknowledged.events += 1;
            self.take(event).await?;
            if self.state.is_over {
                break;
            }
        }
        self.hand_over_next();
        self.write_rest(false)
    }

    async fn take(&mut self, event: AgentEvent) -> Result<(), SessionError> {
        let AgentEvent { position, at, news } = event;
        match news {
            News::Message(draft) => self.write_message(position, draft)?,
            News::Status { ref status, .. } if status.is_terminal() => self.context.counters.ignored_news.increment(),
            news => {
                let effect = self.state.apply(at, news);
                self.follow(effect, position, at).await?;
            }
        }
        self.read_to = self.read_to.max(position);
        Ok(())
    }

    /// Does what a change asks for.
    async fn follow(
        &mut self,
        effect: Effect,
        position: Position,
        at: bus_schema::Timestamp,
    ) -> Result<(), SessionError> {
        match effect {
            Effect::None => {}
            Effect::Snapshot => self.append_snapshot(position)?,
            Effect::Receipt(receipt) => self.append_receipt(&receipt)?,
            Effect::Delta(delta) => {
                self.live.delta(delta);
                self.context.outgoing.wake(&self.id);
            }
            Effect::Terminal(piece) => {
                let dropped = self.live.terminal(at, piece, Instant::now());
                self.context.counters.dropped_terminal_bytes.add(dropped);
                self.context.outgoing.wake(&self.id);
            }
            Effect::Child(child) => {
                let born = Born { parent: self.id.clone(), provider: self.state.session.provider.clone(), child };
                // Nobody to look after it: the node agent is leaving, and the next one finds it by itself.
                let _ = self.context.children.send(born).await;
            }
            Effect::Ended(receipts) => {
                for receipt in receipts {
                    self.append_receipt(&receipt)?;
                }
                if self.state.is_over {
                    self.close_gap()?;
                }
                self.append_snapshot(position)?;
            }
        }
        Ok(())
    }

    /// Applies a change that came from us and not from the provider.
    async fn change(&mut self, effect: Effect) -> Result<(), SessionError> {
        let position = self.outbox.position();
        self.follow(effect, position, clock::now()).await?;
        self.commit()
    }

    /// Tells the provider what it may forget.
    fn acknowledge(&mut self) {
        let (now, to) = (Instant::now(), self.outbox.position());
        let mine = &mut self.acknowledged;
        let is_time = mine.at.is_none_or(|at| now.duration_since(at) >= ACKNOWLEDGE_EVERY);
        if to <= mine.to || mine.is_running || !(is_time || mine.events >= ACKNOWLEDGE_EVENTS) {
            return;
        }
        *mine = Acknowledged { to, at: Some(now), events: 0, is_running: true };
        let (provider, id) = (self.provider.clone(), self.id.clone());
        self.ops.push(Box::pin(async move {
            let call = async {
                provider.acknowledge(&id, to).await;
                Ok(())
            };
            // What was not forgotten now is forgotten next time.
            let _ = within(ASK_DEADLINE, "acknowledging events", call).await;
            Done::Acknowledged
        }));
    }

    /// When something is to be done without being asked.
    fn due(&self) -> Instant {
        let retry = if let Feed::Later(at) = self.feed { Some(at) } else { None };
        let behind = self.outbox.position() > self.acknowledged.to && !self.acknowledged.is_running;
        let acknowledge = behind.then(|| self.acknowledged.at.unwrap_or_else(Instant::now) + ACKNOWLEDGE_EVERY);
        let others = [self.write_due(), self.controls.due(), self.hand_over.due(&self.state)];
        let far = Instant::now() + Duration::from_secs(3600);
        others.into_iter().flatten().chain(retry).chain(acknowledge).fold(far, Instant::min)
    }

    fn tick(&mut self) -> Result<(), SessionError> {
        if matches!(self.feed, Feed::Later(at) if at <= Instant::now()) {
            self.attach();
        }
        self.answer_terminates(false);
        self.ask_unverified(false);
        self.hand_over_next();
        self.write_rest(false)
    }

    /// The bus came or went.
    fn bus_changed(&mut self) -> Result<(), SessionError> {
        if *self.taking.borrow_and_update() && !self.outbox.is_reserve_full() {
            self.close_gap()?;
            self.commit()?;
        }
        Ok(())
    }

    async fn done(&mut self, done: Done) -> Result<(), SessionError> {
        match done {
            Done::Spawned(result, reply) => self.spawned(result, reply).await,
            Done::Attached(result) => self.attached(result).await,
            Done::Controlled(control, by, result) => self.controlled(control, by, result).await,
            Done::Killed(by, result, reply) => self.killed(by, result, reply).await,
            Done::Typed(result, reply) => {
                self.typed(result, reply);
                Ok(())
            }
            Done::Answered(result, reply) => {
                self.answered(result, reply);
                Ok(())
            }
            Done::Snapshot(result, reply) => {
                let shown =
                    |snapshot| CommandReply { snapshot: Some(snapshot), ..CommandReply::with(None, Outcome::Done) };
                answer(reply, result.map_or_else(|error| ops::refused(&error), shown));
                Ok(())
            }
            Done::HandedOver(id, result) => self.handed_over(id, result).await,
            Done::Asked(id, result) => self.delivery_told(id, result).await,
            Done::Acknowledged => {
                self.acknowledged.is_running = false;
                Ok(())
            }
        }
    }

    /// The node agent leaves: what runs may end, what is not written is written. The session goes on.
    async fn leave(mut self) -> Result<Left, SessionError> {
        self.feed = Feed::None;
        self.wait_for_ops().await?;
        if self.state.is_over {
            return self.finish().await;
        }
        self.answer_terminates(true);
        self.write_rest(true)?;
        Ok(Left::Cancelled)
    }

    /// The session is over: whoever waits is answered, and the last word is written.
    async fn finish(mut self) -> Result<Left, SessionError> {
        self.wait_for_ops().await?;
        self.write_rest(true)?;
        self.append_over()?;
        self.commit()?;
        // All of it is on our disk: the runtime need not keep anything for us, nor a holder wait.
        let acknowledge = self.provider.acknowledge(&self.id, self.outbox.position());
        let _ = tokio::time::timeout(ASK_DEADLINE, acknowledge).await;
        self.outbox.files().close();
        self.asks.close();
        self.answer_rest();
        Ok(Left::Over(Box::new(self.state), self.outbox.files().clone()))
    }

    /// Gives running calls a moment to end: somebody waits for their answers.
    async fn wait_for_ops(&mut self) -> Result<(), SessionError> {
        let deadline = tokio::time::Instant::now() + LEAVE_GRACE;
        while !self.ops.is_empty()
            && let Ok(Some(done)) = tokio::time::timeout_at(deadline, self.ops.next()).await
        {
            self.done(done).await?;
        }
        Ok(())
    }

    /// The id of the message that a session is started with.
    fn prompt_id(&self) -> Result<MessageId, SessionError> {
        Ok(MessageId::new(format!("{}-prompt", self.id))?)
    }
}
