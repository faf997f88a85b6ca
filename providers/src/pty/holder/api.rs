//! An agent that serves an API beside its terminal (OpenCode with `--port`): what it says there is what is told of it,
//! and what operators want of it is asked there.
//!
//! ```text
//! listener ─► events ─► conversation (pure) ─► reports in the log, requests, receipts
//! loop ─► acts ─► doer ─► POST …                  the screen is for people
//! ```
//!
//! The API answers before the terminal's program listens to it, so the first message waits until that has drawn itself:
//! then what was made for it can be shown there.
//!
//! Laws:
//! 1. A message is handed over once, ever. One that may have been taken is not tried again.
//! 2. Every message is told: at once whether it was handed over, and for the last time when the model gets it.
//! 3. Where the API does not come within [`CONNECT_WITHIN`], the terminal is typed into as for any other program.

mod http;
mod threads;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use bus_schema::{Delivery, InjectMode, MessageId, Timestamp};

pub(crate) use self::http::Address;
use self::threads::{ACTS_QUEUE, Act, HEARD_QUEUE, Heard, Teller, act, listen};
use super::asks::{Request, Way};
use super::inject::sanitised;
use super::outcomes::Outcomes;
use super::reporters::new_id;
use super::session::Session;
use super::{STACK_BYTES, StartError};
use crate::provider::InjectOutcome;
use crate::pty::protocol::{Fault, FaultKind};
use crate::pty::record::Injecting;
use crate::pty::report::{API, Report};
use crate::pty::source::opencode::{Conversation, Told};

/// How long its API may take to come. Seen: 4 to 40 s on a busy machine.
const CONNECT_WITHIN: Duration = Duration::from_secs(120);
/// How long its screen may take beyond that, before the first message is handed over all the same.
const DRAWN_WITHIN: Duration = Duration::from_secs(30);
/// How long its screen has to be still, so that it counts as drawn.
const STILL: Duration = Duration::from_millis(300);
/// Between two tries to open a session at the terminal, and how often that is tried: a program that is still drawing
/// itself does not hear it (seen on a busy machine).
const SHOW_AGAIN: Duration = Duration::from_secs(3);
const SHOW_TIMES: u32 = 20;
/// How much of a text is looked for on the screen.
const SHOWN_CHARS: usize = 16;
/// How long whoever asked is left without an answer.
const TELL_WITHIN: Duration = Duration::from_secs(8);
/// Messages that wait. People wait for each.
const MAX_WAITING: usize = 32;
/// Bytes of text that wait.
const MAX_WAITING_BYTES: usize = 1024 * 1024;
/// How long its last words may take to come, once it is gone.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The API of one agent.
pub(crate) struct Api {
    conversation: Conversation,
    heard: Receiver<Heard>,
    acts: SyncSender<Act>,
    standing: Standing,
    jobs: VecDeque<Job>,
    outcomes: Outcomes,
    showing: Option<Showing>,
}

/// A session that was made for a message and is to be open at the terminal.
struct Showing {
    session: String,
    /// What is seen there once it is.
    words: String,
    again: Instant,
    left: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Expected {
        until: Instant,
    },
    /// Heard from, since when.
    There {
        since: Instant,
    },
    /// It never came.
    Absent,
}

struct Job {
    message: Injecting,
    asked: Instant,
    told: bool,
    mode: InjectMode,
    stage: Stage,
    /// True if a session was made for it.
    is_first: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Asking,
    Handed,
}

impl Showing {
    fn of(session: &str, content: &str) -> Self {
        let words = content.trim_start().lines().next().unwrap_or_default();
        let words = words.chars().take(SHOWN_CHARS).collect::<String>().trim_end().to_owned();
        Self { session: session.into(), words, again: Instant::now() + SHOW_AGAIN, left: SHOW_TIMES }
    }
}

impl Api {
    /// Begins to listen.
    pub fn start(address: Address, wake: Arc<OwnedFd>, since: Timestamp, now: Instant) -> Result<Self, StartError> {
        let (tell, heard) = sync_channel(HEARD_QUEUE);
        let (acts, to_do) = sync_channel(ACTS_QUEUE);
        let teller = Teller { heard: tell, wake };
        let address = Arc::new(address);
        let thread = |name: &str| std::thread::Builder::new().name(name.into()).stack_size(STACK_BYTES);
        // Not joined: they end with this process, at the latest.
        let (there, listener) = (Arc::clone(&address), teller.clone());
        let started = thread("api-listen").spawn(move || listen(&there, &listener));
        started.map_err(StartError::system("starting a thread"))?;
        let started = thread("api-act").spawn(move || act(&address, &to_do, &teller));
        started.map_err(StartError::system("starting a thread"))?;
        let conversation = Conversation::new(since, new_id);
        let standing = Standing::Expected { until: now + CONNECT_WITHIN };
        let (jobs, outcomes) = (VecDeque::new(), Outcomes::default());
        Ok(Self { conversation, heard, acts, standing, jobs, outcomes, showing: None })
    }

    /// True unless it did not come: then it is a terminal like any other.
    pub fn is_used(&self) -> bool {
        self.standing != Standing::Absent
    }

    /// Takes a message.
    ///
    /// # Errors
    /// A fault if too many wait already.
    pub fn accept(&mut self, message: &Injecting, now: Instant) -> Result<(), Fault> {
        let bytes = self.jobs.iter().map(|job| job.message.content.len()).sum::<usize>() + message.content.len();
        if self.jobs.len() >= MAX_WAITING || bytes > MAX_WAITING_BYTES {
            let reason = format!("the agent does not take its messages: {} wait for it", self.jobs.len());
            return Err(Fault::new(FaultKind::NotReading, reason));
        }
        let (message, mode) = (message.clone(), InjectMode::Queue);
        self.jobs.push_back(Job { message, asked: now, told: false, mode, stage: Stage::Waiting, is_first: false });
        Ok(())
    }

    /// How far a message has come; `None` if it never came here.
    pub fn outcome(&self, message_id: &MessageId) -> Option<InjectOutcome> {
        let under_way = || {
            let reason = Some("it is being handed over".into());
            let is_here = self.jobs.iter().any(|job| job.message.message_id == *message_id);
            is_here.then_some(InjectOutcome { state: Delivery::NotKnown, mode: None, reason })
        };
        self.outcomes.get(message_id).cloned().or_else(under_way)
    }

    /// True while whoever asks again for a message has to wait, too.
    pub fn is_untold(&self, message_id: &MessageId) -> bool {
        self.jobs.iter().any(|job| job.message.message_id == *message_id && !job.told)
    }

    /// When there is something to look at.
    pub fn look_at(&self, now: Instant) -> Option<Instant> {
        let expected = match self.standing {
            Standing::Expected { until } => Some(until),
            Standing::There { .. } | Standing::Absent => None,
        };
        let told = self.jobs.iter().filter(|job| !job.told).map(|job| job.asked + TELL_WITHIN);
        let drawn = self.jobs.iter().any(|job| job.stage == Stage::Waiting).then(|| now + STILL);
        let shown = self.showing.as_ref().map(|showing| showing.again);
        expected.into_iter().chain(told).chain(drawn).chain(shown).min()
    }

    /// Opens a session at the terminal until it is seen there.
    fn show(&mut self, now: Instant, screen: impl FnOnce() -> String) {
        let Some(showing) = self.showing.as_mut().filter(|showing| now >= showing.again) else { return };
        if showing.left == 0 || screen().contains(&showing.words) {
            self.showing = None;
            return;
        }
        showing.again = now + SHOW_AGAIN;
        showing.left -= 1;
        // Full: the next time.
        let _ = self.acts.try_send(Act::Show { session: showing.session.clone() });
    }

    fn tell(&mut self, message_id: &MessageId, outcome: InjectOutcome) -> (MessageId, InjectOutcome) {
        self.outcomes.tell(message_id, &outcome);
        (message_id.clone(), outcome)
    }

    /// Hands over what waits, one after the other, and tells what was not told in time.
    fn advance(&mut self, now: Instant, frozen: bool, is_drawn: bool) -> Vec<(MessageId, InjectOutcome)> {
        let mut told = vec![];
        let is_there = match self.standing {
            // Only the first message has to wait for that: a program at work is never still.
            Standing::There { since } => {
                is_drawn || self.conversation.current().is_some() || now >= since + DRAWN_WITHIN
            }
            Standing::Expected { .. } | Standing::Absent => false,
        };
        let is_asking = self.jobs.iter().any(|job| job.stage == Stage::Asking);
        if is_there
            && !frozen
            && !is_asking
            && let Some(job) = self.jobs.iter_mut().find(|j| j.stage == Stage::Waiting)
        {
            let current = self.conversation.current();
            let is_active = self.conversation.is_active();
            job.mode = match job.message.mode {
                InjectMode::Interrupt if is_active => InjectMode::Interrupt,
                InjectMode::Steer if !is_active => InjectMode::Steer,
                _ => InjectMode::Queue,
            };
            let act = Act::Prompt {
                message_id: job.message.message_id.clone(),
                session: current.map(|(session, _)| session.to_owned()),
                agent: current.and_then(|(_, agent)| agent.map(str::to_owned)),
                text: sanitised(&job.message.content),
                interrupt: job.mode == InjectMode::Interrupt,
            };
            job.is_first = current.is_none();
            // Full: the next look tries again.
            if self.acts.try_send(act).is_ok() {
                job.stage = Stage::Asking;
            }
        }
        let late = |job: &Job| !job.told && (frozen || now >= job.asked + TELL_WITHIN);
        let mut early = vec![];
        for job in self.jobs.iter_mut().filter(|job| late(job)) {
            job.told = true;
            let (state, reason) = match job.stage {
                Stage::Waiting if frozen => {
                    (Delivery::NotKnown, "the session is paused; the text is kept, and follows")
                }
                Stage::Waiting => (Delivery::NotKnown, "waiting until the program is ready for input"),
                Stage::Asking => (Delivery::NotKnown, "it was handed over, and there is no answer yet"),
                Stage::Handed => (Delivery::Written, "it is in the conversation, and follows with its next step"),
            };
            let outcome = InjectOutcome { state, mode: Some(job.mode.clone()), reason: Some(reason.into()) };
            early.push((job.message.message_id.clone(), outcome));
        }
        for (message_id, outcome) in early {
            told.push(self.tell(&message_id, outcome));
        }
        told
    }

    /// A message was handed over, or not.
    fn prompted(
        &mut self,
        message_id: &MessageId,
        result: Result<String, threads::Trouble>,
    ) -> Option<(MessageId, InjectOutcome)> {
        let is_active = self.conversation.is_active();
        // One that is gone was seen to be taken before.
        let at = self.jobs.iter().position(|job| job.message.message_id == *message_id)?;
        let job = self.jobs.get_mut(at)?;
        job.stage = Stage::Handed;
        if let (true, Ok(session)) = (job.is_first, &result) {
            self.showing = Some(Showing::of(session, &job.message.content));
        }
        let mode = Some(job.mode.clone());
        let (state, reason) = match result {
            // It will be told in a moment that it was taken.
            Ok(_) if !is_active => return None,
            Ok(_) => (Delivery::Written, "it is in the conversation, and follows with its next step".into()),
            Err(threads::Trouble { perhaps: true, reason }) => (Delivery::NotKnown, format!("unconfirmed: {reason}")),
            Err(threads::Trouble { perhaps: false, reason }) => {
                self.jobs.remove(at);
                let outcome = InjectOutcome { state: Delivery::Refused, mode: None, reason: Some(reason) };
                return Some(self.tell(message_id, outcome));
            }
        };
        if std::mem::replace(&mut job.told, true) && state == Delivery::NotKnown {
            return None;
        }
        Some(self.tell(message_id, InjectOutcome { state, mode, reason: Some(reason) }))
    }

    /// The model got this text: the oldest message that says it has arrived.
    fn took(&mut self, content: &str, mode: Option<InjectMode>) -> Option<(MessageId, InjectOutcome)> {
        let words = |text: &str| text.split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>();
        let content = words(content);
        let is_it = |job: &Job| job.stage != Stage::Waiting && words(&sanitised(&job.message.content)) == content;
        let at = self.jobs.iter().position(is_it)?;
        let job = self.jobs.remove(at)?;
        if let (true, None, Some((session, _))) = (job.is_first, &self.showing, self.conversation.current()) {
            self.showing = Some(Showing::of(session, &job.message.content));
        }
        let mode = if job.mode == InjectMode::Interrupt { job.mode } else { mode.unwrap_or(job.mode) };
        Some(
            self.tell(
                &job.message.message_id,
                InjectOutcome { state: Delivery::Taken, mode: Some(mode), reason: None },
            ),
        )
    }

    /// The session is over: what was not handed over never will be.
    fn abandon(&mut self) -> Vec<(MessageId, InjectOutcome)> {
        let jobs = std::mem::take(&mut self.jobs);
        let outcome = |stage| match stage {
            Stage::Waiting => (Delivery::Refused, "the session ended before it could be handed over"),
            Stage::Asking | Stage::Handed => {
                (Delivery::NotKnown, "unconfirmed: the session ended before it showed that it took the text")
            }
        };
        let all = jobs.into_iter().map(|job| {
            let (state, reason) = outcome(job.stage);
            (job.message.message_id, InjectOutcome { state, mode: None, reason: Some(reason.into()) })
        });
        let all: Vec<_> = all.collect();
        all.into_iter().map(|(message_id, outcome)| self.tell(&message_id, outcome)).collect()
    }
}

impl Session {
    /// Takes what was heard, and does what is due.
    pub fn look_at_api(&mut self, now: Instant) {
        while self.takes_reports()
            && let Some(heard) = self.api.as_ref().and_then(|api| api.heard.try_recv().ok())
        {
            self.heard(heard, now);
        }
        let frozen = self.parts.state.frozen_by.is_some();
        let is_still = now.saturating_duration_since(self.last_output) >= STILL;
        let screen = || self.emulator.as_ref().map(|emulator| emulator.screen().contents()).unwrap_or_default();
        let is_reading = self.bracketed.is_some() && !self.parts.channel.input_modes().canonical;
        let Some(api) = &mut self.api else { return };
        let is_drawn = !api.jobs.is_empty() && is_reading && is_still && !screen().trim().is_empty();
        if !frozen {
            api.show(now, screen);
        }
        for (message_id, outcome) in api.advance(now, frozen, is_drawn) {
            self.told(message_id, outcome);
        }
        self.give_up_api(now);
    }

    /// An API that does not come is not waited for.
    fn give_up_api(&mut self, now: Instant) {
        let Some(api) = &mut self.api else { return };
        if !matches!(api.standing, Standing::Expected { until } if now >= until) {
            return;
        }
        api.standing = Standing::Absent;
        let jobs = std::mem::take(&mut api.jobs);
        self.give_up_words();
        for job in jobs {
            // There is room: it takes as many as were waiting here.
            let _ = self.injector.accept(&job.message, now);
        }
    }

    fn heard(&mut self, heard: Heard, now: Instant) {
        let Some(api) = &mut self.api else { return };
        if api.standing == Standing::Absent {
            return;
        }
        let told = match heard {
            Heard::Open { status, permissions } => {
                if !matches!(api.standing, Standing::There { .. }) {
                    api.standing = Standing::There { since: now };
                }
                api.conversation.opened(&status, &permissions)
            }
            Heard::Session { info, messages } => api.conversation.session(&info, &messages),
            Heard::Event(event) => api.conversation.event(&event),
            Heard::Closed => return,
            Heard::Prompted { message_id, result } => {
                if let Some((message_id, outcome)) = api.prompted(&message_id, result) {
                    self.told(message_id, outcome);
                }
                return;
            }
        };
        if !self.parts.state.answers {
            self.report(API, Report::Speaks);
            self.report(API, Report::Answers);
        }
        self.take_told(told);
    }

    fn take_told(&mut self, told: Vec<Told>) {
        for told in told {
            match told {
                Told::Took(content, mode) => {
                    if let Some((message_id, outcome)) = self.api.as_mut().and_then(|api| api.took(&content, mode)) {
                        self.told(message_id, outcome);
                    }
                }
                Told::Report(Report::Called { call }) => self.called(&call),
                Told::Report(Report::Ask { text, call, options, takes_text, .. }) => {
                    let Some(name) = new_id().map(|id| format!("q{id}")) else { continue };
                    let way = Way::Api(call.clone().unwrap_or_default());
                    let (request, source) = (Some(name.clone()), API.to_owned());
                    let report =
                        Report::Ask { request, text, call: call.clone(), options: options.clone(), takes_text };
                    self.ask(name, Request { way, source, call, options, takes_text }, report);
                }
                Told::Report(report) => self.report(API, report),
            }
        }
    }

    /// Hands an answer over. False if it cannot be.
    pub fn answer_api(&mut self, permission: &str, option: &str, text: Option<&str>) -> bool {
        let reply = Act::Reply {
            permission: permission.into(),
            reply: option.into(),
            message: text.filter(|_| option == "reject").map(Into::into),
        };
        self.api.as_ref().is_some_and(|api| api.acts.try_send(reply).is_ok())
    }

    /// Takes its last words, and what is not handed over never will be.
    pub fn abandon_api(&mut self) {
        let until = Instant::now() + LAST_WORDS;
        while let Some(api) = self.api.as_ref().filter(|api| matches!(api.standing, Standing::There { .. })) {
            match api.heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Heard::Closed) | Err(_) => break,
                Ok(heard) => self.heard(heard, Instant::now()),
            }
        }
        let Some(api) = &mut self.api else { return };
        let last = api.conversation.finish();
        let abandoned = api.abandon();
        self.take_told(last);
        for (message_id, outcome) in abandoned {
            self.told(message_id, outcome);
        }
    }
}
