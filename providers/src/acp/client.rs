//! Our side of the conversation with one agent, as its holder leads it. Pure: the holder tells it what comes and what
//! operators want, and does what it says.
//!
//! ```text
//! initialize ─► session/new, resume or load ─► idle ◄── stopReason ─┐
//!      │ error, silence                           │ session/prompt   │
//!      ▼                                          ▼                  │
//!   given up                                    turn ─► steer · cancel ─► …
//! ```
//!
//! Laws:
//! 1. A message is sent once, ever; there is never a second `session/prompt` beside one that is not answered.
//! 2. Every request of the agent is answered, once: leave by an operator or as cancelled, all else as not offered.
//! 3. After `session/cancel` every open request for leave is answered as cancelled, also those that come behind it.
//! 4. Every message is told: at once whether it waits or was sent, and for the last time when the agent acts on it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bus_schema::{Answer, Delivery, InjectMode, MessageId, Operator, SessionId, Status};
use serde_json::Value;

use super::family::Family;
use super::wire::{self, Failure, Heard};
use crate::provider::InjectOutcome;
use crate::pty::holder::Outcomes;
use crate::pty::lines::Lines;
use crate::pty::protocol::{Fault, FaultKind};
use crate::pty::record::{Injecting, Typist};
use crate::pty::report::Report;

/// How long an agent may take to open a session. Adapters start a CLI of their own; the slowest start seen took 30 s.
const OPEN_WITHIN: Duration = Duration::from_secs(180);
/// How long whoever sent words into a running turn is left without an answer. Agents answer at once.
const TELL_WITHIN: Duration = Duration::from_secs(8);
/// How much longer the agent may take to say whether it took them, before the next message is sent.
const STEER_WITHIN: Duration = Duration::from_secs(30);
/// Messages that wait. People wait for each.
const MAX_WAITING: usize = 32;
/// Bytes of text that wait.
const MAX_WAITING_BYTES: usize = 1024 * 1024;
/// Requests for leave that are open at one time. Beyond it an agent asks without end.
pub(crate) const MAX_OPEN: usize = 64;
/// Answers that are remembered, so that one given twice changes nothing.
const MAX_ANSWERED: usize = 256;

/// What the holder is to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Send this line, on whose behalf.
    Send(Typist, Vec<u8>),
    /// The message has come so far.
    Tell(MessageId, InjectOutcome),
    /// Log this of a sub-agent.
    Report(Report),
    /// Nothing can be done with this agent; why. It is to be ended.
    GiveUp(String),
}

/// A conversation with one agent.
pub(crate) struct Client {
    session: SessionId,
    cwd: String,
    /// The agent's own name for the earlier session that it is to go on with.
    conversation: Option<String>,
    lines: Lines,
    next: u64,
    stage: Stage,
    /// True if the agent takes words into a running turn.
    steers: bool,
    turn: Option<Turn>,
    steering: Option<Steering>,
    jobs: VecDeque<Job>,
    open: Vec<Open>,
    answered: VecDeque<Answered>,
    family: Family,
    outcomes: Outcomes,
    steps: Vec<Step>,
}

enum Stage {
    /// The program does not run yet.
    Starting,
    Initializing {
        id: u64,
        until: Instant,
    },
    Opening {
        id: u64,
        until: Instant,
    },
    /// The agent's own name for the session.
    Ready(String),
    GivenUp,
}

/// A prompt that is not answered.
struct Turn {
    id: u64,
    message: Sent,
    /// True once the agent has shown that it acts on it.
    begun: bool,
    is_cancelled: bool,
}

/// Words sent into a running turn, not answered.
struct Steering {
    id: u64,
    until: Instant,
    /// True once it was told that there is no answer yet.
    told: bool,
    job: Job,
}

#[derive(Clone)]
struct Sent {
    message_id: MessageId,
    mode: InjectMode,
}

/// A message that waits.
struct Job {
    message: Injecting,
    /// False once the agent did not take it into a running turn.
    may_steer: bool,
}

/// A request for leave that is not answered.
struct Open {
    /// The place of its line in the agent's output: the message that tells of it is named by it.
    start: u64,
    id: Value,
    options: Vec<String>,
}

struct Answered {
    start: u64,
    option: String,
}

impl Client {
    /// For an agent that is just being started, and is to work in this folder and go on with this conversation, if it
    /// is not to begin one. `fresh` gives ids for its sub-agents.
    pub fn new(
        session: &SessionId,
        cwd: String,
        conversation: Option<String>,
        fresh: fn() -> Option<SessionId>,
    ) -> Self {
        Self {
            session: session.clone(),
            cwd,
            conversation,
            lines: Lines::new(0),
            next: 0,
            stage: Stage::Starting,
            steers: false,
            turn: None,
            steering: None,
            jobs: VecDeque::new(),
            open: vec![],
            answered: VecDeque::new(),
            family: Family::new(fresh),
            outcomes: Outcomes::default(),
            steps: vec![],
        }
    }

    /// What is to be done since the last time this was asked.
    pub fn take_steps(&mut self) -> Vec<Step> {
        std::mem::take(&mut self.steps)
    }

    /// True while a turn is not over.
    pub fn is_in_turn(&self) -> bool {
        self.turn.is_some()
    }

    /// The program runs.
    pub fn started(&mut self, now: Instant) {
        if matches!(self.stage, Stage::Starting) {
            let id = self.id();
            self.stage = Stage::Initializing { id, until: now + OPEN_WITHIN };
            self.send(Typist::Client, wire::initialize(id));
        }
    }

    /// The agent has written.
    pub fn output(&mut self, data: &[u8], now: Instant) {
        for line in self.lines.feed(data) {
            match wire::hear(&line.bytes).filter(|_| line.dropped == 0) {
                Some(Heard::Request { id, method, params }) => self.asked(line.start, id, &method, &params),
                Some(Heard::Notice { method, params }) => self.noticed(line.start, &method, &params),
                Some(Heard::Answer { id, result }) => {
                    if let Some(id) = id.as_u64() {
                        self.was_answered(id, result, now);
                    }
                }
                // Told by the conversation; there is nothing to do about it.
                None => {}
            }
        }
        self.go_on(now);
    }

    /// Takes an operator message.
    ///
    /// # Errors
    /// A fault if too many wait already, or nothing can be done with the agent.
    pub fn accept(&mut self, message: &Injecting, now: Instant) -> Result<(), Fault> {
        if matches!(self.stage, Stage::GivenUp) {
            return Err(Fault::wrong_state(Status::Running, "the agent could not open a session; it is being ended"));
        }
        let bytes = self.jobs.iter().map(|job| job.message.content.len()).sum::<usize>() + message.content.len();
        if self.jobs.len() >= MAX_WAITING || bytes > MAX_WAITING_BYTES {
            let reason = format!("{} messages wait for the agent already", self.jobs.len());
            return Err(Fault::new(FaultKind::NotReading, reason));
        }
        let message_id = message.message_id.clone();
        self.jobs.push_back(Job { message: message.clone(), may_steer: true });
        self.go_on(now);
        if self.outcomes.get(&message_id).is_none() && self.is_waiting(&message_id) {
            let reason = match (&self.stage, &self.turn) {
                (Stage::Ready(_), Some(Turn { is_cancelled: true, .. })) => "waits until the interrupted turn is over",
                (Stage::Ready(_), _) => "waits until the running turn is over",
                (Stage::Starting | Stage::Initializing { .. } | Stage::Opening { .. } | Stage::GivenUp, _) => {
                    "waits until the agent has opened its session"
                }
            };
            let mode = if message.mode == InjectMode::Interrupt { InjectMode::Interrupt } else { InjectMode::Queue };
            self.tell(&message_id, Delivery::Written, Some(mode), Some(reason));
        }
        Ok(())
    }

    /// How far a message has come; `None` if it never came here.
    pub fn outcome(&self, message_id: &MessageId) -> Option<InjectOutcome> {
        let under_way =
            || InjectOutcome { state: Delivery::NotKnown, mode: None, reason: Some("it is being handed over".into()) };
        let known = self.outcomes.get(message_id).cloned();
        known.or_else(|| self.is_under_way(message_id).then(under_way))
    }

    /// True while nothing was told of this message that is on its way.
    pub fn is_untold(&self, message_id: &MessageId) -> bool {
        self.outcomes.get(message_id).is_none() && self.is_under_way(message_id)
    }

    fn is_waiting(&self, message_id: &MessageId) -> bool {
        self.jobs.iter().any(|job| job.message.message_id == *message_id)
    }

    fn is_under_way(&self, message_id: &MessageId) -> bool {
        let steering = self.steering.as_ref().is_some_and(|s| s.job.message.message_id == *message_id);
        steering || self.is_waiting(message_id)
    }

    /// An operator answers a request for leave.
    ///
    /// # Errors
    /// A fault if it is not open any more, or does not offer that.
    pub fn answer(&mut self, request: &MessageId, answer: &Answer, by: Operator) -> Result<(), Fault> {
        let Some(start) = place_of(&self.session, request) else {
            return Err(Fault::new(FaultKind::Invalid, format!("{request} is no request of this session")));
        };
        let option = answer.option_id.as_deref();
        if let Some(before) = self.answered.iter().find(|answered| answered.start == start) {
            if option == Some(before.option.as_str()) {
                return Ok(());
            }
            let reason = format!("it was answered already, with {:?}", before.option);
            return Err(Fault::wrong_state(Status::Running, reason));
        }
        let Some(at) = self.open.iter().position(|open| open.start == start) else {
            return Err(Fault::wrong_state(Status::Running, "the request is not open any more"));
        };
        let open = self.open.remove(at);
        let Some(option) = option.filter(|option| open.options.iter().any(|offered| offered == option)) else {
            let reason = format!("one of its options is needed: {}", open.options.join(", "));
            self.open.insert(at, open);
            return Err(Fault::new(FaultKind::Invalid, reason));
        };
        let option = option.to_owned();
        if self.answered.len() >= MAX_ANSWERED {
            self.answered.pop_front();
        }
        self.send(Typist::Operator(by), wire::decide(&open.id, Some(&option)));
        self.answered.push_back(Answered { start, option });
        Ok(())
    }

    /// The session is to end: what runs is cancelled.
    pub fn leave(&mut self) {
        self.cancel();
    }

    /// The session is over: what is not handed over never will be.
    pub fn abandon(&mut self) {
        let reports = self.family.finish();
        self.steps.extend(reports.into_iter().map(Step::Report));
        let steering = self.steering.take().map(|steering| (steering.job, false));
        let waiting = std::mem::take(&mut self.jobs).into_iter().map(|job| (job, true));
        for (job, is_waiting) in steering.into_iter().chain(waiting).collect::<Vec<_>>() {
            let reason = if is_waiting {
                "the session ended before it could be handed over"
            } else {
                "unconfirmed: the session ended before the agent said whether it took the text"
            };
            self.tell(&job.message.message_id, Delivery::NotKnown, None, Some(reason));
        }
    }

    /// When something has to be done that nothing else would bring about.
    pub fn look_at(&self) -> Option<Instant> {
        let opening = match &self.stage {
            Stage::Initializing { until, .. } | Stage::Opening { until, .. } => Some(*until),
            Stage::Starting | Stage::Ready(_) | Stage::GivenUp => None,
        };
        opening.into_iter().chain(self.steering.as_ref().map(|steering| steering.until)).min()
    }

    /// Does what is due. `frozen`: the agent stands still, so that its silence says nothing.
    pub fn look(&mut self, now: Instant, frozen: bool) {
        match &mut self.stage {
            Stage::Initializing { until, .. } | Stage::Opening { until, .. } if now >= *until => {
                if frozen {
                    *until = now + OPEN_WITHIN;
                } else {
                    let seconds = OPEN_WITHIN.as_secs();
                    self.give_up(format!("it did not open a session within {seconds} s: is it an agent of ACP?"));
                }
            }
            Stage::Initializing { .. } | Stage::Opening { .. } => {}
            Stage::Starting | Stage::Ready(_) | Stage::GivenUp => {}
        }
        let Some(steering) = self.steering.as_mut().filter(|steering| now >= steering.until) else { return };
        steering.until = now + STEER_WITHIN;
        let is_over = steering.told && !frozen;
        if !std::mem::replace(&mut steering.told, true) {
            let message_id = steering.job.message.message_id.clone();
            let reason = "the agent has not said yet whether it took the text into the turn";
            self.tell(&message_id, Delivery::NotKnown, Some(InjectMode::Steer), Some(reason));
        }
        if is_over {
            // What it says later is not heard; it may have taken the text, so it is not sent again.
            self.steering = None;
            self.go_on(now);
        }
    }

    fn id(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    fn send(&mut self, by: Typist, line: Vec<u8>) {
        self.steps.push(Step::Send(by, line));
    }

    fn tell(&mut self, message_id: &MessageId, state: Delivery, mode: Option<InjectMode>, reason: Option<&str>) {
        let outcome = InjectOutcome { state, mode, reason: reason.map(Into::into) };
        self.outcomes.tell(message_id, &outcome);
        self.steps.push(Step::Tell(message_id.clone(), outcome));
    }

    fn give_up(&mut self, reason: String) {
        self.stage = Stage::GivenUp;
        self.steps.push(Step::GiveUp(reason));
    }

    /// The agent wants something of us.
    fn asked(&mut self, start: u64, id: Value, method: &str, params: &Value) {
        if method != wire::PERMISSION {
            self.send(Typist::Client, wire::refuse(&id, method));
            return;
        }
        self.begun();
        let is_cancelled = self.turn.as_ref().is_some_and(|turn| turn.is_cancelled);
        if is_cancelled || self.open.len() >= MAX_OPEN {
            self.send(Typist::Client, wire::decide(&id, None));
            return;
        }
        let options = params.get("options").and_then(Value::as_array).into_iter().flatten();
        let options = options.filter_map(|option| wire::text_of(option, "optionId")).map(Into::into).collect();
        self.open.push(Open { start, id, options });
    }

    fn noticed(&mut self, start: u64, method: &str, params: &Value) {
        match method {
            wire::UPDATE => {
                if params.get("update").is_some_and(wire::shows_work) {
                    self.begun();
                }
                // What is told again before the session is open was led elsewhere.
                if let Stage::Ready(main) = &self.stage {
                    let reports = self.family.heard(main, start, params);
                    self.steps.extend(reports.into_iter().map(Step::Report));
                }
            }
            // Taken back by the agent; it still gets its answer.
            wire::CANCEL_REQUEST => {
                let id = params.get("requestId");
                if let Some(at) = self.open.iter().position(|open| Some(&open.id) == id) {
                    let open = self.open.remove(at);
                    self.send(Typist::Client, wire::decide(&open.id, None));
                }
            }
            _ => {}
        }
    }

    /// The agent shows that it acts on what it was given.
    fn begun(&mut self) {
        let Some(turn) = self.turn.as_mut().filter(|turn| !turn.begun) else { return };
        turn.begun = true;
        let Sent { message_id, mode } = turn.message.clone();
        self.tell(&message_id, Delivery::Taken, Some(mode), None);
    }

    fn was_answered(&mut self, id: u64, result: Result<Value, Failure>, now: Instant) {
        match &self.stage {
            Stage::Initializing { id: asked, .. } if *asked == id => self.initialized(result, now),
            Stage::Opening { id: asked, .. } if *asked == id => match result {
                // Whoever goes on with one may leave its name out.
                Ok(result) => match wire::text_of(&result, "sessionId").or(self.conversation.as_deref()) {
                    Some(session) => self.stage = Stage::Ready(session.to_owned()),
                    None => self.give_up("its answer to session/new names no session".into()),
                },
                Err(failure) => self.give_up(format!("it opened no session: {}", failure.message)),
            },
            Stage::Initializing { .. } | Stage::Opening { .. } | Stage::Starting | Stage::GivenUp => {}
            Stage::Ready(_) => {
                if self.turn.as_ref().is_some_and(|turn| turn.id == id) {
                    if result.is_ok() {
                        self.begun();
                    }
                    self.turn = None;
                    self.close_requests();
                } else if self.steering.as_ref().is_some_and(|steering| steering.id == id)
                    && let Some(Steering { job, .. }) = self.steering.take()
                {
                    self.steered(job, &result);
                }
            }
        }
    }

    fn initialized(&mut self, result: Result<Value, Failure>, now: Instant) {
        match result {
            Ok(result) => {
                let version = result.get("protocolVersion").and_then(Value::as_u64);
                if version != Some(wire::VERSION) {
                    let theirs = version.map_or("none".into(), |version| version.to_string());
                    return self.give_up(format!("it speaks version {theirs} of ACP, we speak {}", wire::VERSION));
                }
                let steering = result.pointer("/_meta/steering/supported").and_then(Value::as_bool);
                self.steers = steering == Some(true);
                let name = result.pointer("/agentInfo/name").and_then(Value::as_str);
                self.family.agent = name.unwrap_or_default().into();
                let way = wire::way_to_go_on(&result);
                let id = self.id();
                let line = match (&self.conversation, way) {
                    (None, _) => wire::new_session(id, &self.cwd),
                    (Some(conversation), Some(way)) => wire::go_on(id, way, conversation, &self.cwd),
                    (Some(_), None) => {
                        let text = "it cannot go on with an earlier conversation: it offers neither session/resume \
                                    nor session/load; start it without one";
                        return self.give_up(text.into());
                    }
                };
                self.stage = Stage::Opening { id, until: now + OPEN_WITHIN };
                self.send(Typist::Client, line);
            }
            Err(failure) => self.give_up(format!("it refused to begin: {}", failure.message)),
        }
    }

    fn steered(&mut self, mut job: Job, result: &Result<Value, Failure>) {
        let outcome = result.as_ref().ok().and_then(|result| wire::text_of(result, "outcome"));
        if matches!(outcome, Some("injected" | "startedNewTurn")) {
            self.tell(&job.message.message_id, Delivery::Taken, Some(InjectMode::Steer), None);
            return;
        }
        if matches!(result, Err(Failure { code: wire::METHOD_NOT_FOUND, .. })) {
            self.steers = false;
        }
        // Between turns, or not possible now: it is the next prompt.
        job.may_steer = false;
        let reason = "the agent did not take it into the running turn; it follows when that is over";
        self.tell(&job.message.message_id, Delivery::Written, Some(InjectMode::Queue), Some(reason));
        self.jobs.push_front(job);
    }

    fn close_requests(&mut self) {
        for open in std::mem::take(&mut self.open) {
            self.send(Typist::Client, wire::decide(&open.id, None));
        }
    }

    fn cancel(&mut self) {
        let Stage::Ready(session) = &self.stage else { return };
        let line = wire::cancel(session);
        if let Some(turn) = self.turn.as_mut().filter(|turn| !turn.is_cancelled) {
            turn.is_cancelled = true;
            self.send(Typist::Client, line);
            self.close_requests();
        }
    }

    /// Hands over what can be handed over now.
    fn go_on(&mut self, now: Instant) {
        let Stage::Ready(session) = &self.stage else { return };
        let session = session.clone();
        let interrupts = |job: &Job| job.message.mode == InjectMode::Interrupt;
        let Some(turn) = &self.turn else {
            // Words that may still be taken into the last turn come before those behind them.
            if self.steering.is_none()
                && let Some(job) = self.jobs.pop_front()
            {
                self.prompt(&session, job);
            }
            return;
        };
        if turn.is_cancelled {
            return;
        }
        if let Some(at) = self.jobs.iter().position(interrupts) {
            if let Some(job) = self.jobs.remove(at) {
                self.jobs.push_front(job);
            }
            self.cancel();
            return;
        }
        if !self.steers || self.steering.is_some() {
            return;
        }
        let wants = |job: &Job| job.message.mode == InjectMode::Steer && job.may_steer;
        if let Some(job) = self.jobs.iter().position(wants).and_then(|at| self.jobs.remove(at)) {
            let id = self.id();
            let by = Typist::Message(job.message.message_id.clone());
            self.send(by, wire::steer(id, &session, &job.message.content));
            self.steering = Some(Steering { id, until: now + TELL_WITHIN, told: false, job });
        }
    }

    fn prompt(&mut self, session: &str, job: Job) {
        let Injecting { message_id, content, mode, .. } = job.message;
        // One that was told to wait for something has waited for it; one that found the agent idle steered nobody.
        let waited = self.outcomes.get(&message_id).and_then(|outcome| outcome.mode.clone());
        let mode = waited.unwrap_or(if mode == InjectMode::Interrupt { InjectMode::Queue } else { mode });
        let id = self.id();
        self.send(Typist::Message(message_id.clone()), wire::prompt(id, session, &content));
        self.tell(&message_id, Delivery::Written, Some(mode.clone()), None);
        self.turn = Some(Turn { id, message: Sent { message_id, mode }, begun: false, is_cancelled: false });
    }
}

/// The id of the message that tells of what stands at this place of the agent's output.
pub(crate) fn key_of(start: u64) -> String {
    format!("o{start:x}")
}

/// The place of the request that is named by this message.
fn place_of(session: &SessionId, request: &MessageId) -> Option<u64> {
    let key = request.as_str().strip_prefix(session.as_str())?.strip_prefix("-o")?;
    u64::from_str_radix(key, 16).ok()
}

#[cfg(test)]
mod tests;
