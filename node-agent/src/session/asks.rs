//! What operators ask of a session, and how each is answered.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bus_schema::{Capability, CommandReply, Delivery, EndReport, Operator, Outcome, RefusalCode, Spawn, Status, Verb};
use providers::{OperatorMessage, ProviderError, SessionInfo, SpawnRequest, clock};

use super::ops::{
    ACT_DEADLINE, ASK_DEADLINE, Control, Done, ReplyTo, answer, not_of_a_session, refusal, refused, within,
};
use super::state::Effect;
use super::{Ask, Feed, SessionError, Task};
use crate::publisher::chain;

/// A terminate is answered with the end if it comes so soon, else with the session as it is then.
const END_WITHIN: Duration = Duration::from_secs(2);
/// Pauses, resumes and terminates that wait for each other.
const CONTROL_QUEUE: usize = 16;
/// Keystrokes that wait for each other: a fast typist's two seconds.
const TYPED_QUEUE: usize = 64;
/// Commands that wait for the session's start.
const PARKED: usize = 16;

/// The calls of a session that go one after the other.
#[derive(Default)]
pub(super) struct Controls {
    queue: VecDeque<(Control, Operator, Then)>,
    running: Option<Then>,
    typed: VecDeque<(Verb, Operator, ReplyTo)>,
    is_typing: bool,
    terminating: Vec<(Instant, ReplyTo)>,
    parked: VecDeque<Ask>,
}

/// What follows a pause, resume or terminate.
enum Then {
    Answer(ReplyTo),
    /// The pause was the first half of an injection.
    Accept(Box<OperatorMessage>, ReplyTo),
}

impl Controls {
    /// When an answer is due.
    pub fn due(&self) -> Option<Instant> {
        self.terminating.iter().map(|(at, _)| *at).min()
    }
}

impl Task {
    /// Starts the session: on disk first, then at the provider.
    pub(super) async fn spawn(
        &mut self,
        spawn: Spawn,
        by: Operator,
        request: SpawnRequest,
        reply: ReplyTo,
    ) -> Result<(), SessionError> {
        self.append_snapshot(self.read_to)?;
        self.commit()?;
        if let Some(content) = spawn.prompt {
            let message =
                OperatorMessage { message_id: self.prompt_id()?, operator: by, content, mode: Default::default() };
            self.write_operator_message(&message).await?;
        }
        self.feed = Feed::None;
        let provider = self.provider.clone();
        self.ops.push(Box::pin(async move {
            Done::Spawned(within(ACT_DEADLINE, "starting the session", provider.spawn(request)).await, reply)
        }));
        Ok(())
    }

    pub(super) async fn spawned(
        &mut self,
        result: Result<SessionInfo, ProviderError>,
        reply: ReplyTo,
    ) -> Result<(), SessionError> {
        let told = match result {
            Ok(info) => {
                if self.state.learn(info) {
                    self.change(Effect::Snapshot).await?;
                }
                self.attach();
                CommandReply::with(None, Outcome::Done)
            }
            // Nobody knows whether it was started: asking for it tells.
            Err(error @ ProviderError::Deadline { .. }) => {
                self.attach();
                refused(&error)
            }
            Err(error) => {
                self.context.counters.provider_failures.increment();
                let effect = self.state.lost(format!("could not be started: {}", chain(&error)), clock::now());
                self.change(effect).await?;
                refused(&error)
            }
        };
        answer(reply, self.with_session(told));
        self.ask_parked().await
    }

    /// Looks at the commands that waited for the start.
    pub(super) async fn ask_parked(&mut self) -> Result<(), SessionError> {
        for ask in std::mem::take(&mut self.controls.parked) {
            self.asked(ask).await?;
        }
        Ok(())
    }

    fn with_session(&self, reply: CommandReply) -> CommandReply {
        CommandReply { session: Some(self.state.session.clone()), ..reply }
    }

    /// Looks at a command. What takes long is only begun here.
    pub(super) async fn asked(&mut self, ask: Ask) -> Result<(), SessionError> {
        let Ask { verb, by, reply } = ask;
        let needs = match &verb {
            Verb::Spawn(_) | Verb::DeliveryState(..) | Verb::Configure(_) | Verb::TestConnection(_) | Verb::Trust => {
                None
            }
            Verb::Answer(..) => Some(Capability::Approve),
            Verb::Inject { .. } => Some(Capability::Inject),
            Verb::Pause(_) => Some(Capability::Pause),
            Verb::Resume(_) => Some(Capability::Resume),
            Verb::Terminate(_) => Some(Capability::Terminate),
            Verb::Kill(_) => Some(Capability::Kill),
            Verb::Input(..) => Some(Capability::Input),
            Verb::Resize(..) => Some(Capability::Resize),
            Verb::TerminalSnapshot(_) => Some(Capability::Terminal),
        };
        let only_looks = matches!(verb, Verb::TerminalSnapshot(_));
        if needs.is_some() && self.state.is_ended() && !only_looks {
            self.refuse_ended(reply);
            return Ok(());
        }
        // Nobody knows yet what it can do.
        if needs.is_some() && (matches!(self.feed, Feed::None) || self.attach.newborn.is_some()) {
            if self.controls.parked.len() < PARKED {
                self.controls.parked.push_back(Ask { verb, by, reply });
            } else {
                answer(reply, refusal(RefusalCode::Busy, "the session is being started and many commands wait for it"));
            }
            return Ok(());
        }
        if let Some(capability) = needs
            && !self.state.session.is_capable(&capability)
        {
            let why = self.state.session.metadata.get("notCapable").and_then(|of| of.get(capability.as_str()));
            let why = why.and_then(|why| why.as_str()).unwrap_or("its runtime does not offer that");
            let text = format!("this session cannot {capability}: {why}");
            answer(reply, self.with_session(refusal(RefusalCode::NotCapable, text)));
            return Ok(());
        }
        match verb {
            // The same session asked for again.
            Verb::Spawn(_) => answer(reply, self.with_session(CommandReply::with(None, Outcome::Done))),
            Verb::DeliveryState(_, message) => {
                let delivery = self.state.delivery(&message).cloned();
                answer(reply, CommandReply { delivery, ..CommandReply::with(None, Outcome::Done) });
            }
            Verb::Inject { message, content, mode, pause_first, .. } => {
                let message = OperatorMessage { message_id: message, operator: by.clone(), content, mode };
                if let Some(refused) = self.refuse_message(&message) {
                    answer(reply, self.with_session(refused));
                } else if pause_first && self.state.session.status != Status::Paused {
                    self.control(Control::Pause, by, Then::Accept(Box::new(message), reply));
                } else {
                    self.accept(message, reply).await?;
                }
            }
            Verb::Pause(_) => self.control(Control::Pause, by, Then::Answer(reply)),
            Verb::Resume(_) => self.control(Control::Resume, by, Then::Answer(reply)),
            Verb::Terminate(_) => self.control(Control::Terminate, by, Then::Answer(reply)),
            Verb::Kill(_) => {
                let (provider, id) = (self.provider.clone(), self.id.clone());
                self.ops.push(Box::pin(async move {
                    let result = within(ACT_DEADLINE, "killing the session", provider.kill(&id, &by)).await;
                    Done::Killed(by, result, reply)
                }));
            }
            verb @ (Verb::Input(..) | Verb::Resize(..)) => {
                if self.controls.typed.len() < TYPED_QUEUE {
                    self.controls.typed.push_back((verb, by, reply));
                    self.type_next();
                } else {
                    answer(reply, refusal(RefusalCode::Busy, "the terminal does not take what is typed; try again"));
                }
            }
            Verb::Answer(_, request, given) => {
                let (provider, id) = (self.provider.clone(), self.id.clone());
                self.ops.push(Box::pin(async move {
                    let call = provider.answer(&id, &request, &given, &by);
                    Done::Answered(within(ACT_DEADLINE, "answering the request", call).await, reply)
                }));
            }
            Verb::Configure(_) | Verb::TestConnection(_) | Verb::Trust => answer(reply, not_of_a_session()),
            Verb::TerminalSnapshot(_) => {
                let (provider, id) = (self.provider.clone(), self.id.clone());
                self.ops.push(Box::pin(async move {
                    let call = provider.terminal_snapshot(&id);
                    Done::Snapshot(within(ASK_DEADLINE, "asking what the terminal shows", call).await, reply)
                }));
            }
        }
        Ok(())
    }

    pub(super) fn answered(&mut self, result: Result<(), ProviderError>, reply: ReplyTo) {
        let told = match result {
            Ok(()) => CommandReply::with(None, Outcome::Done),
            Err(error) => refused(&error),
        };
        answer(reply, self.with_session(told));
    }

    pub(super) fn refuse_ended(&self, reply: ReplyTo) {
        let text = format!("the session is {}", self.state.session.status);
        answer(reply, self.with_session(refusal(RefusalCode::WrongState, text)));
    }

    fn control(&mut self, control: Control, by: Operator, then: Then) {
        if self.controls.queue.len() >= CONTROL_QUEUE {
            let (Then::Answer(reply) | Then::Accept(_, reply)) = then;
            answer(reply, refusal(RefusalCode::Busy, "many commands wait for this session; try again"));
            return;
        }
        self.controls.queue.push_back((control, by, then));
        self.control_next();
    }

    fn control_next(&mut self) {
        if self.controls.running.is_some() {
            return;
        }
        let Some((control, by, then)) = self.controls.queue.pop_front() else { return };
        self.controls.running = Some(then);
        let (provider, id) = (self.provider.clone(), self.id.clone());
        self.ops.push(Box::pin(async move {
            let result = match control {
                Control::Pause => within(ACT_DEADLINE, "pausing the session", provider.pause(&id, &by)).await,
                Control::Resume => within(ACT_DEADLINE, "resuming the session", provider.resume(&id, &by)).await,
                Control::Terminate => within(ACT_DEADLINE, "ending the session", provider.terminate(&id, &by)).await,
            };
            Done::Controlled(control, by, result)
        }));
    }

    pub(super) async fn controlled(
        &mut self,
        control: Control,
        by: Operator,
        result: Result<(), ProviderError>,
    ) -> Result<(), SessionError> {
        let then = self.controls.running.take();
        let reply = match &result {
            Ok(()) => {
                let effect = match control {
                    Control::Pause => self.state.paused(&by, clock::now()),
                    Control::Resume => self.state.resumed(&by, clock::now()),
                    Control::Terminate => Effect::None,
                };
                self.change(effect).await?;
                self.with_session(CommandReply::with(None, Outcome::Done))
            }
            Err(error) => {
                self.context.counters.provider_failures.increment();
                self.with_session(refused(error))
            }
        };
        match then {
            Some(Then::Answer(to)) if control == Control::Terminate && result.is_ok() => {
                self.controls.terminating.push((Instant::now() + END_WITHIN, to));
                self.answer_terminates(false);
            }
            Some(Then::Accept(message, to)) if result.is_ok() => self.accept(*message, to).await?,
            Some(Then::Answer(to) | Then::Accept(_, to)) => answer(to, reply),
            None => {}
        }
        self.control_next();
        Ok(())
    }

    /// Answers those who asked for the end: all if it has come (or `is_last`), else those who have waited long enough.
    pub(super) fn answer_terminates(&mut self, is_last: bool) {
        let (now, is_over) = (Instant::now(), self.state.is_over);
        for (at, reply) in std::mem::take(&mut self.controls.terminating) {
            if is_over || is_last || at <= now {
                let outcome = if self.state.is_ended() { Outcome::Done } else { Outcome::Accepted };
                let report = self.end_report();
                answer(reply, CommandReply { report, ..self.with_session(CommandReply::with(None, outcome)) });
            } else {
                self.controls.terminating.push((at, reply));
            }
        }
    }

    /// Answers everybody who still waits for something: the session is over.
    pub(super) fn answer_rest(&mut self) {
        self.answer_terminates(true);
        let Controls { queue, running, typed, parked, .. } = std::mem::take(&mut self.controls);
        let thens = queue.into_iter().map(|(_, _, then)| then).chain(running);
        let thens = thens.map(|then| match then {
            Then::Answer(reply) | Then::Accept(_, reply) => reply,
        });
        let others = typed.into_iter().map(|(_, _, reply)| reply).chain(parked.into_iter().map(|ask| ask.reply));
        thens.chain(others).for_each(|reply| self.refuse_ended(reply));
        while let Ok(ask) = self.asks.try_recv() {
            self.refuse_ended(ask.reply);
        }
    }

    fn end_report(&self) -> Option<EndReport> {
        serde_json::from_value(self.state.session.metadata.get("endReport")?.clone()).ok()
    }

    pub(super) async fn killed(
        &mut self,
        by: Operator,
        result: Result<EndReport, ProviderError>,
        reply: ReplyTo,
    ) -> Result<(), SessionError> {
        let told = match result {
            Ok(report) if report.survivors.is_empty() => {
                self.state.note_report(&report);
                let effect = self.state.killed(&by, clock::now());
                self.change(effect).await?;
                CommandReply { report: Some(report), ..CommandReply::with(None, Outcome::Done) }
            }
            Ok(report) => {
                let text = format!("{} processes survived the kill", report.survivors.len());
                let failed = CommandReply { outcome: Outcome::Failed, ..refusal(RefusalCode::ProviderFailed, text) };
                CommandReply { report: Some(report), ..failed }
            }
            // It ended in the meantime, and its event is on its way.
            Err(error) => {
                self.context.counters.provider_failures.increment();
                refused(&error)
            }
        };
        answer(reply, self.with_session(told));
        Ok(())
    }

    fn type_next(&mut self) {
        if self.controls.is_typing {
            return;
        }
        let Some((verb, by, reply)) = self.controls.typed.pop_front() else { return };
        self.controls.is_typing = true;
        let (provider, id) = (self.provider.clone(), self.id.clone());
        self.ops.push(Box::pin(async move {
            let call = async {
                match verb {
                    Verb::Input(_, data) => provider.terminal_input(&id, &data, &by).await,
                    Verb::Resize(_, size) => provider.resize(&id, size).await,
                    _ => Ok(()),
                }
            };
            Done::Typed(within(ACT_DEADLINE, "typing into the terminal", call).await, reply)
        }));
    }

    pub(super) fn typed(&mut self, result: Result<(), ProviderError>, reply: ReplyTo) {
        let told = match result {
            Ok(()) => CommandReply::with(None, Outcome::Done),
            Err(error) => refused(&error),
        };
        answer(reply, told);
        self.controls.is_typing = false;
        self.type_next();
    }

    /// Takes an operator message in, and answers as soon as it is safely on disk.
    async fn accept(&mut self, message: OperatorMessage, reply: ReplyTo) -> Result<(), SessionError> {
        if self.state.is_ended() {
            self.refuse_ended(reply);
            return Ok(());
        }
        self.write_operator_message(&message).await?;
        let delivery = Some(Delivery::Delivered);
        let accepted = CommandReply { delivery, ..CommandReply::with(None, Outcome::Accepted) };
        answer(reply, self.with_session(accepted));
        self.hand_over_next();
        Ok(())
    }
}
