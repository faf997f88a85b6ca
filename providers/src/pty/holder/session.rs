//! The loop: waits for everything, reads, logs, tells.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use bus_schema::{EndReport, MessageId, MessageKind, Operator, Timestamp};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Threads;
use super::api::Api;
use super::asks::{Asks, Request, Way};
use super::channel::Channel;
use super::clients::Clients;
use super::expected::Expected;
use super::flow::Flow;
use super::inject::{Injector, Step, View};
use super::keeper::Happened;
use super::output::SILENCES;
use super::reporters::{Reporters, new_id};
use crate::acp::client::Client;
use crate::clock;
use crate::process::reads_terminal;
use crate::profile::Protocol;
use crate::pty::emulator::{Emulator, ProgramState};
use crate::pty::files::{ChildState, SessionDir, Spec, State};
use crate::pty::log::{Kind, LogWriter};
use crate::pty::record::{Exit, Note, Typist, pack};
use crate::pty::report::{HOOK, Report, Sourced};
use crate::pty::source::Sources;

/// Largest piece of output in one block, and so in one event.
const READ_BYTES: usize = 64 * 1024;
/// How long the log may be in memory only. A crash of the machine ends the agent too, so this is about how much of its
/// last words is lost.
const SYNC_EVERY: Duration = Duration::from_millis(500);
/// How often writing is tried again when the disk does not take it.
const WRITE_AGAIN: Duration = Duration::from_secs(1);
/// What may wait for the disk besides output, of which nothing is read then.
const MAX_UNWRITTEN: usize = 4096;
/// How long a holder stays after the end for a node agent that is away. Everything is in the files.
const LINGER: Duration = Duration::from_secs(60);
/// Children that are remembered.
const MAX_CHILDREN: usize = 1000;

/// What a session is made of.
pub(crate) struct Parts {
    pub dir: SessionDir,
    pub spec: Spec,
    pub state: State,
    /// Held for as long as this process lives.
    #[expect(dead_code, reason = "it is held, not read")]
    pub lock: File,
    pub log: LogWriter,
    pub channel: Channel,
    pub clients: Clients,
    pub reporters: Reporters,
    pub threads: Threads,
}

/// A call that waits for the keeper.
pub(crate) struct Pending {
    pub client: u64,
    pub id: u64,
    pub by: Operator,
}

/// The exit of the first process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeaderExit {
    pub code: i32,
    pub signalled: bool,
}

/// A held session.
pub(crate) struct Session {
    pub parts: Parts,
    pub flow: Flow,
    pub injector: Injector,
    /// Requests that wait for an answer.
    pub asks: Asks,
    /// Who waits for the outcome of which message.
    pub waiting: BTreeMap<MessageId, Vec<(u64, u64)>>,
    /// Who waits for the keeper, in the order of what it was told.
    pub freezing: VecDeque<Pending>,
    pub thawing: VecDeque<Pending>,
    pub killing: VecDeque<Pending>,
    /// Commands that the keeper has not answered.
    pub asked: usize,
    /// The terminal's screen, where the protocol has one.
    pub emulator: Option<Emulator>,
    /// Since when the program takes bracketed pastes.
    pub bracketed: Option<Instant>,
    /// Where the program says it stands.
    pub program: Option<ProgramState>,
    /// The last output, where there is no screen.
    pub tail: VecDeque<u8>,
    /// True once the exec shim has leave to run the program.
    pub launched: bool,
    pub launch_error: Option<String>,
    pub started: Option<Instant>,
    pub leader_exit: Option<LeaderExit>,
    /// What was done about the rest of its processes, once that is over.
    pub cleaned: Option<Option<EndReport>>,
    /// True until nothing more can be read from the terminal, or the output.
    pub is_open: bool,
    /// True until nothing more can be read from its standard error, where that is read by itself.
    pub has_errors: bool,
    /// Our side of the protocol that the agent speaks, where it is one.
    pub agent: Option<Client>,
    /// The API that the agent serves beside its terminal.
    pub api: Option<Api>,
    /// Since when such an agent has no output any more.
    pub mute: Option<Instant>,
    pub last_output: Instant,
    /// How many of [`SILENCES`] were noted since the last output.
    pub silences: usize,
    /// When output began after a silence, or it was last noted that it goes on.
    pub busy: Instant,
    /// The conversation that is still to come from its own source.
    pub expected: Expected,
    /// Files in which the agent writes its conversation.
    pub sources: Option<Sources>,
    /// The call that they told last.
    pub last_call: Option<String>,
    /// Blocks that the disk did not take.
    unwritten: VecDeque<(Kind, i64, Vec<u8>)>,
    write_again: Instant,
    synced: u64,
    sync_at: Option<Instant>,
    pub ended: Option<Instant>,
    pub is_done: bool,
}

/// What is waited on, in the order of the descriptors.
#[derive(Clone, Copy)]
enum Source {
    Wake,
    Clients,
    Reporters,
    Output,
    Input,
    Errors,
    Client(u64),
    Reporter(u64),
}

impl Session {
    /// A session whose exec shim has just been started.
    pub fn new(parts: Parts, api: Option<Api>) -> Self {
        let now = Instant::now();
        let emulator = (parts.spec.protocol == Protocol::Terminal).then(|| Emulator::new(parts.spec.size, false));
        let flow = Flow::new(parts.spec.limits, now);
        let since = Timestamp::from_millis(parts.spec.spawned_at.div_euclid(1000));
        let agent_type = parts.spec.agent_type.as_deref().filter(|_| parts.spec.protocol == Protocol::Terminal);
        let sources = Sources::of(agent_type, since, now);
        let has_errors = parts.channel.errors().is_some();
        let agent = (parts.spec.protocol == Protocol::Acp).then(|| {
            let cwd = parts.spec.cwd.as_deref().unwrap_or(std::path::Path::new("/"));
            let conversation = parts.spec.conversation.clone();
            Client::new(&parts.spec.session_id, cwd.to_string_lossy().into_owned(), conversation, new_id)
        });
        let mut session = Self {
            parts,
            flow,
            injector: Injector::default(),
            asks: Asks::default(),
            waiting: BTreeMap::new(),
            freezing: VecDeque::new(),
            thawing: VecDeque::new(),
            killing: VecDeque::new(),
            asked: 0,
            emulator,
            bracketed: None,
            program: None,
            tail: VecDeque::new(),
            launched: false,
            launch_error: None,
            started: None,
            leader_exit: None,
            cleaned: None,
            is_open: true,
            has_errors,
            agent,
            api,
            mute: None,
            last_output: now,
            silences: SILENCES.len(),
            busy: now,
            expected: Expected::Nothing,
            sources,
            last_call: None,
            unwritten: VecDeque::new(),
            write_again: now,
            synced: 0,
            sync_at: None,
            ended: None,
            is_done: false,
        };
        let size = session.parts.spec.size;
        session.record(Kind::Resize, &crate::pty::log::size_bytes(size));
        session.expect_words();
        session
    }

    /// Holds it until it is over.
    pub fn run(&mut self) {
        let mut buffer = vec![0; READ_BYTES];
        while !self.is_done {
            self.turn(&mut buffer);
        }
        let _ = self.parts.log.file().sync_data();
        let _ = std::fs::remove_file(self.parts.dir.path().join(SessionDir::HOLDER_SOCKET));
        let _ = std::fs::remove_file(&self.parts.spec.agent_socket);
    }

    /// Waits until something happens, and does all that follows from it.
    fn turn(&mut self, buffer: &mut [u8]) {
        let now = Instant::now();
        let room = self.reads_now(now);
        let ready = self.wait(room > 0, now);
        for (source, flags) in ready {
            match source {
                Source::Wake => self.take_events(),
                Source::Clients => self.parts.clients.accept(),
                Source::Reporters => self.parts.reporters.accept(),
                Source::Input => self.parts.channel.flush(),
                Source::Output => {
                    if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                        self.read_terminal(buffer, room);
                    }
                }
                Source::Errors => self.read_errors(buffer, room),
                Source::Client(key) => {
                    self.parts.clients.flush(key);
                    if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                        for wish in self.parts.clients.read(key) {
                            self.grant(key, wish);
                        }
                    }
                }
                Source::Reporter(key) => {
                    self.parts.reporters.flush(key);
                    if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                        for (source, report) in self.parts.reporters.read(key) {
                            self.reported(key, source, report);
                        }
                    }
                }
            }
        }
        let now = Instant::now();
        self.write_again(now);
        self.look_at_sources(now);
        self.look_at_api(now);
        self.look_at_expected(now);
        self.note_silence(now);
        self.inject(now);
        self.look_at_agent(now);
        self.look_at_asks(now);
        self.end_if_over(buffer);
        self.parts.log.release(self.flow.acknowledged(), self.flow.floor());
        self.parts.clients.pump(&self.parts.log);
        if self.parts.clients.sweep() {
            self.launcher_gone();
        }
        self.sync(now);
        self.leave_if_done(now);
    }

    /// How much of the terminal may be read now.
    fn reads_now(&mut self, now: Instant) -> u64 {
        if !(self.is_open || self.has_errors) || !self.unwritten.is_empty() {
            return 0;
        }
        self.flow.allows(self.parts.log.end(), now)
    }

    fn wait(&self, reads: bool, now: Instant) -> Vec<(Source, PollFlags)> {
        let mut sources = vec![Source::Wake, Source::Clients];
        let mut fds = vec![
            PollFd::new(&*self.parts.threads.wake, PollFlags::IN),
            PollFd::new(self.parts.clients.listener(), PollFlags::IN),
        ];
        // What hung up is reported whatever one asks for, so what must not be read is not waited on.
        if self.is_open && reads {
            sources.push(Source::Output);
            fds.push(PollFd::from_borrowed_fd(self.parts.channel.output(), PollFlags::IN));
        }
        if let Some(fd) = self.parts.channel.input().filter(|_| self.is_open) {
            sources.push(Source::Input);
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::OUT));
        }
        if let Some(fd) = self.parts.channel.errors().filter(|_| self.has_errors && reads) {
            sources.push(Source::Errors);
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        // The log that is full takes no more reports either; who reports waits.
        let reports = self.takes_reports();
        if let Some(listener) = self.parts.reporters.listener().filter(|_| reports) {
            sources.push(Source::Reporters);
            fds.push(PollFd::new(listener, PollFlags::IN));
        }
        for (key, fd, waits) in self.parts.reporters.connections().filter(|_| reports) {
            let flags = if waits { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            sources.push(Source::Reporter(key));
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        }
        let end = self.parts.log.end();
        for (key, client) in &self.parts.clients.all {
            let waits = client.wants_more(end);
            let flags = if waits { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            sources.push(Source::Client(*key));
            fds.push(PollFd::from_borrowed_fd(client.wire.fd(), flags));
        }
        let timeout = self.timeout(reads, now).map(|wait| Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => sources.into_iter().zip(fds.iter().map(PollFd::revents)).filter(|(_, f)| !f.is_empty()).collect(),
            // Interrupted, or out of memory: look again.
            Err(_) => vec![],
        }
    }

    /// True while the log takes reports.
    pub fn takes_reports(&self) -> bool {
        self.unwritten.is_empty() && !self.flow.is_full(self.parts.log.end())
    }

    /// Reads what the agent has written to its own files.
    fn look_at_sources(&mut self, now: Instant) {
        let is_due = self.sources.as_ref().and_then(Sources::look_at).is_some_and(|at| now >= at);
        if is_due && self.takes_reports() {
            self.read_sources(now);
        }
    }

    /// The same now.
    pub fn read_sources(&mut self, now: Instant) {
        let leader = self.parts.state.child.map_or(0, |child| child.pid);
        let Some(sources) = &mut self.sources else { return };
        for (source, report) in sources.look(leader, now) {
            self.report(source, report);
        }
    }

    /// Until when nothing has to be done. `None`: until something happens.
    fn timeout(&self, reads: bool, now: Instant) -> Option<Duration> {
        let left = |at: Instant| at.saturating_duration_since(now);
        [
            (!reads && (self.is_open || self.has_errors)).then(|| self.flow.again(self.parts.log.end())).flatten(),
            self.next_silence().map(left),
            self.sources.as_ref().filter(|_| self.takes_reports()).and_then(Sources::look_at).map(left),
            self.injector.look_again(),
            self.agent_looks_at().map(left),
            self.expected_until().filter(|_| self.takes_reports()).map(left),
            self.api.as_ref().and_then(|api| api.look_at(now)).map(left),
            self.asks.look_at().map(left),
            (!self.unwritten.is_empty()).then(|| left(self.write_again)),
            self.sync_at.map(left),
            self.ended.map(|at| left(at + LINGER)),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Writes a block now, or when the disk takes it.
    pub fn record(&mut self, kind: Kind, data: &[u8]) {
        let time = clock::now_micros();
        if !self.unwritten.is_empty() || self.parts.log.append(kind, time, data).is_err() {
            if self.unwritten.len() < MAX_UNWRITTEN {
                self.unwritten.push_back((kind, time, data.to_vec()));
            }
            self.write_again = Instant::now() + WRITE_AGAIN;
        }
    }

    /// Writes a note.
    pub fn note(&mut self, note: &Note) {
        self.record(Kind::Note, &pack(note));
    }

    /// Writes down how far the session is. If the disk does not take it, the log still tells.
    pub fn save(&self) {
        let _ = self.parts.dir.write_state(&self.parts.state);
    }

    fn write_again(&mut self, now: Instant) {
        if self.unwritten.is_empty() || now < self.write_again {
            return;
        }
        while let Some((kind, time, data)) = self.unwritten.pop_front() {
            if self.parts.log.append(kind, time, &data).is_err() {
                self.unwritten.push_front((kind, time, data));
                self.write_again = now + WRITE_AGAIN;
                return;
            }
        }
        self.save();
    }

    fn sync(&mut self, now: Instant) {
        let end = self.parts.log.end();
        match self.sync_at {
            None if self.synced < end => self.sync_at = Some(now + SYNC_EVERY),
            Some(at) if now >= at => {
                // If the disk is still busy with the last one, the next round comes soon enough.
                let _ = self.parts.threads.sync.try_send(self.parts.log.file());
                self.synced = end;
                self.sync_at = None;
            }
            Some(_) | None => {}
        }
    }

    /// Takes what the session says on its socket.
    fn reported(&mut self, connection: u64, source: &str, report: Report) {
        match &report {
            Report::Ask { request: Some(name), call, options, takes_text, .. } => {
                let (call, options, takes_text) = (call.clone(), options.clone(), *takes_text);
                let way = Way::Connection(connection);
                let request = Request { way, source: source.into(), call, options, takes_text };
                self.ask(name.clone(), request, report);
            }
            Report::Called { call } => self.called(call),
            Report::Status { session_id: None, .. } if source == HOOK => {
                self.goes_on();
                self.report(source, report);
            }
            Report::Ask { .. }
            | Report::Message { .. }
            | Report::Status { .. }
            | Report::Attention { .. }
            | Report::Child { .. }
            | Report::Title { .. }
            | Report::Prompt { .. }
            | Report::Answers
            | Report::Closed { .. }
            | Report::Speaks
            | Report::Expected
            | Report::Missing => self.report(source, report),
        }
    }

    /// Logs a report, and remembers what must be known of it here.
    pub fn report(&mut self, source: &str, report: Report) {
        if report == Report::Answers {
            if self.parts.state.answers {
                return;
            }
            self.parts.state.answers = true;
            self.save();
        }
        if let Report::Child { session_id: Some(child), title, agent_type, ended } = &report {
            let children = &mut self.parts.state.children;
            if children.contains_key(child) || children.len() < MAX_CHILDREN {
                let now = clock::now_micros();
                let known = children.entry(child.clone()).or_insert(ChildState { since: now, ..ChildState::default() });
                known.title = title.clone().or(known.title.take());
                known.agent_type = agent_type.clone().or(known.agent_type.take());
                known.ended_at = known.ended_at.or(ended.then_some(now));
                self.save();
            }
        }
        if let Report::Message { kind: Some(MessageKind::ToolCall), content, session_id: None, .. } = &report {
            self.last_call = Some(content.clone());
        }
        if matches!(report, Report::Speaks | Report::Message { session_id: None, .. }) {
            self.expected = Expected::Nothing;
        }
        let sourced = Sourced { source: source.into(), report };
        self.record(Kind::Report, &serde_json::to_vec(&sourced).unwrap_or_default());
    }

    /// Goes on with handing over operator messages.
    pub fn inject(&mut self, now: Instant) {
        if self.injector.look_again().is_none() {
            return;
        }
        let terminal = &self.parts.channel;
        let tty = terminal.name();
        let reads = || reads_terminal(terminal.foreground()?, tty.as_deref()?);
        let view = View {
            now,
            protocol: self.parts.spec.protocol,
            agent_type: self.parts.spec.agent_type.as_deref(),
            frozen: self.parts.state.frozen_by.is_some(),
            modes: terminal.input_modes(),
            emulator: self.emulator.as_ref(),
            bracketed: self.bracketed.map(|at| now.saturating_duration_since(at)),
            program: self.program,
            quiet: now.saturating_duration_since(self.last_output),
            age: self.started.map(|at| now.saturating_duration_since(at)),
            unread: terminal.unread(),
            reader_waits: &reads,
        };
        let steps = self.injector.advance(&view);
        self.take_steps(steps);
    }

    /// Does what handing over messages asks for.
    pub fn take_steps(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Type(message_id, bytes) => self.type_in(Typist::Message(message_id), &bytes),
                Step::Tell { message_id, outcome } => self.told(message_id, outcome),
            }
        }
    }

    /// Once the first process is gone and all it left behind, reads the rest and writes the end.
    fn end_if_over(&mut self, buffer: &mut [u8]) {
        let Some((exit, report)) = self.take_end() else { return };
        self.parts.channel.close_own_side();
        // Bounded by what the terminal itself holds.
        while self.is_open {
            match self.parts.channel.read(buffer) {
                Ok(count) if count > 0 => self.output(buffer.get(..count).unwrap_or_default()),
                Ok(_) | Err(_) => self.is_open = false,
            }
        }
        self.read_last_errors(buffer);
        if let Some(sources) = &mut self.sources {
            // Its last words.
            sources.output(Instant::now());
        }
        self.read_sources(Instant::now());
        self.abandon_api();
        self.abandon_asks();
        let steps = self.injector.abandon();
        self.take_steps(steps);
        self.abandon_agent();
        let end = self.end_of(exit, report);
        let exit = Exit { end };
        self.record(Kind::Exit, &pack(&exit));
        self.parts.state.ended_at = Some(clock::now_micros());
        self.parts.state.frozen_by = None;
        self.parts.state.exit = Some(exit);
        let _ = self.parts.log.file().sync_data();
        self.save();
        self.ended = Some(Instant::now());
        self.answer_ended();
    }

    /// The holder is done when the node agent has the end, or does not come for it.
    fn leave_if_done(&mut self, now: Instant) {
        let Some(ended) = self.ended else { return };
        let end = self.parts.log.end();
        let taken = self.flow.acknowledged() >= end && self.parts.clients.have_all(end);
        self.is_done |= self.unwritten.is_empty() && (taken || now >= ended + LINGER);
    }

    fn take_events(&mut self) {
        let mut count = [0; 8];
        // Only to quiet it.
        let _ = rustix::io::read(self.parts.threads.wake.as_fd(), &mut count);
        while let Ok(event) = self.parts.threads.events.try_recv() {
            self.happened(event);
        }
    }

    fn happened(&mut self, event: Happened) {
        match event {
            Happened::LeaderExit { code, signalled } => self.leader_gone(LeaderExit { code, signalled }),
            Happened::Frozen(result) => self.frozen(result),
            Happened::Thawed(result) => self.thawed(result),
            Happened::Killed(report) => self.killed(&report),
            Happened::Cleaned(report) => self.cleaned = Some(report),
        }
    }
}
