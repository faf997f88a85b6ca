//! What is asked of a session, what the keeper says became of it, and how it ends.

use std::time::Instant;

use bus_schema::{EndReport, MessageId, Operator, Status, TerminalSnapshot};

use super::clients::Wish;
use super::keeper::{Command, KeepError};
use super::session::{LeaderExit, Pending, Session};
use crate::clock;
use crate::provider::{End, InjectOutcome};
use crate::pty::log::{Kind, size_bytes};
use crate::pty::protocol::{Answer, Call, Fault, FaultKind, HolderStatus};
use crate::pty::record::{EndAction, Injecting, Intent, Note, Typist};

/// Commands that the keeper may have waiting: fewer than its queue holds.
const MAX_ASKED: usize = 32;

impl Session {
    /// Does what a client wants.
    pub fn grant(&mut self, client: u64, wish: Wish) {
        match wish {
            Wish::Acknowledge { acknowledged, floor } => self.flow.acknowledge(acknowledged, floor),
            Wish::Launching { error } => {
                if error.is_some() {
                    // Not where it belongs, so the cgroup holds nothing: it is left to the look into /proc.
                    self.parts.state.cgroup = None;
                    self.tell_keeper(Command::WithoutCgroup);
                }
                self.launched = true;
                self.parts.clients.go(client);
            }
            Wish::LaunchFailed { error } => self.launch_error = Some(error),
            Wish::Call { id, call } => {
                if let Some(result) = self.call(client, id, call) {
                    self.parts.clients.reply(client, id, result);
                }
            }
        }
    }

    /// Carries out a call. `None` if its answer comes later.
    fn call(&mut self, client: u64, id: u64, call: Call) -> Option<Result<Answer, Fault>> {
        let pending = |by| Pending { client, id, by };
        match call {
            Call::Status => Some(Ok(Answer::Status(self.status()))),
            Call::Snapshot => Some(Ok(Answer::Snapshot(self.snapshot()))),
            Call::Leave => {
                self.is_done |= self.ended.is_some();
                Some(Ok(Answer::Done))
            }
            Call::Injection { message_id } => Some(Ok(Answer::Injection(self.outcome(&message_id)))),
            Call::Input { data, by } => Some(self.input(&data, by)),
            Call::Resize { size } => Some(self.resize(size)),
            Call::Inject { message_id, operator, content, mode } => {
                self.accept(client, id, Injecting { message_id, operator, content, mode })
            }
            Call::Answer { request, answer, by } if self.agent.is_some() => {
                Some(self.answer_agent(&request, &answer, by))
            }
            Call::Answer { request, answer, by } => {
                self.answer_ask((client, id), &request, (answer.option_id, answer.text), by)
            }
            Call::Freeze { .. } | Call::Thaw { .. } | Call::Terminate { .. } | Call::Kill { .. }
                if self.ended.is_some() =>
            {
                Some(self.after_the_end(&call))
            }
            Call::Freeze { .. } | Call::Thaw { .. } | Call::Kill { .. } if self.asked >= MAX_ASKED => {
                let reason = "too much is being asked of this session at once";
                Some(Err(Fault::new(FaultKind::Failed, reason)))
            }
            Call::Freeze { .. } if self.parts.state.intent.is_some() || self.leader_exit.is_some() => {
                Some(Err(Fault::wrong_state(Status::Running, "it is being ended")))
            }
            Call::Freeze { .. } if self.parts.state.frozen_by.is_some() && self.thawing.is_empty() => {
                Some(Ok(Answer::Done))
            }
            Call::Thaw { .. } if self.parts.state.frozen_by.is_none() && self.freezing.is_empty() => {
                Some(Ok(Answer::Done))
            }
            Call::Freeze { by } => {
                self.freezing.push_back(pending(by));
                self.ask_keeper(Command::Freeze)
            }
            Call::Thaw { by } => {
                self.thawing.push_back(pending(by));
                self.ask_keeper(Command::Thaw)
            }
            Call::Kill { by } => {
                self.intend(EndAction::Kill, &by);
                self.killing.push_back(pending(by));
                self.ask_keeper(Command::Kill)
            }
            Call::Terminate { by } => {
                if self.intend(EndAction::Terminate, &by) {
                    self.no_longer_frozen(&by);
                    if self.agent.is_some() {
                        self.ask_to_leave("asked");
                    } else {
                        let foreground = self.parts.channel.foreground();
                        self.tell_keeper(Command::Terminate { foreground });
                    }
                }
                Some(Ok(Answer::Done))
            }
        }
    }

    /// The answer to a call about the processes of a session that has ended. To ask for its end once more is harmless.
    fn after_the_end(&self, call: &Call) -> Result<Answer, Fault> {
        match (call, self.ended_fault()) {
            (Call::Terminate { .. }, _) | (_, None) => Ok(Answer::Done),
            (_, Some(fault)) => Err(fault),
        }
    }

    /// Tells the keeper to do something that it answers.
    fn ask_keeper(&mut self, command: Command) -> Option<Result<Answer, Fault>> {
        self.asked += 1;
        self.tell_keeper(command);
        None
    }

    pub fn tell_keeper(&self, command: Command) {
        // There is always room: at most `MAX_ASKED` answers are outstanding, and all else is told once in a session. The
        // keeper is gone only after the first process, and then whoever waits is answered by the end.
        let _ = self.parts.threads.keeper.try_send(command);
    }

    fn status(&self) -> HolderStatus {
        HolderStatus {
            end: self.parts.log.end(),
            first: self.parts.log.first(),
            acknowledged: self.flow.acknowledged(),
            held_back: self.flow.is_full(self.parts.log.end()),
            unread_input: self.parts.channel.unread() as u64,
            bad_reports: self.parts.reporters.bad,
            lost_answers: self.parts.reporters.lost,
        }
    }

    fn snapshot(&self) -> TerminalSnapshot {
        let (data, size) = match &self.emulator {
            Some(emulator) => (emulator.paint(), emulator.size()),
            None => (self.tail.iter().copied().collect(), self.parts.spec.size),
        };
        TerminalSnapshot { offset: self.parts.log.output(), data, size }
    }

    pub fn ended_fault(&self) -> Option<Fault> {
        let exit = self.parts.state.exit.as_ref()?;
        Some(Fault::wrong_state(exit.end.status.clone(), format!("it has ended: {}", exit.end.reason)))
    }

    fn input(&mut self, data: &[u8], by: Operator) -> Result<Answer, Fault> {
        if let Some(fault) = self.ended_fault() {
            return Err(fault);
        }
        if !self.parts.channel.has_room(data.len()) {
            let waiting = self.parts.channel.unread();
            let reason = format!("the agent does not read its input: {waiting} bytes wait for it");
            return Err(Fault::new(FaultKind::NotReading, reason));
        }
        self.type_in(Typist::Operator(by), data);
        Ok(Answer::Done)
    }

    fn resize(&mut self, size: bus_schema::TerminalSize) -> Result<Answer, Fault> {
        if let Some(fault) = self.ended_fault() {
            return Err(fault);
        }
        if size.cols == 0 || size.rows == 0 {
            return Err(Fault::new(FaultKind::Invalid, "a terminal has at least one row and one column"));
        }
        if size == self.parts.spec.size {
            return Ok(Answer::Done);
        }
        // In the log before the program draws for it.
        self.record(Kind::Resize, &size_bytes(size));
        self.parts.spec.size = size;
        if let Some(emulator) = &mut self.emulator {
            emulator.resize(size);
        }
        let resized = self.parts.channel.resize(size);
        resized.map(|()| Answer::Done).map_err(|error| Fault::new(FaultKind::Failed, format!("resizing: {error}")))
    }

    fn accept(&mut self, client: u64, id: u64, message: Injecting) -> Option<Result<Answer, Fault>> {
        if let Some(known) = self.outcome(&message.message_id) {
            if self.is_untold(&message.message_id) {
                self.waiting.entry(message.message_id).or_default().push((client, id));
                return None;
            }
            return Some(Ok(Answer::Injection(Some(known))));
        }
        if let Some(fault) = self.ended_fault() {
            return Some(Err(fault));
        }
        if self.leader_exit.is_some() {
            return Some(Err(Fault::wrong_state(Status::Running, "its program has just ended")));
        }
        let room = message.content.len() * 6 + 1024;
        if !self.parts.channel.has_room(room.min(super::unread::MAX_UNREAD_INPUT / 2)) {
            let waiting = self.parts.channel.unread();
            let reason = format!("the agent does not read its input: {waiting} bytes wait for it");
            return Some(Err(Fault::new(FaultKind::NotReading, reason)));
        }
        let now = Instant::now();
        let accepted = match (&mut self.agent, &mut self.api) {
            (Some(agent), _) => agent.accept(&message, now),
            (None, Some(api)) if api.is_used() => api.accept(&message, now),
            (None, _) => self.injector.accept(&message, now).map(|_| ()),
        };
        if let Err(fault) = accepted {
            return Some(Err(fault));
        }
        let message_id = message.message_id.clone();
        // In the log before the first key: whoever comes after a crash knows that it may have been typed.
        self.note(&Note::Injecting(message));
        self.waiting.entry(message_id).or_default().push((client, id));
        self.inject(now);
        self.take_agent_steps();
        self.look_at_api(now);
        None
    }

    /// How far an operator message has come.
    fn outcome(&self, message_id: &MessageId) -> Option<InjectOutcome> {
        if let Some(agent) = &self.agent {
            return agent.outcome(message_id);
        }
        let by_api = self.api.as_ref().and_then(|api| api.outcome(message_id));
        by_api.or_else(|| self.injector.outcome(message_id))
    }

    /// True while whoever asks again for this message has to wait, too.
    fn is_untold(&self, message_id: &MessageId) -> bool {
        match &self.agent {
            Some(agent) => agent.is_untold(message_id),
            None => {
                let by_api = self.api.as_ref().is_some_and(|api| api.is_untold(message_id));
                by_api || self.injector.is_under_way(message_id)
            }
        }
    }

    /// A message has come so far: into the log, then to whoever asked.
    pub fn told(&mut self, message_id: MessageId, outcome: InjectOutcome) {
        self.note(&Note::Injected { message_id: message_id.clone(), outcome: outcome.clone() });
        for (client, id) in self.waiting.remove(&message_id).unwrap_or_default() {
            self.parts.clients.reply(client, id, Ok(Answer::Injection(Some(outcome.clone()))));
        }
    }

    /// Writes down who wants the end. True if that is more than was wanted before.
    fn intend(&mut self, action: EndAction, by: &Operator) -> bool {
        let known = self.parts.state.intent.as_ref().map(|intent| intent.action);
        let is_news = match (known, action) {
            (None, _) | (Some(EndAction::Terminate), EndAction::Kill) => true,
            (Some(EndAction::Terminate | EndAction::Kill), EndAction::Terminate)
            | (Some(EndAction::Kill), EndAction::Kill) => false,
        };
        // Once the program has ended by itself, nobody can want that any more.
        if is_news && self.leader_exit.is_none() {
            let intent = Intent { action, by: by.clone(), at: clock::now_micros() };
            self.parts.state.intent = Some(intent.clone());
            self.note(&Note::Intent(intent));
            self.save();
        }
        is_news
    }

    fn no_longer_frozen(&mut self, by: &Operator) {
        if self.parts.state.frozen_by.take().is_some() {
            self.note(&Note::Thawed { by: by.clone() });
            self.save();
        }
    }

    /// The keeper has frozen everything, or not.
    pub fn frozen(&mut self, result: Result<(), KeepError>) {
        self.asked -= 1;
        let Some(waiting) = self.freezing.pop_front() else { return };
        if result.is_ok() {
            self.parts.state.frozen_by = Some(waiting.by.clone());
            self.note(&Note::Frozen { by: waiting.by.clone() });
            self.save();
        }
        self.answer(&waiting, result);
    }

    /// The keeper has thawed everything, or not.
    pub fn thawed(&mut self, result: Result<(), KeepError>) {
        self.asked -= 1;
        let Some(waiting) = self.thawing.pop_front() else { return };
        if result.is_ok() {
            self.no_longer_frozen(&waiting.by);
        }
        self.answer(&waiting, result);
    }

    fn answer(&mut self, waiting: &Pending, result: Result<(), KeepError>) {
        let result = result.map(|()| Answer::Done).map_err(|error| match error {
            KeepError::Ending => Fault::wrong_state(Status::Running, "it is being ended"),
            KeepError::Failed(reason) => Fault::new(FaultKind::Failed, reason),
        });
        self.parts.clients.reply(waiting.client, waiting.id, result);
    }

    /// The keeper has killed what it could. The answer waits for the end to be in the log, unless something survived.
    pub fn killed(&mut self, report: &EndReport) {
        self.asked -= 1;
        if report.survivors.is_empty() {
            return;
        }
        if let Some(waiting) = self.killing.pop_front() {
            self.parts.clients.reply(waiting.client, waiting.id, Ok(Answer::Killed(report.clone())));
        }
    }

    /// The exec shim's connection is closed: the program runs, or never will.
    pub fn launcher_gone(&mut self) {
        if self.launched && self.launch_error.is_none() && self.started.is_none() {
            self.started = Some(Instant::now());
            let containment = if self.parts.state.cgroup.is_some() { "cgroup" } else { "processTree" };
            let pid = self.parts.state.child.map_or(0, |child| child.pid);
            self.parts.state.started_at = Some(clock::now_micros());
            self.parts.state.containment = Some(containment.into());
            self.note(&Note::Started { pid, containment: containment.into() });
            self.save();
            self.agent_started();
        }
    }

    /// The first process is gone: what it left behind goes too.
    pub fn leader_gone(&mut self, exit: LeaderExit) {
        // Whether it ever became the program is on its connection, which may not have been read yet.
        for key in self.parts.clients.launchers() {
            for wish in self.parts.clients.read(key) {
                self.grant(key, wish);
            }
        }
        self.launcher_gone();
        self.leader_exit = Some(exit);
        self.tell_keeper(Command::LeaderGone);
    }

    /// How the first process ended and what was done about the rest, once both are known.
    pub fn take_end(&mut self) -> Option<(LeaderExit, Option<EndReport>)> {
        let exit = self.leader_exit.filter(|_| self.ended.is_none())?;
        Some((exit, self.cleaned.take()?))
    }

    /// The end, as everybody will see it.
    pub fn end_of(&self, exit: LeaderExit, report: Option<EndReport>) -> End {
        let LeaderExit { code, signalled } = exit;
        let by_itself = if signalled {
            format!("ended by signal {}{}", code - 128, signal_name(code - 128))
        } else {
            format!("exited with code {code}")
        };
        let (status, reason, error) = match (&self.parts.state.intent, &self.launch_error) {
            (Some(Intent { action, by, .. }), _) => {
                let verb = match action {
                    EndAction::Kill => "killed",
                    EndAction::Terminate => "ended",
                };
                (Status::Killed, format!("{verb} by {}: {by_itself}", by.name), None)
            }
            // It ran, and nothing could be done with it.
            (None, Some(error)) if self.started.is_some() => (Status::Failed, error.clone(), Some(error.clone())),
            (None, Some(error)) => (Status::Failed, "could not be started".into(), Some(error.clone())),
            (None, None) if self.started.is_none() => {
                let error = format!("its first process ended before the program ran: {by_itself}");
                (Status::Failed, "could not be started".into(), Some(error))
            }
            (None, None) if self.agent.as_ref().is_some_and(|agent| agent.is_in_turn()) => {
                let error = format!("ended in the middle of a turn: {by_itself}");
                (Status::Failed, error.clone(), Some(error))
            }
            (None, None) if code == 0 => (Status::Completed, by_itself, None),
            (None, None) => (Status::Failed, by_itself.clone(), Some(by_itself)),
        };
        End { status, reason, exit_code: Some(code), error, report }
    }

    /// Answers the kills that brought the end about.
    pub fn answer_ended(&mut self) {
        let report = self.parts.state.exit.as_ref().and_then(|exit| exit.end.report.clone());
        let report = report.unwrap_or(nothing_left());
        for waiting in std::mem::take(&mut self.killing) {
            self.parts.clients.reply(waiting.client, waiting.id, Ok(Answer::Killed(report.clone())));
        }
        let thawing = std::mem::take(&mut self.thawing);
        for waiting in std::mem::take(&mut self.freezing).into_iter().chain(thawing) {
            self.answer(&waiting, Err(KeepError::Ending));
        }
    }
}

/// The report of an end at which nothing had to be done.
fn nothing_left() -> EndReport {
    EndReport { containment: "none".into(), steps: vec![], ended: vec![], survivors: vec![] }
}

fn signal_name(number: i32) -> &'static str {
    match number {
        1 => " (HUP)",
        2 => " (INT)",
        3 => " (QUIT)",
        4 => " (ILL)",
        6 => " (ABRT)",
        7 => " (BUS)",
        8 => " (FPE)",
        9 => " (KILL)",
        11 => " (SEGV)",
        13 => " (PIPE)",
        14 => " (ALRM)",
        15 => " (TERM)",
        _ => "",
    }
}
